//! The ring of this thread: submission, completion, waiting until a moment.

use io_uring::{EnterFlags, IoUring, cqueue, squeue, types};
use std::{io, time::Duration};

/// Entries of the submission queue; a full one is handed over and goes on.
const SUBMISSIONS: u32 = 512;
/// Entries of the completion queue.
const COMPLETIONS: u32 = 8192;

/// A completion, copied out of the kernel's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// True where the same operation will complete again.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that the kernel chose.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

pub(super) struct Ring {
    uring: IoUring,
    /// Calls of the kernel.
    pub(super) enters: u64,
}

impl Ring {
    /// A ring for the calling thread, the only one that may use it from then on.
    pub(super) fn new() -> io::Result<Self> {
        let uring = <IoUring>::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_clamp()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .dontfork()
            .build(SUBMISSIONS)?;
        Ok(Self { uring, enters: 0 })
    }

    pub(super) const fn inner(&self) -> &IoUring {
        &self.uring
    }

    /// Queues an entry; where the queue is full, hands it to the kernel first.
    ///
    /// # Safety
    /// Memory that the entry names must be valid for the kernel's use until the operation's last
    /// completion, and what the kernel writes must not be touched by anyone else until then.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the caller's promise is the one that `push` asks for.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter(Some(Duration::ZERO));
        }
    }

    /// The next completion, in the kernel's order.
    pub(super) fn take(&mut self) -> Option<Completion> {
        self.uring.completion().next().map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    /// True where completions can be had without a call.
    pub(super) fn visible(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Gives all queued entries to the kernel, lets it move forward what is due, and waits until
    /// something completes, at most for so long; `None` is for ever.
    ///
    /// # Panics
    /// Where the kernel says that the ring itself is unusable.
    pub(super) fn enter(&mut self, wait: Option<Duration>) {
        self.enters += 1;
        let submit = self.uring.submission().len() as u32;
        let time = wait.map(types::Timespec::from);
        let mut args = types::SubmitArgs::new();
        if let Some(time) = &time {
            args = args.timespec(time);
        }
        let want = u32::from(wait != Some(Duration::ZERO));
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: `args` is the structure that EXT_ARG announces, and it and the time it points to
        // live across the call; the entries were vouched for in `push`.
        let entered = unsafe { self.uring.submitter().enter(submit, want, flags, Some(&args)) };
        match entered.as_ref().map_err(io::Error::raw_os_error) {
            // The time is over, a signal came, or completions have to be taken first.
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(_) => panic!("io_uring_enter: {entered:?}: the ring of QUIC is unusable"),
        }
    }
}
