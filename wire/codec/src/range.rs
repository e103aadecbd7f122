//! A range coder: symbols of known probability to bytes and back (C19).
//!
//! Integer arithmetic only, so every machine writes and reads the same. The state is an interval
//! [low, low + range) of 32-bit fractions; a symbol takes its share of it; when the range falls
//! below 2^24 the upper byte of `low` is final (but for a carry) and is written. At the end as few
//! bytes are written as name a point of the interval, and zero bytes at the end are left away.

use crate::{Fault, Full};

/// Shares are given in 4096ths.
pub(crate) const SHARES: u32 = 1 << SHARE_BITS;
const SHARE_BITS: u32 = 12;
const LOW_RANGE: u32 = 1 << 24;

/// Writes symbols.
#[derive(Debug)]
pub(crate) struct RangeWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    low: u32,
    range: u32,
}

impl<'a> RangeWriter<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, low: 0, range: u32::MAX }
    }

    /// The symbol that owns the shares from `start` to `start + count`; `count` is not 0.
    #[inline(always)]
    pub(crate) fn put(&mut self, start: u32, count: u32) -> Result<(), Full> {
        let share = self.range >> SHARE_BITS;
        self.advance(share * start);
        self.range = share * count;
        // Whole zero bytes at the front of the range: none, one or two, as it is 2^12 or more.
        let bytes = self.range.leading_zeros() / 8;
        if let Some(four) = self.out.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
            // No branch by how many are final: the others are written again.
            *four = self.low.to_be_bytes();
            self.at += bytes as usize;
            self.low <<= 8 * bytes;
        } else {
            (0..bytes).try_for_each(|_| self.put_byte())?;
        }
        self.range <<= 8 * bytes;
        Ok(())
    }

    /// The low `width` (0 to 32) bits of `value`, each bit even odds.
    pub(crate) fn put_bits(&mut self, value: u32, width: u32) -> Result<(), Full> {
        let mut left = width;
        while left > 0 {
            let part = left.min(8);
            left -= part;
            let bits = value >> left & ((1 << part) - 1);
            self.put(bits << (SHARE_BITS - part), 1 << (SHARE_BITS - part))?;
        }
        Ok(())
    }

    #[inline(always)]
    fn advance(&mut self, by: u32) {
        let (low, carry) = self.low.overflowing_add(by);
        self.low = low;
        if carry {
            self.carry();
        }
    }

    /// A carry ends at the latest in the first byte: low never passes 1 as a fraction.
    #[cold]
    #[inline(never)]
    fn carry(&mut self) {
        for byte in self.out.get_mut(..self.at).unwrap_or_default().iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }

    fn put_byte(&mut self) -> Result<(), Full> {
        *self.out.get_mut(self.at).ok_or(Full)? = (self.low >> 24) as u8;
        self.at += 1;
        self.low <<= 8;
        Ok(())
    }

    /// Ends; gives the number of bytes.
    pub(crate) fn finish(mut self) -> Result<usize, Full> {
        if self.low > 0 {
            // The range is at least 2^24: it contains a multiple of 2^24, which is one byte.
            self.advance(self.low.wrapping_neg() % LOW_RANGE);
            if self.low > 0 {
                self.put_byte()?;
            }
        }
        let written = self.out.get(..self.at).unwrap_or_default();
        Ok(written.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1))
    }
}

/// Reads what a [`RangeWriter`] wrote.
#[derive(Debug)]
pub(crate) struct RangeReader<'a> {
    bytes: &'a [u8],
    /// Where in the interval the bytes point.
    code: u32,
    range: u32,
}

impl<'a> RangeReader<'a> {
    /// A row that ends in a zero byte was not written by a [`RangeWriter`].
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        if bytes.last() == Some(&0) {
            return Err(Fault::Invalid);
        }
        let mut reader = Self { bytes, code: 0, range: u32::MAX };
        reader.take_bytes(4);
        Ok(reader)
    }

    /// Takes `count` (0 to 4) bytes into the code; zeros beyond the end.
    #[inline(always)]
    fn take_bytes(&mut self, count: u32) {
        let next = if let Some(four) = self.bytes.first_chunk::<4>() {
            self.bytes = self.bytes.get(count as usize..).unwrap_or_default();
            *four
        } else {
            self.last_bytes(count)
        };
        let wide = u64::from(self.code) << 32 | u64::from(u32::from_be_bytes(next));
        self.code = ((wide << (8 * count)) >> 32) as u32;
    }

    #[cold]
    #[inline(never)]
    fn last_bytes(&mut self, count: u32) -> [u8; 4] {
        let mut next = [0; 4];
        next.iter_mut().zip(self.bytes).for_each(|(to, from)| *to = *from);
        self.bytes = self.bytes.get(count as usize..).unwrap_or_default();
        next
    }

    /// The share that comes next: of the symbol that owns it. To be followed by `take`.
    #[inline(always)]
    pub(crate) fn share(&self) -> Result<u32, Fault> {
        let share = self.code / (self.range >> SHARE_BITS);
        if share < SHARES { Ok(share) } else { Err(Fault::Invalid) }
    }

    /// Takes the symbol that owns the shares from `start` to `start + count`; `count` is not 0.
    #[inline(always)]
    pub(crate) fn take(&mut self, start: u32, count: u32) {
        let share = self.range >> SHARE_BITS;
        self.code = self.code.wrapping_sub(share * start);
        self.range = share * count;
        // The range was 2^24 or more: now it is 2^12 or more.
        let bytes = self.range.leading_zeros() / 8;
        self.take_bytes(bytes);
        self.range <<= 8 * bytes;
    }

    /// `width` (0 to 32) bits.
    pub(crate) fn take_bits(&mut self, width: u32) -> Result<u32, Fault> {
        let (mut value, mut left) = (0, width);
        while left > 0 {
            let part = left.min(8);
            left -= part;
            let bits = self.share()? >> (SHARE_BITS - part);
            self.take(bits << (SHARE_BITS - part), 1 << (SHARE_BITS - part));
            value = value << part | bits;
        }
        Ok(value)
    }

    /// All bytes must have been read. (Up to three more than the symbols need have been.)
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Fault::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn symbols_come_back(
            symbols in prop::collection::vec(
                (0_u32..4096, 0_u32..4096, any::<u32>(), 0_u32..=32),
                0..200,
            ),
            extreme in 0_u8..3,
        ) {
            let shares = |a: u32, b: u32| match extreme {
                0 => (a.min(b), a.max(b) + 1 - a.min(b)),
                1 => (4095, 1),
                _ => (0, 4095),
            };
            let mut out = [0xEE; 4096];
            let mut writer = RangeWriter::new(&mut out);
            for (a, b, value, width) in &symbols {
                let (start, count) = shares(*a, *b);
                writer.put(start, count).expect("room");
                let low = (u64::from(*value) & ((1 << width) - 1)) as u32;
                writer.put_bits(low, *width).expect("room");
            }
            let len = writer.finish().expect("room");
            let mut reader = RangeReader::new(&out[..len]).expect("bytes");
            for (a, b, value, width) in &symbols {
                let (start, count) = shares(*a, *b);
                let share = reader.share().expect("a share");
                prop_assert!(share >= start && share < start + count);
                reader.take(start, count);
                let low = (u64::from(*value) & ((1 << width) - 1)) as u32;
                prop_assert_eq!(reader.take_bits(*width), Ok(low));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_symbols_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            if let Ok(mut reader) = RangeReader::new(&bytes) {
                for _ in 0..100 {
                    if reader.share().is_ok_and(|share| share < 3000) {
                        reader.take(0, 3000);
                    }
                    let _ = reader.take_bits(13);
                }
            }
        }
    }
}
