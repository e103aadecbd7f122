//! Top-k sets, coded: indices by their gaps, values by their distance to the row's maximum
//! (C4 to C12 of `FORMAT-CODINGS.md`).
//!
//! The normaliser (`max`, `log_sum`) is carried as it was computed, from unrounded values, so the
//! probability of everything outside the set is known however coarse the values are.
//!
//! | coding | values | error of a value |
//! | --- | --- | --- |
//! | `plain` | f32 | none |
//! | `set-f16`, `set-bf16` | max - value | 2^-11, 2^-8 of the distance to the maximum |
//! | `set-u8` | 256 steps over the row's range | 1/255 of the range |
//! | `set-tiered` | the [`BEST`] best as `set-u8`, the rest in 4 steps | a quarter of their range |
//! | `set-steps` | steps that are fine where probability is | a step: a quarter nat at most |
//!
//! Values are rounded so that the set keeps its probability; most go to the nearest number, and
//! then the error is half of what the table says.
//!
//! A row that holds an infinity or has an infinite maximum is written with f16 values in every
//! coding but `plain`.

mod steps;
mod values;

use crate::bits::{BitReader, BitWriter};
use crate::numbers::{Code, put_leb128, take_leb128};
use crate::{Coding, Fault, Full};
use kernels::probability;
use std::cmp::Ordering;
use values::{Kind, Model};

/// Entries in the first tier of `set-tiered`.
pub const BEST: usize = 32;

/// The most entries of a set.
pub const K_MAX: usize = 1 << 16;

/// A top-k set as a kernel leaves it.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// The entries' places in the row, best first; each once.
    pub indices: &'a [u32],
    /// Their values, in the same order. The shorter of the two counts.
    pub values: &'a [f32],
    /// The row's largest entry, -inf if there is none.
    pub max: f32,
    /// `ln(sum of exp(x - max))` over the whole row, in nats.
    pub log_sum: f32,
    /// [`wire::flags`]: the low five bits.
    pub flags: u8,
}

/// A decoded set. Memory for `k_max` entries is taken when it is made.
#[derive(Clone, Debug, Default)]
pub struct SetBuf {
    /// The entries' places in the row: by value descending, then by index.
    pub indices: Vec<u32>,
    /// Their values, in the same order.
    pub values: Vec<f32>,
    /// The row's largest entry.
    pub max: f32,
    /// `ln(sum of exp(x - max))` over the whole row.
    pub log_sum: f32,
    /// [`wire::flags`].
    pub flags: u8,
    entries: Vec<Entry>,
}

impl SetBuf {
    /// Room for sets of up to `k_max` entries.
    #[must_use]
    pub fn new(k_max: usize) -> Self {
        let k_max = k_max.min(K_MAX);
        Self {
            indices: Vec::with_capacity(k_max),
            values: Vec::with_capacity(k_max),
            entries: Vec::with_capacity(k_max),
            ..Self::default()
        }
    }

    /// The same, borrowed.
    #[must_use]
    pub fn as_set(&self) -> Set<'_> {
        let (indices, values) = (&self.indices, &self.values);
        let (max, log_sum, flags) = (self.max, self.log_sum, self.flags);
        Set { indices, values, max, log_sum, flags }
    }
}

/// What encoding needs besides its output. Made once, grows to the largest k that it meets.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    entries: Vec<Entry>,
    codes: Vec<u32>,
}

impl Scratch {
    /// Room for sets of up to `k_max` entries.
    #[must_use]
    pub fn new(k_max: usize) -> Self {
        let k_max = k_max.min(K_MAX);
        Self { entries: Vec::with_capacity(k_max), codes: Vec::with_capacity(k_max) }
    }
}

/// An entry on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    index: u32,
    value: f32,
}

/// Bytes before the bits: kind and flags, count, maximum, normaliser, and for each of two tiers the
/// code of its indices and what its values say of themselves.
const HEAD_MAX: usize = 1 + 3 + 4 + 4 + 2 * (1 + values::HEAD_MAX);

/// The most bytes of a row of `k` entries out of `cols`; 0 for a coding that has no sets.
///
/// A fixed width for the indices bounds every code of them, as the shortest is taken; values take
/// two bytes at most (four in `plain`), as f16 is taken where a coding would need more.
#[must_use]
pub const fn worst_len(coding: Coding, k: u32, cols: u32) -> usize {
    let Some(kind) = Kind::of(coding) else { return 0 };
    let k = if k < cols { k } else { cols } as u64;
    let value_bits = if matches!(kind, Kind::F32) { 32 } else { 16 };
    let index_bits = (u32::BITS - cols.saturating_sub(1).leading_zeros()) as u64;
    HEAD_MAX + (k * (index_bits + value_bits)).div_ceil(8) as usize
}

/// Writes a set at the start of `out`; gives the number of bytes, at most [`worst_len`].
///
/// `mass` above 0 keeps the fewest of the best entries whose probability reaches it; 0 keeps all.
///
/// # Errors
/// [`Full`] where `out` has no room, an index is not below `cols` or comes twice, there are more
/// than [`K_MAX`] entries, or the coding has no sets.
pub fn encode(
    coding: Coding,
    set: &Set<'_>,
    cols: u32,
    mass: f32,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<usize, Full> {
    let kind = Kind::of(coding).ok_or(Full)?;
    let all = set.indices.len().min(set.values.len());
    if all > K_MAX {
        return Err(Full);
    }
    let count = if mass > 0.0 { enough(set, all, mass) } else { all };
    let Scratch { entries, codes } = scratch;
    let kept = set.indices.iter().zip(set.values).take(count);
    entries.clear();
    entries.extend(kept.map(|(index, value)| Entry { index: *index, value: *value }));
    let kind = kind.suited(set, entries);
    let (first, second) = entries.split_at_mut(kind.first_tier(count));
    let [first, second] = [sorted(first, cols)?, sorted(second, cols)?];
    let models = [Model::fit(kind, 0, set, first), Model::fit(kind, 1, set, second)];

    let mut head = Head { out, at: 0 };
    head.put(&[(set.flags & wire::flags::ALL) | kind.code() << 5])?;
    put_leb128(count as u32, head.out, &mut head.at)?;
    head.put(&set.max.to_le_bytes())?;
    head.put(&set.log_sum.to_le_bytes())?;
    codes.clear();
    let mut ways = [(Code::Fixed(0), Code::Fixed(0)); 2];
    for ((tier, model), (of_gaps, of_values)) in [first, second].iter().zip(&models).zip(&mut ways)
    {
        if tier.is_empty() {
            continue;
        }
        *of_gaps = Code::best(gaps(tier)).0;
        head.put(&[of_gaps.byte()])?;
        let start = codes.len();
        codes.extend(tier.iter().map(|entry| model.code(entry.value)));
        let tier_codes = codes.get_mut(start..).unwrap_or_default();
        balance(set, model, tier, tier_codes);
        *of_values = model.put_head(tier_codes, &mut head)?;
    }

    let Head { out, at } = head;
    let mut bits = BitWriter::new(out.get_mut(at..).ok_or(Full)?);
    let mut codes = codes.iter();
    for (tier, (of_gaps, of_values)) in [first, second].into_iter().zip(ways) {
        gaps(tier).try_for_each(|gap| of_gaps.put(gap, &mut bits))?;
        codes.by_ref().take(tier.len()).try_for_each(|code| of_values.put(*code, &mut bits))?;
    }
    Ok(at + bits.finish()?)
}

/// Rounds some values the other way, so that the set keeps the probability that it had (C8).
///
/// A reader takes what the set lacks to 1 as the probability of all else. Where little is left, the
/// errors of a few large entries would change it by a large part.
fn balance(set: &Set<'_>, model: &Model, tier: &[Entry], numbers: &mut [u32]) {
    let Some(last_but_one) = model.last_but_one() else { return };
    let probability = |value| probability::of(value, set.max, set.log_sum);
    let mut excess = 0.0;
    for (entry, number) in tier.iter().zip(&*numbers) {
        excess += probability(model.value(*number)) - probability(entry.value);
    }
    for (entry, number) in tier.iter().zip(numbers) {
        let value = model.value(*number);
        let other = match value.total_cmp(&entry.value) {
            Ordering::Greater if excess > 0.0 && *number <= last_but_one => *number + 1,
            Ordering::Less if excess < 0.0 && *number > 0 => *number - 1,
            _ => continue,
        };
        let without = excess + probability(model.value(other)) - probability(value);
        if without.abs() < excess.abs() {
            excess = without;
            *number = other;
        }
    }
}

/// Where the bytes before the bits are written.
struct Head<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Head<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end).ok_or(Full)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

/// How many of the best entries reach `mass`.
fn enough(set: &Set<'_>, all: usize, mass: f32) -> usize {
    let mut sum = 0.0;
    for (before, value) in set.values.iter().take(all).enumerate() {
        sum += probability::of(*value, set.max, set.log_sum);
        if sum >= f64::from(mass) {
            return before + 1;
        }
    }
    all
}

/// A tier by index, if its indices differ and are below `cols`.
fn sorted(tier: &mut [Entry], cols: u32) -> Result<&[Entry], Full> {
    tier.sort_unstable_by_key(|entry| entry.index);
    let rising = tier.is_sorted_by(|a, b| a.index < b.index);
    let inside = tier.last().is_none_or(|last| last.index < cols);
    if rising && inside { Ok(tier) } else { Err(Full) }
}

/// The first index, then how many indices lie between each and the one before it.
fn gaps(tier: &[Entry]) -> impl Iterator<Item = u32> + Clone {
    let mut next = 0;
    tier.iter().map(move |entry| {
        let gap = entry.index.wrapping_sub(next);
        next = entry.index.wrapping_add(1);
        gap
    })
}

/// Reads a row that takes all of `bytes` into `to`.
///
/// # Errors
/// A [`Fault`]: `Bounds` for more than `k_max` entries or an index that is not below `cols`; `to`
/// then holds nothing of use.
pub fn decode(
    coding: Coding,
    bytes: &[u8],
    cols: u32,
    k_max: usize,
    to: &mut SetBuf,
) -> Result<(), Fault> {
    let wanted = Kind::of(coding).ok_or(Fault::Coding)?;
    let mut rest = bytes;
    let first = take::<1>(&mut rest)?[0];
    let kind = Kind::from_code(first >> 5).ok_or(Fault::Invalid)?;
    let count = take_leb128(&mut rest)? as usize;
    if kind != wanted && (kind != Kind::F16 || wanted == Kind::F32) {
        return Err(Fault::Invalid);
    }
    if count > k_max.min(K_MAX) || count > cols as usize {
        return Err(Fault::Bounds);
    }
    to.flags = first & 0x1F;
    to.max = f32::from_le_bytes(*take(&mut rest)?);
    to.log_sum = f32::from_le_bytes(*take(&mut rest)?);
    if to.max.is_nan() || to.log_sum.is_nan() {
        return Err(Fault::Invalid);
    }
    let best = kind.first_tier(count);
    let mut tiers = [(Code::Fixed(0), Model::F32, Code::Fixed(0)); 2];
    for (tier, (number, len)) in tiers.iter_mut().zip([(0, best), (1, count - best)]) {
        if len > 0 {
            let of_gaps = Code::from_byte(take::<1>(&mut rest)?[0])?;
            let (model, of_values) = Model::take_head(kind, number, to.max, &mut rest)?;
            *tier = (of_gaps, model, of_values);
        }
    }
    let mut bits = BitReader::new(rest);
    to.entries.clear();
    for ((of_gaps, model, of_values), len) in tiers.into_iter().zip([best, count - best]) {
        let start = to.entries.len();
        let mut next = 0_u32;
        for _ in 0..len {
            let index = next.checked_add(of_gaps.take(&mut bits)?).ok_or(Fault::Bounds)?;
            if index >= cols {
                return Err(Fault::Bounds);
            }
            next = index + 1;
            to.entries.push(Entry { index, value: 0.0 });
        }
        for entry in to.entries.get_mut(start..).unwrap_or_default() {
            entry.value = model.read(of_values.take(&mut bits)?)?;
        }
    }
    bits.finish()?;
    finish(to, best)
}

/// Puts the entries in order and gives them out.
fn finish(to: &mut SetBuf, best: usize) -> Result<(), Fault> {
    if best < to.entries.len() {
        to.entries.sort_unstable_by_key(|entry| entry.index);
        if !to.entries.is_sorted_by(|a, b| a.index < b.index) {
            return Err(Fault::Invalid);
        }
    }
    to.entries.sort_unstable_by(|a, b| b.value.total_cmp(&a.value).then(a.index.cmp(&b.index)));
    to.indices.clear();
    to.values.clear();
    to.indices.extend(to.entries.iter().map(|entry| entry.index));
    to.values.extend(to.entries.iter().map(|entry| entry.value));
    Ok(())
}

/// The first `N` bytes, taken off.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (first, after) = rest.split_first_chunk().ok_or(Fault::Length)?;
    *rest = after;
    Ok(first)
}
