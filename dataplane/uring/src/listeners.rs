//! Listening sockets: accepting into the table of direct descriptors, and leaving for a successor.

use crate::{
    UringDriver,
    events::Told,
    net::no_delay,
    op::{Op, Tag},
    ring::Completion,
    secure::Gate,
    table::Life,
};
use io_uring::{opcode, squeue::Flags, types};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// A socket that connections come from.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `None` once it is closed.
    fd: Option<OwnedFd>,
    /// An accept is under way.
    armed: bool,
    /// To be closed as soon as none is, and nobody waits.
    closing: bool,
    /// How often those who still waited were accepted after a cancellation.
    rounds: u32,
    /// Who comes in here has to prove who he is.
    gate: Option<Gate>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    all: Vec<Listener>,
    /// Some listener may have to be armed.
    pub(crate) idle: bool,
}

/// Under a flood somebody always waits, and always wakes another process's accept as well.
const LAST_ROUNDS: u32 = 16;

/// Somebody waits to be accepted.
fn waits(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)).is_ok_and(|many| many > 0)
}

impl UringDriver {
    /// Accepts connections from this listening socket from the next turn on.
    ///
    /// # Errors
    /// The OS's, where it is no socket.
    pub fn listen(&mut self, fd: OwnedFd) -> io::Result<()> {
        self.listen_at(fd, None)
    }

    /// The same under TLS: the shard learns of a connection when its peer has proven who it is.
    ///
    /// # Errors
    /// `InvalidInput` in a driver that was set up without TLS, otherwise the OS's.
    pub fn listen_tls(&mut self, fd: OwnedFd, gate: Gate) -> io::Result<()> {
        if !self.tls.is_on() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.listen_at(fd, Some(gate))
    }

    fn listen_at(&mut self, fd: OwnedFd, gate: Option<Gate>) -> io::Result<()> {
        self.ring.counters.other_calls += 2;
        no_delay(fd.as_fd())?;
        self.listeners.all.push(Listener {
            fd: Some(fd),
            armed: false,
            closing: false,
            rounds: 0,
            gate,
        });
        self.listeners.idle = true;
        Ok(())
    }

    /// Stops accepting. Connections that the kernel already accepted still come as events.
    pub(crate) fn unlisten(&mut self) {
        for index in 0..self.listeners.all.len() {
            if let Some(listener) = self.listeners.all.get_mut(index) {
                listener.closing = true;
            }
            self.unlisten_one(index as u32);
        }
    }

    /// Cancels the accept of a closing listener; closes it where there is none.
    ///
    /// A connection that came for an accept while that was being cancelled still waits, and if
    /// another process accepts from the same socket, the kernel has not told that one: of several
    /// accepts it wakes one per connection. So whoever leaves takes what it was told of.
    fn unlisten_one(&mut self, index: u32) {
        let Some(listener) = self.listeners.all.get_mut(index as usize) else { return };
        if !listener.armed {
            let Some(fd) = listener.fd.take() else { return };
            self.ring.counters.other_calls += 1;
            if listener.rounds == LAST_ROUNDS || !waits(fd.as_fd()) {
                self.ring.counters.other_calls += 1;
                return;
            }
            listener.rounds += 1;
            listener.fd = Some(fd);
            self.arm_accept(index);
        }
        let accept = Tag::new(Op::Accept, 0, index).pack();
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(accept))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Tag::new(Op::Unlisten, 0, index).pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    /// The cancellation found no accept: it was over, or between two steps inside the kernel.
    pub(crate) fn on_unlisten(&mut self, tag: Tag) {
        let listener = self.listeners.all.get(tag.index as usize);
        if listener.is_some_and(|listener| listener.armed && listener.closing) {
            self.ring.counters.cancel_retries += 1;
            self.unlisten_one(tag.index);
        }
    }

    /// Arms every listener that is not.
    pub(crate) fn accept_more(&mut self) {
        if !std::mem::take(&mut self.listeners.idle) {
            return;
        }
        for index in 0..self.listeners.all.len() {
            if self.listeners.all.get(index).is_some_and(|one| !one.armed && !one.closing) {
                self.arm_accept(index as u32);
            }
        }
    }

    /// Accepts all who wait at this listener, and all who come.
    fn arm_accept(&mut self, index: u32) {
        let Some(listener) = self.listeners.all.get_mut(index as usize) else { return };
        let Some(fd) = &listener.fd else { return };
        let entry = opcode::AcceptMulti::new(types::Fd(fd.as_raw_fd()))
            .allocate_file_index(true)
            .build()
            .user_data(Tag::new(Op::Accept, 0, index).pack());
        listener.armed = true;
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    pub(crate) fn on_accept(&mut self, done: Completion, tag: Tag) -> Option<Told> {
        if !done.more()
            && let Some(listener) = self.listeners.all.get_mut(tag.index as usize)
        {
            listener.armed = false;
            self.listeners.idle = true;
            if listener.closing {
                self.unlisten_one(tag.index);
            }
        }
        let Ok(index) = u32::try_from(done.result) else {
            self.accept_fault(-done.result, tag.index);
            return None;
        };
        let conn = self.table.get_mut(index)?;
        self.ring.counters.accepts += 1;
        let late = conn.life == Life::Leaving;
        let was_known = conn.known;
        conn.open();
        self.ring.counters.closed += u64::from(late);
        let gate = self.listeners.all.get(tag.index as usize).and_then(|one| one.gate.clone());
        if let Some(gate) = gate {
            conn.secure = true;
            self.arrive_at(index, gate);
        } else {
            conn.known = true;
            if !(late && was_known) {
                return Some(Told::Accepted(index));
            }
            conn.arrived = true;
            self.queue(index);
        }
        // The kernel gave the entry out again before its close was reported: tell both, in this
        // order.
        (late && was_known).then_some(Told::Closed(index))
    }

    fn accept_fault(&mut self, error: i32, listener: u32) {
        match error {
            // No free entry. The kernel has accepted and closed the connection: its peer learns at
            // once. Going on accepting turns the next ones away as quickly, until an entry is free.
            libc::ENFILE => self.ring.counters.refused += 1,
            libc::ECANCELED => {}
            // The socket itself is of no use: not to be tried again.
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP => {
                self.ring.counters.accept_faults += 1;
                if let Some(listener) = self.listeners.all.get_mut(listener as usize) {
                    listener.fd = None;
                }
            }
            // The peer gave up while waiting, or memory is short for a moment.
            _ => self.ring.counters.accept_faults += 1,
        }
    }
}
