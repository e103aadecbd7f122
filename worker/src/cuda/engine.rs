//! A device made ready to compute: context, kernels, weights, waves.

use super::{
    devices::Device,
    driver::{Context, Fault},
    host::Host,
    kernels::Kernels,
    learned::Learned,
    lent::{Leased, Lenders},
    lm_head::{self, Head},
    steps::{Key, Steps},
    trial::{Case, Trial},
    wave::{Around, Flight, Need, Shapes, Sizes, TABLES_LEN, Wave},
    widen::Columns,
};
use crate::{
    cpu::{Cpu, Desk},
    job::Job,
};
use kernels::cuda::Tuning;
use link::{LinkFault, Segment, door::Door};
use std::{collections::VecDeque, rc::Rc, sync::Arc};
use wire::{ErrorCode, Operation, Source, Work};

/// Waves of one worker: one copies, one computes, one is finished by the host.
const WAVES: usize = 3;
/// Least bytes of a wave for rows and replies.
const STAGING_MIN: usize = 32 << 20;
/// Most: larger orders are the CPU's.
const STAGING_MAX: usize = 256 << 20;
/// Least pinned bytes of a wave for results that the host codes.
const RESULTS_MIN: usize = 4 << 20;
/// Most.
const RESULTS_MAX: usize = 64 << 20;

/// See the head of this file. Dropped in the order of its fields: waves first, which wait for what
/// they have under way; the context last.
#[derive(Debug)]
pub(super) struct Engine<'w> {
    waves: Vec<Wave<'w>>,
    /// The wave that was launched first and is not settled yet.
    oldest: usize,
    sizes: Sizes,
    lenders: Lenders,
    head: Option<Head>,
    learned: Option<Learned>,
    columns: Option<Columns>,
    kernels: Kernels,
    host: Host,
    tuning: Tuning,
    context: Rc<Context>,
}

impl<'w> Engine<'w> {
    /// Makes a device ready, with as many waves as its memory has room for.
    pub(super) fn open(
        device: &Device,
        ordinal: u16,
        segment: &Arc<Segment>,
        cpu: &Cpu<'_>,
    ) -> Result<Self, Fault> {
        let context = Context::open(i32::from(ordinal))?;
        let (major, minor) = device.capability;
        let tuning = Tuning::for_capability(major, minor, context.multiprocessors()?);
        let kernels = Kernels::load(&context)?;
        let host = Host::register(&context, segment);
        let projection = cpu.projection();
        let head = projection.map(|projection| Head::new(&context, projection)).transpose()?;
        let width = head.as_ref().map(Head::width);
        let columns = width.map(|width| Columns::new(&context, width)).transpose()?;
        let learned = cpu.basis().map(|basis| Learned::new(&context, basis)).transpose()?;
        let layout = segment.layout();
        let slot = (layout.bulk_request as usize).saturating_add(layout.bulk_reply as usize);
        let sizes = Sizes {
            logits: projection.map_or(0, |some| lm_head::logits_len(some.vocabulary())),
            // A full slot, with the gaps of a streamed reply.
            staging: (slot.saturating_mul(2)).clamp(STAGING_MIN, STAGING_MAX),
            results: (layout.bulk_reply as usize).clamp(RESULTS_MIN, RESULTS_MAX),
        };
        let mut waves = Vec::with_capacity(WAVES);
        while waves.len() < WAVES {
            match Wave::new(&context, sizes) {
                Ok(wave) => waves.push(wave),
                // One is enough to compute; without company, copies do not overlap.
                Err(fault) if fault.is_memory() && !waves.is_empty() => break,
                Err(fault) => return Err(fault),
            }
        }
        let lenders = Lenders::new(ordinal);
        Ok(Self {
            waves,
            oldest: 0,
            sizes,
            lenders,
            head,
            learned,
            columns,
            kernels,
            host,
            tuning,
            context,
        })
    }

    /// For people: memory, waves, and how bytes come to the device.
    pub(super) fn describe(&self) -> String {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let waves = self.waves.len();
        let head = self.head.as_ref().map_or(0, Head::len);
        let basis = self.learned.as_ref().map_or(0, Learned::len);
        let columns = self.columns.as_ref().map_or(0, Columns::len);
        let all = waves * self.sizes.total() + head + basis + columns;
        let mut text = format!(
            "{} MiB of device memory: {waves} waves of {} MiB",
            mib(all),
            mib(self.sizes.total())
        );
        if waves < WAVES {
            text.push_str(&format!(" ({WAVES} do not fit)"));
        }
        if head > 0 {
            text.push_str(&format!(", weights of {} MiB", mib(head)));
        }
        if self.head.as_ref().is_some_and(Head::has_library) {
            text.push_str(", product by cuBLASLt");
        }
        if basis > 0 {
            text.push_str(&format!(", a basis of {} MiB", mib(basis)));
        }
        text.push_str(&format!("; {} MiB of pinned memory", mib(waves * self.sizes.pinned())));
        text.push_str(&format!("; {}", self.host.describe()));
        text
    }

    /// True where a library multiplies these hidden rows: near our bits, not equal to them.
    pub(super) fn has_product(&self, work: &Work) -> bool {
        work.operation == Operation::LmHead
            && self.head.as_ref().is_some_and(|head| head.product(work.dtype).is_some())
    }

    /// True where the device can compute it.
    pub(super) fn fits(&self, work: &Work) -> bool {
        let model = shapes(self.head.as_ref(), self.learned.as_ref(), self.columns.as_ref());
        let Some(shape) = model.shape(work) else { return false };
        let Need { tables, staging, results } = Need::of(&shape, work.cols);
        let computed = match Key::of(&shape) {
            Some(key) if key.is_head() => self.head.is_some(),
            key => key.is_some(),
        };
        computed
            && tables <= TABLES_LEN
            && staging <= self.sizes.staging
            && results <= self.sizes.results
    }

    /// A case to be timed, on memory of its own.
    pub(super) fn trial(&self, case: &Case) -> Result<Trial<'_>, Fault> {
        Trial::new(&self.context, &self.kernels, self.tuning, self.head.as_ref(), case)
    }

    /// The lent rows of an order; `None` where they lie in its slot.
    pub(super) fn leased(&mut self, job: &Job<'_>) -> Result<Option<Leased>, ErrorCode> {
        match job.work.source {
            Source::Inline => Ok(None),
            Source::CudaIpc => self.lenders.rows(&self.context, &job.work, job.data).map(Some),
        }
    }

    /// Fills idle waves and launches them.
    pub(super) fn start(
        &mut self,
        queue: &mut VecDeque<Flight<'w>>,
        (authors, coder): Desk<'_>,
    ) -> Result<(), Fault> {
        let count = self.waves.len();
        let model = shapes(self.head.as_ref(), self.learned.as_ref(), self.columns.as_ref());
        for step in 0..count {
            if queue.is_empty() {
                return Ok(());
            }
            let Some(wave) = self.waves.get_mut((self.oldest + step) % count) else { break };
            if !wave.is_idle() {
                continue;
            }
            let mut around = Around { host: &self.host, authors, coder, model };
            while let Some(flight) = queue.pop_front() {
                let work = flight.lent.order().work();
                let room = work.is_ok_and(|work| {
                    let shape = model.shape(&work);
                    shape.is_some_and(|shape| wave.has_room(Need::of(&shape, work.cols)))
                });
                if !room {
                    queue.push_front(flight);
                    break;
                }
                if let Some(flight) = wave.add(flight, &mut around)? {
                    queue.push_front(flight);
                    break;
                }
            }
            if wave.is_idle() {
                // What is first in the queue fits no wave, although it was counted to.
                return Err(Fault::no_room());
            }
            let mut steps = Steps::new(&self.kernels, self.tuning, self.head.as_ref());
            (steps.learned, steps.columns) = (model.learned, model.columns);
            wave.launch(&mut steps)?;
        }
        Ok(())
    }

    /// Settles the waves that are done, in the order of their launch.
    pub(super) fn collect(
        &mut self,
        (authors, coder): Desk<'_>,
        beat: &dyn Fn(),
    ) -> Result<Result<usize, Fault>, LinkFault> {
        let model = shapes(self.head.as_ref(), self.learned.as_ref(), self.columns.as_ref());
        let mut count = 0;
        for _ in 0..self.waves.len() {
            let Some(wave) = self.waves.get_mut(self.oldest) else { break };
            if wave.is_idle() {
                break;
            }
            match wave.is_done() {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => return Ok(Err(fault)),
            }
            let mut around = Around { host: &self.host, authors, coder, model };
            count += wave.settle(&mut around, beat)?;
            self.oldest = (self.oldest + 1) % self.waves.len();
        }
        Ok(Ok(count))
    }

    /// Has `door` rung when any wave is done.
    pub(super) fn arm(&mut self, door: &'static Door) -> Result<(), Fault> {
        self.waves.iter_mut().try_for_each(|wave| wave.arm(door))
    }

    /// Waits until the device does nothing any more. That it failed is known.
    pub(super) fn stop(&self) {
        let _ = self.context.synchronize();
    }

    /// Takes all orders out of all waves, in the order in which they came.
    pub(super) fn empty(&mut self) -> impl Iterator<Item = Flight<'w>> {
        let oldest = self.oldest;
        self.waves.rotate_left(oldest);
        let flights: Vec<_> = self.waves.iter_mut().flat_map(Wave::empty).collect();
        flights.into_iter()
    }
}

/// What the shapes of answers depend on.
fn shapes<'a>(
    head: Option<&'a Head>,
    learned: Option<&'a Learned>,
    columns: Option<&'a Columns>,
) -> Shapes<'a> {
    Shapes { head, learned, columns }
}
