//! Where encoded payloads go: the end of a vector, or a slice that must suffice.

use crate::payload::Full;
use rkyv::{
    rancor::{Failure, Source as _, Strategy},
    ser::{Positional, Serializer, Writer, allocator::ArenaHandle},
};

/// The serializer that payload types are written with: no shared pointers, scratch from the
/// thread's arena.
pub type Encoder<'a, 'b> = Strategy<Serializer<Sink<'a>, ArenaHandle<'b>, ()>, Failure>;

/// Relative pointers are 32-bit, so no payload may grow past this.
const PAYLOAD_LEN_MAX: usize = i32::MAX as usize;

/// A payload under construction. Position 0 is the payload's first byte.
#[derive(Debug)]
pub struct Sink<'a> {
    out: Out<'a>,
}

#[derive(Debug)]
enum Out<'a> {
    /// Grows; the payload starts at `base`.
    Vec { out: &'a mut Vec<u8>, base: usize },
    /// Does not grow; `at` bytes of the payload are written.
    Slice { out: &'a mut [u8], at: usize },
}

impl<'a> Sink<'a> {
    /// Appends; the payload (with data already placed) starts at `base`.
    pub(crate) const fn vec(out: &'a mut Vec<u8>, base: usize) -> Self {
        Self { out: Out::Vec { out, base } }
    }

    /// Writes behind the first `at` bytes of `out`, which hold placed data.
    pub(crate) const fn slice(out: &'a mut [u8], at: usize) -> Self {
        Self { out: Out::Slice { out, at } }
    }

    /// The bytes written, placed data included.
    pub(crate) fn into_payload(self) -> &'a mut [u8] {
        match self.out {
            Out::Vec { out, base } => out.get_mut(base..).unwrap_or_default(),
            Out::Slice { out, at } => out.get_mut(..at).unwrap_or_default(),
        }
    }
}

impl Positional for Sink<'_> {
    fn pos(&self) -> usize {
        match &self.out {
            Out::Vec { out, base } => out.len() - base,
            Out::Slice { at, .. } => *at,
        }
    }
}

impl Writer<Failure> for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let end = self.pos().saturating_add(bytes.len());
        if end > PAYLOAD_LEN_MAX {
            return Err(Failure::new(Full));
        }
        match &mut self.out {
            Out::Vec { out, .. } => out.extend_from_slice(bytes),
            Out::Slice { out, at } => {
                let to = out.get_mut(*at..end).ok_or_else(|| Failure::new(Full))?;
                to.copy_from_slice(bytes);
                *at = end;
            }
        }
        Ok(())
    }
}
