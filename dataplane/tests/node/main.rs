//! Real nodes, real workers, real sockets: what operators and peers see.

mod bad_input;
mod codecs;
mod compress;
mod cuda;
mod demo;
mod mesh;
mod rig;
mod serve;
mod tls;
mod workers;
