//! What is learned of one agent, and of its class in common.

use wire::mesh::AgentClass;

use super::Tuning;

/// Spread of a class before anything was seen.
const SPREAD: f32 = 0.3;
/// Least spread: below it a miss is measured in quantisation.
const SPREAD_LEAST: f32 = 0.01;
/// One-way delay of a class before anything was seen, ns.
const OWD: f32 = 40_000_000.0;
/// Gain of what is learned in common once much was seen.
const COMMON_GAIN: f32 = 1.0 / 512.0;
/// Agents with this many times the spread of their class are wild.
const WILD: f32 = 2.5;
/// An agent is also wild when more than this share of its last messages missed by more than 95 %
/// of its class's do.
const WILD_SHARE: f32 = 0.14;
/// Messages after which an agent is experienced.
const YOUNG: u8 = 6;
/// The CUSUM forgives this much per message, in mean deviations...
const CUSUM_SLACK: f32 = 1.0;
/// ...counts no message for more than this...
const CUSUM_CLIP: f32 = 4.0;
/// ...and says "shift" here.
const CUSUM_LIMIT: f32 = 8.0;
/// One-way delays beyond this many mean deviations count for that much...
const OWD_CLIP: f32 = 3.0;
/// ...and this many in a row on one side are a new path.
const OWD_RUN: i8 = 5;

/// How much is known of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing: its class's figures.
    Cold = 0,
    /// A few messages, or a few since it changed.
    Young = 1,
    /// Enough.
    Warm = 2,
    /// Enough to see that its times are far less even than its class's: broken, or lying. Such
    /// agents pay for each other, and those that keep their word do not pay for them.
    Wild = 3,
}

impl Stage {
    pub(crate) const ALL: [Self; 4] = [Self::Cold, Self::Young, Self::Warm, Self::Wild];
    pub(crate) const COUNT: usize = 4;

    /// How many misses the prior counts for.
    pub(crate) const fn prior(self) -> u32 {
        match self {
            Self::Cold => 400,
            Self::Young => 200,
            Self::Warm | Self::Wild => 100,
        }
    }
}

/// What a class's agents have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Geometric mean of the agents' rates.
    rate: f32,
    /// Mean one-way delay, ns.
    owd: f32,
    /// Mean deviation of actual over predicted.
    pub(crate) spread: f32,
    /// Mean deviation of the logarithm of rates.
    noise: f32,
    count: u32,
    owd_count: u32,
}

impl Common {
    pub(crate) const fn new() -> Self {
        Self { rate: 1.0, owd: OWD, spread: SPREAD, noise: 0.25, count: 0, owd_count: 0 }
    }
}

/// What is learned of one agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    owd: f32,
    owd_deviation: f32,
    rate: f32,
    /// Mean deviation of actual over predicted, in units of the class's: it follows when the class
    /// learns.
    relative: f32,
    /// Share of its last 64 messages with a miss beyond 95 % of its class's.
    beyond: f32,
    /// CUSUM of rates above and below the estimate.
    above: f32,
    below: f32,
    count: u8,
    owd_count: u8,
    /// One-way delays in a row that were clipped, by side.
    owd_run: i8,
    pub(crate) class: AgentClass,
}

const _: () = assert!(size_of::<Row>() <= 32);

impl Row {
    pub(crate) const fn new(class: AgentClass) -> Self {
        Self {
            owd: 0.0,
            owd_deviation: 0.0,
            rate: 1.0,
            relative: 1.0,
            beyond: 0.05,
            above: 0.0,
            below: 0.0,
            count: 0,
            owd_count: 0,
            owd_run: 0,
            class,
        }
    }

    pub(crate) const fn experience(&self) -> u8 {
        self.count
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.count {
            0 => Stage::Cold,
            1..YOUNG => Stage::Young,
            _ if self.relative > WILD || self.beyond > WILD_SHARE => Stage::Wild,
            _ => Stage::Warm,
        }
    }

    /// Notes whether a miss was beyond 95 % of its class's.
    pub(crate) fn note(&mut self, beyond: bool) {
        self.beyond += (f32::from(u8::from(beyond)) - self.beyond) / 64.0;
    }

    pub(crate) const fn owd(&self, common: &Common) -> f32 {
        if self.owd_count == 0 { common.owd } else { self.owd }
    }

    pub(crate) const fn rate(&self, common: &Common) -> f32 {
        if self.count == 0 { common.rate } else { self.rate }
    }

    /// The agent's spread, drawn towards its class's while it is little known.
    pub(crate) fn spread(&self, common: &Common) -> f32 {
        (common.spread * self.relative).max(SPREAD_LEAST)
    }

    /// Learns from one message's deviation (actual over predicted, minus 1) and its processing
    /// time over base and load. True: the rate has shifted.
    pub(crate) fn learn(
        &mut self,
        common: &mut Common,
        tuning: &Tuning,
        deviation: f32,
        ratio: f32,
    ) -> bool {
        let error = (ratio / self.rate(common)).ln();
        let far = (ratio / common.rate).ln().clamp(-1.0, 1.0);
        common.rate *= (far / (common.count as f32 + 20.0).min(512.0)).exp();
        if self.count == 0 {
            self.rate = common.rate;
        } else {
            self.learn_common(common, tuning, deviation, error);
        }
        if tuning.shifts && self.count > 0 && self.shift(common, error) {
            self.rate = ratio;
            self.count = 1;
            return true;
        }
        let gain = (1.0 / (f32::from(self.count) + 1.0)).max(tuning.rate_gain);
        // A rare message moves the average as much as one of three deviations, once there is one.
        let clip = if self.count == 0 { f32::MAX } else { 5.0 * common.noise };
        self.rate *= (gain * error.clamp(-clip, clip)).exp();
        self.count = self.count.saturating_add(1);
        false
    }

    fn learn_common(&mut self, common: &mut Common, tuning: &Tuning, deviation: f32, error: f32) {
        let gain = (1.0 / (common.count as f32 + 50.0)).max(COMMON_GAIN);
        common.count = common.count.saturating_add(1);
        let clipped = deviation.abs().min(tuning.spread_clip * common.spread);
        common.spread += gain * (clipped - common.spread);
        common.noise += gain * (error.abs().min(8.0 * common.noise) - common.noise);
        if tuning.spread_prior.is_finite() {
            // The weight of `spread_prior` messages of the class against the agent's last 64.
            let weight = f32::from(self.count).min(64.0) + tuning.spread_prior;
            let own = deviation.abs() / common.spread.max(SPREAD_LEAST);
            let pull = tuning.spread_prior / (tuning.spread_prior + 64.0) * (1.0 - self.relative);
            self.relative +=
                (own.min(tuning.spread_clip * self.relative) - self.relative + pull) / weight;
        }
    }

    /// Two-sided CUSUM of the rate's error in mean deviations.
    fn shift(&mut self, common: &Common, error: f32) -> bool {
        let z = (error / common.noise.max(1e-3)).clamp(-CUSUM_CLIP, CUSUM_CLIP);
        self.above = (self.above + z - CUSUM_SLACK).max(0.0);
        self.below = (self.below - z - CUSUM_SLACK).max(0.0);
        let found = self.above > CUSUM_LIMIT || self.below > CUSUM_LIMIT;
        if found {
            (self.above, self.below) = (0.0, 0.0);
        }
        found
    }

    pub(crate) fn learn_owd(&mut self, common: &mut Common, tuning: &Tuning, one_way: f32) {
        let gain = (1.0 / (common.owd_count as f32 + 1.0)).max(COMMON_GAIN);
        common.owd_count = common.owd_count.saturating_add(1);
        common.owd += gain * (one_way - common.owd);
        if self.owd_count == 0 {
            self.owd = one_way;
            self.owd_deviation = one_way * 0.25;
            self.owd_count = 1;
            return;
        }
        let error = one_way - self.owd;
        let clip = OWD_CLIP * self.owd_deviation.max(1_000.0);
        self.owd_run = if error.abs() <= clip {
            0
        } else if error > 0.0 {
            self.owd_run.max(0) + 1
        } else {
            self.owd_run.min(0) - 1
        };
        if tuning.shifts && self.owd_run.abs() >= OWD_RUN {
            (self.owd, self.owd_count, self.owd_run) = (one_way, 1, 0);
            return;
        }
        self.owd_run = self.owd_run.clamp(-OWD_RUN, OWD_RUN);
        let gain = (1.0 / (f32::from(self.owd_count) + 1.0)).max(tuning.owd_gain);
        let error = error.clamp(-clip, clip);
        self.owd += gain * error;
        self.owd_deviation += gain * (error.abs() - self.owd_deviation);
        self.owd_count = self.owd_count.saturating_add(1);
    }
}
