//! What the map says, against the agents themselves.

use crate::rig::{Act, EPOCH, Rig, aligned, kind};
use mesh::{SECOND, Time};
use std::collections::BTreeSet;
use wire::{
    Kind, frame,
    mesh::{AgentClass, AgentState, View},
    payload::{
        access,
        mesh::{AgentRecord, EVERY_SECTOR, GlobalRow, MeshQuery, MeshView},
    },
};

/// The map as a node tells it: the whole, and the age of its oldest part.
fn map(rig: &mut Rig, node: usize) -> (GlobalRow, Time) {
    let view = View::Map.code();
    let query = MeshQuery { view, sector: EVERY_SECTOR, ..MeshQuery::default() };
    let mut bytes = Vec::new();
    frame::append(&mut bytes, &query, 3, EPOCH).expect("fits");
    let peer = rig.peer();
    rig.call(node, |mesh, now, out| {
        mesh.frame(now, peer, now.node, Kind::MeshQuery, 3, &bytes[32..], out);
    });
    let (_, to, frame) = rig.inbox.pop().expect("an answer");
    assert_eq!((to, kind(&frame)), (peer, Kind::MeshView));
    aligned(&frame, |bytes| {
        let it = access::<MeshView>(bytes).expect("sound");
        let global = GlobalRow {
            timestamp_ns: it.global.timestamp_ns.into(),
            sectors: it.global.sectors.into(),
            clusters: it.global.clusters.into(),
            count: it.global.count.into(),
            active: it.global.active.into(),
            sectors_healthy: it.global.sectors_healthy.into(),
            sectors_degraded: it.global.sectors_degraded.into(),
            mean: it.global.mean.into(),
            p95: it.global.p95.into(),
        };
        let ages = it.clusters.iter().map(|row| row.age_ns.to_native());
        (global, ages.max().unwrap_or(0))
    })
}

/// Agents of 1 to `count` ms over one connection.
fn add(rig: &mut Rig, node: usize, first: u32, count: u32) {
    let peer = rig.peer();
    let record = |at: u32| AgentRecord {
        latency_ms: 1.0,
        processing_ms: at as f32,
        ..Rig::record(first + at, AgentClass::Edge)
    };
    let places = rig.register(node, peer, (1..=count).map(record).collect());
    assert!(places.iter().all(|place| place.fault == 0));
}

#[test]
fn gmap_01_gmap_03_the_map_of_a_tree_is_what_its_agents_give_and_young() {
    let mut rig = Rig::new(3, 900);
    for node in 0..3 {
        add(&mut rig, node, node as u32 * 1_000, 200);
    }
    // A person is no part of means.
    rig.add(0, 5_000..5_001, AgentClass::Human, Act::Silent);
    rig.join(1, 0);
    rig.join(2, 0);
    for tenths in 1..250 {
        rig.run(SECOND + tenths * SECOND / 10);
        let (_, age) = map(&mut rig, 0);
        assert!(age <= 10 * SECOND, "{age} ns old");
    }
    let (global, _) = map(&mut rig, 0);
    let mut scores = Vec::new();
    let (mut active, mut sectors) = (0, Vec::new());
    for node in &rig.nodes {
        let agents = node.registry();
        active += agents.count(AgentState::Active);
        let of: BTreeSet<u16> = agents.iter().map(|it| agents.seat(it).sector()).collect();
        sectors.push(of.len() as u32);
        let machines = agents.iter().filter(|it| agents.class(*it) != AgentClass::Human);
        scores.extend(machines.map(|it| agents.score(it)));
    }
    scores.sort_by(f32::total_cmp);
    assert_eq!((global.count, global.active, global.sectors), (601, active, sectors.iter().sum()));
    assert_eq!((global.sectors_healthy, global.sectors_degraded), (global.sectors, 0));
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    let p95 = scores[scores.len() * 95 / 100 - 1];
    assert!((global.mean / mean - 1.0).abs() < 1e-3, "{} for {mean}", global.mean);
    assert!((global.p95 / p95 - 1.0).abs() < 0.011, "{} for {p95}", global.p95);
    // A node that is away takes its sectors out of the map.
    rig.part(2);
    let (global, _) = map(&mut rig, 0);
    assert_eq!((global.count, global.sectors), (401, sectors[0] + sectors[1]));
}

#[test]
fn gmap_03_a_sector_is_healthy_above_95_percent_active() {
    let mut rig = Rig::new(1, 100);
    let added = rig.add(0, 0..20, AgentClass::Edge, Act::Silent);
    let (global, _) = map(&mut rig, 0);
    assert_eq!((global.active, global.sectors_healthy, global.sectors_degraded), (20, 1, 0));
    // 19 of 20 are 95%, not more.
    let peer = rig.agents[added[3]].peer;
    rig.call(0, |mesh, now, out| mesh.gone(now, peer, out));
    rig.run(7 * SECOND);
    let (global, _) = map(&mut rig, 0);
    assert_eq!((global.active, global.sectors_healthy, global.sectors_degraded), (19, 0, 1));
}

#[test]
fn x_17_a_map_of_nobody_is_all_zero() {
    let mut rig = Rig::new(1, 100);
    let (global, age) = map(&mut rig, 0);
    assert_eq!(GlobalRow { timestamp_ns: 0, ..global }, GlobalRow::default());
    assert_eq!(age, 0);
}
