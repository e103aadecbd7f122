//! Real nodes, real workers, real sockets: what operators and peers see.

mod rig;
mod serve;
