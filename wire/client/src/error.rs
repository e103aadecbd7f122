//! What can go wrong between a client and a node.

use crate::Addr;
use std::{fmt, io, time::Duration};
use wire::ErrorCode;

/// An ERROR_REPORT: the node's reason for not doing what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub code: ErrorCode,
    /// The node's words, possibly empty.
    pub message: String,
    /// When the node suggests to try again.
    pub retry_after: Option<Duration>,
    /// The message id of what was refused, by which `butterfly why` knows it; 0 where it is the
    /// connection as a whole.
    pub request: u64,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(after) = self.retry_after {
            write!(f, " (try again in {} ms)", after.as_millis())?;
        }
        if self.request != 0 {
            write!(f, " (request {})", self.request)?;
        }
        Ok(())
    }
}

/// Why an exchange with a node failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection came about.
    #[error("cannot connect to {addr}: {source}{}", connect_advice(.source))]
    Connect {
        /// Where to.
        addr: Addr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Reading or writing failed, or the node closed the connection
    /// ([`io::ErrorKind::UnexpectedEof`]).
    #[error("the connection failed while {doing}: {source}")]
    Io {
        /// What the client was doing.
        doing: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The node was silent for longer than the timeout. A later call goes on where this one
    /// stopped.
    #[error("no byte from the node for {} ms", .after.as_millis())]
    Timeout {
        /// The timeout that passed.
        after: Duration,
    },
    /// What came is not the protocol. The connection is of no more use.
    #[error("the node broke the protocol: {what}")]
    Protocol {
        /// Which rule it broke.
        what: String,
    },
    /// The node refused. The connection lives on unless [`ErrorCode::closes`].
    #[error("the node refused: {0}")]
    Refused(Refusal),
    /// The request cannot be expressed; nothing was sent.
    #[error("the request is not valid: {0}")]
    Request(ErrorCode),
    /// The certificates are missing, or of no use.
    #[error(
        "{what}; name them with --ca, --cert and --key or in BUTTERFLY_CA, BUTTERFLY_CERT and \
         BUTTERFLY_KEY; `butterfly ca issue --help` says how to make them"
    )]
    Security {
        /// What is wrong.
        what: String,
    },
    /// The time of the call is up. What it asked for was taken back.
    #[error("no answer within {} ms{}", .after.as_millis(), because(.last.as_deref()))]
    DeadlineExceeded {
        /// The time that it had.
        after: Duration,
        /// Why its last try failed, if one did.
        last: Option<Box<Self>>,
    },
    /// The caller took the call back.
    #[error("the call was cancelled")]
    Cancelled,
    /// Too many calls wait for a connection of this pool; nothing was sent.
    #[error(
        "{waiting} calls wait for a connection already; ask for less at a time, or allow the pool \
         more connections or more calls on each"
    )]
    Busy {
        /// How many wait, which is as many as may.
        waiting: usize,
    },
}

impl ClientError {
    /// The same, for another of several who hear of one failure.
    pub(crate) fn copy(&self) -> Self {
        let again = |source: &io::Error| io::Error::new(source.kind(), source.to_string());
        match self {
            Self::Connect { addr, source } => {
                Self::Connect { addr: addr.clone(), source: again(source) }
            }
            Self::Io { doing, source } => Self::Io { doing, source: again(source) },
            Self::Timeout { after } => Self::Timeout { after: *after },
            Self::Protocol { what } => Self::Protocol { what: what.clone() },
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
            Self::Request(code) => Self::Request(*code),
            Self::Security { what } => Self::Security { what: what.clone() },
            Self::DeadlineExceeded { after, last } => Self::DeadlineExceeded {
                after: *after,
                last: last.as_deref().map(|last| Box::new(last.copy())),
            },
            Self::Cancelled => Self::Cancelled,
            Self::Busy { waiting } => Self::Busy { waiting: *waiting },
        }
    }

    pub(crate) fn security(what: impl Into<String>) -> Self {
        Self::Security { what: what.into() }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }
}

fn because(last: Option<&ClientError>) -> String {
    last.map_or_else(String::new, |last| format!("; its last try: {last}"))
}

fn connect_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "; is the node running there? start one with `butterfly serve`"
        }
        io::ErrorKind::PermissionDenied => "; the socket file's permissions keep this user out",
        io::ErrorKind::TimedOut => "; the host does not answer, check the address and firewalls",
        _ => "",
    }
}
