//! METRICS_UPDATE (METR-01..08): the named figures of the network, and any counter beside them.

use super::{Seal, Text, payload};
use crate::Kind;
use rkyv::{Archive, Serialize};

/// A snapshot of a node's figures.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(attr(repr(align(16))), derive(Debug))]
pub struct MetricsUpdate {
    /// When it was taken, nanoseconds since the Unix epoch.
    pub taken_ns: u64,
    /// Median latency of queries, milliseconds.
    pub query_latency_p50: f64,
    /// 95th percentile.
    pub query_latency_p95: f64,
    /// 99th percentile.
    pub query_latency_p99: f64,
    /// Queries answered per second.
    pub queries_per_second: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Bytes sent per second.
    pub bytes_sent_per_second: f64,
    /// Bytes received per second.
    pub bytes_received_per_second: f64,
    /// 0 to 1.
    pub packet_loss_rate: f64,
    /// 0 to 1: queries that failed.
    pub error_rate: f64,
    /// 0 to 1: queries whose deadline passed.
    pub timeout_rate: f64,
    /// Mean rounds until consensus.
    pub consensus_rounds_avg: f64,
    /// Mean duration of a debate, milliseconds.
    pub debate_duration_avg: f64,
    /// Faulty answers found.
    pub byzantine_detections: u64,
    /// Workers that answer.
    pub active_workers: u32,
    /// Zero.
    pub reserved: u32,
    /// How busy each worker is.
    pub worker_utilization: Vec<Utilization>,
    /// Everything else that is counted.
    pub counters: Vec<Counter>,
    /// Filled in when the payload is encoded.
    pub seal: Seal,
}

/// How busy one worker is.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Utilization {
    /// Its share of time at work, 0 to 1.
    pub share: f64,
    /// Its id.
    pub worker_id: Text,
}

/// One counter or gauge.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Counter {
    /// The value's 64 bits.
    pub bits: u64,
    /// What is counted, in snake case with its unit last.
    pub name: Text,
    /// Comma-separated `key="value"` pairs, or empty.
    pub labels: Text,
    /// 0: `bits` is a u64. 1: `bits` is a binary64.
    pub form: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// A counter's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Count(u64),
    /// A measured quantity.
    Real(f64),
}

const FORM_COUNT: u8 = 0;
const FORM_REAL: u8 = 1;

impl Counter {
    /// A count.
    #[must_use]
    pub const fn count(name: Text, labels: Text, value: u64) -> Self {
        Self { bits: value, name, labels, form: FORM_COUNT, reserved: [0; 7] }
    }

    /// A measured quantity.
    #[must_use]
    pub const fn real(name: Text, labels: Text, value: f64) -> Self {
        Self { bits: value.to_bits(), name, labels, form: FORM_REAL, reserved: [0; 7] }
    }
}

impl ArchivedCounter {
    /// The value, or `None` for a form of a later schema.
    #[must_use]
    pub const fn value(&self) -> Option<Number> {
        match self.form {
            FORM_COUNT => Some(Number::Count(self.bits.to_native())),
            FORM_REAL => Some(Number::Real(f64::from_bits(self.bits.to_native()))),
            _ => None,
        }
    }
}

payload!(MetricsUpdate, ArchivedMetricsUpdate, Kind::MetricsUpdate, 1);
