//! Kernels over made-up rows, timed: for the choice between the sides at the start, and for
//! benches.

use super::{
    driver::{Context, DeviceMemory, Event, Fault, PinnedMemory, Stream},
    kernels::Kernels,
    lm_head::{self, Head},
    steps::{Entry, Key, Steps},
    wave::{SCRATCH_LEN, TABLES_LEN},
};
use core::ptr::NonNull;
use kernels::{cast, cuda::Tuning};
use std::{rc::Rc, time::Instant};
use wire::{
    Coding, Dtype, Operation, Source, Work,
    reply::{self, Layout},
};

/// Made-up rows are repeated after so many bytes.
pub(super) const PATTERN: usize = 8 << 20;

/// Where rows come from and replies go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel {
    /// Rows are on the device, and so stay the replies.
    Resident,
    /// Rows are copied from pinned memory of the host, replies to it.
    FromHost,
}

/// What is computed in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What.
    pub operation: Operation,
    /// Element type of the rows. Hidden rows of another type than the weights' are f32.
    pub dtype: Dtype,
    /// Rows.
    pub rows: u32,
    /// Columns of the rows that the sets are chosen from, or of the hidden rows for int8.
    pub cols: u32,
    /// Entries of a set.
    pub k: u32,
}

impl Case {
    fn work(&self) -> Work {
        let &Self { operation, dtype, rows, cols, k } = self;
        Work {
            operation,
            dtype,
            values: Dtype::F16,
            coding: Coding::Plain,
            source: Source::Inline,
            quality: 0.0,
            streaming: false,
            k,
            rows,
            cols,
            data_offset: 0,
            data_len: 0,
            check: None,
        }
    }
}

/// One case, ready to run any number of times.
pub(super) struct Trial<'a> {
    stream: Stream,
    from: Event,
    to: Event,
    steps: Steps<'a>,
    memory: DeviceMemory,
    tables: PinnedMemory,
    host: PinnedMemory,
    tables_used: usize,
    rows_at: u64,
    rows_len: usize,
    reply_at: u64,
    reply_len: usize,
}

impl<'a> Trial<'a> {
    /// Takes memory for a case and puts rows there.
    pub(super) fn new(
        context: &Rc<Context>,
        kernels: &'a Kernels,
        tuning: Tuning,
        head: Option<&'a Head>,
        case: &Case,
    ) -> Result<Self, Fault> {
        let work = case.work();
        let chunk = reply::chunks(&work).next().ok_or_else(Fault::no_room)?;
        let layout = Layout::of(&work, &chunk).ok_or_else(Fault::no_room)?;
        let product = head.is_some_and(|head| head.product(case.dtype).is_some());
        let key = Key::of(&work).map(|key| key.by(product)).ok_or_else(Fault::no_room)?;
        let logits = if key.is_head() { lm_head::logits_len(case.cols as usize) } else { 0 };
        let row_len = match head {
            Some(head) if key.is_widened() => head.width() as usize * 4,
            Some(head) if key.is_head() => head.width() as usize * 2,
            _ => case.cols as usize * case.dtype.size(),
        };
        let rows_len = (row_len * case.rows as usize).next_multiple_of(256);
        let reply_len = layout.end();
        let fixed = TABLES_LEN + SCRATCH_LEN + logits;
        let memory = DeviceMemory::new(context, fixed + rows_len + reply_len)?;
        let mut host = PinnedMemory::new(context, rows_len.max(reply_len).min(PATTERN))?;
        make_up(if key.is_widened() { Dtype::F32 } else { case.dtype }, host.bytes_mut());
        let rows_at = memory.address() + fixed as u64;
        let mut trial = Self {
            stream: Stream::new(context)?,
            from: Event::new(context, true)?,
            to: Event::new(context, true)?,
            steps: Steps::new(kernels, tuning, head),
            rows_at,
            rows_len,
            reply_at: rows_at + rows_len as u64,
            reply_len,
            memory,
            tables: PinnedMemory::new(context, TABLES_LEN)?,
            host,
            tables_used: 0,
        };
        let entries: Vec<_> = (0..case.rows)
            .filter_map(|row| {
                let from = rows_at + u64::from(row) * row_len as u64;
                Some((key, Entry::of(&layout, from, trial.reply_at, row)?))
            })
            .collect();
        trial.lay_out(&entries, logits)?;
        trial.bring()?;
        trial.stream.synchronize()?;
        Ok(trial)
    }

    fn lay_out(&mut self, entries: &[(Key, Entry)], logits: usize) -> Result<(), Fault> {
        let base = self.memory.address();
        let first = base + (TABLES_LEN + SCRATCH_LEN) as u64;
        let (tables, used) = (self.tables.bytes_mut(), &mut self.tables_used);
        let planned = self.steps.plan(entries, (first, logits), |bytes| {
            let at = *used;
            tables.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            *used = (at + bytes.len()).next_multiple_of(256);
            Some(base + at as u64)
        });
        if !planned {
            return Err(Fault::no_room());
        }
        // SAFETY: the mirror of the tables, which are not written again.
        unsafe { self.stream.copy_in(base, self.tables.start(), self.tables_used.min(TABLES_LEN)) }
    }

    /// Queues the copy of all rows to the device.
    fn bring(&mut self) -> Result<(), Fault> {
        let whole = self.host.bytes_mut().len();
        let mut at = 0;
        while at < self.rows_len {
            let len = whole.min(self.rows_len - at);
            // SAFETY: `len` bytes of pinned memory that are not written again, to this trial's.
            unsafe { self.stream.copy_in(self.rows_at + at as u64, self.host.start(), len) }?;
            at += len;
        }
        Ok(())
    }

    /// Queues one run.
    fn queue(&mut self, travel: Travel) -> Result<(), Fault> {
        if travel == Travel::FromHost {
            self.bring()?;
        }
        let scratch = self.memory.address() + TABLES_LEN as u64;
        // SAFETY: all addresses lie in this trial's memory, which one stream uses.
        unsafe { self.steps.launch(&self.stream, scratch) }?;
        if travel == Travel::FromHost {
            let len = self.reply_len.min(self.host.bytes_mut().len());
            let to: NonNull<u8> = self.host.start();
            // SAFETY: as long as the pinned memory; what is read back spoils made-up rows only.
            unsafe { self.stream.copy_out(to, self.reply_at, len) }?;
        }
        Ok(())
    }

    /// Seconds of one run alone, as the host sees them, the wait for its end included: the least of
    /// a few.
    pub(super) fn alone(&mut self, travel: Travel) -> Result<f64, Fault> {
        let begun = Instant::now();
        let mut best = f64::INFINITY;
        // The first run warms up; a slow device is not asked often.
        for round in 0..12 {
            let start = Instant::now();
            self.queue(travel)?;
            self.to.record(&self.stream)?;
            while !self.to.is_done()? {}
            best = best.min(start.elapsed().as_secs_f64());
            if round >= 1 && begun.elapsed().as_secs_f64() > 2e-3 {
                break;
            }
        }
        Ok(best)
    }

    /// Seconds of one run among `count` in a row, by the device's clock.
    pub(super) fn steady(&mut self, travel: Travel, count: u32) -> Result<f64, Fault> {
        self.queue(travel)?;
        self.from.record(&self.stream)?;
        for _ in 0..count {
            self.queue(travel)?;
        }
        self.to.record(&self.stream)?;
        self.stream.synchronize()?;
        Ok(self.to.seconds_since(&self.from)? / f64::from(count.max(1)))
    }
}

/// Numbers like logits, finite, no two alike in a row for long.
pub(super) fn make_up(dtype: Dtype, bytes: &mut [u8]) {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 - 0.5) * 16.0
    };
    let size = dtype.size();
    for place in bytes.chunks_exact_mut(64 * size) {
        let values: [f32; 64] = core::array::from_fn(|_| next());
        match dtype {
            Dtype::F16 => cast::to_f16(&values, bytemuck::cast_slice_mut(place)),
            Dtype::Bf16 => cast::to_bf16(&values, bytemuck::cast_slice_mut(place)),
            Dtype::F32 | Dtype::U8 => place.copy_from_slice(bytemuck::cast_slice(&values)),
        }
    }
}
