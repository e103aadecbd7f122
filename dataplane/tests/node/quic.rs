//! A node that serves QUIC, reached by quinn: the frames are the same, the streams are served as
//! connections are.

use crate::rig::{Folder, Node, Raw, request, run, words};
use client::Addr;
use quinn::crypto::rustls::QuicClientConfig;
use rustix::process::Signal;
use std::{net::SocketAddr, path::Path, sync::Arc, thread, time::SystemTime};
use tls::ca::{Authority, LIFE, Request};
use tokio::net::{UnixListener, UnixStream};
use wire::{Dtype, ErrorCode, Kind, Role, Roles, payload::TensorWork, response};

/// An authority, a node's certificate and a client's.
struct Papers {
    folder: Folder,
    client: tls::Files,
    node: tls::Files,
}

impl Papers {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.file("ca");
        let authority =
            Authority::create(&path, "test", SystemTime::now(), false).expect("an authority");
        let issue = |name, role| {
            let identity = tls::Identity::new(name, Roles::of(role)).expect("a name");
            let request = Request { identity, hosts: Vec::new(), life: LIFE };
            authority.issue(&request, SystemTime::now(), false).expect("a certificate")
        };
        let (client, node) = (issue("client", Role::Client), issue("node-1", Role::Node));
        Self { folder, client, node }
    }

    fn flags(&self) -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let files = [("ca", &self.node.ca), ("cert", &self.node.cert), ("key", &self.node.key)];
        files.iter().flat_map(|(name, path)| [format!("--tls-{name}"), text(path)]).collect()
    }

    /// A Unix socket whose connections become streams of one QUIC connection to `node`.
    fn tunnel(&self, node: SocketAddr) -> Addr {
        let path = self.folder.file(&format!("{}.sock", node.port()));
        let tls = tls::client_config(&self.client).expect("a configuration");
        let tls = QuicClientConfig::try_from(tls).expect("suites for QUIC");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let enter = runtime.enter();
        let listener = UnixListener::bind(&path).expect("binds");
        let any = if node.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let mut endpoint =
            quinn::Endpoint::client(any.parse().expect("an address")).expect("binds");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
        drop(enter);
        // It ends with the process of the test.
        thread::spawn(move || {
            runtime.block_on(async {
                let connection =
                    endpoint.connect(node, "node-1").expect("a name").await.expect("connects");
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(carry(socket, connection.clone()));
                }
            });
        });
        Addr::Unix(path)
    }
}

/// One connection through one stream.
async fn carry(socket: UnixStream, connection: quinn::Connection) {
    let Ok((mut send, mut recv)) = connection.open_bi().await else { return };
    let (mut from, mut to) = socket.into_split();
    let up = async {
        let _ = tokio::io::copy(&mut from, &mut send).await;
        let _ = send.finish();
    };
    let down = async {
        let _ = tokio::io::copy(&mut recv, &mut to).await;
        drop(to);
    };
    tokio::join!(up, down);
}

fn start(papers: &Papers, more: &[&str]) -> Node {
    let flags = papers.flags();
    let mut args = vec!["--listen", "127.0.0.1:0", "--quic", "127.0.0.1:0", "--quic", "[::1]:0"];
    args.extend(flags.iter().map(String::as_str));
    args.extend_from_slice(more);
    Node::start(&args)
}

fn quic(node: &Node, index: usize) -> SocketAddr {
    node.places[index].strip_prefix("quic ").expect("quic").parse().expect("an address")
}

#[test]
fn trans_05_06_08_the_same_frames_go_over_quic_and_tcp_on_both_families() {
    let papers = Papers::new();
    let node = start(&papers, &["--shards", "2"]);
    assert_eq!(node.places.len(), 3);
    let rows: Vec<u8> = (0..1 << 20).map(|at: u32| (at >> 2) as u8 | 1).collect();
    let ways = [node.addr(), papers.tunnel(quic(&node, 1)), papers.tunnel(quic(&node, 2))];
    for way in &ways {
        let mut raw = Raw::connect(way);
        raw.lives();
        raw.send(&request(7, TensorWork::echo(Dtype::F32, 1, 256 << 10), &rows));
        let frame = raw.frame().expect("an answer");
        assert_eq!((frame.header.kind(), frame.header.message_id()), (Ok(Kind::QueryResponse), 7));
        let answer = response::read(frame.payload.as_slice()).expect("readable");
        assert!(answer.echo.expect("an echo").data == rows);
        // What is no frame is refused with its reason before the stream ends.
        raw.send(&[b'x'; 64]);
        raw.refusal(ErrorCode::BadMagic);
        raw.closed();
    }
    // A hundred streams at a time, over the shards in turn.
    let mut streams: Vec<_> = (0..100).map(|_| Raw::connect(&ways[1])).collect();
    streams.iter_mut().for_each(Raw::lives);
    let metrics = node.metrics();
    assert_eq!(metrics.total("butterfly_quic_connections_total"), Some(2));
    assert_eq!(metrics.total("butterfly_quic_streams_total"), Some(102));
    let copied = metrics.by_label("butterfly_quic_copied_bytes_total", "stage");
    assert!(copied["to-shard"] > 2 << 20 && copied["from-shard"] > 2 << 20, "{copied:?}");
}

#[test]
fn a_node_with_quic_drains_what_came_over_it() {
    let papers = Papers::new();
    let node = start(&papers, &[]);
    let mut raw = Raw::connect(&papers.tunnel(quic(&node, 1)));
    raw.lives();
    node.signal(Signal::TERM);
    node.await_line("drained");
    raw.closed();
    assert!(node.wait().success());
}

#[test]
fn quic_without_certificates_is_refused_with_the_way_out() {
    let output = run(&["serve", "--quic", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("--tls-ca"), "{}", words(&output));
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    let papers = Papers::new();
    let flags = papers.flags();
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--quic", &address];
    args.extend(flags.iter().map(String::as_str));
    let output = run(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("--quic"), "{}", words(&output));
}
