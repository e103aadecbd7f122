//! CIRCUIT and FREEZE: orders about parts of the mesh.

use crate::{
    Kind,
    payload::{Seal, Text, mesh::Signature, payload},
};
use rkyv::{Archive, Serialize};

/// Opens, half-opens or closes a breaker (MESHMSG-17).
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct Circuit {
    /// For people.
    pub reason: Text,
    /// Of operators, or of the node above; empty for an order that nobody signed.
    pub signatures: Vec<Signature>,
    /// Time-ordered.
    pub message_id: [u8; 16],
    /// Hybrid logical clock.
    pub hlc: u64,
    /// Sector, for scope sector and cluster.
    pub sector: u16,
    /// Cluster, for scope cluster.
    pub cluster: u16,
    /// Code of [`crate::mesh::CircuitAction`].
    pub action: u8,
    /// Code of [`crate::mesh::Scope`].
    pub scope: u8,
    /// Zero.
    pub reserved: [u8; 10],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// Stops a part of the mesh where it stands (MESHMSG-18). Agents in it get the same frame; until it
/// is thawed, no message is sent to them.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct Freeze {
    /// Where agents keep their state; empty: where they are.
    pub preserve_state_to: Text,
    /// Of operators, or of the node above; empty for an order that nobody signed.
    pub signatures: Vec<Signature>,
    /// Time-ordered.
    pub message_id: [u8; 16],
    /// Hybrid logical clock.
    pub hlc: u64,
    /// Sector, for scope sector and cluster.
    pub sector: u16,
    /// Cluster, for scope cluster.
    pub cluster: u16,
    /// Code of [`crate::mesh::Scope`].
    pub scope: u8,
    /// Ends a freeze instead of beginning one.
    pub thaw: bool,
    /// Zero.
    pub reserved: [u8; 10],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

payload!(Circuit, ArchivedCircuit, Kind::Circuit, 2);
payload!(Freeze, ArchivedFreeze, Kind::Freeze, 2);
