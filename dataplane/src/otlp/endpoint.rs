//! Where a collector listens.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;
/// Where traces go, below the collector's address.
const PATH: &str = "/v1/traces";

/// A collector that takes OTLP over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an address; IPv6 in brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// Path of the traces.
    pub(super) path: String,
}

impl Endpoint {
    /// `HOST:PORT`, for a socket and for the header.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(
                "write http://HOST:PORT; one elsewhere is best reached through one on this host"
                    .to_owned(),
            );
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // Whatever stands in a request line or a header must not end it.
        let clean = |text: &str, also: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        };
        let bracketed = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[bracketed..].rfind(':') {
            Some(at) => {
                let (host, port) = authority.split_at(bracketed + at);
                let port = port[1..].parse().ok().filter(|port| *port != 0);
                (host, port.ok_or("its port is no number from 1 to 65535")?)
            }
            None => (authority, PORT),
        };
        let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_host = match inside {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && clean(host, b".-_"),
        };
        if !is_host {
            return Err("write a host, as http://127.0.0.1:4318".to_owned());
        }
        if !clean(path, b"/.-_~%") {
            return Err(
                "its path has characters that no path has; leave out `?` and `#`".to_owned()
            );
        }
        let path = format!("{}{PATH}", path.trim_end_matches('/'));
        Ok(Self { host: host.to_owned(), port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_named_by_address() {
        for (text, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector", "http://collector:4318/v1/traces"),
            ("http://[::1]:99/", "http://[::1]:99/v1/traces"),
            ("http://[::1]", "http://[::1]:4318/v1/traces"),
            ("http://otel.example/base/", "http://otel.example:4318/base/v1/traces"),
        ] {
            let read = text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref(), Ok(expected));
        }
        for text in [
            "",
            "127.0.0.1:4318",
            "https://collector:4318",
            "http://",
            "http://:4318",
            "http://x:0",
            "http://x:99999",
            "http://user@x",
            "http://::1:4318",
            "http://[::1]x",
            "http://[evil]",
            "http://x/?a=b",
            "http://x/ HTTP/1.1\r\nA: b",
            "http://x\r\n",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }
}
