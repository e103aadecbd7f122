//! The wanted share on time, and the grid that quantiles are tabulated on.

/// Grid points per halving of the share that is late.
const PER_HALVING: f64 = 8.0;
/// Grid points from 0.5 to beyond 0.9999.
pub(crate) const GRID: usize = 100;

/// A wanted share on time, 0.5 to 0.9999.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dial {
    share: f64,
    /// Place on the grid: the point at or below, and how far to the next one.
    point: u16,
    part: f32,
}

impl Dial {
    /// Half early, half late: what a plain send aims at.
    pub const MEDIAN: Self = Self { share: 0.5, point: 0, part: 0.0 };

    /// 99.9 % on time: what an agent of which nothing is known gets at least.
    pub const P999: Self = Self { share: 0.999, point: 71, part: 0.726_27 };

    /// 95 % on time.
    pub const P95: Self = Self { share: 0.95, point: 26, part: 0.575_425 };

    /// A share on time. None: not within 0.5..=0.9999.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        if !(0.5..=0.9999).contains(&share) {
            return None;
        }
        let place = (-(1.0 - share).log2() - 1.0) * PER_HALVING;
        let point = (place as usize).min(GRID - 2);
        Some(Self { share, point: point as u16, part: (place - point as f64) as f32 })
    }

    /// The share.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.share
    }

    /// This dial, or `other` where that is more careful.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        if self.share < other.share { other } else { self }
    }

    /// The value of a tabulated quantile function here.
    pub(crate) fn read(self, table: &[f32; GRID]) -> f32 {
        let point = usize::from(self.point);
        let (low, high) = (table[point], table[point + 1]);
        low + self.part * (high - low)
    }
}

/// Share that is late at a grid point.
pub(crate) fn late_share(point: usize) -> f64 {
    0.5 * (-(point as f64) / PER_HALVING).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shares_within_the_range_are_dials() {
        for bad in [0.0, 0.499, 1.0, 0.99995, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Dial::new(bad), None);
        }
        assert_eq!(Dial::new(0.5), Some(Dial::MEDIAN));
        assert!(Dial::new(0.9999).is_some());
        for fixed in [Dial::P95, Dial::P999] {
            let made = Dial::new(fixed.share()).unwrap();
            assert!(made.point == fixed.point && (made.part - fixed.part).abs() < 1e-4, "{made:?}");
        }
    }

    #[test]
    fn a_dial_reads_between_the_points_around_it() {
        let mut table = [0.0_f32; GRID];
        for (point, value) in table.iter_mut().enumerate() {
            *value = -late_share(point).log2() as f32;
        }
        for share in [0.5, 0.75, 0.9, 0.99, 0.995, 0.999, 0.9999] {
            let exact = -(1.0 - share as f32).log2();
            assert!((Dial::new(share).unwrap().read(&table) - exact).abs() < 1e-2, "{share}");
        }
    }
}
