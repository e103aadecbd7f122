//! Every name under which a node shows something, what kind of series it is, and what it says in
//! one line. Whoever prints figures takes kind and words from here; dashboards are checked against
//! it.
//!
//! Names follow the conventions of Prometheus: base units last (seconds, bytes, a ratio of 0 to 1),
//! `_total` for what only grows.

/// What kind of series a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the node lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One name.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// As it is shown.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The keys of its labels, in any order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// The entry of a name, if it is one of ours. Of a histogram, also that of its three parts.
#[must_use]
pub fn find(name: &str) -> Option<&'static Name> {
    let exact = |name: &str| NAMES.iter().find(|known| known.name == name);
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| name.strip_suffix(part)).and_then(exact);
    exact(name).or_else(|| whole.filter(|whole| whole.kind == Kind::Histogram))
}

macro_rules! names {
    ($($name:literal $kind:ident [$($label:literal)*] $help:literal;)*) => {
        /// All of them, in alphabetical order.
        pub const NAMES: &[Name] = &[$(
            Name { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },
        )*];
    };
}

names! {
    "butterfly_asked_to_leave_total" Counter []
        "Peers that were asked to leave for the process that took over.";
    "butterfly_batched_requests_total" Counter [] "Requests in all closed batches.";
    "butterfly_batches_by_priority_total" Counter ["priority"] "Batches closed, by priority.";
    "butterfly_batches_total" Counter ["closed_by"] "Batches closed, by what closed them.";
    "butterfly_bytes_total" Counter ["direction"]
        "Bytes that sockets of clients received and sent.";
    "butterfly_byzantine_detections_total" Counter []
        "Faulty answers that a quorum found; stays 0 until there is a quorum.";
    "butterfly_cancels_total" Counter ["outcome"]
        "Requests that were to be taken back, by what became of that.";
    "butterfly_certificate_expiry_timestamp_seconds" Gauge []
        "When this node's certificate expires, seconds since the Unix epoch.";
    "butterfly_certificate_reload_failures_total" Counter []
        "Times that new certificates could not be taken up.";
    "butterfly_certificate_reloads_total" Counter [] "Times that new certificates were taken up.";
    "butterfly_connections_accepted_total" Counter [] "Connections accepted.";
    "butterfly_connections_closed_total" Counter ["cause"] "Connections that ended, by cause.";
    "butterfly_connections_open" Gauge [] "Connections open now.";
    "butterfly_consensus_rounds_avg" Gauge []
        "Mean rounds until consensus; stays 0 until there is a quorum.";
    "butterfly_copied_bytes_total" Counter ["stage"]
        "Payload bytes copied in user space, by where.";
    "butterfly_copies_total" Counter ["stage"] "Copies of payload bytes in user space, by where.";
    "butterfly_debate_duration_avg_seconds" Gauge []
        "Mean duration of a debate; stays 0 until there is a quorum.";
    "butterfly_driver_accept_faults_total" Counter []
        "Connections that the OS failed to hand over.";
    "butterfly_driver_completions_total" Counter [] "Completions taken from io_uring.";
    "butterfly_driver_doorbells_total" Counter [] "Times that workers rang a shard.";
    "butterfly_driver_enters_total" Counter [] "Calls of io_uring_enter.";
    "butterfly_driver_filled_bytes_total" Counter [] "Bytes received straight into slots.";
    "butterfly_driver_fills_total" Counter [] "Receives straight into slots.";
    "butterfly_driver_no_buffers_total" Counter [] "Receives that found no free buffer.";
    "butterfly_driver_receives_total" Counter [] "Receives into shared buffers.";
    "butterfly_driver_sends_total" Counter [] "Sends that ended.";
    "butterfly_driver_short_sends_total" Counter [] "Sends of which the OS took a part.";
    "butterfly_driver_sleeps_total" Counter [] "Times that a shard slept.";
    "butterfly_driver_submissions_total" Counter [] "Orders given to io_uring.";
    "butterfly_driver_syscalls_total" Counter [] "Calls of the kernel by shards.";
    "butterfly_driver_turned_away_total" Counter [] "Connections closed because no place was free.";
    "butterfly_driver_yields_total" Counter [] "Times that a spinning shard gave way to others.";
    "butterfly_expired_total" Counter ["place"]
        "Requests whose deadline passed, by where they were.";
    "butterfly_frames_total" Counter ["lane"] "Frames received, by lane.";
    "butterfly_gpu_memory_total_bytes" Gauge ["gpu"] "Memory that a GPU has.";
    "butterfly_gpu_memory_used_bytes" Gauge ["gpu"] "Memory of a GPU that is in use.";
    "butterfly_gpu_temperature_celsius" Gauge ["gpu"] "Temperature of a GPU.";
    "butterfly_gpu_utilization_ratio" Gauge ["gpu"] "Share of time that a GPU computed, 0 to 1.";
    "butterfly_health_canaries_total" Counter ["result"]
        "Canaries sent through workers, by what came of them; they are no requests of clients.";
    "butterfly_health_changes_total" Counter ["to"] "Times that a worker's health changed.";
    "butterfly_heartbeats_total" Counter [] "Heartbeats with a payload that were answered.";
    "butterfly_identities" Gauge [] "Names that the node knows now.";
    "butterfly_identities_refused_total" Counter [] "Peers refused because no name was free.";
    "butterfly_info" Gauge [] "Always 1; the labels say what the node is.";
    "butterfly_insecure" Gauge [] "1 where plaintext beyond this host was asked for.";
    "butterfly_lane_switches_total" Counter ["to"] "Connections that changed lanes.";
    "butterfly_link_faults_total" Counter [] "Things that workers said and that cannot be true.";
    "butterfly_mesh_agents" Gauge ["state"] "Agents that the registry knows, by state.";
    "butterfly_mesh_answers_total" Counter ["state"] "Answers of agents, by what they said.";
    "butterfly_mesh_beats_dropped_total" Counter []
        "Heartbeats that were answered but found no room on the way to the mesh.";
    "butterfly_mesh_cascade_p95_seconds" Gauge []
        "95th percentile of the duration of the last hundred gathers.";
    "butterfly_mesh_children" Gauge [] "Nodes below this one that are connected.";
    "butterfly_mesh_children_total" Counter ["event"]
        "Nodes below that joined, left or were refused.";
    "butterfly_mesh_closed_total" Counter [] "Connections closed by the mesh for what they sent.";
    "butterfly_mesh_copies_total" Counter ["result"]
        "Copies of messages to agents, by what became of them.";
    "butterfly_mesh_dropped_total" Counter []
        "Frames of the mesh whose connection was gone or took too little.";
    "butterfly_mesh_frames_total" Counter ["kind"] "Frames of the mesh taken in, by type.";
    "butterfly_mesh_full_total" Counter []
        "Times that a frame found no room on the way to the mesh.";
    "butterfly_mesh_gathers_begun_total" Counter [] "Gathers that were taken up.";
    "butterfly_mesh_gathers_running" Gauge [] "Gathers under way.";
    "butterfly_mesh_gathers_total" Counter ["decision"] "Gathers that ended, by decision.";
    "butterfly_mesh_heartbeats_total" Counter ["result"] "Heartbeats of agents, by what they were.";
    "butterfly_mesh_implausible_total" Counter ["what"]
        "Numbers of agents and nodes that cannot be, brought into range or ignored.";
    "butterfly_mesh_isolations_total" Counter []
        "Clusters and sectors whose other agents followed most of theirs into quarantine.";
    "butterfly_mesh_kpi_ratio" Gauge ["kpi"]
        "Shares of the last hour; an indicator without a case is left out.";
    "butterfly_mesh_lost_writes_total" Counter [] "Writes of kept state that were lost.";
    "butterfly_mesh_moves_total" Counter [] "Agents that moved to another cluster.";
    "butterfly_mesh_offline_total" Counter ["cause"] "Agents that went offline, by cause.";
    "butterfly_mesh_orders_total" Counter ["kind"] "Orders of operators that were carried out.";
    "butterfly_mesh_parent" Gauge [] "1 while the node above is connected.";
    "butterfly_mesh_parent_total" Counter ["event"]
        "Times that the node above was joined and lost.";
    "butterfly_mesh_quarantines_total" Counter ["event"] "Quarantines of agents, begun and ended.";
    "butterfly_mesh_ready_early_seconds" Histogram []
        "How long before the moment agents were READY that were in time.";
    "butterfly_mesh_ready_late_seconds" Histogram []
        "How long after the moment agents were READY that were late.";
    "butterfly_mesh_ready_total" Counter ["timing"]
        "READY answers of ended gathers, by whether they came in time.";
    "butterfly_mesh_refusals_total" Counter ["what"] "What the mesh refused, by what it was.";
    "butterfly_mesh_refusals_unsaid_total" Counter []
        "Refusals that were not sent because the connection had so many before.";
    "butterfly_mesh_registrations_total" Counter ["result"]
        "Registrations of agents, by what became of them.";
    "butterfly_mesh_sector_active" Gauge ["sector"] "Active agents of a sector.";
    "butterfly_mesh_sector_agents" Gauge ["sector"] "Agents of a sector.";
    "butterfly_mesh_sector_impedance_seconds" Gauge ["sector"]
        "Mean impedance score of a sector's agents.";
    "butterfly_mesh_sector_timing_held" Gauge ["sector"]
        "1 while a sector's timing teaches its own agents only, because it changed alone.";
    "butterfly_mesh_sent_total" Counter [] "Frames of the mesh sent at once.";
    "butterfly_mesh_signed_answers_total" Counter ["result"] "Signed answers of agents, by result.";
    "butterfly_mesh_signed_orders_total" Counter ["result"]
        "Orders that needed a signature, by result.";
    "butterfly_mesh_skips_total" Counter ["reason"]
        "Targets of gathers that got no message, by reason.";
    "butterfly_mesh_spiked_agents" Gauge [] "Agents whose impedance jumped of late.";
    "butterfly_mesh_standing_agents" Gauge ["standing"]
        "Agents by how they stand: ready, trusted, busy, unknown or offline.";
    "butterfly_mesh_state_failures_total" Counter [] "Writes of kept state that failed.";
    "butterfly_mesh_state_set_aside_total" Counter [] "Damaged files of kept state set aside.";
    "butterfly_mesh_state_works" Gauge [] "1 while kept state reaches the disk.";
    "butterfly_mesh_state_writes_total" Counter [] "Writes of kept state.";
    "butterfly_mesh_stray_volleys_total" Counter []
        "Reports of sends that nobody waited for any more.";
    "butterfly_mesh_summaries_total" Counter [] "Summaries taken from nodes below.";
    "butterfly_mesh_timing_surges_total" Counter []
        "Sectors whose timing changed alone and was held apart from then on.";
    "butterfly_mesh_views_total" Counter [] "Views given to consoles.";
    "butterfly_orphaned_replies_total" Counter [] "Answers whose connection was gone.";
    "butterfly_otlp_exported_total" Counter [] "Requests whose traces a collector took.";
    "butterfly_otlp_failures_total" Counter [] "Posts that a collector did not take.";
    "butterfly_otlp_lost_total" Counter ["reason"]
        "Requests whose traces did not reach a collector, by reason.";
    "butterfly_overdue_total" Counter [] "Requests that a worker kept for too long.";
    "butterfly_pings_total" Counter [] "Empty heartbeats that were answered.";
    "butterfly_quic_answers_dropped_total" Counter []
        "Answers outside of QUIC connections that found no room.";
    "butterfly_quic_bytes_total" Counter ["way"] "Bytes of QUIC datagrams.";
    "butterfly_quic_connections" Gauge [] "QUIC connections there are now.";
    "butterfly_quic_connections_total" Counter [] "QUIC connections whose handshake was confirmed.";
    "butterfly_quic_copied_bytes_total" Counter ["stage"] "Bytes copied for QUIC, by where.";
    "butterfly_quic_datagrams_total" Counter ["way"] "QUIC datagrams.";
    "butterfly_quic_early_total" Counter ["what"] "Data of a first flight (0-RTT), taken and held.";
    "butterfly_quic_receive_faults_total" Counter []
        "Receives of datagrams that found no buffer, or more than one holds.";
    "butterfly_quic_refused_total" Counter ["reason"] "QUIC connections and streams refused.";
    "butterfly_quic_retries_total" Counter []
        "Peers that had to show that they receive at their address.";
    "butterfly_quic_send_faults_total" Counter [] "Sends of datagrams that the OS refused.";
    "butterfly_quic_streams" Gauge [] "QUIC streams there are now.";
    "butterfly_quic_streams_total" Counter [] "QUIC streams that were given to a shard.";
    "butterfly_quic_syscalls_total" Counter [] "Calls of the kernel by QUIC listeners.";
    "butterfly_recall_overruns_total" Counter []
        "Remembered requests that had to make room before their time.";
    "butterfly_reclaimed_total" Counter [] "Slots taken back from workers that were gone.";
    "butterfly_refusals_total" Counter ["reason"] "Requests refused, by reason.";
    "butterfly_replies_total" Counter [] "Requests answered by a worker.";
    "butterfly_reply_bytes_total" Counter [] "Bytes of workers' replies.";
    "butterfly_request_seconds" Histogram ["operation"]
        "From complete request to queued answer, by operation.";
    "butterfly_requests_total" Counter ["operation"] "Requests admitted, by operation.";
    "butterfly_retries_total" Counter ["outcome"]
        "Requests that were asked for again, by what became of them.";
    "butterfly_role_refusals_total" Counter ["role"] "Peers refused for who they are, by role.";
    "butterfly_row_bytes_total" Counter [] "Row bytes of admitted requests.";
    "butterfly_rows_total" Counter []
        "Rows of answered requests; a row is a token's worth of work.";
    "butterfly_schedule_blocked_total" Counter [] "Times that a scheduled send waited for memory.";
    "butterfly_schedule_expired_total" Counter [] "Scheduled sends whose message had expired.";
    "butterfly_schedule_fire_error_seconds" Histogram []
        "How long after its moment each scheduled send left.";
    "butterfly_schedule_fired_total" Counter [] "Scheduled sends that left.";
    "butterfly_schedule_gone_total" Counter [] "Scheduled sends whose connection was gone.";
    "butterfly_schedule_pending" Gauge [] "Scheduled sends that wait now.";
    "butterfly_schedule_refused_total" Counter [] "Scheduled sends for which there was no room.";
    "butterfly_shed_by_priority_total" Counter ["priority"]
        "Requests refused because of load, by priority.";
    "butterfly_shed_total" Counter ["reason"] "Requests refused because of load, by reason.";
    "butterfly_tls_cut_off_total" Counter [] "TLS connections that ended without the peer's word.";
    "butterfly_tls_faults_total" Counter []
        "TLS connections that ended by a fault in their records.";
    "butterfly_tls_gathered_bytes_total" Counter []
        "Bytes of straddling TLS records, copied together.";
    "butterfly_tls_handshakes_failed_total" Counter [] "TLS handshakes that failed.";
    "butterfly_tls_handshakes_in_line_total" Counter [] "TLS handshakes that waited for a place.";
    "butterfly_tls_handshakes_slow_total" Counter [] "TLS handshakes that took too long.";
    "butterfly_tls_handshakes_total" Counter [] "TLS handshakes that succeeded.";
    "butterfly_tls_identities_refused_total" Counter []
        "TLS peers whose certificate names nobody who may come in.";
    "butterfly_tls_output_waits_total" Counter [] "Times that sealing waited for memory.";
    "butterfly_tls_poured_bytes_total" Counter [] "Plain bytes copied to where a fill wanted them.";
    "butterfly_tls_records_total" Counter [] "TLS records opened.";
    "butterfly_transmits_total" Counter [] "Transmits ordered by shards.";
    "butterfly_turns_total" Counter [] "Turns of the shards' loops.";
    "butterfly_waits_total" Counter []
        "Times that a connection waited for a slot, a chunk or credit.";
    "butterfly_web_connections_open" Gauge [] "Connections of the status page open now.";
    "butterfly_web_connections_total" Counter [] "Connections of the status page accepted.";
    "butterfly_web_event_readers" Gauge [] "Readers of the status page's events now.";
    "butterfly_web_refusals_total" Counter ["reason"]
        "Requests and connections of the status page that were refused, by reason.";
    "butterfly_web_renderings_total" Counter ["what"]
        "Metrics and overviews rendered; one rendering serves all who ask within a moment.";
    "butterfly_web_requests_total" Counter ["path"] "Requests over HTTP, by what was asked for.";
    "butterfly_web_unread_closed_total" Counter []
        "Connections of the status page closed because nobody read what came.";
    "butterfly_worker_busy_seconds_total" Counter ["worker"] "Time that a worker computed.";
    "butterfly_worker_canary_seconds" Gauge ["worker" "canary"]
        "How long the last canary took from when the worker took it up.";
    "butterfly_worker_check" Gauge ["worker" "check"] "1 where a check of a worker's health holds.";
    "butterfly_worker_cpu_ratio" Gauge ["worker"]
        "Share of the CPUs it may use that a worker took, 0 to 1.";
    "butterfly_worker_degraded_total" Counter []
        "Times that a worker gave up its device for the CPU.";
    "butterfly_worker_ends_total" Counter ["cause"] "Workers that ended, by cause.";
    "butterfly_worker_healthy" Gauge ["worker"] "1 where all checks of a worker hold.";
    "butterfly_worker_resident_bytes" Gauge ["worker"]
        "Resident memory of a worker, shared memory with it.";
    "butterfly_worker_sandbox" Gauge ["part"]
        "Ready workers around which a part of the sandbox is closed.";
    "butterfly_worker_starts_total" Counter [] "Worker processes started.";
    "butterfly_workers_ready" Gauge [] "Workers that serve.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_follow_the_conventions() {
        assert!(NAMES.windows(2).all(|pair| pair[0].name < pair[1].name), "not sorted");
        for Name { name, kind, labels, help } in NAMES {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.starts_with("butterfly_") && name.chars().all(legal), "{name}");
            let total = name.ends_with("_total");
            assert_eq!(*kind == Kind::Counter, total, "{name}: counters and only they are totals");
            if *kind == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}: durations are in seconds");
            }
            for unit in ["_ns", "_us", "_ms", "_ppm", "_percent", "_kib", "_mib"] {
                assert!(!format!("{name}_").contains(&format!("{unit}_")), "{name}: no base unit");
            }
            assert!(!labels.contains(&"le") && !labels.contains(&"quantile"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: one sentence");
        }
    }

    #[test]
    fn the_parts_of_a_histogram_are_found_and_no_other_parts() {
        for part in ["", "_bucket", "_sum", "_count"] {
            let found = find(&format!("butterfly_request_seconds{part}"));
            assert_eq!(found.map(|name| name.kind), Some(Kind::Histogram));
        }
        assert!(find("butterfly_connections_open_count").is_none());
        assert!(find("butterfly_nothing").is_none());
    }
}
