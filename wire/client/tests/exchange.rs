//! The client against a scripted peer on real sockets.

use client::{Addr, Client, ClientError, Options};
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    thread::{self, JoinHandle},
    time::Duration,
};
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Header, Kind, Operation, Work, error, frame as whole,
    payload::{Counter, MetricsUpdate, QueryRequest, TensorWork, Text},
    reply, request,
};
use zerocopy::IntoBytes;

fn frame(kind: Kind, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header::for_payload(kind, id, 0, payload).as_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn read_frame(stream: &mut impl Read) -> (Header, Vec<u8>) {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).expect("a header");
    let header = *Header::peek(&head).expect("32 bytes");
    header.check(1 << 20).expect("a sound header");
    let mut payload = vec![0; header.payload_len() as usize];
    stream.read_exact(&mut payload).expect("a payload");
    assert_eq!(wire::check::crc16(&payload), header.checksum());
    (header, payload)
}

/// Accepts one connection and lets `script` speak on it.
fn serve<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Addr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").into();
    let server = thread::spawn(move || script(listener.accept().expect("a client").0));
    (addr, server)
}

fn connect(addr: &Addr) -> Client {
    Client::connect(addr, Options::default()).expect("connected")
}

#[test]
fn wire_01_a_ping_is_32_bytes_and_its_echo_is_recognised() {
    let (addr, server) = serve(|mut stream| {
        let (header, payload) = read_frame(&mut stream);
        assert_eq!(header.kind(), Ok(Kind::Heartbeat));
        assert!(payload.is_empty());
        assert!(header.timestamp_ns() > 1_600_000_000_000_000_000, "a plausible clock");
        stream.write_all(&frame(Kind::Heartbeat, header.message_id(), &[])).expect("sent");
    });
    connect(&addr).ping().expect("an echo");
    server.join().expect("server");
}

#[test]
fn a_ping_answered_with_anything_else_is_a_fault() {
    for (kind, id, payload) in [
        (Kind::QueryResponse, 1, &[][..]),
        (Kind::Heartbeat, 7, &[][..]),
        (Kind::Heartbeat, 1, &[0; 16][..]),
    ] {
        let answer = frame(kind, id, payload);
        let (addr, server) = serve(move |mut stream| {
            read_frame(&mut stream);
            stream.write_all(&answer).expect("sent");
        });
        let fault = connect(&addr).ping().expect_err("a fault");
        assert!(matches!(fault, ClientError::Protocol { .. }), "{fault}");
        server.join().expect("server");
    }
}

#[test]
fn wire_12_answers_in_any_order_and_any_cut_are_matched_by_id() {
    const COUNT: usize = 200;
    let (addr, server) = serve(|mut stream| {
        let mut asked: Vec<_> = (0..COUNT).map(|_| read_frame(&mut stream)).collect();
        asked.reverse();
        let bytes: Vec<u8> = asked
            .iter()
            .flat_map(|(header, payload)| frame(Kind::QueryResponse, header.message_id(), payload))
            .collect();
        // Prime-sized writes cut headers and payloads everywhere.
        for piece in bytes.chunks(37) {
            stream.write_all(piece).expect("sent");
        }
    });
    let mut client = connect(&addr);
    let payload = |n: usize| vec![n as u8; n * 16];
    let ids: Vec<u64> =
        (0..COUNT).map(|n| client.send(Kind::QueryRequest, &payload(n)).expect("sent")).collect();
    for (n, id) in ids.iter().enumerate().rev() {
        let reply = client.receive().expect("a reply");
        assert_eq!((reply.kind, reply.header.message_id()), (Kind::QueryResponse, *id));
        assert_eq!(reply.payload, payload(n));
        assert_eq!(reply.payload.as_ptr().addr() % 64, 0);
    }
    server.join().expect("server");
    match client.receive() {
        Err(ClientError::Io { doing: "waiting for a reply", source }) => {
            assert_eq!(source.kind(), ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_halves_work_from_two_threads() {
    let (addr, server) = serve(|mut stream| {
        for _ in 0..100 {
            let (header, payload) = read_frame(&mut stream);
            let answer = frame(Kind::QueryResponse, header.message_id(), &payload);
            stream.write_all(&answer).expect("sent");
        }
    });
    let (mut sender, mut receiver) = connect(&addr).into_halves();
    let sending = thread::spawn(move || {
        for n in 0..100_u8 {
            let id = sender.send(Kind::QueryRequest, &[n; 32]).expect("sent");
            assert_eq!(id, u64::from(n) + 1);
        }
        sender.finish().expect("ended");
    });
    for n in 0..100_u8 {
        let reply = receiver.receive().expect("a reply");
        assert_eq!(reply.header.message_id(), u64::from(n) + 1);
        assert_eq!(reply.payload, [n; 32]);
    }
    sending.join().expect("sender");
    server.join().expect("server");
}

#[test]
fn wire_09_a_reply_with_a_bad_crc_is_refused_and_the_next_is_read() {
    let (addr, server) = serve(|mut stream| {
        let mut bytes = frame(Kind::QueryResponse, 1, &[5; 48]);
        bytes[HEADER_LEN + 20] ^= 0x10;
        bytes.extend(frame(Kind::QueryResponse, 2, &[6; 16]));
        stream.write_all(&bytes).expect("sent");
    });
    let mut client = connect(&addr);
    let fault = client.receive().expect_err("a fault").to_string();
    assert!(fault.contains("CRC-16 of reply 1"), "{fault}");
    assert_eq!(client.receive().expect("the next").payload, [6; 16]);
    server.join().expect("server");
}

#[test]
fn headers_that_break_the_format_are_refused_before_memory_is_taken() {
    let sound = frame(Kind::QueryResponse, 1, &[0; 16]);
    let broken = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        (broken(0, b'X'), "bad_magic"),
        (broken(5, 9), "unsupported_version"),
        (broken(6, 0x7F), "unknown message type"),
        (broken(24, 0xFF), "payload_too_long"),
        (broken(29, 1), "compressed"),
    ];
    for (bytes, part) in cases {
        let (addr, server) = serve(move |mut stream| stream.write_all(&bytes).expect("sent"));
        let mut client = connect(&addr);
        for _ in 0..2 {
            let fault = client.receive().expect_err(part);
            assert!(matches!(fault, ClientError::Protocol { .. }), "{fault}");
            assert!(fault.to_string().contains(part), "{fault}");
        }
        server.join().expect("server");
    }
}

#[test]
fn a_reply_cut_off_by_the_peer_is_told_from_a_quiet_end() {
    for cut in [5, HEADER_LEN, HEADER_LEN + 3] {
        let (addr, server) = serve(move |mut stream| {
            let bytes = frame(Kind::QueryResponse, 1, &[1; 16]);
            stream.write_all(&bytes[..cut]).expect("sent");
        });
        match connect(&addr).receive() {
            Err(ClientError::Io { doing: "receiving a reply", source }) => {
                assert_eq!(source.kind(), ErrorKind::UnexpectedEof, "{cut}");
            }
            other => panic!("{cut}: {other:?}"),
        }
        server.join().expect("server");
    }
}

#[test]
fn a_timeout_loses_nothing() {
    let (addr, server) = serve(|mut stream| {
        let bytes = frame(Kind::QueryResponse, 9, &[3; 64]);
        stream.write_all(&bytes[..40]).expect("sent");
        // The client says by a frame that it has seen the timeout.
        read_frame(&mut stream);
        stream.write_all(&bytes[40..]).expect("sent");
    });
    let options = Options { io_timeout: Some(Duration::from_millis(20)), ..Options::default() };
    let mut client = Client::connect(&addr, options).expect("connected");
    assert!(matches!(client.receive(), Err(ClientError::Timeout { .. })));
    client.send(Kind::Heartbeat, &[]).expect("sent");
    loop {
        match client.receive() {
            Ok(reply) => {
                break assert_eq!((reply.header.message_id(), reply.payload), (9, &[3; 64][..]));
            }
            Err(ClientError::Timeout { .. }) => {}
            Err(fault) => panic!("{fault}"),
        }
    }
    server.join().expect("server");
}

#[test]
fn unix_sockets_work_alike() {
    let path = std::env::temp_dir().join(format!("butterfly-client-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket file");
    let server = thread::spawn(move || {
        let mut stream = listener.accept().expect("a client").0;
        let (header, _) = read_frame(&mut stream);
        stream.write_all(&frame(Kind::Heartbeat, header.message_id(), &[])).expect("sent");
    });
    let addr: Addr = format!("unix://{}", path.display()).parse().expect("an address");
    connect(&addr).ping().expect("an echo");
    server.join().expect("server");
    std::fs::remove_file(&path).expect("removed");
    let fault = Client::connect(&addr, Options::default()).expect_err("nobody listens").to_string();
    assert!(fault.contains("butterfly serve") && fault.contains("unix:///"), "{fault}");
}

#[test]
fn nobody_listening_says_where_and_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = Addr::from(listener.local_addr().expect("an address"));
    drop(listener);
    let fault = Client::connect(&addr, Options::default()).expect_err("nobody listens").to_string();
    assert!(fault.contains(&addr.to_string()) && fault.contains("butterfly serve"), "{fault}");
}

/// What a worker would answer to an echo.
fn echo(header: &Header, work: &Work, rows: &[u8]) -> Vec<u8> {
    let chunk = reply::chunks(work).next().expect("one chunk");
    let layout = reply::Layout::of(work, &chunk).expect("a layout");
    let mut out = vec![0; reply::reply_len(work) as usize];
    out[HEADER_LEN..HEADER_LEN + rows.len()].copy_from_slice(rows);
    let stamp = reply::Stamp {
        message_id: header.message_id(),
        timestamp_ns: 1,
        query_id: [7; 16],
        operation: Operation::Echo,
        compute_ns: 1,
        chunk,
    };
    let mut author = reply::Author::new("w0", "cpu", "test");
    let len = reply::finish(&mut out, &layout, &mut author, &stamp).expect("room");
    out.truncate(len);
    out
}

#[test]
fn a_request_carries_its_rows_and_the_answer_is_read_in_place() {
    let (addr, server) = serve(|mut stream| {
        for _ in 0..3 {
            let (header, payload) = read_frame(&mut stream);
            let payload = client::Buffer::copy_of(&payload);
            let (_, work) = request::work(payload.as_slice()).expect("sound work");
            assert!(request::verify(payload.as_slice(), &work));
            let rows = request::rows(payload.as_slice(), &work).expect("rows");
            stream.write_all(&echo(&header, &work, rows)).expect("sent");
        }
    });
    let mut client = connect(&addr);
    for cols in [1_usize, 100, 20_000] {
        let rows: Vec<u8> = (0..2 * cols).map(|n| n as u8).collect();
        let work = TensorWork::echo(Dtype::U8, 2, cols as u32);
        let mut request = QueryRequest { work, ..QueryRequest::default() };
        let response = client.request(&mut request, &rows).expect("an answer");
        assert_eq!(response.echo.expect("an echo").data, rows);
        assert!(response.logits.is_none());
    }
    server.join().expect("server");
}

#[test]
fn a_refusal_is_an_error_with_its_reason_and_the_connection_lives() {
    let (addr, server) = serve(|mut stream| {
        let mut out = [0; error::FRAME_MAX];
        let (header, _) = read_frame(&mut stream);
        let refusal = error::Refusal::new(ErrorCode::Overloaded, header.raw_kind()).retry_after(50);
        let len = error::write_frame(&mut out, header.message_id(), 0, &refusal);
        stream.write_all(&out[..len]).expect("sent");
        let (header, _) = read_frame(&mut stream);
        stream.write_all(&frame(Kind::Heartbeat, header.message_id(), &[])).expect("sent");
        // The connection as a whole is refused: no message id.
        read_frame(&mut stream);
        let refusal = error::Refusal::new(ErrorCode::PeerTooSlow, 0);
        let len = error::write_frame(&mut out, 0, 0, &refusal);
        stream.write_all(&out[..len]).expect("sent");
    });
    let mut client = connect(&addr);
    let mut request = QueryRequest::default();
    match client.request(&mut request, &[]) {
        Err(ClientError::Refused(refusal)) => {
            assert_eq!(refusal.code, ErrorCode::Overloaded);
            assert_eq!(refusal.retry_after, Some(Duration::from_millis(50)));
            assert!(refusal.to_string().contains("try again"), "{refusal}");
        }
        other => panic!("{other:?}"),
    }
    client.ping().expect("the connection lives");
    match client.ping() {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, ErrorCode::PeerTooSlow),
        other => panic!("{other:?}"),
    }
    server.join().expect("server");
}

#[test]
fn metr_08_metrics_are_asked_for_and_read() {
    let (addr, server) = serve(|mut stream| {
        let (header, payload) = read_frame(&mut stream);
        assert_eq!((header.kind(), payload.len()), (Ok(Kind::MetricsUpdate), 0));
        let name = Text::literal("butterfly_copies_total");
        let stage =
            |stage: &str, n| Counter::count(name.clone(), format!("stage=\"{stage}\"").into(), n);
        let update = MetricsUpdate {
            taken_ns: 5,
            query_latency_p99: 2.5,
            active_workers: 3,
            counters: vec![stage("small_lane", 4), stage("worker", 6)],
            ..MetricsUpdate::default()
        };
        let mut out = Vec::new();
        whole::append(&mut out, &update, header.message_id(), 0).expect("room");
        stream.write_all(&out).expect("sent");
    });
    let metrics = connect(&addr).metrics().expect("metrics");
    assert_eq!((metrics.taken_ns, metrics.active_workers), (5, 3));
    assert_eq!(metrics.query_latency_ms, [0.0, 0.0, 2.5]);
    assert_eq!(metrics.total("butterfly_copies_total"), Some(10));
    assert_eq!(metrics.by_label("butterfly_copies_total", "stage")["worker"], 6);
    server.join().expect("server");
}

#[test]
fn an_answer_that_is_no_archive_is_a_fault_not_a_panic() {
    for payload in [vec![0; 16], vec![0xFF; 512], vec![0x41; 4_112]] {
        for kind in [Kind::QueryResponse, Kind::ErrorReport, Kind::MetricsUpdate] {
            let answer = frame(kind, 1, &payload);
            let (addr, server) = serve(move |mut stream| {
                read_frame(&mut stream);
                stream.write_all(&answer).expect("sent");
            });
            let mut client = connect(&addr);
            let fault = client.request(&mut QueryRequest::default(), &[]).expect_err("a fault");
            assert!(matches!(fault, ClientError::Protocol { .. }), "{fault}");
            server.join().expect("server");
        }
    }
}

#[test]
fn a_request_to_leave_is_no_answer_and_is_remembered() {
    let (addr, server) = serve(|mut stream| {
        let (header, _) = read_frame(&mut stream);
        let mut notice = [0; error::FRAME_MAX];
        let asks = error::Refusal::new(ErrorCode::Draining, 0);
        let len = error::write_frame(&mut notice, 0, 0, &asks);
        stream.write_all(&notice[..len]).expect("sent");
        stream.write_all(&frame(Kind::Heartbeat, header.message_id(), &[])).expect("sent");
        let (header, _) = read_frame(&mut stream);
        stream.write_all(&frame(Kind::Heartbeat, header.message_id(), &[])).expect("sent");
    });
    let mut client = connect(&addr);
    assert!(!client.is_leaving());
    client.ping().expect("its echo, behind the notice");
    assert!(client.is_leaving());
    client.ping().expect("still answered");
    server.join().expect("server");
}
