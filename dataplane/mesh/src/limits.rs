//! Every bound of the mesh that the format leaves to a node, with its reason; those that are part
//! of the format are in [`wire::mesh`]. What a peer sends never makes anything longer than they
//! say.

use crate::{SECOND, Time};

// Shape of the tree (HIER-01, HIER-02).

/// Agents of one cluster (HIER-01): few enough that a lead knows each.
pub const CLUSTER_AGENTS: usize = 30;
/// Clusters of one sector (HIER-01).
pub const SECTOR_CLUSTERS: usize = 10;
/// Agents of one sector.
pub const SECTOR_AGENTS: usize = SECTOR_CLUSTERS * CLUSTER_AGENTS;
/// Sectors of a fleet of the specified size (HIER-01). A larger capacity gets more sectors.
pub const SECTORS: usize = 100;
/// Agents of a fleet of the specified size: 100 x 10 x 30.
pub const FLEET_AGENTS: u32 = (SECTORS * SECTOR_AGENTS) as u32;
/// Agents a registry can be made for: sector numbers are 16 bits wide, and the simulator's
/// largest fleet has a tenth of it.
pub const REGISTRY_AGENTS: u32 = 10_000_000;

// What one agent may say of itself.

/// Different capabilities in one registry: kept as 16-bit ids, freed with their last agent.
pub const CAPABILITY_NAMES: usize = 4096;
/// The longest round trip believed: an hour. Longer reports count as this.
pub const LATENCY_MAX: Time = 3600 * SECOND;
/// The longest processing time believed: a week, since class F takes hours (CLASS-06).
pub const PROCESSING_MAX: Time = 7 * 24 * 3600 * SECOND;
/// The largest drift believed; it is a ratio, and above 0.5 is unstable already.
pub const DRIFT_MAX: f32 = 100.0;
/// Bytes a registry's row may take with all columns, indices and seats (IMPED-13).
pub const ROW_BYTES: usize = 256;

// Time table of heartbeats (PROF-02, Y-10, Y-11).

/// An agent's heartbeats (PROF-02).
pub const BEAT_EVERY: Time = 5 * SECOND;
/// Silence after which an agent is offline: six heartbeats missed (Y-10, FAIL-02).
pub const SILENT_AFTER: Time = 6 * BEAT_EVERY;
/// A heartbeat younger than this is fresh (SCHED-07).
pub const FRESH_FOR: Time = 10 * SECOND;
/// Cluster summaries (Y-11). The map is made out of them when somebody asks, a node's own are that
/// old at most, those of nodes below twice that (GMAP-01).
pub const SUMMARY_EVERY: Time = 5 * SECOND;
/// How long an agent stays without connection before a newcomer may take its place in a full
/// registry: long enough for a restart or a move.
pub const KEEP_GONE: Time = 300 * SECOND;

// Judgement.

/// The impedance score's upper end (IMPED-07).
pub const SCORE_MAX: f32 = 1000.0;
/// A score above this is degraded (CLUST-02).
pub const DEGRADED_SCORE: f32 = 800.0;
/// A drift above this is unstable (CLUST-02).
pub const UNSTABLE_DRIFT: f32 = 0.5;
/// A score above this many times its historical average is a spike (FAIL-03).
pub const SPIKE: f32 = 2.0;
/// Part of its processing time by which each pending operation delays an agent (SCHED-03).
pub const QUEUE_SHARE: f32 = 0.1;
/// A sector (or a fleet) with a larger part of its agents active is healthy (GMAP-03).
pub const HEALTHY_RATE: f32 = 0.95;
/// The default of the largest score that `find_best` takes (GMAP-04).
pub const BEST_SCORE: f32 = 500.0;
/// `find_best` looks for this many times what was asked for, as spares (GMAP-04).
pub const OVER_FETCH: usize = 2;
/// Agents that a half-open circuit lets through before it needs a new order.
pub const PROBES: u16 = 3;

// The status bar (BAR-01).

/// An agent is trusted where at least this share of its messages of the last hour was answered ...
pub const TRUSTED_RATE: f32 = 0.99;
/// ... of at least so many.
pub const TRUSTED_OUTCOMES: u32 = 20;

// Clusters by similar impedance (HIER-05, HIER-10).

/// Upper ends of the bands of the score that share clusters; the last band is open.
pub const BANDS: [f32; 8] = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, 800.0];
/// How long a score stays in another band before its agent moves: twelve heartbeats.
pub const MOVE_AFTER: Time = 12 * BEAT_EVERY;
/// Agents that one sweep may move, so that a change of the whole fleet does not stall a turn.
pub const MOVES_PER_SWEEP: u32 = 64;

// Orders (SEC-08).

/// Keys of operators, and of nodes above, that a node knows.
pub const OPERATORS_MAX: usize = 64;
/// Orders of one key in a minute: ten a second are a program's, more are somebody's mistake or
/// a stolen key's. The node above is not counted: it gives two for each gather.
pub const ORDERS_PER_MINUTE: u32 = 600;
/// How long an order waits for its second signature: long enough to walk to another desk.
pub const HELD_FOR: Time = 300 * SECOND;
/// Orders that may wait for it.
pub const HELD_MAX: usize = 16;

// Suspicion (SEC-05).

/// Impossible figures and false signatures of an agent, within the time below, that put it into
/// quarantine: a clock that jumps makes two or three.
pub const STRIKES: u32 = 8;
/// How long they count.
pub const STRIKES_WITHIN: Time = 60 * SECOND;
/// How long a quarantine lasts.
pub const QUARANTINE_FOR: Time = 600 * SECOND;

/// Agents of a cluster that must be in quarantine, besides being more than half of it, before the
/// rest follows (SEC-06).
pub const FALLEN_AGENTS: usize = 3;
/// Clusters of a sector that must have fallen so, besides being more than half of it (SEC-07).
pub const FALLEN_CLUSTERS: usize = 2;

// Timing that changes for many at once (SEC-10).

/// Answers of a sector to one gather that say something about it.
pub const SURGE_LEAST: u32 = 16;
/// How long a sector is held apart after it was last seen to change.
pub const SURGE_FOR: Time = 60 * SECOND;

// Profiles (PROF-01, PROF-04).

/// Samples of one ring (PROF-01).
pub const RING: usize = 100;
/// Buckets of the hourly success rate.
pub const HOUR_BUCKETS: usize = 12;
/// Width of one of them.
pub const BUCKET: Time = 300 * SECOND;

// Snapshots.

/// Bytes of the longest snapshot that is read: the largest fleet simulated, with room.
pub const SNAPSHOT_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_01_the_time_table_gives_the_rates() {
        let per_second = |count: usize, every: Time| count as u64 * SECOND / every;
        assert_eq!(per_second(FLEET_AGENTS as usize, BEAT_EVERY), 6000);
        assert_eq!(per_second(SECTORS * SECTOR_CLUSTERS, SUMMARY_EVERY), 200);
        assert_eq!(per_second(SECTORS, SUMMARY_EVERY), 20);
    }
}
