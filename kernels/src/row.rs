//! One row of a tensor as it lies in memory.

use std::ops::Range;

use half::{bf16, f16};

use crate::cpu::Level;
use crate::simd::{self, Op, Simd};

/// How an entry of a row is stored. All are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE binary32, 4 bytes.
    F32,
    /// IEEE binary16, 2 bytes.
    F16,
    /// The upper half of a binary32, 2 bytes.
    Bf16,
}

impl Element {
    /// Bytes per entry.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A borrowed row of floating-point numbers.
///
/// Kernels widen each entry to f32 (exactly) before they compute.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// f32 entries.
    F32(&'a [f32]),
    /// f16 entries.
    F16(&'a [f16]),
    /// bf16 entries.
    Bf16(&'a [bf16]),
    /// Entries inside a payload, at any alignment: see [`Row::from_bytes`].
    Bytes(RowBytes<'a>),
}

/// A whole number of little-endian entries, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct RowBytes<'a> {
    element: Element,
    bytes: &'a [u8],
}

/// The same without alignment: what the kernels read.
#[derive(Clone, Copy)]
pub(crate) enum Entries<'a> {
    F32(&'a [[u8; 4]]),
    F16(&'a [[u8; 2]]),
    Bf16(&'a [[u8; 2]]),
}

impl<'a> Row<'a> {
    /// The row stored in `bytes`, in place. `None` if they are not a whole number of entries.
    #[must_use]
    pub const fn from_bytes(element: Element, bytes: &'a [u8]) -> Option<Self> {
        if bytes.len().is_multiple_of(element.size()) {
            Some(Self::Bytes(RowBytes { element, bytes }))
        } else {
            None
        }
    }

    /// How the entries are stored.
    #[must_use]
    pub const fn element(&self) -> Element {
        match self {
            Self::F32(_) => Element::F32,
            Self::F16(_) => Element::F16,
            Self::Bf16(_) => Element::Bf16,
            Self::Bytes(row) => row.element,
        }
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::F32(entries) => entries.len(),
            Self::F16(entries) => entries.len(),
            Self::Bf16(entries) => entries.len(),
            Self::Bytes(row) => row.bytes.len() / row.element.size(),
        }
    }

    /// Whether there is no entry at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the entries as f32, which is exact, into the first places of `out`.
    ///
    /// Stops at the end of the shorter of the two; gives the number of entries written.
    pub fn widen(&self, out: &mut [f32]) -> usize {
        let written = self.len().min(out.len());
        simd::dispatch(Level::detect(), Widen { entries: self.entries(), out });
        written
    }

    /// The largest entry, NaN aside; -inf if there is none. One bare pass: the floor that memory
    /// sets for everything that must look at a whole row.
    #[must_use]
    pub fn max(&self) -> f32 {
        simd::dispatch(Level::detect(), Max(self.entries()))
    }

    /// The entries of `range`. `None` if it reaches beyond the row or is reversed.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        Some(match self {
            Self::F32(entries) => Self::F32(entries.get(range)?),
            Self::F16(entries) => Self::F16(entries.get(range)?),
            Self::Bf16(entries) => Self::Bf16(entries.get(range)?),
            Self::Bytes(RowBytes { element, bytes }) => {
                let start = range.start.checked_mul(element.size())?;
                let end = range.end.checked_mul(element.size())?;
                Self::Bytes(RowBytes { element: *element, bytes: bytes.get(start..end)? })
            }
        })
    }

    pub(crate) fn entries(self) -> Entries<'a> {
        match self {
            Self::F32(entries) => Entries::F32(bytemuck::cast_slice(entries)),
            Self::F16(entries) => Entries::F16(bytemuck::cast_slice(entries)),
            Self::Bf16(entries) => Entries::Bf16(bytemuck::cast_slice(entries)),
            Self::Bytes(RowBytes { element: Element::F32, bytes }) => {
                Entries::F32(bytes.as_chunks().0)
            }
            Self::Bytes(RowBytes { element: Element::F16, bytes }) => {
                Entries::F16(bytes.as_chunks().0)
            }
            Self::Bytes(RowBytes { element: Element::Bf16, bytes }) => {
                Entries::Bf16(bytes.as_chunks().0)
            }
        }
    }
}

impl<'a> From<&'a [f32]> for Row<'a> {
    fn from(entries: &'a [f32]) -> Self {
        Self::F32(entries)
    }
}

impl<'a> From<&'a [f16]> for Row<'a> {
    fn from(entries: &'a [f16]) -> Self {
        Self::F16(entries)
    }
}

impl<'a> From<&'a [bf16]> for Row<'a> {
    fn from(entries: &'a [bf16]) -> Self {
        Self::Bf16(entries)
    }
}

/// One storage format, known at compile time.
pub(crate) trait Format: Copy {
    /// An entry as bytes of alignment 1, so that no row is ever misaligned.
    type Bytes: Copy;
    /// An entry that changes neither a maximum nor a sum of exponentials.
    const LOWEST: Self::Bytes;
    /// Positive zero.
    const ZERO: Self::Bytes;
    /// Sixteen entries, widened.
    fn load<S: Simd>(s: S, from: &[Self::Bytes; simd::WIDTH]) -> S::F;
    /// Sixty-four entries, widened, in the order that costs least: see `entry_at`.
    #[inline(always)]
    fn load_block<S: Simd>(s: S, from: &[Self::Bytes; 4 * simd::WIDTH]) -> [S::F; 4] {
        let mut to = [s.splat(0.0); 4];
        for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
            *to = Self::load(s, from);
        }
        to
    }
    /// Which entry `load_block` puts at a place.
    #[inline(always)]
    fn entry_at(place: usize) -> usize {
        place
    }
    /// One entry, widened.
    fn widen(from: Self::Bytes) -> f32;
    /// Up to `N` entries, the missing ones replaced by `filler`.
    #[inline(always)]
    fn pad<const N: usize>(tail: &[Self::Bytes], filler: Self::Bytes) -> [Self::Bytes; N] {
        let mut whole = [filler; N];
        for (to, from) in whole.iter_mut().zip(tail) {
            *to = *from;
        }
        whole
    }
}

#[derive(Clone, Copy)]
pub(crate) struct AsF32;
#[derive(Clone, Copy)]
pub(crate) struct AsF16;
#[derive(Clone, Copy)]
pub(crate) struct AsBf16;

impl Format for AsF32 {
    type Bytes = [u8; 4];
    const LOWEST: [u8; 4] = f32::NEG_INFINITY.to_le_bytes();
    const ZERO: [u8; 4] = [0; 4];
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[[u8; 4]; simd::WIDTH]) -> S::F {
        s.load_f32(from)
    }
    #[inline(always)]
    fn widen(from: [u8; 4]) -> f32 {
        f32::from_le_bytes(from)
    }
}

impl Format for AsF16 {
    type Bytes = [u8; 2];
    const LOWEST: [u8; 2] = f16::NEG_INFINITY.to_le_bytes();
    const ZERO: [u8; 2] = [0; 2];
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[[u8; 2]; simd::WIDTH]) -> S::F {
        s.load_f16(from)
    }
    #[inline(always)]
    fn widen(from: [u8; 2]) -> f32 {
        f16::from_le_bytes(from).to_f32_const()
    }
}

impl Format for AsBf16 {
    type Bytes = [u8; 2];
    const LOWEST: [u8; 2] = bf16::NEG_INFINITY.to_le_bytes();
    const ZERO: [u8; 2] = [0; 2];
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[[u8; 2]; simd::WIDTH]) -> S::F {
        s.load_bf16(from)
    }
    #[inline(always)]
    fn load_block<S: Simd>(s: S, from: &[[u8; 2]; 4 * simd::WIDTH]) -> [S::F; 4] {
        let [a, b] = s.load_bf16_split(&from.as_chunks().0[0]);
        let [c, d] = s.load_bf16_split(&from.as_chunks().0[1]);
        [a, b, c, d]
    }
    /// In each half of a block the even entries come before the odd ones.
    #[inline(always)]
    fn entry_at(place: usize) -> usize {
        let (half, place) = (place / (2 * simd::WIDTH), place % (2 * simd::WIDTH));
        half * 2 * simd::WIDTH + 2 * (place % simd::WIDTH) + place / simd::WIDTH
    }
    #[inline(always)]
    fn widen(from: [u8; 2]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(from)) << 16)
    }
}

struct Widen<'a, 'b> {
    entries: Entries<'a>,
    out: &'b mut [f32],
}

impl Op for Widen<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.entries {
            Entries::F32(from) => widen::<S, AsF32>(s, from, self.out),
            Entries::F16(from) => widen::<S, AsF16>(s, from, self.out),
            Entries::Bf16(from) => widen::<S, AsBf16>(s, from, self.out),
        }
    }
}

#[inline(always)]
fn widen<S: Simd, T: Format>(s: S, from: &[T::Bytes], out: &mut [f32]) {
    let length = from.len().min(out.len());
    let (from, from_tail) = from[..length].as_chunks();
    let (out, out_tail) = out[..length].as_chunks_mut();
    for (from, to) in from.iter().zip(out) {
        s.store(T::load(s, from), to);
    }
    for (from, to) in from_tail.iter().zip(out_tail) {
        *to = T::widen(*from);
    }
}

struct Max<'a>(Entries<'a>);

impl Op for Max<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        match self.0 {
            Entries::F32(entries) => max::<S, AsF32>(s, entries),
            Entries::F16(entries) => max::<S, AsF16>(s, entries),
            Entries::Bf16(entries) => max::<S, AsBf16>(s, entries),
        }
    }
}

#[inline(always)]
fn max<S: Simd, T: Format>(s: S, entries: &[T::Bytes]) -> f32 {
    let mut tops = [s.splat(f32::NEG_INFINITY); 4];
    let (blocks, tail) = entries.as_chunks();
    let padded = T::pad(tail, T::LOWEST);
    for block in blocks.iter().chain([&padded]) {
        let entries = T::load_block(s, block);
        for (top, x) in tops.iter_mut().zip(&entries) {
            *top = s.max(*x, *top);
        }
    }
    let [a, b, c, d] = tops;
    s.largest(s.max(s.max(a, b), s.max(c, d))) + 0.0
}
