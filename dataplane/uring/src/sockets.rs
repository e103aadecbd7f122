//! Listening sockets, ready to be given to a driver.

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, ipproto, listen, socket_with,
    sockopt,
};
use std::{io, net::SocketAddr, os::fd::OwnedFd, path::Path, time::Duration};

/// Seconds without a word after which a peer is asked whether it still exists, seconds between two
/// questions, and questions without an answer after which the connection fails. Accepted sockets
/// inherit them.
const KEEPALIVE: (u64, u64, u32) = (60, 10, 6);

/// A listening TCP socket. Several shards can listen to one address: each makes its own socket, and
/// the kernel spreads the connections over them (SO_REUSEPORT). An IPv6 socket takes IPv6 only, so
/// that `[::]` and `0.0.0.0` can both be listened to.
///
/// # Errors
/// The OS's: address in use, not of this machine, not permitted.
pub fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    sockopt::set_socket_keepalive(&fd, true)?;
    sockopt::set_tcp_keepidle(&fd, Duration::from_secs(KEEPALIVE.0))?;
    sockopt::set_tcp_keepintvl(&fd, Duration::from_secs(KEEPALIVE.1))?;
    sockopt::set_tcp_keepcnt(&fd, KEEPALIVE.2)?;
    bind(&fd, &address)?;
    listen(&fd, backlog)?;
    Ok(fd)
}

/// A listening Unix socket. The path must not exist; who may connect is decided by the directory's
/// permissions. Shards share one such socket: give each a duplicate of the descriptor.
///
/// # Errors
/// The OS's: path in use, too long, not permitted.
pub fn listen_unix(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&fd, &SocketAddrUnix::new(path)?)?;
    listen(&fd, backlog)?;
    Ok(fd)
}
