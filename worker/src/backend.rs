//! Where a worker computes, and why there.

use crate::{cpu::Cpu, cuda, cuda::Cuda, weights::Projection};
use link::{Lent, LinkFault};
use wire::Operation;

/// What the node asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that is there.
    #[default]
    Auto,
    /// The CPU, also where a GPU is there.
    Cpu,
    /// A CUDA device, or nothing.
    Cuda,
}

/// What computes.
#[derive(Debug)]
pub enum Backend<'w> {
    /// This machine's vector units.
    Cpu(Box<Cpu<'w>>),
    /// A CUDA device.
    Cuda(Cuda),
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
    /// Opens what is asked for. `worker` is named in every reply; `projection` enables lm-head.
    ///
    /// # Errors
    /// A sentence for people, where a CUDA device is demanded and cannot be used.
    pub fn choose(
        choice: Choice,
        worker: u16,
        projection: Option<Projection<'w>>,
    ) -> Result<Chosen<'w>, String> {
        let reason = match choice {
            Choice::Cpu => "asked for".to_owned(),
            Choice::Auto | Choice::Cuda => match cuda::open() {
                Ok(device) => {
                    let reason = "a CUDA device is there".to_owned();
                    return Ok(Chosen { backend: Self::Cuda(device), reason });
                }
                Err(closed) if choice == Choice::Cuda => return Err(closed.to_string()),
                Err(closed) => closed.to_string(),
            },
        };
        let backend = Self::Cpu(Box::new(Cpu::new(worker, &reason, projection)));
        Ok(Chosen { backend, reason })
    }

    /// `cpu` or `cuda`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }

    /// What it computes on, for people.
    #[must_use]
    pub fn device(&self) -> String {
        match self {
            Self::Cpu(cpu) => format!("one core, {}", cpu.level().name()),
            Self::Cuda(never) => match *never {},
        }
    }

    /// What it serves, bit = operation code.
    #[must_use]
    pub fn operations(&self) -> u32 {
        let bit = |operation: Operation| 1 << operation.code();
        match self {
            Self::Cpu(cpu) => {
                let always = bit(Operation::Echo) | bit(Operation::TopK) | bit(Operation::Int8);
                if cpu.has_projection() { always | bit(Operation::LmHead) } else { always }
            }
            Self::Cuda(never) => match *never {},
        }
    }

    /// Answers a batch: every order of it is completed, with reply frames or with the reason why
    /// not. `beat` is called at least once per row, to show progress.
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn run(&mut self, batch: &mut Vec<Lent<'_>>, beat: &dyn Fn()) -> Result<(), LinkFault> {
        match self {
            Self::Cpu(cpu) => cpu.run(batch, beat),
            Self::Cuda(never) => match *never {},
        }
    }
}
