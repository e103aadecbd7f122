//! A file read once into sealed memory and then mapped, read-only, by every process that needs it.

use core::{ptr::NonNull, slice};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{
    fs::File,
    io::{self, Error, ErrorKind},
    path::Path,
};

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Bytes that nobody can change any more, shared by all processes that hold the descriptor.
#[derive(Debug)]
pub struct SharedFile {
    base: NonNull<u8>,
    len: usize,
    fd: OwnedFd,
}

// SAFETY: the mapping belongs to the process, not to a thread, and nobody writes to it (see
// `bytes`).
unsafe impl Send for SharedFile {}
// SAFETY: as for `Send`; sharing gives out `&[u8]` only.
unsafe impl Sync for SharedFile {}

impl SharedFile {
    /// Copies the file into memory and seals it.
    ///
    /// # Errors
    /// What opening and reading gives; `InvalidData` for an empty file.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut memory = File::from(memfd_create(
            "butterfly-file",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?);
        io::copy(&mut file, &mut memory)?;
        fcntl_add_seals(&memory, SEALS)?;
        Self::attach(memory.into())
    }

    /// Maps a descriptor received from another process.
    ///
    /// # Errors
    /// `InvalidData` where it is empty or not sealed against writing and resizing.
    pub fn attach(fd: OwnedFd) -> io::Result<Self> {
        let sealed = fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SEALS));
        if !sealed {
            return Err(Error::new(ErrorKind::InvalidData, "the shared file is not sealed"));
        }
        let len = usize::try_from(fstat(&fd)?.st_size).unwrap_or(0);
        if len == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "the file is empty"));
        }
        // SAFETY: a new mapping at an address of the OS's choice touches no existing memory.
        let base = unsafe {
            mmap(core::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &fd, 0)?
        };
        let base = NonNull::new(base.cast()).ok_or(ErrorKind::OutOfMemory)?;
        Ok(Self { base, len, fd })
    }

    /// The content.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `len` readable bytes for as long as `self` lives; the seals,
        // which cannot be taken off, keep every process from writing to or shortening what lies
        // behind it.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// To be passed on to a worker.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `attach` mapped; `bytes` borrows from `self`, so no slice
        // outlives it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
