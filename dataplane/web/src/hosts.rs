//! Which names this server answers to. A page of a stranger can make its own name lead to a
//! loopback address and then read what is there as its own; it cannot make the browser say another
//! name.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest name of a host.
const NAME_MAX: usize = 253;

/// Names that are answered beside addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

/// True for what can be the name of a host.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !part.is_empty() && part.len() <= 63 && part.bytes().all(fits)
    };
    text.len() <= NAME_MAX && text.split('.').all(part)
}

impl Hosts {
    /// These names.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// True where a `Host` header says an address, `localhost` or a known name, each with or
    /// without a port.
    #[must_use]
    pub fn allow(&self, said: &str) -> bool {
        if let Some(rest) = said.strip_prefix('[') {
            let Some((address, port)) = rest.split_once(']') else { return false };
            let port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
            return port && address.parse::<Ipv6Addr>().is_ok();
        }
        let (host, port) = said.split_once(':').map_or((said, true), |(h, p)| (h, is_port(p)));
        let is = |name: &str| host.eq_ignore_ascii_case(name);
        let known =
            host.parse::<Ipv4Addr>().is_ok() || is("localhost") || self.0.iter().any(|it| is(it));
        port && known
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_localhost_and_given_names_are_answered_and_nothing_else() {
        let hosts = Hosts::new(vec!["node-1.example.org".to_owned()]);
        for said in [
            "127.0.0.1",
            "127.0.0.1:7180",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:7180",
            "localhost",
            "LOCALHOST:1",
            "Node-1.Example.org:7180",
        ] {
            assert!(hosts.allow(said), "{said}");
        }
        for said in [
            "",
            "evil.example",
            "evil.example:7180",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example:127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "127.0.0.1:+80",
            "[::1",
            "[::1]x",
            "[evil]",
            "::1",
            "0x7f.1",
            "localhost@evil.example",
            "node-1.example.org.",
        ] {
            assert!(!hosts.allow(said), "{said}");
        }
    }

    #[test]
    fn names_are_labels_with_dots_between() {
        for name in ["a", "node-1", "node-1.example.org", "a_b.c"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "a.", ".a", "a..b", "a b", "a:80", "ä", "http://a", "*"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name(&"a".repeat(64)) && !is_name(&"a.".repeat(127)));
    }

    proptest! {
        #[test]
        fn no_other_name_is_let_through(said in "[ -~]{0,24}") {
            let first = said.split(':').next().unwrap_or_default();
            let is_address = first.parse::<Ipv4Addr>().is_ok() || said.starts_with('[');
            if Hosts::default().allow(&said) {
                prop_assert!(is_address || first.eq_ignore_ascii_case("localhost"), "{said}");
            }
        }
    }
}
