//! The header (`FORMAT.md`), where its fields are small enough: every value there is.

use wire::{Compression, HEADER_LEN, Header, Kind};

/// Offsets of the 16-bit fields: version, type, compression, checksum.
const VERSION: usize = 4;
const KIND: usize = 6;
const COMPRESSION: usize = 28;
const CHECKSUM: usize = 30;
const FIELDS: [usize; 4] = [VERSION, KIND, COMPRESSION, CHECKSUM];
const PAYLOAD_MAX: u32 = 1 << 20;

/// A good header with a number of its own in every byte that may be anything.
fn golden() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(b"BUTT");
    bytes[4..8].copy_from_slice(&[0, 1, 0, 4]);
    for (at, byte) in bytes.iter_mut().enumerate().take(24).skip(8) {
        *byte = at as u8 | 0x80;
    }
    bytes[24..28].copy_from_slice(&[0, 0, 1, 7]);
    bytes[28..32].copy_from_slice(&[0, 0, 0xAB, 0xCD]);
    bytes
}

fn field(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Everything that a header says, against the bytes themselves.
fn judge(bytes: &[u8; HEADER_LEN]) {
    let header = Header::peek(bytes).expect("32 bytes");
    let len = u32::from_be_bytes(bytes[24..28].try_into().expect("4 bytes"));
    let sound = bytes[..4] == *b"BUTT" && field(bytes, VERSION) == 1 && len <= PAYLOAD_MAX;
    assert_eq!(header.check(PAYLOAD_MAX).is_ok(), sound, "{bytes:02x?}");
    let kind = Kind::ALL.iter().copied().find(|kind| kind.code() == field(bytes, KIND));
    assert_eq!(header.kind().ok(), kind);
    assert_eq!(header.raw_kind(), field(bytes, KIND));
    let packed = Compression::ALL.iter().copied();
    let packed = packed.into_iter().find(|it| it.code() == field(bytes, COMPRESSION));
    assert_eq!(header.compression().ok(), packed);
    assert_eq!(header.checksum(), field(bytes, CHECKSUM));
    assert_eq!(header.payload_len(), len);
    assert_eq!(header.message_id().to_be_bytes(), bytes[8..16]);
    assert_eq!(header.timestamp_ns().to_be_bytes(), bytes[16..24]);
}

#[test]
fn wire_01_to_09_every_value_of_each_short_field_is_read_as_it_lies() {
    for at in FIELDS {
        let mut bytes = golden();
        for value in 0..=u16::MAX {
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            judge(&bytes);
        }
    }
}

#[test]
fn wire_04_08_the_codes_that_are_known_are_the_registered_ones_and_no_other() {
    let known = |at: usize, is_known: fn(&Header) -> bool| {
        let mut bytes = golden();
        let all = (0..=u16::MAX).filter(move |value| {
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            is_known(Header::peek(&bytes).expect("32 bytes"))
        });
        all.collect::<Vec<_>>()
    };
    let kinds: Vec<u16> = (0x0001..=0x000E).chain(0x0101..=0x010D).collect();
    assert_eq!(known(KIND, |header| header.kind().is_ok()), kinds);
    assert_eq!(known(COMPRESSION, |header| header.compression().is_ok()), [0, 1, 2]);
    assert_eq!(known(VERSION, |header| header.check(PAYLOAD_MAX).is_ok()), [1]);
}

#[test]
fn wire_01_to_09_fields_do_not_see_each_other() {
    // Each pair, over the values at which something changes.
    let edges = [0, 1, 2, 3, 4, 0x0E, 0x0F, 0xFF, 0x100, 0x101, 0x10D, 0x7FFF, 0x8000, 0xFFFF];
    for (first, one) in FIELDS.iter().enumerate() {
        for other in &FIELDS[first + 1..] {
            for (a, b) in edges.iter().flat_map(|a| edges.iter().map(move |b| (*a, *b))) {
                let mut bytes = golden();
                bytes[*one..one + 2].copy_from_slice(&u16::to_be_bytes(a));
                bytes[*other..other + 2].copy_from_slice(&u16::to_be_bytes(b));
                judge(&bytes);
            }
        }
    }
}

#[test]
fn wire_01_07_each_bit_of_a_header_is_seen_by_its_field_alone() {
    for bit in 0..HEADER_LEN * 8 {
        for other in bit..HEADER_LEN * 8 {
            let mut bytes = golden();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if other != bit {
                bytes[other / 8] ^= 1 << (other % 8);
            }
            judge(&bytes);
        }
    }
}

#[test]
fn wire_07_the_limit_of_a_length_is_exact() {
    let mut bytes = golden();
    for limit in [0, 1, 16, 0xFFFF, PAYLOAD_MAX, u32::MAX - 1, u32::MAX] {
        for len in [0, 1, limit.saturating_sub(1), limit, limit.saturating_add(1), u32::MAX] {
            bytes[24..28].copy_from_slice(&len.to_be_bytes());
            let header = Header::peek(&bytes).expect("32 bytes");
            assert_eq!(header.check(limit).is_ok(), len <= limit, "{len} of {limit}");
        }
    }
}
