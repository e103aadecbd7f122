//! No two messages, of whatever types, share the bytes that are signed.

use proptest::{collection::vec, prelude::*};
use sign::{
    SecretKey,
    agents::{
        ack_bytes, coordinate_bytes, sign_ack, sign_coordinate, verify_ack, verify_coordinate,
    },
    canonical::Canonical,
    order::{self, digest, signed_bytes},
};
use wire::{
    frame,
    payload::{
        Text,
        mesh::{Ack, AgentRegistration, Circuit, Coordinate, Freeze, Gather, Signature},
        open,
    },
};

#[derive(Clone, Debug, PartialEq)]
enum Any {
    Gather(Gather),
    Circuit(Circuit),
    Freeze(Freeze),
    Coordinate(Coordinate),
    Ack(Ack),
}

impl Any {
    fn text(&self) -> Canonical {
        match self {
            Self::Gather(it) => signed_bytes(it, 0).expect("has one"),
            Self::Circuit(it) => signed_bytes(it, 0).expect("has one"),
            Self::Freeze(it) => signed_bytes(it, 0).expect("has one"),
            Self::Coordinate(it) => coordinate_bytes(it),
            Self::Ack(it) => ack_bytes(it),
        }
    }
}

/// So few that two drawn messages are often nearly the same.
fn few() -> impl Strategy<Value = u8> {
    0..2_u8
}

fn word() -> impl Strategy<Value = Text> {
    prop_oneof![Just(""), Just("a"), Just("ab"), Just("b")].prop_map(Text::from)
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    few().prop_map(|byte| [byte; 16])
}

fn stamp() -> impl Strategy<Value = Vec<Signature>> {
    (few(), few(), 0..2_u64).prop_map(|(key, audience, stamp_ms)| {
        let (key_id, audience) = ([key; 8], [audience; 8]);
        vec![Signature { key_id, audience, stamp_ms, ..Signature::default() }]
    })
}

prop_compose! {
    fn gather()(
        payload in vec(few(), 0..3),
        ids in vec(id(), 0..2),
        requires_capabilities in vec(word(), 0..3),
        capability in word(),
        (message_id, correlation_id, causation_id) in (id(), id(), id()),
        (hlc, at_epoch_ns, at_node_ns, window_ns) in (0..2_u64, 0..2_u64, 0..2_u64, 0..2_u64),
        (ttl_ms, sector, cluster) in (0..2_u32, 0..2_u16, 0..2_u16),
        (on_time, min_rate) in (0..2_u8, 0..2_u8),
        (class, select, verb, priority) in (few(), few(), few(), few()),
        (hold, progress, phase) in (any::<bool>(), any::<bool>(), few()),
        signatures in stamp(),
    ) -> Gather {
        Gather {
            payload, ids, requires_capabilities, capability, message_id, correlation_id,
            causation_id, hlc, at_epoch_ns, at_node_ns, window_ns, ttl_ms, sector, cluster,
            on_time: on_time.into(), min_rate: min_rate.into(), class, select, verb, priority,
            hold, progress, phase, signatures, ..Gather::default()
        }
    }
}

prop_compose! {
    fn circuit()(
        reason in word(), message_id in id(), hlc in 0..2_u64, sector in 0..2_u16,
        cluster in 0..2_u16, action in few(), scope in few(), signatures in stamp(),
    ) -> Circuit {
        Circuit {
            reason, message_id, hlc, sector, cluster, action, scope, signatures,
            ..Circuit::default()
        }
    }
}

prop_compose! {
    fn freeze()(
        preserve_state_to in word(), message_id in id(), hlc in 0..2_u64, sector in 0..2_u16,
        cluster in 0..2_u16, scope in few(), thaw in any::<bool>(), signatures in stamp(),
    ) -> Freeze {
        Freeze {
            preserve_state_to, message_id, hlc, sector, cluster, scope, thaw, signatures,
            ..Freeze::default()
        }
    }
}

prop_compose! {
    fn coordinate()(
        requires_capabilities in vec(word(), 0..3),
        (message_id, correlation_id) in (id(), id()),
        (hash, key) in (few(), few()),
        (hlc, created_ns, target_ns, ttl_ms) in (0..2_u64, 0..2_u64, 0..2_u64, 0..2_u32),
        (verb, priority, hold) in (few(), few(), any::<bool>()),
    ) -> Coordinate {
        Coordinate {
            requires_capabilities, message_id, correlation_id, payload_hash: [hash; 32],
            key_id: [key; 8], hlc, created_ns, target_ns, ttl_ms, verb, priority, hold,
            ..Coordinate::default()
        }
    }
}

prop_compose! {
    fn ack()(
        conflict_detail in word(), message_id in id(),
        (handle, generation, state) in (0..2_u32, 0..2_u32, few()),
        (hlc, origin_ns, received_ns, ready_ns) in (0..2_u64, 0..2_u64, 0..2_u64, 0..2_u64),
        (acted_ns, sent_ns, target_own_ns) in (0..2_u64, 0..2_u64, 0..2_u64),
        (processing_ns, context_hash) in (0..2_u64, 0..2_u64),
        (queue_found, queue_depth) in (0..2_u32, 0..2_u32),
    ) -> Ack {
        Ack {
            conflict_detail, message_id, handle, generation, state, hlc, origin_ns, received_ns,
            ready_ns, acted_ns, sent_ns, target_own_ns, processing_ns, context_hash, queue_found,
            queue_depth, ..Ack::default()
        }
    }
}

fn anything() -> impl Strategy<Value = Any> {
    prop_oneof![
        gather().prop_map(Any::Gather),
        circuit().prop_map(Any::Circuit),
        freeze().prop_map(Any::Freeze),
        coordinate().prop_map(Any::Coordinate),
        ack().prop_map(Any::Ack),
    ]
}

/// A message, and another one that differs from it in one field or in nothing.
fn neighbours() -> impl Strategy<Value = (Circuit, Circuit)> {
    (circuit(), circuit(), 0..6_u8).prop_map(|(one, other, field)| {
        let mut twin = one.clone();
        match field {
            0 => twin.reason = other.reason,
            1 => twin.message_id = other.message_id,
            2 => twin.sector = other.sector,
            3 => twin.cluster = other.cluster,
            4 => twin.scope = other.scope,
            _ => twin.signatures = other.signatures,
        }
        (one, twin)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn different_messages_have_different_bytes(messages in vec(anything(), 24)) {
        for (at, one) in messages.iter().enumerate() {
            for other in &messages[at..] {
                prop_assert_eq!(one.text() == other.text(), one == other);
            }
        }
    }

    #[test]
    fn messages_that_differ_in_one_field_differ((one, other) in neighbours()) {
        let same = Any::Circuit(one.clone()).text() == Any::Circuit(other.clone()).text();
        prop_assert_eq!(same, one == other);
        let bare = Circuit { signatures: Vec::new(), ..other.clone() };
        prop_assert_eq!(digest(&one) == digest(&bare),
            one == Circuit { signatures: one.signatures.clone(), ..other });
    }
}

/// Bytes where an archive can be read.
fn aligned(frame: &[u8]) -> memory::Aligned {
    memory::Aligned::of(&frame[wire::HEADER_LEN..])
}

/// Aligned memory without a dependency.
mod memory {
    pub(crate) struct Aligned(Vec<u128>, usize);

    impl Aligned {
        pub(crate) fn of(bytes: &[u8]) -> Self {
            let word = |chunk: &[u8]| {
                let mut word = [0; 16];
                word[..chunk.len()].copy_from_slice(chunk);
                u128::from_ne_bytes(word)
            };
            Self(bytes.chunks(16).map(word).collect(), bytes.len())
        }

        pub(crate) fn bytes(&self) -> &[u8] {
            &zerocopy::IntoBytes::as_bytes(&*self.0)[..self.1]
        }
    }
}

#[test]
fn sign_04_what_passed_the_wire_verifies_and_what_was_changed_does_not() {
    let key = SecretKey::from_seed(&[3; 32]).expect("a key");
    let other = SecretKey::from_seed(&[4; 32]).expect("a key");
    let mut message = Coordinate {
        payload: b"go".to_vec(),
        requires_capabilities: vec!["gpu".into()],
        target_ns: 7,
        ..Coordinate::default()
    };
    sign_coordinate(&mut message, &key);
    let verifies = |message: &Coordinate, key: &SecretKey| {
        let mut out = Vec::new();
        frame::append(&mut out, message, 1, 1).expect("fits");
        let memory = aligned(&out);
        let read = open::<Coordinate>(memory.bytes()).expect("sound");
        verify_coordinate(read, key.public())
    };
    assert!(verifies(&message, &key));
    assert!(verifies(&Coordinate { handle: 9, sent_ns: 5, ..message.clone() }, &key), "per agent");
    assert!(!verifies(&message, &other));
    assert!(!verifies(&Coordinate { target_ns: 8, ..message.clone() }, &key));
    assert!(!verifies(&Coordinate { signature: Vec::new(), ..message.clone() }, &key));
    assert!(!verifies(&Coordinate { requires_capabilities: Vec::new(), ..message }, &key));

    let mut ack = Ack { handle: 3, state: 1, ready_ns: 9, ..Ack::default() };
    sign_ack(&mut ack, &key);
    let verifies = |ack: &Ack| {
        let mut out = Vec::new();
        frame::append(&mut out, ack, 1, 1).expect("fits");
        let memory = aligned(&out);
        verify_ack(open::<Ack>(memory.bytes()).expect("sound"), key.public())
    };
    assert!(verifies(&ack));
    assert!(!verifies(&Ack { ready_ns: 8, ..ack.clone() }));
    assert!(!verifies(&Ack { handle: 4, ..ack }));
}

/// The payload of a golden frame of `FORMAT.md`.
fn golden(name: &str) -> memory::Aligned {
    let format = include_str!("../../FORMAT.md");
    let (_, rest) = format.split_once(&format!("\n```hex {name}\n")).expect("a block");
    let (block, _) = rest.split_once("```").expect("it ends");
    let digits = block.lines().flat_map(|line| line.split('#').next().unwrap_or("").split(' '));
    let bytes: Vec<u8> = digits
        .filter(|digits| !digits.trim().is_empty())
        .map(|digits| u8::from_str_radix(digits.trim(), 16).expect("hex"))
        .collect();
    aligned(&bytes)
}

#[test]
fn sign_04_the_documented_signatures_hold() {
    let key = *SecretKey::from_seed(&[7; 32]).expect("a key").public();
    let coordinate = golden("coordinate");
    assert!(verify_coordinate(open::<Coordinate>(coordinate.bytes()).expect("sound"), &key));
    assert!(verify_ack(open::<Ack>(golden("ack").bytes()).expect("sound"), &key));
    let registration = golden("agent_registration");
    let agents = &open::<AgentRegistration>(registration.bytes()).expect("sound").agents;
    assert_eq!(agents[0].public_key, key.bytes());
    let circuit = golden("circuit");
    let read = open::<Circuit>(circuit.bytes()).expect("sound");
    let signature = Signature {
        key_id: read.signatures[0].key_id,
        stamp_ms: read.signatures[0].stamp_ms.to_native(),
        signature: read.signatures[0].signature,
        ..Signature::default()
    };
    let circuit = Circuit {
        reason: (&*read.reason).into(),
        signatures: vec![signature],
        message_id: read.message_id,
        hlc: read.hlc.to_native(),
        sector: read.sector.to_native(),
        cluster: read.cluster.to_native(),
        action: read.action,
        scope: read.scope,
        ..Circuit::default()
    };
    assert_eq!(signature.key_id, key.id());
    let bytes = signed_bytes(&circuit, 0).expect("there");
    assert!(key.verify(bytes.as_bytes(), &signature.signature));
}

#[test]
fn a_signature_cannot_be_taken_out_from_under_a_later_one() {
    let (first, second) = ([1; 32], [2; 32]);
    let keys = [first, second].map(|seed| SecretKey::from_seed(&seed).expect("a key"));
    let mut freeze = Freeze { thaw: true, ..Freeze::default() };
    order::sign(&mut freeze, &keys[0], [0; 8], 5);
    order::sign(&mut freeze, &keys[1], [0; 8], 6);
    let holds = |freeze: &Freeze, place: usize, key: &SecretKey| {
        let bytes = signed_bytes(freeze, place).expect("there");
        key.public().verify(bytes.as_bytes(), &freeze.signatures[place].signature)
    };
    assert!(holds(&freeze, 0, &keys[0]) && holds(&freeze, 1, &keys[1]));
    freeze.signatures.remove(0);
    assert!(!holds(&freeze, 0, &keys[1]));
    assert!(signed_bytes(&freeze, 1).is_none());
}
