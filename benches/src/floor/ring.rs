//! One ring with registered sockets, polled without ever sleeping.

use super::pool::{GROUP, Pool};
use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{CancelBuilder, Fixed},
};
use std::{io, os::fd::RawFd};

const SUBMISSIONS: u32 = 1_024;
const COMPLETIONS: u32 = 16_384;
/// `IORING_ENTER_GETEVENTS`: run deferred work and post its completions.
const GET_EVENTS: u32 = 1;

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// What was asked for, as given at submission.
    pub(super) tag: u64,
    /// Bytes, or a negated error number.
    pub(super) result: i32,
    flags: u32,
}

impl Done {
    /// True while a multishot operation goes on.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was filled.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The bytes, or the error.
    pub(super) fn bytes(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// A ring, its registered sockets and its provided buffers. Dropping it waits until the OS has let
/// go of all memory that was named to it, so that memory only has to outlive the ring.
pub(super) struct Ring {
    // Dropped first: once the ring is gone, the OS does not look at the pool any more.
    ring: IoUring,
    /// Where streams are received.
    pub(super) pool: Pool,
    /// Operations whose last completion has not been seen.
    under_way: usize,
}

impl Ring {
    /// A ring for these sockets; their places in the list name them from here on. To be used by the
    /// thread that makes it and by no other.
    pub(super) fn new(sockets: &[RawFd], buffers: u16, buffer_len: u32) -> io::Result<Self> {
        let ring = <IoUring>::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        ring.submitter().register_files(sockets)?;
        let pool = Pool::register(&ring, buffers, buffer_len)?;
        Ok(Self { ring, pool, under_way: 0 })
    }

    /// Receives from a socket until it ends, into buffers of the pool.
    pub(super) fn receive_stream(&mut self, socket: u32, tag: u64) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(socket), GROUP).build().user_data(tag);
        // SAFETY: the memory is the pool's, which outlives the ring.
        unsafe { self.push(&entry) }
    }

    /// Receives exactly `len` bytes to `target`.
    ///
    /// # Safety
    /// `target` must stay valid for writes of `len` bytes, and untouched, until the completion or
    /// the ring's end.
    pub(super) unsafe fn receive_exactly(
        &mut self,
        socket: u32,
        target: *mut u8,
        len: u32,
        tag: u64,
    ) -> io::Result<()> {
        let entry = opcode::Recv::new(Fixed(socket), target, len)
            .flags(libc::MSG_WAITALL)
            .build()
            .user_data(tag);
        // SAFETY: as our caller promises.
        unsafe { self.push(&entry) }
    }

    /// Sends all `len` bytes at `source`.
    ///
    /// # Safety
    /// `source` must stay valid for reads of `len` bytes, and unchanged, until the completion or
    /// the ring's end.
    pub(super) unsafe fn send(
        &mut self,
        socket: u32,
        source: *const u8,
        len: u32,
        tag: u64,
    ) -> io::Result<()> {
        let entry = opcode::Send::new(Fixed(socket), source, len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(tag);
        // SAFETY: as our caller promises.
        unsafe { self.push(&entry) }
    }

    /// Sends all that a message's vectors name.
    ///
    /// # Safety
    /// The message, its vectors and their bytes must stay valid and unchanged until the completion
    /// or the ring's end.
    pub(super) unsafe fn send_message(
        &mut self,
        socket: u32,
        message: *const libc::msghdr,
        tag: u64,
    ) -> io::Result<()> {
        let flags = (libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32;
        let entry =
            opcode::SendMsg::new(Fixed(socket), message).flags(flags).build().user_data(tag);
        // SAFETY: as our caller promises.
        unsafe { self.push(&entry) }
    }

    /// # Safety
    /// What the entry points to must stay valid until its completion or the ring's end.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: as our caller promises.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.under_way += 1;
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Hands over what was pushed, runs deferred work, and moves what completed into `done`. Never
    /// waits.
    pub(super) fn turn(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        self.pool.publish();
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed, so there is nothing that must be valid.
        let entered =
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) };
        if let Err(error) = entered {
            // Interrupted, or more completions wait than fit: reading some is the remedy for both.
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) {
                return Err(error);
            }
        }
        for entry in self.ring.completion() {
            self.under_way -= usize::from(!cqueue::more(entry.flags()));
            let (tag, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            done.push(Done { tag, result, flags });
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut last = Vec::new();
        while self.under_way > 0 {
            // An operation that ended by itself in between is no failure; a ring that does not turn
            // is, and then the memory it may still write to must not be freed.
            let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
            if self.turn(&mut last).is_err() {
                std::process::abort();
            }
        }
    }
}
