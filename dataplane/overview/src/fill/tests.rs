use super::*;
use crate::Standing;
use client::{Global, Metric, Sector};
use wire::{
    mesh::{Decision, Mode, Strategy, Verb, bin_of, coarse},
    payload::mesh::Counts,
};

fn metric(name: &str, labels: &[(&str, &str)], value: Number) -> Metric {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Metric { name: name.to_owned(), labels: labels.collect(), value }
}

fn count(name: &str, labels: &[(&str, &str)], n: u64) -> Metric {
    metric(name, labels, Number::Count(n))
}

fn real(name: &str, labels: &[(&str, &str)], value: f64) -> Metric {
    metric(name, labels, Number::Real(value))
}

fn metrics(list: Vec<Metric>) -> Metrics {
    Metrics {
        taken_ns: 90_000 * MS,
        query_latency_ms: [1.0, 2.0, f64::NAN],
        queries_per_second: 5.0,
        active_workers: 2,
        worker_utilization: vec![("worker-0".to_owned(), 0.75), ("worker-1".to_owned(), 0.1)],
        metrics: list,
        ..Metrics::default()
    }
}

fn ended() -> Ended {
    let bin = |ms: u64| coarse(bin_of(ms * MS));
    Ended {
        earliness: vec![(0, 1), (bin(1), 2), (bin(8), 3)],
        lateness: vec![(bin(2), 4)],
        reason: "7 of 10 ready".to_owned(),
        message_id: [0xAB; 16],
        ended_ns: 80_000 * MS,
        total_ns: 1_500_000,
        counts: Counts { targets: 12, sent: 10, in_time: 6, late: 4, ..Counts::default() },
        coverage: 1.0,
        on_time: 0.6,
        decision: Decision::ResolveConflicts,
        strategy: Strategy::Wave,
        verb: Verb::Act,
    }
}

#[test]
fn figures_become_rates_batches_refusals_and_copies() {
    let seen = overview(
        &metrics(vec![
            count("butterfly_batches_total", &[("closed_by", "full")], 3),
            count("butterfly_batches_total", &[("closed_by", "age")], 1),
            count("butterfly_batched_requests_total", &[], 10),
            count("butterfly_refusals_total", &[("reason", "bad_k")], 2),
            count("butterfly_refusals_total", &[("reason", "draining")], 0),
            count("butterfly_copies_total", &[("stage", "small_lane")], 7),
            count("butterfly_copied_bytes_total", &[("stage", "small_lane")], 700),
        ]),
        None,
        &[],
    );
    assert_eq!((seen.at_ms, seen.now.queries_per_s, seen.now.p95_ms), (90_000, 5.0, 2.0));
    assert_eq!(seen.now.p99_ms, 0.0, "no number is 0, since JSON has no word for it");
    assert_eq!((seen.batches.requests, seen.batches.mean_size), (10, 2.5));
    assert_eq!(seen.refusals, BTreeMap::from([("bad_k".to_owned(), 2)]));
    assert_eq!(seen.copies["small_lane"], Copies { count: 7, bytes: 700 });
    let json = serde_json::to_string(&seen).expect("plain data");
    assert_eq!(serde_json::from_str::<Overview>(&json).expect("the same"), seen);
    assert_eq!(overview(&Metrics::default(), None, &[]).batches.mean_size, 0.0);
}

#[test]
fn a_node_says_who_it_is_and_what_it_falls_back_on() {
    let info = [
        ("name", "hall-1"),
        ("backend", "cpu-avx512"),
        ("backend_reason", "no GPU"),
        ("backend_asked", "auto"),
        ("huge_page_bytes", "0"),
        ("started_ms", "30000"),
        ("security", "plaintext, insecure"),
        ("worker_sandbox", "auto"),
        ("poll", "balanced"),
    ];
    let list = vec![
        count("butterfly_info", &info, 1),
        count("butterfly_insecure", &[], 1),
        count("butterfly_workers_ready", &[], 2),
        count("butterfly_worker_sandbox", &[("part", "files")], 2),
        count("butterfly_worker_sandbox", &[("part", "network")], 1),
        count("butterfly_worker_degraded_total", &[], 1),
        count("butterfly_mesh_state_works", &[], 0),
        count("butterfly_connections_open", &[], 4),
    ];
    let node = overview(&metrics(list), None, &[]).node;
    assert_eq!((&*node.name, node.uptime_ms, node.connections), ("hall-1", 60_000, 4));
    assert!(node.ready && node.insecure && node.not_ready_because.is_empty());
    assert_eq!(node.facts["poll"], "balanced");
    assert!(!node.facts.contains_key("name"), "said once");
    let expected = [
        "the CPU computes in place of a GPU: no GPU",
        "a worker gave up its GPU for the CPU",
        "small pages in place of huge ones",
        "workers' sandbox lacks network",
        "the mesh's state does not reach the disk: kept in memory only",
    ];
    assert_eq!(node.fallbacks, expected);
    let down = overview(&Metrics { active_workers: 0, ..metrics(Vec::new()) }, None, &[]).node;
    assert!(!down.ready && down.fallbacks.is_empty());
    assert_eq!(down.not_ready_because, "no worker answers");
}

#[test]
fn bar_01_without_agents_it_is_of_workers_by_their_checks() {
    let check = |worker, check, holds| {
        count("butterfly_worker_check", &[("worker", worker), ("check", check)], holds)
    };
    let counts = |seen: &Overview| seen.bar.parts.iter().map(|it| it.count).collect::<Vec<_>>();
    let unchecked = overview(&metrics(Vec::new()), None, &[]);
    assert_eq!((&*unchecked.bar.of, counts(&unchecked)), ("workers", vec![1, 0, 1, 0, 0]));
    let one_down = Metrics { active_workers: 1, ..metrics(Vec::new()) };
    assert_eq!(counts(&overview(&one_down, None, &[])), [0, 0, 1, 0, 1]);
    let labels = [("worker", "worker-1"), ("canary", "topk")];
    let checked = overview(
        &metrics(vec![
            check("worker-0", "reachable", 0),
            check("worker-1", "reachable", 1),
            check("worker-1", "canary_topk", 1),
            count("butterfly_worker_healthy", &[("worker", "worker-0")], 0),
            count("butterfly_worker_healthy", &[("worker", "worker-1")], 1),
            real("butterfly_worker_canary_seconds", &labels, 0.0008),
        ]),
        None,
        &[],
    );
    assert_eq!(counts(&checked), [0, 1, 0, 0, 1], "which one is down is known then");
    assert_eq!(checked.workers[1].checks[1].detail, "0.8 ms");
    let sick = overview(
        &metrics(vec![
            check("worker-1", "reachable", 1),
            count("butterfly_worker_healthy", &[("worker", "worker-1")], 0),
        ]),
        None,
        &[],
    );
    assert_eq!(counts(&sick), [0, 0, 1, 1, 0]);
}

#[test]
fn a_gpu_stands_with_its_worker() {
    let gpu = [("gpu", "1")];
    let list = vec![
        count("butterfly_info", &[("backend", "cuda")], 1),
        count("butterfly_gpu_memory_total_bytes", &gpu, 1 << 30),
        real("butterfly_gpu_utilization_ratio", &gpu, 0.25),
        count("butterfly_gpu_temperature_celsius", &gpu, 41),
    ];
    let workers = overview(&metrics(list), None, &[]).workers;
    assert_eq!(workers[0].gpu, None, "what is not measured is not shown");
    let gpu = workers[1].gpu.as_ref().expect("measured");
    assert_eq!((gpu.memory_total, gpu.busy, gpu.celsius), (1 << 30, 0.25, 41));
}

#[test]
fn bar_01_with_agents_it_is_of_them_as_the_registry_sorted_them() {
    let standing = |name, n| count("butterfly_mesh_standing_agents", &[("standing", name)], n);
    let list = vec![
        standing("ready", 5),
        standing("trusted", 3),
        standing("busy", 1),
        standing("unknown", 0),
        standing("offline", 1),
    ];
    let bar = overview(&metrics(list), None, &[]).bar;
    assert_eq!((&*bar.of, bar.total), ("agents", 10));
    assert_eq!((bar.parts[1].standing, bar.parts[1].permille), (Standing::Trusted, 300));
}

#[test]
fn cons_01_kpi_the_mesh_is_told_from_map_gathers_and_indicators() {
    let list = vec![
        count("butterfly_mesh_agents", &[("state", "active")], 9),
        count("butterfly_mesh_agents", &[("state", "offline")], 1),
        real("butterfly_mesh_kpi_ratio", &[("kpi", "coordination_success")], 0.5),
        real("butterfly_mesh_kpi_ratio", &[("kpi", "prediction_within_50ms")], 0.75),
        real("butterfly_mesh_cascade_p95_seconds", &[], 0.25),
    ];
    let map = Map {
        global: Global {
            count: 30,
            active: 29,
            sectors: 3,
            sectors_healthy: 2,
            mean: 12.5,
            conflicts: 4,
            mode: Mode::PartlyFrozen,
            last_gather_ns: 70_000 * MS,
            ..Global::default()
        },
        sectors: vec![Sector { sector: 2, count: 30, mean: f32::NAN, ..Sector::default() }],
        clusters: Vec::new(),
    };
    let seen = overview(&metrics(list.clone()), Some(&map), &[ended()]);
    let mesh = &seen.mesh;
    assert_eq!((mesh.agents, mesh.active, mesh.sectors_healthy), (30, 29, 2), "nodes below too");
    assert_eq!((mesh.impedance_mean_ms, mesh.conflicts_last_hour), (12.5, 4));
    assert_eq!((&*mesh.mode, mesh.last_gather_ms), ("partly frozen", 80_000));
    assert_eq!((mesh.kpi["success"], mesh.kpi["accuracy"], mesh.kpi.len()), (0.5, 0.75, 2));
    assert_eq!((mesh.cascade_p95_ms, seen.sectors[0].mean_ms), (250.0, 0.0));
    let alone = overview(&metrics(list), None, &[]).mesh;
    assert_eq!((alone.agents, alone.active, &*alone.mode), (10, 9, ""), "the counters' word");
}

#[test]
fn w97_arrivals_run_from_the_earliest_to_the_latest() {
    let gather = &overview(&metrics(Vec::new()), None, &[ended()]).gathers[0];
    assert_eq!((gather.id.len(), &gather.id[..4]), (32, "abab"));
    assert_eq!(
        (&*gather.decision, gather.took_ms, gather.at_ms),
        ("resolve_conflicts", 1.5, 80_000)
    );
    let edges: Vec<f64> = gather.arrivals.iter().map(|(edge, _)| *edge).collect();
    assert!(edges.is_sorted(), "{edges:?}");
    assert_eq!(gather.arrivals.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3, 2, 1, 4]);
    assert!(edges[0] <= -7.0 && edges[0] >= -8.0, "8 ms early: {edges:?}");
    assert!(edges[2] == 0.0 && edges[3] > 2.0 && edges[3] < 2.5, "{edges:?}");
}
