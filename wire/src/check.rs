//! The two checks of the format: CRC-16/IBM-3740 over every payload as carried, CRC-32C inside long
//! payloads.

use crc_fast::CrcAlgorithm;

/// CRC-16/IBM-3740 (polynomial 0x1021, initial value 0xFFFF, not reflected, no final xor).
#[must_use]
#[inline]
pub fn crc16(payload: &[u8]) -> u16 {
    // The empty payload is every ping: its sum is the initial value.
    if payload.is_empty() {
        return 0xFFFF;
    }
    crc_fast::checksum(CrcAlgorithm::Crc16Ibm3740, payload) as u16
}

/// CRC-32C (Castagnoli, also called CRC-32/ISCSI).
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// [`crc16`] of several stretches as if they were one.
#[must_use]
pub fn crc16_of(stretches: &[&[u8]]) -> u16 {
    digest(CrcAlgorithm::Crc16Ibm3740, stretches) as u16
}

/// [`crc32c`] of several stretches as if they were one.
#[must_use]
pub fn crc32c_of(stretches: &[&[u8]]) -> u32 {
    digest(CrcAlgorithm::Crc32Iscsi, stretches) as u32
}

fn digest(algorithm: CrcAlgorithm, stretches: &[&[u8]]) -> u64 {
    let mut digest = crc_fast::Digest::new(algorithm);
    for stretch in stretches {
        digest.update(stretch);
    }
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, bit by bit.
    fn crc16_by_definition(bytes: &[u8]) -> u16 {
        let mut sum = 0xFFFF_u16;
        for byte in bytes {
            sum ^= u16::from(*byte) << 8;
            for _ in 0..8 {
                sum = if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 };
            }
        }
        sum
    }

    /// The definition, bit by bit.
    fn crc32c_by_definition(bytes: &[u8]) -> u32 {
        let mut sum = u32::MAX;
        for byte in bytes {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x82F6_3B78 };
            }
        }
        !sum
    }

    #[test]
    fn wire_09_every_length_and_offset_agrees_with_the_definition() {
        let bytes: Vec<u8> =
            (0..700_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in 0..400 {
            let stretch = &bytes[len % 17..][..len];
            assert_eq!(crc16(stretch), crc16_by_definition(stretch), "{len} bytes");
            assert_eq!(crc32c(stretch), crc32c_by_definition(stretch), "{len} bytes");
        }
    }

    #[test]
    fn zeros_do_not_vanish() {
        let sums: Vec<u16> =
            [0, 1, 2, 4, 32, 4096].iter().map(|len| crc16(&vec![0; *len])).collect();
        assert_eq!(sums, [0xFFFF, 0xE1F0, 0x1D0F, 0x84C0, 0xF14C, 0xEFDF]);
    }
}
