//! One connected stream of bytes to a node, over whatever its address says.

use crate::{Addr, ClientError, Security, aio::dial, transport::Transport};
use rustls::pki_types::ServerName;
use std::{
    fmt, io,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long UDP may be silent before TCP is tried, where there is time for both.
pub(crate) const UDP_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) type Reading = Box<dyn AsyncRead + Send + Sync + Unpin>;
pub(crate) type Writing = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// A connected stream.
pub(crate) struct Link {
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
    pub(crate) transport: Transport,
    /// Where the peer is not confirmed yet: resolves to whether it took what was sent before.
    pub(crate) early: Option<quinn::ZeroRttAccepted>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// What may be done to get a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways<'a> {
    pub(crate) security: Option<&'a Security>,
    pub(crate) patience: Duration,
    /// `quic://` by UDP; else by TLS at once, because UDP was silent lately.
    pub(crate) udp: bool,
    /// A link whose peer is not confirmed yet is of use.
    pub(crate) early: bool,
}

impl Link {
    fn new(
        reading: impl AsyncRead + Send + Sync + Unpin + 'static,
        writing: impl AsyncWrite + Send + Sync + Unpin + 'static,
        transport: Transport,
    ) -> Self {
        Self { reading: Box::new(reading), writing: Box::new(writing), transport, early: None }
    }

    /// Connects, handshake included, within the patience.
    ///
    /// # Errors
    /// [`ClientError::Connect`]; [`ClientError::Security`] where certificates are needed and not
    /// there.
    pub(crate) async fn open(addr: &Addr, ways: Ways<'_>) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { addr: addr.clone(), source };
        let until = Instant::now() + ways.patience;
        match addr {
            Addr::Unix(path) => within(until, unix(path)).await.map_err(failed),
            Addr::Tcp { host, port } => within(until, tcp(host, *port)).await.map_err(failed),
            Addr::Tls { host, port } => {
                let security = Security::of(ways.security, addr)?;
                within(until, tls(host, *port, security, Transport::Tls)).await.map_err(failed)
            }
            Addr::Quic { host, port } => {
                let security = Security::of(ways.security, addr)?;
                if ways.udp {
                    let first = until.min(Instant::now() + ways.patience.div_f32(2.0));
                    let first = first.min(Instant::now() + UDP_PATIENCE);
                    match within(first, quic(host, *port, security, ways.early)).await {
                        Err(silent) if silent.kind() == io::ErrorKind::TimedOut => {}
                        done => return done.map_err(failed),
                    }
                }
                let tls = tls(host, *port, security, Transport::TlsForQuic);
                within(until, tls).await.map_err(failed)
            }
        }
    }
}

async fn within<T>(until: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let left = until.saturating_duration_since(Instant::now());
    timeout(left, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn unix(path: &std::path::Path) -> io::Result<Link> {
    let (reading, writing) = UnixStream::connect(path).await?.into_split();
    Ok(Link::new(reading, writing, Transport::Unix))
}

async fn tcp(host: &str, port: u16) -> io::Result<Link> {
    let (reading, writing) = dial::tcp(host, port).await?.into_split();
    Ok(Link::new(reading, writing, Transport::Tcp))
}

async fn tls(host: &str, port: u16, security: &Security, transport: Transport) -> io::Result<Link> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let socket = dial::tcp(host, port).await?;
    let stream = TlsConnector::from(security.tls.clone()).connect(name, socket).await?;
    let (reading, writing) = tokio::io::split(stream);
    Ok(Link::new(reading, writing, transport))
}

async fn quic(host: &str, port: u16, security: &Security, early: bool) -> io::Result<Link> {
    let (connection, accepted) = dial::quic(host, port, &security.quic, early).await?;
    let (writing, reading) = connection.open_bi().await.map_err(io::Error::other)?;
    Ok(Link { early: accepted, ..Link::new(reading, writing, Transport::Quic) })
}
