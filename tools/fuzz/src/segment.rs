//! `link`: shared memory in the hands of a hostile worker. It writes any word anywhere between the
//! head and the requests, at any time; the node goes on, and believes nothing that cannot be.

use crate::bytes::Input;
use link::{
    Files, Layout, Segment, ShardSide, WorkerSide,
    door::Door,
    hello::{ANSWER_LEN, Answer},
};
use rustix::io::pwrite;
use std::{cell::RefCell, sync::Arc};
use wire::{Dtype, Operation, Order, Outcome, Work};
use zerocopy::FromBytes as _;

const LAYOUT: Layout = Layout {
    shards: 1,
    workers: 2,
    small_slots: 3,
    small_request: 64,
    small_reply: 64,
    bulk_slots: 1,
    bulk_request: 256,
    bulk_reply: 256,
};
const SLOTS: u32 = LAYOUT.small_slots + LAYOUT.bulk_slots;
/// The head, which a worker has read before the first order.
const HEAD: usize = 4_096;
/// Words that are written by different sides lie this far apart.
const LINE: usize = 128;

/// A node, made once: memory of its own is too slow to make for each input.
struct Node {
    segment: Arc<Segment>,
    /// As the worker sees it.
    mapped: Arc<Segment>,
    side: ShardSide,
    door: Arc<Door>,
    bells: [Arc<Door>; 2],
    /// Bytes before the requests.
    control: usize,
}

thread_local! {
    static NODE: RefCell<Node> = RefCell::new(Node::new());
}

impl Node {
    fn new() -> Self {
        let door = || Arc::new(Door::new().expect("a descriptor"));
        let segment = Arc::new(Segment::create(&LAYOUT).expect("a few pages"));
        let Files { segment: file, requests } = segment.files();
        let own = |fd: rustix::fd::BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor");
        let files = Files { segment: own(file), requests: own(requests) };
        let mapped = Arc::new(Segment::attach(files).expect("just made"));
        let (bells, door) = ([door(), door()], door());
        let side = ShardSide::new(&segment, 0, Arc::clone(&door), &bells);
        let requests = segment.arenas().requests.cast::<u8>().addr().get();
        let control = requests - segment.range().0.addr();
        Self { segment, mapped, side, door, bells, control }
    }

    /// A worker does to shared memory what it likes.
    fn scribble(&self, at: usize, bytes: &[u8]) {
        let at = HEAD + at % (self.control - HEAD - bytes.len());
        let written = pwrite(self.segment.files().segment, bytes, at as u64);
        assert_eq!(written, Ok(bytes.len()));
    }

    /// As after the death of both workers.
    fn begin(&mut self) {
        let zeros = vec![0; self.control - HEAD];
        let written = pwrite(self.segment.files().segment, &zeros, HEAD as u64);
        assert_eq!(written, Ok(zeros.len()));
        for worker in 0..LAYOUT.workers {
            // SAFETY: no worker process exists; the sides that a run makes are dropped at its end.
            unsafe { self.side.reset(worker) };
        }
    }

    fn worker(&self, worker: u16) -> WorkerSide {
        let clone = |door: &Door| door.try_clone().expect("a descriptor");
        let bell = clone(&self.bells[usize::from(worker)]);
        WorkerSide::new(&self.mapped, worker, bell, vec![clone(&self.door)])
    }
}

/// Who has which slot, as the node must see it.
#[derive(Debug, Default)]
struct Model {
    holders: [Option<u16>; SLOTS as usize],
    lendings: [u32; SLOTS as usize],
    count: u32,
}

fn lend(node: &mut Node, model: &mut Model, worker: u16, wanted: u8) {
    let free = (0..SLOTS).filter(|slot| wanted & 1 << slot != 0);
    let free: Vec<u32> = free.filter(|slot| model.holders[*slot as usize].is_none()).collect();
    for slot in &free {
        model.count += 1;
        let work = Work {
            operation: Operation::Echo,
            dtype: Dtype::U8,
            values: Dtype::F32,
            coding: wire::Coding::Plain,
            source: wire::Source::Inline,
            quality: 0.0,
            streaming: false,
            k: 0,
            rows: 1,
            cols: 16,
            data_offset: 0,
            data_len: 16,
            check: None,
        };
        node.side.set_order(*slot, &Order::new(&work, 1, 64, 2, 0, model.count));
        model.holders[*slot as usize] = Some(worker);
        model.lendings[*slot as usize] = model.count;
    }
    node.side.lend(worker, free.into_iter());
}

fn completions(node: &mut Node, model: &mut Model, worker: u16) {
    while let Some(said) = node.side.completion(worker) {
        let Ok(slot) = said else { continue };
        let holder = model.holders[slot as usize].take();
        assert_eq!(holder, Some(worker), "slot {slot} came back from who had it");
        let outcome = node.side.outcome(slot);
        assert_eq!(outcome.lending, model.lendings[slot as usize]);
        assert!(outcome.reply_len <= LAYOUT.reply_cap(slot));
        assert_eq!(node.side.reply(slot).len(), LAYOUT.reply_cap(slot) as usize);
    }
}

/// The worker's code over the same memory: it may refuse to go on, but no more.
fn serve(worker: &WorkerSide, input: &mut Input<'_>) {
    let mut batch = Vec::new();
    if worker.next_batch(usize::from(input.byte() % 5), &mut batch).is_err() {
        return;
    }
    for mut lent in batch {
        if let Ok((payload, reply)) = lent.parts() {
            assert!(payload.len() <= LAYOUT.bulk_request as usize);
            reply.fill(input.byte());
        }
        let said = Outcome::read_from_bytes(input.take(size_of::<Outcome>())).unwrap_or_default();
        let _ = lent.complete(said);
    }
}

pub(crate) fn run(bytes: &[u8]) {
    NODE.with_borrow_mut(|node| {
        node.begin();
        let workers = [node.worker(0), node.worker(1)];
        let (mut model, mut input) = (Model::default(), Input(bytes));
        while !input.is_empty() {
            let op = input.byte();
            let worker = u16::from(op >> 7);
            match op % 8 {
                0 | 1 => lend(node, &mut model, worker, input.byte()),
                2 => completions(node, &mut model, worker),
                3 => serve(&workers[usize::from(worker)], &mut input),
                4 => node.scribble(input.word() as usize & !3, &input.word().to_le_bytes()),
                // The words that each side counts in begin a line.
                5 => {
                    let line = usize::from(input.byte()) * LINE;
                    node.scribble(line, &u32::from(input.byte()).to_le_bytes());
                }
                6 => {
                    if node.side.park() {
                        node.side.unpark();
                    }
                    if workers[usize::from(worker)].park() {
                        workers[usize::from(worker)].unpark();
                    }
                }
                _ => {
                    let _ = node.segment.pulse(worker);
                    workers[usize::from(worker)].beat();
                }
            }
        }
        (0..2).for_each(|worker| completions(node, &mut model, worker));
        for door in node.bells.iter().chain([&node.door]) {
            let _ = door.silence();
        }
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let outcome = [0; size_of::<Outcome>()];
    let honest = [&[0, 0b1111, 3, 4, 1][..], &outcome, &[1], &outcome, &[2, 6, 7]].concat();
    let second = [&[128, 0b0101, 131, 1, 9][..], &outcome, &[130]].concat();
    let wild = vec![0, 3, 5, 4, 200, 5, 5, 1, 2, 4, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 0xFF];
    vec![honest, second, wild]
}

/// What a worker says over its control socket.
pub(crate) fn answers(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<ANSWER_LEN>() else { return };
    let Ok(answer) = Answer::parse(bytes) else { return };
    let words = format!("{answer:?}");
    assert!(!words.contains(char::is_control), "{words}");
    // Texts may have been cut or cleaned; what is left stays.
    let again = Answer::parse(&answer.to_bytes());
    assert!(again.is_ok_and(|again| again.to_bytes() == answer.to_bytes()));
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let ready = Answer::Ready {
        pid: 7,
        operations: 0b11_1110,
        sandbox: 0xFF,
        backend: "cpu".into(),
        text: "one core, avx2; asked for; sandboxed".into(),
    };
    let changed = Answer::Changed { backend: "cpu".into(), text: "the device was lost".into() };
    let refused = Answer::Refused { reason: "the weights are café".into() };
    [ready, changed, refused].map(|answer| answer.to_bytes().to_vec()).to_vec()
}
