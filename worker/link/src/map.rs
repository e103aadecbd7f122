//! Where everything lies in the segment: a pure computation, the same in both processes.
//!
//! ```text
//! 0        head            magic, version, layout hash, length, the Layout itself            4 KiB
//!          workers         per worker: pulse | parked                          a line (128 B) each
//!          shards          per shard: parked                                            one line
//!          lanes           per (shard, worker): state | submission tail | head |
//!                          completion tail | head | submission entries | completion entries
//!          tickets         per shard, per slot: Order (64 B) | Outcome (40 B) | unused (24 B)
//!          requests        per shard, per slot: [ 64 B of header room | payload, 64-byte aligned ]
//!          replies         per shard, per slot: [ reply frames, 64-byte aligned ]
//! ```
//!
//! Slots of a shard are numbered through: small ones first, then bulk ones. A shard's tickets,
//! requests and replies start on a page of their own. What different cores write lies on different
//! lines; a line is 128 bytes because processors fetch 64-byte lines in pairs.

use crate::layout::{
    Bytes, HEADER_ROOM, Layout, LayoutError, SEGMENT_MAX, SHARDS_MAX, SLOTS_MAX, WORKERS_MAX,
};
use core::mem::size_of;
use wire::{Order, Outcome};

pub(crate) const LINE: u64 = 128;
pub(crate) const PAGE: u64 = 4096;
const AREA: u64 = 64;
const TICKET: u64 = 128;
const OUTCOME_AT: usize = 64;
const WORKER_LINES: u64 = 2;
const LANE_LINES: u64 = 5;

const _: () = {
    assert!(size_of::<Order>() <= OUTCOME_AT);
    assert!(OUTCOME_AT + size_of::<Outcome>() <= TICKET as usize);
    assert!(HEADER_ROOM >= wire::HEADER_LEN && (HEADER_ROOM as u64).is_multiple_of(AREA));
    assert!(SLOTS_MAX <= crate::ring::INDEX_MAX);
};

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
    /// Entries of every ring: a power of two that holds all slots of a shard, so that no ring is
    /// ever full.
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
    /// Works out a layout. No product here can overflow 64 bits: 240 shards x 2^20 slots x 2^33
    /// bytes < 2^61.
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

    /// Offset and bytes of all shards' request areas, and of all their reply areas.
    pub(crate) const fn arenas(&self) -> ((usize, usize), (usize, usize)) {
        let (requests, replies) = (self.requests_at as usize, self.replies_at as usize);
        ((requests, replies - requests), (replies, self.total as usize - replies))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::Range;

    prop_compose! {
        fn layouts()(
            shards in 1_u16..4, workers in 1_u16..4,
            small_slots in 0_u32..9, bulk_slots in 1_u32..5,
            caps in prop::array::uniform4(0_u32..5_000),
        ) -> Layout {
            let [small_request, small_reply, bulk_request, bulk_reply] = caps;
            Layout {
                shards, workers, small_slots, small_request, small_reply,
                bulk_slots, bulk_request, bulk_reply,
            }
        }
    }

    /// Every place of a segment, with the alignment it needs.
    fn places(map: &Map) -> Vec<(Range<usize>, usize)> {
        let line = |at: WordAt| (at.0..at.0 + LINE as usize, LINE as usize);
        let entries = |at: WordAt| (at.0..at.0 + map.capacity as usize * 4, LINE as usize);
        let mut places = Vec::new();
        for worker in 0..map.layout.workers {
            places.extend([map.pulse(worker), map.worker_parked(worker)].map(line));
        }
        for shard in 0..map.layout.shards {
            places.push(line(map.shard_parked(shard)));
            for worker in 0..map.layout.workers {
                let lane = map.lane(shard, worker);
                places.push(line(lane.state));
                for ring in [lane.submissions, lane.completions] {
                    places.extend([line(ring.tail), line(ring.head), entries(ring.entries)]);
                }
            }
            let areas = map.areas(shard);
            for slot in 0..map.layout.slots() {
                let (order, outcome) = (areas.order(slot), areas.outcome(slot));
                places.push((order..order + size_of::<Order>(), 64));
                places.push((outcome..outcome + size_of::<Outcome>(), 64));
                let (request, len) = areas.request(slot);
                assert_eq!(len, map.layout.request_cap(slot) as usize);
                places.push((request - HEADER_ROOM..request + len, 64));
                let (reply, len) = areas.reply(slot);
                assert_eq!(len, map.layout.reply_cap(slot) as usize);
                places.push((reply..reply + len, 64));
            }
        }
        places
    }

    proptest! {
        /// No two places share a byte, all lie behind the head and inside, all are aligned.
        #[test]
        fn places_are_apart_inside_and_aligned(layout in layouts()) {
            let map = Map::new(layout).expect("possible");
            let mut places = places(&map);
            places.sort_by_key(|(range, _)| range.start);
            let mut end = PAGE as usize;
            for (range, align) in places {
                prop_assert!(range.start >= end, "{range:?} begins before {end}");
                prop_assert!(range.start.is_multiple_of(align));
                end = range.end;
            }
            prop_assert!(end <= map.total());
            prop_assert_eq!(map.bytes().total(), map.total() as u64);
            prop_assert!(map.capacity >= layout.slots());
        }

        /// A shard's requests and replies lie in the stretches that are registered with the OS.
        #[test]
        fn areas_lie_in_their_shards_stretch(layout in layouts()) {
            let map = Map::new(layout).expect("possible");
            for shard in 0..layout.shards {
                let areas = map.areas(shard);
                for (stretch, place) in [
                    (areas.requests, areas.request(layout.slots() - 1)),
                    (areas.replies, areas.reply(layout.slots() - 1)),
                ] {
                    prop_assert!(stretch.0.is_multiple_of(PAGE as usize));
                    prop_assert!(place.0 + place.1 <= stretch.0 + stretch.1);
                }
                let (requests, replies) = map.arenas();
                for (arena, stretch) in [(requests, areas.requests), (replies, areas.replies)] {
                    prop_assert!(arena.0 <= stretch.0);
                    prop_assert!(stretch.0 + stretch.1 <= arena.0 + arena.1);
                }
            }
        }

        /// Layouts that differ have different hashes; the same one has the same.
        #[test]
        fn the_hash_tells_layouts_apart(one in layouts(), other in layouts()) {
            prop_assert_eq!(one.hash() == other.hash(), one == other);
        }
    }

    #[test]
    fn impossible_layouts_name_their_limit() {
        let good = Layout {
            shards: 1,
            workers: 1,
            small_slots: 1,
            small_request: 1,
            small_reply: 1,
            bulk_slots: 0,
            bulk_request: 0,
            bulk_reply: 0,
        };
        assert!(good.bytes().is_ok());
        let refusal = |layout: Layout| layout.bytes().expect_err("impossible");
        assert_eq!(refusal(Layout { shards: 0, ..good }), LayoutError::Shards(0));
        assert_eq!(refusal(Layout { shards: 241, ..good }), LayoutError::Shards(241));
        assert_eq!(refusal(Layout { workers: 0, ..good }), LayoutError::Workers(0));
        assert_eq!(refusal(Layout { workers: 1025, ..good }), LayoutError::Workers(1025));
        assert_eq!(refusal(Layout { small_slots: 0, ..good }), LayoutError::Slots(0));
        let most = Layout { small_slots: u32::MAX, bulk_slots: u32::MAX, ..good };
        assert_eq!(refusal(most), LayoutError::Slots(2 * u64::from(u32::MAX)));
        let huge = Layout { small_slots: 1 << 20, small_request: u32::MAX, ..good };
        assert!(matches!(refusal(huge), LayoutError::Length(_)));
    }
}
