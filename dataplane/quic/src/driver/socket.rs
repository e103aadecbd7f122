//! The UDP socket of a listener.

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// What is asked of the OS for bursts; it gives what it may.
const BUFFER: usize = 4 << 20;

/// A UDP socket at this address, for no one else. An IPv6 socket takes IPv6 only, so that `[::]`
/// and `0.0.0.0` can both be listened to.
///
/// # Errors
/// The OS's: address in use, not of this machine, not permitted.
pub fn bind_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &address)?;
    Ok(fd)
}

/// Sets a bound socket up: arrivals say where they were sent to and how congested the way was, runs
/// of datagrams come joined, nothing is fragmented. True where it cuts a long send into datagrams
/// (GSO).
///
/// # Errors
/// The OS's, for what cannot be done without.
pub(super) fn prepare(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let address = SocketAddr::try_from(rustix::net::getsockname(fd)?)?;
    if address.is_ipv4() {
        set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    } else {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
    }
    // Smaller buffers lose more of a burst; single datagrams cost more calls. Both work.
    let _ = sockopt::set_socket_recv_buffer_size(fd, BUFFER);
    let _ = sockopt::set_socket_send_buffer_size(fd, BUFFER);
    let _ = set(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    // Setting the length to "none" is refused only where it is not known.
    Ok(set(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok())
}

fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option's value is an `i32` that lives across the call, and `len` is its length.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
