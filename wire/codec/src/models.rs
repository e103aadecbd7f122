//! How likely each coefficient is: a small set of distributions, made by integer arithmetic from
//! one number each (C20, C21).
//!
//! A distribution is logistic, rounded to whole steps: with x = exp(-(k + 1/2) / s) the probability
//! of a magnitude above k is 2 x / (1 + x). (Coefficients of hidden states have heavier ends than a
//! Gaussian and lighter ones than a Laplacian.) Distribution c has the standard deviation 2^((c -
//! 12) / 4) steps. Where a channel's is larger than the largest, the low bits of its codes are
//! written as they are and the rest by the distribution that fits.

use crate::Fault;
use crate::range::{RangeReader, RangeWriter, SHARES};
use std::sync::OnceLock;
use wire::Full;

/// Distributions.
const COUNT: usize = 32;
/// The one whose standard deviation is one step.
const UNIT: i32 = 12;

/// exp(-1 / (2 s)) of each distribution in 2^-32, rounded; s = deviation * sqrt(3) / pi.
const HALF_STEP: [u32; COUNT] = [
    3_034_364,
    9_624_671,
    25_406_369,
    57_468_272,
    114_159_945,
    203_316_617,
    330_332_446,
    496_814_199,
    700_223_700,
    934_472_161,
    1_191_120_083,
    1_460_753_482,
    1_734_196_613,
    2_003_378_989,
    2_261_818_252,
    2_504_773_130,
    2_729_160_629,
    2_933_333_809,
    3_116_798_906,
    3_279_926_627,
    3_423_690_355,
    3_549_446_827,
    3_658_763_366,
    3_753_288_904,
    3_834_662_711,
    3_904_453_616,
    3_964_122_728,
    4_015_003_499,
    4_058_294_092,
    4_095_058_069,
    4_126_230_419,
    4_152_626_725,
];

/// The most magnitudes that have shares of their own.
const LARGEST: usize = 64;

/// The most symbols: 0, [`LARGEST`] on each side, and two for what is beyond.
const SYMBOLS: usize = 2 * LARGEST + 3;

/// Shares that begin a search for a symbol together.
const SEARCH_BITS: u32 = 3;

/// Shares of the codes of a channel: 0, then 1, -1, 2, -2, ..., then all larger ones, then all
/// smaller ones.
#[derive(Debug)]
struct Model {
    /// Where the shares of each begin, ascending from 0; 4096 at the end and after it.
    starts: [u16; SYMBOLS + 1],
    /// The largest magnitude with shares of its own.
    largest: u32,
    /// By code, from -[`LARGEST`] - 1 on: where its shares begin, and how many there are.
    of_code: [[u16; 2]; 2 * LARGEST + 3],
    /// By the upper bits of a share: the symbol that owns the first share with these.
    first: [u8; 1 << (12 - SEARCH_BITS)],
}

impl Model {
    fn new(half_step: u32) -> Self {
        let beyond = beyond(half_step);
        let largest = beyond.len() - 1;
        let mut starts = [SHARES as u16; SYMBOLS + 1];
        let pairs = beyond.windows(2).map(|pair| pair.iter().copied());
        let differences = pairs.filter_map(|mut pair| Some(pair.next()? - pair.next()?));
        let last = beyond.last().copied();
        let sides = differences.chain(last).flat_map(|shares| [shares, shares]);
        let zero = SHARES - 2 * beyond.first().copied().unwrap_or(1);
        let mut end = 0;
        for (start, shares) in starts.iter_mut().zip(std::iter::once(zero).chain(sides)) {
            *start = end;
            end += shares as u16;
        }
        let mut model = Self {
            starts,
            largest: largest as u32,
            of_code: [[0; 2]; 2 * LARGEST + 3],
            first: [0; 1 << (12 - SEARCH_BITS)],
        };
        for (place, shares) in model.of_code.iter_mut().enumerate() {
            let code = place as i32 - LARGEST as i32 - 1;
            let magnitude = code.unsigned_abs().min(largest as u32 + 1) as usize;
            let symbol = (2 * magnitude).saturating_sub(usize::from(code > 0));
            if let Some([start, end]) = model.starts.get(symbol..symbol + 2) {
                *shares = [*start, *end - *start];
            }
        }
        for (place, first) in model.first.iter_mut().enumerate() {
            let share = (place << SEARCH_BITS) as u16;
            *first = (model.starts.partition_point(|start| *start <= share) - 1) as u8;
        }
        model
    }

    /// Where the shares of a code begin, and how many there are.
    #[inline(always)]
    fn shares(&self, code: i32) -> (u32, u32) {
        const FURTHEST: i32 = LARGEST as i32 + 1;
        let place = (code.clamp(-FURTHEST, FURTHEST) + FURTHEST) as usize;
        let [start, count] = self.of_code[place];
        (u32::from(start), u32::from(count))
    }

    /// The symbol that owns a share (below 4096), where its shares begin, and how many there are.
    #[inline(always)]
    fn symbol(&self, share: u32) -> (usize, u32, u32) {
        let mut symbol = usize::from(self.first[(share >> SEARCH_BITS) as usize]);
        loop {
            let (start, end) = (u32::from(self.starts[symbol]), u32::from(self.starts[symbol + 1]));
            if share < end {
                return (symbol, start, end - start);
            }
            symbol += 1;
        }
    }
}

/// Shares of what is above each magnitude on one side, as far as there is something (C20).
fn beyond(half_step: u32) -> Vec<u32> {
    let half_step = u64::from(half_step);
    let step = (half_step * half_step) >> 32;
    // SHARES * x / (1 + x), rounded.
    let mut beyond = Vec::with_capacity(LARGEST + 1);
    let mut x = half_step;
    while beyond.len() <= LARGEST {
        let whole = (1 << 32) + x;
        beyond.push(((u64::from(SHARES) * x + whole / 2) / whole) as u32);
        if beyond.last().is_some_and(|shares| *shares <= 1) {
            break;
        }
        x = (x * step) >> 32;
    }
    // Every code has a share: from the last on, each has one more at least.
    let mut least = 1;
    for shares in beyond.iter_mut().rev() {
        *shares = (*shares).max(least);
        least = *shares + 1;
    }
    beyond
}

fn models() -> &'static [Model] {
    static MODELS: OnceLock<Vec<Model>> = OnceLock::new();
    MODELS.get_or_init(|| HALF_STEP.iter().map(|half_step| Model::new(*half_step)).collect())
}

/// The distribution of a channel's codes, and how many of their low bits are written as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    model: &'static Model,
    raw: u32,
}

/// Sixteenths of an octave of a positive number, linear within an octave: the logarithm to base 2,
/// roughly, by looking at bits.
pub(crate) const fn sixteenths(x: f32) -> i32 {
    (x.to_bits() >> 19) as i32
}

impl Choice {
    /// For a channel whose coefficients are `spread` times the row's size, in steps of `quality`
    /// (as [`sixteenths`]) times that.
    pub(crate) fn of(spread: f32, quality: i32) -> Self {
        let ratio = sixteenths(spread.max(f32::MIN_POSITIVE)) - quality;
        let number = ((ratio + 2) >> 2) + UNIT;
        let over = (number - (COUNT as i32 - 1)).max(0);
        // Each bit that is written as it is takes an octave: four distributions.
        let raw = (over as u32).div_ceil(4).min(15);
        let number = (number - 4 * raw as i32).clamp(0, COUNT as i32 - 1);
        let model = models().get(number as usize).unwrap_or_else(|| &models()[0]);
        Self { model, raw }
    }

    #[inline(always)]
    pub(crate) fn put(&self, code: i16, to: &mut RangeWriter<'_>) -> Result<(), Full> {
        let code = i32::from(code);
        let high = code >> self.raw;
        let (start, count) = self.model.shares(high);
        to.put(start, count)?;
        if high.unsigned_abs() > self.model.largest || self.raw > 0 {
            return self.put_rest(code, to);
        }
        Ok(())
    }

    /// What the symbol does not say.
    #[cold]
    #[inline(never)]
    fn put_rest(&self, code: i32, to: &mut RangeWriter<'_>) -> Result<(), Full> {
        let magnitude = (code >> self.raw).unsigned_abs();
        if magnitude > self.model.largest {
            // Exp-Golomb of what it has beyond the first: the number of bits, then the bits.
            let beyond = magnitude - self.model.largest;
            let bits = beyond.ilog2();
            to.put_bits(bits, 4)?;
            to.put_bits(beyond - (1 << bits), bits)?;
        }
        to.put_bits((code & ((1 << self.raw) - 1)) as u32, self.raw)
    }

    #[inline(always)]
    pub(crate) fn take(&self, from: &mut RangeReader<'_>) -> Result<i16, Fault> {
        let (symbol, start, count) = self.model.symbol(from.share()?);
        from.take(start, count);
        let magnitude = symbol.div_ceil(2) as u32;
        let negative = symbol > 0 && symbol.is_multiple_of(2);
        if magnitude > self.model.largest || self.raw > 0 {
            return self.take_rest(magnitude, negative, from);
        }
        // At most 64.
        Ok(if negative { -(magnitude as i16) } else { magnitude as i16 })
    }

    #[cold]
    #[inline(never)]
    fn take_rest(
        &self,
        mut magnitude: u32,
        negative: bool,
        from: &mut RangeReader<'_>,
    ) -> Result<i16, Fault> {
        if magnitude > self.model.largest {
            let bits = from.take_bits(4)?;
            magnitude = self.model.largest + (1 << bits) + from.take_bits(bits)?;
        }
        let high = if negative { -(magnitude as i32) } else { magnitude as i32 };
        let code = i64::from(high) << self.raw | i64::from(from.take_bits(self.raw)?);
        i16::try_from(code).map_err(|_| Fault::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_shares_out_all_and_gives_every_code_something() {
        for model in models() {
            let symbols = 2 * (model.largest as usize + 1) + 1;
            assert_eq!(model.starts[0], 0);
            assert!(model.starts[symbols..].iter().all(|start| *start == SHARES as u16));
            assert!(model.starts[..=symbols].is_sorted_by(|a, b| a < b), "{model:?}");
            for share in 0..SHARES {
                let (symbol, start, count) = model.symbol(share);
                assert!((start..start + count).contains(&share) && symbol < symbols);
                let near = symbol.div_ceil(2) as i32;
                let code = if symbol % 2 == 0 { -near } else { near };
                assert_eq!(model.shares(code), (start, count));
                let further = code + code.signum();
                assert!(near as u32 <= model.largest || model.shares(further) == (start, count));
            }
        }
    }

    #[test]
    fn the_unit_distribution_has_the_deviation_it_says() {
        for (number, deviation) in [(4, 0.25_f64), (12, 1.0), (20, 4.0), (28, 16.0)] {
            let model = &models()[number];
            let mut variance = 0.0;
            for k in 1..=model.largest {
                let (_, count) = model.shares(-(k as i32));
                variance += f64::from(2 * count * k * k) / f64::from(SHARES);
            }
            // Rounding to whole steps adds a twelfth, where steps are small.
            let expected = deviation * deviation + if deviation < 1.0 { 0.0 } else { 1.0 / 12.0 };
            assert!((variance / expected - 1.0).abs() < 0.2, "{number}: {variance} {expected}");
        }
    }

    #[test]
    fn every_code_comes_back_under_every_distribution() {
        let codes = [0, 1, -1, 2, 63, -64, 65, 66, -67, 500, -501, 8191, i16::MAX, -i16::MAX];
        for octave in -20..24 {
            let choice = Choice::of(2.0_f32.powi(octave), sixteenths(1.0));
            let mut out = [0; 400];
            let mut writer = RangeWriter::new(&mut out);
            codes.iter().for_each(|code| choice.put(*code, &mut writer).expect("room"));
            let len = writer.finish().expect("room");
            let mut reader = RangeReader::new(&out[..len]).expect("bytes");
            for code in codes {
                assert_eq!(choice.take(&mut reader), Ok(code), "{octave}");
            }
            assert_eq!(reader.finish(), Ok(()));
        }
    }
}
