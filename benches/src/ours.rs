//! The full path on the other side of the comparison: the real shard over the real driver, on one
//! pinned core.
//!
//! Its worker is a stub on the same thread that takes lent slots from the real rings and answers
//! each with a ready-made reply, so that the path is measured and not a computation. It touches no
//! row.

use crate::cores;
use dataplane_core::{
    Limits, NodeStats, Shard, Stats, driver::WorkerId, memory::Geometry, stats::Copy, turn,
};
use dataplane_uring::{
    Command, Commands, Config, DriverCounters, Policy, SharedMemory, UringDriver, listen_tcp,
};
use link::{Layout, Lent, Segment, ShardSide, WorkerSide, door::Door};
use std::{
    fmt,
    io::{self, Error},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
};
use wire::{
    Dtype, Operation, Outcome, Work,
    reply::{self, Author, Stamp},
};

/// Sizes as `butterfly serve` has them.
const GEOMETRY: Geometry = Geometry {
    small_slots: 1_024,
    small_request: 4 << 10,
    small_reply: 4 << 10,
    bulk_slots: 32,
    bulk_request: 1 << 20,
    bulk_reply: 4 << 10,
    chunks: 512,
    chunk_len: 16 << 10,
};

/// What a shard did during a run.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Requests a worker answered.
    pub requests: u64,
    /// Heartbeats answered.
    pub heartbeats: u64,
    /// Copies of payload bytes in user space before the worker: from a receive buffer, between
    /// slots.
    pub copies_in: u64,
    /// What the driver counted.
    pub driver: DriverCounters,
}

/// A node of one shard on a thread of its own.
pub struct Ours {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Served>>,
}

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ours").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Ours {
    /// Listens on loopback.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn start() -> io::Result<Self> {
        let listener = listen_tcp(([127, 0, 0, 1], 0).into(), 1_024)?;
        let listener = TcpListener::from(listener);
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = Builder::new().name("shard".into()).spawn(move || serve(listener, &seen))?;
        Ok(Self { address, stop, thread })
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the shard and says what it did.
    ///
    /// # Errors
    /// What it met.
    pub fn finish(self) -> io::Result<Served> {
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| Error::other("the shard panicked"))?
    }
}

fn serve(listener: TcpListener, stop: &AtomicBool) -> io::Result<Served> {
    cores::pin(cores::SERVER);
    let Geometry { small_slots, small_request, small_reply, .. } = GEOMETRY;
    let Geometry { bulk_slots, bulk_request, bulk_reply, .. } = GEOMETRY;
    let (shards, workers) = (1, 1);
    let segment = Arc::new(Segment::create(&Layout {
        shards,
        workers,
        small_slots,
        small_request,
        small_reply,
        bulk_slots,
        bulk_request,
        bulk_reply,
    })?);
    let (shard_door, worker_door) = (Door::new()?, Door::new()?);
    let worker =
        WorkerSide::new(&segment, 0, worker_door.try_clone()?, vec![shard_door.try_clone()?]);
    let side = ShardSide::new(&segment, 0, Arc::new(shard_door), &[Arc::new(worker_door)]);
    let mut memory = SharedMemory::new(side, GEOMETRY.chunks, GEOMETRY.chunk_len)?;
    let (commander, commands) = Commands::new(4)?;
    let config = Config { policy: Policy::Latency, ..Config::default() };
    let mut driver = UringDriver::new(&config, memory.places(), memory.workers(), commands)
        .map_err(Error::other)?;
    let stats = Stats::new();
    let node = NodeStats::new(vec![Arc::clone(&stats)], workers);
    let operations = 1 << Operation::TopK.code();
    let limits = Limits { operations, ..Limits::default() };
    let mut shard = Shard::new(limits, GEOMETRY, workers, Arc::clone(&stats), node);
    for command in
        [Command::Listen(listener.into()), Command::WorkerUp { worker: WorkerId(0), operations }]
    {
        commander.send(command).map_err(|_| Error::other("the shard takes no commands"))?;
    }
    let template = template()?;
    while !stop.load(Relaxed) {
        turn(&mut shard, &mut memory, &mut driver);
        answer(&worker, &template)?;
    }
    let before_worker = [Copy::SmallLane, Copy::LaneSwitch, Copy::Restore, Copy::Promote];
    Ok(Served {
        requests: stats.replies.get(),
        heartbeats: stats.heartbeats.get(),
        copies_in: before_worker.iter().map(|stage| stats.copies(*stage)).sum(),
        driver: *driver.counters(),
    })
}

/// Answers everything that is lent.
fn answer(worker: &WorkerSide, template: &[u8]) -> io::Result<()> {
    let mut batch: Vec<Lent<'_>> = Vec::new();
    while worker.next_batch(usize::MAX, &mut batch).map_err(Error::other)? > 0 {
        for mut lent in batch.drain(..) {
            let id = lent.order().message_id;
            let (_, reply) =
                lent.parts().map_err(|code| Error::other(format!("a bad order: {code}")))?;
            reply[..template.len()].copy_from_slice(template);
            reply[8..16].copy_from_slice(&id.to_be_bytes());
            let reply_len = template.len() as u32;
            let outcome = Outcome { frames: 1, reply_len, ..Outcome::default() };
            lent.complete(outcome).map_err(Error::other)?;
        }
    }
    Ok(())
}

/// A whole reply frame to a top-1 request over one row; only its message id differs from answer to
/// answer.
///
/// # Errors
/// If the format refuses it.
pub fn template() -> io::Result<Vec<u8>> {
    let work = Work {
        operation: Operation::TopK,
        dtype: Dtype::F32,
        values: Dtype::F32,
        coding: wire::Coding::Plain,
        source: wire::Source::Inline,
        quality: 0.0,
        streaming: false,
        k: 1,
        rows: 1,
        cols: 2,
        data_offset: 0,
        data_len: 8,
        check: None,
    };
    let refused = |code| Error::other(format!("no reply can be written: {code}"));
    let mut author = Author::new("stub", "none", "the path is measured, not a computation");
    let chunk = reply::chunks(&work).next().ok_or_else(|| Error::other("no chunk"))?;
    let layout = reply::Layout::of(&work, &chunk).ok_or_else(|| Error::other("no layout"))?;
    let stamp = Stamp {
        message_id: 0,
        timestamp_ns: 1,
        query_id: [0; 16],
        operation: work.operation,
        compute_ns: 0,
        chunk,
    };
    let mut frame = vec![0; reply::reply_len(&work) as usize];
    let len = reply::finish(&mut frame, &layout, &mut author, &stamp).map_err(refused)?;
    frame.truncate(len);
    Ok(frame)
}
