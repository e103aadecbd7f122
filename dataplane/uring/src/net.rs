//! Connections: adopting and closing.

use crate::{
    UringDriver,
    events::Told,
    op::{Op, Tag},
    table::{Life, Reading},
};
use dataplane_core::driver::ConnId;
use io_uring::{opcode, squeue::Flags, types};
use rustix::net::{AddressFamily, getsockname, sockopt};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// Small messages must not wait for more to come. Accepted sockets inherit it from their listener.
pub(crate) fn no_delay(fd: BorrowedFd<'_>) -> io::Result<()> {
    let family = getsockname(fd)?.address_family();
    if family == AddressFamily::INET || family == AddressFamily::INET6 {
        sockopt::set_tcp_nodelay(fd, true)?;
    }
    Ok(())
}

impl UringDriver {
    /// Takes over a connected stream socket. No `Accepted` comes for it; start its stream, or order
    /// a header.
    ///
    /// # Errors
    /// `QuotaExceeded` where all entries for adopted sockets are taken, otherwise the OS's.
    pub fn adopt(&mut self, fd: OwnedFd) -> io::Result<ConnId> {
        let Some(&index) = self.table.free.last() else {
            return Err(io::ErrorKind::QuotaExceeded.into());
        };
        // The option, its check, the installation and the close of `fd`.
        self.ring.counters.other_calls += 4;
        no_delay(fd.as_fd())?;
        self.ring.inner().submitter().register_files_update(index, &[fd.as_raw_fd()])?;
        self.table.free.pop();
        self.ring.counters.adopted += 1;
        if let Some(conn) = self.table.get_mut(index) {
            conn.open();
            conn.known = true;
        }
        Ok(ConnId(index))
    }

    pub(crate) fn close_conn(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        if conn.secure {
            self.part(index);
        }
        let Some(conn) = self.table.open(index) else { return };
        conn.life = Life::Closing;
        self.ring.counters.recycled += self.pool.drop_stash(&mut conn.stash);
        self.wind_down(index);
    }

    /// One step of closing: cancel what is under way; when nothing is, leave.
    pub(crate) fn wind_down(&mut self, index: u32) {
        let Some(conn) = self.table.get_mut(index).filter(|conn| conn.life == Life::Closing) else {
            return;
        };
        if !conn.busy() {
            self.leave(index);
            return;
        }
        // Sent again after each completion until all have ended.
        self.abort(index, Op::AbortReading);
        self.abort(index, Op::AbortSend);
    }

    /// Cancels one operation of a closing connection, by what it was tagged with: that the kernel
    /// looks up, while a search by descriptor goes through all that any connection waits for.
    /// False where that operation is not under way.
    fn abort(&mut self, index: u32, abort: Op) -> bool {
        let Some(conn) = self.table.get(index) else { return false };
        let under_way = match (abort, conn.reading) {
            (Op::AbortSend, _) if conn.sending => Op::Send,
            (Op::AbortReading, Reading::Stream | Reading::Stopping) => Op::Stream,
            (Op::AbortReading, Reading::Header | Reading::Slot) => Op::Fill,
            _ => return false,
        };
        let which = Tag::new(under_way, conn.generation, index).pack();
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(which))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Tag::new(abort, conn.generation, index).pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
        true
    }

    /// A cancellation found nothing. Where the operation goes on all the same it was between two
    /// steps inside the kernel, where cancellations do not see it: try that one again.
    pub(crate) fn on_abort(&mut self, tag: Tag) {
        let conn = self.table.of(tag.index, tag.generation);
        if conn.is_some_and(|conn| conn.life == Life::Closing) {
            let again = self.abort(tag.index, tag.op);
            self.ring.counters.cancel_retries += u64::from(again);
        }
    }

    /// Ends our direction of the stream, behind what is being sent.
    pub(crate) fn half_close(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        if conn.secure {
            self.half_close_secure(index);
            return;
        }
        if conn.sending {
            conn.finishing = true;
            return;
        }
        conn.finishing = false;
        self.shut_down(index);
    }

    /// Tells the socket that nothing more will be sent.
    pub(crate) fn shut_down(&mut self, index: u32) {
        let Some(conn) = self.table.open(index) else { return };
        let tag = Tag::new(Op::Shutdown, conn.generation, index);
        let entry = opcode::Shutdown::new(types::Fixed(index), libc::SHUT_WR);
        // That it fails where the peer is gone already is as good as success, which is silent.
        let entry = entry.build().flags(Flags::SKIP_SUCCESS).user_data(tag.pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    fn leave(&mut self, index: u32) {
        let Some(conn) = self.table.get_mut(index) else { return };
        conn.life = Life::Leaving;
        if conn.secure {
            self.leave_secure(index);
        }
        let Some(conn) = self.table.get_mut(index) else { return };
        let tag = Tag::new(Op::Close, conn.generation, index);
        let entry = opcode::Close::new(types::Fixed(index)).build().user_data(tag.pack());
        // SAFETY: the entry names no memory.
        unsafe { self.ring.push(&entry) };
    }

    pub(crate) fn on_close(&mut self, tag: Tag) -> Option<Told> {
        let Some(conn) = self.table.of(tag.index, tag.generation) else {
            self.ring.counters.stale += 1;
            return None;
        };
        conn.life = Life::Free;
        let known = conn.known;
        self.ring.counters.closed += 1;
        if tag.index >= self.table.accepted {
            self.table.free.push(tag.index);
        }
        known.then_some(Told::Closed(tag.index))
    }
}

/// Keeps the kernel's own choice of table entries, for accepted sockets, off those of adopted ones.
pub(crate) fn fence_off(ring: i32, accepted: u32) -> io::Result<()> {
    #[repr(C)]
    struct Range {
        from: u32,
        len: u32,
        zero: u64,
    }
    const REGISTER_FILE_ALLOC_RANGE: u32 = 25;
    let range = Range { from: 0, len: accepted, zero: 0 };
    let range = std::ptr::from_ref(&range);
    // SAFETY: the call reads one structure of the kernel's `io_uring_file_index_range` form, which
    // lives across it.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_FILE_ALLOC_RANGE, range, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
