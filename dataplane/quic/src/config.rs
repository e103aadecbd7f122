//! From the node's TLS configuration and the limits to the configuration of the QUIC machine.

use crate::{limits::Limits, tickets::Tickets};
use quinn_proto::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use std::sync::Arc;

/// The configuration of a server that asks each peer for its certificate as `tls` says. What `tls`
/// says of resumption and early data is replaced: sessions are kept here, each for one use, and
/// early data is taken (and gated, see `gate`).
///
/// # Errors
/// Where `tls` has no cipher suite that QUIC can start with.
pub(crate) fn server(
    tls: &rustls::ServerConfig,
    limits: &Limits,
) -> Result<Arc<ServerConfig>, NoInitialCipherSuite> {
    let mut tls = tls.clone();
    tls.session_storage = Arc::new(Tickets::new(limits.tickets, limits.ticket_life));
    tls.send_tls13_tickets = 2;
    // QUIC knows only all or nothing; what is sent early is bounded by the windows.
    tls.max_early_data_size = u32::MAX;
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(Arc::new(transport(limits)));
    server.max_incoming(limits.handshakes as usize);
    Ok(Arc::new(server))
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(limits.idle).unwrap_or_else(|_| VarInt::MAX.into());
    transport
        .max_concurrent_bidi_streams(limits.streams.into())
        .max_concurrent_uni_streams(0_u32.into())
        .stream_receive_window(limits.stream_window.into())
        .receive_window(limits.connection_window.into())
        .send_window(limits.send_window.into())
        .max_idle_timeout(Some(idle))
        .datagram_receive_buffer_size(None);
    transport
}

/// Connection ids and reset tokens are made from secrets of this process: after a restart a peer
/// learns by its idle time-out.
pub(crate) fn endpoint() -> Arc<EndpointConfig> {
    Arc::new(EndpointConfig::default())
}
