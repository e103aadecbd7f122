//! Feeds [`Patient`]s: one task per worker on the control thread, for as long as that serves.

use super::{Board, Bounds, patient::Patient, usage::Meter};
use crate::{say, shards::Shards};
use crossbeam_channel::bounded;
use dataplane_core::{
    canary::Canary,
    driver::WorkerId,
    probe::{Probe, Probed, Verdict},
};
use link::Segment;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How often a worker is looked at. Its pulse moves as often at least.
const LOOK: Duration = Duration::from_millis(250);

/// What all workers' tasks share.
#[derive(Debug)]
pub(crate) struct Care {
    /// What a healthy worker keeps.
    pub(crate) bounds: Bounds,
    /// Where it is shown.
    pub(crate) board: Arc<Board>,
}

/// Who is watched.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// Its number.
    pub(crate) worker: u16,
    /// Its process.
    pub(crate) pid: u32,
    /// What it serves, bit = operation code.
    pub(crate) operations: u32,
    /// Where it computes.
    pub(crate) backend: &'a str,
    /// The CUDA device it has, if any.
    pub(crate) device: Option<usize>,
}

/// Takes a worker from the board when the watching ends, however it does.
struct Leave<'a>(&'a Board, u16);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.gone(self.1);
    }
}

/// Watches a worker that serves; ends only by being dropped. Each round goes through the rings of
/// another shard.
pub(crate) async fn watch(
    care: &Care,
    subject: &Subject<'_>,
    segment: &Segment,
    shards: &Shards,
) -> Infallible {
    let (started, worker) = (Instant::now(), subject.worker);
    let (answers, told) = bounded(4 * Canary::ALL.len());
    let mut patient = Patient::new(care.bounds, subject.operations, segment.pulse(worker).count);
    let mut meter = Meter::new(subject.pid);
    let _ = meter.read(Duration::ZERO);
    let _leave = Leave(&care.board, worker);
    let mut round = usize::from(worker);
    loop {
        let now = started.elapsed();
        patient.pulse(now, segment.pulse(worker).count);
        for probed in told.try_iter() {
            hear(care, worker, &probed);
            patient.answered(now, &probed);
        }
        if let Some(due) = patient.round(now) {
            let gpu = subject.device.and_then(|device| care.board.gpu(device));
            patient.measured(meter.read(now), gpu);
            round += 1;
            for canary in due {
                let probe = Probe { worker: WorkerId(worker), canary };
                if !shards.probe(round, probe, &answers) {
                    patient.unsent(canary);
                }
            }
        }
        show(care, subject, shards, &mut patient, now);
        sleep(LOOK).await;
    }
}

/// Counts the end of a canary; a wrong answer is said at once, for its worker is about to go.
fn hear(care: &Care, worker: u16, probed: &Probed) {
    care.board.count(probed.verdict);
    if probed.verdict == Verdict::Wrong {
        let canary = probed.probe.canary.name();
        say::note(format!("worker {worker} answered canary {canary} wrongly: it is replaced"));
    }
}

/// Shows how a worker stands, and tells the shards where that is another than before.
fn show(care: &Care, subject: &Subject<'_>, shards: &Shards, patient: &mut Patient, now: Duration) {
    let (worker, report) = (subject.worker, patient.judge(now));
    if report.changed {
        care.board.changed(report.healthy);
        shards.worker_health(worker, report.healthy);
        say::note(if report.healthy {
            format!("worker {worker} is healthy again: it gets batches as before")
        } else {
            let why = report.complaint();
            format!("worker {worker} is unhealthy: {why}; batches go to others while there are any")
        });
    }
    care.board.change(worker, |row| {
        row.worker.up = true;
        row.worker.healthy = report.healthy && report.checked;
        row.worker.backend = subject.backend.to_owned();
        row.worker.gpu = patient.gpu().cloned();
        row.worker.checks = report.checks;
        row.cpu = patient.usage().map(|usage| usage.cpu);
        row.resident = patient.usage().map(|usage| usage.resident);
        row.canaries = patient.took().collect();
    });
}
