//! One agent: its link, its host, its clock, as drawn from the seed.

use wire::mesh::AgentClass;

use crate::world::{Profile, Traits};
use crate::{MS, Rng, SECOND, Time};

/// Longest spike, as a multiple of its least length.
pub(crate) const SPIKE_CAP: f64 = 40.0;
/// Exponent of the spikes' Pareto distribution.
pub(crate) const SPIKE_SHAPE: f64 = 2.0;
/// Spread of the jitter: lognormal with median `jitter`.
pub(crate) const JITTER_SPREAD: f64 = 0.9;
/// A packet is lost this often in a row at most.
pub(crate) const LOSSES: u32 = 3;

/// Everything a fleet knows of one agent: 96 bytes. Times in ns; spreads are sigmas of lognormals
/// with median 1.
#[derive(Clone, Debug)]
pub struct AgentModel {
    /// Clock ahead of true time at true time 0.
    pub clock_offset: i64,
    /// Clock too fast by this many parts per million.
    pub drift_ppm: f32,
    /// One-way delay towards the agent, without jitter.
    pub down: f32,
    /// One-way delay from the agent, without jitter.
    pub up: f32,
    /// Median of the jitter that comes on top, each way.
    pub jitter: f32,
    /// Share of packets that meet a spike.
    pub spike_rate: f32,
    /// Least length of a spike.
    pub spike: f32,
    /// Share of packets lost; each loss costs a retransmission delay.
    pub loss: f32,
    /// The first retransmission delay; doubles with every further loss.
    pub rto: f32,
    /// Service time over the class's base time, at load 1.
    pub rate: f32,
    /// Spread of service times from message to message.
    pub noise: f32,
    /// The rate wanders by this share...
    pub wander: f32,
    /// ...with this period in seconds.
    pub wander_period: f32,
    /// Mean queue depth.
    pub queue: f32,
    /// Period of the queue's slow wave in seconds.
    pub queue_period: f32,
    /// Phase of all waves, 0..1.
    pub phase: f32,
    /// True time of the step change in ms; `u32::MAX` is never.
    pub step_at_ms: u32,
    /// Factor on service times from then on.
    pub step_service: f32,
    /// Factor on link delays from then on.
    pub step_path: f32,
    /// Probability that a message is answered with CONFLICT.
    pub conflict_rate: f32,
    /// Probability that a message makes the agent vanish without an answer.
    pub crash_rate: f32,
    /// Its class.
    pub class: AgentClass,
}

const _: () = assert!(size_of::<AgentModel>() <= 96);

impl AgentModel {
    pub(crate) fn draw(world: &Traits, class: AgentClass, rng: &mut Rng) -> Self {
        let profile = Profile::of(class);
        let trip = 2.0 * world.base * rng.lognormal(world.base_spread);
        let share = (0.5 + world.asymmetry * 0.5 * rng.normal()).clamp(0.25, 0.75);
        let skewed = world.drift_ppm > 0.0;
        Self {
            // Always ahead, so that an agent's clock never reads below zero; up to 13 days.
            clock_offset: if skewed { rng.below(1 << 50) as i64 } else { 0 },
            drift_ppm: rng.range(-world.drift_ppm, world.drift_ppm) as f32,
            down: (trip * share) as f32,
            up: (trip * (1.0 - share)) as f32,
            jitter: (0.5 * trip * world.jitter * rng.lognormal(0.3)) as f32,
            spike_rate: (world.spike_rate * rng.lognormal(0.3)).min(0.2) as f32,
            spike: (world.spike * rng.lognormal(0.3)) as f32,
            loss: (world.loss * rng.lognormal(0.5)).min(0.1) as f32,
            // As TCP on Linux: 200 ms at least, on top of the round trip.
            rto: if skewed { (200.0 * MS as f64 + trip) as f32 } else { 0.0 },
            rate: (world.service * rng.lognormal(profile.rate_spread)) as f32,
            noise: (world.noise * profile.noise * rng.lognormal(0.15)) as f32,
            wander: (world.wander * rng.unit()) as f32,
            wander_period: rng.range(300.0, 1200.0) as f32,
            queue: (profile.queue * rng.lognormal(0.5)) as f32,
            queue_period: rng.range(120.0, 600.0) as f32,
            phase: rng.unit() as f32,
            step_at_ms: u32::MAX,
            step_service: 1.0,
            step_path: 1.0,
            conflict_rate: 0.0,
            crash_rate: 0.0,
            class,
        }
    }

    /// Whether the step change has happened.
    fn stepped(&self, at: Time) -> bool {
        self.step_at_ms != u32::MAX && at >= u64::from(self.step_at_ms) * MS
    }

    /// Factor on link delays at this true time.
    pub(crate) fn path_factor(&self, at: Time) -> f64 {
        if self.stepped(at) { f64::from(self.step_path) } else { 1.0 }
    }

    /// A slow wave in -1..1.
    fn wave(&self, at: Time, period_s: f32, shift: f64) -> f64 {
        sine(at as f64 / (f64::from(period_s) * SECOND as f64) + f64::from(self.phase) + shift)
    }

    /// Median service time in ns of a message of this weight met by this queue at this true time:
    /// base(class) x rate x (1 + 0.5 weight)(1 + 0.1 queue) (SCHED-03), the rate with its slow
    /// wander and its step.
    #[must_use]
    pub fn service_median(&self, at: Time, weight: f32, queue: u32) -> f64 {
        let step = if self.stepped(at) { f64::from(self.step_service) } else { 1.0 };
        let slow = 1.0 + f64::from(self.wander) * self.wave(at, self.wander_period, 0.0);
        let load = (1.0 + 0.5 * f64::from(weight)) * (1.0 + 0.1 * f64::from(queue));
        Profile::of(self.class).base * f64::from(self.rate) * slow * step * load
    }

    /// Messages that wait at this true time: what the agent reports, and what a message meets.
    #[must_use]
    pub fn queue_at(&self, at: Time) -> u32 {
        let wave = 1.0
            + 0.6 * self.wave(at, self.queue_period, 0.25)
            + 0.4 * self.wave(at, self.queue_period * 0.37, 0.6);
        // To the nearest; what is negative becomes 0.
        (f64::from(self.queue) * wave + 0.5) as u32
    }

    /// One link delay in ns over a path with this base: base + jitter, a spike now and then, and
    /// what retransmissions cost.
    pub(crate) fn sample_link(&self, base: f32, at: Time, rng: &mut Rng) -> Time {
        if base <= 0.0 {
            return 0;
        }
        let factor = self.path_factor(at);
        let mut delay = f64::from(base) + f64::from(self.jitter) * rng.lognormal(JITTER_SPREAD);
        if rng.chance(f64::from(self.spike_rate)) {
            delay += f64::from(self.spike) * rng.unit().powf(-1.0 / SPIKE_SHAPE).min(SPIKE_CAP);
        }
        let mut losses = 0;
        while losses < LOSSES && rng.chance(f64::from(self.loss)) {
            losses += 1;
        }
        delay = delay * factor + f64::from(self.rto) * f64::from((1_u32 << losses) - 1);
        delay as Time
    }

    /// Agent time at this true time.
    #[must_use]
    pub fn clock(&self, true_time: Time) -> Time {
        let (whole, rest) = ((true_time / SECOND) as i64, (true_time % SECOND) as i64);
        let drift = whole * self.drift_ppb() + rest * self.drift_ppb() / SECOND as i64;
        true_time.saturating_add_signed(self.clock_offset.saturating_add(drift))
    }

    /// True time at this agent time: the inverse of [`AgentModel::clock`], to a nanosecond or two.
    #[must_use]
    pub fn true_time(&self, agent_time: Time) -> Time {
        // In seconds of the agent's clock and a rest: nothing here needs 128 bits.
        let run = agent_time.saturating_add_signed(self.clock_offset.saturating_neg());
        let second = SECOND.saturating_add_signed(self.drift_ppb());
        (run / second).saturating_mul(SECOND).saturating_add(run % second * SECOND / second)
    }

    fn drift_ppb(&self) -> i64 {
        (f64::from(self.drift_ppm) * 1000.0) as i64
    }
}

/// The sine of a number of turns that is not negative, to a thousandth: two parabolas, each bent
/// once. Waves are asked for with every message, and their exact shape is an assumption anyway.
fn sine(turns: f64) -> f64 {
    let u = 0.5 - (turns - (turns as u64) as f64);
    let arc = u * (8.0 - 16.0 * u.abs());
    arc * (0.775 + 0.225 * arc.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_one_to_a_thousandth() {
        for i in 0..10_000 {
            let turns = f64::from(i) * 0.001_7;
            let exact = (core::f64::consts::TAU * turns).sin();
            assert!((sine(turns) - exact).abs() < 0.001_2, "{turns}");
        }
    }
}
