//! The segment: the sealed memory that the node creates and every worker maps (see `mapping`).
//!
//! Its head names magic, version, layout and a hash over all that two builds could disagree about;
//! [`Segment::attach`] maps nothing before these are right.

use crate::{
    layout::{self, Layout, LayoutError},
    map::Map,
    mapping::{Files, Mapping},
    sync::{AtomicU32, Ordering},
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU64},
};
use rustix::{
    fd::{BorrowedFd, OwnedFd},
    io::{pread, pwrite},
};
use std::io;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The first bytes of a segment, native byte order.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    magic: [u8; 8],
    version: u32,
    shards: u16,
    workers: u16,
    hash: u64,
    total: u64,
    /// small slots, request, reply; bulk slots, request, reply.
    sizes: [u32; 6],
}

impl Head {
    fn new(layout: &Layout, total: usize) -> Self {
        Self {
            magic: layout::MAGIC,
            version: layout::VERSION,
            shards: layout.shards,
            workers: layout.workers,
            hash: layout.hash(),
            total: total as u64,
            sizes: [
                layout.small_slots,
                layout.small_request,
                layout.small_reply,
                layout.bulk_slots,
                layout.bulk_request,
                layout.bulk_reply,
            ],
        }
    }

    /// The layout it names, once magic, version and hash are right.
    fn layout(&self) -> Result<Layout, AttachError> {
        if self.magic != layout::MAGIC {
            return Err(AttachError::Magic(self.magic));
        }
        if self.version != layout::VERSION {
            return Err(AttachError::Version { theirs: self.version, ours: layout::VERSION });
        }
        let [small_slots, small_request, small_reply, bulk_slots, bulk_request, bulk_reply] =
            self.sizes;
        let layout = Layout {
            shards: self.shards,
            workers: self.workers,
            small_slots,
            small_request,
            small_reply,
            bulk_slots,
            bulk_request,
            bulk_reply,
        };
        match layout.hash() {
            ours if ours == self.hash => Ok(layout),
            ours => Err(AttachError::Hash { theirs: self.hash, ours }),
        }
    }
}

/// Why a segment cannot be used by this process.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It could shrink under our feet.
    #[error("the segment is not sealed against resizing: it was not made by a butterfly node")]
    Unsealed,
    /// The first bytes are not a segment's.
    #[error("not a butterfly segment: its first bytes are {0:02x?}")]
    Magic([u8; 8]),
    /// Made by another release.
    #[error(
        "segment of another version: {theirs}, this program has {ours}; \
         start node and workers from one build"
    )]
    Version {
        /// The segment's.
        theirs: u32,
        /// This program's.
        ours: u32,
    },
    /// Same version number, but the places differ.
    #[error(
        "segment of another layout: hash {theirs:016x}, this program has {ours:016x}; \
         start node and workers from one build"
    )]
    Hash {
        /// The segment's.
        theirs: u64,
        /// This program's.
        ours: u64,
    },
    /// Head and file disagree.
    #[error("the segment has {actual} bytes where its layout needs {expected}")]
    Length {
        /// By the layout.
        expected: u64,
        /// Of the file.
        actual: u64,
    },
    /// The layout in the head is impossible.
    #[error("the segment's layout is impossible: {0}")]
    Layout(#[from] LayoutError),
    /// The OS refused.
    #[error("cannot map the segment: {0}")]
    Os(#[from] rustix::io::Errno),
}

/// What the supervisor sees of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Moves while the worker lives: at least four times a second, and with every order it takes
    /// up.
    pub count: u64,
    /// True while it sleeps or is about to.
    pub parked: bool,
    /// Lies that shards caught it telling since the start of the node (impossible positions, slots
    /// it does not hold). Not 0 for a new value means: end that process.
    pub faults: u32,
}

/// The two stretches of a segment that hold payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arenas {
    /// What the network writes and workers read.
    pub requests: NonNull<[u8]>,
    /// What workers write and the network reads.
    pub replies: NonNull<[u8]>,
}

/// The mapped segment. Hands out places; who may touch them when is for the two sides.
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    map: Map,
    huge_bytes: u64,
    /// One flag per shard whose side was given out; none in a process that attached.
    taken: Box<[AtomicBool]>,
    /// One count per worker, private to this process.
    faults: Box<[AtomicU32]>,
}

impl Segment {
    /// Creates, maps, populates and seals a segment whose requests no worker can write to. Memory
    /// that is not there fails here and not later.
    ///
    /// # Errors
    /// `InvalidInput` for an impossible layout; otherwise the OS's error with the number of bytes
    /// asked for.
    pub fn create(layout: &Layout) -> io::Result<Self> {
        Self::make(layout, true)
    }

    /// The same with requests that workers could write to, for those whose device addresses the
    /// requests in place: drivers register no memory that is read-only.
    ///
    /// # Errors
    /// As [`Segment::create`].
    pub fn create_for_devices(layout: &Layout) -> io::Result<Self> {
        Self::make(layout, false)
    }

    fn make(layout: &Layout, guarded: bool) -> io::Result<Self> {
        let map = Map::new(*layout)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let total = map.total();
        let named = |what: &'static str| {
            move |error: rustix::io::Errno| {
                let kind = io::Error::from(error).kind();
                io::Error::new(kind, format!("{what} a shared segment of {total} bytes: {error}"))
            }
        };
        let files = Files::create(total).map_err(named("create"))?;
        pwrite(&files.segment, Head::new(layout, total).as_bytes(), 0).map_err(named("write"))?;
        let mut segment = Self::map(files, map, layout.shards).map_err(named("map"))?;
        segment.mapping.wish_huge_pages();
        segment.mapping.populate().map_err(named("populate"))?;
        segment.mapping.seal(guarded).map_err(named("seal"))?;
        segment.huge_bytes = segment.mapping.huge_bytes();
        Ok(segment)
    }

    /// Maps a segment that another process made, once everything about it is right.
    ///
    /// # Errors
    /// [`AttachError`], each with what differs.
    pub fn attach(files: Files<OwnedFd>) -> Result<Self, AttachError> {
        if !files.are_sealed() {
            return Err(AttachError::Unsealed);
        }
        let mut bytes = [0_u8; size_of::<Head>()];
        let read = pread(&files.segment, &mut bytes, 0)?;
        let lengths = files.lengths()?;
        if read < bytes.len() {
            return Err(AttachError::Length { expected: bytes.len() as u64, actual: lengths[0] });
        }
        let head: Head = zerocopy::transmute!(bytes);
        let layout = head.layout()?;
        let map = Map::new(layout)?;
        let expected = map.total() as u64;
        for actual in lengths.into_iter().chain([head.total]) {
            if actual != expected {
                return Err(AttachError::Length { expected, actual });
            }
        }
        let segment = Self::map(files, map, 0)?;
        // Fills this process's page table; without it the first touch of each page costs a fault.
        let _ = segment.mapping.populate();
        Ok(segment)
    }

    fn map(files: Files<OwnedFd>, map: Map, sides: u16) -> rustix::io::Result<Self> {
        let ((start, len), _) = map.arenas();
        let mapping = Mapping::new(files, map.total(), start..start + len)?;
        let taken = (0..sides).map(|_| AtomicBool::new(false)).collect();
        let faults = (0..map.layout.workers).map(|_| AtomicU32::new(0)).collect();
        Ok(Self { mapping, map, huge_bytes: 0, taken, faults })
    }

    /// What it is made of.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.map.layout
    }

    /// All of it, for registering with the OS. Dereferencing is for who knows the owner of each
    /// slot.
    #[must_use]
    pub const fn range(&self) -> (*mut u8, usize) {
        (self.mapping.base().as_ptr(), self.map.total())
    }

    /// Where all request areas lie, and all reply areas, of every shard: for registering with a
    /// device. Both start on a page and stay mapped for the life of the segment; who keeps one
    /// registered holds the segment. Dereferencing is for who knows the owner of each slot.
    #[must_use]
    pub fn arenas(&self) -> Arenas {
        let ((requests, requests_len), (replies, replies_len)) = self.map.arenas();
        let place = |at, len| NonNull::slice_from_raw_parts(self.place(at, len), len);
        Arenas { requests: place(requests, requests_len), replies: place(replies, replies_len) }
    }

    /// Bytes that lie on huge pages; 0 also where the OS does not tell.
    #[must_use]
    pub const fn huge_bytes(&self) -> u64 {
        self.huge_bytes
    }

    /// To be passed on to workers.
    #[must_use]
    pub fn files(&self) -> Files<BorrowedFd<'_>> {
        self.mapping.files()
    }

    /// True where this process can only read the requests.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        self.mapping.is_guarded()
    }

    /// How a worker does, as far as shared memory tells.
    ///
    /// # Panics
    /// If there is no such worker.
    #[must_use]
    pub fn pulse(&self, worker: u16) -> Pulse {
        let count = self.place::<AtomicU64>(self.map.pulse(worker).0, 1);
        let parked = self.place::<AtomicU32>(self.map.worker_parked(worker).0, 1);
        // SAFETY: a control word of the map: inside, aligned, never part of a slot; any bytes are a
        // valid atomic.
        let count = unsafe { count.as_ref() };
        // SAFETY: as above.
        let parked = unsafe { parked.as_ref() };
        Pulse {
            count: count.load(Ordering::Relaxed),
            parked: parked.load(Ordering::Relaxed) != 0,
            faults: self.faults[usize::from(worker)].load(Ordering::Relaxed),
        }
    }

    /// Counts a lie of a worker, for its supervisor to act upon.
    pub(crate) fn accuse(&self, worker: u16) {
        self.faults[usize::from(worker)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the right to be a shard; false where it is taken, or where this process is a worker.
    pub(crate) fn take_shard(&self, shard: u16) -> bool {
        self.taken.get(usize::from(shard)).is_some_and(|taken| !taken.swap(true, Ordering::Relaxed))
    }

    /// Where everything lies in it.
    pub(crate) const fn offsets(&self) -> &Map {
        &self.map
    }

    /// The place of `count` values of `T`, inside and aligned.
    #[inline]
    pub(crate) fn place<T>(&self, at: usize, count: usize) -> NonNull<T> {
        let end = count.checked_mul(size_of::<T>()).and_then(|len| at.checked_add(len));
        assert!(end.is_some_and(|end| end <= self.map.total()), "place outside the segment");
        assert!(at.is_multiple_of(align_of::<T>()), "place not aligned");
        // SAFETY: `at` is inside the mapping, by the assertion above.
        unsafe { self.mapping.base().add(at) }.cast()
    }
}
