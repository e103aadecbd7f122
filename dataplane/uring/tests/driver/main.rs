//! The driver over the real kernel: loopback TCP of both families, Unix sockets, shared memory and
//! doorbells. Nothing is faked, nothing sleeps.

mod chaos;
mod closing;
mod connections;
mod idle;
mod lanes;
mod mesh;
mod probe;
mod relay;
mod rig;
mod shard;
mod steady;
mod tls_links;
mod workers;
