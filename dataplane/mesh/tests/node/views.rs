//! What the map says, against the agents themselves.

use crate::rig::{Act, EPOCH, Rig, aligned, everybody, kind};
use mesh::{
    MS, SECOND, Time,
    node::{Config, Mesh},
};
use std::collections::BTreeSet;
use wire::{
    Kind, frame,
    mesh::{AgentClass, AgentState, GATHERS_MAX, Mode, Role, Scope, View},
    payload::{
        access,
        mesh::{AgentRecord, EVERY_SECTOR, Freeze, Gather, GlobalRow, MeshQuery, MeshView},
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
            ..GlobalRow::default()
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

/// The last gathers as a node tells them.
fn gathers(rig: &mut Rig, node: usize, limit: u32) -> client_side::Seen {
    let query = MeshQuery { view: View::Gathers.code(), limit, ..MeshQuery::default() };
    let mut bytes = Vec::new();
    frame::append(&mut bytes, &query, 4, EPOCH).expect("fits");
    let peer = rig.peer();
    rig.call(node, |mesh, now, out| {
        mesh.frame(now, peer, now.node, Kind::MeshQuery, 4, &bytes[32..], out);
    });
    let (_, to, frame) = rig.inbox.pop().expect("an answer");
    assert_eq!((to, kind(&frame)), (peer, Kind::MeshView));
    aligned(&frame, |bytes| client_side::read(access::<MeshView>(bytes).expect("sound")))
}

/// What an operator takes out of the answer.
mod client_side {
    use wire::{mesh::Mode, payload::mesh::ArchivedMeshView};

    pub(super) struct Seen {
        pub rows: Vec<Row>,
        pub last_ns: u64,
        pub conflicts: u32,
        pub mode: Mode,
    }

    #[derive(Debug)]
    pub(super) struct Row {
        pub decision: u8,
        pub targets: u32,
        pub ended_ns: u64,
        pub counted: [u64; 2],
        pub in_time: u32,
        pub late: u32,
        pub bins: Vec<u32>,
        pub reason: String,
    }

    pub(super) fn read(view: &ArchivedMeshView) -> Seen {
        let row = |row: &wire::payload::mesh::ArchivedGatherRow| Row {
            decision: row.decision,
            targets: row.counts.targets.into(),
            ended_ns: row.ended_ns.into(),
            counted: [&row.earliness, &row.lateness]
                .map(|bins| bins.iter().map(|bin| u64::from(bin.count.to_native())).sum()),
            in_time: row.counts.in_time.into(),
            late: row.counts.late.into(),
            bins: row.earliness.iter().map(|bin| bin.bin.into()).collect(),
            reason: row.reason.to_string(),
        };
        Seen {
            rows: view.gathers.iter().map(row).collect(),
            last_ns: view.global.last_gather_ns.into(),
            conflicts: view.global.conflicts.into(),
            mode: Mode::from_code(view.global.mode).expect("a mode"),
        }
    }
}

#[test]
fn w97_the_last_gathers_are_told_newest_first_and_no_more_than_there_is_room_for() {
    let mut rig = Rig::new(2, 100);
    rig.add(0, 0..40, AgentClass::Edge, Act::Ready(5 * MS));
    rig.add(1, 40..60, AgentClass::Edge, Act::Ready(5 * MS));
    rig.add(0, 60..62, AgentClass::Edge, Act::Conflict);
    rig.join(1, 0);
    rig.run(6 * SECOND);
    let none = gathers(&mut rig, 0, 0);
    assert!(none.rows.is_empty() && none.last_ns == 0 && none.conflicts == 0);
    rig.ask(0, &everybody());
    rig.run(12 * SECOND);
    let seen = gathers(&mut rig, 0, 0);
    let row = &seen.rows[0];
    assert_eq!((seen.rows.len(), row.targets), (1, 62), "those below are in it");
    assert_eq!(row.counted, [row.in_time, row.late].map(u64::from), "nobody is lost");
    assert!(row.in_time > 0 && row.bins.is_sorted());
    assert!(row.bins.iter().all(|bin| bin.is_multiple_of(8)), "{:?}", row.bins);
    let decision = rig.result().decision;
    assert_eq!((row.decision, &row.reason), (decision.code(), &rig.result().reason));
    assert_eq!(seen.conflicts, 2);
    assert!(row.ended_ns > EPOCH && seen.last_ns == row.ended_ns);
    for round in 0..GATHERS_MAX as u64 + 2 {
        rig.ask(0, &Gather { correlation_id: [round as u8; 16], ..everybody() });
        rig.run((13 + round) * SECOND);
    }
    let seen = gathers(&mut rig, 0, 0);
    assert_eq!(seen.rows.len(), GATHERS_MAX);
    assert!(seen.rows.is_sorted_by(|a, b| a.ended_ns > b.ended_ns));
    assert_eq!(gathers(&mut rig, 0, 3).rows.len(), 3);
    let below = gathers(&mut rig, 1, 0);
    assert_eq!(below.rows.last().map(|row| row.targets), Some(20), "its own part");
}

#[test]
fn w98_the_mode_is_frozen_partly_frozen_alone_or_normal() {
    let mut rig = Rig::new(2, 100);
    rig.nodes[1] = Mesh::new(
        &Config { node_id: [2; 16], role: Role::Sector, agents: 100, ..Config::default() },
        2,
    );
    rig.add(0, 0..4, AgentClass::Edge, Act::Silent);
    let mode = |rig: &mut Rig, node| gathers(rig, node, 0).mode;
    assert_eq!((mode(&mut rig, 0), mode(&mut rig, 1)), (Mode::Normal, Mode::Alone));
    rig.join(1, 0);
    rig.run(2 * SECOND);
    assert_eq!(mode(&mut rig, 1), Mode::Normal);
    let operator = rig.peer();
    let order = |rig: &mut Rig, scope: Scope, thaw| {
        let order = Freeze { scope: scope.code(), thaw, ..Freeze::default() };
        rig.call(0, |mesh, now, out| mesh.freeze(now, operator, &order, out));
    };
    order(&mut rig, Scope::Cluster, false);
    assert_eq!(mode(&mut rig, 0), Mode::PartlyFrozen);
    order(&mut rig, Scope::Global, false);
    rig.run(3 * SECOND);
    assert_eq!((mode(&mut rig, 0), mode(&mut rig, 1)), (Mode::Frozen, Mode::Frozen));
    order(&mut rig, Scope::Global, true);
    order(&mut rig, Scope::Cluster, true);
    rig.run(4 * SECOND);
    assert_eq!((mode(&mut rig, 0), mode(&mut rig, 1)), (Mode::Normal, Mode::Normal));
    rig.part(1);
    assert_eq!(mode(&mut rig, 1), Mode::Alone);
}
