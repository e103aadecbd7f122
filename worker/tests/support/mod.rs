//! A node of one shard on this thread and a real worker loop on another: real segment, rings,
//! doors, handshake and control socket; only the process boundary is missing.

use link::{
    Layout, Segment, ShardSide, SharedFile,
    door::Door,
    hello::{Answer, Offer, receive_answer, send_offer},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};
use safetensors::SafeTensors;
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};
use wire::{
    HEADER_LEN, Header, Kind, Operation, Order, Outcome, Work,
    payload::{QueryRequest, TensorWork},
    request::{self, RequestFrame},
    response::{self, Response},
};
use worker::{Args, Choice, run_on};

pub(crate) const LAYOUT: Layout = Layout {
    shards: 1,
    workers: 1,
    small_slots: 40,
    small_request: 8 << 10,
    small_reply: 4 << 10,
    bulk_slots: 8,
    bulk_request: 2052 << 10,
    bulk_reply: 2052 << 10,
};

/// No test waits longer than this for a slot.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// The first slot with room for anything.
pub(crate) const BULK: u32 = LAYOUT.small_slots;

pub(crate) fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../wire/samples").join(name)
}

/// A tensor of a sample file, as bytes.
pub(crate) fn tensor(file: &str, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(sample(file)).expect("sample");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    tensors.tensor(name).expect("tensor").data().to_vec()
}

/// The same, as little-endian elements.
pub(crate) fn elements<T: bytemuck::AnyBitPattern>(file: &str, name: &str) -> Vec<T> {
    let bytes = tensor(file, name);
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

pub(crate) struct Rig {
    pub(crate) shard: ShardSide,
    pub(crate) answer: Answer,
    control: Option<UnixStream>,
    worker: Option<Worker>,
}

/// The worker's loop: on a thread of this process, or a process of its own.
enum Worker {
    Thread(JoinHandle<u8>),
    Process(Child),
}

/// Set in a process that shall be a worker instead of running tests: its backend.
const AS_WORKER: &str = "BUTTERFLY_TEST_WORKER";

/// Not a test: what a worker process of [`Rig::process`] runs.
#[test]
fn worker_process() {
    let Ok(backend) = std::env::var(AS_WORKER) else { return };
    let backend = match backend.as_str() {
        "auto" => Choice::Auto,
        "cuda" => Choice::Cuda,
        _ => Choice::Cpu,
    };
    let args = Args { backend, ..Args::default() };
    std::process::exit(run_on(std::io::stdin().as_fd(), &args).into());
}

impl Rig {
    /// A node and its worker, after the handshake.
    pub(crate) fn start(args: Args, weights: Option<&str>) -> Self {
        let file = weights.map(|name| SharedFile::load(&sample(name)).expect("weights"));
        Self::offer(args, file.as_ref(), |_| {})
    }

    /// The same, with an offer that a test may spoil.
    pub(crate) fn offer(
        args: Args,
        weights: Option<&SharedFile>,
        spoil: impl FnOnce(&mut Offer<rustix::fd::BorrowedFd<'_>>),
    ) -> Self {
        let start = |theirs: UnixStream| {
            Worker::Thread(thread::spawn(move || run_on(theirs.as_fd(), &args)))
        };
        Self::begin(start, weights, spoil)
    }

    /// A node and its worker in a process of its own, which finds the driver without a device, with
    /// these variables set for it.
    pub(crate) fn process(
        backend: &str,
        weights: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Self {
        let file = weights.map(|name| SharedFile::load(&sample(name)).expect("weights"));
        Self::process_with(backend, file.as_ref(), variables)
    }

    /// The same, with any weights.
    pub(crate) fn process_with(
        backend: &str,
        weights: Option<&SharedFile>,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::process_learned(backend, weights, None, variables)
    }

    /// The same, with a basis.
    pub(crate) fn process_learned(
        backend: &str,
        weights: Option<&SharedFile>,
        basis: Option<&'static SharedFile>,
        variables: &[(&str, &str)],
    ) -> Self {
        let start = |theirs: UnixStream| {
            let child = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "support::worker_process", "--nocapture"])
                .env(AS_WORKER, backend)
                .env("LD_LIBRARY_PATH", fake_cuda::folder())
                .envs(variables.iter().copied())
                .stdin(OwnedFd::from(theirs))
                .stdout(Stdio::null())
                .spawn();
            Worker::Process(child.expect("a process"))
        };
        Self::begin(start, weights, |offer| offer.basis = basis.map(SharedFile::fd))
    }

    fn begin(
        start: impl FnOnce(UnixStream) -> Worker,
        weights: Option<&SharedFile>,
        spoil: impl FnOnce(&mut Offer<rustix::fd::BorrowedFd<'_>>),
    ) -> Self {
        let segment = Arc::new(Segment::create(&LAYOUT).expect("segment"));
        let (door, bell) =
            (Arc::new(Door::new().expect("door")), Arc::new(Door::new().expect("door")));
        let shard = ShardSide::new(&segment, 0, Arc::clone(&door), &[Arc::clone(&bell)]);
        let (ours, theirs) = UnixStream::pair().expect("socket");
        let worker = start(theirs);
        let mut offer = Offer {
            worker: 0,
            layout_hash: LAYOUT.hash(),
            files: segment.files(),
            door: bell.fd(),
            shards: vec![door.fd()],
            weights: weights.map(SharedFile::fd),
            basis: None,
        };
        spoil(&mut offer);
        send_offer(&ours, &offer).expect("offer");
        let answer = receive_answer(&ours).expect("answer");
        Self { shard, answer, control: Some(ours), worker: Some(worker) }
    }

    /// Puts a request into a slot and writes its order. Returns the work.
    pub(crate) fn load(&mut self, slot: u32, request: &Request<'_>) -> Work {
        let payload = request.payload();
        let (_, work) = request::work(&payload).expect("a good request");
        self.shard.request_mut(slot)[..payload.len()].copy_from_slice(&payload);
        self.order(slot, &work, payload.len(), 0);
        work
    }

    pub(crate) fn order(&mut self, slot: u32, work: &Work, payload_len: usize, deadline_ns: u64) {
        let order =
            Order::new(work, id(slot), payload_len as u32, 1, deadline_ns, slot.wrapping_mul(77));
        self.shard.set_order(slot, &order);
    }

    /// Lends one batch and waits until all of it is back, in its order.
    pub(crate) fn run(&mut self, slots: &[u32]) {
        self.shard.lend(0, slots.iter().copied());
        assert_eq!(self.collect(slots.len()), slots, "completed in order");
    }

    /// Lends one batch and waits until all of it is back, each once, in whatever order.
    pub(crate) fn run_all(&mut self, slots: &[u32]) {
        self.shard.lend(0, slots.iter().copied());
        let mut back = self.collect(slots.len());
        let mut expected = slots.to_vec();
        back.sort_unstable();
        expected.sort_unstable();
        assert_eq!(back, expected);
    }

    /// Lends each slot as a batch of its own, all at once, and waits until all are back, each once.
    pub(crate) fn run_apart(&mut self, slots: &[u32]) {
        for slot in slots {
            self.shard.lend(0, std::iter::once(*slot));
        }
        let mut back = self.collect(slots.len());
        let mut expected = slots.to_vec();
        back.sort_unstable();
        expected.sort_unstable();
        assert_eq!(back, expected);
    }

    /// Waits until so many slots are back, asleep meanwhile as a frugal shard is.
    fn collect(&mut self, count: usize) -> Vec<u32> {
        let mut all = Vec::new();
        while all.len() < count {
            let back = loop {
                if let Some(back) = self.shard.completion(0) {
                    break back.expect("honest worker");
                }
                if self.shard.park() {
                    let door = Arc::clone(self.shard.door());
                    let fd = door.fd();
                    let rung = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&PATIENCE))
                        .expect("poll");
                    assert!(rung > 0, "{} of {count} slots are back, and no more come", all.len());
                    door.silence();
                }
                self.shard.unpark();
            };
            assert_eq!(self.shard.outcome(back).lending, back.wrapping_mul(77));
            all.push(back);
        }
        all
    }

    /// What the worker says after its first answer.
    pub(crate) fn news(&self) -> Answer {
        receive_answer(self.control.as_ref().expect("open")).expect("an answer")
    }

    pub(crate) fn outcome(&self, slot: u32) -> Outcome {
        self.shard.outcome(slot)
    }

    /// The frames of a slot's reply, header checked, payload out.
    pub(crate) fn frames(&self, slot: u32) -> Vec<&[u8]> {
        let outcome = self.outcome(slot);
        assert_eq!(
            outcome.status,
            0,
            "refused with {:?}",
            wire::ErrorCode::from_code(outcome.status)
        );
        let mut rest = &self.shard.reply(slot)[..outcome.reply_len as usize];
        let mut payloads = Vec::new();
        while !rest.is_empty() {
            let header = Header::peek(rest).expect("header");
            assert!(header.check(u32::MAX).is_ok());
            assert_eq!(header.kind(), Ok(Kind::QueryResponse));
            assert_eq!(header.message_id(), id(slot));
            let end = HEADER_LEN + header.payload_len() as usize;
            let payload = &rest[HEADER_LEN..end];
            assert_eq!(header.checksum(), wire::check::crc16(payload), "WIRE-09");
            payloads.push(payload);
            rest = &rest[end..];
        }
        assert_eq!(payloads.len(), usize::from(outcome.frames));
        payloads
    }

    /// The only frame of a slot's reply.
    pub(crate) fn reply(&self, slot: u32) -> Response<'_> {
        let frames = self.frames(slot);
        assert_eq!(frames.len(), 1);
        let response = response::read(frames[0]).expect("a whole answer");
        assert_eq!(response.root.query_id, query_id(), "the request's id comes back");
        response
    }

    pub(crate) fn status(&self, slot: u32) -> Option<wire::ErrorCode> {
        wire::ErrorCode::from_code(self.outcome(slot).status)
    }

    /// Closes the control socket and waits for the worker's exit code.
    pub(crate) fn close(&mut self) -> u8 {
        drop(self.control.take());
        match self.worker.take().expect("running") {
            Worker::Thread(thread) => thread.join().expect("no panic"),
            Worker::Process(mut child) => {
                let status = child.wait().expect("a child");
                status.code().unwrap_or_else(|| panic!("{status}")) as u8
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.worker.is_some() && !thread::panicking() {
            self.close();
        }
    }
}

fn id(slot: u32) -> u64 {
    0xB000_0000_0000_0000 | u64::from(slot)
}

fn query_id() -> [u8; 16] {
    *b"a query's own id"
}

/// A request as a client would send it.
pub(crate) struct Request<'a> {
    pub(crate) work: TensorWork,
    pub(crate) rows: &'a [u8],
    pub(crate) streaming: bool,
}

impl<'a> Request<'a> {
    pub(crate) const fn new(work: TensorWork, rows: &'a [u8]) -> Self {
        Self { work, rows, streaming: false }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut request = QueryRequest {
            query_id: query_id(),
            work: self.work,
            streaming: self.streaming,
            ..QueryRequest::default()
        };
        RequestFrame::begin_with(&mut frame, self.rows)
            .finish(&mut request, 1, 1)
            .expect("short enough");
        frame.split_off(HEADER_LEN)
    }
}

pub(crate) const fn bit(operation: Operation) -> u32 {
    1 << operation.code()
}
