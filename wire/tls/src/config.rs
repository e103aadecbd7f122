//! What both ends of a link agree to: TLS 1.3, both sides proven by certificates of one authority,
//! nothing resumed, nothing early.

use crate::{
    Error, Files, peer_identity,
    verify::{Clients, Servers},
};
use rustls::{
    ClientConfig, ServerConfig, client::Resumption, crypto::CryptoProvider,
    server::NoServerSessionStorage, version::TLS13,
};
use std::sync::{Arc, LazyLock};

/// The protocol's name inside the handshake.
pub const ALPN: &[u8] = b"butterfly/1";

/// The one provider of cryptography: ring, with AES-128-GCM before the others because it is the
/// fastest where the CPU has instructions for it, and not weaker where it matters. It is handed to
/// everything that needs one; there is no default of the process to be confused by.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut ring = rustls::crypto::ring::default_provider();
        let preferred = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
        ring.cipher_suites.sort_by_key(|suite| suite.suite() != preferred);
        Arc::new(ring)
    });
    Arc::clone(&PROVIDER)
}

/// How a party connects: it proves who it is, and takes only a node that the same authority vouches
/// for, under the address's DNS name or IP address or under the node's own name.
///
/// # Errors
/// A file that cannot be read, or a certificate that does not go with its key, names no identity,
/// or is not to be used.
pub fn client_config(files: &Files) -> Result<Arc<ClientConfig>, Error> {
    let loaded = files.load()?;
    peer_identity(&loaded.chain)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers::new(loaded.roots)))
        .with_client_auth_cert(loaded.chain, loaded.key)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// How a node is connected to: it proves who it is, and takes only peers that the same authority
/// vouches for and whose certificate names an identity with a role.
///
/// # Errors
/// As [`client_config`].
pub fn server_config(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let loaded = files.load()?;
    peer_identity(&loaded.chain)?;
    let clients = Clients::new(loaded.roots)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_single_cert(loaded.chain, loaded.key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // The record layer of a shard takes the keys over after the handshake.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}
