//! A worker process from its start to its end.

use crate::{
    Backend, Choice, Poll,
    backend::{Chosen, Site},
    clock,
    cpu::Model,
    sandbox::{self, Kind, Mode},
    serve::serve,
    weights::{Projection, WeightsError},
};
use codec::{Basis, basis::BasisFault};
use core::fmt;
use link::{
    AttachError, Files, Layout, Segment, SharedFile, WorkerSide,
    door::Door,
    hello::{Answer, HelloError, Offer, receive_offer, send_answer},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Signal, getpid, set_parent_process_death_signal},
};
use std::{io, process::ExitCode, sync::Arc, thread};

/// What a worker process is started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Where to compute.
    pub backend: Choice,
    /// How to wait.
    pub poll: Poll,
    /// Which CUDA device, from 0.
    pub device: u16,
    /// How much of the sandbox.
    pub sandbox: Mode,
}

/// Exit codes of a worker process. A panic aborts (SIGABRT), and a node that dies takes its workers
/// with it (SIGKILL).
pub mod exit {
    /// The node closed the control socket.
    pub const GONE: u8 = 0;
    /// The worker refused the offer; the answer on the control socket says why.
    pub const REFUSED: u8 = 3;
    /// There was no proper offer on standard input: not started by a node, or by another build.
    pub const NO_NODE: u8 = 4;
    /// The node broke its word in shared memory.
    pub const BROKEN: u8 = 5;
}

/// Why a worker does not serve.
#[derive(Debug)]
enum Refusal {
    Attach(AttachError),
    Hash { theirs: u64, ours: u64 },
    Number { worker: u16, doors: usize, layout: Layout },
    File(io::Error),
    Weights(WeightsError),
    Basis(BasisFault),
    Backend(String),
    Sandbox(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(error) => error.fmt(f),
            Self::Hash { theirs, ours } => write!(
                f,
                "the node offers layout {theirs:016x} and a segment of layout {ours:016x}"
            ),
            Self::Number { worker, doors, layout } => write!(
                f,
                "worker {worker} with {doors} shards does not fit a segment for {} and {}",
                layout.workers, layout.shards
            ),
            Self::File(error) => write!(f, "cannot map the weights or the basis: {error}"),
            Self::Weights(error) => error.fmt(f),
            Self::Basis(error) => write!(f, "the basis cannot be used: {error}"),
            Self::Backend(reason) | Self::Sandbox(reason) => f.write_str(reason),
        }
    }
}

/// Runs this process as a worker: takes the node's offer from standard input, attaches, answers,
/// and serves until the node goes. Returns the exit code, one of [`exit`].
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    // A node that dies without closing the socket in time must not leave us holding its memory.
    // Where the OS refuses this, the end of the control socket still ends us.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    ExitCode::from(run_on(io::stdin().as_fd(), args))
}

/// The same over any control socket; returns the exit code.
pub fn run_on(control: BorrowedFd<'_>, args: &Args) -> u8 {
    let offer = match receive_offer(control) {
        Ok(offer) => offer,
        Err(error) => return explain(exit::NO_NODE, &no_node(&error)),
    };
    // The weights outlive what computes with them.
    let (worker, segment, file) = match attach(&offer) {
        Ok(attached) => attached,
        Err(refusal) => return refuse(control, &refusal),
    };
    let model = match model(&offer, file.as_ref()) {
        Ok(model) => model,
        Err(refusal) => return refuse(control, &refusal),
    };
    let crowded = is_crowded(segment.layout());
    let shards = offer.shards.into_iter().map(Door::from_fd).collect();
    // Before the backend, which may hold slots of it until it is dropped.
    let side = WorkerSide::new(&segment, worker, Door::from_fd(offer.door), shards);
    let site = Site { worker, device: args.device, segment: &segment, door: side.door() };
    let Chosen { mut backend, reason } = match Backend::choose(args.backend, &site, model) {
        Ok(chosen) => chosen,
        Err(reason) => return refuse(control, &Refusal::Backend(reason)),
    };
    // The first look at a clock finds the kernel's page of them; in the box it could not.
    let _ = (clock::monotonic_ns(), clock::epoch_ns());
    // Behind everything that opens something, before the first request.
    let kind = if backend.name() == "cuda" { Kind::Cuda } else { Kind::Cpu };
    let held = match sandbox::close(args.sandbox, kind, segment.is_guarded()) {
        Ok(held) => held,
        Err(reason) => return refuse(control, &Refusal::Sandbox(reason)),
    };
    let ready = Answer::Ready {
        pid: getpid().as_raw_nonzero().get().cast_unsigned(),
        operations: backend.operations(),
        sandbox: held.parts,
        backend: backend.name().to_owned(),
        text: format!("{}; {reason}; {held}", backend.device()),
    };
    if send_answer(control, &ready).is_err() {
        return exit::GONE;
    }
    match serve(&side, &mut backend, control, args.poll, crowded) {
        Ok(()) => exit::GONE,
        Err(fault) => explain(exit::BROKEN, &format!("the node broke its word: {fault}")),
    }
}

type Attached = (u16, Arc<Segment>, Option<SharedFile>);

/// Maps what was offered, after checking that it fits together.
fn attach(offer: &Offer<OwnedFd>) -> Result<Attached, Refusal> {
    let clone = |fd: &OwnedFd| fd.try_clone();
    let files = Files {
        segment: clone(&offer.files.segment).map_err(Refusal::File)?,
        requests: clone(&offer.files.requests).map_err(Refusal::File)?,
    };
    let segment = Segment::attach(files).map_err(Refusal::Attach)?;
    let layout = *segment.layout();
    if layout.hash() != offer.layout_hash {
        return Err(Refusal::Hash { theirs: offer.layout_hash, ours: layout.hash() });
    }
    let doors = offer.shards.len();
    if offer.worker >= layout.workers || doors != usize::from(layout.shards) {
        return Err(Refusal::Number { worker: offer.worker, doors, layout });
    }
    let file = offer.weights.as_ref().map(|fd| SharedFile::attach(clone(fd)?));
    let file = file.transpose().map_err(Refusal::File)?;
    Ok((offer.worker, Arc::new(segment), file))
}

/// What the node has learned numbers for.
fn model<'w>(
    offer: &Offer<OwnedFd>,
    weights: Option<&'w SharedFile>,
) -> Result<Model<'w>, Refusal> {
    let projection = weights.map(|file| Projection::read(file.bytes())).transpose();
    let basis = offer.basis.as_ref().map(|fd| SharedFile::attach(fd.try_clone()?)).transpose();
    let basis = basis.map_err(Refusal::File)?;
    let basis = basis.map(|file| Basis::from_bytes(file.bytes())).transpose();
    Ok(Model {
        projection: projection.map_err(Refusal::Weights)?,
        basis: basis.map_err(Refusal::Basis)?,
    })
}

/// Fewer cores than shards and workers together: spinners take time from each other.
fn is_crowded(layout: &Layout) -> bool {
    let threads = usize::from(layout.shards) + usize::from(layout.workers);
    thread::available_parallelism().is_ok_and(|cores| cores.get() < threads)
}

fn refuse(control: BorrowedFd<'_>, refusal: &Refusal) -> u8 {
    // Where the node is gone there is nobody to tell; the exit code remains.
    let _ = send_answer(control, &Answer::Refused { reason: refusal.to_string() });
    exit::REFUSED
}

fn no_node(error: &HelloError) -> String {
    format!("no node on standard input: {error}; workers are started by `butterfly serve`")
}

/// What a worker has to say when nobody listens on the control socket goes to standard error.
fn explain(code: u8, what: &str) -> u8 {
    eprintln!("butterfly worker: {what}");
    code
}
