//! The whole shard over the real driver and the real rings: what a message costs in copies, memory
//! and system calls. Counts, not times: they do not depend on the machine.

use crate::steady::taken;
use dataplane_core::{
    Limits, NodeStats, Shard, Stats,
    driver::WorkerId,
    memory::Geometry,
    stats::Copy,
    trace::{Bounds, Rings},
    turn,
};
use dataplane_uring::{
    Command, Commander, Commands, Config, Policy, SharedMemory, UringDriver, listen_tcp,
};
use link::{Layout, Segment, ShardSide, WorkerSide, door::Door};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use wire::{
    Dtype, Operation, Outcome,
    payload::{Heartbeat, LANE_BULK, QueryRequest, QueryResponse, TensorWork},
    request::RequestFrame,
};

const GEOMETRY: Geometry = Geometry {
    small_slots: 1_200,
    small_request: 1 << 10,
    small_reply: 1 << 10,
    bulk_slots: 4,
    bulk_request: 600 << 10,
    bulk_reply: 4 << 10,
    chunks: 256,
    chunk_len: 4 << 10,
};
const OPERATIONS: u32 = 1 << Operation::TopK.code();

struct Node {
    shard: Shard,
    memory: SharedMemory,
    driver: UringDriver,
    worker: WorkerSide,
    /// What the stub worker answers.
    reply: Vec<u8>,
    stats: Arc<Stats>,
    rings: Arc<Rings>,
    address: SocketAddr,
    /// Allocations made inside turns.
    taken: u64,
    _commander: Commander,
}

impl Node {
    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let listener = TcpListener::from(listen_tcp(([127, 0, 0, 1], 0).into(), 256).unwrap());
        let address = listener.local_addr().unwrap();
        let layout = Layout {
            shards: 1,
            workers: 1,
            small_slots: GEOMETRY.small_slots,
            small_request: GEOMETRY.small_request,
            small_reply: GEOMETRY.small_reply,
            bulk_slots: GEOMETRY.bulk_slots,
            bulk_request: GEOMETRY.bulk_request,
            bulk_reply: GEOMETRY.bulk_reply,
        };
        let segment = Arc::new(Segment::create(&layout).unwrap());
        let (ours, theirs) = (Door::new().unwrap(), Door::new().unwrap());
        let doors = (theirs.try_clone().unwrap(), vec![ours.try_clone().unwrap()]);
        let worker = WorkerSide::new(&segment, 0, doors.0, doors.1);
        let side = ShardSide::new(&segment, 0, Arc::new(ours), &[Arc::new(theirs)]);
        let memory = SharedMemory::new(side, GEOMETRY.chunks, GEOMETRY.chunk_len).unwrap();
        let (commander, commands) = Commands::new(4).unwrap();
        let config = Config { accepted: 128, policy: Policy::Latency, ..Config::default() };
        let driver =
            UringDriver::new(&config, memory.places(), memory.workers(), commands).unwrap();
        commander.send(Command::Listen(listener.into())).unwrap();
        let up = Command::WorkerUp { worker: WorkerId(0), operations: OPERATIONS };
        commander.send(up).unwrap();
        let stats = Stats::new();
        let node = NodeStats::new(vec![Arc::clone(&stats)], 1);
        let limits = Limits { connections: 64, operations: OPERATIONS, ..limits };
        // Every answer and refusal is recorded, and all of them are in the sample.
        let rings = Rings::new(1, Bounds { records: 1 << 10, sample: 1.0 });
        let shard = Shard::new(limits, GEOMETRY, 1, Arc::clone(&stats), node)
            .with_trace(Arc::clone(&rings), 0);
        Self {
            shard,
            memory,
            driver,
            worker,
            reply: reply(),
            stats,
            rings,
            address,
            taken: 0,
            _commander: commander,
        }
    }

    /// Turns until `done`, the worker answering in between.
    fn run(&mut self, done: impl Fn(&Stats) -> bool) {
        for _ in 0..20_000_000 {
            let before = taken();
            turn(&mut self.shard, &mut self.memory, &mut self.driver);
            self.taken += taken() - before;
            self.answer();
            if done(&self.stats) {
                return;
            }
        }
        panic!("not done: {:?}", self.driver.counters());
    }

    fn answer(&self) {
        while self.answer_batch() {}
    }

    /// Answers one batch. False where there is none.
    fn answer_batch(&self) -> bool {
        let mut batch = Vec::new();
        let some = self.worker.next_batch(usize::MAX, &mut batch).unwrap() > 0;
        for mut lent in batch.drain(..) {
            let (_, reply) = lent.parts().unwrap();
            reply[..self.reply.len()].copy_from_slice(&self.reply);
            let reply_len = self.reply.len() as u32;
            let outcome = Outcome { frames: 1, reply_len, ..Outcome::default() };
            lent.complete(outcome).unwrap();
        }
        some
    }

    /// Turns until `done`, with a worker that is too slow by design: it takes a millisecond for a
    /// batch, and answers no sooner than as much was refused as answered, however slowly requests
    /// come (a hundred times slower where nothing is left to refuse).
    fn crawl(&mut self, done: impl Fn(&Stats) -> bool) {
        let pause = Duration::from_millis(1);
        let mut last = Instant::now();
        while !done(&self.stats) {
            let before = taken();
            turn(&mut self.shard, &mut self.memory, &mut self.driver);
            self.taken += taken() - before;
            let refused = self.stats.refusals(wire::ErrorCode::Overloaded);
            let pause = if refused >= self.stats.replies.get() { pause } else { 100 * pause };
            if last.elapsed() >= pause {
                self.answer_batch();
                last = Instant::now();
            }
        }
    }

    fn clients(&mut self, count: u64) -> Vec<TcpStream> {
        let clients = (0..count).map(|_| TcpStream::connect(self.address).unwrap()).collect();
        self.run(|stats| stats.accepted.get() == count);
        clients
    }
}

/// A response to request 1, passed on as it is.
fn reply() -> Vec<u8> {
    let mut frame = Vec::new();
    wire::frame::append(&mut frame, &QueryResponse::default(), 1, 1).unwrap();
    frame
}

fn request(cols: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    let rows = vec![0; cols as usize * 4];
    let begun = RequestFrame::begin_with(&mut frame, &rows);
    let work = TensorWork::topk(Dtype::F32, 1, cols, 1, Dtype::F32);
    begun.finish(&mut QueryRequest { work, ..QueryRequest::default() }, 1, 1).unwrap();
    frame
}

fn heartbeat(lane_hint: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let heartbeat = Heartbeat { lane_hint, ..Heartbeat::default() };
    wire::frame::append(&mut frame, &heartbeat, 1, 1).unwrap();
    frame
}

/// Bursts of 16 on each of 64 connections: no memory taken, at most one system call in 20 messages.
fn bursts(frame: &[u8], answer_len: usize, count: impl Fn(&Stats) -> u64) {
    const CONNECTIONS: u64 = 64;
    const DEPTH: usize = 16;
    let mut node = Node::start();
    let mut clients = node.clients(CONNECTIONS);
    let burst = frame.repeat(DEPTH);
    let mut answers = vec![0; answer_len * DEPTH];
    let mut round = |node: &mut Node| {
        let target = count(&node.stats) + CONNECTIONS * DEPTH as u64;
        clients.iter_mut().for_each(|client| client.write_all(&burst).unwrap());
        node.run(|stats| count(stats) == target);
        // The last answers may still wait for a turn to be sent in.
        let mut left = clients.len();
        while left > 0 {
            let sent = node.stats.bytes_out.get();
            node.run(|stats| stats.bytes_out.get() >= sent);
            left = clients.iter().filter(|c| waiting(c) < answers.len()).count();
        }
        clients.iter_mut().for_each(|client| client.read_exact(&mut answers).unwrap());
    };
    // The first rounds meet everything once: the thread's encoder, connections, both batches.
    (0..4).for_each(|_| round(&mut node));
    let (taken, calls) = (node.taken, node.driver.counters().syscalls());
    const ROUNDS: u64 = 50;
    (0..ROUNDS).for_each(|_| round(&mut node));
    assert_eq!(node.taken, taken, "memory taken in the steady state");
    let rings = &node.rings.shards()[0];
    let recorded = rings.plain.written() + rings.notable.written();
    assert_eq!(recorded, node.stats.replies.get(), "each request has its record");
    let calls = node.driver.counters().syscalls() - calls;
    let messages = ROUNDS * CONNECTIONS * DEPTH as u64;
    assert!(calls * 20 <= messages, "{calls} system calls for {messages} messages");
}

/// Sends bursts without end and reads whatever comes, until so many frames came.
fn flood(mut client: TcpStream, burst: &[u8], depth: usize, rounds: usize) {
    let mut payload = [0; 1 << 10];
    for _ in 0..rounds {
        client.write_all(burst).unwrap();
        for _ in 0..depth {
            let mut head = [0; wire::HEADER_LEN];
            client.read_exact(&mut head).unwrap();
            let len = wire::Header::peek(&head).unwrap().payload_len() as usize;
            client.read_exact(&mut payload[..len]).unwrap();
        }
    }
}

#[test]
fn sec_09_refusing_what_is_too_much_takes_no_memory() {
    const CLIENTS: u64 = 16;
    const DEPTH: usize = 64;
    const ROUNDS: usize = 24;
    let mut node = Node::with(Limits { queue_target: 1_000_000, ..Limits::default() });
    let burst = Arc::new(request(16).repeat(DEPTH));
    let clients: Vec<_> = node
        .clients(CLIENTS)
        .into_iter()
        .map(|client| {
            let burst = Arc::clone(&burst);
            thread::spawn(move || flood(client, &burst, DEPTH, ROUNDS))
        })
        .collect();
    let answered =
        |stats: &Stats| stats.replies.get() + stats.refusals(wire::ErrorCode::Overloaded);
    let all = CLIENTS * (DEPTH * ROUNDS) as u64;
    node.crawl(|stats| answered(stats) >= all / 2);
    let before = node.taken;
    node.crawl(|stats| answered(stats) == all);
    assert_eq!(node.taken, before, "memory taken under overload");
    let recorded =
        node.rings.shards()[0].plain.written() + node.rings.shards()[0].notable.written();
    assert_eq!(recorded, all, "each answer and each refusal has its record");
    let (refused, replies) =
        (node.stats.refusals(wire::ErrorCode::Overloaded), node.stats.replies.get());
    assert!(refused > all / 4 && replies > all / 8, "{refused} refused, {replies} answered");
    // The last answers may still wait for a turn to be sent in.
    while clients.iter().any(|client| !client.is_finished()) {
        turn(&mut node.shard, &mut node.memory, &mut node.driver);
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// Bytes that can be read without waiting.
fn waiting(client: &TcpStream) -> usize {
    client.set_nonblocking(true).unwrap();
    let mut room = [0; 16 << 10];
    let there = client.peek(&mut room).unwrap_or(0);
    client.set_nonblocking(false).unwrap();
    there
}

#[test]
fn heartbeats_take_no_memory_and_few_system_calls() {
    bursts(&heartbeat(0), wire::heartbeat::FRAME_LEN, |stats| stats.heartbeats.get());
}

#[test]
fn small_requests_through_a_worker_take_no_memory_and_few_system_calls() {
    bursts(&request(16), reply().len(), |stats| stats.replies.get());
}

#[test]
fn card_02_bulk_rows_reach_the_worker_without_a_copy() {
    const ROWS: u64 = 32;
    let mut node = Node::start();
    let mut client = node.clients(1).remove(0);
    // The hint puts the connection into the bulk lane before its first row.
    client.write_all(&heartbeat(LANE_BULK)).unwrap();
    node.run(|stats| stats.to_bulk.get() == 1);
    let frame = request(131_072);
    let writer = thread::spawn(move || {
        (0..ROWS).for_each(|_| client.write_all(&frame).unwrap());
        client
    });
    node.run(|stats| stats.replies.get() == ROWS);
    let client = writer.join().unwrap();
    for stage in [Copy::SmallLane, Copy::LaneSwitch, Copy::Restore, Copy::Promote, Copy::Realign] {
        assert_eq!(node.stats.copies(stage), 0, "{stage:?}");
    }
    assert_eq!(node.stats.frames_bulk.get(), ROWS);
    assert_eq!(node.shard.ledger().lent, 0);
    drop(client);
}
