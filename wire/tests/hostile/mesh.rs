//! The mesh's payloads, made worse.

use super::{Random, aligned};
use wire::{
    HEADER_LEN, Payload, frame,
    mesh::{BEAT_LEN, write_beat_reply},
    payload::{
        self, Text,
        mesh::{
            Ack, AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, AgentRow, Bin,
            Circuit, ClassRow, ClusterRow, ConflictRow, Coordinate, Freeze, Gather, GatherReport,
            GatherRow, MeshQuery, MeshSummary, MeshView, NodeJoin, PhaseRow, Place, SectorRow,
            SkipRow,
        },
    },
};

fn encoded<T: Payload>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(&mut out, value, 1, 2).expect("fits");
    out.split_off(HEADER_LEN)
}

fn words() -> Vec<Text> {
    ["gpu", "", "summarise"].map(Text::literal).to_vec()
}

fn report() -> GatherReport {
    GatherReport {
        earliness: vec![Bin { bin: 1, count: 2 }; 5],
        fire_error: vec![Bin { bin: 3, count: 4 }; 2],
        skips: vec![SkipRow { count: 9, ..Default::default() }; 3],
        classes: vec![ClassRow::default(); 5],
        phases: vec![PhaseRow { name: Text::literal("sectors"), ..Default::default() }; 2],
        straggler_names: words(),
        conflict_rows: vec![
            ConflictRow {
                name: Text::literal("S00-C00-A01"),
                detail: Text::literal("no"),
                context_hash: 7
            };
            2
        ],
        reason: Text::literal("enough"),
        ..Default::default()
    }
}

fn view() -> MeshView {
    let agent = AgentRow {
        capabilities: words(),
        name: Text::literal("S07-C04-A12"),
        ..Default::default()
    };
    MeshView {
        agents: vec![agent; 3],
        sectors: vec![SectorRow { node: Text::literal("hall"), ..Default::default() }; 2],
        clusters: vec![ClusterRow { lead: Text::literal("S07-C04-A00"), ..Default::default() }; 2],
        gathers: vec![
            GatherRow {
                earliness: vec![Bin { bin: 1_152, count: 9 }; 2],
                reason: Text::literal("9 of 9 ready"),
                ..Default::default()
            };
            2
        ],
        ..Default::default()
    }
}

/// Payloads of every type of the mesh, as they should be.
fn goldens() -> Vec<Vec<u8>> {
    let record = AgentRecord { capabilities: words(), agent_id: [7; 16], ..Default::default() };
    vec![
        encoded(&AgentRegistration { agents: vec![record; 3], ..Default::default() }),
        encoded(&AgentRegistered { places: vec![Place::default(); 3], ..Default::default() }),
        encoded(&AgentHeartbeat { handle: 3, sent_ns: 5, ..Default::default() }),
        encoded(&Coordinate {
            payload: vec![1; 100],
            requires_capabilities: words(),
            ..Default::default()
        }),
        encoded(&Ack { conflict_detail: Text::literal("older"), ..Default::default() }),
        encoded(&Circuit { reason: Text::literal("why"), ..Default::default() }),
        encoded(&Freeze { preserve_state_to: Text::literal("/tmp"), ..Default::default() }),
        encoded(&Gather {
            payload: vec![2; 40],
            ids: vec![[9; 16]; 4],
            requires_capabilities: words(),
            capability: Text::literal("gpu"),
            ..Default::default()
        }),
        encoded(&report()),
        encoded(&MeshQuery { capability: Text::literal("gpu"), ..Default::default() }),
        encoded(&view()),
        encoded(&NodeJoin { name: Text::literal("hall"), ..Default::default() }),
        encoded(&MeshSummary {
            clusters: view_clusters(),
            scores: vec![Bin { bin: 1, count: 1 }; 9],
            ..Default::default()
        }),
    ]
}

fn view_clusters() -> Vec<ClusterRow> {
    vec![ClusterRow { slowest: Text::literal("S00-C00-A00"), ..Default::default() }; 3]
}

/// Shows every byte that an accepted archive leads to, and how long that is.
fn shown<T: Payload>(bytes: &[u8]) -> usize
where
    rkyv::Archived<T>: core::fmt::Debug,
{
    payload::access::<T>(bytes).map_or(0, |root| format!("{root:?}").len())
}

/// How many of the mesh's types take these bytes.
fn read_as_every_type(bytes: &[u8]) -> usize {
    let shown = [
        shown::<AgentRegistration>(bytes),
        shown::<AgentRegistered>(bytes),
        shown::<Coordinate>(bytes),
        shown::<Ack>(bytes),
        shown::<Circuit>(bytes),
        shown::<Freeze>(bytes),
        shown::<Gather>(bytes),
        shown::<GatherReport>(bytes),
        shown::<MeshQuery>(bytes),
        shown::<MeshView>(bytes),
        shown::<NodeJoin>(bytes),
        shown::<MeshSummary>(bytes),
        shown::<AgentHeartbeat>(bytes),
    ];
    if let Ok(beat) = payload::access::<AgentHeartbeat>(bytes) {
        let mut out = aligned(&[0; BEAT_LEN]);
        assert_eq!(write_beat_reply(&mut out, beat, 1, 2, 3, 4), BEAT_LEN);
        assert!(payload::open::<AgentHeartbeat>(&aligned(&out[HEADER_LEN..])).is_ok());
    }
    // A few bytes of archive never unfold into much: what is shown is bounded by what was sent.
    assert!(shown.iter().all(|len| *len <= 2_000 + 200 * bytes.len()), "{shown:?}");
    shown.iter().filter(|len| **len > 0).count()
}

#[test]
fn meshmsg_14_to_18_mutated_payloads_never_panic_and_never_grow() {
    let goldens = goldens();
    for golden in &goldens {
        assert!(read_as_every_type(&aligned(golden)) >= 1, "goldens are good");
    }
    let mut random = Random(0x4E5);
    let (mut accepted, mut cases) = (0, 0);
    for _ in 0..1_000 {
        for golden in &goldens {
            let mut bytes = golden.clone();
            random.mutate(&mut bytes);
            accepted += read_as_every_type(&aligned(&bytes));
            cases += 1;
        }
    }
    assert!(accepted > cases / 8, "{accepted} of {cases}");
}
