//! Time-ordered 128-bit ids (MESHMSG-01), laid out as UUID version 7.

/// 16 bytes, in the order of their text form.
pub type MessageId = [u8; 16];

/// The id of a moment: 48 bits of milliseconds since the Unix epoch, then `random` (74 bits of it
/// are kept), with the version and variant of RFC 9562's UUIDv7. Ids of later milliseconds compare
/// greater.
#[must_use]
pub fn message_id(epoch_ns: u64, random: u128) -> MessageId {
    let ms = u128::from(epoch_ns / 1_000_000) & 0xFFFF_FFFF_FFFF;
    let high = (random >> 64) & 0xFFF;
    let low = random & 0x3FFF_FFFF_FFFF_FFFF;
    let id = (ms << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low;
    id.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meshmsg_01_ids_carry_their_time_and_sort_by_it() {
        let early = message_id(1_700_000_000_000_000_000, u128::MAX);
        let late = message_id(1_700_000_000_001_000_000, 0);
        assert!(early < late);
        let ms = early[..6].iter().fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte));
        assert_eq!(ms, 1_700_000_000_000);
        assert_eq!(early[6] >> 4, 7, "version");
        assert_eq!(early[8] >> 6, 0b10, "variant");
    }
}
