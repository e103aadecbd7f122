//! Certificates on both sides: TLS over TCP and QUIC, against real servers of other packages.

use crate::node::{Heard, Node, frame};
use client::{
    Addr, Client, ClientError, Files, Limits, Options, Pool, PoolOptions, Security, connect_socket,
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tls::{
    Identity,
    ca::{Authority, LIFE, Request},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::{
    Dtype, Kind, Roles,
    payload::{QueryRequest, TensorWork},
};

/// Certificates of one authority, in a folder of their own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("butterfly-client-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = fs::remove_dir_all(&folder);
        let now = SystemTime::now();
        let authority = Authority::create(&folder, name, now, false).expect("an authority");
        for (name, role, hosts) in [("node", "node", vec!["127.0.0.1"]), ("user", "client", vec![])]
        {
            let roles = Roles::of(tls::role(role).expect("a role"));
            let request = Request {
                identity: Identity::new(name, roles).expect("a name"),
                hosts: hosts.into_iter().map(str::to_owned).collect(),
                life: LIFE,
            };
            authority.issue(&request, now, false).expect("a certificate");
        }
        Self(folder)
    }

    fn files(&self, name: &str) -> Files {
        Files::of(&self.0, name)
    }

    fn user(&self) -> Security {
        Security::load(&self.files("user")).expect("certificates")
    }

    fn server(&self) -> rustls::ServerConfig {
        let config = tls::server_config(&self.files("node")).expect("certificates");
        Arc::unwrap_or_clone(config)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Listens with TLS over TCP.
fn listen_tls(node: &Node, folder: &Folder) -> SocketAddr {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(folder.server()));
    let brain = Arc::clone(&node.brain);
    let (addr, listener) = node.runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        (listener.local_addr().expect("an address"), listener)
    });
    node.runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, brain) = (acceptor.clone(), Arc::clone(&brain));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    brain.talk(stream).await;
                }
            });
        }
    });
    addr
}

/// Both directions of a QUIC stream.
struct Both(quinn::SendStream, quinn::RecvStream);

impl AsyncRead for Both {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.get_mut().1), context, into)
    }
}

impl AsyncWrite for Both {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().0), context, from)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().0), context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.get_mut().0), context)
    }
}

/// Listens with QUIC. With `early`, it gives tickets and takes 0-RTT data.
fn listen_quic(node: &Node, folder: &Folder, early: bool) -> SocketAddr {
    let mut config = folder.server();
    if early {
        config.max_early_data_size = u32::MAX;
        config.send_tls13_tickets = 2;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    }
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let brain = Arc::clone(&node.brain);
    let endpoint = {
        let _inside = node.runtime.enter();
        quinn::Endpoint::server(config, "127.0.0.1:0".parse().expect("an address"))
    };
    let endpoint = endpoint.expect("a free port");
    let addr = endpoint.local_addr().expect("an address");
    node.runtime.spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let brain = Arc::clone(&brain);
            tokio::spawn(async move {
                let Ok(connecting) = incoming.accept() else { return };
                let connection = match connecting.into_0rtt() {
                    Ok((connection, _)) => connection,
                    Err(connecting) => match connecting.await {
                        Ok(connection) => connection,
                        Err(_) => return,
                    },
                };
                while let Ok((send, receive)) = connection.accept_bi().await {
                    tokio::spawn(Arc::clone(&brain).talk(Both(send, receive)));
                }
            });
        }
    });
    addr
}

fn at(scheme: &str, addr: SocketAddr) -> Addr {
    format!("{scheme}://{addr}").parse().expect("an address")
}

fn pool(addr: Addr, security: &Security) -> Pool {
    let limits = Limits { least: 1, most: 1, ..Limits::DEFAULT };
    let options = PoolOptions {
        limits,
        security: Some(security.clone()),
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(20),
        ..PoolOptions::default()
    };
    Pool::new(addr, options).expect("a pool")
}

fn options(security: &Security) -> Options {
    Options {
        security: Some(security.clone()),
        connect_timeout: Duration::from_secs(20),
        ..Options::default()
    }
}

/// Rows that do not fit into one record, one datagram, or one window.
fn large() -> (QueryRequest, Vec<u8>) {
    let rows: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let work = TensorWork::echo(Dtype::U8, 3, 1_000_000);
    (QueryRequest { work, ..QueryRequest::default() }, rows)
}

/// Rows there and back, by a pool and by a blocking connection whose halves have a thread each.
fn rows_there_and_back(node: &Node, addr: &Addr, security: &Security, over: &str) {
    let (request, rows) = large();
    let pool = pool(addr.clone(), security);
    let answer = pool.request(&request, rows.clone()).expect("an answer");
    assert_eq!(answer.response().expect("a response").echo.expect("an echo").data, rows);
    assert_eq!(pool.stats().transport.expect("connected").to_string(), over);
    assert_eq!(pool.metrics().expect("figures").active_workers, 3);

    let client = Client::connect(addr, options(security)).expect("connected");
    assert_eq!(client.transport().to_string(), over);
    let (mut sender, mut receiver) = client.into_halves();
    let (mut asked, sent) = (request, rows.clone());
    let sending = thread::spawn(move || {
        for _ in 0..3 {
            sender.send_request(&mut asked, &sent).expect("sent");
        }
        sender.finish().expect("ended");
    });
    for id in 1..=3 {
        let reply = receiver.receive().expect("an answer");
        assert_eq!(reply.header.message_id(), id);
        assert_eq!(reply.response().expect("a response").echo.expect("an echo").data, rows);
    }
    sending.join().expect("a sender");
    match receiver.receive() {
        Err(ClientError::Io { doing: "waiting for a reply", .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(node.heard(Kind::QueryRequest).len(), 4);
}

#[test]
fn trans_03_requests_go_over_tls() {
    let folder = Folder::new("tls");
    let node = Node::new(Heard::sound);
    let addr = at("tls", listen_tls(&node, &folder));
    rows_there_and_back(&node, &addr, &folder.user(), "tls");
}

#[test]
fn a_socket_for_an_event_loop_is_there_for_secured_addresses_too() {
    let folder = Folder::new("socket");
    let node = Node::new(Heard::sound);
    let patience = Duration::from_secs(20);
    for addr in
        [at("tls", listen_tls(&node, &folder)), at("quic", listen_quic(&node, &folder, false))]
    {
        let socket = connect_socket(&addr, Some(&folder.user()), patience).expect("connected");
        let mut socket = UnixStream::from(socket);
        let ping = frame(Kind::Heartbeat, 7, &[]);
        socket.write_all(&ping).expect("sent");
        let mut echo = vec![0; ping.len()];
        socket.read_exact(&mut echo).expect("an echo");
        assert_eq!(echo, ping);
    }
}

#[test]
fn trans_05_requests_go_over_quic() {
    let folder = Folder::new("quic");
    let node = Node::new(Heard::sound);
    let addr = at("quic", listen_quic(&node, &folder, false));
    rows_there_and_back(&node, &addr, &folder.user(), "quic");
}

#[test]
fn trans_05_a_second_connection_sends_questions_before_the_handshake_and_requests_after_it() {
    let folder = Folder::new("early");
    let node = Node::new(Heard::sound);
    let addr = at("quic", listen_quic(&node, &folder, true));
    let security = folder.user();
    let (request, rows) = large();
    let first = pool(addr.clone(), &security);
    first.request(&request, rows.clone()).expect("an answer");
    assert_eq!(first.stats().early, 0, "nothing to resume yet");
    drop(first);
    let second = pool(addr, &security);
    assert_eq!(second.metrics().expect("figures").active_workers, 3);
    second.request(&request, rows).expect("an answer");
    let stats = second.stats();
    assert_eq!((stats.early, stats.connected, stats.retries), (1, 1, 0), "{stats:?}");
}

#[test]
fn trans_06_where_udp_is_silent_tls_takes_its_place_and_says_so() {
    let folder = Folder::new("silent");
    let node = Node::new(Heard::sound);
    let place = listen_tls(&node, &folder);
    // Takes datagrams and never answers, as a firewall does.
    let _silent = UdpSocket::bind(place).expect("the same port");
    let security = folder.user();
    let pool = pool(at("quic", place), &security);
    pool.ping().expect("an echo");
    let stats = pool.stats();
    assert_eq!(stats.fallbacks, 1);
    let transport = stats.transport.expect("connected").to_string();
    assert_eq!(transport, "tls, because UDP got no answer");
    let client = Client::connect(&at("quic", place), options(&security)).expect("connected");
    assert_eq!(client.transport().to_string(), transport);
}

#[test]
fn addresses_that_need_certificates_say_how_to_get_them() {
    for scheme in ["tls", "quic"] {
        let addr = at(scheme, "127.0.0.1:9".parse().expect("an address"));
        let faults = [
            Client::connect(&addr, Options::default()).expect_err("no certificates"),
            Pool::new(addr.clone(), PoolOptions::default()).expect_err("no certificates"),
        ];
        for fault in faults.map(|fault| fault.to_string()) {
            for part in [&addr.to_string(), "--ca", "BUTTERFLY_CERT", "butterfly ca issue"] {
                assert!(fault.contains(part), "{part}: {fault}");
            }
        }
    }
}

#[test]
fn a_node_of_another_authority_is_not_talked_to() {
    let (folder, other) = (Folder::new("ours"), Folder::new("theirs"));
    let node = Node::new(Heard::sound);
    let places =
        [at("tls", listen_tls(&node, &other)), at("quic", listen_quic(&node, &other, false))];
    for addr in places {
        let security = folder.user();
        let fault = Client::connect(&addr, options(&security)).expect_err("another authority");
        assert!(matches!(fault, ClientError::Connect { .. }), "{fault}");
        let fault = pool(addr, &security).ping().expect_err("another authority").to_string();
        assert!(fault.contains("cannot connect"), "{fault}");
    }
    assert_eq!(node.accepted(), 0);
}

#[test]
fn a_client_that_the_node_turns_away_hears_why() {
    // Trusts the node, but shows a certificate of an authority that the node does not know.
    let (folder, other) = (Folder::new("node"), Folder::new("stranger"));
    let files = Files { ca: folder.files("user").ca, ..other.files("user") };
    let security = Security::load(&files).expect("certificates");
    let node = Node::new(Heard::sound);
    let addr = at("tls", listen_tls(&node, &folder));
    // In TLS 1.3 the client's side of the handshake ends before the node has looked.
    let fault = Client::connect(&addr, options(&security)).and_then(|mut client| client.ping());
    let fault = fault.expect_err("turned away").to_string();
    assert!(fault.contains("alert"), "{fault}");
    let fault = pool(addr, &security).ping().expect_err("turned away").to_string();
    assert!(fault.contains("alert"), "{fault}");
}

#[test]
fn a_silent_node_is_given_up_after_the_timeout_over_tls_too() {
    let folder = Folder::new("timeout");
    let node = Node::new(|_| Vec::new());
    let addr = at("tls", listen_tls(&node, &folder));
    let io_timeout = Some(Duration::from_millis(30));
    let options = Options { io_timeout, ..options(&folder.user()) };
    let mut client = Client::connect(&addr, options).expect("connected");
    assert!(matches!(client.ping(), Err(ClientError::Timeout { .. })));
    drop(client);
    let give_up = Instant::now() + Duration::from_secs(20);
    while node.open() > 0 {
        assert!(Instant::now() < give_up, "the connection stays open");
        thread::sleep(Duration::from_millis(2));
    }
}
