//! The CUDA backend: orders of many slots go through a device together, and what it cannot do the
//! CPU does, in the same worker.
//!
//! - [`devices`]: which there are.
//! - `driver`: the driver's things as owned values; with `wave` and `steps` the place of `unsafe`.
//! - `host`: the shared segment, registered, so that the device reads and writes it in place.
//! - `engine`: a device made ready: kernels, weights, waves.
//! - `wave`: orders under way together; `steps`: their launches, rows of one shape in one;
//!   `finish`: their frames, once the device is done, coded from `results` where the length of a
//!   row depends on its content.
//! - `lent`: device memory of other processes, for orders that bring a lease instead of rows;
//!   `widen`: such rows for a projection.
//! - `lm_head`: the projection's weights on the device; `lt`: its product by cuBLASLt; `learned`:
//!   the basis for hidden rows.
//! - `route`: which orders go where, by what `measure` finds out at the start with `trial`s.
//!
//! # When the device fails
//! Any error of the driver while it serves ends the use of the device. Whatever was under way is
//! computed again by the CPU, from requests that still lie in their slots, and so is all that
//! comes after; every reply says why, and the node is told ([`Cuda::news`]).

mod bench;
mod devices;
mod driver;
mod engine;
mod finish;
mod host;
mod kernels;
mod learned;
mod lent;
mod lm_head;
mod lt;
mod measure;
mod results;
mod route;
mod steps;
mod trial;
mod wave;
mod widen;

pub use bench::Bench;
pub use devices::{Closed, Device, devices};
pub use driver::Fault;
pub use lent::Loan;
pub use trial::{Case, Travel};

use crate::{
    authors::AuthorId,
    cpu::Cpu,
    job::{Job, Turn},
};
use engine::Engine;
use link::{Lent, LinkFault, Segment, door::Door, hello::Answer};
use route::{Place, Route};
use std::{collections::VecDeque, sync::Arc};
use wave::Flight;
use wire::ErrorCode;

/// What a CUDA backend is made with.
pub struct Setup<'a> {
    /// Which device, from 0.
    pub device: u16,
    /// True where every order goes to the device that it can compute; otherwise the cheaper side
    /// is chosen.
    pub always: bool,
    /// The memory that is shared with the node.
    pub segment: &'a Arc<Segment>,
    /// Rung when the device is done with something: the one that the worker sleeps on.
    pub door: Door,
}

impl core::fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Setup").field("device", &self.device).finish_non_exhaustive()
    }
}

/// The CUDA backend, with the CPU's beside it.
#[derive(Debug)]
pub struct Cuda<'w> {
    /// `None` once the device is lost.
    engine: Option<Engine<'w>>,
    cpu: Box<Cpu<'w>>,
    route: Route,
    /// For the device, admitted, not yet in a wave.
    queue: VecDeque<Flight<'w>>,
    /// For the CPU, of the batch that is being taken up.
    local: Vec<Lent<'w>>,
    door: &'static Door,
    text: String,
    news: Option<Answer>,
}

impl<'w> Cuda<'w> {
    /// Opens a device. `cpu` computes what the device does not.
    ///
    /// # Errors
    /// The reason why the device cannot be used, and `cpu` back.
    pub fn open(mut cpu: Box<Cpu<'w>>, setup: Setup<'_>) -> Result<Self, (Closed, Box<Cpu<'w>>)> {
        let device = match devices::device(setup.device) {
            Ok(device) => device,
            Err(closed) => return Err((closed, cpu)),
        };
        let opened = Engine::open(&device, setup.device, setup.segment, &cpu);
        let engine = match opened {
            Ok(engine) => engine,
            Err(fault) => return Err((Closed::Device { device, fault }, cpu)),
        };
        let route = if setup.always {
            Ok(Route::always())
        } else {
            measure::table(&engine, &cpu).map(Route::by_cost)
        };
        let route = match route {
            Ok(route) => route,
            Err(fault) => {
                drop(engine);
                return Err((Closed::Device { device, fault }, cpu));
            }
        };
        let text = format!("{}, {}", device.name, engine.describe());
        let local = cpu.authors().who("cpu", "the device does not compute this");
        cpu.sign_as(local);
        // One small allocation for the life of the process: the driver may ring at any time.
        let door = Box::leak(Box::new(setup.door));
        let (queue, local) = (VecDeque::new(), Vec::new());
        Ok(Self { engine: Some(engine), cpu, route, queue, local, door, text, news: None })
    }

    /// `cuda`, or `cpu` once the device is lost.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.engine.is_some() { "cuda" } else { "cpu" }
    }

    /// What it computes on, with the device memory that it takes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The CPU's side of it.
    #[must_use]
    pub const fn cpu(&self) -> &Cpu<'w> {
        &self.cpu
    }

    /// Takes up a batch. What the CPU computes is complete when this returns; the rest is complete
    /// after some later [`Cuda::collect`].
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn submit(&mut self, batch: &mut Vec<Lent<'w>>, beat: &dyn Fn()) -> Result<(), LinkFault> {
        let orders = batch.len();
        let mut by: Option<AuthorId> = None;
        let mut local = core::mem::take(&mut self.local);
        let mut mixed = Vec::new();
        for lent in batch.drain(..) {
            beat();
            match self.place(&lent, orders) {
                Place::Device(author) => self.admit(lent, author, beat)?,
                Place::Cpu(author) => {
                    // Neighbours with one signature run as one batch, so that lm-head shares tiles.
                    if by.is_some_and(|by| by != author) {
                        mixed.push((by, core::mem::take(&mut local)));
                    }
                    by = Some(author);
                    local.push(lent);
                }
            }
        }
        // The device first, so that it computes while the CPU does.
        self.start(beat)?;
        mixed.push((by, local));
        for (author, mut batch) in mixed {
            if let Some(author) = author.filter(|_| self.engine.is_some()) {
                self.cpu.sign_as(author);
            }
            self.cpu.run(&mut batch, beat)?;
            self.local = batch;
        }
        Ok(())
    }

    /// Which side computes an order.
    fn place(&mut self, lent: &Lent<'_>, orders: usize) -> Place {
        // The CPU refuses malformed orders, whoever signs.
        let anybody = Place::Cpu(AuthorId::default());
        let Some(engine) = &self.engine else { return anybody };
        let Ok(work) = lent.order().work() else { return anybody };
        let place = self.route.place(&work, orders, engine.fits(&work), self.cpu.authors());
        match place {
            Place::Device(author) if engine.has_product(&work) => {
                Place::Device(self.cpu.authors().with(author, "; product by cuBLASLt"))
            }
            place => place,
        }
    }

    /// Checks an order for the device and queues it, or refuses it.
    fn admit(
        &mut self,
        lent: Lent<'w>,
        author: AuthorId,
        beat: &dyn Fn(),
    ) -> Result<(), LinkFault> {
        let turn = Turn::now(beat);
        let leased = Job::admit(&lent, self.cpu.width()).and_then(|job| {
            self.cpu.admit(&job)?;
            let engine = self.engine.as_mut().ok_or(ErrorCode::NoCapableWorker)?;
            engine.leased(&job)
        });
        match leased {
            Ok(leased) => self.queue.push_back(Flight { lent, author, leased, results: 0 }),
            Err(code) => lent.complete(turn.outcome(Err(code)))?,
        }
        Ok(())
    }

    /// Fills idle waves from the queue and launches them.
    fn start(&mut self, beat: &dyn Fn()) -> Result<(), LinkFault> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match engine.start(&mut self.queue, self.cpu.desk()) {
            Ok(()) => Ok(()),
            Err(fault) => self.lose(fault, beat),
        }
    }

    /// Completes what the device is done with, and gives it what waits. Returns how many orders
    /// were completed.
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn collect(&mut self, beat: &dyn Fn()) -> Result<usize, LinkFault> {
        let Some(engine) = &mut self.engine else { return Ok(0) };
        match engine.collect(self.cpu.desk(), beat)? {
            Ok(0) => Ok(0),
            Ok(done) => self.start(beat).map(|()| done),
            Err(fault) => self.lose(fault, beat).map(|()| 1),
        }
    }

    /// Has the worker's door rung as soon as there is something to collect.
    ///
    /// # Errors
    /// A [`LinkFault`]: the node broke its word.
    pub fn arm(&mut self, beat: &dyn Fn()) -> Result<(), LinkFault> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match engine.arm(self.door) {
            Ok(()) => Ok(()),
            Err(fault) => self.lose(fault, beat),
        }
    }

    /// What the node has to be told, once.
    pub const fn news(&mut self) -> Option<Answer> {
        self.news.take()
    }

    /// The device is of no use any more: the CPU computes what was under way and all that comes.
    fn lose(&mut self, fault: Fault, beat: &dyn Fn()) -> Result<(), LinkFault> {
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        // Nothing of the device may write into a slot any more. A device that hangs holds us here,
        // the pulse stands still, and the node replaces this process: also then nothing is lost.
        engine.stop();
        let mut orders: Vec<Lent<'w>> = engine.empty().map(|flight| flight.lent).collect();
        drop(engine);
        orders.extend(self.queue.drain(..).map(|flight| flight.lent));
        let reason = format!("the device was lost: {fault}");
        let author = self.cpu.authors().who("cpu", &reason);
        self.cpu.sign_as(author);
        self.text = format!("one core, {}", self.cpu.level().name());
        let text = format!("{}; {reason}", self.text);
        self.news = Some(Answer::Changed { backend: "cpu".to_owned(), text });
        self.cpu.run(&mut orders, beat)
    }
}
