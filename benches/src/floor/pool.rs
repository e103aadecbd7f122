//! Provided buffers: memory the OS picks from when bytes arrive.

use io_uring::{IoUring, types::BufRingEntry};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

const PAGE: usize = 4_096;
/// The only group of buffers in each of our rings.
pub(super) const GROUP: u16 = 0;

/// Page-aligned zeroed memory, touched by the OS as well as by us, and so never borrowed as a
/// whole.
pub(super) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain owned memory; whoever holds the value is the only one to reach it.
unsafe impl Send for Pages {}

impl Pages {
    /// At least `bytes` of memory, and at least one page.
    pub(super) fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(1).next_multiple_of(PAGE), PAGE)
            .expect("the sizes of benches fit the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    /// The address of a byte.
    ///
    /// # Panics
    /// If it lies outside.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.layout.size());
        // SAFETY: the offset is inside the allocation, as was just checked.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and not freed since.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// A ring of provided buffers: `count` of `len` bytes.
pub(super) struct Pool {
    entries: Pages,
    buffers: Pages,
    count: u16,
    len: u32,
    tail: u16,
}

impl Pool {
    /// A pool of a power of two of buffers, registered with the ring, all of them on offer.
    pub(super) fn register(ring: &IoUring, count: u16, len: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let buffers = Pages::new(usize::from(count) * len as usize);
        let mut pool = Self { entries, buffers, count, len, tail: 0 };
        let address = pool.entries.at(0) as u64;
        // SAFETY: the entries are page-aligned, long enough for `count`, and outlive the ring:
        // `Ring` drops its io_uring before its pool.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        for buffer in 0..count {
            pool.give_back(buffer);
        }
        pool.publish();
        Ok(pool)
    }

    /// Offers a buffer again, from the next [`Self::publish`] on.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let at = usize::from(self.tail & (self.count - 1)) * size_of::<BufRingEntry>();
        let entry = self.entries.at(at).cast::<BufRingEntry>();
        // SAFETY: inside the entries and aligned for them. The OS reads an entry only below the
        // published tail, and this one lies above it, because at most `count` buffers
        // exist.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.start(buffer) as u64);
        entry.set_len(self.len);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the OS see what was given back.
    pub(super) fn publish(&self) {
        // SAFETY: the address of the first entry, as `tail` wants it.
        let tail = unsafe { BufRingEntry::tail(self.entries.at(0).cast::<BufRingEntry>()) };
        // SAFETY: aligned, valid for the life of the pool, and only ever accessed as an atomic: the
        // OS reads it with acquire, and we write it nowhere else.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Where a buffer starts.
    pub(super) fn start(&self, buffer: u16) -> *mut u8 {
        self.buffers.at(usize::from(buffer) * self.len as usize)
    }

    /// What the OS put into a buffer that was not given back yet.
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(len <= self.len as usize);
        // SAFETY: inside the buffers and initialised (zeroed at first). The buffer is ours until it
        // is given back, which takes `&mut self` and so ends this borrow.
        unsafe { std::slice::from_raw_parts(self.start(buffer), len) }
    }
}
