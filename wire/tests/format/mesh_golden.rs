//! Golden bytes of the mesh's messages: written as `FORMAT.md` has them, and read from there.

use super::{golden, payload_of, same_bytes};
use rkyv::util::AlignedVec;
use wire::{
    Payload, frame, mesh,
    payload::{
        self, Text,
        mesh::{
            Ack, AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, AgentRow, Bin,
            Circuit, ClassRow, ClusterRow, ConflictRow, Coordinate, Counts, EVERY_SECTOR, Freeze,
            Gather, GatherReport, GatherRow, GlobalRow, MeshQuery, MeshSummary, MeshView, NodeJoin,
            PhaseRow, Place, SectorRow, Signature, SkipRow,
        },
    },
};

const ID: [u8; 16] = *b"\x01\x8B\xCF\xE5\x68\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x01";
const AGENT: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x46\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF";
/// By sha256sum.
const SHA256_OF_GO: [u8; 32] = *b"\x4c\xd0\xe2\x1a\x9a\x07\x95\xa1\x4e\xc9\xaa\x5f\x0e\x7d\x1a\xbf\
    \xf0\x49\x25\x65\x77\x0e\x43\xea\xfd\xf1\xe3\xe8\xaf\xed\x1f\x33";
const HLC: u64 = 0x1786_3300_0000_0001;
/// Where the agent's clock stands.
const OWN: u64 = 0x7000_0000_0000;

/// Public key of the seed of 32 bytes 0x07, its id, and its signatures of the messages here: made
/// by `sign`, whose tests verify them.
const PUBLIC_KEY: [u8; 32] = *b"\xea\x4a\x6c\x63\xe2\x9c\x52\x0a\xbe\xf5\x50\x7b\x13\x2e\xc5\xf9\
    \x95\x47\x76\xae\xbe\xbe\x7b\x92\x42\x1e\xea\x69\x14\x46\xd2\x2c";
const KEY_ID: [u8; 8] = *b"\xfe\x81\x2c\x12\xf3\xab\x4c\xe6";
const SIGNED_COORDINATE: [u8; 64] =
    *b"\xab\x88\x0e\x0f\xdb\x67\xc8\x26\x43\xda\xdb\xc5\x76\xf9\x9f\x5d\
    \xa7\x96\x24\xd3\x8f\xd2\xde\x76\xe7\x27\x87\x1b\x24\x4e\x23\x47\
    \x9c\xc9\x55\x41\x68\xa9\xdc\x11\x52\x18\xed\x3f\x6b\x17\x6c\xd0\
    \x1e\x22\x8f\x73\x0a\x51\x9d\x1d\xe2\x60\xb1\xda\xce\x56\x2e\x00";
const SIGNED_ACK: [u8; 64] = *b"\x77\x6b\xda\xf0\x45\xe2\x88\x04\xc2\xa8\xce\x5d\x71\x0e\x0d\xb7\
    \xbf\xf1\xe0\x01\xca\xb1\x50\xff\x95\xdf\x86\x1f\xba\xca\x96\x17\
    \xba\x30\x08\xa9\x6d\xc3\xed\xde\xa7\xf6\x09\x7c\xba\x44\x9a\xb1\
    \x2b\xf4\x64\x44\x15\xa3\x57\xbd\xe0\x58\x88\x7e\x84\x55\xc0\x0e";
const SIGNED_CIRCUIT: [u8; 64] =
    *b"\x95\x85\x73\x87\x76\x75\xc5\x30\xc4\x2b\xbc\xb3\x7f\x37\x88\xb1\
    \x0d\x90\x3d\xec\x1f\xe8\x01\xde\xe4\xf6\xad\x32\x84\x9d\x62\x8f\
    \x6e\xef\x13\xd5\xce\x89\x24\xf4\x19\x59\x5c\x3d\x84\x1c\xdd\xbb\
    \x59\x01\xc4\x03\x4c\x8d\xfc\x4c\x55\x4b\xbf\x56\x96\x8c\xca\x07";

/// The golden bytes are those that the code writes, and are a payload of this type.
fn both_ways<T: Payload>(name: &str, value: &T, message_id: u64) -> AlignedVec<16> {
    let mut out = Vec::new();
    frame::append(&mut out, value, message_id, 1).expect("fits");
    same_bytes(name, &out);
    let payload = payload_of(&golden(name), T::KIND);
    payload::open::<T>(&payload).expect("valid");
    payload
}

fn words(list: &[&'static str]) -> Vec<Text> {
    list.iter().map(|text| Text::literal(text)).collect()
}

#[test]
fn golden_registration_and_its_answer() {
    let record = AgentRecord {
        capabilities: words(&["gpu", "summarise"]),
        agent_id: AGENT,
        public_key: PUBLIC_KEY,
        latency_ms: 2.5,
        processing_ms: 200.0,
        class: mesh::AgentClass::Gpu.code(),
        reserved: [0; 7],
    };
    let registration = AgentRegistration { agents: vec![record], ..Default::default() };
    let bytes = both_ways("agent_registration", &registration, 1);
    let root = payload::open::<AgentRegistration>(&bytes).expect("valid");
    assert_eq!(&*root.agents[0].capabilities[1], "summarise");
    assert_eq!((root.agents[0].agent_id, root.agents[0].class), (AGENT, 3));

    let place = Place {
        agent_id: AGENT,
        handle: 5,
        generation: 1,
        sector: 7,
        cluster: 4,
        position: 12,
        fault: 0,
    };
    let registered = AgentRegistered {
        places: vec![place],
        node_id: ID,
        node_key: PUBLIC_KEY,
        signed_acks: true,
        sent_ns: 1_000,
        heartbeat_s: 5.0,
        ..Default::default()
    };
    let bytes = both_ways("agent_registered", &registered, 1);
    let root = payload::open::<AgentRegistered>(&bytes).expect("valid");
    assert_eq!((root.places[0].handle.to_native(), root.places[0].position.to_native()), (5, 12));
    assert_eq!((root.heartbeat_s.to_native(), root.sent_ns.to_native()), (5.0, 1_000));
}

#[test]
fn meshmsg_14_golden_heartbeat() {
    let beat = AgentHeartbeat {
        handle: 5,
        generation: 1,
        hlc: HLC,
        origin_ns: 1_000,
        received_ns: OWN,
        sent_ns: OWN + 0x1000,
        context_hash: 0xC0FFEE,
        latency_ms: 2.5,
        processing_ms: 200.0,
        queue_depth: 3,
        impedance: 262.5,
        reliability: 0.99,
        drift: 0.25,
        state: mesh::AgentState::Degraded.code(),
        ..Default::default()
    };
    let bytes = both_ways("agent_heartbeat", &beat, 2);
    let root = payload::open::<AgentHeartbeat>(&bytes).expect("valid");
    assert_eq!((root.impedance.to_native(), root.queue_depth.to_native()), (262.5, 3));
    assert_eq!((root.hlc.to_native(), root.drift.to_native(), root.state), (HLC, 0.25, 1));
}

#[test]
fn meshmsg_01_to_13_golden_coordinate() {
    let coordinate = Coordinate {
        payload: b"go".to_vec(),
        requires_capabilities: words(&["gpu"]),
        signature: SIGNED_COORDINATE.to_vec(),
        key_id: KEY_ID,
        message_id: ID,
        correlation_id: ID,
        source_agent_id: AGENT,
        payload_hash: SHA256_OF_GO,
        hlc: HLC,
        created_ns: 1_700_000_000_000_000_000,
        target_ns: 2_000_000_000,
        sent_ns: 1_760_000_000,
        handle: 5,
        generation: 1,
        lead_us: 240_000,
        expected_us: 210_000,
        confidence: 0.75,
        ttl_ms: 30_000,
        payload_weight: 0.5,
        routing: mesh::Routing::ScatterGather.code(),
        verb: mesh::Verb::Act.code(),
        priority: 1,
        expectation: mesh::Trinary::Ready.code(),
        hold: true,
        ..Default::default()
    };
    let bytes = both_ways("coordinate", &coordinate, 0x0100);
    let root = payload::open::<Coordinate>(&bytes).expect("valid");
    assert_eq!((root.payload.as_slice(), &*root.requires_capabilities[0]), (&b"go"[..], "gpu"));
    assert_eq!((root.target_ns.to_native(), root.lead_us.to_native()), (2_000_000_000, 240_000));
    assert_eq!((root.verb, root.routing, root.expectation, root.hold), (3, 2, 1, true));
    assert_eq!((root.signature.as_slice(), root.key_id), (&SIGNED_COORDINATE[..], KEY_ID));
}

#[test]
fn meshmsg_16_golden_ack() {
    let ack = Ack {
        message_id: ID,
        handle: 5,
        generation: 1,
        hlc: HLC + 1,
        origin_ns: 1_760_000_000,
        received_ns: OWN + 0x0100_0000,
        ready_ns: OWN + 0x0200_0000,
        acted_ns: OWN + 0x0300_0001,
        sent_ns: OWN + 0x0300_1000,
        target_own_ns: OWN + 0x0300_0000,
        processing_ns: 0x00FF_0000,
        context_hash: 0xC0FFEE,
        queue_found: 2,
        queue_depth: 1,
        state: mesh::Trinary::Conflict.code(),
        conflict_detail: Text::literal("older state"),
        signature: SIGNED_ACK.to_vec(),
        ..Default::default()
    };
    let bytes = both_ways("ack", &ack, 0x0100);
    let root = payload::open::<Ack>(&bytes).expect("valid");
    assert_eq!(root.state as i8, -1, "read as a signed byte");
    assert_eq!(&*root.conflict_detail, "older state");
    assert_eq!((root.queue_found.to_native(), root.acted_ns.to_native()), (2, OWN + 0x0300_0001));
}

#[test]
fn meshmsg_17_18_golden_circuit_and_freeze() {
    let signature = Signature {
        key_id: KEY_ID,
        stamp_ms: 1_700_000_000_000,
        signature: SIGNED_CIRCUIT,
        ..Default::default()
    };
    let circuit = Circuit {
        reason: Text::literal("upgrade"),
        signatures: vec![signature],
        message_id: ID,
        hlc: HLC,
        sector: 7,
        cluster: 4,
        action: mesh::CircuitAction::HalfOpen.code(),
        scope: mesh::Scope::Cluster.code(),
        ..Default::default()
    };
    let bytes = both_ways("circuit", &circuit, 3);
    let root = payload::open::<Circuit>(&bytes).expect("valid");
    assert_eq!((&*root.reason, root.action, root.cluster.to_native()), ("upgrade", 1, 4));
    assert_eq!((root.signatures[0].key_id, root.signatures[0].signature), (KEY_ID, SIGNED_CIRCUIT));
    let freeze = Freeze {
        preserve_state_to: Text::literal("/var/agent"),
        message_id: ID,
        hlc: HLC,
        sector: 7,
        scope: mesh::Scope::Sector.code(),
        thaw: true,
        ..Default::default()
    };
    let bytes = both_ways("freeze", &freeze, 4);
    let root = payload::open::<Freeze>(&bytes).expect("valid");
    assert_eq!((&*root.preserve_state_to, root.scope, root.thaw), ("/var/agent", 1, true));
}

#[test]
fn golden_gather() {
    let gather = Gather {
        payload: b"go".to_vec(),
        ids: vec![AGENT],
        message_id: ID,
        correlation_id: ID,
        hlc: HLC,
        window_ns: 500_000_000,
        timeout_ns: 5_000_000_000,
        on_time: 0.99,
        min_rate: 0.95,
        select: mesh::SelectBy::Ids.code(),
        verb: mesh::Verb::Act.code(),
        priority: 1,
        strategy: mesh::Strategy::Parallel.code(),
        hold: true,
        progress: true,
        ..Default::default()
    };
    let bytes = both_ways("gather", &gather, 5);
    let root = payload::open::<Gather>(&bytes).expect("valid");
    assert_eq!((root.ids.as_slice(), root.select), (&[AGENT][..], 5));
    assert_eq!((root.on_time.to_native(), root.window_ns.to_native()), (0.99, 500_000_000));
}

/// Of four targets, three that were reached.
fn counts() -> Counts {
    Counts {
        targets: 4,
        scheduled: 3,
        skipped: 1,
        sent: 3,
        ready: 1,
        in_time: 1,
        conflicts: 1,
        stragglers: 1,
        ..Default::default()
    }
}

#[test]
fn golden_gather_report() {
    let skip = SkipRow { count: 1, would_need_us: 9, available_us: 8, ..Default::default() };
    let class =
        ClassRow { targets: 2, sent: 1, ready: 1, in_time: 1, class: 3, ..Default::default() };
    let phase = PhaseRow {
        took_ns: 7,
        name: Text::literal("sectors"),
        reached: 1,
        of: 1,
        needed: 0.95,
        reserved: [0; 4],
    };
    let conflict = ConflictRow {
        name: Text::literal("S07-C04-A14"),
        detail: Text::literal("older state"),
        context_hash: 0xC0FFEE,
    };
    let counts = counts();
    let report = GatherReport {
        earliness: vec![Bin { bin: 1_152, count: 1 }],
        skips: vec![skip],
        classes: vec![class],
        phases: vec![phase],
        straggler_names: words(&["S07-C04-A13"]),
        conflict_rows: vec![conflict],
        reason: Text::literal("1 of 3 ready"),
        correlation_id: ID,
        target_ns: 2_000_000_000,
        total_ns: 3_000_000,
        counts,
        coverage: 0.75,
        response_rate: 0.333,
        on_time: 0.333,
        decision: mesh::Decision::ResolveConflicts.code(),
        is_final: true,
        ..Default::default()
    };
    let bytes = both_ways("gather_report", &report, 5);
    let root = payload::open::<GatherReport>(&bytes).expect("valid");
    assert_eq!((&*root.reason, &*root.phases[0].name), ("1 of 3 ready", "sectors"));
    assert_eq!((root.counts.targets.to_native(), root.classes[0].class), (4, 3));
    assert_eq!(
        (&*root.conflict_rows[0].detail, root.earliness[0].bin.to_native()),
        ("older state", 1_152)
    );
    assert!(root.is_final);
}

fn cluster() -> ClusterRow {
    ClusterRow {
        slowest: Text::literal("S07-C04-A12"),
        lead: Text::literal("S07-C04-A00"),
        count: 30,
        active: 30,
        mean: 250.0,
        sector: 7,
        cluster: 4,
        ..Default::default()
    }
}

#[test]
fn golden_query_and_view() {
    let query = MeshQuery {
        capability: Text::literal("gpu"),
        limit: 10,
        sector: EVERY_SECTOR,
        view: mesh::View::Agents.code(),
        sort: mesh::SortBy::Impedance.code(),
        ..Default::default()
    };
    both_ways("mesh_query", &query, 6);
    let agent = AgentRow {
        capabilities: words(&["gpu"]),
        name: Text::literal("S07-C04-A12"),
        agent_id: AGENT,
        impedance: 262.5,
        reliability: 0.99,
        class: 3,
        ..Default::default()
    };
    let sector = SectorRow { clusters: 1, count: 30, mean: 250.0, sector: 7, ..Default::default() };
    let view = MeshView {
        agents: vec![agent],
        sectors: vec![sector],
        clusters: vec![cluster()],
        global: GlobalRow { sectors: 1, clusters: 1, count: 30, ..Default::default() },
        ..Default::default()
    };
    let bytes = both_ways("mesh_view", &view, 6);
    let root = payload::open::<MeshView>(&bytes).expect("valid");
    assert_eq!(&*root.agents[0].name, "S07-C04-A12");
    assert_eq!((root.sectors[0].sector.to_native(), &*root.clusters[0].lead), (7, "S07-C04-A00"));
}

#[test]
fn w97_golden_view_of_gathers() {
    let gather = GatherRow {
        earliness: vec![Bin { bin: 1_152, count: 1 }],
        reason: Text::literal("1 of 3 ready"),
        message_id: ID,
        ended_ns: 1_700_000_000_000_000_000,
        total_ns: 1_500_000_000,
        counts: counts(),
        coverage: 0.75,
        on_time: 1.0 / 3.0,
        decision: mesh::Decision::ResolveConflicts.code(),
        strategy: mesh::Strategy::Parallel.code(),
        verb: mesh::Verb::Act.code(),
        ..Default::default()
    };
    let view = MeshView {
        global: GlobalRow {
            timestamp_ns: 1_700_000_001_000_000_000,
            last_gather_ns: gather.ended_ns,
            conflicts: 1,
            mode: mesh::Mode::PartlyFrozen.code(),
            ..Default::default()
        },
        gathers: vec![gather],
        ..Default::default()
    };
    let bytes = both_ways("mesh_view_of_gathers", &view, 9);
    let root = payload::open::<MeshView>(&bytes).expect("valid");
    assert_eq!((&*root.gathers[0].reason, root.gathers[0].verb), ("1 of 3 ready", 3));
    assert_eq!((root.global.conflicts.to_native(), root.global.mode), (1, 2));
}

#[test]
fn golden_join_and_summary() {
    let join = NodeJoin {
        name: Text::literal("hall-2"),
        node_id: ID,
        sent_ns: 9,
        role: mesh::Role::Sector.code(),
        ..Default::default()
    };
    both_ways("node_join", &join, 7);
    let summary = MeshSummary {
        clusters: vec![cluster()],
        scores: vec![Bin { bin: 1_216, count: 30 }],
        node_id: ID,
        hlc: HLC,
        ..Default::default()
    };
    let bytes = both_ways("mesh_summary", &summary, 8);
    let root = payload::open::<MeshSummary>(&bytes).expect("valid");
    assert_eq!((root.clusters[0].count.to_native(), root.scores[0].count.to_native()), (30, 30));
}
