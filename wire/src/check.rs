//! The two checks of the format: CRC-16/IBM-3740 over every payload as carried, CRC-32C inside long payloads.

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
