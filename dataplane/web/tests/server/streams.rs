//! Readers of events: all get the same, none holds up another, none stays that does not read.

use crate::rig::{Peer, Rig, await_that};
use overview::Overview;
use std::{net::TcpStream, sync::atomic::Ordering::Relaxed, time::Duration};
use web::Limits;

const ASK: &str = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn quick() -> Limits {
    let ms = Duration::from_millis;
    Limits { beat: ms(5), overview_age: ms(1), ..Limits::default() }
}

fn reader(rig: &Rig) -> Peer {
    let mut peer = rig.connect();
    peer.send(ASK);
    assert_eq!(peer.head().expect("an answer").status, 200);
    peer
}

/// The next overview in a stream of chunks.
fn overview(peer: &mut Peer) -> Overview {
    loop {
        let line = peer.line().expect("the stream goes on");
        if let Some(json) = line.strip_prefix("data: ") {
            return serde_json::from_str(json).expect("an overview");
        }
    }
}

#[test]
fn readers_share_renderings_and_nobody_pays_while_nobody_looks() {
    let rig = Rig::with(quick());
    await_that("some beats", || rig.node.points.load(Relaxed) > 5);
    assert_eq!(rig.node.overviews.load(Relaxed), 0, "nobody looks");
    let mut peers: Vec<Peer> = (0..8).map(|_| reader(&rig)).collect();
    for peer in &mut peers {
        let (first, second) = (overview(peer), overview(peer));
        assert!(second.at_ms > first.at_ms);
    }
    let rendered = rig.counted("butterfly_web_renderings_total", "overview");
    let beats = rig.node.points.load(Relaxed);
    assert!(rendered <= beats, "{rendered} renderings in {beats} beats for 8 readers");
    drop(peers);
    rig.await_count("butterfly_web_event_readers", "", 0);
}

#[test]
fn the_stream_says_when_to_come_again_and_that_it_lives() {
    let ms = Duration::from_millis;
    let limits = Limits { beat: Duration::from_secs(3600), heartbeat: ms(5), ..Limits::default() };
    let rig = Rig::with(limits);
    await_that("the first beat", || rig.node.points.load(Relaxed) == 1);
    let mut peer = reader(&rig);
    let mut lines = std::iter::from_fn(|| peer.line());
    assert!(lines.any(|line| line == "retry: 2000"));
    assert!(lines.any(|line| line == ": alive") && lines.any(|line| line == ": alive"));
}

#[test]
fn one_reader_too_many_is_told_when_to_come_again() {
    let rig = Rig::new();
    let mut peers: Vec<Peer> = (0..32).map(|_| reader(&rig)).collect();
    let answer = rig.ask(ASK);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")));
    assert_eq!(rig.counted("butterfly_web_refusals_total", "readers"), 1);
    assert_eq!(rig.get("/readyz").status, 200, "everything else is served");
    peers.pop();
    rig.await_count("butterfly_web_event_readers", "", 31);
    reader(&rig);
}

#[test]
fn a_reader_that_does_not_read_is_closed_and_counted_and_holds_up_nobody() {
    let limits = Limits { patience: Duration::from_millis(200), send_buffer: 4 << 10, ..quick() };
    let rig = Rig::with(limits);
    *rig.node.name.lock().expect("no panic") = "n".repeat(256 << 10);
    let mut deaf = TcpStream::connect(rig.addr).expect("connects");
    std::io::Write::write_all(&mut deaf, ASK.as_bytes()).expect("sends");
    rig.await_count("butterfly_web_event_readers", "", 1);
    rig.await_count("butterfly_web_unread_closed_total", "", 1);
    rig.await_count("butterfly_web_event_readers", "", 0);
    rig.await_count("butterfly_web_connections_open", "", 0);
    let mut peer = reader(&rig);
    assert_eq!(overview(&mut peer).node.name.len(), 256 << 10);
}

#[test]
fn leaving_ends_streams_and_idle_connections_and_the_socket() {
    let mut rig = Rig::with(quick());
    let mut stream = reader(&rig);
    overview(&mut stream);
    let mut idle = rig.connect();
    idle.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().expect("an answer").status, 200);
    rig.leave();
    while stream.line().is_some() {}
    assert!(idle.is_over());
    rig.stop();
    assert!(TcpStream::connect(rig.addr).is_err());
}
