//! A thread that carries secured connections for the blocking face, and its pools.
//!
//! A blocking connection is used by two threads at once, one that writes and one that waits in a
//! read. TLS and QUIC have one state for both directions, so neither thread may hold it while it
//! waits. Here one thread holds it, and the two have a socket pair to the thread: one more copy in
//! each direction, and plain sockets with time-outs and half-closing on the near side.

use crate::{
    Addr, ClientError, Security, Transport,
    aio::{
        dial,
        link::{Link, Reading, Ways, Writing},
    },
};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, BufReader, copy_buf},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    runtime::{Builder, Handle},
};

/// Bytes that wait between a connection and its pair, in each direction: a record of TLS.
const BETWEEN: usize = 16 * 1024;

/// Why a carried connection ended, where it did not end well.
pub(crate) type Fault = Arc<OnceLock<String>>;

/// The near end of a carried connection.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) socket: UnixStream,
    pub(crate) fault: Fault,
    pub(crate) transport: Transport,
}

/// The thread, started when it is first needed; one for the whole process.
pub(crate) fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);
    let mut started = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*started {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("butterfly-carry".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    *started = Some(handle.clone());
    Ok(handle)
}

/// Does this work on the thread and waits for it.
fn wait_for<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (tell, told) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Nobody waits any more only where the process ends.
        let _ = tell.send(work.await);
    });
    told.recv().map_err(io::Error::other)
}

/// Connects to whichever address answers first.
pub(crate) fn dial(addresses: Vec<SocketAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let work = async move {
        let race = dial::race(addresses, tokio::net::TcpStream::connect);
        let won = tokio::time::timeout(timeout, race).await;
        won.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?.into_std()
    };
    let stream = wait_for(work)??;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Connects to a secured address, handshake included, and carries it from then on.
pub(crate) fn carry(
    addr: &Addr,
    security: Option<&Security>,
    timeout: Duration,
) -> Result<Carried, ClientError> {
    let failed = |source| ClientError::Connect { addr: addr.clone(), source };
    let (near, far) = UnixStream::pair().map_err(failed)?;
    far.set_nonblocking(true).map_err(failed)?;
    let fault = Fault::default();
    let (to, security, told) = (addr.clone(), security.cloned(), Arc::clone(&fault));
    let work = async move {
        let security = security.as_ref();
        let ways = Ways { security, patience: timeout, udp: true, early: false };
        let Link { reading, writing, transport, .. } = Link::open(&to, ways).await?;
        let far = tokio::net::UnixStream::from_std(far)
            .map_err(|source| ClientError::Connect { addr: to, source })?;
        let (from_near, to_near) = far.into_split();
        tokio::spawn(outward(from_near, writing, Arc::clone(&told)));
        tokio::spawn(inward(reading, to_near, told));
        Ok(transport)
    };
    let transport = wait_for(work).map_err(failed)??;
    Ok(Carried { socket: near, fault, transport })
}

/// What the near side writes, until it ends; then the node hears the end.
async fn outward(near: OwnedReadHalf, mut far: Writing, fault: Fault) {
    let done = async {
        copy_buf(&mut BufReader::with_capacity(BETWEEN, near), &mut far).await?;
        far.shutdown().await
    };
    note(done.await, &fault);
}

/// What the node writes, until it ends; then the near side reads the end, or why.
async fn inward(far: Reading, mut near: OwnedWriteHalf, fault: Fault) {
    let done = copy_buf(&mut BufReader::with_capacity(BETWEEN, far), &mut near).await;
    note(done.map(drop), &fault);
    // Dropping the half ends the near side's reading.
}

fn note(done: io::Result<()>, fault: &Fault) {
    // A near side that is gone is no fault of the connection.
    if let Err(why) = done.or_else(|why| match why.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(why),
    }) {
        let _ = fault.set(why.to_string());
    }
}
