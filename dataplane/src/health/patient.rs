//! One worker under observation: what was heard and measured goes in with its time, what holds
//! comes out. Times are durations since the worker was ready.

use super::{Bounds, CPU, GPU, MEMORY, usage::Usage};
use dataplane_core::{
    canary::Canary,
    probe::{Probed, Verdict},
};
use overview::{Check, Gpu};
use std::time::Duration;

const CANARIES: usize = Canary::ALL.len();

/// What was found of a worker at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// The first round has ended.
    pub(crate) checked: bool,
    /// All checks hold, and held for long enough.
    pub(crate) healthy: bool,
    /// Each check; none before there is something to say.
    pub(crate) checks: Vec<Check>,
    /// Since the report before, it became healthy or stopped to be.
    pub(crate) changed: bool,
}

impl Report {
    /// What does not hold, in words.
    pub(crate) fn complaint(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.holds);
        failed.map(|check| check.detail.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// How a canary ended last.
#[derive(Clone, Copy, Debug)]
struct Ended {
    verdict: Verdict,
    took: Duration,
    /// The shorter of the last two times: a single stall may be the host's.
    best: Duration,
}

/// A worker under observation.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    bounds: Bounds,
    /// Those that it can answer.
    canaries: Vec<Canary>,
    round_at: Duration,
    rounds: u64,
    /// By canary: since when it is under way.
    asked: [Option<Duration>; CANARIES],
    /// By canary: how the last one ended.
    ended: [Option<Ended>; CANARIES],
    pulse: u64,
    /// When it showed life last.
    alive_at: Duration,
    usage: Option<Usage>,
    gpu: Option<Gpu>,
    /// Some check failed in this round.
    spoilt: bool,
    good: u32,
    healthy: bool,
}

impl Patient {
    /// A worker that is ready now, healthy until something says otherwise. It serves these
    /// operations (bit = operation code).
    pub(crate) fn new(bounds: Bounds, operations: u32, pulse: u64) -> Self {
        let serves = |canary: &Canary| operations & (1 << canary.operation().code()) != 0;
        Self {
            bounds,
            canaries: Canary::ALL.into_iter().filter(serves).collect(),
            round_at: Duration::ZERO,
            rounds: 0,
            asked: [None; CANARIES],
            ended: [None; CANARIES],
            pulse,
            alive_at: Duration::ZERO,
            usage: None,
            gpu: None,
            spoilt: false,
            good: 0,
            healthy: true,
        }
    }

    /// Its pulse, as shared memory shows it.
    pub(crate) fn pulse(&mut self, now: Duration, count: u64) {
        if count != self.pulse {
            (self.pulse, self.alive_at) = (count, now);
        }
    }

    /// Whether a round begins now: which canaries are to be sent, those still under way left out.
    pub(crate) fn round(&mut self, now: Duration) -> Option<Vec<Canary>> {
        if now < self.round_at {
            return None;
        }
        self.round_at = now + self.bounds.every;
        if self.rounds > 0 {
            self.good = if self.spoilt { 0 } else { self.good.saturating_add(1) };
        }
        self.spoilt = false;
        self.rounds += 1;
        let free = |canary: &Canary| self.asked[*canary as usize].is_none();
        let due: Vec<Canary> = self.canaries.iter().copied().filter(free).collect();
        due.iter().for_each(|canary| self.asked[*canary as usize] = Some(now));
        Some(due)
    }

    /// A canary could not be sent.
    pub(crate) fn unsent(&mut self, canary: Canary) {
        self.asked[canary as usize] = None;
    }

    /// A canary has ended.
    pub(crate) fn answered(&mut self, now: Duration, probed: &Probed) {
        let at = probed.probe.canary as usize;
        self.asked[at] = None;
        if probed.verdict == Verdict::Unasked {
            return;
        }
        self.alive_at = now;
        let took = Duration::from_nanos(probed.took);
        let best = self.ended[at].map_or(Duration::ZERO, |before| before.took).min(took);
        self.ended[at] = Some(Ended { verdict: probed.verdict, took, best });
    }

    /// What its process takes, where the OS says so, and what its GPU says, where it has one.
    pub(crate) fn measured(&mut self, usage: Option<Usage>, gpu: Option<Gpu>) {
        self.usage = usage.or(self.usage);
        self.gpu = gpu;
    }

    /// How it stands.
    pub(crate) fn judge(&mut self, now: Duration) -> Report {
        let checks = self.checks(now);
        let sound = checks.iter().all(|check| check.holds);
        self.spoilt |= !sound;
        let was = self.healthy;
        if !sound {
            (self.healthy, self.good) = (false, 0);
        } else if self.good >= self.bounds.recover {
            self.healthy = true;
        }
        let answered = self.canaries.iter().all(|canary| self.ended[*canary as usize].is_some());
        let checked = self.rounds > 1 || answered;
        Report { checked, healthy: self.healthy, checks, changed: was != self.healthy }
    }

    fn checks(&self, now: Duration) -> Vec<Check> {
        let mut checks = vec![self.reachable(now)];
        for canary in &self.canaries {
            checks.extend(self.right(*canary));
        }
        checks.extend(self.latency());
        if let Some(usage) = &self.usage {
            checks.push(cpu(usage));
            checks.push(memory(usage));
        }
        checks.push(gpu(self.gpu.as_ref()));
        checks
    }

    /// HEALTH-01. A ping waits for its turn behind what the worker has in hand: what counts is that
    /// the worker moves, by its answers or by its pulse, and keeps nothing for ever.
    fn reachable(&self, now: Duration) -> Check {
        let silent = now.saturating_sub(self.alive_at);
        let waits = self.asked.iter().flatten().map(|at| now.saturating_sub(*at)).max();
        let waits = waits.filter(|waits| *waits > self.bounds.ping);
        let (ping, patience) = (self.bounds.ping, self.bounds.patience);
        let echo = self.ended[Canary::Echo as usize];
        let (holds, detail) = match (waits, echo) {
            _ if silent > ping => {
                (false, format!("no sign of life for {} of {}", ms(silent), ms(ping)))
            }
            (Some(waits), _) if waits > patience => {
                (false, format!("keeps a ping for {} of {}", ms(waits), ms(patience)))
            }
            (Some(waits), _) => (true, format!("moves; a ping waits its turn for {}", ms(waits))),
            (None, Some(Ended { took, best, .. })) => {
                (best <= ping, format!("ping: {} of {}", ms(took), ms(ping)))
            }
            (None, None) => (true, "moves".to_owned()),
        };
        check("reachable", holds, detail)
    }

    /// HEALTH-02. Nothing before the first answer.
    fn right(&self, canary: Canary) -> Option<Check> {
        let Ended { verdict, .. } = self.ended[canary as usize]?;
        let name = match canary {
            Canary::Echo => "canary_echo",
            Canary::TopK => "canary_topk",
            Canary::Int8 => "canary_int8",
        };
        let said = match verdict {
            Verdict::Right => "the right answer".to_owned(),
            Verdict::Refused(code) => format!("refused: {}", code.name()),
            Verdict::Wrong | Verdict::Unasked => "a wrong answer".to_owned(),
        };
        let detail = format!("canary {}: {said}", canary.name());
        Some(check(name, verdict == Verdict::Right, detail))
    }

    /// HEALTH-03: the slowest of the last canaries. One that took its bound fails with the second
    /// one in a row.
    fn latency(&self) -> Option<Check> {
        let ended = |canary: &Canary| Some((self.ended[*canary as usize]?, *canary));
        let slowest = |(it, _): &(Ended, Canary)| (it.best, it.took);
        let (it, canary) = self.canaries.iter().filter_map(ended).max_by_key(slowest)?;
        let bound = self.bounds.canary;
        let detail = format!("canary {}: {} of {}", canary.name(), ms(it.took), ms(bound));
        Some(check("latency", it.best < bound, detail))
    }

    /// By canary: how long the last one took.
    pub(crate) fn took(&self) -> impl Iterator<Item = (Canary, Duration)> {
        Canary::ALL.into_iter().filter_map(|it| Some((it, self.ended[it as usize]?.took)))
    }

    /// What its process takes.
    pub(crate) const fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// What its GPU said.
    pub(crate) const fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }
}

/// HEALTH-04. Of all CPUs that the worker may use: on a single one, computing takes all of it and
/// says nothing.
fn cpu(usage: &Usage) -> Check {
    let alone = usage.cpus < 2;
    let share = usage.cpu * 100.0;
    let detail = if alone {
        format!("cpu: {share:.0}% of one CPU, all of which it may take")
    } else {
        format!("cpu: {share:.0}% of {} CPUs, bound {:.0}%", usage.cpus, CPU * 100.0)
    };
    check("cpu", alone || usage.cpu < CPU, detail)
}

/// HEALTH-04.
fn memory(usage: &Usage) -> Check {
    let share = usage.resident as f64 / usage.memory.max(1) as f64;
    let (resident, bound) = (usage.resident >> 20, MEMORY * 100.0);
    let of = usage.memory >> 20;
    let detail =
        format!("memory: {resident} MiB, {:.0}% of {of} MiB, bound {bound:.0}%", share * 100.0);
    check("memory", share < MEMORY, detail)
}

/// HEALTH-04.
fn gpu(gpu: Option<&Gpu>) -> Check {
    let Some(gpu) = gpu else { return check("gpu", true, "no GPU".to_owned()) };
    let (share, bound) = (gpu.busy * 100.0, GPU * 100.0);
    let detail = format!("gpu: {} {share:.0}%, bound {bound:.0}%", gpu.name);
    check("gpu", gpu.busy < GPU, detail)
}

fn check(name: &str, holds: bool, detail: String) -> Check {
    Check { name: name.to_owned(), holds, detail }
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests;
