//! Receive buffers: the kernel picks one per arrival; it comes back as soon as it was copied out.

use io_uring::types::BufRingEntry;
use std::{
    cell::UnsafeCell,
    io,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU16, Ordering},
};

use super::ring::Ring;

/// Id of the one buffer group.
pub(super) const GROUP: u16 = 0;
/// Buffers: as many as a page holds entries.
const COUNT: u16 = 256;
/// Bytes of a buffer: the longest run of datagrams that the kernel joins (GRO), and room for where
/// they came from.
const LEN: usize = (64 << 10) + 512;
/// Bytes of all buffers.
pub(super) const BYTES: u64 = LEN as u64 * COUNT as u64;

/// One page of entries, where the kernel wants them.
#[repr(align(4096))]
struct Entries(UnsafeCell<[u8; 4096]>);

const _: () = assert!(size_of::<BufRingEntry>() * COUNT as usize == size_of::<Entries>());

/// All receive buffers and the ring that offers them. Registered with a ring that must not outlive
/// it.
pub(super) struct Buffers {
    data: NonNull<[u8]>,
    entries: Box<Entries>,
    tail: u16,
    out: Box<[bool]>,
}

impl Buffers {
    /// All of them, offered through `ring`. Pages are taken from the OS when they are first used.
    pub(super) fn new(ring: &Ring) -> io::Result<Self> {
        let data = vec![0; LEN * usize::from(COUNT)].into_boxed_slice();
        let mut buffers = Self {
            data: NonNull::from(Box::leak(data)),
            entries: Box::new(Entries(UnsafeCell::new([0; 4096]))),
            tail: 0,
            out: vec![true; usize::from(COUNT)].into(),
        };
        let address = buffers.entries.0.get() as u64;
        // SAFETY: the page lives as long as `buffers`, which its owner drops after the operations
        // of the ring have ended.
        let registered = unsafe {
            ring.inner().submitter().register_buf_ring_with_flags(address, COUNT, GROUP, 0)
        };
        registered?;
        for buffer in 0..COUNT {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    fn base(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < COUNT, "buffer {buffer} of {COUNT}");
        // SAFETY: the assertion keeps the buffer inside `data`.
        unsafe { self.data.as_ptr().cast::<u8>().add(usize::from(buffer) * LEN) }
    }

    /// The first `len` bytes of a buffer that the kernel has filled. `None` for what cannot be.
    pub(super) fn take(&mut self, buffer: u16, len: usize) -> Option<&[u8]> {
        let out = self.out.get_mut(usize::from(buffer)).filter(|out| !**out)?;
        *out = true;
        // SAFETY: the buffer has `LEN` initialised bytes (zeroes, or the kernel's), and the kernel
        // does not write: the buffer is out of its ring until `give_back`, which takes `&mut self`
        // and so ends this borrow.
        Some(unsafe { slice::from_raw_parts(self.base(buffer), len.min(LEN)) })
    }

    /// Offers the buffer to the kernel again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let Some(out) = self.out.get_mut(usize::from(buffer)).filter(|out| **out) else { return };
        *out = false;
        let first = self.entries.0.get().cast::<BufRingEntry>();
        // SAFETY: the remainder is an index of one of the page's entries.
        let entry = unsafe { first.add(usize::from(self.tail % COUNT)) };
        // SAFETY: the entry is aligned as the page is, was zeroed (a valid entry) and is exclusive
        // to this thread: the kernel reads it only once the tail below says so, and as many entries
        // as buffers are behind the tail at most.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.base(buffer) as u64);
        entry.set_len(LEN as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `first` is the first entry of the ring, as this function asks.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail is an aligned u16 inside the page that is touched only as an atomic; the
        // setters above write the other fields of entry 0.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Publishes the entry to the kernel, which loads the tail with acquire ordering.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: the box that `new` leaked; no slice of it is left, since those borrow `self`.
        drop(unsafe { Box::from_raw(self.data.as_ptr()) });
    }
}
