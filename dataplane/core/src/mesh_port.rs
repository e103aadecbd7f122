//! The port between a shard and the mesh: two single-producer rings and no lock.
//!
//! Up go the mesh's frames, the ends of connections that sent any, and what came of volleys. Down
//! come frames to send, volleys, and connections to end. Neither side ever waits for the other. The
//! shard empties the ring down whether or not the ring up is full, and the mesh is expected to do
//! the same: it keeps what the ring down does not take. Where the ring up is full, the shard stops
//! reading from those who fill it, and says so ([`MeshEnd::made_room`]).

use crate::{
    driver::{Caller, ConnId, Time},
    schedule::{Volley, VolleyReport},
};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering, fence},
    },
};
use wire::Kind;

/// Payloads up to this many bytes travel inside the ring; longer ones in memory of their own.
pub const INLINE_MAX: usize = 224;

/// Longer payloads that may be on their way up at once: with the node's ceiling for one payload,
/// the bound of the memory that they take.
pub const LONG_MAX: u32 = 64;

/// A short payload, where an archive can be read in place.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub struct Inline(pub [u8; INLINE_MAX]);

/// From the shard to the mesh.
#[allow(clippy::large_enum_variant, reason = "nearly all are frames; a box each would be worse")]
#[derive(Debug)]
pub enum Up {
    /// A frame with a short payload, its CRC-16 checked.
    Frame {
        /// Whose: index in the shard's table.
        conn: ConnId,
        /// Which use of that index.
        life: u32,
        /// Who is at the other end.
        who: Caller,
        /// When the turn began that took it in.
        received: Time,
        /// Type of the mesh.
        kind: Kind,
        /// As its sender numbered it.
        message_id: u64,
        /// Bytes of the payload.
        len: u16,
        /// The payload, then anything.
        bytes: Inline,
    },
    /// A frame with a longer payload (or one that came compressed), likewise.
    Long {
        /// Whose.
        conn: ConnId,
        /// Which use of that index.
        life: u32,
        /// Who is at the other end.
        who: Caller,
        /// When the turn began that took it in.
        received: Time,
        /// Type of the mesh.
        kind: Kind,
        /// As its sender numbered it.
        message_id: u64,
        /// The payload as it was before compression.
        payload: Box<[u8]>,
    },
    /// A connection that sent frames of the mesh is gone. Nothing of this life follows.
    Gone {
        /// Whose.
        conn: ConnId,
        /// Which use of that index.
        life: u32,
    },
    /// Every send of a volley had its outcome.
    VolleyDone(Box<VolleyReport>),
}

/// From the mesh to the shard.
#[derive(Debug)]
pub enum Down {
    /// Whole frames to send now, together.
    Send {
        /// To whom.
        conn: ConnId,
        /// Which use of that index; another one means that the peer is gone.
        life: u32,
        /// The bytes.
        frame: Box<[u8]>,
    },
    /// Sends at moments to come.
    Volley(Box<Volley>),
    /// A connection to end.
    Close {
        /// Whose.
        conn: ConnId,
        /// Which use of that index.
        life: u32,
    },
}

#[derive(Debug, Default)]
struct Shared {
    /// The shard found the ring up full.
    starved: AtomicBool,
    /// [`Up::Long`] in the ring.
    long: AtomicU32,
}

/// Both ends of a port with room for so many messages up and down.
#[must_use]
pub fn port(up: usize, down: usize) -> (MeshPort, MeshEnd) {
    let (up_in, up_out) = RingBuffer::new(up);
    let (down_in, down_out) = RingBuffer::new(down);
    let shared = Arc::new(Shared::default());
    let port = MeshPort {
        up: up_in,
        down: down_out,
        shared: Arc::clone(&shared),
        held: VecDeque::new(),
        fed: false,
    };
    (port, MeshEnd { up: up_out, down: down_in, shared })
}

/// The shard's end.
#[derive(Debug)]
pub struct MeshPort {
    up: Producer<Up>,
    down: Consumer<Down>,
    shared: Arc<Shared>,
    /// Ends and reports that wait for room in the ring up. Frames wait behind them.
    held: VecDeque<Up>,
    /// Something was pushed since the mesh was last woken.
    fed: bool,
}

impl MeshPort {
    /// Room to hold one end per connection and one report per volley.
    pub(crate) fn reserve(&mut self, held: usize) {
        self.held.reserve(held);
    }

    /// Bytes of both rings with room for so many messages.
    #[must_use]
    pub const fn bytes(up: usize, down: usize) -> u64 {
        (up * size_of::<Up>() + down * size_of::<Down>()) as u64
    }

    /// Whether a frame can go up; `long` for one with memory of its own. Where it cannot, the mesh
    /// will say when it has taken something.
    pub(crate) fn room(&mut self, long: bool) -> bool {
        self.settle();
        if self.has_room(long) {
            return true;
        }
        self.shared.starved.store(true, Ordering::Relaxed);
        // SYNC POINT room: pairs with the fence in `made_room`. Either the look below sees what the
        // mesh took, or the mesh sees the flag.
        fence(Ordering::SeqCst);
        self.has_room(long)
    }

    /// The same without asking to be told.
    pub(crate) fn has_room(&self, long: bool) -> bool {
        let long_full = long && self.shared.long.load(Ordering::Acquire) >= LONG_MAX;
        self.held.is_empty() && !long_full && !self.up.is_full()
    }

    /// Sends a frame up. False where the ring has no room.
    pub(crate) fn push(&mut self, up: Up) -> bool {
        let long = matches!(up, Up::Long { .. });
        if !self.held.is_empty() {
            return false;
        }
        // Counted first: the mesh may take it, and count it off, before this returns.
        if long {
            self.shared.long.fetch_add(1, Ordering::Relaxed);
        }
        let pushed = self.up.push(up).is_ok();
        if long && !pushed {
            self.shared.long.fetch_sub(1, Ordering::Relaxed);
        }
        self.fed |= pushed;
        pushed
    }

    /// Sends something up that cannot wait outside: it is held until there is room.
    pub(crate) fn tell(&mut self, up: Up) {
        self.held.push_back(up);
    }

    /// Moves what is held into the ring, as far as there is room.
    pub(crate) fn settle(&mut self) {
        while let Some(up) = self.held.pop_front() {
            if let Err(PushError::Full(up)) = self.up.push(up) {
                self.held.push_front(up);
                self.shared.starved.store(true, Ordering::Relaxed);
                return;
            }
            self.fed = true;
        }
    }

    /// Whether something waits that the ring up could take.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.held.is_empty() && !self.up.is_full()
    }

    /// Whether everything told has reached the ring.
    pub(crate) fn is_settled(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the mesh has something to be woken for; asked once per turn.
    pub(crate) fn take_fed(&mut self) -> bool {
        core::mem::take(&mut self.fed)
    }

    pub(crate) fn next_down(&mut self) -> Option<Down> {
        self.down.pop().ok()
    }

    pub(crate) fn has_down(&self) -> bool {
        !self.down.is_empty()
    }
}

/// The mesh's end.
#[derive(Debug)]
pub struct MeshEnd {
    up: Consumer<Up>,
    down: Producer<Down>,
    shared: Arc<Shared>,
}

impl MeshEnd {
    /// The next thing from the shard.
    pub fn pop(&mut self) -> Option<Up> {
        let up = self.up.pop().ok()?;
        if matches!(up, Up::Long { .. }) {
            self.shared.long.fetch_sub(1, Ordering::Release);
        }
        Some(up)
    }

    /// Whether [`Self::pop`] would give something.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.up.is_empty()
    }

    /// Tells the shard something, which is then to be woken if it sleeps.
    ///
    /// # Errors
    /// It comes back where the ring is full: to be kept and tried again, never waited for.
    #[allow(clippy::result_large_err, reason = "what comes back is what was given")]
    pub fn push(&mut self, down: Down) -> Result<(), Down> {
        self.down.push(down).map_err(|PushError::Full(down)| down)
    }

    /// To be asked after taking: true where the shard waits for room and is to be woken.
    #[must_use]
    pub fn made_room(&self) -> bool {
        // SYNC POINT room: pairs with the fence in `room`.
        fence(Ordering::SeqCst);
        self.shared.starved.load(Ordering::Relaxed)
            && self.shared.starved.swap(false, Ordering::Relaxed)
    }
}
