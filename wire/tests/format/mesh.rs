//! The mesh's chapter of `FORMAT.md` against the code: layouts, registries, limits.

use super::{firsts, same_layout, size_of_field, table};
use wire::{mesh, payload::mesh::*};

#[test]
fn meshmsg_14_to_18_the_messages_of_agents_are_laid_out_as_documented() {
    same_layout(
        "#### Root of AGENT_REGISTRATION, 16 bytes",
        fields!(ArchivedAgentRegistration:
        agents, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Element of AGENT_REGISTRATION, agents, 72 bytes",
        fields!(ArchivedAgentRecord:
        capabilities, agent_id, public_key, latency_ms, processing_ms, class, reserved),
    );
    same_layout(
        "#### Root of AGENT_REGISTERED, 80 bytes",
        fields!(ArchivedAgentRegistered:
        places, node_id, node_key, sent_ns, heartbeat_s, signed_acks, reserved,
        seal.check, seal.reserved,
        seal.schema),
    );
    same_layout(
        "#### Element of AGENT_REGISTERED, places, 32 bytes",
        fields!(ArchivedPlace:
        agent_id, handle, generation, sector, cluster, position, fault),
    );
    same_layout(
        "#### Root of AGENT_HEARTBEAT, 96 bytes",
        fields!(ArchivedAgentHeartbeat:
        handle, generation, hlc, origin_ns, received_ns, sent_ns, context_hash,
        latency_ms, processing_ms, queue_depth, impedance, reliability, drift, state,
        reserved, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of COORDINATE, 208 bytes",
        fields!(ArchivedCoordinate:
        payload, requires_capabilities, signature, message_id, correlation_id, causation_id,
        source_agent_id, payload_hash, key_id, hlc, created_ns, target_ns, sent_ns, handle,
        generation, lead_us, expected_us, confidence, ttl_ms, payload_weight, routing,
        verb, priority, expectation, hold, reserved, seal.check, seal.reserved,
        seal.schema),
    );
    same_layout(
        "#### Root of ACK, 144 bytes",
        fields!(ArchivedAck:
        conflict_detail, signature, message_id, handle, generation, hlc, origin_ns, received_ns,
        ready_ns, acted_ns, sent_ns, target_own_ns, processing_ns, context_hash,
        queue_found, queue_depth, state, reserved, seal.check, seal.reserved,
        seal.schema),
    );
    same_layout(
        "#### Root of CIRCUIT, 64 bytes",
        fields!(ArchivedCircuit:
        reason, signatures, message_id, hlc, sector, cluster, action, scope, reserved, seal.check,
        seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of FREEZE, 64 bytes",
        fields!(ArchivedFreeze:
        preserve_state_to, signatures, message_id, hlc, sector, cluster, scope, thaw, reserved,
        seal.check, seal.reserved, seal.schema),
    );
}

#[test]
fn gathers_and_their_reports_are_laid_out_as_documented() {
    same_layout(
        "#### Root of GATHER, 192 bytes",
        fields!(ArchivedGather:
        payload, ids, requires_capabilities, capability, signatures, message_id, correlation_id,
        causation_id, source_agent_id, hlc, at_epoch_ns, at_node_ns, window_ns,
        timeout_ns, ttl_ms, payload_weight, on_time, min_rate, max_conflict, max_transit,
        sector, cluster, class, select, verb, priority, strategy, hold, phase, progress,
        reserved, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Element of signatures, 88 bytes",
        fields!(ArchivedSignature:
        key_id, audience, stamp_ms, signature),
    );
    same_layout(
        "#### Root of GATHER_REPORT, 256 bytes",
        fields!(ArchivedGatherReport:
        earliness, lateness, spread, prediction_error, fire_error, skips, classes, phases,
        straggler_names, conflict_rows, reason, recommendation, correlation_id, target_ns,
        target_epoch_ns, window_ns, plan_ns, total_ns, lead_max_ns, counts.targets,
        counts.scheduled, counts.skipped, counts.sent, counts.ready, counts.in_time,
        counts.late, counts.conflicts, counts.transit, counts.stragglers,
        counts.duplicates, counts.foreign, coverage, response_rate, on_time, confidence,
        sectors_reached, clusters_reached, decision, is_final, reserved, seal.check,
        seal.reserved, seal.schema),
    );
    same_layout(
        "#### Element of GATHER_REPORT, its histograms, 8 bytes",
        fields!(ArchivedBin:
        bin, count),
    );
    same_layout(
        "#### Element of GATHER_REPORT, skips, 16 bytes",
        fields!(ArchivedSkipRow:
        count, would_need_us, available_us, reason, reserved),
    );
    same_layout(
        "#### Element of GATHER_REPORT, classes, 32 bytes",
        fields!(ArchivedClassRow:
        targets, sent, ready, in_time, earliness_p50_us, earliness_p99_us, lead_p50_us,
        class, reserved),
    );
    same_layout(
        "#### Element of GATHER_REPORT, phases, 32 bytes",
        fields!(ArchivedPhaseRow:
        took_ns, name, reached, of, needed, reserved),
    );
    same_layout(
        "#### Element of GATHER_REPORT, conflict_rows, 24 bytes",
        fields!(ArchivedConflictRow:
        name, detail, context_hash),
    );
}

#[test]
fn views_and_trees_are_laid_out_as_documented() {
    same_layout(
        "#### Root of MESH_QUERY, 32 bytes",
        fields!(ArchivedMeshQuery:
        capability, limit, sector, view, sort, reserved, seal.check, seal.reserved,
        seal.schema),
    );
    same_layout(
        "#### Root of MESH_VIEW, 96 bytes",
        fields!(ArchivedMeshView:
        agents, sectors, clusters, gathers, global.timestamp_ns, global.last_gather_ns,
        global.sectors, global.clusters, global.count, global.active, global.sectors_healthy,
        global.sectors_degraded, global.mean, global.p95, global.conflicts, global.mode,
        global.reserved, seal.check, seal.reserved, seal.schema),
    );
    same_layout(
        "#### Element of MESH_VIEW, agents, 80 bytes",
        fields!(ArchivedAgentRow:
        capabilities, name, agent_id, context_hash, silent_ns, latency_ms, processing_ms,
        queue_depth, impedance, reliability, drift, class, state, reserved),
    );
    same_layout(
        "#### Element of MESH_VIEW, clusters, 64 bytes",
        fields!(ArchivedClusterRow:
        slowest, fastest, lead, age_ns, count, active, degraded, unstable, mean, p95,
        sector, cluster, reserved),
    );
    same_layout(
        "#### Element of MESH_VIEW, sectors, 36 bytes",
        fields!(ArchivedSectorRow:
        node, clusters, count, active, mean, p95, sector, healthiest, sickest, reserved),
    );
    same_layout(
        "#### Element of MESH_VIEW, gathers, 120 bytes",
        fields!(ArchivedGatherRow:
        earliness, lateness, reason, message_id, ended_ns, total_ns, counts.targets,
        counts.scheduled, counts.skipped, counts.sent, counts.ready, counts.in_time,
        counts.late, counts.conflicts, counts.transit, counts.stragglers, counts.duplicates,
        counts.foreign, coverage, on_time, decision, strategy, verb, reserved),
    );
    same_layout(
        "#### Root of NODE_JOIN, 64 bytes",
        fields!(ArchivedNodeJoin:
        name, node_id, sent_ns, handle, generation, role, reserved, seal.check,
        seal.reserved, seal.schema),
    );
    same_layout(
        "#### Root of MESH_SUMMARY, 64 bytes",
        fields!(ArchivedMeshSummary:
        clusters, scores, node_id, hlc, reserved, seal.check, seal.reserved, seal.schema),
    );
}

macro_rules! registries {
    ($($heading:literal: $registry:ident),+ $(,)?) => {$(
        let members: Vec<_> = mesh::$registry::ALL
            .iter()
            .map(|member| vec![member.code().to_string(), member.name().to_owned()])
            .collect();
        assert_eq!(firsts(table(concat!("### ", $heading)), 2), members);
        for member in mesh::$registry::ALL {
            assert_eq!(mesh::$registry::from_name(&member.name().to_uppercase()), Some(*member));
        }
    )+};
}

#[test]
fn meshmsg_03_11_13_17_the_registries_are_the_documented_ones() {
    registries!(
        "Agent classes": AgentClass,
        "Agent states": AgentState,
        "Verbs": Verb,
        "Answers of agents": Trinary,
        "Routings": Routing,
        "Strategies": Strategy,
        "Decisions": Decision,
        "Selections": SelectBy,
        "Reasons to skip": SkipReason,
        "Circuit actions": CircuitAction,
        "Scopes": Scope,
        "Roles": Role,
        "Views": View,
        "Modes": Mode,
        "Orders": SortBy,
    );
    assert_eq!(mesh::Verb::from_name("sleep"), None);
}

#[test]
fn the_limits_of_the_mesh_are_the_documented_ones() {
    let limits = [
        ("MESSAGE_MAX", mesh::MESSAGE_MAX),
        ("REGISTRATION_MAX", mesh::REGISTRATION_MAX),
        ("CAPABILITIES_MAX", mesh::CAPABILITIES_MAX),
        ("CAPABILITY_LEN_MAX", mesh::CAPABILITY_LEN_MAX),
        ("TARGET_IDS_MAX", mesh::TARGET_IDS_MAX),
        ("DETAIL_LEN_MAX", mesh::DETAIL_LEN_MAX),
        ("NAMES_MAX", mesh::NAMES_MAX),
        ("BINS_MAX", mesh::BINS_MAX),
        ("GATHERS_MAX", mesh::GATHERS_MAX),
        ("SUMMARY_CLUSTERS_MAX", mesh::SUMMARY_CLUSTERS_MAX),
        ("PRIORITY_MAX", mesh::PRIORITY_MAX.into()),
        ("SIGNATURES_MAX", mesh::SIGNATURES_MAX),
        ("SIGNATURE_LEN", SIGNATURE_LEN),
    ];
    let expected: Vec<_> =
        limits.iter().map(|(name, value)| vec![format!("`{name}`"), value.to_string()]).collect();
    assert_eq!(firsts(table("### Limits of the mesh"), 2), expected);
}
