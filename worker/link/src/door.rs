//! The doorbell: an eventfd that is rung only while the other side sleeps.
//!
//! ```text
//!   sleeper                          ringer
//!   parked = 1                       push (Release)
//!   fence                            fence
//!   anything pushed? -> no sleep     parked taken? -> ring
//!   sleep on the eventfd
//!   parked = 0
//! ```
//!
//! Between the two fences either the sleeper sees the push or the ringer sees the flag; both may
//! be. The ringer takes the flag down with the ring, so of many ringers one rings.
//!
//! A ringer that dies between taking the flag and ringing leaves its sleeper asleep. That is why a
//! worker's sleep has a bound, and why a shard is also woken when a worker process ends.

use crate::sync::{AtomicU32, Ordering, fence};

/// Announces sleep. After it, look for work once more, and sleep only if there is none.
pub fn park(flag: &AtomicU32) {
    // A swap where a store would do: sleeping is rare, and the model checker can then tell this
    // announcement from an older one that a ringer is just taking down.
    flag.swap(1, Ordering::Relaxed);
    // SYNC POINT doze: pairs with the fence in `take`. The swap above is ordered before the
    // re-check that follows.
    fence(Ordering::SeqCst);
}

/// Takes the announcement back, awake again.
pub fn unpark(flag: &AtomicU32) {
    flag.store(0, Ordering::Relaxed);
}

/// To be asked after every push: true where the other side sleeps and it is ours to ring.
#[must_use]
pub fn take(flag: &AtomicU32) -> bool {
    // SYNC POINT doze: pairs with the fence in `park`. The push before this call is ordered before
    // the load below.
    fence(Ordering::SeqCst);
    // The load first: a swap alone would pull the line away from its owner at every push.
    flag.load(Ordering::Relaxed) != 0 && flag.swap(0, Ordering::Relaxed) != 0
}

#[cfg(not(loom))]
pub use bell::Door;

#[cfg(not(loom))]
mod bell {
    use rustix::{
        event::{EventfdFlags, eventfd},
        fd::{AsFd, BorrowedFd, OwnedFd},
        io,
    };

    /// An eventfd to sleep on. The parked flag that goes with it lies in the segment.
    #[derive(Debug)]
    pub struct Door {
        fd: OwnedFd,
    }

    impl Door {
        /// A new one.
        ///
        /// # Errors
        /// The OS's, for example too many open files.
        pub fn new() -> io::Result<Self> {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Self { fd })
        }

        /// A received one.
        #[must_use]
        pub const fn from_fd(fd: OwnedFd) -> Self {
            Self { fd }
        }

        /// A second handle of the same bell, for another thread.
        ///
        /// # Errors
        /// The OS's: too many open files.
        pub fn try_clone(&self) -> io::Result<Self> {
            Ok(Self { fd: io::fcntl_dupfd_cloexec(&self.fd, 0)? })
        }

        /// To be waited for, readable when rung.
        #[must_use]
        pub fn fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }

        /// Rings.
        ///
        /// The only failures are a full counter, which means that it rings already, and a
        /// descriptor that is no eventfd, which the handshake rules out; neither has a remedy here.
        pub fn ring(&self) {
            let _ = io::write(&self.fd, &1_u64.to_ne_bytes());
        }

        /// Silences it; true where it had been rung.
        pub fn silence(&self) -> bool {
            io::read(&self.fd, &mut [0_u8; 8]).is_ok()
        }
    }

    impl AsFd for Door {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }
    }
}
