//! Whole runs over io_uring against a small node on real sockets.

use blast::{BlastError, Config, Op, Pace};
use client::Addr;
use std::{
    io::{self, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::Duration,
};
use wire::{HEADER_LEN, Header, Kind, Operation, error, frame, reply, request};
use zerocopy::IntoBytes;

/// Answers every frame of a connection until it ends, or until `most` frames were answered.
fn answer(stream: impl Read, mut out: impl Write, most: u32) -> io::Result<()> {
    // Read ahead, answer all that is there: the writes coalesce as a node's would.
    let mut stream = BufReader::with_capacity(1 << 20, stream);
    let (mut bytes, mut author) = (Vec::new(), reply::Author::new("w0", "plain", "test"));
    for _ in 0..most {
        let mut head = [0; HEADER_LEN];
        if stream.buffer().len() < HEADER_LEN {
            out.write_all(&bytes)?;
            bytes.clear();
        }
        stream.read_exact(&mut head)?;
        let header = *Header::peek(&head).expect("32 bytes");
        let mut payload = client::Buffer::new();
        payload.resize(header.payload_len() as usize);
        stream.read_exact(payload.as_mut_slice())?;
        let id = header.message_id();
        match header.kind() {
            Ok(Kind::Heartbeat) => bytes.extend(frame::ping(id, 0).as_bytes()),
            Ok(Kind::QueryRequest) => {
                let (_, work) = request::work(payload.as_slice()).expect("sound work");
                let rows = request::rows(payload.as_slice(), &work).expect("rows");
                bytes.extend(echo(id, &work, rows, &mut author));
            }
            _ => {
                let mut refusal = [0; error::FRAME_MAX];
                let why = error::Refusal::new(wire::ErrorCode::UnservedType, header.raw_kind());
                let len = error::write_frame(&mut refusal, id, 0, &why);
                bytes.extend(&refusal[..len]);
            }
        }
    }
    out.write_all(&bytes)
}

fn echo(id: u64, work: &wire::Work, rows: &[u8], author: &mut reply::Author) -> Vec<u8> {
    let chunk = reply::chunks(work).next().expect("one chunk");
    let layout = reply::Layout::of(work, &chunk).expect("a layout");
    let mut out = vec![0; reply::reply_len(work) as usize];
    out[HEADER_LEN..HEADER_LEN + rows.len()].copy_from_slice(rows);
    let stamp = reply::Stamp {
        message_id: id,
        timestamp_ns: 1,
        query_id: [0; 16],
        operation: Operation::Echo,
        compute_ns: 1,
        chunk,
    };
    let len = reply::finish(&mut out, &layout, author, &stamp).expect("room");
    out.truncate(len);
    out
}

/// A node on TCP whose connections end after `most` frames.
fn node(most: u32) -> Addr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").into();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                stream.set_nodelay(true).expect("an option");
                answer(&stream, &stream, most)
            });
        }
    });
    addr
}

fn short(addr: Addr, op: Op) -> Config {
    let mut config = Config::new(addr, op);
    config.duration = Duration::from_millis(300);
    config.warmup = Duration::from_millis(50);
    config
}

#[test]
fn pings_at_a_rate_are_all_answered() {
    let mut config = short(node(u32::MAX), Op::Ping);
    config.pace = Pace::Open { rate: 5_000.0 };
    (config.connections, config.threads) = (3, 2);
    let report = blast::run(config).expect("a report");
    assert_eq!(report.planned, 1_500);
    assert_eq!((report.sent, report.ok), (1_500, 1_500), "{report}");
    assert!(report.is_clean() && report.refused == 0, "{report}");
    assert_eq!((report.bytes_out, report.bytes_in), (1_500 * 32, 1_500 * 32));
    assert!(report.latency_us.p50.is_some_and(|us| us > 0.0));
    // This node gives no metrics: no fact is made up.
    assert_eq!(report.server.copies_per_request, None);
}

#[test]
fn a_closed_loop_of_long_echoes_is_checked_byte_by_byte() {
    for size in [200, 5_000, 300_001] {
        let mut config = short(node(u32::MAX), Op::Work(Operation::Echo));
        config.pace = Pace::Closed;
        (config.connections, config.depth, config.size) = (2, 4, Some(size));
        let report = blast::run(config).expect("a report");
        assert!(report.is_clean() && report.ok > 0 && report.ok == report.sent, "{report}");
        assert_eq!(report.load.request_bytes % 16, 0);
    }
}

#[test]
fn unix_sockets_work_alike() {
    let path = std::env::temp_dir().join(format!("butterfly-blast-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket file");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(&stream, &stream, u32::MAX));
        }
    });
    let addr = format!("unix://{}", path.display()).parse().expect("an address");
    let mut config = short(addr, Op::Ping);
    config.pace = Pace::Closed;
    let report = blast::run(config).expect("a report");
    assert!(report.is_clean() && report.ok > 0, "{report}");
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn connections_that_die_are_counted_or_replaced() {
    for reconnect in [false, true] {
        let mut config = short(node(500), Op::Ping);
        config.pace = Pace::Closed;
        (config.connections, config.depth, config.reconnect) = (2, 2, reconnect);
        config.grace = Duration::from_millis(500);
        let report = blast::run(config).expect("a report");
        assert!(!report.is_clean());
        let died = report.error_kinds["connection"];
        if reconnect {
            assert!(died >= 2 && report.reconnects + 2 >= died, "{report}");
        } else {
            assert_eq!((died, report.reconnects), (2, 0), "{report}");
            assert!(report.sent <= 2 * 500 + 4, "it ends with its last connection: {report}");
        }
    }
}

#[test]
fn several_sources_share_the_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr: Addr = listener.local_addr().expect("an address").into();
    static SOURCES: AtomicU32 = AtomicU32::new(0);
    thread::spawn(move || {
        while let Ok((stream, peer)) = listener.accept() {
            if let std::net::IpAddr::V4(ip) = peer.ip() {
                SOURCES.fetch_or(1 << ip.octets()[3], Relaxed);
            }
            thread::spawn(move || answer(&stream, &stream, u32::MAX));
        }
    });
    let mut config = short(addr, Op::Ping);
    (config.connections, config.sources) = (6, 3);
    let report = blast::run(config).expect("a report");
    assert!(report.is_clean(), "{report}");
    assert_eq!(SOURCES.load(Relaxed), 0b1110, "127.0.0.1 to 127.0.0.3");
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = Addr::from(listener.local_addr().expect("an address"));
    drop(listener);
    match blast::run(short(addr.clone(), Op::Ping)) {
        Err(fault @ BlastError::Connect(_)) => {
            assert!(fault.to_string().contains(&addr.to_string()), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn overload_finds_the_capacity_and_accounts_for_every_request() {
    let mut config = Config::new(node(u32::MAX), Op::Work(Operation::Echo));
    (config.connections, config.depth) = (2, 256);
    (config.warmup, config.duration) = (Duration::from_millis(50), Duration::from_millis(200));
    let plan =
        blast::overload::Plan { config, factors: vec![0.2, 2.0], capacity: None, probe_depth: 8 };
    let found = blast::overload(&plan.check().expect("sound")).expect("a report");
    assert!(found.capacity > 0.0 && found.is_clean());
    for step in &found.steps {
        assert_eq!(step.sent, step.ok + step.refused + step.lost, "{step:?}");
        assert!((step.offered - step.factor * found.capacity).abs() < 1e-6 * step.offered);
    }
    let text = found.to_string();
    assert!(text.contains("capacity") && text.contains("0.2"), "{text}");
}
