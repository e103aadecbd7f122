//! The ring itself: set-up, submission, completion. A full submission queue is not a broken one.
//!
//! Deferred task work means that the kernel moves nothing forward between our calls: completions
//! become visible in `enter` and nowhere else, on this thread and on no other. A flag in the
//! submission ring says when there is something to move, so that an idle loop reads a word of
//! memory instead of calling the kernel.

use crate::{
    counters::DriverCounters,
    fault::{SetupError, Step},
    probe,
};
use io_uring::{EnterFlags, IoUring, cqueue, squeue, types};
use std::{io, os::fd::AsRawFd};

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingSizes {
    pub(crate) submissions: u32,
    pub(crate) completions: u32,
}

/// A completion, copied out of the kernel's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// True where the same operation will complete again.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that the kernel chose.
    #[inline]
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// How long `enter` may stay in the kernel when nothing completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// At most this many nanoseconds.
    For(u64),
    /// Until something completes.
    Forever,
}

/// Completions copied out at once: keeps the loads and stores of the shared positions off the
/// single event.
const STAGE: usize = 128;

pub(crate) struct Ring {
    uring: IoUring,
    /// Completions taken from the kernel and not yet handled: `staged[next..]`.
    staged: Vec<Completion>,
    next: usize,
    /// Waiting as a parked shard does is not waiting for a disk.
    no_iowait: bool,
    /// Of the whole driver; here because every count is made beside a use of the ring.
    pub(crate) counters: DriverCounters,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("params", self.uring.params()).finish_non_exhaustive()
    }
}

impl Ring {
    /// Sets a ring up for the calling thread, the only one that may use it from then on.
    pub(crate) fn new(sizes: RingSizes) -> Result<Self, SetupError> {
        Self::open(sizes)
            .map_err(|source| SetupError::new(Step::Ring, probe::remedy_of_setup(&source), source))
    }

    /// The same, with the OS's bare error.
    pub(crate) fn open(sizes: RingSizes) -> io::Result<Self> {
        // The array of indices between queue and entries is of no use to us; older kernels insist
        // on it.
        let uring = build(sizes, true).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => build(sizes, false),
            _ => Err(error),
        })?;
        let no_iowait = uring.params().is_feature_no_iowait();
        Ok(Self {
            uring,
            staged: Vec::with_capacity(STAGE),
            next: 0,
            no_iowait,
            counters: DriverCounters::default(),
        })
    }

    pub(crate) const fn inner(&self) -> &IoUring {
        &self.uring
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.uring.as_raw_fd()
    }

    /// Entries written and not yet given to the kernel.
    #[inline]
    pub(crate) fn pending(&mut self) -> usize {
        self.uring.submission().len()
    }

    /// Queues an entry; where the queue is full, hands it to the kernel first.
    ///
    /// # Safety
    /// Memory that the entry names must be valid for the kernel's use until the operation's last
    /// completion, and what the kernel writes must not be touched by anyone else until then.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the caller's promise is the one that `push` asks for.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter(Wait::No);
        }
    }

    /// True where completions can be had without a system call.
    #[inline]
    pub(crate) fn visible(&mut self) -> bool {
        self.next < self.staged.len() || !self.uring.completion().is_empty()
    }

    /// True where the kernel has something to move forward in the next `enter`.
    #[inline]
    pub(crate) fn due(&mut self) -> bool {
        let queue = self.uring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// The next completion, in the kernel's order.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Completion> {
        if let Some(completion) = self.staged.get(self.next) {
            self.next += 1;
            return Some(*completion);
        }
        self.staged.clear();
        self.next = 0;
        self.stage(STAGE);
        self.counters.completions += self.staged.len() as u64;
        let first = self.staged.first().copied();
        self.next = usize::from(first.is_some());
        first
    }

    fn stage(&mut self, at_most: usize) {
        let fresh = self.uring.completion().take(at_most).map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        });
        self.staged.extend(fresh);
    }

    /// Gives all pending entries to the kernel, lets it move forward what is due, and waits if told
    /// to.
    ///
    /// # Panics
    /// Where the kernel says that the ring itself is unusable; nothing of this shard can go on
    /// then.
    pub(crate) fn enter(&mut self, wait: Wait) {
        let pending = self.pending();
        self.counters.enters += 1;
        let entered = match wait {
            Wait::No => self.call(pending, EnterFlags::GETEVENTS, 0, None),
            Wait::For(nanoseconds) => {
                let time = types::Timespec::new()
                    .sec(nanoseconds / 1_000_000_000)
                    .nsec((nanoseconds % 1_000_000_000) as u32);
                self.counters.waits += 1;
                self.call(pending, self.waiting(), 1, Some(&time))
            }
            Wait::Forever => {
                self.counters.waits += 1;
                self.call(pending, self.waiting(), 1, None)
            }
        };
        match entered {
            Ok(taken) => self.counters.submitted += taken as u64,
            Err(error) => match error.raw_os_error() {
                // The time is over, or a signal came: both are ordinary ends of a wait.
                Some(libc::ETIME | libc::EINTR) => {
                    self.counters.submitted += (pending - self.pending()) as u64;
                }
                // The kernel wants completions taken first, or memory is short for a moment.
                Some(libc::EBUSY | libc::EAGAIN) => self.make_room(),
                _ => panic!("io_uring_enter: {error}: the ring of this shard is unusable"),
            },
        }
    }

    fn waiting(&self) -> EnterFlags {
        let no_iowait = if self.no_iowait { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        EnterFlags::GETEVENTS | no_iowait
    }

    fn call(
        &self,
        submit: usize,
        flags: EnterFlags,
        want: u32,
        time: Option<&types::Timespec>,
    ) -> io::Result<usize> {
        let submitter = self.uring.submitter();
        let submit = submit as u32;
        match time {
            None => {
                // SAFETY: no argument structure is passed; entries were vouched for in `push`.
                unsafe { submitter.enter::<libc::sigset_t>(submit, want, flags.bits(), None) }
            }
            Some(time) => {
                let args = types::SubmitArgs::new().timespec(time);
                let flags = (flags | EnterFlags::EXT_ARG).bits();
                // SAFETY: `args` is the structure that EXT_ARG announces, and it and the time it
                // points to live across the call; entries were vouched for in `push`.
                unsafe { submitter.enter(submit, want, flags, Some(&args)) }
            }
        }
    }

    /// Moves completions out of the kernel's queue without handling them: the one place that may
    /// allocate, and only under a flood of completions beyond the queue's 65,536.
    #[cold]
    fn make_room(&mut self) {
        self.counters.throttled += 1;
        let before = self.staged.len();
        self.stage(usize::MAX);
        self.counters.completions += (self.staged.len() - before) as u64;
    }
}

fn build(sizes: RingSizes, no_array: bool) -> io::Result<IoUring> {
    let mut builder = <IoUring>::builder();
    builder
        .setup_cqsize(sizes.completions)
        .setup_clamp()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .dontfork();
    if no_array {
        builder.setup_no_sqarray();
    }
    builder.build(sizes.submissions)
}
