//! Small numbers by the code that suits them: fixed width, Rice or Exp-Golomb, with a parameter
//! (C3).

use crate::Fault;
use crate::bits::{BitReader, BitWriter};
use wire::Full;

/// A way to write unsigned numbers, one byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// In so many bits.
    Fixed(u32),
    /// The number shifted right by so much in unary, then the bits shifted out.
    Rice(u32),
    /// x = number + 2^order: how many bits x has beyond order + 1 in unary, then all bits of x but
    /// its highest.
    Golomb(u32),
}

/// Rice numbers longer than this in unary are not worth it, and not accepted.
const UNARY_MAX: u32 = 255;

impl Code {
    /// The code that writes `numbers` in the fewest bits, and that number of bits. Of equal ones
    /// fixed width is taken before Rice, Rice before Exp-Golomb, a smaller parameter before a
    /// larger.
    pub(crate) fn best(numbers: &[u32]) -> (Self, u64) {
        let count = numbers.len() as u64;
        let all = numbers.iter().fold(0, |all, number| all | number);
        let sum: u64 = numbers.iter().map(|number| u64::from(*number)).sum();
        let width = u32::BITS - all.leading_zeros();
        let mut best = (Self::Fixed(width), count * u64::from(width));
        // The best parameter lies near the logarithm of the mean.
        let middle = sum.checked_div(count).map_or(0, |mean| u64::BITS - mean.leading_zeros());
        let near = middle.saturating_sub(4)..(middle + 2).min(width.max(1)).min(31);
        // Where the sum has 32 bits, so have all sums here, and numbers below 2^23 are exact in f32
        // with a power of two below that added.
        let small = u32::try_from(sum).is_ok() && width <= 23;
        for order in near.clone() {
            let quotients = if small {
                u64::from(numbers.iter().map(|number| number >> order).sum::<u32>())
            } else {
                numbers.iter().map(|number| u64::from(number >> order)).sum()
            };
            let bits = quotients + count * u64::from(order + 1);
            let fits = all >> order <= UNARY_MAX;
            if fits && bits < best.1 {
                best = (Self::Rice(order), bits);
            }
        }
        for order in near {
            let logarithms = if small {
                u64::from(
                    numbers.iter().map(|number| logarithm(number + (1 << order))).sum::<u32>(),
                )
            } else {
                let exact = |number: &u32| u64::from((u64::from(*number) + (1 << order)).ilog2());
                numbers.iter().map(exact).sum()
            };
            let bits = 2 * logarithms + count - count * u64::from(order);
            if bits < best.1 {
                best = (Self::Golomb(order), bits);
            }
        }
        best
    }

    /// The byte that names the code: the parameter, and the kind times 64.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Fixed(width) => width as u8,
            Self::Rice(order) => 0x40 | order as u8,
            Self::Golomb(order) => 0x80 | order as u8,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Result<Self, Fault> {
        let parameter = (byte & 0x3F) as u32;
        match byte >> 6 {
            0 if parameter <= 32 => Ok(Self::Fixed(parameter)),
            1 if parameter < 31 => Ok(Self::Rice(parameter)),
            2 if parameter < 31 => Ok(Self::Golomb(parameter)),
            _ => Err(Fault::Invalid),
        }
    }

    /// Writes one number.
    #[inline(always)]
    fn put(self, number: u32, to: &mut BitWriter<'_>) -> Result<(), Full> {
        match self {
            Self::Fixed(width) => to.put(number, width),
            Self::Rice(order) => {
                let (high, low) = (number >> order, number & ((1 << order) - 1));
                if high + 1 + order <= 32 {
                    let whole = (1 | u64::from(low) << 1) << high;
                    return to.put(whole as u32, high + 1 + order);
                }
                to.put_unary(high)?;
                to.put(low, order)
            }
            Self::Golomb(order) => {
                let x = u64::from(number) + (1 << order);
                let bits = x.ilog2();
                let (zeros, low) = (bits - order, x - (1 << bits));
                if zeros + 1 + bits <= 32 {
                    return to.put(((1 | low << 1) << zeros) as u32, zeros + 1 + bits);
                }
                to.put_unary(zeros)?;
                to.put(low as u32, bits)
            }
        }
    }

    /// Writes all numbers.
    pub(crate) fn put_all(self, numbers: &[u32], to: &mut BitWriter<'_>) -> Result<(), Full> {
        // Which code it is, is asked once.
        let mut numbers = numbers.iter();
        match self {
            Self::Fixed(width) => numbers.try_for_each(|n| Self::Fixed(width).put(*n, to)),
            Self::Rice(order) => numbers.try_for_each(|n| Self::Rice(order).put(*n, to)),
            Self::Golomb(order) => numbers.try_for_each(|n| Self::Golomb(order).put(*n, to)),
        }
    }

    /// Reads `count` numbers and hands each over.
    pub(crate) fn take_all(
        self,
        count: usize,
        from: &mut BitReader<'_>,
        mut each: impl FnMut(u32) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for _ in 0..count {
            let number = if let Self::Golomb(order) = self
                && let Some((zeros, low)) = from.take_short(order)
            {
                let number = (1 << (zeros + order) | low) - (1 << order);
                u32::try_from(number).map_err(|_| Fault::Invalid)?
            } else {
                self.take(from)?
            };
            each(number)?;
        }
        Ok(())
    }

    fn take(self, from: &mut BitReader<'_>) -> Result<u32, Fault> {
        match self {
            Self::Fixed(width) => from.take(width),
            Self::Rice(order) => {
                let high = from.take_unary(UNARY_MAX)?;
                let low = from.take(order)?;
                // 8 bits and up to 30: a number of 32 bits or a refusal.
                let number = u64::from(high) << order | u64::from(low);
                u32::try_from(number).map_err(|_| Fault::Invalid)
            }
            Self::Golomb(order) => {
                let bits = from.take_unary(32 - order)? + order;
                let low = u64::from(from.take(bits)?);
                u32::try_from((1 << bits | low) - (1 << order)).map_err(|_| Fault::Invalid)
            }
        }
    }
}

/// Rounded down, of a number from 1 to 2^24: the exponent of an exact f32.
#[inline(always)]
const fn logarithm(x: u32) -> u32 {
    ((x as i32 as f32).to_bits() >> 23) - 127
}

/// Appends one LEB128 number to the bytes written so far.
pub(crate) fn put_leb128(mut value: u32, out: &mut [u8], at: &mut usize) -> Result<(), Full> {
    loop {
        let more = value >= 0x80;
        let byte = out.get_mut(*at).ok_or(Full)?;
        *byte = value as u8 & 0x7F | if more { 0x80 } else { 0 };
        *at += 1;
        value >>= 7;
        if !more {
            return Ok(());
        }
    }
}

/// Takes one LEB128 number of at most 32 bits, in its shortest form, off the front.
pub(crate) fn take_leb128(bytes: &mut &[u8]) -> Result<u32, Fault> {
    let number = wire::tokens::get_leb128(bytes).map_err(|fault| match fault {
        wire::tokens::TokenFault::Length => Fault::Length,
        _ => Fault::Invalid,
    })?;
    u32::try_from(number).map_err(|_| Fault::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(numbers: &[u32]) {
        let (best, bits) = Code::best(numbers);
        for code in [best, Code::Golomb(0), Code::Golomb(30), Code::Fixed(32)] {
            assert_eq!(Code::from_byte(code.byte()), Ok(code));
            let mut out = vec![0; 64 + 10 * numbers.len()];
            let mut writer = BitWriter::new(&mut out);
            code.put_all(numbers, &mut writer).expect("room");
            let len = writer.finish().expect("room");
            if code == best {
                assert_eq!(len as u64, bits.div_ceil(8));
            }
            let mut reader = BitReader::new(&out[..len]);
            let mut read = Vec::new();
            let push = |number| {
                read.push(number);
                Ok(())
            };
            assert_eq!(code.take_all(numbers.len(), &mut reader, push), Ok(()), "{code:?}");
            assert_eq!((&read[..], reader.finish()), (numbers, Ok(())), "{code:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back(
            numbers in prop::collection::vec(any::<u32>(), 0..50),
            by in 0_u32..32,
        ) {
            check(&numbers.iter().map(|number| number >> by).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some((first, rest)) = bytes.split_first()
                && let Ok(code) = Code::from_byte(*first)
            {
                let mut reader = BitReader::new(rest);
                let _ = code.take_all(20, &mut reader, |_| Ok(()));
                let mut alone = BitReader::new(rest);
                let _ = (0..20).try_for_each(|_| code.take(&mut alone).map(|_| ()));
            }
        }
    }

    #[test]
    fn extremes_come_back() {
        check(&[]);
        check(&[0]);
        check(&[u32::MAX]);
        check(&[0, u32::MAX, 1]);
        check(&[0; 40]);
    }
}
