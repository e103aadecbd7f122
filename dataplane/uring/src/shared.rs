//! The memory of a shard with workers: slots in the shared segment, egress chunks of its own.
//!
//! One [`ShardSide`] serves three holders on one thread: this memory (slices of slots), the
//! driver's [`Workers`] (rings), and the driver's [`Places`] (addresses). The first two share the
//! side through a cell and borrow it for the length of one call; slices outlive that call, which is
//! why they are made here from addresses.

use crate::{
    memory::{Chunks, Places, within},
    workers::Workers,
};
use dataplane_core::{
    driver::WorkerId,
    memory::{ChunkId, Geometry, Memory, SlotId},
};
use link::{Layout, ShardSide};
use std::{cell::RefCell, fmt, io, ptr::NonNull, rc::Rc, slice, sync::Arc};
use wire::{Order, Outcome};

/// Slots of the shared segment, which workers map too.
pub struct SharedMemory {
    geometry: Geometry,
    side: Rc<RefCell<ShardSide>>,
    chunks: Chunks,
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl SharedMemory {
    /// The memory of the shard that `side` belongs to, with `chunks` egress chunks of `chunk_len`
    /// bytes.
    ///
    /// # Errors
    /// The OS's, when memory is short.
    pub fn new(side: ShardSide, chunks: u32, chunk_len: u32) -> io::Result<Self> {
        let Layout { small_slots, small_request, small_reply, .. } = *side.segment().layout();
        let Layout { bulk_slots, bulk_request, bulk_reply, .. } = *side.segment().layout();
        let geometry = Geometry {
            small_slots,
            small_request,
            small_reply,
            bulk_slots,
            bulk_request,
            bulk_reply,
            chunks,
            chunk_len,
        };
        let chunks = Chunks::new(&geometry)?;
        Ok(Self { geometry, side: Rc::new(RefCell::new(side)), chunks })
    }

    /// The same memory as the driver needs it.
    #[must_use]
    pub fn places(&self) -> Places {
        let side = self.side.borrow();
        let segment = Arc::clone(side.segment());
        // SAFETY: the side names the areas of its own slots in the segment: `request_cap` and
        // `reply_cap` bytes each by the layout that the geometry was made from, mapped for as long
        // as the segment lives.
        unsafe {
            Places::new(
                self.geometry,
                |slot| address(side.request_ptr(slot.0)),
                |slot| address(side.reply_ptr(slot.0).cast_mut()),
                self.chunks.clone(),
                segment,
            )
        }
    }

    /// The lanes to the workers, for the driver.
    #[must_use]
    pub fn workers(&self) -> Workers {
        Workers::new(Rc::clone(&self.side))
    }

    /// Address of an own slot's payload; panics where the slot is lent.
    #[inline]
    fn request_at(&self, slot: SlotId) -> NonNull<u8> {
        address(self.side.borrow().request_ptr(slot.0))
    }

    /// Address of an own slot's reply; panics where the slot is lent.
    #[inline]
    fn reply_at(&self, slot: SlotId) -> NonNull<u8> {
        address(self.side.borrow().reply_ptr(slot.0).cast_mut())
    }
}

#[inline]
fn address(place: *mut u8) -> NonNull<u8> {
    NonNull::new(place).expect("a slot lies in the segment")
}

// In all slices below: the address starts `request_cap` or `reply_cap` bytes of the segment, which
// `side` keeps mapped; shared memory starts zeroed, so they are initialised. The side has just
// asserted that the slot is not lent, so no sane worker writes to it; it is lent again only by the
// shard, which by the rule of `Memory` holds no slice then, and by the same rule no fill is under
// way.
impl Memory for SharedMemory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    fn request(&self, slot: SlotId) -> &[u8] {
        let len = self.geometry.request_cap(slot) as usize;
        // SAFETY: see above; `request_mut` takes `&mut self`.
        unsafe { slice::from_raw_parts(self.request_at(slot).as_ptr(), len) }
    }

    #[inline]
    fn request_mut(&mut self, slot: SlotId) -> &mut [u8] {
        let len = self.geometry.request_cap(slot) as usize;
        // SAFETY: see above; `&mut self` excludes every other slice of this memory.
        unsafe { slice::from_raw_parts_mut(self.request_at(slot).as_ptr(), len) }
    }

    fn request_pair(&mut self, from: SlotId, to: SlotId) -> (&[u8], &mut [u8]) {
        assert_ne!(from, to, "a slot cannot be restored onto itself");
        let (from_len, to_len) = (self.geometry.request_cap(from), self.geometry.request_cap(to));
        let (from, to) = (self.request_at(from), self.request_at(to));
        // SAFETY: see above.
        let source = unsafe { slice::from_raw_parts(from.as_ptr(), from_len as usize) };
        // SAFETY: see above; areas of two different slots do not overlap.
        let target = unsafe { slice::from_raw_parts_mut(to.as_ptr(), to_len as usize) };
        (source, target)
    }

    #[inline]
    fn reply(&self, slot: SlotId) -> &[u8] {
        let len = self.geometry.reply_cap(slot) as usize;
        // SAFETY: see above; nothing here writes to replies.
        unsafe { slice::from_raw_parts(self.reply_at(slot).as_ptr(), len) }
    }

    fn set_order(&mut self, slot: SlotId, order: &Order) {
        self.side.borrow_mut().set_order(slot.0, order);
    }

    fn outcome(&self, slot: SlotId) -> Outcome {
        self.side.borrow().outcome(slot.0)
    }

    #[inline]
    fn chunk(&self, chunk: ChunkId) -> &[u8] {
        self.chunks.bytes(chunk)
    }

    #[inline]
    fn chunk_mut(&mut self, chunk: ChunkId) -> &mut [u8] {
        self.chunks.bytes_mut(chunk)
    }

    fn copy_reply(&mut self, slot: SlotId, from: u32, chunk: ChunkId, to: u32, len: u32) {
        let cap = self.geometry.reply_cap(slot);
        let source = within(self.reply_at(slot), cap, from, len);
        // SAFETY: see above; `within` keeps the stretch in the reply, and chunks lie in a mapping
        // of their own.
        let source = unsafe { slice::from_raw_parts(source.as_ptr(), len as usize) };
        let target = &mut self.chunks.bytes_mut(chunk)[to as usize..][..len as usize];
        target.copy_from_slice(source);
    }

    fn accuse(&mut self, worker: WorkerId) {
        self.side.borrow_mut().distrust(worker.0);
    }
}
