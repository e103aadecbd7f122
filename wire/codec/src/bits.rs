//! Bits in bytes: the first bit is the lowest of the first byte (C2).

use crate::Fault;
use wire::Full;

/// Writes bits into a slice, from its start.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    pending: u64,
    filled: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, pending: 0, filled: 0 }
    }

    /// The low `width` (0 to 32) bits of `value`.
    pub(crate) fn put(&mut self, value: u32, width: u32) -> Result<(), Full> {
        debug_assert!(width <= 32 && u64::from(value) >> width == 0);
        self.pending |= u64::from(value) << self.filled;
        self.filled += width;
        if self.filled >= 32 {
            let four = self.out.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<4>());
            *four.ok_or(Full)? = (self.pending as u32).to_le_bytes();
            self.at += 4;
            self.pending >>= 32;
            self.filled -= 32;
        }
        Ok(())
    }

    /// `count` zeros and a one.
    pub(crate) fn put_unary(&mut self, mut count: u32) -> Result<(), Full> {
        while count >= 32 {
            self.put(0, 32)?;
            count -= 32;
        }
        self.put(0, count)?;
        self.put(1, 1)
    }

    /// Fills the last byte up with zeros; gives the number of bytes.
    pub(crate) fn finish(mut self) -> Result<usize, Full> {
        while self.filled > 0 {
            *self.out.get_mut(self.at).ok_or(Full)? = self.pending as u8;
            self.at += 1;
            self.pending >>= 8;
            self.filled = self.filled.saturating_sub(8);
        }
        Ok(self.at)
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    pending: u64,
    filled: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pending: 0, filled: 0 }
    }

    /// At least 56 bits, if there are as many.
    ///
    /// `pending` may hold more than it is said to be filled with: the next bits, which are then
    /// put there once more.
    fn fill(&mut self) {
        if let Some(eight) = self.bytes.first_chunk::<8>() {
            self.pending |= u64::from_le_bytes(*eight) << self.filled;
            self.bytes = self.bytes.get(((63 - self.filled) / 8) as usize..).unwrap_or_default();
            self.filled |= 56;
            return;
        }
        while let [byte, rest @ ..] = self.bytes
            && self.filled < 56
        {
            self.pending |= u64::from(*byte) << self.filled;
            self.filled += 8;
            self.bytes = rest;
        }
    }

    fn drop_bits(&mut self, width: u32) {
        self.pending >>= width;
        self.filled -= width;
    }

    /// `width` bits, 0 to 32.
    pub(crate) fn take(&mut self, width: u32) -> Result<u32, Fault> {
        self.fill();
        if width > self.filled {
            return Err(Fault::Length);
        }
        let value = (self.pending & ((1 << width) - 1)) as u32;
        self.drop_bits(width);
        Ok(value)
    }

    /// The number of zeros before a one, at most `limit`.
    pub(crate) fn take_unary(&mut self, limit: u32) -> Result<u32, Fault> {
        let mut count = 0;
        loop {
            self.fill();
            if self.filled == 0 {
                return Err(Fault::Length);
            }
            let zeros = self.pending.trailing_zeros().min(self.filled);
            count += zeros;
            if count > limit {
                return Err(Fault::Invalid);
            }
            if zeros < self.filled {
                self.drop_bits(zeros + 1);
                return Ok(count);
            }
            self.drop_bits(zeros);
        }
    }

    /// Some zeros, a one, then as many bits as there were zeros and `order` (at most 31) more: what
    /// comes to at most 56 bits. Gives the number of zeros, and the bits; `None`, with nothing
    /// taken, if there are not as many bits, or it is longer.
    pub(crate) fn take_short(&mut self, order: u32) -> Option<(u32, u64)> {
        self.fill();
        let zeros = self.pending.trailing_zeros();
        let width = 2 * zeros + 1 + order;
        if width > self.filled.min(56) {
            return None;
        }
        let low = self.pending >> (zeros + 1) & ((1 << (zeros + order)) - 1);
        self.drop_bits(width);
        Some((zeros, low))
    }

    /// Nothing may be left but the zeros that fill the last byte.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        self.fill();
        if self.filled >= 8 || !self.bytes.is_empty() {
            return Err(Fault::Length);
        }
        if self.pending == 0 { Ok(()) } else { Err(Fault::Invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(
            parts in prop::collection::vec((any::<u32>(), 0_u32..=32, 0_u32..100), 0..60),
        ) {
            let mut out = [0xAA; 2048];
            let mut writer = BitWriter::new(&mut out);
            for (value, width, unary) in &parts {
                writer.put((u64::from(*value) & ((1 << width) - 1)) as u32, *width).expect("room");
                writer.put_unary(*unary).expect("room");
            }
            let len = writer.finish().expect("room");
            let bits: u32 = parts.iter().map(|(_, width, unary)| width + unary + 1).sum();
            prop_assert_eq!(len, bits.div_ceil(8) as usize);
            let mut reader = BitReader::new(&out[..len]);
            for (value, width, unary) in &parts {
                let low = (u64::from(*value) & ((1 << width) - 1)) as u32;
                prop_assert_eq!(reader.take(*width), Ok(low));
                prop_assert_eq!(reader.take_unary(100), Ok(*unary));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn no_room_and_no_bits_are_errors() {
        let mut writer = BitWriter::new(&mut []);
        assert_eq!(writer.put(1, 1), Ok(()));
        assert_eq!(writer.finish(), Err(Full));
        assert_eq!(BitReader::new(&[]).take(1), Err(Fault::Length));
        assert_eq!(BitReader::new(&[0]).take_unary(99), Err(Fault::Length));
        assert_eq!(BitReader::new(&[0]).take_unary(7), Err(Fault::Invalid));
        assert_eq!(BitReader::new(&[0]).finish(), Err(Fault::Length));
        let mut reader = BitReader::new(&[3]);
        assert_eq!((reader.take(1), reader.finish()), (Ok(1), Err(Fault::Invalid)));
    }
}
