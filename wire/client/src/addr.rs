//! Where a node listens, as people write it.

use std::{fmt, path::PathBuf, str::FromStr};

/// An address of a node: how to reach it, and where.
///
/// Written as `127.0.0.1:7171`, `[::1]:7171`, `host:7171`, `tcp://host:7171`, `tls://host:7171`,
/// `quic://host:7171`, `/run/butterfly.sock` or `unix:///run/butterfly.sock`.
/// [`Display`](fmt::Display) writes a form that parses back to the same value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addr {
    /// TCP. The host is a name or a number, IPv6 without its brackets.
    Tcp {
        /// Name or number.
        host: String,
        /// Port, never 0.
        port: u16,
    },
    /// TLS 1.3 over TCP, with certificates on both sides.
    Tls {
        /// Name or number, as the node's certificate has it.
        host: String,
        /// Port, never 0.
        port: u16,
    },
    /// QUIC, with certificates on both sides; TLS over TCP at the same port where UDP gets no
    /// answer.
    Quic {
        /// Name or number, as the node's certificate has it.
        host: String,
        /// Port, never 0.
        port: u16,
    },
    /// A stream socket in the file system.
    Unix(PathBuf),
}

impl Addr {
    /// True for addresses that cannot be reached without certificates.
    #[must_use]
    pub const fn is_secured(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::Quic { .. })
    }
}

/// Why a text is not an address. The message says what was written and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddrError {
    text: String,
    why: &'static str,
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an address: {}; write 127.0.0.1:7171, [::1]:7171, host:7171, \
             tls://host:7171, quic://host:7171 or unix:///run/butterfly.sock",
            self.text, self.why
        )
    }
}

impl std::error::Error for AddrError {}

/// Longest path that fits a `sockaddr_un` with its final zero.
const UNIX_PATH_MAX: usize = 107;

impl FromStr for Addr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let parsed = match text.split_once("://") {
            Some(("tcp", rest)) => place(rest).map(|(host, port)| Self::Tcp { host, port }),
            Some(("tls", rest)) => place(rest).map(|(host, port)| Self::Tls { host, port }),
            Some(("quic", rest)) => place(rest).map(|(host, port)| Self::Quic { host, port }),
            Some(("unix", rest)) => unix(rest),
            Some(_) => Err("only tcp://, tls://, quic:// and unix:// are known"),
            None if text.starts_with('/') => unix(text),
            None => place(text).map(|(host, port)| Self::Tcp { host, port }),
        };
        parsed.map_err(|why| AddrError { text: text.to_owned(), why })
    }
}

fn unix(path: &str) -> Result<Addr, &'static str> {
    if !path.starts_with('/') {
        return Err("a Unix socket needs an absolute path, so three slashes: unix:///path");
    }
    if path.len() < 2 || path.ends_with('/') {
        return Err("the path names no file");
    }
    if path.len() > UNIX_PATH_MAX {
        return Err("the path is longer than the 107 bytes that a Unix socket can have");
    }
    if path.contains('\0') {
        return Err("the path contains a zero byte");
    }
    Ok(Addr::Unix(PathBuf::from(path)))
}

/// Host and port.
fn place(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or("the bracket `[` is not closed")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("there is no IPv6 address between the brackets");
        }
        (host, tail.strip_prefix(':').ok_or("the port is missing behind `]`")?)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
        if host.contains(':') {
            return Err("an IPv6 address needs brackets");
        }
        (host, port)
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '\0')) {
        return Err("the host has a character that no host name has");
    }
    // Digits only: `parse` would also take a plus sign.
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the port is not a number");
    }
    match port.parse::<u16>() {
        Ok(0) => Err("port 0 cannot be connected to"),
        Ok(port) => Ok((host.to_owned(), port)),
        Err(_) => Err("the port is over 65535"),
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Tcp { host, port } => ("", host, port),
            Self::Tls { host, port } => ("tls://", host, port),
            Self::Quic { host, port } => ("quic://", host, port),
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
        };
        if host.contains(':') {
            write!(f, "{scheme}[{host}]:{port}")
        } else {
            write!(f, "{scheme}{host}:{port}")
        }
    }
}

impl From<std::net::SocketAddr> for Addr {
    fn from(address: std::net::SocketAddr) -> Self {
        Self::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp_addr(host: &str, port: u16) -> Addr {
        Addr::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_written_form_is_understood() {
        let cases = [
            ("127.0.0.1:7171", tcp_addr("127.0.0.1", 7171)),
            ("[::1]:7171", tcp_addr("::1", 7171)),
            ("node-3.local:1", tcp_addr("node-3.local", 1)),
            ("tcp://[fe80::1]:65535", tcp_addr("fe80::1", 65535)),
            ("tcp://localhost:80", tcp_addr("localhost", 80)),
            ("tls://node:7171", Addr::Tls { host: "node".to_owned(), port: 7171 }),
            ("quic://[::1]:7171", Addr::Quic { host: "::1".to_owned(), port: 7171 }),
            ("/run/b.sock", Addr::Unix("/run/b.sock".into())),
            ("unix:///run/b.sock", Addr::Unix("/run/b.sock".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Addr>(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_named() {
        let cases = [
            ("", "port is missing"),
            ("localhost", "port is missing"),
            (":7171", "host is missing"),
            ("::1:7171", "needs brackets"),
            ("[::1]", "port is missing"),
            ("[::1:7171", "not closed"),
            ("[localhost]:7171", "no IPv6"),
            ("host:0", "port 0"),
            ("host:65536", "over 65535"),
            ("host:+80", "not a number"),
            ("host:", "not a number"),
            ("a b:1", "character"),
            ("http://host:80", "only tcp://"),
            ("unix://relative", "three slashes"),
            ("unix:///", "names no file"),
        ];
        for (text, part) in cases {
            let message = text.parse::<Addr>().expect_err(text).to_string();
            assert!(message.contains(part) && message.contains(text), "{text}: {message}");
        }
        let long = format!("/{}", "x".repeat(UNIX_PATH_MAX));
        assert!(long.parse::<Addr>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_displays_and_parses_again(
            scheme in prop::sample::select(vec!["", "tcp://", "tls://", "quic://", "unix://"]),
            text in "\\PC{0,40}|[a-z]{1,9}:[1-9]{1,4}",
        ) {
            let text = format!("{scheme}{text}");
            if let Ok(addr) = text.parse::<Addr>() {
                prop_assert_eq!(addr.to_string().parse::<Addr>(), Ok(addr));
            }
        }

        #[test]
        fn socket_addresses_survive(ip: std::net::IpAddr, port in 1u16..) {
            let addr = Addr::from(std::net::SocketAddr::new(ip, port));
            prop_assert_eq!(addr.to_string().parse::<Addr>(), Ok(addr));
        }
    }
}
