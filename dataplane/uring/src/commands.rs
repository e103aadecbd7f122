//! Commands of the control thread: a bounded queue and a doorbell.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use dataplane_core::driver::{Caller, WorkerId};
use link::door::Door;
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    process::ExitStatus,
    sync::Arc,
};

/// What the control thread may ask of a running driver.
#[derive(Debug)]
pub enum Command {
    /// A worker is ready for these operations (bit = operation code).
    WorkerUp {
        /// Which.
        worker: WorkerId,
        /// Operations served.
        operations: u32,
    },
    /// A worker's process is gone. Its finished slots are delivered, its rings emptied, then the
    /// shard is told, and only after that the evidence is answered: a successor may start.
    WorkerDown(Gone),
    /// Accept connections from this listening socket as well.
    Listen(OwnedFd),
    /// Serve this connected stream socket as if it had been accepted, from this peer. Where there is
    /// no room for it, it is closed.
    Adopt(OwnedFd, Caller),
    /// Take no new connections; ask peers to leave and answer them until they have.
    Leave,
    /// Take no new connections and no new work; close when all is answered.
    Drain,
}

/// Evidence that a worker's process does not exist any more.
#[derive(Debug)]
pub struct Gone {
    worker: WorkerId,
    done: Sender<WorkerId>,
}

impl Gone {
    /// The exit status is what only the OS can give, and only for a process that was waited for: it
    /// must be that of the worker named here. `done` receives the worker's id when its successor
    /// may start; it must have room.
    #[must_use]
    pub fn new(worker: WorkerId, _status: ExitStatus, done: Sender<WorkerId>) -> Self {
        Self { worker, done }
    }

    pub(crate) const fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Answers. A control thread that does not listen any more needs no answer.
    pub(crate) fn settle(self) {
        let _ = self.done.try_send(self.worker);
    }
}

/// The control thread's end.
#[derive(Clone, Debug)]
pub struct Commander {
    queue: Sender<Command>,
    door: Arc<Door>,
}

impl Commander {
    /// Queues a command and wakes the shard if it sleeps. Never waits.
    ///
    /// # Errors
    /// The command comes back where the queue is full or the driver is gone.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        match self.queue.try_send(command) {
            Ok(()) => {
                self.door.ring();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(command),
        }
    }
}

/// The driver's end.
#[derive(Debug)]
pub struct Commands {
    queue: Receiver<Command>,
    door: Arc<Door>,
}

impl Commands {
    /// A queue for `capacity` commands, with both its ends.
    ///
    /// # Errors
    /// The OS's: too many open files.
    pub fn new(capacity: usize) -> io::Result<(Commander, Self)> {
        let (sender, receiver) = bounded(capacity);
        let door = Arc::new(Door::new()?);
        Ok((Commander { queue: sender, door: Arc::clone(&door) }, Self { queue: receiver, door }))
    }

    pub(crate) fn next(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }

    pub(crate) fn door(&self) -> BorrowedFd<'_> {
        self.door.fd()
    }
}
