//! Real nodes, real workers, real sockets: what operators and peers see.

mod bad_input;
mod codecs;
mod compress;
mod cuda;
mod demo;
mod handover;
mod health;
mod identities;
mod mesh;
mod python;
mod quic;
mod rig;
mod sandbox;
mod serve;
mod state;
mod supervised;
mod tls;
mod workers;
