//! Certificates, handshakes and records, against rustls at the other end.

mod authority;
mod handshake;
mod hostile;
mod pair;
mod records;
mod rig;
