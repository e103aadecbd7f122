//! The memory behind a segment: two sealed files that lie in one stretch of addresses.
//!
//! ```text
//!   0                   requests                 replies              total
//!   [ control, tickets |                        | replies            ]   both sides write
//!                      [ header room, payloads  ]                        the node alone writes
//! ```
//!
//! Offsets are the same in both files; what the other one covers is a hole and costs nothing.
//!
//! A node reads a request more than once: it checks an archive and then follows its offsets. So
//! nobody else may write there. The file of the requests is sealed against future writers as soon
//! as the node has mapped it, and from then on the kernel refuses every writable mapping of it,
//! every `write`, and every `mprotect` that would make one.

use core::{
    ffi::c_void,
    ops::Range,
    ptr::{self, NonNull},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create},
    io::Result,
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
};
use std::fs;

/// No process can make an access of another one fault.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The two files of a segment, as they travel to a worker.
#[derive(Clone, Copy, Debug)]
pub struct Files<Fd> {
    /// Control words, tickets and replies.
    pub segment: Fd,
    /// Requests.
    pub requests: Fd,
}

impl<Fd: AsFd> Files<Fd> {
    /// True where both have a length for ever.
    pub(crate) fn are_sealed(&self) -> bool {
        let sealed = |fd| fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SEALS));
        sealed(self.segment.as_fd()) && sealed(self.requests.as_fd())
    }

    /// The length of each.
    pub(crate) fn lengths(&self) -> Result<[u64; 2]> {
        let len = |fd| Ok(u64::try_from(fstat(fd)?.st_size).unwrap_or(0));
        Ok([len(self.segment.as_fd())?, len(self.requests.as_fd())?])
    }
}

impl Files<OwnedFd> {
    /// Two files of this length, not sealed yet.
    pub(crate) fn create(total: usize) -> Result<Self> {
        let file = |name: &str| {
            let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
            ftruncate(&fd, total as u64)?;
            Ok(fd)
        };
        Ok(Self { segment: file("butterfly-segment")?, requests: file("butterfly-requests")? })
    }

    /// Borrowed, to be passed on.
    pub(crate) fn borrow(&self) -> Files<BorrowedFd<'_>> {
        Files { segment: self.segment.as_fd(), requests: self.requests.as_fd() }
    }

    /// Fixes the lengths; `guarded` makes the requests read-only for whoever maps them from now on.
    pub(crate) fn seal(&self, guarded: bool) -> Result<()> {
        fcntl_add_seals(&self.segment, SEALS)?;
        let guard = if guarded { SealFlags::FUTURE_WRITE } else { SealFlags::empty() };
        fcntl_add_seals(&self.requests, SEALS | guard)
    }

    /// True where this process can map requests for reading only.
    fn are_guarded(&self) -> bool {
        let guards = SealFlags::FUTURE_WRITE | SealFlags::WRITE;
        fcntl_get_seals(&self.requests).is_ok_and(|seals| seals.intersects(guards))
    }
}

/// Both files in one stretch of addresses, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    requests: Range<usize>,
    guarded: bool,
    files: Files<OwnedFd>,
}

// SAFETY: the mapping belongs to the process, not to a thread. `Mapping` itself reads and writes
// none of it.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes, of which those in `requests` are the requests' file. Both ends of it are
    /// page bounds. What is sealed against writers is mapped to be read.
    pub(crate) fn new(files: Files<OwnedFd>, len: usize, requests: Range<usize>) -> Result<Self> {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let guarded = files.are_guarded();
        // SAFETY: a new mapping at an address of the OS's choice touches no existing memory.
        let base =
            unsafe { mmap(ptr::null_mut(), len, both, MapFlags::SHARED, &files.segment, 0)? };
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        // From here on a failure unmaps it again.
        let mapping = Self { base, len, requests, guarded, files };
        let Range { start, end } = mapping.requests.clone();
        assert!(start <= end && end <= len, "requests outside the mapping");
        if start < end {
            let prot = if guarded { ProtFlags::READ } else { both };
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            let fd = &mapping.files.requests;
            // SAFETY: inside the mapping, by the assertion above.
            let place = unsafe { base.add(start) };
            // SAFETY: replaces pages of the mapping that was made just above, to which nothing
            // points yet.
            unsafe { mmap(place.as_ptr().cast(), end - start, prot, flags, fd, start as u64)? };
        }
        Ok(mapping)
    }

    /// Where it begins.
    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// True where this process can only read the requests.
    pub(crate) const fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The files, to be passed on.
    pub(crate) fn files(&self) -> Files<BorrowedFd<'_>> {
        self.files.borrow()
    }

    /// Fixes the lengths of the files; see [`Files::seal`].
    pub(crate) fn seal(&self, guarded: bool) -> Result<()> {
        self.files.seal(guarded)
    }

    /// Wishes huge pages; whether they were granted is told by [`Mapping::huge_bytes`].
    pub(crate) fn wish_huge_pages(&self) {
        let _ = self.advise(0..self.len, Advice::LinuxHugepage);
    }

    /// Has every page there, and in this process's page table.
    pub(crate) fn populate(&self) -> Result<()> {
        let Range { start, end } = self.requests.clone();
        let requests =
            if self.guarded { Advice::LinuxPopulateRead } else { Advice::LinuxPopulateWrite };
        self.advise(start..end, requests)?;
        self.advise(0..start, Advice::LinuxPopulateWrite)?;
        self.advise(end..self.len, Advice::LinuxPopulateWrite)
    }

    fn advise(&self, part: Range<usize>, advice: Advice) -> Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        // SAFETY: callers name parts of the mapping.
        let place = unsafe { self.base.add(part.start) }.as_ptr().cast::<c_void>();
        // SAFETY: exactly our mapping; the advices used here keep its content.
        unsafe { madvise(place, part.len(), advice) }
    }

    /// Bytes of it on huge pages, as the OS says; 0 also where it does not tell.
    pub(crate) fn huge_bytes(&self) -> u64 {
        let start = self.base.as_ptr().addr();
        let own = start..start + self.len;
        let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let (mut inside, mut kib) = (false, 0);
        for line in maps.lines() {
            let address = line.split_once('-').map(|(first, _)| usize::from_str_radix(first, 16));
            if let Some(Ok(address)) = address {
                inside = own.contains(&address);
            } else if inside && let Some(rest) = line.strip_prefix("ShmemPmdMapped:") {
                let number = rest.trim().strip_suffix(" kB").unwrap_or_default();
                kib += number.trim().parse::<u64>().unwrap_or(0);
            }
        }
        kib * 1024
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped. Everything that points into it holds the
        // segment, which holds this.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
