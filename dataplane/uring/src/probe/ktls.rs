//! Whether the kernel would seal records itself. Nothing here uses it; people ask.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

/// Tries it on a connection to ourselves, which is closed at once: a name and a switch of the
/// kernel's would only promise it.
///
/// # Errors
/// The kernel's word where it cannot: `NotFound` where TLS was not built in.
pub fn kernel_tls() -> io::Result<()> {
    const NAME: &[u8; 4] = b"tls\0";
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let (fd, name, len) = (socket.as_raw_fd(), NAME.as_ptr().cast(), NAME.len() as u32 - 1);
    // SAFETY: the call reads `len` bytes of a constant, on a socket that lives across it.
    let result = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_ULP, name, len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
