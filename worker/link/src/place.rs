//! Places in a mapped segment: control words as atomics, slots as addresses.

use crate::{
    Segment,
    map::{Areas, RingAt, WordAt},
    ring::Places,
    sync::AtomicU32,
};
use core::{fmt, ops::Deref, ptr::NonNull, sync::atomic::AtomicU64};
use std::sync::Arc;
use wire::{Order, Outcome};

/// A control word (or a row of them) in the segment. Always an atomic, so that whatever another
/// process writes at whatever time is no data race here.
pub(crate) struct Shared<T: ?Sized> {
    place: NonNull<T>,
    _segment: Arc<Segment>,
}

/// A ring's memory in the segment.
pub(crate) type SharedPlaces = Places<Shared<AtomicU32>, Shared<[AtomicU32]>>;

impl Shared<AtomicU32> {
    /// One word.
    pub(crate) fn word(segment: &Arc<Segment>, at: WordAt) -> Self {
        Self { place: segment.place(at.0, 1), _segment: Arc::clone(segment) }
    }
}

impl Shared<AtomicU64> {
    /// The progress counter of a worker.
    pub(crate) fn pulse(segment: &Arc<Segment>, worker: u16) -> Self {
        let at = segment.offsets().pulse(worker);
        Self { place: segment.place(at.0, 1), _segment: Arc::clone(segment) }
    }
}

impl Shared<[AtomicU32]> {
    /// The entries of a ring.
    fn entries(segment: &Arc<Segment>, at: WordAt) -> Self {
        let capacity = segment.offsets().capacity as usize;
        let place = NonNull::slice_from_raw_parts(segment.place(at.0, capacity), capacity);
        Self { place, _segment: Arc::clone(segment) }
    }
}

/// The memory of the ring at `at`.
pub(crate) fn ring(segment: &Arc<Segment>, at: RingAt) -> SharedPlaces {
    let word = |at| Shared::word(segment, at);
    Places::new(word(at.tail), word(at.head), Shared::entries(segment, at.entries))
}

// SAFETY: gives out `&T` only, and the mapping belongs to the process.
unsafe impl<T: ?Sized + Sync> Send for Shared<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: ?Sized + Sync> Sync for Shared<T> {}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: made by `Segment::place` from an offset of the map: inside, aligned, and never
        // part of a slot, so that no `&mut` to it exists. Any bytes are a valid atomic integer.
        // `_segment` keeps it mapped.
        unsafe { self.place.as_ref() }
    }
}

impl<T: ?Sized> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.place).finish()
    }
}

/// The slots of one shard as addresses. Whoever makes a reference of one says why it may.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    segment: Arc<Segment>,
    areas: Areas,
}

impl Slots {
    pub(crate) fn new(segment: &Arc<Segment>, shard: u16) -> Self {
        Self { segment: Arc::clone(segment), areas: segment.offsets().areas(shard) }
    }

    pub(crate) const fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// A slot's order: inside the segment, aligned.
    #[inline]
    pub(crate) fn order(&self, slot: u32) -> NonNull<Order> {
        self.segment.place(self.areas.order(slot), 1)
    }

    /// A slot's outcome: inside the segment, aligned.
    #[inline]
    pub(crate) fn outcome(&self, slot: u32) -> NonNull<Outcome> {
        self.segment.place(self.areas.outcome(slot), 1)
    }

    /// A slot's payload: inside the segment, 64-byte aligned.
    #[inline]
    pub(crate) fn request(&self, slot: u32) -> NonNull<[u8]> {
        let (at, len) = self.areas.request(slot);
        NonNull::slice_from_raw_parts(self.segment.place(at, len), len)
    }

    /// A slot's reply area: inside the segment, 64-byte aligned.
    #[inline]
    pub(crate) fn reply(&self, slot: u32) -> NonNull<[u8]> {
        let (at, len) = self.areas.reply(slot);
        NonNull::slice_from_raw_parts(self.segment.place(at, len), len)
    }

    /// All request areas of the shard, headers' room included.
    pub(crate) fn requests(&self) -> NonNull<[u8]> {
        let (at, len) = self.areas.requests;
        NonNull::slice_from_raw_parts(self.segment.place(at, len), len)
    }

    /// All reply areas of the shard.
    pub(crate) fn replies(&self) -> NonNull<[u8]> {
        let (at, len) = self.areas.replies;
        NonNull::slice_from_raw_parts(self.segment.place(at, len), len)
    }
}
