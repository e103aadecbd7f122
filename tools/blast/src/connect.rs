//! Sockets for a thread: connected one by one before the run, and anew while it lasts.

use crate::config::{BlastError, Config};
use client::{Addr, ClientError, Security};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs},
    os::fd::OwnedFd,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for one connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to replace a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    addr: Addr,
    security: Option<Security>,
    /// The node's address and the number of local addresses, where there are several.
    spread: Option<(SocketAddrV4, u32)>,
}

impl Connector {
    /// Resolves what needs resolving.
    ///
    /// # Errors
    /// [`BlastError::Usage`] for several sources to a node that is not at 127.x.x.x.
    pub(crate) fn new(config: &Config) -> Result<Self, BlastError> {
        Self::to(&config.addr, config.security.as_ref(), config.sources)
    }

    /// Connects to `addr` from so many local addresses.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub(crate) fn to(
        addr: &Addr,
        security: Option<&Security>,
        sources: u32,
    ) -> Result<Self, BlastError> {
        let (addr, security) = (addr.clone(), security.cloned());
        if sources == 1 {
            return Ok(Self { addr, security, spread: None });
        }
        let target = match &addr {
            Addr::Tcp { host, port } => (host.as_str(), *port)
                .to_socket_addrs()
                .ok()
                .and_then(|mut all| all.find(|address| address.ip().is_loopback())),
            Addr::Unix(_) | Addr::Tls { .. } | Addr::Quic { .. } => None,
        };
        match target {
            Some(SocketAddr::V4(target)) => {
                Ok(Self { addr, security, spread: Some((target, sources)) })
            }
            _ => Err(BlastError::usage(format!(
                "several local addresses need a node at 127.0.0.1 (plain TCP), not at {addr}: use \
                 fewer --sources, or fewer connections"
            ))),
        }
    }

    /// Connects the `index`-th socket of the run.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub(crate) fn connect(&self, index: usize) -> Result<OwnedFd, ClientError> {
        match self.spread {
            None => client::connect_socket(&self.addr, self.security.as_ref(), TIMEOUT),
            Some((target, sources)) => from_source(target, index as u32 % sources)
                .map_err(|source| ClientError::Connect { addr: self.addr.clone(), source }),
        }
    }
}

/// Connects from 127.0.0.(1 + source). Closing resets the connection, so that no port waits for
/// stray packets.
fn from_source(target: SocketAddrV4, source: u32) -> io::Result<OwnedFd> {
    let kind = SocketType::STREAM;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        kind,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(TIMEOUT))?;
    let local = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + source);
    // Port 0: the system picks one that is free at this source; every source has the whole range.
    rustix::net::bind(&socket, &SocketAddrV4::new(local, 0))?;
    rustix::net::connect(&socket, &target)?;
    Ok(socket)
}

/// Connects anew on a thread of its own, so that the load never waits for it.
#[derive(Debug)]
pub(crate) struct Reconnector {
    wanted: Sender<usize>,
    made: Receiver<(usize, Option<OwnedFd>)>,
}

impl Reconnector {
    /// Starts the thread. It tries each socket until `give_up`, and ends when this value is
    /// dropped.
    pub(crate) fn start(connector: Connector, give_up: Instant) -> io::Result<Self> {
        let (wanted, asked) = mpsc::channel::<usize>();
        let (ready, made) = mpsc::channel();
        thread::Builder::new().name("blast-reconnect".to_owned()).spawn(move || {
            for index in asked {
                let socket = loop {
                    match connector.connect(index) {
                        Ok(socket) => break Some(socket),
                        Err(_) if Instant::now() >= give_up => break None,
                        Err(_) => thread::sleep(PAUSE),
                    }
                };
                if ready.send((index, socket)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { wanted, made })
    }

    /// Asks for a socket for this place.
    pub(crate) fn want(&self, index: usize) {
        // The thread ends only after this value does.
        let _ = self.wanted.send(index);
    }

    /// A socket that was asked for, or the news that there will be none.
    pub(crate) fn made(&self) -> Option<(usize, Option<OwnedFd>)> {
        self.made.try_recv().ok()
    }
}
