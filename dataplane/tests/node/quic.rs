//! A node that serves QUIC, reached by quinn: the frames are the same, the streams are served as
//! connections are.

use crate::rig::{Folder, Node, Raw, request, run, words};
use client::{Addr, PoolOptions, Security, aio::Pool};
use quinn::crypto::rustls::QuicClientConfig;
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::SystemTime,
};
use tls::ca::{Authority, LIFE, Request};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};
use wire::{
    Dtype, ErrorCode, Kind, Role, Roles,
    payload::{QueryRequest, TensorWork},
    response,
};

/// An address for tests that need the same port for TCP and UDP: nothing else listens there.
const HOST: &str = "127.71.71.71";

/// An authority, a node's certificate and a client's.
struct Papers {
    folder: Folder,
    client: tls::Files,
    node: tls::Files,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Papers {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.file("ca");
        let authority =
            Authority::create(&path, "test", SystemTime::now(), false).expect("an authority");
        let issue = |name, role| {
            let identity = tls::Identity::new(name, Roles::of(role)).expect("a name");
            let request = Request { identity, hosts: vec![HOST.to_owned()], life: LIFE };
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

    fn security(&self) -> Security {
        Security::load(&self.client).expect("certificates")
    }

    /// A pool for this address, to be made inside a runtime.
    fn pool(&self, addr: &str) -> Pool {
        let options = PoolOptions { security: Some(self.security()), ..PoolOptions::default() };
        Pool::new(addr.parse().expect("an address"), options).expect("a pool")
    }

    /// Runs `butterfly status` as the client; its report.
    fn status(&self, addr: &str) -> serde_json::Value {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let [ca, cert, key] =
            [&self.client.ca, &self.client.cert, &self.client.key].map(|p| text(p));
        let files = ["--ca", &ca, "--cert", &cert, "--key", &key];
        let output = run(&[&["status", "--addr", addr, "--json"], &files[..]].concat());
        assert!(output.status.success(), "{addr}: {}", words(&output));
        serde_json::from_slice(&output.stdout).expect("json")
    }

    /// An endpoint of quinn, to be made inside a runtime.
    fn endpoint(&self, node: SocketAddr) -> quinn::Endpoint {
        let tls = tls::client_config(&self.client).expect("a configuration");
        let tls = QuicClientConfig::try_from(tls).expect("suites for QUIC");
        let any = if node.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let mut endpoint =
            quinn::Endpoint::client(any.parse().expect("an address")).expect("binds");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
        endpoint
    }

    /// A Unix socket whose connections become streams of one QUIC connection to `node`.
    fn tunnel(&self, node: SocketAddr) -> Addr {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = self.folder.file(&format!("{}.sock", NEXT.fetch_add(1, Relaxed)));
        let runtime = runtime();
        let enter = runtime.enter();
        let listener = UnixListener::bind(&path).expect("binds");
        let endpoint = self.endpoint(node);
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
    // For frames by hand, and counters.
    args.push("--plain-loopback");
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
    let taken = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    let papers = Papers::new();
    let flags = papers.flags();
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--quic", &address];
    args.extend(flags.iter().map(String::as_str));
    let output = run(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("--quic"), "{}", words(&output));
}

/// Starts a node at an address for TCP under TLS; the address. By UDP as well where `quic`.
fn at_one_port(papers: &Papers, quic: bool, more: &[&str]) -> (Node, SocketAddr) {
    let tcp = TcpListener::bind((HOST, 0)).expect("a free port");
    let addr = tcp.local_addr().expect("bound");
    let udp = UdpSocket::bind(addr).expect("the same port is free");
    drop((tcp, udp));
    let (flags, text) = (papers.flags(), addr.to_string());
    let mut args = vec!["--listen", text.as_str()];
    if quic {
        args.extend(["--quic", &text]);
    }
    args.extend(flags.iter().map(String::as_str));
    args.extend(more);
    (Node::start(&args), addr)
}

fn echo(n: u64) -> (QueryRequest, Vec<u8>) {
    let rows = n.to_le_bytes().repeat(32);
    let work = TensorWork::echo(Dtype::U8, 1, rows.len() as u32);
    (QueryRequest { work, ..QueryRequest::default() }, rows)
}

#[test]
fn trans_05_06_clients_choose_quic_or_tls_at_one_port() {
    let papers = Papers::new();
    let (_node, addr) = at_one_port(&papers, true, &[]);
    for (scheme, streams) in [("tls", 0), ("quic", 1)] {
        let url = format!("{scheme}://{addr}");
        runtime().block_on(async {
            let pool = papers.pool(&url);
            let (request, rows) = echo(7);
            let answer = pool.request(&request, rows.clone()).await.expect("an answer");
            assert_eq!(answer.response().expect("a response").echo.expect("an echo").data, rows);
            let metrics = pool.metrics().await.expect("figures");
            assert!(metrics.total("butterfly_quic_streams_total") >= Some(streams));
            // Whichever way it comes, it is the same one.
            assert_eq!(metrics.total("butterfly_identities"), Some(1));
            let stats = pool.stats();
            assert_eq!(stats.transport.map(|way| way.to_string()).as_deref(), Some(scheme));
            assert_eq!(stats.fallbacks, 0);
        });
        let report = papers.status(&url);
        assert_eq!(report["counters"]["butterfly_identities"], 1);
        let streams_total = report["counters"]["butterfly_quic_streams_total"].as_u64();
        assert!(streams_total.is_some_and(|total| (total > 0) == (scheme == "quic")));
    }
}

#[test]
fn trans_06_quic_goes_by_tls_at_a_node_without_quic() {
    let papers = Papers::new();
    let (_node, addr) = at_one_port(&papers, false, &[]);
    let url = format!("quic://{addr}");
    runtime().block_on(async {
        let pool = papers.pool(&url);
        let (request, rows) = echo(7);
        pool.request(&request, rows).await.expect("an answer");
        let stats = pool.stats();
        assert_eq!(stats.transport, Some(client::Transport::TlsForQuic));
        assert!(stats.fallbacks > 0);
    });
    papers.status(&url);
}

#[test]
fn one_account_stands_for_connections_by_tcp_and_streams_of_quic() {
    let papers = Papers::new();
    let path = papers.folder.file("node.toml");
    fs::write(&path, "[[identity.peer]]\nname = \"client\"\nmax_connections = 2\n")
        .expect("writes");
    let (_node, addr) = at_one_port(&papers, true, &["--config", path.to_str().expect("text")]);
    let connect = |scheme| {
        let url: Addr = format!("{scheme}://{addr}").parse().expect("an address");
        let socket = client::connect_socket(&url, Some(&papers.security()), crate::rig::PATIENCE);
        Raw::over(socket.expect("connects").into())
    };
    let way = papers.tunnel(addr);
    let (mut tls, mut quic) = (connect("tls"), Raw::connect(&way));
    tls.lives();
    quic.lives();
    for mut third in [connect("tls"), Raw::connect(&way)] {
        assert_eq!(third.refusal(ErrorCode::TooManyConnections), 0);
        third.closed();
    }
    tls.lives();
    quic.lives();
}

#[test]
fn sec_03_new_connections_by_quic_get_the_new_certificate_and_open_ones_go_on() {
    let papers = Papers::new();
    let node = start(&papers, &[]);
    let addr = quic(&node, 1);
    let way = papers.tunnel(addr);
    let mut raw = Raw::connect(&way);
    raw.lives();
    let shown = || -> CertificateDer<'static> {
        runtime().block_on(async {
            let connecting = papers.endpoint(addr).connect(addr, "node-1").expect("a name");
            let peer = connecting.await.expect("connects").peer_identity().expect("certificates");
            let chain = peer.downcast::<Vec<CertificateDer<'static>>>().expect("certificates");
            chain[0].clone()
        })
    };
    let in_file = || CertificateDer::from_pem_file(&papers.node.cert).expect("readable");
    let first = in_file();
    assert_eq!(shown(), first);
    let authority = Authority::open(&papers.folder.file("ca")).expect("the authority");
    authority.rotate(SystemTime::now(), true).expect("rotates");
    node.signal(Signal::HUP);
    node.await_total("butterfly_certificate_reloads_total", 1);
    assert_ne!(in_file(), first);
    assert_eq!(shown(), in_file());
    raw.lives();
    Raw::connect(&way).lives();
}

#[test]
fn peers_by_quic_are_asked_to_leave_and_meet_the_next_process() {
    let papers = Papers::new();
    let door = papers.folder.file("door");
    let door = ["--handover", door.to_str().expect("text")];
    let node = start(&papers, &door);
    let mut raw = Raw::connect(&papers.tunnel(quic(&node, 1)));
    raw.lives();
    let next = start(&papers, &door);
    assert_eq!(next.places, node.places, "the same addresses, port 0 or not");
    assert_eq!(raw.refusal(ErrorCode::Draining), 0, "asked to leave");
    raw.lives();
    // Whoever comes now has no answer until the first process has been left.
    let mut other = Raw::connect(&papers.tunnel(quic(&next, 1)));
    drop(raw);
    node.await_line("drained");
    assert_eq!(node.wait().code(), Some(0), "left by everybody, and so ended");
    other.lives();
    assert_eq!(next.metrics().total("butterfly_quic_streams_total"), Some(1));
}

#[test]
fn no_request_by_quic_fails_where_nodes_succeed_each_other() {
    let papers = Papers::new();
    let door = papers.folder.file("door");
    let door = ["--handover", door.to_str().expect("text")];
    let (mut node, addr) = at_one_port(&papers, true, &door);
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (papers, stop, answers) = (&papers, &stop, &answers);
        let asks = scope.spawn(move || {
            runtime().block_on(async {
                let pool = papers.pool(&format!("quic://{addr}"));
                while !stop.load(Relaxed) {
                    let (request, rows) = echo(answers.load(Relaxed));
                    pool.request(&request, rows).await.expect("no request fails");
                    answers.fetch_add(1, Relaxed);
                }
            });
        });
        let answered = |more: u64| {
            let least = answers.load(Relaxed) + more;
            while answers.load(Relaxed) < least {
                assert!(!asks.is_finished(), "a request failed");
                thread::sleep(std::time::Duration::from_millis(5));
            }
        };
        answered(50);
        for _ in 0..3 {
            let (flags, text) = (papers.flags(), addr.to_string());
            let mut args = vec!["--listen", &text, "--quic", &text, door[0], door[1]];
            args.extend(flags.iter().map(String::as_str));
            let next = Node::start(&args);
            node.await_line("drained");
            assert_eq!(node.wait().code(), Some(0));
            answered(50);
            node = next;
        }
        stop.store(true, Relaxed);
    });
    let report = papers.status(&format!("quic://{addr}"));
    assert!(report["counters"]["butterfly_quic_streams_total"].as_u64() > Some(0));
}
