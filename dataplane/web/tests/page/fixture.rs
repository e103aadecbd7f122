//! Nodes to look at: a large one with everything that can be shown, and one where nothing was yet.

use overview::{
    Bar, Batches, Check, Copies, Gather, Gpu, Mesh, Node, Overview, Point, Rates, Refusal, Sector,
    Worker,
};
use std::collections::BTreeMap;
use wire::mesh::{bin_of, bin_start, coarse};

/// A fixed moment, so that each run shows the same.
pub(crate) const AT_MS: u64 = 1_900_000_000_000;

/// Names with numbers.
fn named<V, const N: usize>(pairs: [(&str, V); N]) -> BTreeMap<String, V> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A wave that looks like load and is the same each time.
fn wave(at: f64, swing: f64) -> f64 {
    1.0 + swing * ((at / 47.0).sin() * 0.6 + (at / 11.0).sin() * 0.25 + (at / 3.0).sin() * 0.15)
}

fn rates(second: f64) -> Rates {
    let load = wave(second, 0.22);
    let tail = if (second as u64) % 173 < 6 { 9.0 } else { 1.0 };
    Rates {
        queries_per_s: 12_480.0 * load,
        tokens_per_s: 398_720.0 * load,
        bytes_in_per_s: 1.62e9 * load,
        bytes_out_per_s: 1.21e7 * load,
        p50_ms: 0.214 * wave(second + 5.0, 0.15),
        p95_ms: 0.871 * wave(second + 9.0, 0.25),
        p99_ms: 2.43 * wave(second + 2.0, 0.4) * tail,
        error_share: 0.0004,
        timeout_share: 0.000_2,
    }
}

/// Ten minutes, with a gap of half a minute.
pub(crate) fn history() -> Vec<Point> {
    let seconds = (1..600_u64).rev().filter(|ago| !(340..370).contains(ago));
    seconds
        .map(|ago| Point { at_ms: AT_MS - ago * 1_000, rates: rates(600.0 - ago as f64) })
        .collect()
}

/// A sector among `many` that hold `agents` together.
fn sector(number: u16, many: u16, agents: u32) -> Sector {
    let n = u32::from(number);
    let share = agents / u32::from(many);
    let agents = share - share / 3 * (n * 7 % 5) / 5;
    let weak = n % 11 == 7;
    let mean_ms = 0.6 * 1.9_f64.powi((n * 5 % 11) as i32);
    Sector {
        sector: number,
        node: if number % 8 == 3 { "rack-b.example".to_owned() } else { String::new() },
        clusters: 4 + n % 5,
        agents,
        active: if weak { agents * 4 / 5 } else { agents - agents / 90 },
        mean_ms,
        p95_ms: mean_ms * 3.2,
    }
}

/// Answers before and after the moment, in bins as a node counts them: an eighth of a power of two
/// wide, so fine about the moment and coarse far from it.
fn arrivals(before: u32, after: u32) -> Vec<(f64, u64)> {
    let mut bins = BTreeMap::new();
    // A bell nine milliseconds early, cut at the moment, and a tail behind it.
    let share = |at: u32, many: u32| (f64::from(at) + 0.5) / f64::from(many);
    for at in 0..before {
        let q = share(at, before);
        let early_ms = (9.0 + 2.1 * (q / (1.0 - q)).ln()).max(0.0);
        let bin = coarse(bin_of((early_ms * 1e6) as u64));
        *bins.entry(-i64::try_from(bin_start(bin)).unwrap_or(0)).or_insert(0) += 1;
    }
    for at in 0..after {
        let late_ms = -2.4 * (1.0 - share(at, after)).ln();
        let bin = coarse(bin_of((late_ms * 1e6) as u64));
        *bins.entry(i64::try_from(bin_start(bin + 8)).unwrap_or(0)).or_insert(0) += 1;
    }
    bins.into_iter().map(|(edge_ns, many)| (edge_ns as f64 / 1e6, many)).collect()
}

fn gather(number: u32) -> Gather {
    let late = 311 + number * 97 % 400;
    let conflicts = if number % 3 == 1 { 212 } else { 4 };
    let (skipped, silent) = (182, 61 + number % 9);
    let in_time = 30_000 - late - conflicts - skipped - silent;
    Gather {
        id: format!("{number:032x}"),
        at_ms: AT_MS - 4_000 - u64::from(number) * 37_000,
        decision: if number % 3 == 1 { "resolve_conflicts" } else { "proceed" }.to_owned(),
        reason: if number % 3 == 1 {
            "212 agents of 4 sectors report a conflict; 0.5% are allowed".to_owned()
        } else {
            format!("{in_time} of 30000 ready by the moment, 0.95 wanted")
        },
        targets: 30_000,
        sent: 30_000 - skipped,
        in_time,
        late,
        conflicts,
        silent,
        transit: 0,
        skipped,
        took_ms: 214.0 + f64::from(number) * 3.7,
        arrivals: arrivals(in_time, late),
    }
}

fn worker(number: u32, gpu: bool) -> Worker {
    let check = |name: &str, holds: bool, detail: &str| Check {
        name: name.to_owned(),
        holds,
        detail: detail.to_owned(),
    };
    let slow = number == 3;
    Worker {
        id: format!("worker-{number}"),
        up: number != 5,
        busy: [0.82, 0.64, 0.71, 0.97, 0.12, 0.0][number as usize % 6],
        backend: if gpu { "cuda, NVIDIA H200" } else { "cpu-avx512" }.to_owned(),
        healthy: !slow && number != 5,
        checks: vec![
            check("reachable", number != 5, "answered 40 ms ago, within 2 s"),
            check("canary_topk", true, "100 indices and values as computed here"),
            check(
                "latency",
                !slow,
                if slow { "81 ms, 50 ms allowed" } else { "4 ms, 50 ms allowed" },
            ),
            check("memory", true, "412 MiB resident, 2 GiB allowed"),
        ],
        gpu: gpu.then(|| Gpu {
            name: "NVIDIA H200".to_owned(),
            busy: 0.78,
            memory_used: 41 << 30,
            memory_total: 139 << 30,
            celsius: 61,
        }),
    }
}

fn node() -> Node {
    Node {
        name: "node-7.rack-a.example".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_ms: 276_905_000,
        ready: true,
        not_ready_because: String::new(),
        backend: "cuda".to_owned(),
        backend_reason: "a top-k batch takes 61 us on the device and 340 us on the CPU".to_owned(),
        security: "TLS 1.3 with certificates on both sides; loopback is plain".to_owned(),
        insecure: false,
        fallbacks: vec!["4 KiB pages in place of huge ones: hugetlb has no free pages".to_owned()],
        connections: 312,
        facts: named([
            ("listen", "127.0.0.1:7171"),
            ("shards", "2, on cores 0 and 1"),
            ("segment", "1.2 GiB, 4096 slots"),
            ("kernel", "Linux 6.12.9"),
        ])
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect(),
    }
}

fn mesh(agents: u32, sectors: &[Sector]) -> Mesh {
    let total = u64::from(agents);
    let of = |many: u64| total * many / 30_000;
    let healthy = |sector: &&Sector| f64::from(sector.active) > 0.95 * f64::from(sector.agents);
    Mesh {
        agents: total,
        active: total - of(612),
        by_state: named([
            ("active", total - of(612)),
            ("degraded", of(402)),
            ("quarantined", of(18)),
            ("offline", of(192)),
        ]),
        sectors: sectors.len() as u64,
        sectors_healthy: sectors.iter().filter(healthy).count() as u64,
        impedance_mean_ms: 18.42,
        impedance_p95_ms: 96.1,
        conflicts_last_hour: 424,
        mode: "normal".to_owned(),
        last_gather_ms: AT_MS - 4_000,
        kpi: named([
            ("success", 0.971),
            ("window_hit", 0.9932),
            ("accuracy", 0.948),
            ("conflict", 0.0071),
            ("availability", 0.9796),
        ]),
        cascade_p95_ms: 263.0,
    }
}

/// A node with `agents` agents in `many` sectors, workers, a GPU, gathers, refusals, a fallback.
pub(crate) fn rich(agents: u32, many: u16) -> Overview {
    let busy = u64::from(agents) / 4;
    let trusted = u64::from(agents) / 6;
    let sectors: Vec<_> = (0..many).map(|number| sector(number, many, agents)).collect();
    let unknown = u64::from(agents) * 402 / 30_000;
    let offline = u64::from(agents) * 192 / 30_000;
    let ready = u64::from(agents) - busy - trusted - unknown - offline;
    Overview {
        at_ms: AT_MS,
        node: node(),
        now: rates(600.0),
        bar: Bar::new("agents", [ready, trusted, busy, unknown, offline]),
        batches: Batches {
            by_reason: named([
                ("worker_idle", 1_204_118),
                ("full", 402_771),
                ("age", 96_204),
                ("deadline", 8_113),
                ("displaced", 402),
                ("retry", 3),
            ]),
            requests: 18_204_871,
            mean_size: 10.63,
        },
        workers: (0..6).map(|number| worker(number, number < 2)).collect(),
        mesh: mesh(agents, &sectors),
        sectors,
        gathers: (0..12).map(gather).collect(),
        refusals: named([
            ("overloaded", 4_102),
            ("deadline_exceeded", 871),
            ("rate_limited", 96),
            ("bad_shape", 12),
        ]),
        recent_refusals: ["overloaded", "deadline_exceeded", "overloaded", "rate_limited"]
            .iter()
            .enumerate()
            .map(|(at, reason)| Refusal {
                at_ms: AT_MS - 800 - at as u64 * 2_100,
                reason: (*reason).to_owned(),
                request: format!("{}@1.{at}", 4_711 + at),
            })
            .collect(),
        copies: named([
            ("small_lane", Copies { count: 9_204_112, bytes: 38_112_004_096 }),
            ("reply_inline", Copies { count: 18_111_902, bytes: 14_822_110_208 }),
            ("realign", Copies { count: 12, bytes: 6_291_456 }),
        ]),
    }
}

/// A node that just started.
pub(crate) fn empty() -> Overview {
    Overview {
        at_ms: AT_MS,
        node: Node {
            name: "node-1".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_ms: 4_000,
            ready: false,
            not_ready_because: "no worker answers yet".to_owned(),
            backend: "cpu-avx2".to_owned(),
            security: "loopback only, plain".to_owned(),
            ..Node::default()
        },
        ..Overview::default()
    }
}
