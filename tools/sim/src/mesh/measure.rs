//! How well messages landed: by class, beside what an oracle that knows the model would have done.

use super::{
    engine::Time,
    plan::Plan,
    watch::{Acted, Truth},
};
use ::mesh::sketch::Sketch;
use fleet::{Fleet, MS, SECOND};
use wire::{
    mesh::AgentClass,
    payload::mesh::{ArchivedBin, ArchivedGatherReport, Counts},
};

/// Messages whose target moment lies this close to the end are left out: not all of them have
/// landed by then.
const MARGIN: Time = 12 * SECOND;

/// What one final report said.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its counts.
    pub counts: Counts,
    /// Scheduled over targets.
    pub coverage: f32,
    /// READY over sent.
    pub response_rate: f32,
    /// In time over sent.
    pub on_time: f32,
    /// Between the READY moment predicted and the real one.
    pub prediction_error: Sketch,
    /// Largest lead.
    pub lead_max: Time,
    /// Target moment, node time.
    pub target: Time,
}

impl Report {
    pub(super) fn read(report: &ArchivedGatherReport) -> Self {
        let c = &report.counts;
        let counts = Counts {
            targets: c.targets.to_native(),
            scheduled: c.scheduled.to_native(),
            skipped: c.skipped.to_native(),
            sent: c.sent.to_native(),
            ready: c.ready.to_native(),
            in_time: c.in_time.to_native(),
            late: c.late.to_native(),
            conflicts: c.conflicts.to_native(),
            transit: c.transit.to_native(),
            stragglers: c.stragglers.to_native(),
            duplicates: c.duplicates.to_native(),
            foreign: c.foreign.to_native(),
        };
        Self {
            counts,
            coverage: report.coverage.to_native(),
            response_rate: report.response_rate.to_native(),
            on_time: report.on_time.to_native(),
            prediction_error: sketch(&report.prediction_error),
            lead_max: report.lead_max_ns.to_native(),
            target: report.target_ns.to_native(),
        }
    }
}

fn sketch(bins: &[ArchivedBin]) -> Sketch {
    Sketch::from_bins(
        bins.iter().map(|bin| (bin.bin.to_native() as u16, u64::from(bin.count.to_native()))),
    )
}

/// One class at one dial.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Copies that left.
    pub sent: u64,
    /// READY by the target moment, in true time.
    pub in_time: u64,
    /// Target moment minus READY, of those in time; sum and histogram.
    pub earliness: Sketch,
    earliness_sum: f64,
    /// Sampled messages, beside the oracle.
    pub beside: Beside,
}

/// Sums over the messages that were compared with the oracle.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Messages.
    pub count: u64,
    /// READY within the oracle's lead.
    pub oracle_in_time: u64,
    earliness: f64,
    in_time: u64,
    oracle_earliness: f64,
}

impl Row {
    /// Share in time.
    #[must_use]
    pub fn on_time(&self) -> f64 {
        self.in_time as f64 / self.sent.max(1) as f64
    }

    /// Mean earliness over the oracle's, on the same messages.
    #[must_use]
    pub fn price(&self) -> Option<f64> {
        let beside = &self.beside;
        let ours = beside.earliness / beside.in_time.max(1) as f64;
        let oracle = beside.oracle_earliness / beside.oracle_in_time.max(1) as f64;
        (beside.count > 0 && oracle > 0.0).then(|| ours / oracle)
    }

    /// Mean earliness, milliseconds.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        self.earliness_sum / self.in_time.max(1) as f64 / MS as f64
    }
}

/// One message of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Landing {
    /// Its target moment.
    pub target: Time,
    /// Copies, and those in time.
    pub sent: u64,
    /// In time.
    pub in_time: u64,
    /// Copies to agents that a step changes, and those in time.
    pub stepped: u64,
    /// In time.
    pub stepped_in_time: u64,
}

/// What kind of agent a copy is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) class: AgentClass,
    /// Changed by a step of the fleet.
    pub(super) stepped: bool,
    /// Says what is so.
    pub(super) honest: bool,
}

/// Everything that is measured in one run.
#[derive(Debug)]
pub struct Measure {
    from: Time,
    to: Time,
    every: u64,
    seen: u64,
    /// By dial, then class.
    pub rows: Vec<[Row; 6]>,
    /// By dial: what the reports say of prediction.
    pub error: Vec<Sketch>,
    /// By dial: what the oracle's median would have been off.
    pub oracle_error: Vec<Sketch>,
    /// By dial: targets, scheduled and skipped of the reports.
    pub reach: Vec<[u64; 3]>,
    /// Message by message.
    pub series: Vec<Landing>,
    /// Copies to agents that always say what is so, and those in time.
    honest: [u64; 2],
    /// Distance between acting and the target moment, true time, of those that held.
    pub spread: Sketch,
}

impl Measure {
    /// Nothing yet. Measuring begins after the plan's warm-up.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let dials = plan.dials.len();
        Self {
            from: plan.warm_up,
            to: plan.duration.saturating_sub(MARGIN),
            every: u64::from(plan.oracle_every),
            seen: 0,
            rows: vec![<[Row; 6]>::default(); dials],
            error: vec![Sketch::new(); dials],
            oracle_error: vec![Sketch::new(); dials],
            reach: vec![[0; 3]; dials],
            series: Vec::new(),
            honest: [0; 2],
            spread: Sketch::new(),
        }
    }

    const fn counts(&self, target: Time) -> bool {
        target >= self.from && target < self.to
    }

    fn landing(&mut self, target: Time) -> &mut Landing {
        let at = self.series.iter().rposition(|landing| landing.target == target);
        let at = at.unwrap_or_else(|| {
            self.series.push(Landing { target, ..Landing::default() });
            self.series.len() - 1
        });
        &mut self.series[at]
    }

    pub(super) fn sent(&mut self, dial: usize, target: Time, of: Of) {
        let Of { class, stepped, honest } = of;
        if self.counts(target) {
            self.honest[0] += u64::from(honest);
            self.rows[dial][class as usize].sent += 1;
        }
        let landing = self.landing(target);
        landing.sent += 1;
        landing.stepped += u64::from(stepped);
    }

    /// A message landed: `ready` is the true time when its agent was READY.
    pub(super) fn landed(
        &mut self,
        dial: usize,
        tau: f64,
        truth: &Truth,
        seen: &Acted<'_>,
        fleet: &Fleet,
        weight: f32,
    ) {
        let in_time = seen.ready <= truth.target;
        let stepped = fleet.agent(seen.agent).step_at_ms != u32::MAX;
        let landing = self.landing(truth.target);
        landing.in_time += u64::from(in_time);
        landing.stepped_in_time += u64::from(in_time && stepped);
        if !self.counts(truth.target) {
            return;
        }
        if truth.hold && in_time {
            self.spread.add(seen.now.abs_diff(truth.target));
        }
        let early = truth.target.saturating_sub(seen.ready);
        let row = &mut self.rows[dial][seen.class as usize];
        if in_time {
            self.honest[1] += u64::from(seen.honest);
            row.in_time += 1;
            row.earliness.add(early);
            row.earliness_sum += early as f64;
        }
        self.seen += 1;
        if self.every == 0 || !self.seen.is_multiple_of(self.every) {
            return;
        }
        let queue = seen.ack.queue_found;
        let took = seen.ready.saturating_sub(seen.sent);
        let lead = fleet.oracle_quantile(seen.agent, seen.sent, tau, weight, queue);
        let median = fleet.oracle_quantile(seen.agent, seen.sent, 0.5, weight, queue);
        self.oracle_error[dial].add(took.abs_diff(median));
        let beside = &mut row.beside;
        beside.count += 1;
        if in_time {
            beside.in_time += 1;
            beside.earliness += early as f64;
        }
        if took <= lead {
            beside.oracle_in_time += 1;
            beside.oracle_earliness += (lead - took) as f64;
        }
    }

    pub(super) fn reported(&mut self, dial: usize, report: &Report, at: Time) {
        if self.counts(at) {
            self.error[dial].merge(&report.prediction_error);
            let c = report.counts;
            let reach = &mut self.reach[dial];
            reach[0] += u64::from(c.targets);
            reach[1] += u64::from(c.scheduled);
            reach[2] += u64::from(c.skipped);
        }
    }

    /// Share in time of the copies to agents that always say what is so.
    #[must_use]
    pub fn honest_on_time(&self) -> f64 {
        self.honest[1] as f64 / self.honest[0].max(1) as f64
    }

    /// Prediction error at this quantile, and over the oracle's.
    #[must_use]
    pub fn error_at(&self, dial: usize, q: f64) -> Option<(Time, f64)> {
        let ours = self.error[dial].quantile(q)?;
        let oracle = self.oracle_error[dial].quantile(q)?;
        Some((ours, ours as f64 / oracle.max(1) as f64))
    }

    /// Messages until the stepped agents are back within a point of `wanted`, counted from the step
    /// at true time `step`; None where they are not, or where nothing stepped.
    #[must_use]
    pub fn recovery(&self, step: Time, wanted: f64) -> Option<usize> {
        let after = self.series.iter().filter(|landing| landing.target > step);
        let mut after = after.filter(|landing| landing.stepped > 0 && landing.target < self.to);
        after.position(|l| l.stepped_in_time as f64 / l.stepped as f64 >= wanted - 0.01)
    }
}
