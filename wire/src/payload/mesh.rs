//! Payloads of the mesh's messages (0x01xx).

mod agent;
mod control;
mod coordinate;
mod gather;
mod report;
mod signature;
mod tree;
mod view;

pub use agent::{
    AgentHeartbeat, AgentRecord, AgentRegistered, AgentRegistration, ArchivedAgentHeartbeat,
    ArchivedAgentRecord, ArchivedAgentRegistered, ArchivedAgentRegistration, ArchivedPlace, Place,
};
pub use control::{ArchivedCircuit, ArchivedFreeze, Circuit, Freeze};
pub use coordinate::{Ack, ArchivedAck, ArchivedCoordinate, Coordinate};
pub use gather::{ArchivedGather, Gather, PHASE_COMMIT, PHASE_PREPARE, PHASE_WHOLE};
pub use report::{
    ArchivedBin, ArchivedClassRow, ArchivedConflictRow, ArchivedCounts, ArchivedGatherReport,
    ArchivedPhaseRow, ArchivedSkipRow, Bin, ClassRow, ConflictRow, Counts, GatherReport, PhaseRow,
    SkipRow,
};
pub use signature::{ArchivedSignature, SIGNATURE_LEN, Signature};
pub use tree::{ArchivedMeshSummary, ArchivedNodeJoin, MeshSummary, NodeJoin};
pub use view::{
    AgentRow, ArchivedAgentRow, ArchivedClusterRow, ArchivedGatherRow, ArchivedGlobalRow,
    ArchivedMeshQuery, ArchivedMeshView, ArchivedSectorRow, ClusterRow, EVERY_SECTOR, GatherRow,
    GlobalRow, MeshQuery, MeshView, SectorRow,
};
