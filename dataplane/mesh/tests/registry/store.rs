//! Snapshots: what comes back, and what bytes of others do.

use mesh::limits::BUCKET;
use mesh::registry::{Newcomer, Place, Registry, SnapshotFault};
use mesh::{MS, SECOND, Time};
use proptest::prelude::*;
use wire::check::crc32c;
use wire::mesh::{AgentClass, AgentState, CircuitAction};

use super::{filled, id_of, impedance, link_of};

const NOW: Time = 7000 * SECOND;

/// Agents of all classes in several sectors, with holes, histories and gates.
fn grown() -> Registry {
    let mut registry = Registry::new(700, 3);
    for number in 0..500 {
        let newcomer = Newcomer {
            id: id_of(number),
            class: AgentClass::ALL[number as usize % 6],
            link: link_of(number / 20),
            capabilities: [&["llm", "gpu"][..], &["route"], &[]][number as usize % 3],
            impedance: impedance(2 * MS, u64::from(number) * MS),
        };
        registry.register(NOW, &newcomer).unwrap();
    }
    for handle in (0..500).step_by(7) {
        registry.outcome(NOW, handle, handle % 2 == 0, 3 * MS, 30 * MS);
        registry.outcome(NOW + 2 * BUCKET, handle, true, 3 * MS, 30 * MS);
    }
    for handle in [4, 44, 444] {
        registry.remove(NOW, registry.reference(handle).unwrap()).unwrap();
        registry.quarantine(NOW, handle + 1, true);
    }
    registry.set_frozen(Place::Sector(1), true);
    registry.set_circuit(Place::Cluster { sector: 0, cluster: 3 }, CircuitAction::HalfOpen);
    registry.set_circuit(Place::Global, CircuitAction::Open);
    registry
}

#[test]
fn imped_13_imped_14_a_restored_registry_is_the_same_without_connections() {
    let registry = grown();
    let now = NOW + 2 * BUCKET;
    let bytes = registry.snapshot(now);
    // The next start's clock has another origin.
    let later = 100 * BUCKET + 5;
    let mut restored = Registry::restore(700, 99, later, &bytes).unwrap();
    assert_eq!(restored.len(), 497);
    for handle in registry.iter() {
        let before = registry.row(now, handle).unwrap();
        let agent = restored.by_id(&before.id).unwrap();
        let after = restored.row(later, agent.handle).unwrap();
        assert_eq!(
            (after.name, after.class, after.average),
            (before.name, before.class, before.average)
        );
        assert_eq!((after.latency, after.processing), (before.latency, before.processing));
        assert_eq!(
            (after.score, after.drift, after.context),
            (before.score, before.drift, before.context)
        );
        assert_eq!((after.reliability, after.queue), (before.reliability, before.queue));
        assert_eq!(after.agent.generation, before.agent.generation);
        assert_eq!(later - after.heartbeat, now - before.heartbeat);
        assert!(after.capabilities == before.capabilities && after.link.is_none());
        let kept = before.state == AgentState::Quarantined;
        assert_eq!(after.state, if kept { before.state } else { AgentState::Offline });
    }
    for place in [Place::Global, Place::Sector(1), Place::Cluster { sector: 0, cluster: 3 }] {
        assert_eq!(restored.gate(place), registry.gate(place));
    }
    assert_eq!(
        restored.snapshot(later),
        Registry::restore(700, 1, 9 * later, &bytes).unwrap().snapshot(9 * later)
    );
    // Its agents come back under their names.
    let newcomer = Newcomer {
        id: id_of(10),
        class: AgentClass::Local,
        link: link_of(1),
        capabilities: &[],
        impedance: impedance(MS, MS),
    };
    assert!(restored.register(later, &newcomer).unwrap().resumed);
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused() {
    let bytes = filled(100).snapshot(NOW);
    let fault = Registry::restore(60, 1, NOW, &bytes).unwrap_err();
    assert_eq!(fault, SnapshotFault::DoesNotFit);
    assert!(Registry::restore(100, 1, NOW, &bytes).is_ok());
}

#[test]
fn every_shortened_snapshot_and_every_flipped_bit_is_refused() {
    let bytes = filled(3).snapshot(NOW);
    for len in 0..bytes.len() {
        assert!(Registry::restore(10, 1, NOW, &bytes[..len]).is_err(), "{len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Registry::restore(10, 1, NOW, &bad).is_err(), "bit {bit}");
    }
    let mut newer = bytes.clone();
    newer[4] = 2;
    let fault = Registry::restore(10, 1, NOW, &newer).unwrap_err();
    assert_eq!(fault, SnapshotFault::UnknownVersion(2));
}

#[test]
fn two_agents_of_one_id_or_one_seat_are_refused() {
    let bytes = filled(2).snapshot(NOW);
    let at = |id: [u8; 16]| bytes.windows(16).position(|it| it == id).unwrap();
    let (first, second) = (at(id_of(0)), at(id_of(1)));
    // An id is followed by class, state, generation, cluster and position.
    for (offset, len) in [(0, 16), (26, 1)] {
        let mut twice = bytes.clone();
        twice.copy_within(first + offset..first + offset + len, second + offset);
        let fault = Registry::restore(10, 1, NOW, &signed(twice)).unwrap_err();
        assert_eq!(fault, SnapshotFault::BadRecord);
    }
}

/// Puts a right check under whatever the bytes are.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let check = crc32c(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&check);
    bytes
}

proptest! {
    /// Bytes with a right check, so that every reader behind it is reached: no panic, and what is
    /// taken is a registry that can be written and read again.
    #[test]
    fn hostile_snapshots_end_in_an_error_or_a_sound_registry(
        edits in prop::collection::vec((6..4000_usize, any::<u8>()), 1..6),
        cut in prop::option::of(10..4000_usize),
    ) {
        let mut bytes = grown().snapshot(NOW);
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let len = bytes.len();
        for (at, value) in edits {
            bytes[at.min(len - 5)] = value;
        }
        if let Ok(registry) = Registry::restore(700, 1, NOW, &signed(bytes)) {
            let again = registry.snapshot(NOW);
            let restored = Registry::restore(700, 1, NOW, &again);
            prop_assert!(restored.is_ok_and(|it| it.snapshot(NOW) == again));
            let seats: usize = (0..24).map(|it| registry.clusters().members(it).count()).sum();
            prop_assert_eq!(seats, registry.iter().count());
        }
    }
}
