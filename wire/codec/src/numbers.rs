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
    pub(crate) fn best(numbers: impl Iterator<Item = u32> + Clone) -> (Self, u64) {
        let (mut count, mut all, mut sum) = (0_u64, 0, 0_u64);
        for number in numbers.clone() {
            count += 1;
            all |= number;
            sum += u64::from(number);
        }
        let width = u32::BITS - all.leading_zeros();
        let mut best = (Self::Fixed(width), count * u64::from(width));
        // The best parameter lies near the logarithm of the mean.
        let middle = sum.checked_div(count).map_or(0, |mean| u64::BITS - mean.leading_zeros());
        let near = middle.saturating_sub(4)..(middle + 2).min(width.max(1)).min(31);
        for order in near.clone() {
            let quotients: u64 = numbers.clone().map(|number| u64::from(number >> order)).sum();
            let bits = quotients + count * u64::from(order + 1);
            let fits = all >> order <= UNARY_MAX;
            if fits && bits < best.1 {
                best = (Self::Rice(order), bits);
            }
        }
        for order in near {
            let bits = numbers.clone().map(|number| golomb_bits(number, order)).sum();
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

    pub(crate) fn put(self, number: u32, to: &mut BitWriter<'_>) -> Result<(), Full> {
        match self {
            Self::Fixed(width) => to.put(number, width),
            Self::Rice(order) => {
                to.put_unary(number >> order)?;
                to.put(number & ((1 << order) - 1), order)
            }
            Self::Golomb(order) => {
                let x = u64::from(number) + (1 << order);
                let bits = x.ilog2();
                to.put_unary(bits - order)?;
                to.put((x - (1 << bits)) as u32, bits)
            }
        }
    }

    pub(crate) fn take(self, from: &mut BitReader<'_>) -> Result<u32, Fault> {
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

const fn golomb_bits(number: u32, order: u32) -> u64 {
    let x = number as u64 + (1 << order);
    let bits = x.ilog2();
    (2 * bits - order + 1) as u64
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
        let (best, bits) = Code::best(numbers.iter().copied());
        for code in [best, Code::Golomb(0), Code::Golomb(30), Code::Fixed(32)] {
            assert_eq!(Code::from_byte(code.byte()), Ok(code));
            let mut out = vec![0; 64 + 10 * numbers.len()];
            let mut writer = BitWriter::new(&mut out);
            numbers.iter().for_each(|number| code.put(*number, &mut writer).expect("room"));
            let len = writer.finish().expect("room");
            if code == best {
                assert_eq!(len as u64, bits.div_ceil(8));
            }
            let mut reader = BitReader::new(&out[..len]);
            for number in numbers {
                assert_eq!(code.take(&mut reader), Ok(*number), "{code:?}");
            }
            assert_eq!(reader.finish(), Ok(()));
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
                for _ in 0..20 {
                    let _ = code.take(&mut reader);
                }
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
