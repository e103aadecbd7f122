//! What a worker refuses, and how it starts and ends.

use crate::support::{BULK, LAYOUT, Request, Rig, bit, sample};
use link::{SharedFile, hello::Answer};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::write,
    time::{ClockId, clock_gettime},
};
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
};
use wire::{Dtype, ErrorCode, Operation, Order, Work, payload::TensorWork};
use worker::{Args, Choice, Poll, exit, run_on};

fn rig() -> Rig {
    Rig::start(Args { backend: Choice::Cpu, poll: Poll::Frugal, ..Args::default() }, None)
}

fn echo(rows: &[u8]) -> Request<'_> {
    Request::new(TensorWork::echo(Dtype::U8, 1, rows.len() as u32), rows)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A deadline that has passed is not computed for; one far away does no harm.
#[test]
fn query_09_an_expired_deadline_is_refused_before_the_work() {
    let mut rig = rig();
    let request = echo(&[1; 64]);
    let len = request.payload().len();
    let work = rig.load(0, &request);
    rig.order(0, &work, len, 1);
    rig.load(1, &request);
    rig.order(1, &work, len, now_ns() + 3_600_000_000_000);
    rig.load(2, &request);
    rig.order(2, &work, len, now_ns());
    rig.run(&[0, 1, 2]);
    assert_eq!(rig.status(0), Some(ErrorCode::DeadlineExceeded));
    assert_eq!(rig.reply(1).echo.expect("a tensor").data, [1; 64]);
    assert_eq!(rig.status(2), Some(ErrorCode::DeadlineExceeded));
    assert_eq!(rig.outcome(0).reply_len, 0);
}

/// A bit that turned over between socket and worker is found by the inner CRC-32C.
#[test]
fn wire_a_spoilt_payload_is_refused_by_its_inner_check() {
    let mut rig = rig();
    let rows = vec![9; 6000];
    let request = Request::new(TensorWork::int8(Dtype::F16, 1, 3000), &rows);
    rig.load(0, &request);
    rig.load(1, &request);
    rig.shard.request_mut(1)[4321] ^= 16;
    rig.run(&[0, 1]);
    assert!(rig.reply(0).hidden_states.is_some());
    assert_eq!(rig.status(1), Some(ErrorCode::BadCheck));
}

/// Orders are believed as little as requests are.
#[test]
fn orders_that_do_not_fit_their_payload_are_refused() {
    let mut rig = rig();
    let good = rig.load(0, &echo(&[1; 64]));
    let text = Work { operation: Operation::Generate, rows: 0, cols: 0, data_len: 0, ..good };
    let cases: [(Work, usize, ErrorCode); 6] = [
        (good, 1 << 30, ErrorCode::BadRequest),
        (good, 63, ErrorCode::BadRequest),
        (Work { data_offset: u32::MAX, ..good }, 64, ErrorCode::BadRequest),
        (Work { data_len: 65, ..good }, 96, ErrorCode::BadRequest),
        (Work { rows: 0, data_len: 0, ..good }, 96, ErrorCode::BadShape),
        (text, 96, ErrorCode::NoCapableWorker),
    ];
    for (work, len, code) in cases {
        rig.order(0, &work, len, 0);
        rig.run(&[0]);
        assert_eq!(rig.status(0), Some(code), "{work:?} over {len}");
    }
    // Codes that no registry has, as raw bytes.
    rig.load(0, &echo(&[1; 64]));
    let bytes = [0xFF_u8; 64];
    let mut order: Order = zerocopy::transmute!(bytes);
    (order.payload_len, order.deadline_ns, order.lending) = (96, 0, 0);
    rig.shard.set_order(0, &order);
    rig.run(&[0]);
    assert_eq!(rig.status(0), Some(ErrorCode::BadRequest));
    // And the worker goes on.
    rig.load(0, &echo(&[5; 64]));
    rig.run(&[0]);
    assert_eq!(rig.reply(0).echo.expect("a tensor").data, [5; 64]);
}

#[test]
fn a_reply_that_has_no_room_is_refused() {
    let mut rig = rig();
    // 5,000 bytes of echo do not fit into a small slot's 4 KiB of reply; in a bulk slot they do.
    let rows = [3; 5000];
    for slot in [0, BULK] {
        rig.load(slot, &echo(&rows));
    }
    rig.run(&[0, BULK]);
    assert_eq!(rig.status(0), Some(ErrorCode::ReplyTooLong));
    assert_eq!(rig.reply(BULK).echo.expect("a tensor").data, rows);
}

#[test]
fn lm_head_without_weights_is_refused() {
    let mut rig = rig();
    let work = TensorWork::lm_head(Dtype::F16, 1, 4, 1, Dtype::F16);
    rig.load(0, &Request::new(work, &[0; 8]));
    rig.run(&[0]);
    assert_eq!(rig.status(0), Some(ErrorCode::NoCapableWorker));
}

/// More orders than the worker takes up at once, in one batch.
#[test]
fn batch_a_full_segment_is_served() {
    let mut rig = rig();
    let slots: Vec<u32> = (0..LAYOUT.slots()).collect();
    for slot in &slots {
        rig.load(*slot, &echo(&slot.to_le_bytes()));
    }
    rig.run(&slots);
    for slot in slots {
        assert_eq!(rig.reply(slot).echo.expect("a tensor").data, slot.to_le_bytes());
    }
}

#[test]
fn the_answer_says_what_is_served_and_on_what() {
    let basic = [Operation::Echo, Operation::TopK, Operation::Int8, Operation::Hidden];
    let basic = basic.into_iter().map(bit).sum::<u32>();
    for (weights, served) in
        [(None, basic), (Some("lm_head.safetensors"), basic | bit(Operation::LmHead))]
    {
        let rig = Rig::start(Args::default(), weights);
        let Answer::Ready { pid, operations, backend, text, .. } = &rig.answer else {
            panic!("refused: {:?}", rig.answer);
        };
        assert_eq!((*pid, *operations), (std::process::id(), served));
        // There is no CUDA device here, so `auto` is the CPU, and says why.
        assert_eq!(backend, "cpu");
        assert!(text.contains("CUDA"), "{text}");
    }
}

/// Each way to wait ends with the node, asleep or spinning.
#[test]
fn a_worker_goes_when_its_node_goes() {
    for poll in [Poll::Latency, Poll::Balanced, Poll::Frugal] {
        let mut rig = Rig::start(Args { backend: Choice::Cpu, poll, ..Args::default() }, None);
        rig.load(0, &echo(&[7; 32]));
        rig.run(&[0]);
        assert_eq!(rig.close(), exit::GONE, "{poll:?}");
        assert_eq!(rig.reply(0).echo.expect("a tensor").data, [7; 32]);
    }
}

fn refused(rig: &mut Rig, part: &str) {
    let Answer::Refused { reason } = &rig.answer else { panic!("{:?}", rig.answer) };
    assert!(reason.contains(part), "{reason}");
    assert_eq!(rig.close(), exit::REFUSED);
}

#[test]
fn cuda_on_demand_is_refused_with_the_reason() {
    let args = Args { backend: Choice::Cuda, poll: Poll::Frugal, ..Args::default() };
    refused(&mut Rig::start(args, None), "CUDA");
}

#[test]
fn an_offer_that_does_not_fit_is_refused() {
    let args = Args::default;
    refused(&mut Rig::offer(args(), None, |offer| offer.layout_hash ^= 1), "layout");
    refused(&mut Rig::offer(args(), None, |offer| offer.worker = 1), "does not fit");
    refused(&mut Rig::offer(args(), None, |offer| offer.shards.push(offer.door)), "does not fit");
    refused(&mut Rig::offer(args(), None, |offer| offer.files.segment = offer.door), "segment");
    // A descriptor that is not sealed could shrink while it is read.
    refused(
        &mut Rig::offer(args(), None, |offer| offer.weights = Some(offer.files.segment)),
        "sealed",
    );
}

/// A sealed file that holds these bytes.
pub(crate) fn sealed(bytes: &[u8]) -> SharedFile {
    let fd: OwnedFd = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memfd");
    assert_eq!(write(&fd, bytes), Ok(bytes.len()));
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&fd, seals).expect("seals");
    SharedFile::attach(fd).expect("sealed")
}

#[test]
fn weights_that_cannot_serve_are_refused_by_name() {
    let whole = std::fs::read(sample("lm_head.safetensors")).expect("sample");
    let hidden = std::fs::read(sample("hidden.safetensors")).expect("sample");
    for (bytes, part) in [
        (&whole[..whole.len() - 1], "not a whole safetensors file"),
        (&whole[..100], "not a whole safetensors file"),
        (b"junk".as_slice(), "not a whole safetensors file"),
        (&hidden[..], "no tensor `weight`"),
    ] {
        let file = sealed(bytes);
        refused(&mut Rig::offer(Args::default(), Some(&file), |_| {}), part);
    }
}

#[test]
fn without_a_node_there_is_nothing_to_serve() {
    for first in [b"".as_slice(), b"GET / HTTP/1.1\r\nHost: somebody-else.example\r\n\r\n"] {
        let (ours, theirs) = UnixStream::pair().expect("socket");
        assert_eq!(write(&ours, first), Ok(first.len()));
        drop(ours);
        let worker = thread::spawn(move || run_on(theirs.as_fd(), &Args::default()));
        assert_eq!(worker.join().expect("no panic"), exit::NO_NODE);
    }
}
