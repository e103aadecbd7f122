//! The only source of chance: xoshiro256++ seeded by SplitMix64, and the shapes drawn from it.
//! The same numbers on every machine; the shapes use the platform's `ln`, `exp` and `sin`.

use crate::normal;

/// One step of SplitMix64: a bijection whose output looks like noise.
#[must_use]
pub const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of pseudo-random numbers, 32 bytes.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let a = mix(seed);
        let b = mix(a);
        let c = mix(b);
        Self([a, b, c, mix(c) | 1])
    }

    /// The stream of one agent (or link, or thread) within a seed: independent of its neighbours'.
    #[must_use]
    pub const fn of(seed: u64, index: u64) -> Self {
        Self::new(mix(seed) ^ index.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "an endless stream, not an iterator")]
    pub const fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Reads its state and draws nothing, for who wants it in the processor's cache.
    #[must_use]
    pub const fn touch(&self) -> u64 {
        self.0[0] ^ self.0[3]
    }

    /// A number in the open interval (0, 1).
    pub const fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64)
    }

    /// A number below `n` (0 for `n` 0).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `from..to`.
    pub const fn range(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// True with this probability.
    pub const fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A standard normal number, by inverting its distribution: one draw each.
    pub fn normal(&mut self) -> f64 {
        normal::quantile(self.unit())
    }

    /// A lognormal number with median 1.
    pub fn lognormal(&mut self, sigma: f64) -> f64 {
        (sigma * self.normal()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_stream_and_neighbours_differ() {
        let (mut a, mut b) = (Rng::of(42, 7), Rng::of(42, 7));
        assert!((0..100).all(|_| a.next() == b.next()));
        assert_ne!(Rng::of(42, 7).next(), Rng::of(42, 8).next());
        assert_ne!(Rng::of(42, 7).next(), Rng::of(43, 7).next());
    }

    #[test]
    fn numbers_stay_in_range_and_have_the_moments_they_should() {
        let mut rng = Rng::new(1);
        assert!((0..10_000).all(|_| rng.below(10) < 10));
        let n = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = rng.normal();
            sum += x;
            squares += x * x;
        }
        assert!((sum / f64::from(n)).abs() < 0.02);
        assert!((squares / f64::from(n) - 1.0).abs() < 0.02);
    }
}
