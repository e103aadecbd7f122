//! Output buffers: ciphertext on its way to the kernel, at addresses that never move.

use crate::pages::Pages;
use std::{io, ptr::NonNull, slice};

/// A pool of buffers of one size.
#[derive(Debug)]
pub(super) struct Outputs {
    pages: Pages,
    size: usize,
    count: u32,
    free: Vec<u32>,
}

impl Outputs {
    pub(super) fn new(count: u32, size: usize) -> io::Result<Self> {
        let size = size.next_multiple_of(64);
        let pages = Pages::new(count as usize * size)?;
        // The last one used is the next one given: it is still in the cache.
        Ok(Self { pages, size, count, free: (0..count).rev().collect() })
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(super) fn give_back(&mut self, buffer: u32) {
        debug_assert!(buffer < self.count && !self.free.contains(&buffer), "given back twice");
        self.free.push(buffer);
    }

    /// Buffers that can be taken.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Address of `len` bytes of a buffer, for the kernel to read.
    pub(super) fn at(&self, buffer: u32, from: u32, len: u32) -> NonNull<u8> {
        assert!(buffer < self.count && (from + len) as usize <= self.size);
        self.pages.at(buffer as usize * self.size + from as usize, len as usize)
    }

    /// A buffer that was taken and is not under way.
    pub(super) fn bytes_mut(&mut self, buffer: u32) -> &mut [u8] {
        assert!(buffer < self.count, "buffer {buffer} of {}", self.count);
        let at = self.pages.at(buffer as usize * self.size, self.size);
        // SAFETY: `at` gives `size` initialised bytes of a live mapping. Buffers do not overlap,
        // `&mut self` excludes every other slice of this pool, and the kernel only reads, and only
        // between the order of a send and its completion, when its owner does not ask for it.
        unsafe { slice::from_raw_parts_mut(at.as_ptr(), self.size) }
    }
}
