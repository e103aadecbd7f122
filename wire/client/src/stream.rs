//! A connected socket of either family, with bounded waiting.

use crate::{
    Addr, ClientError, Security, Transport,
    carrier::{self, Fault},
};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
    sockopt::{self, Timeout},
};
use std::{
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    time::Duration,
};

/// A connected stream socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// The near end of a pair; the carrier's thread has the far end, and the secured connection.
    Carried(UnixStream, Fault),
}

impl Stream {
    /// Connects within `timeout`, and lets every later read and write wait at most `io_timeout`.
    pub(crate) fn connect(
        addr: &Addr,
        security: Option<&Security>,
        timeout: Duration,
        io_timeout: Option<Duration>,
    ) -> Result<(Self, Transport), ClientError> {
        let failed = |source| ClientError::Connect { addr: addr.clone(), source };
        let (stream, transport) = match addr {
            Addr::Tcp { host, port } => {
                (Self::Tcp(connect_tcp(host, *port, timeout).map_err(failed)?), Transport::Tcp)
            }
            Addr::Unix(path) => {
                (Self::Unix(connect_unix(path, timeout).map_err(failed)?), Transport::Unix)
            }
            Addr::Tls { .. } | Addr::Quic { .. } => {
                let carried = carrier::carry(addr, security, timeout)?;
                (Self::Carried(carried.socket, carried.fault), carried.transport)
            }
        };
        stream.set_timeouts(io_timeout).map_err(failed)?;
        Ok((stream, transport))
    }

    /// Lets every later read and write wait at most this long.
    pub(crate) fn set_timeouts(&self, timeout: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(self, Timeout::Recv, timeout)?;
        Ok(sockopt::set_socket_timeout(self, Timeout::Send, timeout)?)
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Carried(stream, fault) => Self::Carried(stream.try_clone()?, fault.clone()),
        })
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) | Self::Carried(stream, _) => stream.shutdown(how),
        }
    }

    /// Writes all bytes of `parts`, in order, with as few calls as the socket allows.
    pub(crate) fn write_parts(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = parts;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}

/// One address is connected to here; several race on the carrier's thread.
fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let stream = match addresses[..] {
        [only] => TcpStream::connect_timeout(&only, timeout.max(Duration::from_millis(1)))?,
        _ => carrier::dial(addresses, timeout)?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A full backlog makes `connect` wait; the send timeout bounds that wait.
fn connect_unix(path: &std::path::Path, timeout: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(UnixStream::from(socket)),
        Err(rustix::io::Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(fault) => Err(fault.into()),
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) | Self::Carried(stream, _) => stream.as_fd(),
        }
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => stream.into(),
            Stream::Unix(stream) | Stream::Carried(stream, _) => stream.into(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
            // The end of a pair says nothing about why.
            Self::Carried(stream, fault) => match (stream.read(into)?, fault.get()) {
                (0, Some(why)) => Err(io::Error::other(why.clone())),
                (bytes, _) => Ok(bytes),
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(from),
            Self::Unix(stream) | Self::Carried(stream, _) => stream.write(from),
        }
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(from),
            Self::Unix(stream) | Self::Carried(stream, _) => stream.write_vectored(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
