//! The table of connections: what each is doing, indexed like the kernel's table of direct
//! descriptors.

use crate::{buffers::Stash, op::GENERATION_MASK};
use dataplane_core::driver::Caller;
use std::ptr::NonNull;

/// Where a table entry is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    /// No connection.
    #[default]
    Free,
    /// Between `Accepted` and `close`.
    Open,
    /// Closed by the shard; operations under way are being cancelled.
    Closing,
    /// The direct descriptor is being closed.
    Leaving,
}

/// The receive that is under way, if any. There is never more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    #[default]
    Nothing,
    /// Multishot, into provided buffers.
    Stream,
    /// The same, with a cancellation on its way.
    Stopping,
    /// A header.
    Header,
    /// A stretch of a slot.
    Slot,
}

/// A fact that the shard must learn exactly once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Once {
    #[default]
    No,
    Due,
    Told,
}

/// Where a fill has got to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Next byte to fill.
    pub(crate) at: NonNull<u8>,
    /// Bytes still to come.
    pub(crate) left: u32,
    /// Bytes ordered.
    pub(crate) whole: u32,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    /// Which life of this entry this is.
    pub(crate) generation: u32,
    pub(crate) life: Life,
    pub(crate) reading: Reading,
    /// A transmit is under way.
    pub(crate) sending: bool,
    /// A half close waits for the transmit.
    pub(crate) finishing: bool,
    /// The shard wants the stream.
    pub(crate) wanted: bool,
    /// The shard waits for `StreamStopped`.
    pub(crate) stopping: bool,
    /// It did not use all that came meanwhile, and is offered no more before `StreamStopped`.
    pub(crate) full: bool,
    /// `Accepted` is still to be told (the entry was taken again before its `Closed` was told).
    pub(crate) arrived: bool,
    /// `Filled` is still to be told for a fill of no bytes.
    pub(crate) filled: bool,
    /// The shard was told of it.
    pub(crate) known: bool,
    /// Under TLS.
    pub(crate) secure: bool,
    /// In the list of those with something due. Outlives the connection.
    pub(crate) queued: bool,
    /// In the list of those that found no buffer. Outlives the connection.
    pub(crate) starving: bool,
    pub(crate) eof: Once,
    pub(crate) failed: Once,
    pub(crate) stash: Stash,
    pub(crate) fill: Fill,
    /// Bytes asked of the transmit under way.
    pub(crate) send_len: u32,
    /// Who is at the other end.
    pub(crate) who: Caller,
}

// With the 32 bytes of header room this is what a connection costs here.
const _: () = assert!(size_of::<Conn>() <= 72);

impl Conn {
    const EMPTY: Self = Self {
        generation: 0,
        life: Life::Free,
        reading: Reading::Nothing,
        sending: false,
        finishing: false,
        wanted: false,
        stopping: false,
        full: false,
        arrived: false,
        filled: false,
        known: false,
        secure: false,
        queued: false,
        starving: false,
        eof: Once::No,
        failed: Once::No,
        stash: Stash::EMPTY,
        fill: Fill { at: NonNull::dangling(), left: 0, whole: 0 },
        send_len: 0,
        who: Caller::LOCAL,
    };

    /// A new life.
    pub(crate) fn open(&mut self) {
        *self = Self {
            generation: self.generation.wrapping_add(1) & GENERATION_MASK,
            life: Life::Open,
            queued: self.queued,
            starving: self.starving,
            ..Self::EMPTY
        };
    }

    /// True while the kernel may still complete something of this connection.
    pub(crate) fn busy(&self) -> bool {
        self.sending || self.reading != Reading::Nothing
    }

    pub(crate) fn is_open(&self) -> bool {
        self.life == Life::Open
    }
}

/// All connections. The first `accepted` entries are the kernel's to give out, the rest are for
/// adopted sockets.
#[derive(Debug)]
pub(crate) struct Table {
    conns: Box<[Conn]>,
    pub(crate) accepted: u32,
    /// Entries for adopted sockets that are free.
    pub(crate) free: Vec<u32>,
}

impl Table {
    pub(crate) fn new(accepted: u32, adopted: u32) -> Self {
        let conns = vec![Conn::EMPTY; (accepted + adopted) as usize].into();
        Self { conns, accepted, free: (accepted..accepted + adopted).rev().collect() }
    }

    pub(crate) fn len(&self) -> u32 {
        self.conns.len() as u32
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Conn> {
        self.conns.get(index as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Conn> {
        self.conns.get_mut(index as usize)
    }

    /// The connection of a completion, unless that came too late.
    #[inline]
    pub(crate) fn of(&mut self, index: u32, generation: u32) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(index as usize)?;
        (conn.generation == generation && conn.life != Life::Free).then_some(conn)
    }

    /// The connection of a command, which the shard may only give for open ones.
    #[inline]
    pub(crate) fn open(&mut self, index: u32) -> Option<&mut Conn> {
        self.conns.get_mut(index as usize).filter(|conn| conn.is_open())
    }
}
