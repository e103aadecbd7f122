//! Anonymous memory of our own, at an address that never moves: what the kernel reads and writes.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::{io, ptr::NonNull};

/// A private zeroed mapping, page-aligned, resident from the start.
#[derive(Debug)]
pub(crate) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; `Pages` itself only hands out
// addresses, and who turns them into references argues for it there.
unsafe impl Send for Pages {}
// SAFETY: as for `Send`: shared access gives addresses, never bytes.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `len` bytes (at least one page).
    ///
    /// Populated at once, so that no page fault meets a message and lack of memory shows at start.
    /// Huge pages are asked for and not insisted on.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the OS's choice touches no existing
        // memory.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let pages = Self { base, len };
        // SAFETY: the range was mapped above; this advice changes no content.
        let _ = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxHugepage) };
        // SAFETY: as above; populating writes the zeroes that reading would have found.
        match unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxPopulateWrite) } {
            // Kernels before 5.14 do not know it; they fault the pages in on first use.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(pages),
            Err(error) => Err(error.into()),
        }
    }

    /// Address of the byte at `offset`, with `len` bytes behind it in the mapping.
    ///
    /// # Panics
    /// If the stretch leaves the mapping: a mistake of the caller, never of a peer.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len && len <= self.len - offset, "stretch outside of the mapping");
        // SAFETY: the assertion keeps `offset` inside the mapping, which is one allocated object.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped. Whoever keeps addresses keeps the `Pages`
        // too.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_aligned_and_bounded() {
        let pages = Pages::new(10_000).unwrap();
        assert_eq!(pages.at(0, 10_000).as_ptr() as usize % 4096, 0);
        assert_eq!(pages.at(9_999, 1).as_ptr() as usize - pages.at(0, 1).as_ptr() as usize, 9_999);
        assert!(std::panic::catch_unwind(|| pages.at(9_999, 2)).is_err());
        assert!(std::panic::catch_unwind(|| pages.at(usize::MAX, 2)).is_err());
    }
}
