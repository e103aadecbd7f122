//! A bell between two threads of one process: a count of what was pushed, a flag that says who
//! sleeps, and a doorbell for that case.
//!
//! The protocol is that of [`link::door`]; the count lets a sleeper that does not hold the ring's
//! end itself know whether anything came since it last looked.

use link::door::{self, Door};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// One thread's bell; those who push to it ring.
#[derive(Debug)]
pub struct Bell {
    parked: AtomicU32,
    pushed: AtomicU64,
    door: Arc<Door>,
}

impl Bell {
    /// A new one.
    ///
    /// # Errors
    /// The OS's: too many open files.
    pub fn new() -> io::Result<Self> {
        let door = Arc::new(Door::new()?);
        Ok(Self { parked: AtomicU32::new(0), pushed: AtomicU64::new(0), door })
    }

    /// To be called after every push: wakes the sleeper, if it sleeps. True where that took a
    /// system call.
    pub fn ring(&self) -> bool {
        // Release: whoever reads the count sees the push.
        self.pushed.fetch_add(1, Ordering::Release);
        let sleeps = door::take(&self.parked);
        if sleeps {
            self.door.ring();
        }
        sleeps
    }

    /// Pushes so far. Read it before looking at what was pushed; a sleep is refused when it has
    /// changed since.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Acquire)
    }

    /// Announces sleep. False, and nothing announced, where there were pushes since `seen`.
    #[must_use]
    pub fn park(&self, seen: u64) -> bool {
        door::park(&self.parked);
        let quiet = self.pushed.load(Ordering::Acquire) == seen;
        if !quiet {
            door::unpark(&self.parked);
        }
        quiet
    }

    /// Awake again.
    pub fn unpark(&self) {
        door::unpark(&self.parked);
    }

    /// What to sleep on.
    #[must_use]
    pub const fn door(&self) -> &Arc<Door> {
        &self.door
    }
}

/// What a driver knows of the mesh.
#[derive(Debug)]
pub(crate) struct MeshLane {
    /// The shard's, rung by the mesh.
    pub(crate) own: Arc<Bell>,
    /// The mesh's.
    pub(crate) mesh: Arc<Bell>,
    /// Pushes of the mesh that the shard's next turn will see.
    pub(crate) seen: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_refused_after_an_unseen_push_and_ends_with_a_ring() {
        let bell = Bell::new().unwrap();
        let seen = bell.pushed();
        assert!(!bell.ring(), "nobody sleeps");
        assert!(!bell.park(seen), "there is something unseen");
        assert!(!bell.door().silence(), "no system call was made");
        let seen = bell.pushed();
        assert!(bell.park(seen));
        assert!(bell.ring() && !bell.ring(), "one ring wakes");
        assert!(bell.door().silence());
        bell.unpark();
    }
}
