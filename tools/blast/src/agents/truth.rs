//! What truly happened, by the clock that all agents' clocks are drawn from: the node's monotonic
//! clock, which is also this host's.

use fleet::{Fleet, Rng};
use hdrhistogram::Histogram;
use mesh::{Time, agent::Ack};
use std::collections::{BTreeMap, VecDeque};
use wire::mesh::{AgentClass, Trinary};

/// Messages whose moments of acting are kept one by one, for the spread.
const MOMENTS: usize = 64;
/// Messages kept for the comparison with the oracle, per thread.
const SAMPLES: usize = 8_192;
/// Longest time in a histogram: an hour.
const LONGEST: u64 = 3_600_000_000_000;
/// Classes, A to F.
pub const CLASSES: usize = AgentClass::ALL.len();

/// What an agent was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Of the message.
    pub id: [u8; 16],
    /// The moment, true time.
    pub target: Time,
    /// Complexity.
    pub weight: f32,
    /// Processing time that the node expected, microseconds.
    pub expected_us: u32,
    /// Whether it was to wait for the moment.
    pub hold: bool,
}

/// One answered message, for the comparison with the oracle. True times.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Of the fleet.
    pub agent: u32,
    /// When it left the node.
    pub sent: Time,
    /// From then until READY.
    pub delay: Time,
    /// From then until the target moment.
    pub lead: Time,
    /// Time spent on it.
    pub processing: Time,
    /// What the node expected of that.
    pub expected: Time,
    /// Complexity.
    pub weight: f32,
    /// Messages that waited when it came.
    pub queue: u32,
}

/// Counts of one class.
#[derive(Clone, Debug)]
pub struct ClassTruth {
    /// Messages that reached an agent.
    pub orders: u64,
    /// Answered READY.
    pub ready: u64,
    /// Ready at the target moment or before.
    pub on_time: u64,
    /// Answered CONFLICT.
    pub conflicts: u64,
    /// Nanoseconds before the target moment, of those on time.
    pub earliness: Histogram<u64>,
    /// Nanoseconds behind it, of the others.
    pub lateness: Histogram<u64>,
}

/// Everything that one thread counts.
#[derive(Clone, Debug)]
pub struct Truth {
    /// By class code.
    pub classes: Vec<ClassTruth>,
    /// Nanoseconds between the target moment and the act, whichever was first, of agents that held
    /// and were ready on time.
    pub act_error: Histogram<u64>,
    /// Of these, acts before the moment: the agent's estimate of the node's clock was ahead.
    pub acted_before: u64,
    /// By message: acts after the target moment, nanoseconds; negative for before.
    pub moments: VecDeque<([u8; 16], Vec<i32>)>,
    /// A fair choice of all answered messages.
    pub samples: Vec<Sample>,
    /// Answered messages that the choice was made from.
    pub sampled: u64,
    /// Nanoseconds from a heartbeat (or its plan) to its answer.
    pub beat_ns: Histogram<u64>,
    /// Everything else, by name.
    pub counts: BTreeMap<&'static str, u64>,
    rng: Rng,
}

fn histogram() -> Histogram<u64> {
    // Bounds are constants that the crate accepts.
    Histogram::new_with_bounds(1, LONGEST, 3).expect("sound bounds")
}

impl Truth {
    /// Nothing happened yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let class = ClassTruth {
            orders: 0,
            ready: 0,
            on_time: 0,
            conflicts: 0,
            earliness: histogram(),
            lateness: histogram(),
        };
        Self {
            classes: vec![class; CLASSES],
            act_error: histogram(),
            acted_before: 0,
            moments: VecDeque::new(),
            samples: Vec::new(),
            sampled: 0,
            beat_ns: histogram(),
            counts: BTreeMap::new(),
            rng: Rng::new(seed),
        }
    }

    /// Adds to a count.
    pub fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_insert(0) += by;
    }

    /// A count.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// An answer leaves agent `index` of the fleet, which was asked `asked`.
    pub fn answer(&mut self, fleet: &Fleet, index: u32, asked: &Asked, ack: &Ack) {
        let class = &mut self.classes[usize::from(fleet.class(index).code())];
        match Trinary::from_code(ack.state).unwrap_or(Trinary::Transit) {
            Trinary::Transit => {
                self.count("transits", 1);
                return;
            }
            Trinary::Conflict => {
                class.conflicts += 1;
                return;
            }
            Trinary::Ready => class.ready += 1,
        }
        if ack.message_id != asked.id || asked.target == 0 {
            return;
        }
        let ready = fleet.true_time(index, ack.ready_ns);
        if ready <= asked.target {
            class.on_time += 1;
            class.earliness.saturating_record(asked.target - ready);
        } else {
            class.lateness.saturating_record(ready - asked.target);
        }
        if asked.hold && ready <= asked.target {
            self.act(fleet.true_time(index, ack.acted_ns), asked);
        }
        self.sample(Sample {
            agent: index,
            sent: ack.origin_ns,
            delay: ready.saturating_sub(ack.origin_ns),
            lead: asked.target.saturating_sub(ack.origin_ns),
            processing: ack.processing_ns,
            expected: u64::from(asked.expected_us) * 1_000,
            weight: asked.weight,
            queue: ack.queue_found,
        });
    }

    fn act(&mut self, acted: Time, asked: &Asked) {
        let error = acted as i64 - asked.target as i64;
        self.acted_before += u64::from(error < 0);
        self.act_error.saturating_record(error.unsigned_abs());
        let error = error.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        if let Some((_, acts)) = self.moments.iter_mut().rev().find(|(id, _)| *id == asked.id) {
            acts.push(error);
            return;
        }
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back((asked.id, vec![error]));
    }

    fn sample(&mut self, sample: Sample) {
        self.sampled += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else if let Some(place) = self.samples.get_mut(self.rng.below(self.sampled) as usize) {
            *place = sample;
        }
    }

    /// Takes another thread's counts in.
    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.orders += theirs.orders;
            mine.ready += theirs.ready;
            mine.on_time += theirs.on_time;
            mine.conflicts += theirs.conflicts;
            add(&mut mine.earliness, &theirs.earliness);
            add(&mut mine.lateness, &theirs.lateness);
        }
        add(&mut self.act_error, &other.act_error);
        add(&mut self.beat_ns, &other.beat_ns);
        self.acted_before += other.acted_before;
        for (id, acts) in other.moments {
            match self.moments.iter_mut().find(|(mine, _)| *mine == id) {
                Some((_, mine)) => mine.extend(acts),
                None => self.moments.push_back((id, acts)),
            }
        }
        self.samples.extend(other.samples);
        self.sampled += other.sampled;
        for (what, by) in other.counts {
            self.count(what, by);
        }
    }

    /// For each message: how far apart its acts were, from the first one on, at the median, the
    /// 99th percentile and the last. The median message's of each.
    #[must_use]
    pub fn spread(&self) -> Option<[f64; 3]> {
        let mut spreads: [Vec<f64>; 3] = Default::default();
        for (_, acts) in self.moments.iter().filter(|(_, acts)| acts.len() > 1) {
            let mut acts = acts.clone();
            acts.sort_unstable();
            let last = acts.len() - 1;
            let after = |share: f64| {
                let at = (share * last as f64).round() as usize;
                f64::from(acts[at]) - f64::from(acts[0])
            };
            for (spread, share) in spreads.iter_mut().zip([0.5, 0.99, 1.0]) {
                spread.push(after(share));
            }
        }
        let middle = |mut all: Vec<f64>| {
            all.sort_unstable_by(f64::total_cmp);
            all.get(all.len() / 2).copied()
        };
        let [p50, p99, max] = spreads.map(middle);
        Some([p50?, p99?, max?])
    }
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    // Both have the same bounds.
    let _ = to.add(from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::{MS, Mix, SECOND, World};

    fn ack(fleet: &Fleet, ready: Time, acted: Time) -> Ack {
        Ack {
            message_id: [1; 16],
            handle: 0,
            generation: 0,
            hlc: 0,
            origin_ns: SECOND,
            received_ns: 0,
            ready_ns: fleet.clock(0, ready),
            acted_ns: fleet.clock(0, acted),
            sent_ns: 0,
            target_own_ns: 0,
            processing_ns: 5 * MS,
            context_hash: 0,
            queue_found: 0,
            queue_depth: 0,
            state: Trinary::Ready.code(),
            conflict_detail: "",
        }
    }

    #[test]
    fn the_truth_is_told_by_the_true_clock_whatever_the_agents_shows() {
        let fleet = Fleet::new(3, World::Hostile, Mix::Source, 1);
        let target = 3 * SECOND;
        let asked = Asked { id: [1; 16], target, hold: true, ..Asked::default() };
        let mut truth = Truth::new(1);
        truth.answer(&fleet, 0, &asked, &ack(&fleet, target - MS, target + 20_000));
        truth.answer(&fleet, 0, &asked, &ack(&fleet, target + MS, target + MS));
        truth.answer(&fleet, 0, &asked, &ack(&fleet, target - 2 * MS, target - 30_000));
        let class = &truth.classes[usize::from(fleet.class(0).code())];
        assert_eq!((class.ready, class.on_time, class.lateness.len()), (3, 2, 1));
        assert!((class.earliness.mean() - 1.5e6).abs() < 5_000.0);
        assert_eq!((truth.act_error.len(), truth.acted_before), (2, 1));
        let spread = truth.spread().expect("two acts");
        assert!((spread[2] - 50_000.0).abs() < 10.0, "{spread:?}");
        assert_eq!(truth.samples.len(), 3);
        assert_eq!(truth.samples[0].lead, 2 * SECOND);
    }

    #[test]
    fn threads_add_up_and_memory_is_bounded() {
        let fleet = Fleet::new(3, World::Off, Mix::Source, 1);
        let asked = |id: u8| Asked { id: [id; 16], target: SECOND, hold: true, ..Asked::default() };
        let mut all = Truth::new(1);
        for _ in 0..2 {
            let mut one = Truth::new(2);
            for round in 0..20_000_u32 {
                let id = (round % 200) as u8;
                let ack = Ack { message_id: [id; 16], ..ack(&fleet, 0, SECOND) };
                one.answer(&fleet, 0, &asked(id), &ack);
            }
            assert!(one.moments.len() <= MOMENTS && one.samples.len() == SAMPLES);
            one.count("beats", 5);
            all.merge(one);
        }
        assert_eq!((all.sampled, all.of("beats"), all.of("nothing")), (40_000, 10, 0));
        assert_eq!(all.act_error.len(), 40_000);
    }
}
