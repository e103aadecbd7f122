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

/// Why a header cannot be followed. `code` says what the peer is told and whether the stream can go on.
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

    /// Reads a header in place from the first 32 bytes, or `None` where there are fewer. Nothing is copied.
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
