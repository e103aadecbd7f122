//! What is wrong with a certificate, a key or a file, each with the way out.

use std::{io, path::PathBuf};

/// Why something of identities or certificates does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that certificates cannot carry.
    #[error("`{0}` is no name: write 1 to 64 of A-Z a-z 0-9 . _ -")]
    Name(String),
    /// No such role.
    #[error("`{0}` is no role: take client, worker-host, agent, node or operator")]
    Role(String),
    /// Nobody without a role may do anything.
    #[error("no role: name at least one of client, worker-host, agent, node, operator")]
    NoRole,
    /// A certificate without a `butterfly:` URI.
    #[error("the certificate names no identity: issue one with `butterfly ca issue`")]
    NoIdentity,
    /// A certificate with several.
    #[error("the certificate names more than one identity: issue one with `butterfly ca issue`")]
    TwoIdentities,
    /// A certificate that cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// A file that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The OS's word.
        source: io::Error,
    },
    /// A file without what it should hold.
    #[error("{}: {what}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is missing or wrong in it.
        what: String,
    },
    /// A file that is there already.
    #[error("{} exists already: take another folder or name, or replace it with --force",
            .0.display())]
    Exists(PathBuf),
    /// Hosts that a certificate cannot carry.
    #[error("{0}: write DNS names or IP addresses")]
    Hosts(String),
    /// Certificate and key do not belong together, or the library refuses them.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// Making a certificate failed.
    #[error("the certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn content(path: impl Into<PathBuf>, what: impl ToString) -> Self {
        Self::Content { path: path.into(), what: what.to_string() }
    }
}
