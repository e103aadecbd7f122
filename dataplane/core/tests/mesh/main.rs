//! A shard of a mesh, with a driver of a few lines and the mesh's end of the port in hand.

mod desk;
mod intake;
mod outcomes;
mod sends;
mod streams;
