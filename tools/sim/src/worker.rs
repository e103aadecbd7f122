//! Simulated workers: they read the order and the rows from the slot, write well-formed replies,
//! and now and then stall, lie, state nonsense, or die at any point in between.

use crate::{
    custody::Holder,
    driver::{EPOCH_NS, Queued},
    plan::OPERATIONS,
    world::{Due, World},
};
use dataplane_core::{
    driver::{Time, WorkerId},
    limits::MS,
    memory::SlotId,
};
use std::collections::VecDeque;
use wire::{
    ErrorCode, HEADER_LEN, Order, Outcome,
    payload::TensorWork,
    reply::{self, Author, Layout, Stamp},
};

/// A worker process.
#[derive(Debug)]
pub struct SimWorker {
    alive: bool,
    /// Lives so far: what was scheduled for an earlier one is void.
    life: u32,
    batches: VecDeque<Vec<SlotId>>,
    busy: bool,
    author: Author,
}

impl SimWorker {
    /// A worker that has not started yet.
    #[must_use]
    pub fn new(index: u16) -> Self {
        Self {
            alive: false,
            life: 0,
            batches: VecDeque::new(),
            busy: false,
            author: Author::new(
                &format!("worker-{index}"),
                "simulated",
                "the simulator has no other",
            ),
        }
    }
}

/// The indices that a simulated worker selects in one row of a chunk.
#[must_use]
pub fn top_row(id: u64, row: u32, work: &TensorWork) -> Vec<u32> {
    let start = (id as u32).wrapping_mul(31).wrapping_add(row * 7);
    (0..work.k.min(work.cols)).map(|j| start.wrapping_add(j) % work.cols).collect()
}

/// The int8 code that a simulated worker gives an element.
#[must_use]
pub fn code(id: u64, element: &[u8]) -> i8 {
    (element[0] ^ id as u8) as i8
}

/// Writes all frames of an answer, or says why not.
fn answer(
    order: &Order,
    request: &[u8],
    out: &mut [u8],
    author: &mut Author,
    now: Time,
) -> Result<(u16, u32), ErrorCode> {
    let work = order.work()?;
    let payload = request.get(..order.payload_len as usize).ok_or(ErrorCode::BadRequest)?;
    if order.deadline_ns != 0 && now >= order.deadline_ns {
        return Err(ErrorCode::DeadlineExceeded);
    }
    if !wire::request::verify(payload, &work) {
        return Err(ErrorCode::BadCheck);
    }
    let rows = wire::request::rows(payload, &work).ok_or(ErrorCode::BadRequest)?;
    let row_len = rows.len() / work.rows as usize;
    let (mut at, mut frames) = (0, 0);
    for chunk in reply::chunks(&work) {
        let layout = Layout::of(&work, &chunk).ok_or(ErrorCode::NoCapableWorker)?;
        let first = chunk.first_row as usize * row_len;
        let mine = &rows[first..first + chunk.rows as usize * row_len];
        let frame = out.get_mut(at..).ok_or(ErrorCode::ReplyTooLong)?;
        fill(order.message_id, &work, &layout, mine, &mut frame[HEADER_LEN..])?;
        let stamp = Stamp {
            message_id: order.message_id,
            timestamp_ns: EPOCH_NS + now,
            query_id: wire::request::query_id(payload),
            operation: work.operation,
            compute_ns: 1,
            chunk,
        };
        at += reply::finish(frame, &layout, author, &stamp)?;
        frames += 1;
    }
    Ok((frames, at as u32))
}

/// Fills the parts of one chunk.
fn fill(
    id: u64,
    work: &wire::Work,
    layout: &Layout,
    rows: &[u8],
    payload: &mut [u8],
) -> Result<(), ErrorCode> {
    let short = |_| ErrorCode::ReplyTooLong;
    match layout {
        Layout::Echo(echo) => echo.parts(payload).map_err(short)?.data.copy_from_slice(rows),
        Layout::Int8(int8) => {
            let parts = int8.parts(payload).map_err(short)?;
            let elements = rows.chunks_exact(work.dtype.size());
            parts.codes.iter_mut().zip(elements).for_each(|(c, e)| *c = code(id, e));
            parts.scales.fill(1.0);
            parts.flags.fill(0);
        }
        Layout::TopK(top) => {
            let parts = top.parts(payload).map_err(short)?;
            let asked = TensorWork::topk(work.dtype, work.rows, work.cols, work.k, work.values);
            let entries = parts.indices.chunks_exact_mut(work.k as usize);
            for (row, (count, entries)) in parts.counts.iter_mut().zip(entries).enumerate() {
                let chosen = top_row(id, row as u32, &asked);
                *count = chosen.len() as u32;
                entries[..chosen.len()].copy_from_slice(&chosen);
            }
            parts.values.fill(0);
            parts.max.fill(0.0);
            parts.log_sum.fill(0.0);
            parts.flags.fill(0);
        }
        // These workers do not code rows, and say so.
        Layout::Coded(_) => return Err(ErrorCode::NoCapableWorker),
    }
    Ok(())
}

impl World {
    /// A worker starts, or starts again.
    pub(crate) fn worker_up(&mut self, worker: WorkerId) {
        let state = &mut self.workers[worker.0 as usize];
        state.alive = true;
        self.driver.events.push_back(Queued::Up(worker, OPERATIONS));
    }

    /// The OS has noticed that a worker is gone.
    pub(crate) fn worker_down(&mut self, worker: WorkerId) {
        for slot in
            self.custody.slots(|h| matches!(h, Holder::Lent { worker: w, .. } if w == worker))
        {
            self.mem.poison_reply(slot);
        }
        self.driver.events.push_back(Queued::Down(worker));
        let rest = self.rng.below(5 * MS);
        self.after(rest + 1, Due::WorkerUp(worker));
    }

    /// A batch arrived at a worker.
    pub(crate) fn lent(&mut self, worker: WorkerId, slots: Vec<SlotId>) {
        for slot in &slots {
            self.mem.poison_reply(*slot);
        }
        let state = &mut self.workers[worker.0 as usize];
        if !state.alive {
            // Lent between its death and the moment the OS says so.
            return;
        }
        state.batches.push_back(slots);
        self.worker_next(worker);
    }

    fn worker_next(&mut self, worker: WorkerId) {
        let state = &mut self.workers[worker.0 as usize];
        if state.busy || state.batches.is_empty() || self.stalled {
            return;
        }
        state.busy = true;
        let life = state.life;
        let requests = state.batches.front().map_or(0, Vec::len) as Time;
        let mut service = self.rng.below(self.plan.service_max + 1);
        service += self.plan.service_each * requests;
        if self.rng.chance(self.plan.faults.stalls) {
            service += self.rng.below(60 * MS);
        }
        self.after(service, Due::Work(worker, life, true));
    }

    /// Lets workers take no new batch, or go on.
    pub fn stall_workers(&mut self, stalled: bool) {
        self.stalled = stalled;
        for index in 0..self.workers.len() as u16 {
            self.worker_next(WorkerId(index));
        }
    }

    /// Kills a worker where it stands.
    pub fn kill_worker(&mut self, worker: WorkerId) {
        let state = &mut self.workers[worker.0 as usize];
        if !state.alive {
            return;
        }
        state.alive = false;
        state.busy = false;
        state.life += 1;
        state.batches.clear();
        let unnoticed = self.rng.below(2 * MS);
        self.note(format_args!("{worker:?} dies"));
        self.after(unnoticed, Due::WorkerDown(worker));
    }

    /// A worker is through with its batch, or through with what it does before it lies or dies.
    pub(crate) fn work(&mut self, worker: WorkerId, life: u32, may_lie: bool) {
        let state = &self.workers[worker.0 as usize];
        if state.life != life || !state.alive {
            return;
        }
        let Some(batch) = state.batches.front().cloned() else { return };
        if may_lie && self.rng.chance(self.plan.faults.lies) && self.lie(worker, &batch) {
            let pause = 1 + self.rng.below(MS);
            self.after(pause, Due::Work(worker, life, false));
            return;
        }
        let faults = &self.plan.faults;
        let dies = self.rng.chance(faults.crashes) && !self.calm;
        let survives = if dies { self.rng.below(batch.len() as u64 + 1) } else { u64::MAX };
        for (index, slot) in batch.iter().enumerate() {
            if index as u64 == survives {
                if self.rng.chance(50) {
                    // All but the completion itself: written, and never said.
                    self.state_outcome(worker, *slot);
                }
                break;
            }
            // What is run again is run from the same bytes.
            if self.state_outcome(worker, *slot) {
                self.mem.poison_request(*slot);
            }
            self.driver.events.push_back(Queued::Completed(worker, *slot));
        }
        if dies {
            self.kill_worker(worker);
            return;
        }
        let state = &mut self.workers[worker.0 as usize];
        state.batches.pop_front();
        state.busy = false;
        self.worker_next(worker);
    }

    /// Computes one slot and states the outcome; false for one that may have to be computed again:
    /// it cannot be, or goes by the deadline of whoever asked first.
    fn state_outcome(&mut self, worker: WorkerId, slot: SlotId) -> bool {
        let author = &mut self.workers[worker.0 as usize].author;
        let (order, request, out) = self.mem.lent(slot);
        let answered = answer(&order, request, out, author, self.now);
        let mut outcome = Outcome { lending: order.lending, compute_ns: 1, ..Outcome::default() };
        outcome.started_ns = self.now;
        match answered {
            Ok((frames, reply_len)) => {
                outcome.frames = frames;
                outcome.reply_len = reply_len;
                outcome.copied = reply_len;
            }
            Err(code) => outcome.status = code.code(),
        }
        let bad = self.rng.chance(self.plan.faults.bad_outcomes);
        if bad {
            match self.rng.below(3) {
                0 => outcome.status = self.rng.range(1_000, 60_000) as u16,
                1 => outcome.reply_len = self.rng.below(HEADER_LEN as u64) as u32,
                _ => outcome.reply_len = u32::MAX - self.rng.below(1 << 20) as u32,
            }
            self.bad_outcomes += 1;
        }
        self.mem.state_outcome(slot, outcome);
        self.custody.put(slot, Holder::Lent { worker, written: true });
        !bad && outcome.status != ErrorCode::DeadlineExceeded.code()
    }

    /// Pushes a completion that must change nothing. True when the batch has to wait for it to be
    /// seen.
    fn lie(&mut self, worker: WorkerId, batch: &[SlotId]) -> bool {
        let slots = self.plan.geometry.slots();
        let (slot, waits) = match self.rng.below(4) {
            0 => (SlotId(slots + self.rng.below(10) as u32), false),
            1 => (SlotId(u32::MAX), false),
            2 => (SlotId(self.rng.below(u64::from(slots)) as u32), false),
            _ => {
                // Its own slot, with the number of an earlier lending. (Later numbers would be
                // forgery, which nothing but the worker's honesty guards against: it can as well
                // write a wrong answer.)
                let slot = batch[self.rng.below(batch.len() as u64) as usize];
                let (order, ..) = self.mem.lent(slot);
                let lending = order.lending.wrapping_sub(self.rng.range(1, 3) as u32);
                self.mem.state_outcome(slot, Outcome { lending, ..Outcome::default() });
                (slot, true)
            }
        };
        self.driver.events.push_back(Queued::Completed(worker, slot));
        waits
    }
}
