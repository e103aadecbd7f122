//! What a client asks of the mesh, against a scripted node on real sockets.

use client::{Addr, Client, ClientError, Gathers, Options};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind, error, frame,
    mesh::{AgentClass, CircuitAction, Decision, Mode, SkipReason, SortBy, Verb, View},
    payload::{
        self, Payload, Text,
        mesh::{
            AgentRow, Bin, Circuit, ClassRow, ClusterRow, ConflictRow, Counts, Freeze, Gather,
            GatherReport, GatherRow, GlobalRow, MeshQuery, MeshView, PhaseRow, SectorRow, SkipRow,
        },
    },
};

/// A header and its payload, aligned.
fn read_frame(stream: &mut impl Read) -> (Header, client::Buffer) {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).expect("a header");
    let header = *Header::peek(&head).expect("32 bytes");
    let mut payload = client::Buffer::new();
    payload.resize(header.payload_len() as usize);
    stream.read_exact(payload.as_mut_slice()).expect("a payload");
    (header, payload)
}

fn answer<T: Payload>(stream: &mut TcpStream, id: u64, value: &T) {
    let mut out = Vec::new();
    frame::append(&mut out, value, id, 0).expect("fits");
    stream.write_all(&out).expect("sent");
}

fn serve(script: impl FnOnce(TcpStream) + Send + 'static) -> (Client, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr: Addr = listener.local_addr().expect("an address").into();
    let server = thread::spawn(move || script(listener.accept().expect("a client").0));
    // The shortest timeout that still means something: a gather must outlast it.
    let options = Options { io_timeout: Some(Duration::from_millis(50)), ..Options::default() };
    (Client::connect(&addr, options).expect("connected"), server)
}

fn report(is_final: bool) -> GatherReport {
    GatherReport {
        earliness: vec![Bin { bin: 7, count: 2 }, Bin { bin: 70_000, count: 1 }],
        skips: vec![SkipRow {
            count: 1,
            would_need_us: 9,
            available_us: 8,
            reason: SkipReason::OverRange.code(),
            reserved: [0; 3],
        }],
        classes: vec![ClassRow { class: AgentClass::Gpu.code(), sent: 3, ..Default::default() }],
        phases: vec![PhaseRow { name: Text::literal("agents"), of: 3, ..Default::default() }],
        straggler_names: vec![Text::literal("S00-C00-A01")],
        conflict_rows: vec![ConflictRow { detail: Text::literal("older"), ..Default::default() }],
        reason: Text::literal("3 of 3"),
        counts: Counts { targets: 4, scheduled: 3, skipped: 1, ..Default::default() },
        on_time: 0.75,
        decision: Decision::Retry.code(),
        is_final,
        ..Default::default()
    }
}

#[test]
fn a_gather_outlasts_the_timeout_tells_progress_and_ends_with_its_result() {
    let (mut client, server) = serve(|mut stream| {
        let (header, payload) = read_frame(&mut stream);
        let asked = payload::open::<Gather>(payload.as_slice()).expect("a gather");
        assert_eq!(
            (header.kind(), asked.timeout_ns.to_native()),
            (Ok(Kind::Gather), 2_000_000_000)
        );
        for _ in 0..2 {
            answer(&mut stream, header.message_id(), &report(false));
        }
        thread::sleep(Duration::from_millis(150));
        answer(&mut stream, header.message_id(), &report(true));
        let (header, _) = read_frame(&mut stream);
        thread::sleep(Duration::from_millis(400));
        let _ =
            stream.write_all(zerocopy::IntoBytes::as_bytes(&frame::ping(header.message_id(), 0)));
    });
    let ask = Gather { timeout_ns: 2_000_000_000, progress: true, ..Gather::default() };
    let mut seen = 0;
    let result = client.gather(&ask, |_| seen += 1).expect("a result");
    assert_eq!((seen, result.is_final, result.decision), (2, true, Decision::Retry));
    assert_eq!(result.earliness, [(7, 2), (2_112, 1)], "bins beyond the last are the last");
    assert_eq!((result.skips[0].reason, result.skips[0].would_need_us), (SkipReason::OverRange, 9));
    assert_eq!((result.classes[0].class, result.classes[0].sent), (AgentClass::Gpu, 3));
    assert_eq!((result.phases[0].name.as_str(), result.phases[0].of), ("agents", 3));
    assert_eq!(
        (result.stragglers.as_slice(), &*result.conflicts[0].detail),
        (&["S00-C00-A01".to_owned()][..], "older")
    );
    assert_eq!((result.counts.targets, result.on_time, &*result.reason), (4, 0.75, "3 of 3"));
    let fault = client.ping().expect_err("the old patience is back");
    assert!(matches!(fault, ClientError::Timeout { .. }), "{fault}");
    server.join().expect("server");
}

#[test]
fn a_gather_is_refused_or_answered_with_nonsense_without_a_panic() {
    let (mut client, server) = serve(|mut stream| {
        let (header, _) = read_frame(&mut stream);
        let mut out = [0; error::FRAME_MAX];
        let refusal = error::Refusal::new(ErrorCode::TooManyTargets, header.raw_kind());
        let len = error::write_frame(&mut out, header.message_id(), 0, &refusal);
        stream.write_all(&out[..len]).expect("sent");
        let bad = [
            GatherReport { decision: 99, ..report(true) },
            GatherReport {
                skips: vec![SkipRow { reason: 99, ..Default::default() }],
                ..report(true)
            },
            GatherReport {
                classes: vec![ClassRow { class: 99, ..Default::default() }],
                ..report(true)
            },
        ];
        for report in bad {
            let (header, _) = read_frame(&mut stream);
            answer(&mut stream, header.message_id(), &report);
        }
    });
    let refused = client.gather(&Gather::default(), |_| ()).expect_err("refused");
    let ClientError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal.code, ErrorCode::TooManyTargets);
    for what in ["decision 99", "reason to skip 99", "class 99"] {
        let fault = client.gather(&Gather::default(), |_| ()).expect_err(what).to_string();
        assert!(fault.contains(what), "{fault}");
    }
    server.join().expect("server");
}

#[test]
fn agents_and_the_map_are_asked_for_and_read() {
    let (mut client, server) = serve(|mut stream| {
        for view in [View::Agents, View::Map] {
            let (header, payload) = read_frame(&mut stream);
            let asked = payload::open::<MeshQuery>(payload.as_slice()).expect("a query");
            assert_eq!(asked.view, view.code());
            assert_eq!(asked.sector.to_native(), if view == View::Map { 7 } else { 3 });
            let agent = AgentRow {
                name: Text::literal("S03-C00-A01"),
                capabilities: vec![Text::literal("gpu")],
                class: AgentClass::Local.code(),
                impedance: 12.5,
                ..Default::default()
            };
            let value = MeshView {
                agents: vec![agent; 2],
                sectors: vec![SectorRow { sector: 7, count: 9, ..Default::default() }],
                clusters: vec![ClusterRow {
                    lead: Text::literal("S07-C00-A00"),
                    ..Default::default()
                }],
                global: GlobalRow { count: 9, p95: 1.5, ..Default::default() },
                ..Default::default()
            };
            answer(&mut stream, header.message_id(), &value);
        }
    });
    let query = MeshQuery { sector: 3, sort: SortBy::Drift.code(), ..Default::default() };
    let listing = client.agents(&query).expect("agents");
    let agents = listing.agents;
    assert_eq!(
        (agents.len(), &*agents[1].name, agents[1].class),
        (2, "S03-C00-A01", AgentClass::Local)
    );
    assert_eq!((agents[0].capabilities[0].as_str(), agents[0].impedance), ("gpu", 12.5));
    assert_eq!(listing.global.count, 9);
    let map = client.map(Some(7)).expect("a map");
    assert_eq!((map.sectors[0].sector, map.sectors[0].count), (7, 9));
    assert_eq!((&*map.clusters[0].lead, map.global.p95), ("S07-C00-A00", 1.5));
    server.join().expect("server");
}

#[test]
fn w97_the_last_gathers_are_asked_for_and_read_and_a_node_reads_its_own_alike() {
    let view = MeshView {
        gathers: vec![GatherRow {
            lateness: vec![Bin { bin: 8, count: 2 }, Bin { bin: u32::MAX, count: 1 }],
            reason: Text::literal("2 of 3"),
            ended_ns: 5,
            counts: Counts { targets: 3, late: 3, ..Default::default() },
            decision: 2,
            verb: 3,
            ..Default::default()
        }],
        global: GlobalRow { last_gather_ns: 5, conflicts: 7, mode: 3, ..Default::default() },
        ..Default::default()
    };
    let sent = view.clone();
    let (mut client, server) = serve(move |mut stream| {
        let bad = |row: GatherRow| MeshView { gathers: vec![row], ..Default::default() };
        let global = GlobalRow { mode: 99, ..Default::default() };
        for value in [
            sent,
            bad(GatherRow { decision: 99, ..Default::default() }),
            bad(GatherRow { strategy: 99, ..Default::default() }),
            bad(GatherRow { verb: 99, ..Default::default() }),
            MeshView { global, ..Default::default() },
        ] {
            let (header, payload) = read_frame(&mut stream);
            let asked = payload::open::<MeshQuery>(payload.as_slice()).expect("a query");
            assert_eq!(asked.view, View::Gathers.code());
            answer(&mut stream, header.message_id(), &value);
        }
    });
    let gathers = client.gathers().expect("gathers");
    assert_eq!(gathers, Gathers::try_from(&view).expect("its own"));
    let row = &gathers.rows[0];
    assert_eq!((row.decision, row.verb), (Decision::ResolveConflicts, Verb::Act));
    assert_eq!((row.counts.late, &*row.reason), (3, "2 of 3"));
    assert_eq!(row.lateness, [(8, 2), (2_112, 1)], "a bin beyond the last is the last");
    assert_eq!((gathers.global.conflicts, gathers.global.mode), (7, Mode::Alone));
    for what in ["decision 99", "strategy 99", "verb 99", "mode 99"] {
        let fault = client.gathers().expect_err(what).to_string();
        assert!(fault.contains(what), "{fault}");
    }
    server.join().expect("server");
}

#[test]
fn meshmsg_17_18_an_order_holds_when_the_question_behind_it_is_answered() {
    let (mut client, server) = serve(|mut stream| {
        for kind in [Kind::Circuit, Kind::Freeze] {
            let (header, _) = read_frame(&mut stream);
            assert_eq!(header.kind(), Ok(kind));
            let (header, payload) = read_frame(&mut stream);
            let asked = payload::open::<MeshQuery>(payload.as_slice()).expect("a query");
            assert_eq!(asked.limit.to_native(), 1);
            answer(&mut stream, header.message_id(), &MeshView::default());
        }
        let (header, _) = read_frame(&mut stream);
        let mut out = [0; error::FRAME_MAX];
        let refusal = error::Refusal::new(ErrorCode::BadRequest, header.raw_kind());
        let len = error::write_frame(&mut out, 0, 0, &refusal);
        stream.write_all(&out[..len]).expect("sent");
        let (header, _) = read_frame(&mut stream);
        answer(&mut stream, header.message_id(), &MeshView::default());
        let (header, _) = read_frame(&mut stream);
        let ping = frame::ping(header.message_id(), 0);
        stream.write_all(zerocopy::IntoBytes::as_bytes(&ping)).expect("sent");
    });
    let order = Circuit { action: CircuitAction::HalfOpen.code(), ..Default::default() };
    client.circuit(&order).expect("half open");
    client.freeze(&Freeze::default()).expect("frozen");
    let refused = client.circuit(&order).expect_err("refused");
    let ClientError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal.code, ErrorCode::BadRequest);
    client.ping().expect("the connection goes on");
    server.join().expect("server");
}
