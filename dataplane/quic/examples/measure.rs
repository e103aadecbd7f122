//! What a stream costs: a listener whose streams are echoed, and a client of quinn, over loopback.
//! Prints bytes per second, round trips, and how often each byte was copied.
//!
//! `cargo run --release -p dataplane-quic --example measure -- [SECONDS]`

use dataplane_core::driver::Caller;
use dataplane_quic::{Counters, Limits, Running, bind_udp};
use quinn::{Connecting, Connection, Endpoint, crypto::rustls::QuicClientConfig};
use std::{
    error::Error,
    io::{Read, Write},
    net::UdpSocket,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};
use tls::ca::{Authority, LIFE, Request};
use wire::{Role, Roles};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Streams side by side.
const STREAMS: usize = 4;

fn echo(mut stream: UnixStream) {
    let mut bytes = vec![0; 256 << 10];
    while let Ok(count) = stream.read(&mut bytes)
        && count > 0
        && stream.write_all(&bytes[..count]).is_ok()
    {}
}

fn start(folder: &Path, counters: &Arc<Counters>) -> Outcome<(Running, Endpoint, Connecting)> {
    let authority = Authority::create(folder, "measure", SystemTime::now(), true)?;
    let issue = |name, role| -> Outcome<tls::Files> {
        let identity = tls::Identity::new(name, Roles::of(role))?;
        let request = Request { identity, hosts: Vec::new(), life: LIFE };
        Ok(authority.issue(&request, SystemTime::now(), true)?)
    };
    let node = tls::server_config(&issue("node", Role::Node)?)?;
    let client = tls::client_config(&issue("client", Role::Client)?)?;
    let socket = UdpSocket::from(bind_udp("127.0.0.1:0".parse()?)?);
    let address = socket.local_addr()?;
    let identify =
        Box::new(|identity: &tls::Identity| Some(Caller { identity: 1, roles: identity.roles() }));
    let hand = Box::new(|fd, _| {
        thread::spawn(|| echo(UnixStream::from(fd)));
        true
    });
    let limits = Limits::default();
    let running =
        Running::start(socket.into(), node, limits, Arc::clone(counters), identify, hand)?;
    running.serve();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    endpoint.set_default_client_config(client);
    let connecting = endpoint.connect(address, "node")?;
    Ok((running, endpoint, connecting))
}

/// Bytes echoed on one stream until `end`.
async fn stream(connection: Connection, end: Instant) -> Outcome<u64> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let piece = vec![7; 1 << 20];
    let write = async {
        while Instant::now() < end {
            send.write_all(&piece).await?;
        }
        send.finish()?;
        Outcome::Ok(())
    };
    let read = async {
        let mut count = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
            count += chunk.bytes.len() as u64;
        }
        Outcome::Ok(count)
    };
    let (written, count) = tokio::join!(write, read);
    written?;
    count
}

/// Round trips of 64 bytes until `end`, in order of their length.
async fn round_trips(connection: &Connection, end: Instant) -> Outcome<Vec<Duration>> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let mut times = Vec::new();
    let mut back = [0; 64];
    while Instant::now() < end {
        let start = Instant::now();
        send.write_all(&[7; 64]).await?;
        recv.read_exact(&mut back).await?;
        times.push(start.elapsed());
    }
    send.finish()?;
    times.sort_unstable();
    Ok(times)
}

fn main() -> Outcome<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(3.0), |text| text.parse())?;
    let span = Duration::from_secs_f64(seconds);
    let folder = std::env::temp_dir().join(format!("butterfly-measure-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counters = Arc::new(Counters::default());
    let (_running, _endpoint, connecting) = {
        let _enter = runtime.enter();
        start(&folder, &counters)?
    };
    std::fs::remove_dir_all(&folder)?;
    runtime.block_on(async {
        let connection = connecting.await?;
        let times = round_trips(&connection, Instant::now() + span).await?;
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("round trip of 64 bytes: p50 {:?}, p99 {:?}", at(0.5), at(0.99));
        let (before, start) = (copies(&counters), Instant::now());
        let tasks: Vec<_> =
            (0..STREAMS).map(|_| tokio::spawn(stream(connection.clone(), start + span))).collect();
        let mut bytes = 0;
        for task in tasks {
            bytes += task.await??;
        }
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{STREAMS} streams echoed: {rate:.0} MB/s each way");
        for ((stage, before), (_, after)) in before.into_iter().zip(copies(&counters)) {
            println!("copied {stage}: {:.2} per byte", (after - before) as f64 / bytes as f64);
        }
        println!(
            "datagrams: {} in, {} out",
            counters.datagrams_in.get(),
            counters.datagrams_out.get()
        );
        println!("calls of the kernel: {}", counters.calls.get());
        Ok(())
    })
}

fn copies(counters: &Counters) -> [(&'static str, u64); 4] {
    [
        ("into a datagram of its own", counters.copied_datagrams.get()),
        ("to the shard's socket", counters.copied_to_shard.get()),
        ("from the shard's socket", counters.copied_from_shard.get()),
        ("into what waits to be sent", counters.copied_to_send.get()),
    ]
}
