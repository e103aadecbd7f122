//! What an agent knows of its own speed: rings of 100 samples, their medians, the success rate of
//! the last hour (PROF-01..05).

use crate::Time;
use crate::limits::{BUCKET, HOUR_BUCKETS, RING};

/// The last 100 samples of a duration, with their median at hand.
///
/// A sample is kept in 16 bits: 11 bits of mantissa over units of 256 ns, so a value comes back
/// within 128 ns or 1/4096 of itself, whichever is more; values from 78 hours on count as 78 hours.
#[derive(Clone, Debug)]
pub struct Ring {
    /// In the order they came, around the ring; a slot without a sample is [`EMPTY`].
    codes: [i16; LANES],
    /// Where the next sample goes.
    next: u8,
    len: u8,
    /// The median's code, how many codes are smaller, and how many are equal.
    middle: i16,
    below: u8,
    same: u8,
}

/// Codes in 16 bytes: a vector of every x86.
const VECTOR: usize = 8;
/// A ring's slots, rounded up to whole vectors.
const LANES: usize = RING.next_multiple_of(VECTOR);
/// No sample: above every code, and never the median.
const EMPTY: i16 = i16::MAX;

/// Nanoseconds per unit, as a shift.
const UNIT: u32 = 8;
/// Largest number of units.
const UNITS: u64 = (1 << 40) - 1;
/// Codes per power of two.
const STEP: u32 = 2048;

/// The 16-bit code of a duration; codes have the order of the durations. They are signed because
/// every x86 can compare and choose signed 16-bit lanes.
const fn encode(value: Time) -> i16 {
    let units = if value >> UNIT > UNITS { UNITS } else { value >> UNIT };
    let bits = u64::BITS - units.leading_zeros();
    let shift = bits.saturating_sub(12);
    let code = shift * STEP + (units >> shift) as u32;
    (code as i32 + i16::MIN as i32) as i16
}

/// The middle of the durations with this code.
const fn decode(code: i16) -> Time {
    let code = (code as i32 - i16::MIN as i32) as u32;
    let shift = (code / STEP).saturating_sub(1);
    let mantissa = (code - shift * STEP) as u64;
    (mantissa << (shift + UNIT)) + (1 << (shift + UNIT - 1))
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        Self { codes: [EMPTY; LANES], next: 0, len: 0, middle: 0, below: 0, same: 0 }
    }

    /// Samples held: at most 100.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True before the first sample.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a sample; the oldest of a full ring goes.
    #[inline]
    pub fn add(&mut self, value: Time) {
        let code = encode(value);
        let at = usize::from(self.next);
        if self.len() == RING {
            let old = self.codes[at];
            self.below -= u8::from(old < self.middle);
            self.same -= u8::from(old == self.middle);
        } else {
            self.len += 1;
        }
        self.codes[at] = code;
        self.next = if at + 1 == RING { 0 } else { self.next + 1 };
        self.below += u8::from(code < self.middle);
        self.same += u8::from(code == self.middle);
        self.settle();
    }

    /// Moves the median to its rank. One sample shifts ranks by one, so this passes over the codes
    /// twice at most, and not at all while the rank stays within the equal ones.
    fn settle(&mut self) {
        let rank = (self.len - 1) / 2;
        while rank < self.below {
            let middle = self.middle;
            let lower = |code: i16| if code < middle { code } else { i16::MIN };
            self.middle = self.fold(i16::MIN, |most, code| most.max(lower(code)));
            self.same = self.count(self.middle);
            self.below -= self.same;
        }
        while rank >= self.below + self.same {
            let middle = self.middle;
            let upper = |code: i16| if code > middle { code } else { EMPTY };
            self.middle = self.fold(EMPTY, |least, code| least.min(upper(code)));
            self.below += self.same;
            self.same = self.count(self.middle);
        }
    }

    /// A fold over all slots, lane by lane so that it becomes vector instructions.
    #[inline]
    fn fold(&self, start: i16, step: impl Fn(i16, i16) -> i16) -> i16 {
        let mut lanes = [start; VECTOR];
        for codes in self.codes.as_chunks::<VECTOR>().0 {
            for (lane, code) in lanes.iter_mut().zip(codes) {
                *lane = step(*lane, *code);
            }
        }
        lanes.into_iter().fold(start, step)
    }

    fn count(&self, code: i16) -> u8 {
        self.codes.iter().fold(0_i16, |sum, it| sum + i16::from(*it == code)) as u8
    }

    /// The median (PROF-03): of an even number of samples the lower of the two in the middle.
    /// None without samples.
    #[must_use]
    #[inline]
    pub const fn median(&self) -> Option<Time> {
        if self.len == 0 { None } else { Some(decode(self.middle)) }
    }

    /// Mean in nanoseconds; none without samples.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let held = &self.codes[..self.len()];
        let sum: u64 = held.iter().map(|code| decode(*code)).sum();
        (!held.is_empty()).then(|| sum as f64 / held.len() as f64)
    }

    /// Coefficient of variation: standard deviation over mean, both over the samples held, without
    /// a dimension. 0 with fewer than two samples.
    #[must_use]
    pub fn variation(&self) -> f32 {
        let Some(mean) = self.mean().filter(|_| self.len > 1) else { return 0.0 };
        let held = &self.codes[..self.len()];
        let squares: f64 = held.iter().map(|code| (decode(*code) as f64 - mean).powi(2)).sum();
        ((squares / held.len() as f64).sqrt() / mean) as f32
    }
}

/// Successes and failures of the last hour, in twelve buckets of five minutes (PROF-04): the
/// current bucket and the eleven before it, so 55 to 60 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hourly {
    /// Successes and failures, by bucket number modulo twelve.
    buckets: [(u16, u16); HOUR_BUCKETS],
    /// Number of the newest bucket.
    newest: u32,
}

impl Hourly {
    /// Nothing happened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [(0, 0); HOUR_BUCKETS], newest: 0 }
    }

    /// Counts one outcome. Where a bucket is full both its counts are halved: its ratio stays. An
    /// outcome from before the newest bucket counts into that one.
    pub fn count(&mut self, now: Time, success: bool) {
        self.advance(now);
        let bucket = &mut self.buckets[self.newest as usize % HOUR_BUCKETS];
        if bucket.0 == u16::MAX || bucket.1 == u16::MAX {
            *bucket = (bucket.0 / 2, bucket.1 / 2);
        }
        if success {
            bucket.0 += 1;
        } else {
            bucket.1 += 1;
        }
    }

    /// Successes and all outcomes of the last hour.
    #[must_use]
    pub fn totals(&self, now: Time) -> (u32, u32) {
        let stale = bucket_of(now).saturating_sub(self.newest) as usize;
        let mut totals = (0, 0);
        for back in 0..HOUR_BUCKETS.saturating_sub(stale) {
            let at = (self.newest as usize + HOUR_BUCKETS - back) % HOUR_BUCKETS;
            let (good, bad) = self.buckets[at];
            totals.0 += u32::from(good);
            totals.1 += u32::from(good) + u32::from(bad);
        }
        totals
    }

    /// The success rate of the last hour, 0 to 1; none where nothing happened.
    #[must_use]
    pub fn rate(&self, now: Time) -> Option<f32> {
        let (good, all) = self.totals(now);
        (all > 0).then(|| good as f32 / all as f32)
    }

    /// Number of the newest bucket.
    pub(crate) const fn newest(&self) -> u32 {
        self.newest
    }

    /// The buckets from the newest back, for a snapshot.
    pub(crate) fn newest_first(&self, now: Time) -> [(u16, u16); HOUR_BUCKETS] {
        let mut aged = *self;
        aged.advance(now);
        core::array::from_fn(|back| {
            aged.buckets[(aged.newest as usize + HOUR_BUCKETS - back) % HOUR_BUCKETS]
        })
    }

    /// What [`Self::newest_first`] gave, as if its newest bucket were the current one.
    pub(crate) fn restore(now: Time, newest_first: &[(u16, u16); HOUR_BUCKETS]) -> Self {
        let mut hourly = Self { newest: bucket_of(now), ..Self::new() };
        for (back, bucket) in newest_first.iter().enumerate() {
            let at = (hourly.newest as usize + HOUR_BUCKETS - back) % HOUR_BUCKETS;
            hourly.buckets[at] = *bucket;
        }
        hourly
    }

    fn advance(&mut self, now: Time) {
        let current = bucket_of(now);
        let steps = current.saturating_sub(self.newest);
        if steps == 0 {
            return;
        }
        for ahead in 1..=steps.min(HOUR_BUCKETS as u32) {
            self.buckets[(self.newest.wrapping_add(ahead)) as usize % HOUR_BUCKETS] = (0, 0);
        }
        self.newest = current;
    }
}

const fn bucket_of(now: Time) -> u32 {
    (now / BUCKET) as u32
}

/// An agent's profile of itself: what its heartbeats report (PROF-01..05).
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// One-way latencies or round trips, as the agent samples them.
    pub latency: Ring,
    /// Processing times, sampled on completion.
    pub processing: Ring,
    /// Outcomes of the last hour.
    pub outcomes: Hourly,
}

impl Profile {
    /// Success rate of the last hour; 1 where nothing happened, so that a newcomer gets work.
    #[must_use]
    pub fn reliability(&self, now: Time) -> f32 {
        self.outcomes.rate(now).unwrap_or(1.0)
    }

    /// Coefficient of variation of the latency.
    #[must_use]
    pub fn drift(&self) -> f32 {
        self.latency.variation()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{MS, SECOND};

    proptest! {
        #[test]
        fn a_code_keeps_the_order_and_4096th_parts(
            a in any::<u64>(),
            b in any::<u64>(),
            shift in 0..60_u32,
        ) {
            let (a, b): (Time, Time) = (a >> shift, b >> shift);
            prop_assert!(encode(a.min(b)) <= encode(a.max(b)));
            if a < 1 << 48 {
                let error = decode(encode(a)).abs_diff(a);
                prop_assert!(error <= 128.max(a / 4096), "{a} came back {error} off");
            }
            prop_assert_eq!(encode(decode(encode(a))), encode(a));
        }

        /// Few different values, so that samples repeat; many, so that they do not.
        #[test]
        fn prof_01_prof_03_the_running_median_is_the_sorted_window_s(
            samples in prop::collection::vec(prop_oneof![0..6_u64, 0..1_000_000_u64], 1..400),
        ) {
            let mut ring = Ring::new();
            for (at, sample) in samples.iter().enumerate() {
                ring.add(sample * 1000);
                let window = &samples[(at + 1).saturating_sub(RING)..=at];
                let mut codes: Vec<i16> = window.iter().map(|it| encode(it * 1000)).collect();
                codes.sort_unstable();
                prop_assert_eq!(ring.median(), Some(decode(codes[(codes.len() - 1) / 2])));
                prop_assert_eq!(ring.len(), codes.len());
            }
        }

        #[test]
        fn prof_04_the_hourly_rate_counts_twelve_buckets(
            outcomes in prop::collection::vec((0..900_u64, any::<bool>()), 1..200),
        ) {
            let (mut hourly, mut now, mut all) = (Hourly::new(), 0, Vec::new());
            for (gap, success) in outcomes {
                now += gap * SECOND;
                hourly.count(now, success);
                all.push((now / BUCKET, success));
                let at = now / BUCKET;
                let in_hour = all.iter().filter(|(bucket, _)| at - bucket < 12);
                let good = in_hour.clone().filter(|(_, success)| *success).count() as u32;
                prop_assert_eq!(hourly.totals(now), (good, in_hour.count() as u32));
                let moved = Hourly::restore(7 * now, &hourly.newest_first(now));
                prop_assert_eq!(moved.rate(7 * now), hourly.rate(now));
            }
            prop_assert_eq!(hourly.rate(now + 12 * BUCKET), None);
        }
    }

    #[test]
    fn x_15_drift_has_no_dimension() {
        let mut profile = Profile::default();
        assert_eq!((profile.drift(), profile.reliability(0)), (0.0, 1.0));
        for at in 0..100 {
            profile.latency.add(if at % 2 == 0 { 90 * MS } else { 110 * MS });
        }
        assert!((profile.drift() - 0.1).abs() < 1e-3, "{}", profile.drift());
        let mut slower = Profile::default();
        for at in 0..100 {
            slower.latency.add(if at % 2 == 0 { 900 * MS } else { 1100 * MS });
        }
        assert!((slower.drift() - profile.drift()).abs() < 1e-3);
    }

    #[test]
    fn prof_05_a_full_bucket_keeps_its_ratio() {
        let mut hourly = Hourly::new();
        for at in 0..300_000 {
            hourly.count(SECOND, at % 4 != 0);
        }
        assert!((hourly.rate(SECOND).unwrap() - 0.75).abs() < 1e-3);
    }
}
