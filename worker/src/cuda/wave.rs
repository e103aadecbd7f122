//! A wave: orders of many slots that travel to the device, through it and back together.
//!
//! A wave owns a stream, a stretch of device memory and a stretch of pinned memory for its tables.
//! While one wave copies, another computes and a third is finished by the host. Its device memory:
//!
//! ```text
//!   | tables (mirror of the pinned memory) | scratch | logits of a tile | rows and replies ... |
//! ```

use super::{
    driver::{Context, DeviceMemory, Event, Fault, PinnedMemory, Stream},
    finish::{plain_sets, sign},
    host::Host,
    lent::Leased,
    lm_head::Head,
    steps::{Entry, Key, Steps},
};
use crate::{
    authors::{AuthorId, Authors},
    clock,
    coded::Coder,
    job::{Job, Turn},
};
use core::ptr::NonNull;
use link::{Lent, LinkFault, door::Door};
use std::rc::Rc;
use wire::{
    HEADER_LEN, Operation, Work,
    reply::{self, Chunk, Layout},
};

/// Bytes of a wave's tables, and of rows that the host widens for lm-head.
pub(super) const TABLES_LEN: usize = 4 << 20;
/// Bytes that a launch may use as scratch. Launches of one wave follow each other, so they share.
pub(super) const SCRATCH_LEN: usize = 8 << 20;
/// Stretches of device memory start at multiples of this.
pub(super) const ALIGN: usize = 256;
/// Table bytes of an order beside its rows' entries: gaps between tables.
const ORDER_TABLES: usize = 4 * ALIGN;
/// Table bytes of a row: its job, its two places in the tables of a projection, and its share of
/// the gaps between the tables of tiles.
const ROW_TABLES: usize = 56 + 16 + 24;

/// How large the parts of a wave are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes for the logits of a tile; 0 without lm-head.
    pub(super) logits: usize,
    /// Bytes for rows and replies under way.
    pub(super) staging: usize,
}

impl Sizes {
    /// All device memory of one wave.
    pub(super) const fn total(self) -> usize {
        TABLES_LEN + SCRATCH_LEN + self.logits + self.staging
    }
}

/// An order and who signs its answer.
#[derive(Debug)]
pub(super) struct Flight<'w> {
    pub(super) lent: Lent<'w>,
    pub(super) author: AuthorId,
    /// Where the rows are, if not in the slot.
    pub(super) leased: Option<Leased>,
    /// Where in the tables its results begin, if they are to be coded.
    pub(super) results: usize,
}

/// What filling a wave needs to know of its surroundings.
pub(super) struct Around<'a> {
    pub(super) host: &'a Host,
    pub(super) authors: &'a mut Authors,
    pub(super) coder: &'a mut Coder,
    /// The projection, where there is one.
    pub(super) head: Option<&'a Head>,
}

/// Where something is copied back from.
#[derive(Clone, Copy, Debug)]
struct Out {
    to: NonNull<u8>,
    from: u64,
    len: usize,
}

/// See the head of this file. Dropped in the order of its fields: first the stream, which waits for
/// what the rest serves.
#[derive(Debug)]
pub(super) struct Wave<'w> {
    stream: Stream,
    done: Event,
    memory: DeviceMemory,
    tables: PinnedMemory,
    sizes: Sizes,
    tables_used: usize,
    staging_used: usize,
    flights: Vec<Flight<'w>>,
    entries: Vec<(Key, Entry)>,
    outs: Vec<Out>,
    started_ns: u64,
    armed: bool,
}

/// Bytes of tables and of staging that an order may take, whatever is direct.
pub(super) fn need(work: &Work) -> (usize, usize) {
    let rows = work.rows as usize;
    let widened = if work.operation == Operation::LmHead { work.cols as usize * 4 } else { 0 };
    let chunks = reply::chunks(work).len();
    // Plain sets on their way to be coded: indices, values, and 13 bytes more.
    let sets = if work.coding.is_set() { work.k as usize * 8 + 13 } else { 0 };
    let tables = rows
        .saturating_mul(ROW_TABLES + widened + sets)
        .saturating_add(ORDER_TABLES + (chunks + 1) * 2 * ALIGN);
    let replies = usize::try_from(reply::reply_len(work)).unwrap_or(usize::MAX);
    let staging = (work.data_len as usize)
        .saturating_add(replies)
        .saturating_add((chunks + 2).saturating_mul(ALIGN));
    (tables, staging)
}

/// The work whose layout the reply has: sets of lm-head are chosen from the projection's outputs.
pub(super) fn shape(work: &Work, head: Option<&Head>) -> Work {
    match (work.operation, head) {
        (Operation::LmHead, Some(head)) => Work { cols: head.vocabulary(), ..*work },
        _ => *work,
    }
}

impl<'w> Wave<'w> {
    pub(super) fn new(context: &Rc<Context>, sizes: Sizes) -> Result<Self, Fault> {
        Ok(Self {
            stream: Stream::new(context)?,
            done: Event::new(context, false)?,
            memory: DeviceMemory::new(context, sizes.total())?,
            tables: PinnedMemory::new(context, TABLES_LEN)?,
            sizes,
            tables_used: 0,
            staging_used: 0,
            flights: Vec::new(),
            entries: Vec::new(),
            outs: Vec::new(),
            started_ns: 0,
            armed: false,
        })
    }

    /// True while nothing is in it.
    pub(super) const fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// True where this much still fits.
    pub(super) const fn has_room(&self, (tables, staging): (usize, usize)) -> bool {
        tables <= TABLES_LEN - self.tables_used && staging <= self.sizes.staging - self.staging_used
    }

    /// The first address for logits.
    const fn logits(&self) -> u64 {
        self.memory.address() + (TABLES_LEN + SCRATCH_LEN) as u64
    }

    /// A stretch of staging.
    fn stage(&mut self, len: usize) -> Option<u64> {
        let at = self.staging_used;
        let end = at.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
        if end > self.sizes.staging {
            return None;
        }
        self.staging_used = end;
        Some(self.logits() + (self.sizes.logits + at) as u64)
    }

    /// A stretch of the tables: its offset, the same in pinned and in device memory.
    fn reserve(&mut self, len: usize) -> Option<usize> {
        let at = self.tables_used;
        let end = at.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
        if end > TABLES_LEN {
            return None;
        }
        self.tables_used = end;
        Some(at)
    }

    /// Puts an order that was admitted, and for which there is room, into an idle wave. Copies of
    /// its rows begin at once. Gives it back where it does not fit after all.
    pub(super) fn add(
        &mut self,
        mut flight: Flight<'w>,
        around: &mut Around<'_>,
    ) -> Result<Option<Flight<'w>>, Fault> {
        if self.flights.is_empty() {
            self.started_ns = clock::monotonic_ns();
        }
        let (entries, outs) = (self.entries.len(), self.outs.len());
        flight.results = self.tables_used;
        let placed = self.place(&mut flight, around);
        if placed == Ok(false) {
            self.entries.truncate(entries);
            self.outs.truncate(outs);
            return Ok(Some(flight));
        }
        // Also where the driver failed: whoever empties the wave finds the order.
        self.flights.push(flight);
        placed.map(|_| None)
    }

    /// Lays out an order's rows and replies; false where something does not fit.
    fn place(&mut self, flight: &mut Flight<'w>, around: &mut Around<'_>) -> Result<bool, Fault> {
        let lent = &flight.lent;
        let Ok(job) = lent.payload().and_then(|bytes| Job::check(lent.order(), bytes)) else {
            return Ok(false);
        };
        let shape = shape(&job.work, around.head);
        let as_came = around.head.is_some_and(|head| head.product(shape.dtype).is_some());
        let Some(key) = Key::of(&shape, as_came) else { return Ok(false) };
        let Some((rows, stride)) = self.bring(&job, &key, flight.leased.as_ref(), around.host)?
        else {
            return Ok(false);
        };
        let (_, area) = lent.places();
        let mut written = 0;
        for chunk in reply::chunks(&job.work) {
            let Some(mut layout) = Layout::of(&shape, &chunk) else { return Ok(false) };
            if let Layout::Coded(_) = layout {
                layout = Layout::TopK(plain_sets(&shape, &chunk));
                let Some(at) = self.results(layout.end()) else { return Ok(false) };
                if chunk.index == 0 {
                    flight.results = at;
                }
                self.enter(key, &layout, &chunk, (rows, stride), self.memory.address() + at as u64);
                continue;
            }
            let len = layout.end();
            let Some(place) = part(area, written + HEADER_LEN, len) else { return Ok(false) };
            let reply = match around.host.reply(place) {
                Some(direct) => direct,
                None => {
                    let Some(from) = self.stage(len) else { return Ok(false) };
                    self.outs.push(Out { to: place.cast(), from, len });
                    from
                }
            };
            self.enter(key, &layout, &chunk, (rows, stride), reply);
            written += around.authors.frame_len(flight.author, shape.operation, len);
        }
        Ok(true)
    }

    /// Room for results that the host codes: the device writes them to the mirror of the tables,
    /// and they are copied to the tables themselves.
    fn results(&mut self, len: usize) -> Option<usize> {
        let at = self.reserve(len)?;
        let whole = self.tables.start();
        let to = part(NonNull::slice_from_raw_parts(whole, TABLES_LEN), at, len)?.cast();
        self.outs.push(Out { to, from: self.memory.address() + at as u64, len });
        Some(at)
    }

    /// Enters the rows of a chunk, which lie `stride` apart from `rows` on.
    fn enter(
        &mut self,
        key: Key,
        layout: &Layout,
        chunk: &Chunk,
        (rows, stride): (u64, u64),
        reply: u64,
    ) {
        let first = u64::from(chunk.first_row);
        let entries = (0..chunk.rows).filter_map(|row| {
            Entry::of(layout, rows + (first + u64::from(row)) * stride, reply, row)
        });
        self.entries.extend(entries.map(|entry| (key, entry)));
    }

    /// Where the device finds the rows of a job, in place or in a copy that is queued here, and how
    /// far apart they are.
    fn bring(
        &mut self,
        job: &Job<'_>,
        key: &Key,
        leased: Option<&Leased>,
        host: &Host,
    ) -> Result<Option<(u64, u64)>, Fault> {
        let stride = job.row_len() as u64;
        if let Some(leased) = leased {
            return Ok(Some((leased.rows, leased.stride)));
        }
        if key.is_widened() {
            return Ok(self.widen(job).map(|rows| (rows, u64::from(job.work.cols) * 4)));
        }
        let place = NonNull::from(job.data);
        if let Some(direct) = host.rows(place) {
            return Ok(Some((direct, stride)));
        }
        let Some(to) = self.stage(place.len()) else { return Ok(None) };
        // SAFETY: the rows lie in a slot that is lent to us until the order is completed, which is
        // after this wave is done; nobody writes to a request meanwhile. `to` was staged for them
        // in this wave's memory, which no other wave uses.
        unsafe { self.stream.copy_in(to, place.cast(), place.len()) }?;
        Ok(Some((to, stride)))
    }

    /// The rows as f32 in the tables, which travel with them.
    fn widen(&mut self, job: &Job<'_>) -> Option<u64> {
        let width = job.work.cols as usize;
        let rows = job.work.rows as usize;
        let at = self.reserve(rows.checked_mul(width)?.checked_mul(4)?)?;
        let places = self.tables.bytes_mut().get_mut(at..at + rows * width * 4)?;
        let wide: &mut [f32] = bytemuck::try_cast_slice_mut(places).ok()?;
        for (number, place) in wide.chunks_exact_mut(width).enumerate() {
            job.row(number)?.widen(place);
        }
        Some(self.memory.address() + at as u64)
    }

    /// Queues everything: tables, kernels, copies back, and the event behind them.
    pub(super) fn launch(&mut self, steps: &mut Steps<'_>) -> Result<(), Fault> {
        // Stable, so the rows of an order stay in their order.
        self.entries.sort_by_key(|(key, _)| *key);
        let entries = core::mem::take(&mut self.entries);
        let base = self.memory.address();
        let logits = (self.logits(), self.sizes.logits);
        let planned = steps.plan(&entries, logits, |bytes| {
            let at = self.reserve(bytes.len())?;
            self.tables.bytes_mut().get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            Some(base + at as u64)
        });
        self.entries = entries;
        self.entries.clear();
        if !planned {
            return Err(Fault::no_room());
        }
        // SAFETY: the tables are written, and not again before the wave is done; their mirror in
        // this wave's memory is as long.
        unsafe { self.stream.copy_in(base, self.tables.start(), self.tables_used) }?;
        // SAFETY: every address in the tables lies in this wave's memory, in the weights, or in
        // slots that are lent to us until this wave is done; the scratch is this wave's.
        unsafe { steps.launch(&self.stream, base + TABLES_LEN as u64) }?;
        for out in &self.outs {
            // SAFETY: the reply area of a slot that is lent to us until this wave is done, and of
            // which no slice exists before that.
            unsafe { self.stream.copy_out(out.to, out.from, out.len) }?;
        }
        self.done.record(&self.stream)
    }

    /// True once the device is done with what was launched.
    pub(super) fn is_done(&self) -> Result<bool, Fault> {
        self.done.is_done()
    }

    /// Has the door rung when the wave is done; once is enough.
    pub(super) fn arm(&mut self, door: &'static Door) -> Result<(), Fault> {
        if !self.armed && !self.is_idle() {
            self.stream.ring_when_done(door)?;
            self.armed = true;
        }
        Ok(())
    }

    /// Signs and completes what is done. The wave is idle afterwards. Returns how many orders that
    /// were.
    pub(super) fn settle(
        &mut self,
        around: &mut Around<'_>,
        beat: &dyn Fn(),
    ) -> Result<usize, LinkFault> {
        let turn = Turn { started_ns: self.started_ns, beat };
        let count = self.flights.len();
        let mut flights = self.empty();
        for mut flight in flights.drain(..) {
            beat();
            let results = self.tables.bytes_mut().get_mut(flight.results..).unwrap_or_default();
            let answer = sign(&mut flight, around, &turn, results);
            flight.lent.complete(turn.outcome(answer))?;
        }
        self.flights = flights;
        Ok(count)
    }

    /// Takes all orders out; the wave is idle afterwards.
    pub(super) fn empty(&mut self) -> Vec<Flight<'w>> {
        (self.tables_used, self.staging_used, self.armed) = (0, 0, false);
        self.entries.clear();
        self.outs.clear();
        core::mem::take(&mut self.flights)
    }
}

/// `len` bytes of an area, from `at` on.
fn part(area: NonNull<[u8]>, at: usize, len: usize) -> Option<NonNull<[u8]>> {
    let end = at.checked_add(len)?;
    if end > area.len() {
        return None;
    }
    // SAFETY: `at` lies within the area, or at its end.
    let start = unsafe { area.cast::<u8>().add(at) };
    Some(NonNull::slice_from_raw_parts(start, len))
}
