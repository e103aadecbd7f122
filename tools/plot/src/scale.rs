//! Numbers to places on an axis, and the round numbers that are written beside it.

/// Larger numbers are drawn as this one: nothing that is measured comes near, and sums stay finite.
const MOST: f64 = 1e15;
/// Smallest number of a logarithmic axis.
const LEAST: f64 = 1e-12;

/// An axis: what its two ends stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// From 0 to a little over the largest of these.
    pub fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let (_, most) = ends(values, 0.0).unwrap_or((0.0, 1.0));
        Self { from: 0.0, to: if most > 0.0 { most * 1.05 } else { 1.0 }, log: false }
    }

    /// From a little under the smallest to a little over the largest; never below 0 where nothing
    /// is negative.
    pub fn around(values: impl IntoIterator<Item = f64>) -> Self {
        let (least, most) = ends(values, -MOST).unwrap_or((0.0, 1.0));
        let room = (0.06 * (most - least)).max(1e-9 * most.abs()).max(1e-9);
        let from = if least >= 0.0 { (least - room).max(0.0) } else { least - room };
        Self { from, to: most + room, log: false }
    }

    /// Between exactly these.
    #[must_use]
    pub fn between(from: f64, to: f64) -> Self {
        let (from, to) = ends([from, to], -MOST).unwrap_or((0.0, 1.0));
        Self { from, to: if to > from { to } else { from + 1.0 }, log: false }
    }

    /// Equal factors take equal room; holds all that are over 0, and at least half a decade.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let sound = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (least, most) = ends(sound, LEAST).unwrap_or((0.1, 1.0));
        let (least, most) = (least.max(LEAST), most.max(LEAST));
        let missing = (10_f64.sqrt() / (most / least)).max(1.0).sqrt();
        Self { from: least / missing / 1.1, to: most * missing * 1.1, log: true }
    }

    /// The ends.
    #[must_use]
    pub const fn ends(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    /// Where a number lies, 0 to 1. What lies outside is at the end that it is nearer to; what is
    /// no number is at the beginning.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(f64::MIN_POSITIVE).ln() - self.from.ln()) / (self.to.ln() - self.from.ln())
        } else {
            (value - self.from) / (self.to - self.from)
        };
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// Round numbers on the axis, lowest first, about so many.
    #[must_use]
    pub fn ticks(&self, about: usize) -> Vec<f64> {
        if self.log { self.factors(about) } else { self.steps(about) }
    }

    fn steps(&self, about: usize) -> Vec<f64> {
        let rough = (self.to - self.from) / about.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|digit| digit * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
        let first = (self.from / step).ceil();
        let all = (0..=2 * about.max(1)).map(|n| (first + n as f64) * step);
        // What is 0 but for rounding is 0.
        let all = all.map(|tick| if tick.abs() < step * 1e-6 { 0.0 } else { tick });
        all.take_while(|tick| *tick <= self.to * (1.0 + 1e-12)).collect()
    }

    fn factors(&self, about: usize) -> Vec<f64> {
        let decades = (self.to / self.from).log10();
        let digits: &[f64] = if decades * 1.5 > about as f64 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let stride = (decades / about.max(1) as f64).ceil().max(1.0) as usize;
        let powers = (self.from.log10().floor() as i32..=self.to.log10().ceil() as i32)
            .filter(|power| (power.unsigned_abs() as usize).is_multiple_of(stride));
        powers
            .flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
            .filter(|tick| (self.from..=self.to).contains(tick))
            .collect()
    }
}

/// The smallest and the largest of those that are numbers, `least` at least.
fn ends(values: impl IntoIterator<Item = f64>, least: f64) -> Option<(f64, f64)> {
    let sound = values.into_iter().filter(|value| value.is_finite());
    let held = sound.map(|value| value.clamp(least, MOST));
    held.fold(None, |ends, value| {
        let (low, high) = ends.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::between(100.0, 420.0).ticks(5), [100.0, 200.0, 300.0, 400.0]);
        assert_eq!(Scale::between(-1.0, 1.0).ticks(4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        let log = Scale::logarithmic([0.009, 0.11]);
        assert_eq!(log.ticks(6), [0.01, 0.02, 0.05, 0.1]);
        let wide = Scale::logarithmic([1.0, 1e6]);
        assert_eq!(wide.ticks(8), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn places_are_in_order() {
        let scale = Scale::between(0.0, 10.0);
        assert_eq!([0.0, 5.0, 10.0, 99.0].map(|x| scale.place(x)), [0.0, 0.5, 1.0, 1.0]);
        let log = Scale::logarithmic([1.0, 100.0]);
        assert!((log.place(10.0) - 0.5).abs() < 1e-9);
        assert_eq!((log.place(0.0), log.place(f64::NAN)), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn any_numbers_make_an_axis(values in prop::collection::vec(any::<f64>(), 0..20)) {
            let zero = Scale::from_zero(values.iter().copied());
            let around = Scale::around(values.iter().copied());
            let log = Scale::logarithmic(values.iter().copied());
            for scale in [zero, around, log] {
                let (from, to) = scale.ends();
                prop_assert!(from.is_finite() && to.is_finite() && from < to, "{scale:?}");
                for value in &values {
                    prop_assert!((0.0..=1.0).contains(&scale.place(*value)));
                }
                let ticks = scale.ticks(6);
                prop_assert!(ticks.len() <= 40, "{scale:?} {ticks:?}");
                prop_assert!(ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
                prop_assert!(ticks.windows(2).all(|two| two[0] < two[1]), "{ticks:?}");
            }
        }
    }
}
