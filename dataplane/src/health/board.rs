//! What was found of every worker, for whoever asks: the lock is held for a copy.

use dataplane_core::{
    canary::Canary,
    node::worker_id,
    probe::Verdict,
    stats::{Show, Source, Value, Visit},
};
use overview::{Gpu, Worker};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What came of canaries, as figures call it.
const RESULTS: [&str; 4] = ["right", "wrong", "refused", "unasked"];

/// What is known of one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// As people and pages see it, but for the share of time at work.
    pub(crate) worker: Worker,
    /// Share of the CPUs it may use.
    pub(crate) cpu: Option<f64>,
    /// Resident bytes.
    pub(crate) resident: Option<u64>,
    /// How long the last canaries took.
    pub(crate) canaries: Vec<(Canary, Duration)>,
}

/// All workers of a node, by number.
#[derive(Debug)]
pub(crate) struct Board {
    rows: Mutex<Vec<Row>>,
    canaries: [AtomicU64; RESULTS.len()],
    /// To unhealthy, to healthy.
    changes: [AtomicU64; 2],
    /// By number; none where one says nothing of itself.
    gpus: Mutex<Vec<Option<Gpu>>>,
}

impl Board {
    /// So many workers, none of them up.
    pub(crate) fn new(workers: u16) -> Self {
        let row = |worker| Row {
            worker: Worker { id: worker_id(usize::from(worker)), ..Worker::default() },
            ..Row::default()
        };
        Self {
            rows: Mutex::new((0..workers).map(row).collect()),
            canaries: Default::default(),
            changes: Default::default(),
            gpus: Mutex::default(),
        }
    }

    /// Every worker: up, healthy, its checks, its GPU. How busy each is, is not known here.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        self.rows().into_iter().map(|row| row.worker).collect()
    }

    /// Puts what was found in the place of what travels in figures, which has no words.
    pub(crate) fn tell(&self, workers: &mut [Worker]) {
        for known in self.workers() {
            if let Some(worker) = workers.iter_mut().find(|it| it.id == known.id) {
                worker.healthy = known.healthy;
                worker.checks = known.checks;
                worker.gpu = known.gpu;
                if !known.backend.is_empty() {
                    worker.backend = known.backend;
                }
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of a worker changes.
    pub(super) fn change(&self, worker: u16, change: impl FnOnce(&mut Row)) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get_mut(usize::from(worker)) {
            change(row);
        }
    }

    /// A worker's process is gone, and with it what was found of it.
    pub(super) fn gone(&self, worker: u16) {
        self.change(worker, |row| {
            let id = std::mem::take(&mut row.worker.id);
            *row = Row { worker: Worker { id, ..Worker::default() }, ..Row::default() };
        });
    }

    /// A canary ended.
    pub(super) fn count(&self, verdict: Verdict) {
        let at = match verdict {
            Verdict::Right => 0,
            Verdict::Wrong => 1,
            Verdict::Refused(_) => 2,
            Verdict::Unasked => 3,
        };
        self.canaries[at].fetch_add(1, Relaxed);
    }

    /// A worker became healthy, or stopped to be.
    pub(super) fn changed(&self, healthy: bool) {
        self.changes[usize::from(healthy)].fetch_add(1, Relaxed);
    }

    /// What the GPUs of this host say, by number.
    pub(super) fn set_gpus(&self, gpus: Vec<Option<Gpu>>) {
        *self.gpus.lock().unwrap_or_else(PoisonError::into_inner) = gpus;
    }

    /// A GPU by its number.
    pub(super) fn gpu(&self, device: usize) -> Option<Gpu> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner).get(device).cloned().flatten()
    }
}

impl Source for Board {
    fn visit(&self, visit: Visit<'_>) {
        for (result, count) in RESULTS.into_iter().zip(&self.canaries) {
            visit("butterfly_health_canaries_total", "result", result, count.load(Relaxed));
        }
        for (to, count) in ["unhealthy", "healthy"].into_iter().zip(&self.changes) {
            visit("butterfly_health_changes_total", "to", to, count.load(Relaxed));
        }
        for row in self.rows() {
            let id = row.worker.id.as_str();
            visit("butterfly_worker_healthy", "worker", id, u64::from(row.worker.healthy));
            if let Some(bytes) = row.resident {
                visit("butterfly_worker_resident_bytes", "worker", id, bytes);
            }
        }
    }

    fn show(&self, show: Show<'_>) {
        for row in self.rows() {
            let worker = ("worker", row.worker.id.as_str());
            for check in &row.worker.checks {
                let labels = [worker, ("check", check.name.as_str())];
                show("butterfly_worker_check", &labels, Value::Count(u64::from(check.holds)));
            }
            for (canary, took) in &row.canaries {
                let labels = [worker, ("canary", canary.name())];
                show("butterfly_worker_canary_seconds", &labels, Value::Real(took.as_secs_f64()));
            }
            if let Some(share) = row.cpu {
                show("butterfly_worker_cpu_ratio", &[worker], Value::Real(share));
            }
        }
        let gpus = self.gpus.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = gpus.iter().enumerate().filter_map(|(n, gpu)| Some((n, gpu.as_ref()?)));
        for (number, gpu) in known {
            let labels = [("gpu", &*number.to_string())];
            show("butterfly_gpu_utilization_ratio", &labels, Value::Real(gpu.busy));
            show("butterfly_gpu_memory_used_bytes", &labels, Value::Count(gpu.memory_used));
            show("butterfly_gpu_memory_total_bytes", &labels, Value::Count(gpu.memory_total));
            show("butterfly_gpu_temperature_celsius", &labels, Value::Count(gpu.celsius.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overview::Check;
    use std::collections::BTreeMap;

    #[test]
    fn health_05_the_detail_of_each_check_is_shown_and_goes_with_its_worker() {
        let board = Board::new(2);
        board.change(1, |row| {
            row.worker.up = true;
            row.worker.checks =
                vec![Check { name: "cpu".into(), holds: true, detail: "cpu: 5%".into() }];
            row.cpu = Some(0.05);
            row.canaries = vec![(Canary::TopK, Duration::from_millis(2))];
        });
        board.set_gpus(vec![None, Some(Gpu { busy: 0.5, ..Gpu::default() })]);
        board.count(Verdict::Right);
        let all = || {
            let mut all = BTreeMap::new();
            board.visit(&mut |name, _, value, n| {
                all.insert(format!("{name} {value}"), n as f64);
            });
            board.show(&mut |name, labels, value| {
                let labels: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
                let value = match value {
                    Value::Count(n) => n as f64,
                    Value::Real(real) => real,
                    Value::Spread(_) => panic!("no histograms here"),
                };
                all.insert(format!("{name} {}", labels.join(" ")), value);
            });
            all
        };
        let shown = all();
        assert_eq!(shown["butterfly_worker_check worker-1 cpu"], 1.0);
        assert_eq!(shown["butterfly_worker_canary_seconds worker-1 topk"], 0.002);
        assert_eq!(shown["butterfly_worker_healthy worker-0"], 0.0);
        assert_eq!(shown["butterfly_health_canaries_total right"], 1.0);
        assert_eq!(shown["butterfly_gpu_utilization_ratio 1"], 0.5, "under its own number");
        assert_eq!((board.gpu(0), board.gpu(1).map(|gpu| gpu.busy)), (None, Some(0.5)));
        assert_eq!(board.workers()[1].checks[0].detail, "cpu: 5%");
        board.change(1, |row| {
            row.worker.checks[0].holds = false;
        });
        let mut seen = [Worker { id: "worker-1".into(), busy: 0.5, ..Worker::default() }];
        board.tell(&mut seen);
        assert_eq!((seen[0].busy, seen[0].checks.len()), (0.5, 1));
        board.gone(1);
        assert!(!all().contains_key("butterfly_worker_check worker-1 cpu"));
        assert_eq!(board.workers()[1].id, "worker-1");
    }
}
