//! The 32-byte header of every frame (WIRE-01..09), read in place and written in place.

use crate::{Compression, ErrorCode, Kind, VERSION};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::big_endian::{U16, U32, U64},
};

/// Bytes of a header.
pub const HEADER_LEN: usize = 32;

/// `BUTT`, the first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"BUTT";

/// A frame header exactly as it lies on the wire: every field big-endian, no padding.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Header {
    magic: [u8; 4],
    version: U16,
    kind: U16,
    message_id: U64,
    timestamp_ns: U64,
    payload_len: U32,
    compression: U16,
    checksum: U16,
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_LEN);
    assert!(align_of::<Header>() == 1);
    assert!(core::mem::offset_of!(Header, version) == 4);
    assert!(core::mem::offset_of!(Header, kind) == 6);
    assert!(core::mem::offset_of!(Header, message_id) == 8);
    assert!(core::mem::offset_of!(Header, timestamp_ns) == 16);
    assert!(core::mem::offset_of!(Header, payload_len) == 24);
    assert!(core::mem::offset_of!(Header, compression) == 28);
    assert!(core::mem::offset_of!(Header, checksum) == 30);
};

/// Why a header cannot be followed. `code` says what the peer is told and whether the stream can go
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFault {
    /// The error reported to the peer.
    pub code: ErrorCode,
}

impl Header {
    /// A header for a payload with a known CRC-16.
    #[must_use]
    #[inline]
    pub const fn new(
        kind: Kind,
        message_id: u64,
        timestamp_ns: u64,
        payload_len: u32,
        checksum: u16,
    ) -> Self {
        Self {
            magic: MAGIC,
            version: U16::new(VERSION),
            kind: U16::new(kind.code()),
            message_id: U64::new(message_id),
            timestamp_ns: U64::new(timestamp_ns),
            payload_len: U32::new(payload_len),
            compression: U16::new(Compression::None.code()),
            checksum: U16::new(checksum),
        }
    }

    /// A header for `payload`, its CRC-16 computed here.
    ///
    /// # Panics
    /// If the payload is 4 GiB or longer; the format cannot carry it.
    #[must_use]
    pub fn for_payload(kind: Kind, message_id: u64, timestamp_ns: u64, payload: &[u8]) -> Self {
        let len = u32::try_from(payload.len()).expect("payload fits 32 bits");
        Self::new(kind, message_id, timestamp_ns, len, crate::check::crc16(payload))
    }

    /// The same header with another compression code.
    #[must_use]
    pub const fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = U16::new(compression.code());
        self
    }

    /// Reads a header in place from the first 32 bytes, or `None` where there are fewer. Nothing is
    /// copied.
    #[must_use]
    #[inline]
    pub fn peek(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// Checks what must hold before `payload_len` may be believed: magic, version, length limit.
    ///
    /// # Errors
    /// A fault after which the connection must close: the stream cannot be followed.
    #[inline]
    pub fn check(&self, payload_max: u32) -> Result<(), HeaderFault> {
        if self.magic != MAGIC {
            return Err(HeaderFault { code: ErrorCode::BadMagic });
        }
        if self.version.get() != VERSION {
            return Err(HeaderFault { code: ErrorCode::UnsupportedVersion });
        }
        if self.payload_len.get() > payload_max {
            return Err(HeaderFault { code: ErrorCode::PayloadTooLong });
        }
        Ok(())
    }

    /// The message type, or the fault that skips this payload.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownType`].
    #[inline]
    pub fn kind(&self) -> Result<Kind, HeaderFault> {
        Kind::from_code(self.kind.get()).ok_or(HeaderFault { code: ErrorCode::UnknownType })
    }

    /// The message type as carried, known or not.
    #[must_use]
    pub const fn raw_kind(&self) -> u16 {
        self.kind.get()
    }

    /// The compression, or the fault that skips this payload.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownCompression`].
    #[inline]
    pub fn compression(&self) -> Result<Compression, HeaderFault> {
        Compression::from_code(self.compression.get())
            .ok_or(HeaderFault { code: ErrorCode::UnknownCompression })
    }

    /// Chosen by the sender, unique per connection; a reply repeats it.
    #[must_use]
    #[inline]
    pub const fn message_id(&self) -> u64 {
        self.message_id.get()
    }

    /// Nanoseconds since the Unix epoch on the sender's clock.
    #[must_use]
    #[inline]
    pub const fn timestamp_ns(&self) -> u64 {
        self.timestamp_ns.get()
    }

    /// Bytes of payload that follow.
    #[must_use]
    #[inline]
    pub const fn payload_len(&self) -> u32 {
        self.payload_len.get()
    }

    /// CRC-16/IBM-3740 of the payload as carried.
    #[must_use]
    #[inline]
    pub const fn checksum(&self) -> u16 {
        self.checksum.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_01_to_09_every_field_is_big_endian_at_its_offset() {
        let header = Header::new(
            Kind::MetricsUpdate,
            0x0102_0304_0506_0708,
            0x1112_1314_1516_1718,
            0x2122_2324,
            0x3132,
        )
        .with_compression(Compression::Lz4);
        let expected = [
            0x42, 0x55, 0x54, 0x54, 0x00, 0x01, 0x00, 0x0C, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06,
            0x07, 0x08, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22, 0x23, 0x24,
            0x00, 0x02, 0x31, 0x32,
        ];
        assert_eq!(header.as_bytes(), expected);
        let read = Header::peek(&expected).expect("32 bytes");
        assert_eq!(*read, header);
        assert_eq!(read.message_id(), 0x0102_0304_0506_0708);
        assert_eq!(read.timestamp_ns(), 0x1112_1314_1516_1718);
        assert_eq!(read.payload_len(), 0x2122_2324);
        assert_eq!(read.compression(), Ok(Compression::Lz4));
        assert_eq!(read.checksum(), 0x3132);
    }

    #[test]
    fn wire_10_a_header_is_read_in_place_at_any_address() {
        let mut bytes = [0; HEADER_LEN + 8];
        for at in 0..8 {
            bytes[at..at + HEADER_LEN].copy_from_slice(crate::frame::ping(9, 9).as_bytes());
            let read = Header::peek(&bytes[at..]).expect("32 bytes");
            assert_eq!(core::ptr::from_ref(read).addr(), bytes[at..].as_ptr().addr());
            assert!(read.check(0).is_ok());
        }
        assert!(Header::peek(&bytes[..HEADER_LEN - 1]).is_none());
    }

    #[test]
    fn wire_02_03_07_what_cannot_be_followed_closes() {
        let good = Header::new(Kind::Heartbeat, 1, 2, 64, 3);
        assert_eq!(good.check(64), Ok(()));
        let fault = |change: fn(&mut Header)| {
            let mut bad = good;
            change(&mut bad);
            bad.check(64).expect_err("bad").code
        };
        assert_eq!(fault(|header| header.magic = *b"HTTP"), ErrorCode::BadMagic);
        assert_eq!(fault(|header| header.version.set(2)), ErrorCode::UnsupportedVersion);
        assert_eq!(fault(|header| header.payload_len.set(65)), ErrorCode::PayloadTooLong);
        for code in [ErrorCode::BadMagic, ErrorCode::UnsupportedVersion, ErrorCode::PayloadTooLong]
        {
            assert!(code.closes());
        }
    }

    #[test]
    fn wire_04_08_unknown_types_and_compressions_are_skipped() {
        let mut header = Header::new(Kind::Heartbeat, 1, 2, 64, 3);
        for code in [0, 0x000F, 0x0100, 0xFFFF] {
            header.kind.set(code);
            assert_eq!(header.kind(), Err(HeaderFault { code: ErrorCode::UnknownType }));
            assert_eq!(header.raw_kind(), code);
            assert!(header.check(64).is_ok());
        }
        for code in [3, 0x0100, 0xFFFF] {
            header.compression.set(code);
            let fault = HeaderFault { code: ErrorCode::UnknownCompression };
            assert_eq!(header.compression(), Err(fault));
        }
        assert!(!ErrorCode::UnknownType.closes() && !ErrorCode::UnknownCompression.closes());
    }

    #[test]
    fn wire_09_the_header_carries_the_sum_of_its_payload() {
        let payload = [7; 48];
        let header = Header::for_payload(Kind::QueryRequest, 1, 2, &payload);
        assert_eq!(header.payload_len(), 48);
        assert_eq!(header.checksum(), crate::check::crc16(&payload));
        assert_eq!(crate::frame::ping(1, 2).checksum(), 0xFFFF);
    }
}
