//! A wave: orders of many slots that travel to the device, through it and back together.
//!
//! A wave owns a stream, a stretch of device memory, and pinned memory for its tables and for
//! results that the host codes. While one wave copies, another computes and a third is finished by
//! the host. Its device memory:
//!
//! ```text
//!   | tables (mirror of the pinned ones) | scratch | logits of a tile | rows, replies, results |
//! ```

use super::{
    driver::{Context, DeviceMemory, Event, Fault, PinnedMemory, Stream},
    finish::{Finish, sign},
    host::Host,
    learned::Learned,
    lent::Leased,
    lm_head::Head,
    results::{ALIGN, Results},
    steps::{Entry, Key, Steps},
    widen::Columns,
};
use crate::{
    authors::{AuthorId, Authors},
    clock,
    coded::Coder,
    job::{Job, Turn},
};
use core::ptr::NonNull;
use kernels::cuda::ScatterJob;
use link::{Lent, LinkFault, door::Door};
use std::rc::Rc;
use wire::{
    Dtype, HEADER_LEN, Operation, Source, Work,
    reply::{self, Chunk, Layout},
};

/// Bytes of a wave's tables, and of rows that the host widens for lm-head.
pub(super) const TABLES_LEN: usize = 4 << 20;
/// Bytes that a launch may use as scratch. Launches of one wave follow each other, so they share.
pub(super) const SCRATCH_LEN: usize = 8 << 20;
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
    /// Bytes for rows, replies and results under way.
    pub(super) staging: usize,
    /// Pinned bytes of the host for results.
    pub(super) results: usize,
}

impl Sizes {
    /// All device memory of one wave.
    pub(super) const fn total(self) -> usize {
        TABLES_LEN + SCRATCH_LEN + self.logits + self.staging
    }

    /// All pinned memory of one wave.
    pub(super) const fn pinned(self) -> usize {
        TABLES_LEN + self.results
    }
}

/// An order and who signs its answer.
#[derive(Debug)]
pub(super) struct Flight<'w> {
    pub(super) lent: Lent<'w>,
    pub(super) author: AuthorId,
    /// Where the rows are, if not in the slot.
    pub(super) leased: Option<Leased>,
    /// Where its results begin, if they are to be coded.
    pub(super) results: usize,
}

/// What filling a wave needs to know of its surroundings.
pub(super) struct Around<'a> {
    pub(super) host: &'a Host,
    pub(super) authors: &'a mut Authors,
    pub(super) coder: &'a mut Coder,
    pub(super) model: Shapes<'a>,
}

/// What the shape of an answer, and of what it is made from, depends on besides its order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shapes<'a> {
    /// The projection, where there is one.
    pub(super) head: Option<&'a Head>,
    /// What hidden rows are coded with, where there is something.
    pub(super) learned: Option<&'a Learned>,
    /// For hidden rows that the host cannot widen for the projection.
    pub(super) columns: Option<&'a Columns>,
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
    results: PinnedMemory,
    sizes: Sizes,
    used: Need,
    flights: Vec<Flight<'w>>,
    entries: Vec<(Key, Entry)>,
    outs: Vec<Out>,
    started_ns: u64,
    armed: bool,
}

/// Bytes that an order may take, or that are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    pub(super) tables: usize,
    pub(super) staging: usize,
    pub(super) results: usize,
}

impl Need {
    /// Of an order whose answer has this shape, whatever is direct. `cols` are those of its rows.
    pub(super) fn of(shape: &Work, cols: u32) -> Self {
        let rows = shape.rows as usize;
        let cols = cols as usize;
        // The host widens rows into the tables, the device into its own memory by one more job.
        let (widened, on_device) = match (shape.operation, shape.source) {
            (Operation::LmHead, Source::Inline) => (cols * 4, 0),
            (Operation::LmHead, Source::CudaIpc) => (size_of::<ScatterJob>(), cols * 4),
            _ => (0, 0),
        };
        let tables = rows.saturating_mul(ROW_TABLES + widened).saturating_add(ORDER_TABLES);
        let mut need = Self { tables, staging: 0, results: 0 };
        let mut add = |len: usize| {
            need.staging = need.staging.saturating_add(len).saturating_add(ALIGN);
        };
        add(shape.data_len as usize);
        add(rows.saturating_mul(on_device));
        let mut results = 0_usize;
        for chunk in reply::chunks(shape) {
            match Results::of(shape, &chunk) {
                Some(stretch) => {
                    add(stretch.len());
                    add(stretch.between());
                    results = results.saturating_add(stretch.len());
                }
                None => add(Layout::of(shape, &chunk).map_or(0, |layout| layout.end())),
            }
        }
        need.results = results;
        need
    }
}

impl Shapes<'_> {
    /// The work whose layout the answer has: sets of lm-head are chosen from the projection's
    /// outputs, and projected rows have as many components as the basis gives them. `None` where
    /// the basis for it is not on the device.
    pub(super) fn shape(&self, work: &Work) -> Option<Work> {
        let Work { coding, cols, .. } = *work;
        match (work.operation, self.head) {
            (Operation::LmHead, Some(head)) => Some(Work { cols: head.vocabulary(), ..*work }),
            (Operation::LmHead, None) => None,
            (Operation::Hidden, _) if coding.needs_basis() => {
                Some(Work { k: self.learned?.components(coding, cols)?, ..*work })
            }
            _ => Some(*work),
        }
    }
}

impl<'w> Wave<'w> {
    pub(super) fn new(context: &Rc<Context>, sizes: Sizes) -> Result<Self, Fault> {
        Ok(Self {
            stream: Stream::new(context)?,
            done: Event::new(context, false)?,
            memory: DeviceMemory::new(context, sizes.total())?,
            tables: PinnedMemory::new(context, TABLES_LEN)?,
            results: PinnedMemory::new(context, sizes.results)?,
            sizes,
            used: Need::default(),
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
    pub(super) const fn has_room(&self, need: Need) -> bool {
        let Need { tables, staging, results } = need;
        tables <= TABLES_LEN - self.used.tables
            && staging <= self.sizes.staging - self.used.staging
            && results <= self.sizes.results - self.used.results
    }

    /// The first address for logits.
    const fn logits(&self) -> u64 {
        self.memory.address() + (TABLES_LEN + SCRATCH_LEN) as u64
    }

    /// A stretch of staging.
    fn stage(&mut self, len: usize) -> Option<u64> {
        let at = take(&mut self.used.staging, len, self.sizes.staging)?;
        Some(self.logits() + (self.sizes.logits + at) as u64)
    }

    /// A stretch of the tables: its offset, the same in pinned and in device memory.
    fn reserve(&mut self, len: usize) -> Option<usize> {
        take(&mut self.used.tables, len, TABLES_LEN)
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
        flight.results = self.used.results;
        let placed = self.place(&flight, around);
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
    fn place(&mut self, flight: &Flight<'w>, around: &mut Around<'_>) -> Result<bool, Fault> {
        let lent = &flight.lent;
        let Ok(job) = lent.payload().and_then(|bytes| Job::check(lent.order(), bytes)) else {
            return Ok(false);
        };
        let model = around.model;
        let Some(shape) = model.shape(&job.work) else { return Ok(false) };
        let product = model.head.is_some_and(|head| head.product(shape.dtype).is_some());
        let Some(key) = Key::of(&shape).map(|key| key.by(product)) else { return Ok(false) };
        let brought = self.bring(&job, &key, flight.leased.as_ref(), around)?;
        let Some((rows, stride)) = brought else { return Ok(false) };
        let (_, area) = lent.places();
        let mut written = 0;
        for chunk in reply::chunks(&job.work) {
            let first = rows + u64::from(chunk.first_row) * stride;
            let from = |row: u32| first + u64::from(row) * stride;
            if let Some(results) = Results::of(&shape, &chunk) {
                let at = self.results(results.len());
                let between = self.stage(results.between());
                let (Some(at), Some(between)) = (at, between) else { return Ok(false) };
                self.enter(key, &chunk, |row| results.entry(from(row), at, between, row));
                continue;
            }
            let Some(layout) = Layout::of(&shape, &chunk) else { return Ok(false) };
            let len = layout.end();
            let Some(place) = part(area, written + HEADER_LEN, len) else { return Ok(false) };
            let reply = match around.host.reply(place) {
                Some(direct) => direct,
                None => {
                    let Some(staged) = self.stage(len) else { return Ok(false) };
                    self.outs.push(Out { to: place.cast(), from: staged, len });
                    staged
                }
            };
            self.enter(key, &chunk, |row| Entry::of(&layout, from(row), reply, row));
            written += around.authors.frame_len(flight.author, shape.operation, len);
        }
        Ok(true)
    }

    /// Room for results that the host codes: the device writes them to its own memory, and they are
    /// copied to pinned memory.
    fn results(&mut self, len: usize) -> Option<u64> {
        let from = self.stage(len)?;
        let at = take(&mut self.used.results, len, self.sizes.results)?;
        let whole = NonNull::slice_from_raw_parts(self.results.start(), self.sizes.results);
        self.outs.push(Out { to: part(whole, at, len)?.cast(), from, len });
        Some(from)
    }

    /// Enters the rows of a chunk.
    fn enter(&mut self, key: Key, chunk: &Chunk, entry: impl Fn(u32) -> Option<Entry>) {
        let entries = (0..chunk.rows).filter_map(entry);
        self.entries.extend(entries.map(|entry| (key, entry)));
    }

    /// Where the device finds the rows of a job, in place or in a copy that is queued here, and how
    /// far apart they are.
    fn bring(
        &mut self,
        job: &Job<'_>,
        key: &Key,
        leased: Option<&Leased>,
        around: &Around<'_>,
    ) -> Result<Option<(u64, u64)>, Fault> {
        let stride = job.row_len() as u64;
        if let Some(leased) = leased {
            if key.is_widened() && job.work.dtype != Dtype::F32 {
                return Ok(self.widen_there(&job.work, leased, around.model.columns));
            }
            return Ok(Some((leased.rows, leased.stride)));
        }
        if key.is_widened() {
            return Ok(self.widen(job).map(|rows| (rows, u64::from(job.work.cols) * 4)));
        }
        let place = NonNull::from(job.data);
        if let Some(direct) = around.host.rows(place) {
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

    /// Lent rows as f32 in staging, once the device has widened them: where, and how far apart.
    fn widen_there(
        &mut self,
        work: &Work,
        leased: &Leased,
        columns: Option<&Columns>,
    ) -> Option<(u64, u64)> {
        let columns = columns.filter(|columns| columns.count() == work.cols)?;
        let stride = u64::from(work.cols) * 4;
        let to = self.stage(usize::try_from(u64::from(work.rows) * stride).ok()?)?;
        let key = Key::of_widening(work.dtype, work.cols);
        let entries = (0..u64::from(work.rows)).map(|row| {
            let from = leased.rows + row * leased.stride;
            (key, Entry::Widen(columns.job(from, to + row * stride)))
        });
        self.entries.extend(entries);
        Some((to, stride))
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
        unsafe { self.stream.copy_in(base, self.tables.start(), self.used.tables) }?;
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
            let results = self.results.bytes_mut().get_mut(flight.results..).unwrap_or_default();
            let finish = Finish { results, stream: &self.stream };
            let answer = sign(&mut flight, around, &turn, finish);
            flight.lent.complete(turn.outcome(answer))?;
        }
        self.flights = flights;
        Ok(count)
    }

    /// Takes all orders out; the wave is idle afterwards.
    pub(super) fn empty(&mut self) -> Vec<Flight<'w>> {
        (self.used, self.armed) = (Need::default(), false);
        self.entries.clear();
        self.outs.clear();
        core::mem::take(&mut self.flights)
    }
}

/// Takes `len` bytes of `whole` behind those that are `used`: their offset.
fn take(used: &mut usize, len: usize, whole: usize) -> Option<usize> {
    let at = *used;
    let end = at.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
    if end > whole {
        return None;
    }
    *used = end;
    Some(at)
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
