//! A running listener whose streams are served by plain threads, and clients of quinn.

use crate::support::{NODE, Papers, identify};
use dataplane_core::driver::Caller;
use dataplane_quic::{Counters, Limits, Running, bind_udp};
use quinn::{Connection, Endpoint, crypto::rustls::QuicClientConfig};
use std::{
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

/// Nothing that must come takes longer than this on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a thread does with the socket of a stream.
pub(crate) type Serve = fn(UnixStream);

/// Sends back what comes, until it ends.
pub(crate) fn echo(mut stream: UnixStream) {
    let mut bytes = vec![0; 100_000];
    while let Ok(count) = stream.read(&mut bytes)
        && count > 0
        && stream.write_all(&bytes[..count]).is_ok()
    {}
}

/// Writes as much as it can get rid of, and reads nothing.
pub(crate) fn flood(mut stream: UnixStream) {
    let bytes = vec![7; 100_000];
    while stream.write_all(&bytes).is_ok() {}
}

pub(crate) struct Node {
    pub(crate) papers: Papers,
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) callers: Arc<Mutex<Vec<Caller>>>,
    running: Option<Running>,
}

impl Node {
    pub(crate) fn start(address: &str, limits: Limits, serve: Serve) -> Self {
        Self::start_with(address, limits, move |stream| {
            thread::spawn(move || serve(stream));
            true
        })
    }

    /// The same with `hand` for all streams.
    pub(crate) fn start_with(
        address: &str,
        limits: Limits,
        mut hand: impl FnMut(UnixStream) -> bool + Send + 'static,
    ) -> Self {
        let papers = Papers::new();
        let socket =
            UdpSocket::from(bind_udp(address.parse().expect("an address")).expect("binds"));
        let address = socket.local_addr().expect("bound");
        let counters = Arc::new(Counters::default());
        let callers = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&callers);
        let hand = Box::new(move |fd, who| {
            seen.lock().expect("no panic").push(who);
            hand(UnixStream::from(fd))
        });
        let count = Arc::clone(&counters);
        let running = Running::start(socket.into(), papers.node(), limits, count, identify(), hand)
            .expect("starts");
        running.serve();
        Self { papers, address, counters, callers, running: Some(running) }
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("until it is ended")
    }

    pub(crate) fn end(&mut self) {
        self.running.take().expect("once").end();
    }

    /// A client's endpoint, to be called inside a runtime.
    pub(crate) fn client(&self, tls: rustls::ClientConfig) -> Endpoint {
        let any = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let mut endpoint = Endpoint::client(any.parse().expect("an address")).expect("binds");
        let tls = QuicClientConfig::try_from(tls).expect("suites for QUIC");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
        endpoint
    }

    pub(crate) async fn connect(&self) -> (Endpoint, Connection) {
        let endpoint = self.client(self.papers.client("client"));
        let connection =
            endpoint.connect(self.address, NODE).expect("a name").await.expect("connects");
        (endpoint, connection)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}

/// Runs a client; it hangs for no longer than the patience of the tests.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("in time") })
}

/// Sends `bytes` on a new stream, ends it, and gives what came back.
pub(crate) async fn exchange(connection: &Connection, bytes: Vec<u8>) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    let writing = async {
        send.write_all(&bytes).await.expect("is taken");
        send.finish().expect("open");
    };
    let (back, ()) = tokio::join!(recv.read_to_end(64 << 20), writing);
    back.expect("comes back")
}

/// Waits until something holds that must.
pub(crate) async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A serving thread that hands its streams out.
pub(crate) fn collect(to: Sender<UnixStream>) -> impl FnMut(UnixStream) -> bool + Send + 'static {
    move |stream| to.send(stream).is_ok()
}
