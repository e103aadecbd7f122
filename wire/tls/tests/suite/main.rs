//! Certificates, handshakes and records, against rustls at the other end.

mod authority;
mod handshake;
mod rig;
