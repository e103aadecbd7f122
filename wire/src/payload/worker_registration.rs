//! WORKER_REGISTRATION (WREG-01..05): a worker host announces itself.

use super::{Seal, Text, payload};
use crate::Kind;
use rkyv::{Archive, Serialize};

/// Who a worker is, what it can do, where it is and how busy.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct WorkerRegistration {
    /// UUID (version 4).
    pub worker_id: [u8; 16],
    /// For people.
    pub worker_name: Text,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// What it runs on.
    pub hardware: Hardware,
    /// Where it can be reached.
    pub network: Network,
    /// How busy it is.
    pub load: Load,
    /// Zero.
    pub reserved: [u8; 4],
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// One capability and how well it is mastered.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Capability {
    /// `logical_reasoning`, for example.
    pub name: Text,
    /// Results of benchmarks, by name.
    pub benchmark_scores: Vec<Score>,
    /// 0 to 1.
    pub confidence: f32,
}

/// One benchmark result.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Score {
    /// `arc_challenge`, for example.
    pub name: Text,
    /// 0 to 1.
    pub score: f32,
}

/// What a worker runs on.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Hardware {
    /// `cuda` or `cpu`.
    pub device_type: Text,
    /// Model name of the device.
    pub gpu_model: Text,
    /// `8.0`, for example; empty without a GPU.
    pub compute_capability: Text,
    /// Memory of the device in GB.
    pub memory_gb: f32,
}

/// Where a worker can be reached.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Network {
    /// `host:port`, or a path for Unix sockets.
    pub address: Text,
    /// `butterfly`, `grpc`, ...
    pub protocol: Text,
    /// `sha256:` and the hexadecimal digest, or empty.
    pub certificate_fingerprint: Text,
    /// Whether the address speaks TLS.
    pub tls_enabled: bool,
    /// Zero.
    pub reserved: [u8; 3],
}

/// How busy a worker is.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Load {
    /// Queries under way.
    pub current_queries: u32,
    /// Most queries at a time.
    pub max_concurrent: u32,
    /// Mean latency of late, milliseconds.
    pub avg_latency_ms: f32,
}

payload!(WorkerRegistration, ArchivedWorkerRegistration, Kind::WorkerRegistration, 1);
