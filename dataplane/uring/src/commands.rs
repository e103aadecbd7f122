//! Commands of the control thread: a bounded queue and a doorbell.

use crate::secure::Gate;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use dataplane_core::{
    driver::{Caller, WorkerId},
    probe::{Probe, Probed},
};
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
    /// Whether a worker's checks hold.
    WorkerHealth {
        /// Which.
        worker: WorkerId,
        /// What was found.
        healthy: bool,
    },
    /// Put a question to a worker; what comes of it goes to this queue, and is lost where that is
    /// full.
    Probe(Probe, Sender<Probed>),
    /// Accept connections from this listening socket as well.
    Listen(OwnedFd),
    /// The same, from peers that prove who they are under TLS.
    ListenTls(OwnedFd, Gate),
    /// Serve this connected stream socket as if it had been accepted, from this peer. Where there
    /// is no room for it, it is closed.
    Adopt(OwnedFd, Caller),
    /// Say that this shard turns.
    Answer(Sender<()>),
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

    /// Has the shard turn once more, if it sleeps.
    pub fn wake(&self) {
        self.door.ring();
    }

    /// Hands a connection over ([`Command::Adopt`]). Connections come as often as peers like: they
    /// take half of the queue at most, so that every other command finds room.
    ///
    /// # Errors
    /// The connection comes back where half of the queue is full or the driver is gone.
    pub fn adopt(&self, fd: OwnedFd, who: Caller) -> Result<(), OwnedFd> {
        if self.queue.capacity().is_some_and(|capacity| self.queue.len() >= capacity / 2) {
            return Err(fd);
        }
        match self.send(Command::Adopt(fd, who)) {
            Err(Command::Adopt(fd, _)) => Err(fd),
            _ => Ok(()),
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

    /// Takes one command, and answers where it asks for that. For tests of whoever sends them: a
    /// driver takes its commands itself.
    pub fn answer_one(&self) -> bool {
        let command = self.next();
        if let Some(Command::Answer(to)) = &command {
            let _ = to.try_send(());
        }
        command.is_some()
    }

    pub(crate) fn door(&self) -> BorrowedFd<'_> {
        self.door.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn connections_leave_room_for_commands() {
        let (commander, commands) = Commands::new(4).unwrap();
        let socket = || OwnedFd::from(UnixStream::pair().unwrap().0);
        for adopted in [true, true, false] {
            assert_eq!(commander.adopt(socket(), Caller::LOCAL).is_ok(), adopted);
        }
        assert!(commander.send(Command::Drain).is_ok());
        assert!(matches!(commands.next(), Some(Command::Adopt(..))));
        drop(commands);
        assert!(commander.adopt(socket(), Caller::LOCAL).is_err());
    }
}
