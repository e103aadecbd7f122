//! The command line of `why`.

use clap::{ArgGroup, Args, builder::RangedI64ValueParser};
use std::{fmt, str::FromStr};

pub(super) const HELP: &str = "\
Examples:
  butterfly why --last 10                      # requests that have just ended
  butterfly why --refused 10                   # and those that were refused
  butterfly why --slowest 5
  butterfly why 17@0.3                         # request 17 on connection 3 of shard 0
  butterfly why 17                             # the last request 17, on whichever connection
  butterfly why 0x2a --sender ann --json
  butterfly why 00112233-4455-6677-8899-aabbccddeeff   # all tries of a query id

A node remembers the last requests of each shard (serve --trace-records); those that were refused,
repeated or slow are kept apart, for longer. An operator sees all, a client its own.

Exit codes: 0 shown, 1 no answer, or nothing is remembered of that";

/// Which request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// A message id, perhaps with its shard and connection.
    Message {
        /// The id.
        id: u64,
        /// Shard and connection.
        at: Option<(u16, u32)>,
    },
    /// A query id.
    Query([u8; 16]),
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let id = u128::from_str_radix(&digits, 16).map_err(|error| error.to_string())?;
            return Ok(Self::Query(id.to_be_bytes()));
        }
        let (id, at) = text.split_once('@').map_or((text, None), |(id, at)| (id, Some(at)));
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let place = |at: &str| {
            let (shard, connection) = at.split_once('.')?;
            Some((shard.parse().ok()?, connection.parse().ok()?))
        };
        let wrong = || {
            format!(
                "`{text}` is no request; write a message id as 17 or 0x11, with its place as \
                 17@0.3, or a query id of 32 hexadecimal digits"
            )
        };
        let id = number(id).ok_or_else(wrong)?;
        let at = at.map(|at| place(at).ok_or_else(wrong)).transpose()?;
        Ok(Self::Message { id, at })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { id, at: None } => write!(f, "{id}"),
            Self::Message { id, at: Some((shard, connection)) } => {
                write!(f, "{id}@{shard}.{connection}")
            }
            Self::Query(id) => write!(f, "{:032x}", u128::from_be_bytes(*id)),
        }
    }
}

/// As many as a node tells at a time.
fn few() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::from(wire::trace::TRACES_MAX))
}

/// Arguments of `why`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("which").required(true))]
pub(crate) struct WhyArgs {
    /// The request: its message id, that with @SHARD.CONNECTION, or its query id
    #[arg(value_name = "ID", group = "which")]
    pub(crate) id: Option<RequestId>,
    /// List the last N requests
    #[arg(long, value_name = "N", group = "which", value_parser = few())]
    pub(crate) last: Option<u16>,
    /// List the slowest N of those that are remembered
    #[arg(long, value_name = "N", group = "which", value_parser = few())]
    pub(crate) slowest: Option<u16>,
    /// List the last N that were refused
    #[arg(long, value_name = "N", group = "which", value_parser = few())]
    pub(crate) refused: Option<u16>,
    /// Only requests of the sender of this name; `local` is whoever proved none
    #[arg(long, value_name = "NAME")]
    pub(crate) sender: Option<String>,
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_printed() {
        let message = |id, at| RequestId::Message { id, at };
        for (text, id, printed) in [
            ("17", message(17, None), "17"),
            ("0xFF", message(255, None), "255"),
            ("17@0.3", message(17, Some((0, 3))), "17@0.3"),
            ("18446744073709551615@63.4294967295", message(u64::MAX, Some((63, u32::MAX))), ""),
        ] {
            assert_eq!(text.parse(), Ok(id), "{text}");
            let printed = if printed.is_empty() { text } else { printed };
            assert_eq!(id.to_string(), printed);
        }
        let uuid = "00112233-4455-6677-8899-AABBCCDDEEFF".parse::<RequestId>().expect("an id");
        assert_eq!(uuid.to_string(), "00112233445566778899aabbccddeeff");
        for text in ["", "x", "0x", "17@", "17@3", "17@3.", "-1", "17@0.3.4", "17@-1.2", "0xfg"] {
            assert!(text.parse::<RequestId>().is_err_and(|why| why.contains("17@0.3")), "{text}");
        }
    }
}
