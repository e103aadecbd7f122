//! Provided buffers: the kernel picks one per delivery of a stream, the driver gives it back when
//! it is used up.
//!
//! ```text
//!   +----------+----------+-  -+----------+        +--------------------------------+
//!   | buffer 0 | buffer 1 | .. | buffer n |        | ring: addr, len, id | tail     |
//!   +----------+----------+-  -+----------+        +--------------------------------+
//!     written by the kernel while in the ring        read by the kernel, written here
//! ```
//!
//! A buffer is in the ring (the kernel's) or out of it (ours). What a shard has not used yet stays
//! in its buffer: each connection has a [`Stash`], a list threaded through the buffers by index, so
//! keeping costs no memory and the sum of all stashes cannot exceed the pool.

use crate::pages::Pages;
use io_uring::types::BufRingEntry;
use std::{
    io, slice,
    sync::atomic::{AtomicU16, Ordering},
};

/// Id of the one buffer group.
pub(crate) const GROUP: u16 = 0;
/// Most buffers of a ring; the kernel's limit.
pub(crate) const BUFFERS_MAX: u16 = 1 << 15;

const NONE: u16 = u16::MAX;

/// Bytes in a buffer that are still to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) buffer: u16,
    pub(crate) from: u32,
    pub(crate) len: u32,
}

/// Pieces of one connection in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stash {
    head: u16,
    tail: u16,
}

impl Stash {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) const fn is_empty(self) -> bool {
        self.head == NONE
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    from: u32,
    len: u32,
    next: u16,
    out: bool,
}

/// All provided buffers of a driver, and the ring that offers them.
#[derive(Debug)]
pub(crate) struct Pool {
    data: Pages,
    ring: Pages,
    size: u32,
    tail: u16,
    links: Box<[Link]>,
    out: u32,
}

impl Pool {
    /// `count` buffers of `size` bytes, all offered.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<Self> {
        let usable = count.is_power_of_two() && count <= BUFFERS_MAX && size > 0;
        if !usable {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "receive buffers must number a power of two up to 32768 and hold a byte or more",
            ));
        }
        let data = Pages::new(usize::from(count) * size as usize)?;
        let ring = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let links = vec![Link { from: 0, len: 0, next: NONE, out: true }; usize::from(count)];
        let mut pool =
            Self { data, ring, size, tail: 0, links: links.into(), out: u32::from(count) };
        for buffer in 0..count {
            pool.give_back(buffer);
        }
        Ok(pool)
    }

    /// Address and entries of the ring, for registration.
    pub(crate) fn registration(&self) -> (u64, u16) {
        (self.ring.at(0, 1).as_ptr() as u64, self.links.len() as u16)
    }

    /// Buffers that the kernel may use.
    pub(crate) fn free(&self) -> u32 {
        self.links.len() as u32 - self.out
    }

    /// The kernel filled the first `len` bytes of this buffer: it is ours now. `None` for what
    /// cannot be.
    #[inline]
    pub(crate) fn take(&mut self, buffer: u16, len: u32) -> Option<Piece> {
        let link = self.links.get_mut(usize::from(buffer))?;
        if link.out {
            return None;
        }
        link.out = true;
        self.out += 1;
        Some(Piece { buffer, from: 0, len: len.min(self.size) })
    }

    /// Offers the buffer to the kernel again.
    #[inline]
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let Some(link) = self.links.get_mut(usize::from(buffer)) else { return };
        if !link.out {
            return;
        }
        link.out = false;
        self.out -= 1;
        let start = usize::from(buffer) * self.size as usize;
        let address = self.data.at(start, self.size as usize);
        let index = usize::from(self.tail) & (self.links.len() - 1);
        let width = size_of::<BufRingEntry>();
        let entry = self.ring.at(index * width, width).cast::<BufRingEntry>();
        // SAFETY: `at` checked that the entry lies in the ring's mapping, which is zeroed (a valid
        // entry), page-aligned (hence aligned for entries) and exclusive to this pool in user
        // space. The kernel reads an entry only after the tail below says so, and this one is
        // behind the tail: at most as many buffers as entries are offered.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address.as_ptr() as u64);
        entry.set_len(self.size);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    #[inline]
    fn publish(&self) {
        let base = self.ring.at(0, size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: `base` is the first entry of the zeroed ring, as this function asks.
        let tail = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: the tail is a naturally aligned u16 inside the mapping, and after set-up only
        // touched as an atomic; the setters above write the other fields of entry 0.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Publishes the entry to the kernel, which loads the tail with acquire ordering.
        tail.store(self.tail, Ordering::Release);
    }

    /// The bytes of a piece that `take` gave out.
    #[inline]
    pub(crate) fn bytes(&self, piece: Piece) -> &[u8] {
        assert!(piece.from <= self.size && piece.len <= self.size - piece.from);
        let start = usize::from(piece.buffer) * self.size as usize + piece.from as usize;
        let address = self.data.at(start, piece.len as usize);
        // SAFETY: `at` keeps the stretch inside the mapping, whose bytes are initialised (zeroes,
        // or the kernel's). The kernel does not write: the piece stands for a buffer that is out of
        // the ring, and giving the buffer back takes `&mut self`, which ends this borrow.
        unsafe { slice::from_raw_parts(address.as_ptr(), piece.len as usize) }
    }

    /// The same, to be changed where they lie.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, piece: Piece) -> &mut [u8] {
        assert!(piece.from <= self.size && piece.len <= self.size - piece.from);
        let start = usize::from(piece.buffer) * self.size as usize + piece.from as usize;
        let address = self.data.at(start, piece.len as usize);
        // SAFETY: as in `bytes`; `&mut self` excludes every other slice of this pool.
        unsafe { slice::from_raw_parts_mut(address.as_ptr(), piece.len as usize) }
    }

    /// Appends a piece to a stash.
    pub(crate) fn push_back(&mut self, stash: &mut Stash, piece: Piece) {
        let at = usize::from(piece.buffer);
        self.links[at] = Link { from: piece.from, len: piece.len, next: NONE, out: true };
        match self.links.get_mut(usize::from(stash.tail)) {
            Some(last) => last.next = piece.buffer,
            None => stash.head = piece.buffer,
        }
        stash.tail = piece.buffer;
    }

    /// Puts a piece in front of a stash.
    pub(crate) fn push_front(&mut self, stash: &mut Stash, piece: Piece) {
        let at = usize::from(piece.buffer);
        self.links[at] = Link { from: piece.from, len: piece.len, next: stash.head, out: true };
        if stash.is_empty() {
            stash.tail = piece.buffer;
        }
        stash.head = piece.buffer;
    }

    /// Takes the oldest piece out of a stash.
    pub(crate) fn pop_front(&mut self, stash: &mut Stash) -> Option<Piece> {
        let link = *self.links.get(usize::from(stash.head))?;
        let piece = Piece { buffer: stash.head, from: link.from, len: link.len };
        stash.head = link.next;
        if stash.is_empty() {
            stash.tail = NONE;
        }
        Some(piece)
    }

    /// Gives back all buffers of a stash; returns how many.
    pub(crate) fn drop_stash(&mut self, stash: &mut Stash) -> u64 {
        let mut count = 0;
        while let Some(piece) = self.pop_front(stash) {
            self.give_back(piece.buffer);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stash_keeps_order_and_gives_back_all() {
        let mut pool = Pool::new(4, 64).unwrap();
        let mut stash = Stash::EMPTY;
        let pieces: Vec<_> = (0..3).map(|id| pool.take(id, 10 + u32::from(id)).unwrap()).collect();
        assert_eq!(pool.free(), 1);
        pool.push_back(&mut stash, pieces[1]);
        pool.push_back(&mut stash, pieces[2]);
        pool.push_front(&mut stash, pieces[0]);
        for piece in &pieces {
            assert_eq!(pool.pop_front(&mut stash), Some(*piece));
        }
        assert_eq!(pool.pop_front(&mut stash), None);
        for piece in pieces {
            pool.push_back(&mut stash, piece);
        }
        assert_eq!(pool.drop_stash(&mut stash), 3);
        assert_eq!((pool.free(), stash), (4, Stash::EMPTY));
    }

    #[test]
    fn a_buffer_has_one_owner() {
        let mut pool = Pool::new(2, 64).unwrap();
        assert_eq!(pool.take(2, 1), None);
        let piece = pool.take(0, 100).unwrap();
        assert_eq!(piece.len, 64, "never more than the buffer holds");
        assert_eq!(pool.take(0, 1), None);
        pool.give_back(0);
        pool.give_back(0);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn odd_pools_are_refused() {
        assert!(Pool::new(0, 64).is_err());
        assert!(Pool::new(3, 64).is_err());
        assert!(Pool::new(4, 0).is_err());
    }
}
