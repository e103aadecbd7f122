//! Top-k sets, coded: indices by their gaps, values by their distance to the row's maximum
//! (C4 to C12 of `FORMAT-CODINGS.md`).
//!
//! The normaliser (`max`, `log_sum`) is carried as it was computed, from unrounded values, so the
//! probability of everything outside the set is known however coarse the values are.
//!
//! | coding | values | error of a value |
//! | --- | --- | --- |
//! | `plain` | f32 | none |
//! | `set-f16`, `set-bf16` | max - value | 2^-10, 2^-7 of the distance to the maximum |
//! | `set-u8` | 256 steps over the row's range | 1/255 of the range |
//! | `set-tiered` | the [`BEST`] best as `set-u8`, the rest in 4 steps | a quarter of their range |
//! | `set-steps` | steps that are fine where probability is | a step: a quarter nat at most |
//!
//! Values are rounded so that the set keeps its probability; most go to the nearest number, and
//! then the error is half of what the table says.
//!
//! A row that holds an infinity or has an infinite maximum is written with f16 values in every
//! coding but `plain`.

mod balance;
mod steps;
mod values;

use crate::bits::{BitReader, BitWriter};
use crate::numbers::{Code, put_leb128, take_leb128};
use crate::{Coding, Fault, Full};
use balance::Balance;
use kernels::probability;
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
    keys: Vec<u64>,
}

impl SetBuf {
    /// Room for sets of up to `k_max` entries.
    #[must_use]
    pub fn new(k_max: usize) -> Self {
        let k_max = k_max.min(K_MAX);
        Self {
            indices: Vec::with_capacity(k_max),
            values: Vec::with_capacity(k_max),
            keys: Vec::with_capacity(k_max),
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
    /// Indices in their upper halves, the bits of values in the lower.
    keys: Vec<u64>,
    /// By index within a tier, as all that follows.
    values: Vec<f32>,
    gaps: Vec<u32>,
    codes: Vec<u32>,
    balance: Balance,
}

impl Scratch {
    /// Room for sets of up to `k_max` entries.
    #[must_use]
    pub fn new(k_max: usize) -> Self {
        let mut scratch = Self::default();
        scratch.resize(k_max.min(K_MAX));
        scratch
    }

    fn resize(&mut self, count: usize) {
        self.keys.reserve(count);
        self.values.resize(count, 0.0);
        self.gaps.resize(count, 0);
        self.codes.resize(count, 0);
        self.balance.resize(count);
    }
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
    scratch.resize(count);
    let Scratch { keys, values, gaps, codes, balance } = scratch;
    let kind = kind.suited(set.max, set.values.get(..count).unwrap_or_default());
    keys.clear();
    let kept = set.indices.iter().zip(set.values).take(count);
    keys.extend(kept.map(|(index, value)| u64::from(*index) << 32 | u64::from(value.to_bits())));
    let best = kind.first_tier(count);
    let tiers = [0..best, best..count];

    let mut head = Head { out, at: 0 };
    head.put(&[(set.flags & wire::flags::ALL) | kind.code() << 5])?;
    put_leb128(count as u32, head.out, &mut head.at)?;
    head.put(&set.max.to_le_bytes())?;
    head.put(&set.log_sum.to_le_bytes())?;
    let mut ways = [(Code::Fixed(0), Code::Fixed(0)); 2];
    for ((number, tier), way) in tiers.iter().enumerate().zip(&mut ways) {
        if tier.is_empty() {
            continue;
        }
        let parts = (keys.get_mut(tier.clone()), values.get_mut(tier.clone()));
        let (Some(keys), Some(values)) = parts else { continue };
        let parts = (gaps.get_mut(tier.clone()), codes.get_mut(tier.clone()));
        let (Some(gaps), Some(codes)) = parts else { continue };
        in_order(keys, cols, gaps, values)?;
        let of_gaps = Code::best(gaps).0;
        head.put(&[of_gaps.byte()])?;
        let exact = if kind == Kind::F32 { &[] } else { balance.exact(set, values) };
        let model = Model::fit(kind, number, set.max, values, exact);
        model.codes(values, codes);
        balance.run(set, &model, values, codes);
        *way = (of_gaps, model.put_head(codes, &mut head)?);
    }

    let Head { out, at } = head;
    let mut bits = BitWriter::new(out.get_mut(at..).ok_or(Full)?);
    for (tier, (of_gaps, of_values)) in tiers.into_iter().zip(ways) {
        of_gaps.put_all(gaps.get(tier.clone()).unwrap_or_default(), &mut bits)?;
        of_values.put_all(codes.get(tier).unwrap_or_default(), &mut bits)?;
    }
    Ok(at + bits.finish()?)
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

/// Sorts a tier by index, if its indices differ and are below `cols`, and takes it apart.
///
/// A gap is the first index, then how many indices lie between each and the one before it (C6).
fn in_order(keys: &mut [u64], cols: u32, gaps: &mut [u32], values: &mut [f32]) -> Result<(), Full> {
    keys.sort_unstable();
    let (mut next, mut rising) = (0_u64, true);
    for ((key, gap), value) in keys.iter().zip(gaps).zip(values) {
        let index = key >> 32;
        rising &= index >= next;
        *gap = index.wrapping_sub(next) as u32;
        *value = f32::from_bits(*key as u32);
        next = index + 1;
    }
    if rising && next <= u64::from(cols) { Ok(()) } else { Err(Full) }
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
    to.keys.clear();
    for ((of_gaps, model, of_values), len) in tiers.into_iter().zip([best, count - best]) {
        let (start, mut next) = (to.keys.len(), 0_u32);
        let keys = &mut to.keys;
        of_gaps.take_all(len, &mut bits, |gap| {
            let index = next.checked_add(gap).ok_or(Fault::Bounds)?;
            if index >= cols {
                return Err(Fault::Bounds);
            }
            next = index + 1;
            keys.push(u64::from(index));
            Ok(())
        })?;
        let mut keys = keys.iter_mut().skip(start);
        of_values.take_all(len, &mut bits, |number| {
            let value = model.read(number)?;
            // There are as many keys as numbers.
            if let Some(key) = keys.next() {
                *key |= u64::from(descending(value)) << 32;
            }
            Ok(())
        })?;
    }
    bits.finish()?;
    finish(to, best)
}

/// Bits that ascend where values descend, by IEEE 754's total order.
const fn descending(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 0 { !bits & 0x7FFF_FFFF } else { bits }
}

/// The value of such bits.
const fn value_of(descending: u32) -> f32 {
    let negative = descending >> 31 == 1;
    f32::from_bits(if negative { descending } else { !descending & 0x7FFF_FFFF })
}

/// Puts the entries in order and gives them out.
fn finish(to: &mut SetBuf, best: usize) -> Result<(), Fault> {
    if best < to.keys.len() {
        // Each tier rises, but both may name the same index.
        to.keys.sort_unstable_by_key(|key| *key as u32);
        if !to.keys.is_sorted_by(|a, b| (*a as u32) < *b as u32) {
            return Err(Fault::Invalid);
        }
    }
    to.keys.sort_unstable();
    to.indices.clear();
    to.values.clear();
    to.indices.extend(to.keys.iter().map(|key| *key as u32));
    to.values.extend(to.keys.iter().map(|key| value_of((*key >> 32) as u32)));
    Ok(())
}

/// The first `N` bytes, taken off.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (first, after) = rest.split_first_chunk().ok_or(Fault::Length)?;
    *rest = after;
    Ok(first)
}
