//! Where everything lies in the segment: a pure computation, the same in both processes.
//!
//! ```text
//! 0        head            magic, version, layout hash, length, the Layout itself            4 KiB
//!          workers         per worker: pulse | parked                           a line (128 B) each
//!          shards          per shard: parked                                            one line
//!          lanes           per (shard, worker): state | submission tail | head |
//!                          completion tail | head | submission entries | completion entries
//!          tickets         per shard, per slot: Order (64 B) | Outcome (32 B) | unused (32 B)
//!          requests        per shard, per slot: [ 64 B of header room | payload, 64-byte aligned ]
//!          replies         per shard, per slot: [ reply frames, 64-byte aligned ]
//! ```
//!
//! Slots of a shard are numbered through: small ones first, then bulk ones. A shard's tickets, requests and
//! replies start on a page of their own. What different cores write lies on different lines; a line is 128 bytes
//! because processors fetch 64-byte lines in pairs.

use core::mem::size_of;
use wire::{Order, Outcome};

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"BUTTSEGM";
/// Version of this file's arrangement. Raise it with any change to the drawing above.
pub(crate) const VERSION: u32 = 1;
/// Room in front of a payload; the frame's header ends where the payload starts.
pub const HEADER_ROOM: usize = 64;

const LINE: u64 = 128;
const PAGE: u64 = 4096;
const AREA: u64 = 64;
const TICKET: u64 = 128;
const OUTCOME_AT: usize = 64;
const WORKER_LINES: u64 = 2;
const LANE_LINES: u64 = 5;

/// Most shards: their doorbells travel in one control message, which carries at most 253 descriptors.
pub const SHARDS_MAX: u16 = 240;
/// Most workers.
pub const WORKERS_MAX: u16 = 1_024;
/// Most slots of a shard, small and bulk together.
pub const SLOTS_MAX: u32 = 1 << 20;
/// Longest segment, bytes.
pub const SEGMENT_MAX: u64 = 1 << 42;

const _: () = {
    assert!(size_of::<Order>() <= OUTCOME_AT);
    assert!(OUTCOME_AT + size_of::<Outcome>() <= TICKET as usize);
    assert!(HEADER_ROOM >= wire::HEADER_LEN && (HEADER_ROOM as u64).is_multiple_of(AREA));
    assert!(SLOTS_MAX <= crate::ring::INDEX_MAX);
};

/// What a segment is made of. Every byte count is per slot, every slot count per shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shards of the node.
    pub shards: u16,
    /// Worker processes it may have.
    pub workers: u16,
    /// Slots for small requests.
    pub small_slots: u32,
    /// Payload bytes of a small request.
    pub small_request: u32,
    /// Bytes of a small slot's reply area.
    pub small_reply: u32,
    /// Slots for bulk requests.
    pub bulk_slots: u32,
    /// Payload bytes of a bulk request.
    pub bulk_request: u32,
    /// Bytes of a bulk slot's reply area.
    pub bulk_reply: u32,
}

/// A layout that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Too few or too many shards.
    #[error("{0} shards: need 1 to {SHARDS_MAX}")]
    Shards(u16),
    /// Too few or too many workers.
    #[error("{0} workers: need 1 to {WORKERS_MAX}")]
    Workers(u16),
    /// Too few or too many slots.
    #[error("{0} slots per shard: need 1 to {SLOTS_MAX}")]
    Slots(u64),
    /// The sum is over what one segment may be.
    #[error("the segment would have {0} bytes: the most is {SEGMENT_MAX}")]
    Length(u64),
}

/// The itemised sum of a segment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Name and bytes of each part, in the order in which they lie.
    pub parts: [(&'static str, u64); 7],
}

impl Bytes {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Layout {
    /// Slots of one shard, small and bulk together.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.small_slots.saturating_add(self.bulk_slots)
    }

    /// Payload bytes of a slot.
    #[must_use]
    pub const fn request_cap(&self, slot: u32) -> u32 {
        if slot < self.small_slots { self.small_request } else { self.bulk_request }
    }

    /// Reply bytes of a slot.
    #[must_use]
    pub const fn reply_cap(&self, slot: u32) -> u32 {
        if slot < self.small_slots { self.small_reply } else { self.bulk_reply }
    }

    /// The sum of all parts, to be printed before the memory is asked for.
    ///
    /// # Errors
    /// [`LayoutError`], naming the limit.
    pub fn bytes(&self) -> Result<Bytes, LayoutError> {
        Ok(Map::new(*self)?.bytes())
    }

    /// A number that differs where two builds would disagree about any place in the segment (FNV-1a).
    #[must_use]
    pub fn hash(&self) -> u64 {
        let facts = [
            u64::from(VERSION),
            size_of::<Order>() as u64,
            size_of::<Outcome>() as u64,
            HEADER_ROOM as u64,
            LINE,
            PAGE,
            u64::from(self.shards),
            u64::from(self.workers),
            u64::from(self.small_slots),
            u64::from(self.small_request),
            u64::from(self.small_reply),
            u64::from(self.bulk_slots),
            u64::from(self.bulk_request),
            u64::from(self.bulk_reply),
        ];
        facts
            .iter()
            .flat_map(|fact| fact.to_le_bytes())
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
            })
    }
}

/// Byte offset of a control word (a pulse, flag, state, position or entry), never inside a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordAt(pub(crate) usize);

/// The control words of one (shard, worker) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneAt {
    pub(crate) state: WordAt,
    pub(crate) submissions: RingAt,
    pub(crate) completions: RingAt,
}

/// The control words of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingAt {
    pub(crate) tail: WordAt,
    pub(crate) head: WordAt,
    pub(crate) entries: WordAt,
}

/// A layout with all its offsets worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) layout: Layout,
    /// Entries of every ring: a power of two that holds all slots of a shard, so that no ring is ever full.
    pub(crate) capacity: u32,
    workers_at: u64,
    shards_at: u64,
    lanes_at: u64,
    lane_len: u64,
    tickets_at: u64,
    tickets_len: u64,
    requests_at: u64,
    requests_len: u64,
    replies_at: u64,
    replies_len: u64,
    total: u64,
}

/// Bytes from one slot's area to the next.
const fn stride(header_room: u64, cap: u32) -> u64 {
    header_room + (cap as u64).next_multiple_of(AREA)
}

impl Map {
    /// Works out a layout. No product here can overflow 64 bits: 240 shards x 2^20 slots x 2^33 bytes < 2^61.
    pub(crate) fn new(layout: Layout) -> Result<Self, LayoutError> {
        let Layout { shards, workers, small_slots, bulk_slots, .. } = layout;
        if shards == 0 || shards > SHARDS_MAX {
            return Err(LayoutError::Shards(shards));
        }
        if workers == 0 || workers > WORKERS_MAX {
            return Err(LayoutError::Workers(workers));
        }
        let slots = u64::from(small_slots) + u64::from(bulk_slots);
        if slots == 0 || slots > u64::from(SLOTS_MAX) {
            return Err(LayoutError::Slots(slots));
        }
        let capacity = layout.slots().next_power_of_two();
        let (shards, workers) = (u64::from(shards), u64::from(workers));
        let area = |room: u64, small: u32, bulk: u32| {
            (u64::from(small_slots) * stride(room, small)
                + u64::from(bulk_slots) * stride(room, bulk))
            .next_multiple_of(PAGE)
        };
        let workers_at = PAGE;
        let shards_at = workers_at + workers * WORKER_LINES * LINE;
        let lanes_at = shards_at + shards * LINE;
        let lane_len = LANE_LINES * LINE + 2 * (u64::from(capacity) * 4).next_multiple_of(LINE);
        let tickets_at = (lanes_at + shards * workers * lane_len).next_multiple_of(PAGE);
        let tickets_len = (slots * TICKET).next_multiple_of(PAGE);
        let requests_at = tickets_at + shards * tickets_len;
        let requests_len = area(HEADER_ROOM as u64, layout.small_request, layout.bulk_request);
        let replies_at = requests_at + shards * requests_len;
        let replies_len = area(0, layout.small_reply, layout.bulk_reply);
        let total = replies_at + shards * replies_len;
        if total > SEGMENT_MAX || usize::try_from(total).is_err() {
            return Err(LayoutError::Length(total));
        }
        Ok(Self {
            layout,
            capacity,
            workers_at,
            shards_at,
            lanes_at,
            lane_len,
            tickets_at,
            tickets_len,
            requests_at,
            requests_len,
            replies_at,
            replies_len,
            total,
        })
    }

    pub(crate) const fn bytes(&self) -> Bytes {
        Bytes {
            parts: [
                ("segment head", self.workers_at),
                ("worker lines", self.shards_at - self.workers_at),
                ("shard lines", self.lanes_at - self.shards_at),
                ("rings", self.tickets_at - self.lanes_at),
                ("orders and outcomes", self.requests_at - self.tickets_at),
                ("request areas", self.replies_at - self.requests_at),
                ("reply areas", self.total - self.replies_at),
            ],
        }
    }

    /// Bytes of the whole segment. Lossless: `new` checks it.
    pub(crate) const fn total(&self) -> usize {
        self.total as usize
    }

    fn worker_line(&self, worker: u16, line: u64) -> WordAt {
        assert!(worker < self.layout.workers, "worker {worker} of {}", self.layout.workers);
        WordAt((self.workers_at + (u64::from(worker) * WORKER_LINES + line) * LINE) as usize)
    }

    pub(crate) fn pulse(&self, worker: u16) -> WordAt {
        self.worker_line(worker, 0)
    }

    pub(crate) fn worker_parked(&self, worker: u16) -> WordAt {
        self.worker_line(worker, 1)
    }

    pub(crate) fn shard_parked(&self, shard: u16) -> WordAt {
        WordAt((self.shards_at + self.shard(shard) * LINE) as usize)
    }

    pub(crate) fn lane(&self, shard: u16, worker: u16) -> LaneAt {
        assert!(worker < self.layout.workers, "worker {worker} of {}", self.layout.workers);
        let index = self.shard(shard) * u64::from(self.layout.workers) + u64::from(worker);
        let at = self.lanes_at + index * self.lane_len;
        let line = |n: u64| WordAt((at + n * LINE) as usize);
        let entries = at + LANE_LINES * LINE;
        let entries_len = (u64::from(self.capacity) * 4).next_multiple_of(LINE);
        LaneAt {
            state: line(0),
            submissions: RingAt { tail: line(1), head: line(2), entries: WordAt(entries as usize) },
            completions: RingAt {
                tail: line(3),
                head: line(4),
                entries: WordAt((entries + entries_len) as usize),
            },
        }
    }

    fn shard(&self, shard: u16) -> u64 {
        assert!(shard < self.layout.shards, "shard {shard} of {}", self.layout.shards);
        u64::from(shard)
    }

    /// Where the areas of one shard lie.
    pub(crate) fn areas(&self, shard: u16) -> Areas {
        let shard = self.shard(shard);
        let layout = self.layout;
        let room = HEADER_ROOM as u64;
        let requests = self.requests_at + shard * self.requests_len;
        let replies = self.replies_at + shard * self.replies_len;
        Areas {
            layout,
            tickets: (self.tickets_at + shard * self.tickets_len) as usize,
            requests: (requests as usize, self.requests_len as usize),
            replies: (replies as usize, self.replies_len as usize),
            request_strides: [
                stride(room, layout.small_request) as usize,
                stride(room, layout.bulk_request) as usize,
            ],
            reply_strides: [
                stride(0, layout.small_reply) as usize,
                stride(0, layout.bulk_reply) as usize,
            ],
        }
    }
}

/// Where the slots of one shard lie: what the hot path needs of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Areas {
    pub(crate) layout: Layout,
    tickets: usize,
    /// Offset and bytes of all request areas.
    pub(crate) requests: (usize, usize),
    /// Offset and bytes of all reply areas.
    pub(crate) replies: (usize, usize),
    request_strides: [usize; 2],
    reply_strides: [usize; 2],
}

impl Areas {
    /// Offset of the order of a slot.
    #[inline]
    pub(crate) fn order(&self, slot: u32) -> usize {
        self.assert(slot);
        self.tickets + slot as usize * TICKET as usize
    }

    /// Offset of the outcome of a slot.
    #[inline]
    pub(crate) fn outcome(&self, slot: u32) -> usize {
        self.order(slot) + OUTCOME_AT
    }

    /// Offset and bytes of a slot's payload.
    #[inline]
    pub(crate) fn request(&self, slot: u32) -> (usize, usize) {
        let at = self.requests.0 + self.skip(slot, self.request_strides) + HEADER_ROOM;
        (at, self.layout.request_cap(slot) as usize)
    }

    /// Offset and bytes of a slot's reply area.
    #[inline]
    pub(crate) fn reply(&self, slot: u32) -> (usize, usize) {
        let at = self.replies.0 + self.skip(slot, self.reply_strides);
        (at, self.layout.reply_cap(slot) as usize)
    }

    #[inline]
    fn skip(&self, slot: u32, [small, bulk]: [usize; 2]) -> usize {
        self.assert(slot);
        let smalls = slot.min(self.layout.small_slots) as usize;
        smalls * small + (slot as usize - smalls) * bulk
    }

    #[inline]
    fn assert(&self, slot: u32) {
        assert!(slot < self.layout.slots(), "slot {slot} of {}", self.layout.slots());
    }
}
