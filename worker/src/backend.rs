//! Where a worker computes, and why there.

use crate::{
    cpu::{Cpu, Model},
    cuda::{self, Cuda},
};
use link::{Lent, LinkFault, Segment, door::Door, hello::Answer};
use std::sync::Arc;
use wire::Operation;

/// What the node asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that is there, order by order.
    #[default]
    Auto,
    /// The CPU, also where a GPU is there.
    Cpu,
    /// A CUDA device, or nothing.
    Cuda,
}

/// What a backend may need of its worker.
#[derive(Debug)]
pub struct Site<'a> {
    /// Named in every reply.
    pub worker: u16,
    /// Which CUDA device, from 0.
    pub device: u16,
    /// What is shared with the node.
    pub segment: &'a Arc<Segment>,
    /// What the worker sleeps on.
    pub door: &'a Door,
}

/// What computes.
#[derive(Debug)]
pub enum Backend<'w> {
    /// This machine's vector units.
    Cpu(Box<Cpu<'w>>),
    /// A CUDA device.
    Cuda(Box<Cuda<'w>>),
}

/// A chosen backend and the reason, for people and for every reply.
#[derive(Debug)]
pub struct Chosen<'w> {
    /// What computes.
    pub backend: Backend<'w>,
    /// Why.
    pub reason: String,
}

impl<'w> Backend<'w> {
    /// Opens what is asked for. What `model` holds decides what can be served.
    ///
    /// # Errors
    /// A sentence for people, where a CUDA device is demanded and cannot be used.
    pub fn choose(choice: Choice, site: &Site<'_>, model: Model<'w>) -> Result<Chosen<'w>, String> {
        let mut cpu = Box::new(Cpu::new(site.worker, "asked for", model));
        if choice == Choice::Cpu {
            let reason = "asked for".to_owned();
            return Ok(Chosen { backend: Self::Cpu(cpu), reason });
        }
        let always = choice == Choice::Cuda;
        let door = site.door.try_clone().map_err(|error| error.to_string())?;
        let (device, segment) = (site.device, site.segment);
        let closed = match Cuda::open(cpu, cuda::Setup { device, always, segment, door }) {
            Ok(cuda) => {
                let reason = if always { "asked for" } else { "each order where it is sooner" };
                let backend = Self::Cuda(Box::new(cuda));
                return Ok(Chosen { backend, reason: reason.to_owned() });
            }
            Err((closed, back)) => {
                cpu = back;
                closed
            }
        };
        let reason = closed.to_string();
        if always {
            return Err(reason);
        }
        cpu.explain(&reason);
        Ok(Chosen { backend: Self::Cpu(cpu), reason })
    }

    /// `cpu` or `cuda`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Cuda(cuda) => cuda.name(),
        }
    }

    /// What it computes on, for people.
    #[must_use]
    pub fn device(&self) -> String {
        match self {
            Self::Cpu(cpu) => format!("one core, {}", cpu.level().name()),
            Self::Cuda(cuda) => cuda.text().to_owned(),
        }
    }

    const fn cpu(&self) -> &Cpu<'w> {
        match self {
            Self::Cpu(cpu) => cpu,
            Self::Cuda(cuda) => cuda.cpu(),
        }
    }

    /// What it serves, bit = operation code.
    #[must_use]
    pub fn operations(&self) -> u32 {
        let bit = |operation: Operation| 1 << operation.code();
        // What a device does not compute, the CPU beside it does.
        let always = [Operation::Echo, Operation::TopK, Operation::Int8, Operation::Hidden];
        let lm_head = self.cpu().has_projection().then_some(Operation::LmHead);
        let fetch = self.cpu().has_basis().then_some(Operation::Fetch);
        let all = always.into_iter().chain(lm_head).chain(fetch);
        all.fold(0, |bits, operation| bits | bit(operation))
    }

    /// Takes up a batch: every order of it will be completed, with reply frames or with the reason
    /// why not, now or in a later [`Backend::collect`]. `beat` is called at least once per row that
    /// the CPU computes, to show progress.
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn submit(&mut self, batch: &mut Vec<Lent<'w>>, beat: &dyn Fn()) -> Result<(), LinkFault> {
        match self {
            Self::Cpu(cpu) => cpu.run(batch, beat),
            Self::Cuda(cuda) => cuda.submit(batch, beat),
        }
    }

    /// Completes what is done of earlier batches. Returns how many orders that were.
    ///
    /// # Errors
    /// As [`Backend::submit`].
    pub fn collect(&mut self, beat: &dyn Fn()) -> Result<usize, LinkFault> {
        match self {
            Self::Cpu(_) => Ok(0),
            Self::Cuda(cuda) => cuda.collect(beat),
        }
    }

    /// To be called before the worker sleeps: from here on its door rings as soon as there is
    /// something to collect.
    ///
    /// # Errors
    /// As [`Backend::submit`].
    pub fn arm(&mut self, beat: &dyn Fn()) -> Result<(), LinkFault> {
        match self {
            Self::Cpu(_) => Ok(()),
            Self::Cuda(cuda) => cuda.arm(beat),
        }
    }

    /// What the node has to be told: that the backend is another now. Each change is told once.
    pub const fn news(&mut self) -> Option<Answer> {
        match self {
            Self::Cpu(_) => None,
            Self::Cuda(cuda) => cuda.news(),
        }
    }
}
