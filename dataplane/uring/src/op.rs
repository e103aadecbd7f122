//! What an operation was, carried through the kernel in the 64 bits of `user_data`.
//!
//! ```text
//!  63      56 55                    32 31                             0
//! +----------+------------------------+--------------------------------+
//! |    op    |       generation       |             index              |
//! +----------+------------------------+--------------------------------+
//! ```
//!
//! The generation counts the lives of a connection's table entry: a completion that was late (a
//! cancellation that found nothing, say) carries an old one and is dropped.

/// Bits of a generation.
pub(crate) const GENERATION_MASK: u32 = 0x00FF_FFFF;

/// The closed set of operations that the driver has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// Multishot accept; the index is the listener's.
    Accept = 1,
    /// Cancellation of an accept.
    Unlisten,
    /// Multishot receive of the small lane.
    Stream,
    /// Cancellation of a stream.
    Stop,
    /// Receive of a header or of a slot's payload.
    Fill,
    /// Send.
    Send,
    /// Cancellation of the receive of a closing connection, whichever it is.
    AbortReading,
    /// Cancellation of its send.
    AbortSend,
    /// Half close.
    Shutdown,
    /// Close of a direct descriptor.
    Close,
    /// Poll of a doorbell; the index says which.
    Door,
}

const OPS: [Op; 11] = [
    Op::Accept,
    Op::Unlisten,
    Op::Stream,
    Op::Stop,
    Op::Fill,
    Op::Send,
    Op::AbortReading,
    Op::AbortSend,
    Op::Shutdown,
    Op::Close,
    Op::Door,
];

/// An operation and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) op: Op,
    pub(crate) generation: u32,
    pub(crate) index: u32,
}

impl Tag {
    pub(crate) const fn new(op: Op, generation: u32, index: u32) -> Self {
        Self { op, generation: generation & GENERATION_MASK, index }
    }

    #[inline]
    pub(crate) const fn pack(self) -> u64 {
        (self.op as u64) << 56 | (self.generation as u64) << 32 | self.index as u64
    }

    /// `None` for what `pack` never made.
    #[inline]
    pub(crate) fn unpack(user_data: u64) -> Option<Self> {
        let code = (user_data >> 56) as usize;
        let op = *OPS.get(code.wrapping_sub(1))?;
        let generation = (user_data >> 32) as u32 & GENERATION_MASK;
        Some(Self { op, generation, index: user_data as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_survives_the_kernel() {
        for op in OPS {
            for (generation, index) in [(0, 0), (GENERATION_MASK, u32::MAX), (7, 19_999)] {
                let tag = Tag::new(op, generation, index);
                assert_eq!(Tag::unpack(tag.pack()), Some(tag));
            }
        }
    }

    #[test]
    fn foreign_user_data_is_no_tag() {
        assert_eq!(Tag::unpack(0), None);
        assert_eq!(Tag::unpack(u64::MAX), None);
        assert_eq!(Tag::unpack((OPS.len() as u64 + 1) << 56), None);
    }
}
