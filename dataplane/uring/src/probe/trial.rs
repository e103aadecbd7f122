//! A small ring on which the probe tries out what version numbers only promise.

use crate::{
    buffers::{GROUP, Pool},
    ring::{Completion, Ring, RingSizes, Wait},
};
use io_uring::{Probe, opcode, squeue, types};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with, socketpair,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

const PATIENCE_NS: u64 = 1_000_000_000;
const TABLE: u32 = 4;
const BUFFERS: u16 = 4;
const BUFFER_LEN: u32 = 256;

/// Fields drop in this order: the ring before what it was given.
pub(super) struct Trial {
    ring: Ring,
    pool: Option<Pool>,
}

impl Trial {
    pub(super) fn new() -> io::Result<Self> {
        let ring = Ring::open(RingSizes { submissions: 8, completions: 64 })?;
        Ok(Self { ring, pool: None })
    }

    pub(super) fn operations(&self) -> Option<Probe> {
        let mut probe = Probe::new();
        self.ring.inner().submitter().register_probe(&mut probe).ok()?;
        Some(probe)
    }

    pub(super) fn table(&self) -> io::Result<()> {
        self.ring.inner().submitter().register_files_sparse(TABLE)?;
        crate::net::fence_off(self.ring.raw_fd(), TABLE - 1)
    }

    pub(super) fn buffers(&mut self) -> io::Result<()> {
        let pool = Pool::new(BUFFERS, BUFFER_LEN)?;
        let (address, entries) = pool.registration();
        let submitter = self.ring.inner().submitter();
        // SAFETY: the pool is kept below, behind the ring, and touches no buffer that it has
        // offered.
        unsafe { submitter.register_buf_ring_with_flags(address, entries, GROUP, 0)? };
        self.pool = Some(pool);
        Ok(())
    }

    pub(super) fn submit_stable(&self) -> bool {
        self.ring.inner().params().is_feature_submit_stable()
    }

    pub(super) fn skip_success(&self) -> bool {
        self.ring.inner().params().is_feature_skip_cqe_on_success()
    }

    /// A delivery arrives, in a provided buffer, and the order stays in force.
    pub(super) fn multishot_receive(&mut self) -> bool {
        let flags = SocketFlags::CLOEXEC;
        let Ok((ours, theirs)) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        else {
            return false;
        };
        // The last entry is the one that the kernel gives to nobody.
        let index = TABLE - 1;
        let installed =
            self.ring.inner().submitter().register_files_update(index, &[ours.as_raw_fd()]);
        if installed.is_err() || rustix::io::write(&theirs, b"?").is_err() {
            return false;
        }
        let entry = opcode::RecvMulti::new(types::Fixed(index), GROUP).build();
        self.first(&entry)
            .is_some_and(|done| done.result == 1 && done.buffer().is_some() && done.more())
    }

    /// A connection arrives, in the table, and the order stays in force.
    pub(super) fn multishot_accept(&mut self) -> bool {
        let Ok((listener, _client)) = connected() else { return false };
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .allocate_file_index(true)
            .build();
        self.first(&entry)
            .is_some_and(|done| (0..TABLE as i32).contains(&done.result) && done.more())
    }

    /// Orders this and takes the completion that follows.
    fn first(&mut self, entry: &squeue::Entry) -> Option<Completion> {
        while self.ring.take().is_some() {}
        // SAFETY: neither entry of this file names memory; provided buffers are the pool's.
        unsafe { self.ring.push(entry) };
        self.ring.enter(Wait::For(PATIENCE_NS));
        self.ring.take()
    }
}

/// A Unix listener at an address that the kernel picks, with a connection waiting.
fn connected() -> io::Result<(OwnedFd, OwnedFd)> {
    let socket =
        || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let listener = socket()?;
    bind(&listener, &SocketAddrUnix::new_unnamed())?;
    listen(&listener, 1)?;
    let client = socket()?;
    connect(&client, &getsockname(&listener)?)?;
    Ok((listener, client))
}
