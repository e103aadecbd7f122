//! The listener: its bridge against a client of quinn-proto in virtual time (`world`), all of it
//! against quinn on real sockets (`rig`).

mod bounds;
mod early;
mod links;
mod peers;
mod rig;
mod streams;
mod support;
mod world;
