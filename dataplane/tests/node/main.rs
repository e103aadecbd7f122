//! Real nodes, real workers, real sockets: what operators and peers see.

mod bad_input;
mod codecs;
mod compress;
mod console;
mod cuda;
mod demo;
mod deploy;
mod handover;
mod health;
mod identities;
mod load;
mod mesh;
mod otlp;
#[path = "../../web/tests/server/promtool.rs"]
mod promtool;
mod python;
mod quic;
mod rig;
mod sandbox;
mod serve;
mod state;
mod supervised;
mod tls;
mod web;
mod why;
mod workers;
