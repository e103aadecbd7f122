//! The memory a shard works on, and the addresses at which the kernel works on it.
//!
//! Both views come in a pair: the shard gets a `Memory`, which turns slots into slices, and the
//! driver gets the [`Places`] of the same memory, which only knows addresses. What keeps the two
//! from meeting in one slot is the rule of [`Memory`] and
//! [`Driver`](dataplane_core::driver::Driver): from a `fill_slot` to its `Filled` (or the
//! connection's `Closed`) the slot is the kernel's, and the shard touches neither its request nor
//! its reply.

use crate::pages::Pages;
use dataplane_core::memory::{ChunkId, Geometry, Memory, SlotId};
use std::{any::Any, fmt, io, ptr::NonNull, slice, sync::Arc};
use wire::{Order, Outcome};

/// Every area starts on a cache line.
const ALIGN: usize = 64;

/// Where the slots and chunks of one shard lie: stable addresses, and a share in what keeps them
/// mapped.
pub struct Places {
    geometry: Geometry,
    requests: Box<[NonNull<u8>]>,
    replies: Box<[NonNull<u8>]>,
    chunks: Chunks,
    _mapped: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Places {
    /// The places of a memory whose slots lie where the two functions say.
    ///
    /// # Safety
    /// For every slot of `geometry` the two addresses start `request_cap` and `reply_cap` bytes of
    /// readable and writable memory that stay where they are for as long as `mapped` lives.
    pub(crate) unsafe fn new(
        geometry: Geometry,
        request: impl Fn(SlotId) -> NonNull<u8>,
        reply: impl Fn(SlotId) -> NonNull<u8>,
        chunks: Chunks,
        mapped: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        let slots = || (0..geometry.slots()).map(SlotId);
        Self {
            geometry,
            requests: slots().map(request).collect(),
            replies: slots().map(reply).collect(),
            chunks,
            _mapped: mapped,
        }
    }

    /// Sizes of this memory.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Address of `len` payload bytes from byte `from`.
    ///
    /// # Panics
    /// If they leave the slot.
    #[inline]
    pub(crate) fn request(&self, slot: SlotId, from: u32, len: u32) -> NonNull<u8> {
        within(self.requests[slot.0 as usize], self.geometry.request_cap(slot), from, len)
    }

    /// Address of `len` reply bytes from byte `from`.
    ///
    /// # Panics
    /// If they leave the slot.
    #[inline]
    pub(crate) fn reply(&self, slot: SlotId, from: u32, len: u32) -> NonNull<u8> {
        within(self.replies[slot.0 as usize], self.geometry.reply_cap(slot), from, len)
    }

    /// Address of `len` bytes of a chunk from byte `from`.
    ///
    /// # Panics
    /// If they leave the chunk.
    #[inline]
    pub(crate) fn chunk(&self, chunk: ChunkId, from: u32, len: u32) -> NonNull<u8> {
        within(self.chunks.at(chunk), self.chunks.len, from, len)
    }
}

/// The one bounds check of addresses given to the kernel.
#[inline]
pub(crate) fn within(base: NonNull<u8>, cap: u32, from: u32, len: u32) -> NonNull<u8> {
    assert!(from <= cap && len <= cap - from, "{len} bytes from byte {from} of {cap}");
    // SAFETY: `base` starts `cap` mapped bytes (`Places::new`), and the assertion keeps `from`
    // inside them.
    unsafe { base.add(from as usize) }
}

/// Egress chunks in a mapping of their own.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    pages: Arc<Pages>,
    count: u32,
    len: u32,
}

impl Chunks {
    pub(crate) fn new(geometry: &Geometry) -> io::Result<Self> {
        let stride = (geometry.chunk_len as usize).next_multiple_of(ALIGN);
        let pages = Arc::new(Pages::new(stride * geometry.chunks as usize)?);
        Ok(Self { pages, count: geometry.chunks, len: geometry.chunk_len })
    }

    #[inline]
    fn at(&self, chunk: ChunkId) -> NonNull<u8> {
        assert!(chunk.0 < self.count, "chunk {} of {}", chunk.0, self.count);
        let stride = (self.len as usize).next_multiple_of(ALIGN);
        self.pages.at(chunk.0 as usize * stride, self.len as usize)
    }

    #[inline]
    pub(crate) fn bytes(&self, chunk: ChunkId) -> &[u8] {
        // SAFETY: `at` gives `len` initialised bytes of a live mapping. The kernel only reads
        // chunks, and the one `Memory` that owns this value writes through `bytes_mut`, which
        // borrows it whole.
        unsafe { slice::from_raw_parts(self.at(chunk).as_ptr(), self.len as usize) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` is the only owner that makes slices (the copy inside
        // `Places` makes none).
        unsafe { slice::from_raw_parts_mut(self.at(chunk).as_ptr(), self.len as usize) }
    }
}

/// Memory of one process, for a shard without workers: load tools and tests.
#[derive(Debug)]
pub struct PlainMemory {
    geometry: Geometry,
    pages: Arc<Pages>,
    chunks: Chunks,
    orders: Box<[Option<Order>]>,
    outcomes: Box<[Outcome]>,
}

impl PlainMemory {
    /// Maps the slots and chunks of `geometry`, all zero.
    ///
    /// # Errors
    /// The OS's, when memory is short.
    pub fn new(geometry: Geometry) -> io::Result<Self> {
        let slots = geometry.slots() as usize;
        let pages = Arc::new(Pages::new(offset(&geometry, geometry.slots()))?);
        Ok(Self {
            geometry,
            pages,
            chunks: Chunks::new(&geometry)?,
            orders: vec![None; slots].into(),
            outcomes: vec![Outcome::default(); slots].into(),
        })
    }

    /// The same memory as the driver needs it.
    #[must_use]
    pub fn places(&self) -> Places {
        let chunks = self.chunks.clone();
        // SAFETY: the two functions name the disjoint areas of each slot inside `pages`, which the
        // share keeps mapped.
        unsafe {
            Places::new(
                self.geometry,
                |slot| self.request_at(slot),
                |slot| self.reply_at(slot),
                chunks,
                self.pages.clone(),
            )
        }
    }

    /// The last order written for this slot.
    #[must_use]
    pub fn order(&self, slot: SlotId) -> Option<Order> {
        self.orders[slot.0 as usize]
    }

    /// The reply area, for whoever plays the worker.
    pub fn reply_mut(&mut self, slot: SlotId) -> &mut [u8] {
        let len = self.geometry.reply_cap(slot) as usize;
        // SAFETY: `len` initialised bytes of a live mapping; `&mut self` excludes other slices, and
        // the kernel only reads replies.
        unsafe { slice::from_raw_parts_mut(self.reply_at(slot).as_ptr(), len) }
    }

    /// What `outcome` will say, for whoever plays the worker.
    pub fn set_outcome(&mut self, slot: SlotId, outcome: Outcome) {
        self.outcomes[slot.0 as usize] = outcome;
    }

    fn request_at(&self, slot: SlotId) -> NonNull<u8> {
        assert!(slot.0 < self.geometry.slots(), "slot {} of {}", slot.0, self.geometry.slots());
        self.pages.at(offset(&self.geometry, slot.0), self.geometry.request_cap(slot) as usize)
    }

    fn reply_at(&self, slot: SlotId) -> NonNull<u8> {
        let request = (self.geometry.request_cap(slot) as usize).next_multiple_of(ALIGN);
        let at = offset(&self.geometry, slot.0) + request;
        self.pages.at(at, self.geometry.reply_cap(slot) as usize)
    }
}

/// Bytes in front of a slot: all smaller slots, each with its request and its reply area.
fn offset(geometry: &Geometry, slot: u32) -> usize {
    let area = |request: u32, reply: u32| {
        (request as usize).next_multiple_of(ALIGN) + (reply as usize).next_multiple_of(ALIGN)
    };
    let small = slot.min(geometry.small_slots) as usize;
    let bulk = slot as usize - small;
    small * area(geometry.small_request, geometry.small_reply)
        + bulk * area(geometry.bulk_request, geometry.bulk_reply)
}

impl Memory for PlainMemory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn request(&self, slot: SlotId) -> &[u8] {
        let len = self.geometry.request_cap(slot) as usize;
        // SAFETY: `len` initialised bytes of a live mapping. By the rule of `Memory` the kernel is
        // not filling this slot now, and writing through `request_mut` takes `&mut self`.
        unsafe { slice::from_raw_parts(self.request_at(slot).as_ptr(), len) }
    }

    fn request_mut(&mut self, slot: SlotId) -> &mut [u8] {
        let len = self.geometry.request_cap(slot) as usize;
        // SAFETY: as in `request`, and `&mut self` excludes every other slice of this memory.
        unsafe { slice::from_raw_parts_mut(self.request_at(slot).as_ptr(), len) }
    }

    fn request_pair(&mut self, from: SlotId, to: SlotId) -> (&[u8], &mut [u8]) {
        assert_ne!(from, to, "a slot cannot be restored onto itself");
        let (from_len, to_len) = (self.geometry.request_cap(from), self.geometry.request_cap(to));
        let (from, to) = (self.request_at(from), self.request_at(to));
        // SAFETY: as in `request`.
        let source = unsafe { slice::from_raw_parts(from.as_ptr(), from_len as usize) };
        // SAFETY: as in `request_mut`; two different slots are disjoint, so the two slices are.
        let target = unsafe { slice::from_raw_parts_mut(to.as_ptr(), to_len as usize) };
        (source, target)
    }

    fn reply(&self, slot: SlotId) -> &[u8] {
        let len = self.geometry.reply_cap(slot) as usize;
        // SAFETY: `len` initialised bytes of a live mapping; the kernel only reads replies, and
        // `reply_mut` takes `&mut`.
        unsafe { slice::from_raw_parts(self.reply_at(slot).as_ptr(), len) }
    }

    fn set_order(&mut self, slot: SlotId, order: &Order) {
        self.orders[slot.0 as usize] = Some(*order);
    }

    fn outcome(&self, slot: SlotId) -> Outcome {
        self.outcomes[slot.0 as usize]
    }

    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        self.chunks.bytes(chunk)
    }

    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        self.chunks.bytes_mut(chunk)
    }

    fn copy_reply(&mut self, slot: SlotId, from: u32, chunk: ChunkId, to: u32, len: u32) {
        let reply_len = self.geometry.reply_cap(slot);
        let source = within(self.reply_at(slot), reply_len, from, len);
        // SAFETY: `within` checked the stretch; replies and chunks lie in different mappings, so
        // this slice and the one below are disjoint.
        let source = unsafe { slice::from_raw_parts(source.as_ptr(), len as usize) };
        let target = &mut self.chunks.bytes_mut(chunk)[to as usize..][..len as usize];
        target.copy_from_slice(source);
    }
}
