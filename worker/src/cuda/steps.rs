//! The launches of a wave: rows of the same shape, from however many slots, in one.

use super::{
    driver::{Arg, Fault, Function, Stream},
    kernels::Kernels,
    learned::Learned,
    lm_head::Head,
    lt::WORKSPACE_LEN,
    results::row_len,
    wave::SCRATCH_LEN,
    widen::Columns,
};
use core::cmp::Ordering;
use kernels::cuda::{
    ROWS_MAX, RowJob, ScatterJob, TopKJob, Tuning, center_plan, dense_plan, int8_channel_plan,
    int8_group_plan, int8_row_plan, project_plan, topk_plan,
};
use wire::{
    Coding, Dtype, Operation, Work,
    reply::{CodedReply, Int8Reply, Layout, TopKReply},
};

/// Bytes of the scratch for hidden rows that are brought together.
const GATHER_LEN: usize = SCRATCH_LEN - WORKSPACE_LEN;

/// Rows that can share a launch have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    operation: Operation,
    /// Of hidden rows: `int8-channel`, `int8-group`, or `rotated`, which stands for all that are
    /// projected.
    coding: Coding,
    dtype: Dtype,
    values: Dtype,
    cols: u32,
    /// Entries of a set, or components of a projected row.
    k: u32,
    /// Hidden rows as they came, for the library; otherwise they are f32, for our kernel.
    as_came: bool,
}

impl Key {
    /// The key of rows of this shape; `None` for what no kernel computes.
    pub(super) const fn of(shape: &Work) -> Option<Self> {
        let &Work { operation, coding, dtype, values, cols, k, .. } = shape;
        // The host codes sets, from values as they are computed.
        let values = if coding.is_set() { Dtype::F32 } else { values };
        let set = Self { operation, coding: Coding::Plain, dtype, values, cols, k, as_came: false };
        let row = Self { values: Dtype::F32, k: 0, ..set };
        match (operation, coding) {
            (Operation::TopK, _) => Some(set),
            // Logits are f32, whatever the hidden rows were.
            (Operation::LmHead, _) => Some(Self { dtype: Dtype::F32, ..set }),
            (Operation::Int8, _) => Some(row),
            (Operation::Hidden, Coding::Int8Channel | Coding::Int8Group) => {
                Some(Self { coding, ..row })
            }
            (Operation::Hidden, Coding::Rotated | Coding::Pca) => {
                Some(Self { coding: Coding::Rotated, k, ..row })
            }
            _ => None,
        }
    }

    /// The key of rows that are only widened. Such steps come first.
    pub(super) const fn of_widening(dtype: Dtype, cols: u32) -> Self {
        let (operation, coding) = (Operation::Echo, Coding::Plain);
        Self { operation, coding, dtype, values: Dtype::F32, cols, k: 0, as_came: false }
    }

    pub(super) const fn is_head(&self) -> bool {
        matches!(self.operation, Operation::LmHead)
    }

    /// The same, its logits made by the library where there is a `product` for its rows.
    pub(super) const fn by(self, product: bool) -> Self {
        Self { as_came: product && self.is_head(), ..self }
    }

    /// True where f32 is made of the rows.
    pub(super) const fn is_widened(&self) -> bool {
        self.is_head() && !self.as_came
    }

    const fn rank(&self) -> (u8, u8, u8, u8, u32, u32, bool) {
        let Self { operation, coding, dtype, values, cols, k, as_came } = self;
        (operation.code(), coding.code(), dtype.code(), values.code(), *cols, *k, *as_came)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// One row: where it is, and where what is made of it goes. Addresses as the device sees them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    TopK(TopKJob),
    Row(RowJob),
    /// A hidden row to be centred, and where what its projection is made of goes.
    Project {
        center: RowJob,
        out: u64,
    },
    /// A row to be widened.
    Widen(ScatterJob),
}

impl Entry {
    /// Row `row` of a reply whose parts begin at `reply`, made from what lies at `from`.
    pub(super) fn of(layout: &Layout, from: u64, reply: u64, row: u32) -> Option<Self> {
        let row = row as usize;
        let part = |pos: usize, stride: usize| reply + (pos + row * stride) as u64;
        match layout {
            Layout::TopK(TopKReply {
                k,
                values_dtype,
                indices,
                values,
                counts,
                max,
                log_sum,
                flags,
                ..
            }) => {
                let k = *k as usize;
                Some(Self::TopK(TopKJob {
                    row: from,
                    indices: part(indices.pos, k * 4),
                    values: part(values.pos, k * values_dtype.size()),
                    count: part(counts.pos, 4),
                    max: part(max.pos, 4),
                    log_sum: part(log_sum.pos, 4),
                    flags: part(flags.pos, 1),
                }))
            }
            Layout::Int8(Int8Reply { cols, codes, scales, flags, .. }) => Some(Self::Row(RowJob {
                row: from,
                codes: part(codes.pos, *cols as usize),
                scales: part(scales.pos, 4),
                flags: part(flags.pos, 1),
            })),
            // Rows as they are in the answer: scales, if any, then codes.
            Layout::Coded(CodedReply { cols, coding, flags, data, .. }) => {
                let cols = *cols as usize;
                let stride = row_len(*coding, cols);
                Some(Self::Row(RowJob {
                    row: from,
                    codes: part(data.pos + stride - cols, stride),
                    scales: part(data.pos, stride),
                    flags: part(flags.pos, 1),
                }))
            }
            Layout::Echo(_) => None,
        }
    }
}

/// How the rows of a step are multiplied before the rest.
#[derive(Clone, Copy, Debug)]
enum Project {
    /// By our kernel: tables of hidden rows and of their logits, or of centred rows and of their
    /// components.
    Kernel { rows: u64, outs: u64 },
    /// By the library: where in `gather` the addresses of the rows begin, and the first logits.
    Library { from: usize, logits: u64 },
}

/// One launch, or the few that belong together.
#[derive(Clone, Copy, Debug)]
struct Step {
    key: Key,
    rows: u32,
    /// Table of jobs.
    jobs: u64,
    project: Option<Project>,
}

/// The launches of a wave, planned and then made.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) tuning: Tuning,
    pub(super) head: Option<&'a Head>,
    pub(super) learned: Option<&'a Learned>,
    pub(super) columns: Option<&'a Columns>,
    steps: Vec<Step>,
    /// Addresses of hidden rows that are to be brought together.
    gather: Vec<u64>,
    /// Tables of jobs, and of rows to project and their places.
    bytes: [Vec<u8>; 3],
}

/// Rows of `want` whose top-k fits the scratch; 0 where not even one does.
fn rows_that_fit(tuning: Tuning, want: u32, cols: u32, k: u32) -> u32 {
    let fits = |rows: u32| {
        let plan = topk_plan(rows, cols, k, tuning);
        plan.is_some_and(|plan| plan.scratch_len <= SCRATCH_LEN as u64)
    };
    let mut rows = want;
    while rows > 0 && !fits(rows) {
        rows /= 2;
    }
    rows
}

impl<'a> Steps<'a> {
    pub(super) const fn new(kernels: &'a Kernels, tuning: Tuning, head: Option<&'a Head>) -> Self {
        Self {
            kernels,
            tuning,
            head,
            learned: None,
            columns: None,
            steps: Vec::new(),
            gather: Vec::new(),
            bytes: [const { Vec::new() }; 3],
        }
    }

    /// Cuts sorted entries into steps and writes their tables through `write`, which gives a
    /// table's address. False where something does not fit.
    pub(super) fn plan(
        &mut self,
        entries: &[(Key, Entry)],
        logits: (u64, usize),
        mut write: impl FnMut(&[u8]) -> Option<u64>,
    ) -> bool {
        self.steps.clear();
        self.gather.clear();
        for group in entries.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((key, _)) = group.first() else { continue };
            let mut rest = group;
            while !rest.is_empty() {
                let most = self.most(key, rest.len(), logits.1);
                let Some((now, later)) = rest.split_at_checked(most).filter(|_| most > 0) else {
                    return false;
                };
                let Some(step) = self.step(key, now, logits.0, &mut write) else { return false };
                self.steps.push(step);
                rest = later;
            }
        }
        true
    }

    /// Most rows of one step.
    fn most(&self, key: &Key, rows: usize, logits: usize) -> usize {
        let rows = u32::try_from(rows).unwrap_or(ROWS_MAX).min(ROWS_MAX);
        let most = match key.operation {
            Operation::Int8 | Operation::Hidden | Operation::Echo => rows,
            Operation::LmHead => {
                let tile = logits / (key.cols as usize * 4).max(1);
                let row = self.head.map_or(1, |head| head.width() as usize * 2);
                let tile = if key.as_came { tile.min(GATHER_LEN / row) } else { tile };
                rows_that_fit(self.tuning, rows.min(tile as u32), key.cols, key.k)
            }
            _ => rows_that_fit(self.tuning, rows, key.cols, key.k),
        };
        most as usize
    }

    fn step(
        &mut self,
        key: &Key,
        entries: &[(Key, Entry)],
        logits: u64,
        write: &mut impl FnMut(&[u8]) -> Option<u64>,
    ) -> Option<Step> {
        let rows = u32::try_from(entries.len()).ok()?;
        let gathered = self.gather.len();
        let [jobs, from, to] = &mut self.bytes;
        [&mut *jobs, &mut *from, &mut *to].into_iter().for_each(Vec::clear);
        for (at, (_, entry)) in entries.iter().enumerate() {
            match entry {
                Entry::TopK(job) if key.is_head() => {
                    let row = logits + (at * key.cols as usize * 4) as u64;
                    if key.as_came {
                        self.gather.push(job.row);
                    } else {
                        from.extend_from_slice(&job.row.to_ne_bytes());
                        to.extend_from_slice(&row.to_ne_bytes());
                    }
                    jobs.extend_from_slice(bytemuck::bytes_of(&TopKJob { row, ..*job }));
                }
                Entry::TopK(job) => jobs.extend_from_slice(bytemuck::bytes_of(job)),
                Entry::Widen(job) => jobs.extend_from_slice(bytemuck::bytes_of(job)),
                Entry::Row(job) => jobs.extend_from_slice(bytemuck::bytes_of(job)),
                Entry::Project { center, out } => {
                    from.extend_from_slice(&center.codes.to_ne_bytes());
                    to.extend_from_slice(&out.to_ne_bytes());
                    jobs.extend_from_slice(bytemuck::bytes_of(center));
                }
            }
        }
        let mut project = None;
        if key.is_head() && key.as_came {
            project = Some(Project::Library { from: gathered, logits });
        } else if !from.is_empty() {
            project = Some(Project::Kernel { rows: write(from)?, outs: write(to)? });
        }
        Some(Step { key: *key, rows, jobs: write(jobs)?, project })
    }

    /// Queues what was planned.
    ///
    /// # Safety
    /// The tables are on the device before these launches run; every address in them is valid, with
    /// room for what the kernels read and write there, and used by nothing else until `stream` is
    /// through; `scratch` is [`SCRATCH_LEN`] bytes of device memory, likewise.
    pub(super) unsafe fn launch(&self, stream: &Stream, scratch: u64) -> Result<(), Fault> {
        for step in &self.steps {
            let &Step { key, rows, jobs, .. } = step;
            match key.operation {
                Operation::Int8 => {
                    let kernel = find(self.kernels.int8_row.of(key.dtype))?;
                    let plan = planned(int8_row_plan(rows, key.cols, self.tuning))?;
                    // Neither a mean nor masked columns.
                    let args = [Arg::U64(jobs), Arg::U32(key.cols), Arg::U64(0), Arg::U64(0)];
                    // SAFETY: as this function.
                    unsafe { stream.launch(kernel, &plan, &args) }?;
                }
                Operation::Echo => {
                    let columns = self.columns.filter(|columns| columns.count() == key.cols);
                    let args = columns.ok_or_else(Fault::no_room)?.args(jobs, key.dtype);
                    let plan = planned(dense_plan(rows, key.cols, self.tuning))?;
                    // SAFETY: as this function; there are as many columns as the rows have.
                    unsafe { stream.launch(self.kernels.scatter_topk, &plan, &args) }?;
                }
                // SAFETY: as this function.
                Operation::Hidden => unsafe { self.hidden(stream, step) }?,
                _ => {
                    // SAFETY: as this function.
                    unsafe { self.logits(stream, step, scratch) }?;
                    // SAFETY: as this function.
                    unsafe { self.topk(stream, &key, rows, jobs, scratch) }?;
                }
            }
        }
        Ok(())
    }

    /// Queues the product of lm-head, where a step begins with it.
    ///
    /// # Safety
    /// As [`Steps::launch`].
    unsafe fn logits(&self, stream: &Stream, step: &Step, scratch: u64) -> Result<(), Fault> {
        let &Step { key, rows, project, .. } = step;
        match (project, self.head) {
            (Some(Project::Kernel { rows: hidden, outs }), Some(head)) => {
                let plan = planned(project_plan(rows, key.cols, self.tuning))?;
                let args = head.args(hidden, rows, outs);
                let kernel = find(self.kernels.project.of(head.dtype()))?;
                // SAFETY: as this function; the weights have the shape that `args` states.
                unsafe { stream.launch(kernel, &plan, &args) }
            }
            (Some(Project::Library { from, logits }), Some(head)) => {
                let hidden = self.gather.get(from..).unwrap_or_default();
                let hidden = hidden.get(..rows as usize).unwrap_or_default();
                // SAFETY: as this function.
                unsafe { multiply(stream, head, hidden, logits, scratch) }
            }
            _ => Ok(()),
        }
    }

    /// Queues a step of hidden rows.
    ///
    /// # Safety
    /// As [`Steps::launch`].
    unsafe fn hidden(&self, stream: &Stream, step: &Step) -> Result<(), Fault> {
        let &Step { key, rows, jobs, project, .. } = step;
        let (all, cols) = (Arg::U64(jobs), Arg::U32(key.cols));
        if key.coding == Coding::Int8Group {
            let kernel = find(self.kernels.int8_group.of(key.dtype))?;
            let plan = planned(int8_group_plan(rows, key.cols, self.tuning))?;
            // SAFETY: as this function.
            return unsafe { stream.launch(kernel, &plan, &[all, cols]) };
        }
        // Without a basis, or with one for other rows, no such step is planned.
        let learned = self.learned.filter(|learned| learned.width() == key.cols);
        let learned = learned.ok_or_else(Fault::no_room)?;
        let Some(Project::Kernel { rows: centred, outs }) = project else {
            let kernel = find(self.kernels.int8_channel.of(key.dtype))?;
            let plan = planned(int8_channel_plan(rows, key.cols, self.tuning))?;
            let args = [all, cols, learned.mean(), learned.scale()];
            // SAFETY: as this function; there are as many means and scales as columns.
            return unsafe { stream.launch(kernel, &plan, &args) };
        };
        let rotation = learned.components(Coding::Rotated, key.cols);
        if rotation.is_none_or(|most| key.k > most) {
            return Err(Fault::no_room());
        }
        let kernel = find(self.kernels.center.of(key.dtype))?;
        let plan = planned(center_plan(rows, self.tuning))?;
        // SAFETY: as this function; there are as many means as columns.
        unsafe { stream.launch(kernel, &plan, &[all, cols, learned.mean()]) }?;
        let kernel = find(self.kernels.project.of(Dtype::F32))?;
        let plan = planned(project_plan(rows, key.k, self.tuning))?;
        let args = learned.args(centred, rows, key.k, outs);
        // SAFETY: as this function; the rotation is square, and `k` is no more than its width.
        unsafe { stream.launch(kernel, &plan, &args) }
    }

    /// # Safety
    /// As [`Steps::launch`].
    unsafe fn topk(
        &self,
        stream: &Stream,
        key: &Key,
        rows: u32,
        jobs: u64,
        scratch: u64,
    ) -> Result<(), Fault> {
        let plan = planned(topk_plan(rows, key.cols, key.k, self.tuning))?;
        let (jobs, cols, k) = (Arg::U64(jobs), Arg::U32(key.cols), Arg::U32(key.k));
        let (split, scratch) = (Arg::U32(plan.split), Arg::U64(scratch));
        let values = Arg::U32(u32::from(key.values.code()));
        let scan = find(self.kernels.topk_scan.of(key.dtype))?;
        // SAFETY: as this function; `rows_that_fit` has seen to it that the scratch is long enough.
        unsafe { stream.launch(scan, &plan.scan, &[jobs, cols, k, split, scratch]) }?;
        let merge = find(self.kernels.topk_merge.of(key.dtype))?;
        // SAFETY: as above.
        unsafe { stream.launch(merge, &plan.merge, &[jobs, cols, k, split, values, scratch]) }
    }
}

/// Brings hidden rows together and has the library multiply them. The scratch holds its workspace
/// and the rows.
///
/// # Safety
/// As [`Steps::launch`].
unsafe fn multiply(
    stream: &Stream,
    head: &Head,
    hidden: &[u64],
    logits: u64,
    scratch: u64,
) -> Result<(), Fault> {
    let product = head.product(head.dtype()).ok_or_else(Fault::product)?;
    let row = head.width() as usize * 2;
    let together = scratch + WORKSPACE_LEN as u64;
    for (at, from) in hidden.iter().enumerate() {
        let to = together + (at * row) as u64;
        // SAFETY: as this function; steps are cut so that the rows fit.
        unsafe { stream.copy_within(to, *from, row) }?;
    }
    // The library adds to what it finds: the bias.
    let bias = head.bias();
    if let Some(bias) = bias {
        let len = head.vocabulary() as usize * 4;
        for at in 0..hidden.len() {
            // SAFETY: as above; the logits of so many rows fit.
            unsafe { stream.copy_within(logits + (at * len) as u64, bias, len) }?;
        }
    }
    let (rows, added) = (hidden.len() as u32, bias.is_some());
    // SAFETY: as above; the scratch is free until the top-k that follows on this stream.
    unsafe { product.run(stream, together, rows, logits, added, scratch) }
}

fn find(function: Option<Function>) -> Result<Function, Fault> {
    function.ok_or_else(Fault::no_kernels)
}

/// Steps are cut so that each has a plan.
fn planned<T>(plan: Option<T>) -> Result<T, Fault> {
    plan.ok_or_else(Fault::no_room)
}
