//! How far another machine's monotonic clock is ahead of one's own, and how fast it drifts, from
//! exchanges with four timestamps. No clock is ever set, and a step of anybody's wall clock
//! changes nothing.
//!
//! Each exchange bounds the offset: it lies within half a round trip of the middle. Where in that
//! span, nobody can know: a path that is slower one way shifts it by half the difference
//! ([`OffsetFilter::error_bound`]). What can be filtered is noise: an exchange that took longer
//! than the shortest of the last minute was delayed somewhere, by up to its excess, on either way.
//! The filter is a Kalman filter for (offset, drift) which takes half that excess as the
//! measurement's standard deviation: short exchanges count fully, long ones hardly.

use crate::{SECOND, Time};

/// The shortest round trip is that of this and the last window, seconds.
const WINDOW_S: u16 = 30;
/// What timestamps and roundings may be off, ns.
const ROUNDING: f32 = 50_000.0;
/// Longest exchange that is looked at: a heartbeat's answer may lie with the other side for long.
const LONGEST: Time = 600 * SECOND;
/// Standard deviation of unknown clocks' drift: 60 ppm, in ns/s.
const DRIFT_SPREAD: f32 = 60_000.0;
/// No two clocks drift apart by more: 100 ppm, in ns/s (crystals are good for 50 each). The bound
/// of the error rests on this, not on the filter's variance, which noise that is not normal belies.
const DRIFT_BOUND: f32 = 100_000.0;
/// Growth of the drift's variance: 10 ns/s per square root of a second (temperature).
const DRIFT_NOISE: f32 = 100.0;
/// Drift that nobody's clock has: 1000 ppm, in ns/s. Larger estimates are held there.
const DRIFT_MOST: f32 = 1.0e6;
/// Contradicting exchanges in a row after which the other clock is taken to have stepped.
const CONTRADICTIONS: u8 = 3;

/// Offset and drift of another clock against one's own: the other's reading minus one's own.
/// 48 bytes.
#[derive(Clone, Copy, Debug)]
pub struct OffsetFilter {
    /// The estimate at `at`, ns.
    offset: i64,
    /// Own time of the estimate.
    at: Time,
    /// ns per second.
    drift: f32,
    /// Covariance of (offset, drift), in ns^2, ns^2/s, ns^2/s^2.
    p00: f32,
    p01: f32,
    p11: f32,
    /// The true offset is within this of the estimate at `at`, ns.
    bound: f32,
    /// Shortest round trips of the last and this window, ns; `u32::MAX` is none.
    rtt_last: u32,
    rtt_now: u32,
    /// Start of this window, own seconds modulo 2^16.
    window: u16,
    contradictions: u8,
    known: bool,
}

const _: () = assert!(size_of::<OffsetFilter>() <= 48);

/// One exchange, checked.
struct Exchange {
    offset: i64,
    rtt: u32,
    /// The true offset is within this of `offset`: half the round trip, and what the dwell may
    /// have been counted wrong.
    half: f32,
    /// Own time in the middle.
    at: Time,
}

impl Default for OffsetFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl OffsetFilter {
    /// Knows nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            offset: 0,
            at: 0,
            drift: 0.0,
            p00: 0.0,
            p01: 0.0,
            p11: DRIFT_SPREAD * DRIFT_SPREAD,
            bound: 0.0,
            rtt_last: u32::MAX,
            rtt_now: u32::MAX,
            window: 0,
            contradictions: 0,
            known: false,
        }
    }

    /// Takes one exchange: sent at `t1` (own clock), received at `t2` and answered at `t3` (the
    /// other's), back at `t4` (own). False: an impossible exchange (an end before its start, a
    /// dwell longer than the whole, over ten minutes) or one that was under way for over 4.29 s,
    /// ignored.
    pub fn sample(&mut self, t1: Time, t2: Time, t3: Time, t4: Time) -> bool {
        let seen = self.exchange(t1, t2, t3, t4);
        seen.map(|seen| self.take(&seen, CONTRADICTIONS)).is_some()
    }

    /// Likewise for the first exchange over a new connection: the other side may be another
    /// machine, or have started anew. An exchange that contradicts the estimate ends it at once,
    /// and so does one that is ignored: nothing says that it is still the same clock.
    pub fn sample_first(&mut self, t1: Time, t2: Time, t3: Time, t4: Time) -> bool {
        let seen = self.exchange(t1, t2, t3, t4);
        if seen.is_none() {
            *self = Self::new();
        }
        seen.map(|seen| self.take(&seen, 1)).is_some()
    }

    fn take(&mut self, seen: &Exchange, contradictions: u8) {
        let first = !self.known;
        let before = self.rtt_now.min(self.rtt_last);
        let shortest = self.note_rtt(seen.rtt, seen.at);
        if first {
            self.restart(seen);
            return;
        }
        self.predict(seen.at);
        // Shorter than any: what counted as short before was off by up to half of the difference.
        let learned = before.saturating_sub(seen.rtt) as f32 / 2.0;
        self.p00 += learned * learned;
        let innovation = seen.offset.saturating_sub(self.offset);
        let slack = f64::from(seen.half) + f64::from(self.bound) + f64::from(ROUNDING);
        if innovation.unsigned_abs() as f64 > slack {
            // No offset fits both: the other clock stepped, or somebody lies.
            self.contradictions += 1;
            if self.contradictions >= contradictions {
                self.rtt_last = u32::MAX;
                self.rtt_now = seen.rtt;
                self.restart(seen);
            }
            return;
        }
        self.contradictions = 0;
        self.correct(innovation as f32, seen, shortest);
    }

    /// Whether any exchange has been taken.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// The other clock's lead at this own time, drift included.
    #[must_use]
    pub fn offset_at(&self, own: Time) -> Option<i64> {
        if !self.known {
            return None;
        }
        let apart = own.abs_diff(self.at) as f64 / SECOND as f64;
        let seconds = if own < self.at { -apart } else { apart };
        Some(self.offset.saturating_add((f64::from(self.drift) * seconds) as i64))
    }

    /// The own time at which the other's clock shows `other`, seen from about `own_now`.
    #[must_use]
    pub fn to_own(&self, other: Time, own_now: Time) -> Option<Time> {
        let rough = shifted(other, self.offset_at(own_now)?.checked_neg()?)?;
        shifted(other, self.offset_at(rough)?.checked_neg()?)
    }

    /// What the other's clock shows at this own time.
    #[must_use]
    pub fn to_other(&self, own: Time) -> Option<Time> {
        shifted(own, self.offset_at(own)?)
    }

    /// The shortest round trip of the last 30 to 60 seconds of exchanges.
    #[must_use]
    pub fn rtt_min(&self) -> Option<Time> {
        self.known.then(|| Time::from(self.rtt_last.min(self.rtt_now)))
    }

    /// The estimate is not further from the truth than this, as of the last exchange: each exchange
    /// bounds the true offset by half its round trip (a path may be slow one way only), what all of
    /// them allow is left, and between them it grows by what the estimated drift may be off where
    /// the true one is at most 100 ppm. It holds for honest timestamps on such clocks that do not
    /// step.
    #[must_use]
    pub fn error_bound(&self) -> Time {
        if self.known { (self.bound + ROUNDING) as Time } else { Time::MAX }
    }

    /// Likewise for the estimate at this own time, past the last exchange or ahead.
    #[must_use]
    pub fn error_bound_at(&self, own: Time) -> Time {
        let seconds = own.abs_diff(self.at) as f64 / SECOND as f64;
        let drift = (seconds * f64::from(self.drift_unknown())) as Time;
        self.error_bound().saturating_add(drift)
    }

    fn exchange(&self, t1: Time, t2: Time, t3: Time, t4: Time) -> Option<Exchange> {
        let (whole, dwell) = (t4.checked_sub(t1)?, t3.checked_sub(t2)?);
        // The dwell is counted by a clock that may be 1000 ppm fast.
        if whole > LONGEST || dwell > whole + whole / 1000 + 1_000 {
            return None;
        }
        let own_dwell = dwell as f64 / (1.0 + f64::from(self.drift) * 1e-9);
        let rtt = (whole as f64 - own_dwell).max(0.0);
        if rtt >= f64::from(u32::MAX) {
            return None;
        }
        let half = (rtt as f32 + dwell as f32 * 1e-9 * self.drift_unknown()) / 2.0;
        let rtt = rtt as u32;
        let sum = i128::from(t2) - i128::from(t1) + i128::from(t3) - i128::from(t4);
        let offset = i64::try_from(sum / 2).ok()?;
        (offset.unsigned_abs() < 1 << 62).then_some(Exchange {
            offset,
            rtt,
            half,
            at: t1 + whole / 2,
        })
    }

    /// Keeps the shortest round trips of two windows; the shortest of both.
    fn note_rtt(&mut self, rtt: u32, at: Time) -> u32 {
        let now = (at / SECOND) as u16;
        if self.rtt_now == u32::MAX {
            self.window = now;
        }
        // Exchanges may come a little out of order: an age beyond half the range is "before".
        let age = now.wrapping_sub(self.window);
        if (WINDOW_S..u16::MAX / 2).contains(&age) {
            self.rtt_last = self.rtt_now;
            self.rtt_now = rtt;
            self.window = now;
        }
        self.rtt_now = self.rtt_now.min(rtt);
        self.rtt_now.min(self.rtt_last)
    }

    fn restart(&mut self, seen: &Exchange) {
        let drift_known = self.known && self.p11 < DRIFT_SPREAD * DRIFT_SPREAD / 100.0;
        self.offset = seen.offset;
        self.at = seen.at;
        self.bound = seen.half;
        self.p00 = noise(seen.rtt, seen.rtt / 2);
        self.p01 = 0.0;
        if !drift_known {
            self.drift = 0.0;
            self.p11 = DRIFT_SPREAD * DRIFT_SPREAD;
        }
        self.contradictions = 0;
        self.known = true;
    }

    /// Carries the estimate to `at`. An exchange from before it changes nothing but the offset's
    /// reference: the estimate is taken as it stands.
    fn predict(&mut self, at: Time) {
        let Some(run) = at.checked_sub(self.at) else { return };
        let seconds = run as f64 / SECOND as f64;
        self.offset = self.offset.saturating_add((f64::from(self.drift) * seconds) as i64);
        self.at = at;
        let dt = seconds as f32;
        self.bound += dt * self.drift_unknown();
        self.p00 += dt * (2.0 * self.p01 + dt * self.p11);
        self.p01 += dt * self.p11;
        self.p11 = (self.p11 + DRIFT_NOISE * dt).min(DRIFT_SPREAD * DRIFT_SPREAD);
    }

    /// What the estimated drift may be off, ns/s.
    fn drift_unknown(&self) -> f32 {
        self.drift.abs() + DRIFT_BOUND
    }

    /// The estimate moves by `step` towards an exchange that is `innovation` away, as far as both
    /// bounds have room; what is left of them is the new bound. Returns the step that was made.
    fn narrow(&mut self, innovation: f32, half: f32, step: f32) -> f32 {
        let low = (-self.bound).max(innovation - half);
        let high = self.bound.min(innovation + half);
        // They may miss each other by the roundings.
        let (low, high) = (low.min(high), high.max(low));
        let step = step.clamp(low, high);
        self.bound = (high - step).max(step - low);
        step
    }

    fn correct(&mut self, innovation: f32, seen: &Exchange, shortest: u32) {
        let measured = noise(seen.rtt, shortest);
        // An outlier (beyond three deviations) counts for as much as one at three.
        let spread = self.p00 + measured;
        let strange = innovation * innovation / (9.0 * spread);
        let total = if strange > 1.0 { spread * strange } else { spread };
        let (k0, k1) = (self.p00 / total, self.p01 / total);
        let step = self.narrow(innovation, seen.half, k0 * innovation);
        self.offset = self.offset.saturating_add(step.round() as i64);
        self.drift = (self.drift + k1 * innovation).clamp(-DRIFT_MOST, DRIFT_MOST);
        self.p11 = (self.p11 - k1 * self.p01).max(1.0);
        self.p01 *= 1.0 - k0;
        self.p00 = (self.p00 * (1.0 - k0)).max(1.0);
    }
}

/// Variance of an exchange's offset, ns^2: half its excess over the shortest, at least 1 % of the
/// shortest and 1 us.
fn noise(rtt: u32, shortest: u32) -> f32 {
    let excess = (rtt - shortest.min(rtt)) as f32 / 2.0;
    let least = shortest as f32 * 0.01;
    excess * excess + least * least + 1.0e6
}

fn shifted(time: Time, by: i64) -> Option<Time> {
    time.checked_add_signed(by)
}

#[cfg(test)]
mod tests;
