//! Slow and plain: what the kernels mean.

use std::cmp::Ordering;

use kernels::flags;

/// Indices of the k best by sorting the whole row, and logsumexp in f64.
pub(crate) fn topk(row: &[f32], k: usize) -> (Vec<u32>, Vec<f32>) {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    order.retain(|i| !row[*i as usize].is_nan());
    order.sort_by(|a, b| {
        let (x, y) = (row[*a as usize], row[*b as usize]);
        y.partial_cmp(&x).unwrap_or(Ordering::Equal).then(a.cmp(b))
    });
    order.truncate(k);
    let values = order.iter().map(|i| row[*i as usize]).collect();
    (order, values)
}

/// `ln(sum of exp(x - max))` of the entries that are not NaN, for a finite maximum.
pub(crate) fn log_sum(row: &[f32]) -> f64 {
    let valid = || row.iter().map(|x| f64::from(*x)).filter(|x| !x.is_nan());
    let max = valid().fold(f64::NEG_INFINITY, f64::max);
    valid().map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// The table of `int8.rs`, entry by entry.
pub(crate) fn int8(row: &[f32]) -> (Vec<i8>, f32, u8) {
    let finite = row.iter().filter(|x| x.is_finite());
    let absmax = finite.fold(0.0_f32, |top, x| top.max(x.abs()));
    let scale = absmax / 127.0;
    let code = |x: &f32| {
        if x.is_nan() {
            0
        } else if x.is_infinite() {
            if *x > 0.0 { 127 } else { -127 }
        } else if scale == 0.0 {
            0
        } else {
            (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8
        }
    };
    let codes = row.iter().map(code).collect();
    let mut seen = 0;
    for (flag, is_set) in [
        (flags::NAN, row.iter().any(|x| x.is_nan())),
        (flags::INFINITY, row.iter().any(|x| x.is_infinite())),
        (flags::ZERO_ROW, absmax == 0.0),
        (flags::DENORMAL_SCALE, absmax > 0.0 && (scale.is_subnormal() || scale == 0.0)),
    ] {
        seen |= if is_set { flag } else { 0 };
    }
    (codes, scale, seen)
}

/// A small generator (splitmix64), so that tests need no seed files.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// In 0.0..1.0.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// About normal: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}
