//! A fleet under traffic in virtual time, seen as a node sees it: four timestamps per heartbeat and
//! answer, reported queues and processing times, its own forecasts. What truly happened is kept
//! beside it, for scoring only.

use fleet::{Fleet, MS, Rng, SECOND, Time};
use mesh::clock::OffsetFilter;
use mesh::predict::{Dial, Observed, Predictor, Tuning, Work};

/// Messages to an agent are this many seconds apart.
pub(crate) const EVERY: u64 = 2;
/// Heartbeats of an agent are this many seconds apart.
const BEAT: u64 = 5;
/// Payload weights of the messages.
const WEIGHTS: [f32; 4] = [0.0, 0.2, 0.5, 1.0];

/// One message, true times.
#[derive(Debug)]
pub(crate) struct Shot {
    /// Agent.
    pub(crate) agent: u32,
    /// How many messages the agent had before.
    pub(crate) number: u32,
    /// When it left.
    pub(crate) at: Time,
    /// Payload weight, and the queue that it met.
    pub(crate) weight: f32,
    /// See `weight`.
    pub(crate) queue: u32,
    /// True ready delay.
    pub(crate) ready: Time,
    /// Ready delay as the node reckons it.
    pub(crate) seen: Time,
    /// Forecast at the median.
    pub(crate) median: Time,
    /// Forecast leads at the field's dials.
    pub(crate) leads: [Time; 2],
}

/// What lying agents say of their processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None: they tell the truth.
    None,
    /// Nothing took any time.
    Instant,
    /// Now and then ten times the truth.
    TenfoldAtTimes,
    /// Now and then nothing.
    InstantAtTimes,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) fleet: Fleet,
    pub(crate) predictor: Predictor,
    pub(crate) dials: [Dial; 2],
    /// What every tenth agent says.
    pub(crate) lie: Lie,
    filters: Vec<OffsetFilter>,
    /// The node's last answer to a heartbeat: sent (own time), received (agent's time).
    answers: Vec<Option<(Time, Time)>>,
    queues: Vec<u32>,
    numbers: Vec<u32>,
    rngs: Vec<Rng>,
    second: u64,
}

impl Field {
    pub(crate) fn new(fleet: Fleet, seed: u64, tuning: Tuning) -> Self {
        let count = fleet.len();
        let mut predictor = Predictor::with_tuning(count, tuning);
        (0..count).for_each(|i| predictor.join(i, fleet.class(i)));
        let dial = |share| Dial::new(share).expect("within the range");
        Self {
            predictor,
            dials: [dial(0.99), dial(0.999)],
            lie: Lie::None,
            filters: vec![OffsetFilter::new(); count as usize],
            answers: vec![None; count as usize],
            queues: vec![0; count as usize],
            numbers: vec![0; count as usize],
            rngs: (0..count).map(|i| Rng::of(seed, u64::from(i))).collect(),
            second: 100,
            fleet,
        }
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Time {
        self.second * SECOND
    }

    /// Lets a second pass: one message to every second agent, a heartbeat from every fifth.
    pub(crate) fn second(&mut self, mut score: impl FnMut(&Fleet, &Shot)) {
        let count = self.fleet.len();
        for i in 0..count {
            let phase = u64::from(fleet::mix(u64::from(i)) as u32);
            let at = self.now() + phase * SECOND / (1 << 32);
            if (phase + self.second).is_multiple_of(BEAT) {
                self.beat(i, at);
            }
            if (phase + self.second).is_multiple_of(EVERY) {
                let shot = self.message(i, at + MS);
                score(&self.fleet, &shot);
            }
        }
        self.second += 1;
    }

    fn beat(&mut self, i: u32, at: Time) {
        let (fleet, rng) = (&self.fleet, &mut self.rngs[i as usize]);
        let filter = &mut self.filters[i as usize];
        let sent = fleet.clock(i, at);
        let arrived = at + fleet.sample_up(i, at, rng);
        self.queues[i as usize] = fleet.queue(i, at);
        if let Some((answered, received)) = self.answers[i as usize]
            && filter.sample(answered, received, sent, arrived)
            && let Some(there) = filter.to_own(received, arrived)
        {
            self.predictor.observe_rtt(i, there.saturating_sub(answered), false);
        }
        let back = arrived + fleet.sample_down(i, arrived, rng);
        self.answers[i as usize] = Some((arrived, fleet.clock(i, back)));
    }

    fn message(&mut self, i: u32, at: Time) -> Shot {
        let (fleet, rng) = (&self.fleet, &mut self.rngs[i as usize]);
        let weight = WEIGHTS[rng.below(WEIGHTS.len() as u64) as usize];
        let work = Work { weight, queue: self.queues[i as usize] };
        let median = self.predictor.forecast(i, work, Dial::MEDIAN).lead;
        let leads = self.dials.map(|dial| self.predictor.forecast(i, work, dial).lead);
        let arrives = at + fleet.sample_down(i, at, rng);
        let queue = fleet.queue(i, arrives);
        let ready = arrives + fleet.sample_service(i, arrives, weight, queue, rng);
        // It holds until the target time, then answers.
        let released = ready.max(at + leads[0]);
        let back = released + fleet.sample_up(i, released, rng);
        let (t2, t3) = (fleet.clock(i, arrives), fleet.clock(i, released));
        let told = t2 + told(self.lie, i, fleet.clock(i, ready) - t2, rng);
        let filter = &mut self.filters[i as usize];
        filter.sample(at, t2, t3, back);
        let own = |there| filter.to_own(there, back).unwrap_or(back);
        let seen = Observed {
            work,
            dial: self.dials[0],
            one_way: own(t2).saturating_sub(at),
            processing: told - t2,
            ready_delay: own(told).saturating_sub(at),
            late: own(told) > at + leads[0],
            lead: leads[0],
            alone: false,
        };
        self.predictor.observe(i, &seen);
        self.numbers[i as usize] += 1;
        Shot {
            agent: i,
            number: self.numbers[i as usize] - 1,
            at,
            weight,
            queue,
            ready: ready - at,
            seen: seen.ready_delay,
            median,
            leads,
        }
    }
}

/// Whether an agent is one of those that may lie.
pub(crate) const fn lies(i: u32) -> bool {
    fleet::mix(i as u64).is_multiple_of(10)
}

fn told(lie: Lie, i: u32, truth: Time, rng: &mut Rng) -> Time {
    match lie {
        Lie::Instant if lies(i) => 1,
        Lie::TenfoldAtTimes if lies(i) && rng.chance(0.2) => truth * 10,
        Lie::InstantAtTimes if lies(i) && rng.chance(0.5) => 1,
        _ => truth,
    }
}
