//! What a node shows of itself, taken from where it is: counters, shards, control thread, mesh. All
//! of it runs on the thread of the page, and nobody waits for that.

mod life;
mod standing;

pub(crate) use standing::{Phase, Standing};

use crate::{
    health::Board,
    http::HttpPlan,
    mesh::{Asker, node_now},
    shards::Shards,
};
use client::{Ended, Gathers, Map, Metrics};
use dataplane_core::{
    NodeStats,
    stats::{Lately, Recent, Value, labels},
    trace::Rings,
};
use life::Pulse;
use overview::{Check, Overview, Point, Rates, Refusal, Worker};
use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;
use web::{Hosts, Later, Limits, Node, exposition::Series};
use wire::mesh::View;

/// Longest wait for the mesh; what it does not show by then is left out.
const MESH_MAX: Duration = Duration::from_millis(500);
/// Refusals that are shown one by one.
const REFUSALS_SHOWN: usize = 20;
/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// The parts of a node that are looked at.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) stats: Arc<NodeStats>,
    pub(crate) shards: Shards,
    pub(crate) mesh: Asker,
    pub(crate) standing: Arc<Standing>,
    /// How its workers are.
    pub(crate) board: Arc<Board>,
    /// What the shards remember of requests, where they do.
    pub(crate) rings: Option<Arc<Rings>>,
    /// What is shown is shown beyond this host.
    pub(crate) is_open: bool,
}

impl Seen {
    /// Starts to show it. To be called on the control thread, whose turning is a part of it, and
    /// once the cores of shards are left to them.
    ///
    /// # Errors
    /// The OS's reason.
    pub(crate) fn show(
        self,
        listener: TcpListener,
        plan: &HttpPlan,
        counters: Arc<web::Counters>,
    ) -> Result<web::Running, String> {
        let (pulse, control) = life::pulse();
        tokio_uring::spawn(control);
        let recent = Recent::new(node_now().node, self.stats.shards());
        let shown = Shown { seen: self, pulse, lately: Mutex::new((recent, Rates::default())) };
        let hosts = Hosts::new(plan.hosts.clone());
        web::start(listener, Arc::new(shown), hosts, Limits::default(), counters)
            .map_err(|error| format!("cannot serve the status page: {error}; --http off goes on"))
    }
}

/// A node as the page sees it.
#[derive(Debug)]
struct Shown {
    seen: Seen,
    pulse: Pulse,
    /// The counters when they were last looked at, and what came of it.
    lately: Mutex<(Recent, Rates)>,
}

/// What happened, by the second.
fn rates(lately: &Lately) -> Rates {
    let per_second = |n: u64| if lately.seconds > 0.0 { n as f64 / lately.seconds } else { 0.0 };
    let asked = lately.replies + lately.refused;
    let share = |n: u64| if asked == 0 { 0.0 } else { n as f64 / asked as f64 };
    let [p50_ms, p95_ms, p99_ms] = lately.latency_ns.map(|ns| ns as f64 / 1e6);
    Rates {
        queries_per_s: per_second(lately.replies),
        tokens_per_s: per_second(lately.rows),
        bytes_in_per_s: per_second(lately.bytes_in),
        bytes_out_per_s: per_second(lately.bytes_out),
        p50_ms,
        p95_ms,
        p99_ms,
        error_share: share(lately.refused),
        timeout_share: share(lately.expired),
    }
}

/// The last refusals that are remembered.
fn refusals(rings: Option<&Rings>) -> Vec<Refusal> {
    let found = rings.map(|rings| rings.refusals(REFUSALS_SHOWN)).unwrap_or_default();
    found
        .into_iter()
        .map(|refused| Refusal {
            at_ms: refused.at_ms,
            reason: refused.reason.name().to_owned(),
            request: refused.request,
        })
        .collect()
}

/// Whether some worker can be relied on. One that is busy, slow or short of memory is ill, but no
/// reason to send work elsewhere: that falls to others, until they are so. One that does not
/// answer, or wrongly, is.
fn soundness(workers: &[Worker]) -> Check {
    let fails = |check: &&Check| {
        !check.holds && (check.name == "reachable" || check.name.starts_with("canary"))
    };
    let mut detail = "a worker answers as it should".to_owned();
    let up = || workers.iter().filter(|worker| worker.up);
    let holds =
        up().next().is_none() || up().any(|worker| !worker.checks.iter().any(|it| fails(&it)));
    if !holds {
        let found = up().flat_map(|worker| {
            let failing = worker.checks.iter().filter(fails);
            failing.map(move |check| format!("{}: {}", worker.id, check.detail))
        });
        detail = found.collect::<Vec<_>>().join("; ");
    }
    Check { name: "sound".to_owned(), holds, detail }
}

/// What the mesh says of itself, as far as it does in time.
async fn mesh(asker: Asker) -> (Option<Map>, Vec<Ended>) {
    let ask = async {
        let map = asker.view(View::Map).await?;
        let gathers = asker.view(View::Gathers).await?;
        Some((Map::try_from(&map).ok(), Gathers::try_from(&gathers).ok()))
    };
    let (map, gathers) = timeout(MESH_MAX, ask).await.ok().flatten().unwrap_or_default();
    (map, gathers.map(|gathers| gathers.rows).unwrap_or_default())
}

impl Node for Shown {
    fn point(&self) -> Point {
        let now = node_now();
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.1 = rates(&lately.0.look(now.node, self.seen.stats.shards()));
        Point { at_ms: now.epoch_ns / MS, rates: lately.1 }
    }

    fn overview(&self) -> Later<Overview> {
        let now = node_now();
        let mut update = self.seen.stats.metrics_update(now.node);
        update.taken_ns = now.epoch_ns;
        let rates = self.lately.lock().unwrap_or_else(PoisonError::into_inner).1;
        let (asker, is_open, checks) =
            (self.seen.mesh.clone(), self.seen.is_open, self.readiness());
        let (rings, board) = (self.seen.rings.clone(), Arc::clone(&self.seen.board));
        Box::pin(async move {
            let (map, gathers) = mesh(asker).await;
            let mut overview =
                overview::fill::overview(&Metrics::from(&update), map.as_ref(), &gathers);
            overview.now = rates;
            board.tell(&mut overview.workers);
            overview.recent_refusals = refusals(rings.as_deref());
            overview.node.insecure |= is_open;
            let mut failing = checks.into_iter().filter(|check| !check.holds).peekable();
            overview.node.ready = failing.peek().is_none();
            overview.node.not_ready_because =
                failing.map(|check| check.detail).collect::<Vec<_>>().join("; ");
            overview
        })
    }

    fn life(&self) -> Later<Vec<Check>> {
        let (pulse, shards) = (self.pulse.clone(), self.seen.shards.clone());
        let stats = self.seen.stats.shards().to_vec();
        Box::pin(async move { life::checks(pulse, &shards, &stats).await })
    }

    fn readiness(&self) -> Vec<Check> {
        // Each shard is told for itself; who serves everywhere serves.
        let up = self.seen.stats.shards().iter().map(|shard| shard.workers_up.get()).min();
        let up = up.unwrap_or(0);
        let detail = match up {
            0 => "no worker answers".to_owned(),
            up => format!("{} up", crate::say::count(up, "worker")),
        };
        let workers = Check { name: "workers".to_owned(), holds: up > 0, detail };
        vec![self.seen.standing.check(), workers, soundness(&self.seen.board.workers())]
    }

    fn metrics(&self) -> Series {
        let mut series = self.seen.stats.counters();
        let facts = self.seen.stats.facts();
        if !facts.is_empty() {
            let pairs: Vec<_> = facts.iter().map(|(key, value)| (*key, &**value)).collect();
            series.insert(("butterfly_info", labels(&pairs)), Value::Count(1));
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_core::stats::{
        Source,
        names::{Kind, find},
    };

    #[test]
    fn metr_08_every_source_that_a_node_may_have_is_named() {
        let sources: [(&str, &dyn Source); 7] = [
            ("workers", &crate::workers::WorkerStats::default()),
            ("board", &Board::new(2)),
            ("driver", &crate::threads::DriverStats::default()),
            ("quic", &dataplane_quic::Counters::default()),
            ("http", &web::Counters::default()),
            ("traces", &crate::otlp::Counters::default()),
            ("identities", &dataplane_core::Identities::default()),
        ];
        for (source, it) in sources {
            let mut shown = 0;
            it.visit(&mut |name, label, _, _| {
                let known = find(name).unwrap_or_else(|| panic!("{source}: {name} has no entry"));
                assert_eq!(known.labels.concat(), label, "{source}: {name}");
                assert_ne!(known.kind, Kind::Histogram, "{source}: {name}");
                shown += 1;
            });
            assert!(shown > 0, "{source}");
        }
    }

    #[test]
    fn metr_06_rates_are_by_the_second_and_shares_of_what_was_asked() {
        let lately = Lately {
            seconds: 2.0,
            replies: 6,
            rows: 60,
            bytes_in: 10,
            bytes_out: 20,
            refused: 2,
            expired: 1,
            latency_ns: [1_000_000, 2_000_000, 3_500_000],
        };
        assert_eq!(
            rates(&lately),
            Rates {
                queries_per_s: 3.0,
                tokens_per_s: 30.0,
                bytes_in_per_s: 5.0,
                bytes_out_per_s: 10.0,
                p50_ms: 1.0,
                p95_ms: 2.0,
                p99_ms: 3.5,
                error_share: 0.25,
                timeout_share: 0.125,
            }
        );
        assert_eq!(rates(&Lately::default()), Rates::default());
    }

    fn worker(id: &str, failing: &[&str]) -> Worker {
        let check = |name: &str| Check {
            name: name.to_owned(),
            holds: !failing.contains(&name),
            detail: format!("{name} was looked at"),
        };
        let checks = ["reachable", "canary_topk", "latency", "cpu"].map(check).to_vec();
        let healthy = failing.is_empty();
        Worker { id: id.to_owned(), up: true, healthy, checks, ..Worker::default() }
    }

    #[test]
    fn health_05_a_node_is_unsound_only_where_no_worker_answers_rightly() {
        assert!(soundness(&[]).holds);
        let unchecked = Worker { up: true, ..Worker::default() };
        assert!(soundness(std::slice::from_ref(&unchecked)).holds);
        assert!(soundness(&[worker("a", &["cpu", "latency"])]).holds, "busy is not broken");
        let silent = worker("a", &["reachable", "cpu"]);
        assert!(soundness(&[silent.clone(), worker("b", &[])]).holds);
        let both = soundness(&[silent, worker("b", &["canary_topk"])]);
        assert!(!both.holds);
        assert_eq!(both.detail, "a: reachable was looked at; b: canary_topk was looked at");
    }
}
