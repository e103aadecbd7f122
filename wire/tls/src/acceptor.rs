//! What a listener has: the node's certificate, replaced while connections go on.

use crate::{Error, Fault, Files, Handshake, config::server_config};
use rustls::{ServerConfig, server::UnbufferedServerConnection};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// Records after which a key is replaced: half of what AES-GCM stands, with full records, before an
/// attacker's advantage passes 2^-60.
pub const RECORDS_PER_KEY: u64 = 1 << 23;

/// Starts handshakes. Copies are cheap and share what is reloaded.
#[derive(Clone)]
pub struct Acceptor(Arc<Shared>);

struct Shared {
    files: Files,
    config: RwLock<Arc<ServerConfig>>,
    records_per_key: u64,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// One for the party of these files.
    ///
    /// # Errors
    /// As [`server_config`].
    pub fn new(files: Files) -> Result<Self, Error> {
        Self::with_records_per_key(files, RECORDS_PER_KEY)
    }

    /// One that replaces keys sooner.
    ///
    /// # Errors
    /// As [`server_config`].
    pub fn with_records_per_key(files: Files, records: u64) -> Result<Self, Error> {
        let config = RwLock::new(server_config(&files)?);
        Ok(Self(Arc::new(Shared { files, config, records_per_key: records.max(1) })))
    }

    /// Reads the files again. Handshakes that begin from now on use what they hold; connections and
    /// handshakes under way are not touched.
    ///
    /// # Errors
    /// As [`server_config`]; then what was there stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let config = server_config(&self.0.files)?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.0.files
    }

    /// What handshakes use now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a handshake with a peer that has connected.
    ///
    /// # Errors
    /// The library's, which no peer can cause.
    pub fn handshake(&self) -> Result<Handshake, Fault> {
        let connection =
            UnbufferedServerConnection::new(self.config()).map_err(Fault::Handshake)?;
        Ok(Handshake::new(connection, self.0.records_per_key))
    }
}
