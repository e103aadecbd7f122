//! Who this client is, and whom it trusts: certificates for `tls://` and `quic://`.

use crate::{Addr, ClientError};
use rustls::ClientConfig;
use std::{fmt, sync::Arc};

/// The application protocol that is agreed on in the handshake of QUIC.
const ALPN: &[u8] = b"butterfly/1";

/// The certificate and key that a client shows, and the authority whose nodes it trusts. Cheap to
/// clone; connections of clones share their session tickets.
#[derive(Clone)]
pub struct Security {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) quic: quinn::ClientConfig,
}

impl Security {
    /// Takes a ready configuration of rustls, of TLS 1.3.
    ///
    /// # Errors
    /// [`ClientError::Security`] for one that QUIC cannot use.
    pub fn with_config(tls: Arc<ClientConfig>) -> Result<Self, ClientError> {
        let mut quic = ClientConfig::clone(&tls);
        quic.alpn_protocols = vec![ALPN.to_vec()];
        // What may go early is decided by message type, not here.
        quic.enable_early_data = true;
        let quic = quinn::crypto::rustls::QuicClientConfig::try_from(quic)
            .map_err(|fault| ClientError::security(format!("QUIC needs TLS 1.3: {fault}")))?;
        Ok(Self { tls, quic: quinn::ClientConfig::new(Arc::new(quic)) })
    }

    /// What an address needs, where it is there.
    pub(crate) fn of<'a>(security: Option<&'a Self>, addr: &Addr) -> Result<&'a Self, ClientError> {
        security.ok_or_else(|| {
            ClientError::security(format!("{addr} is reached with certificates only, and none are given"))
        })
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a key.
        f.write_str("Security")
    }
}
