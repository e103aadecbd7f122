//! Who this client is, and whom it trusts: certificates for `tls://` and `quic://`.

use crate::{Addr, ClientError};
use rustls::{ClientConfig, client::Resumption};
use std::{fmt, sync::Arc, time::Duration};
use tls::Files;

/// Nodes whose session tickets are kept for 0-RTT.
const TICKETS_MAX: usize = 64;
/// How often an idle QUIC connection says that it lives: the pool ends it, not its silence.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The certificate and key that a client shows, and the authority whose nodes it trusts. Cheap to
/// clone; connections of clones share their session tickets.
#[derive(Clone)]
pub struct Security {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) quic: quinn::ClientConfig,
}

impl Security {
    /// Reads the three PEM files.
    ///
    /// # Errors
    /// [`ClientError::Security`], naming the file and what is wrong with it.
    pub fn load(files: &Files) -> Result<Self, ClientError> {
        let tls =
            tls::client_config(files).map_err(|fault| ClientError::security(fault.to_string()))?;
        let mut quic = ClientConfig::clone(&tls);
        // What may go early is decided by message type: `aio::Pool`.
        quic.enable_early_data = true;
        quic.resumption = Resumption::in_memory_sessions(TICKETS_MAX);
        let quic = quinn::crypto::rustls::QuicClientConfig::try_from(quic)
            .map_err(|fault| ClientError::security(format!("QUIC needs TLS 1.3: {fault}")))?;
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        let mut quic = quinn::ClientConfig::new(Arc::new(quic));
        quic.transport_config(Arc::new(transport));
        Ok(Self { tls, quic })
    }

    /// What an address needs, where it is there.
    pub(crate) fn of<'a>(security: Option<&'a Self>, addr: &Addr) -> Result<&'a Self, ClientError> {
        security.ok_or_else(|| {
            ClientError::security(format!(
                "{addr} is reached with certificates only, and none are given"
            ))
        })
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a key.
        f.write_str("Security")
    }
}
