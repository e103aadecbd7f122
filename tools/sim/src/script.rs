//! What a client does, step by step, drawn from the plan.
//!
//! The upper 32 bits of a message id name the client and its connection, the lower ones count up.

use crate::{
    plan::Plan,
    request::{Expect, Message, checked},
    rng::Rng,
};
use dataplane_core::{driver::Time, limits::MS};
use wire::{Compression, Dtype, ErrorCode, Kind, Operation, Priority, payload::TensorWork};

/// One thing that a client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Writes a frame, in the network's pieces.
    Send(Message),
    /// Writes frames back to back in exactly these pieces, each of which arrives so long after the
    /// one before, in a turn of its own. What is left over makes the last piece.
    Stream(Vec<Message>, Vec<usize>, Time),
    /// Takes the request of this id back.
    Cancel(u64),
    /// Writes bytes that make no whole frame, or none that counts.
    Raw(Vec<u8>),
    /// Does nothing for so long.
    Pause(Time),
    /// Waits until everything is answered.
    Await,
    /// Reads nothing for so long.
    Stall(Time),
    /// Says that nothing more will come.
    Fin,
    /// Breaks the connection.
    Reset,
    /// Connects anew, once the old connection is gone.
    Reconnect,
}

impl Step {
    /// [`Self::Stream`] without delay.
    #[must_use]
    pub const fn stream(messages: Vec<Message>, pieces: Vec<usize>) -> Self {
        Self::Stream(messages, pieces, 10_000)
    }
}

/// The script of client number `client`.
#[must_use]
pub fn draw(plan: &Plan, rng: &mut Rng, client: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let lives = if rng.chance(40) { rng.range(2, 4) } else { 1 };
    for life in 0..lives {
        if life > 0 {
            steps.push(Step::Reconnect);
        }
        let base = (client as u64 + 1) << 40 | life << 32;
        one_life(plan, rng, base, &mut steps);
    }
    steps
}

fn one_life(plan: &Plan, rng: &mut Rng, base: u64, steps: &mut Vec<Step>) {
    let faults = &plan.faults;
    let count = rng.range(1, plan.messages);
    let pipelined = rng.chance(60);
    let mut retried: Option<Message> = None;
    for n in 0..count {
        if plan.pause_max > 0 && rng.chance(30) {
            steps.push(Step::Pause(rng.below(plan.pause_max)));
        }
        if rng.chance(faults.slow_readers / 4) {
            steps.push(Step::Stall(rng.below(30 * MS)));
        }
        let message = match &retried {
            Some(before) if rng.chance(faults.retries) => {
                Message::again(before.clone(), base + n, 1)
            }
            _ => message(plan, rng, base + n),
        };
        if is_echo(&message) {
            retried = Some(message.clone());
        }
        steps.push(Step::Send(message));
        if rng.chance(faults.cancels) {
            steps.push(Step::Cancel(base + rng.below(n + 2)));
        }
        if !pipelined || rng.chance(10) {
            steps.push(Step::Await);
        }
    }
    end(plan, rng, base + count, steps);
}

/// Whether the same answer fits under another message id, and the frame can be restated.
fn is_echo(message: &Message) -> bool {
    let echo = matches!(&message.expect, Expect::Reply { work, streaming: false, .. }
        if work.operation == Operation::Echo.code());
    echo && message.frame[28..30] == [0, 0]
}

fn end(plan: &Plan, rng: &mut Rng, id: u64, steps: &mut Vec<Step>) {
    let faults = &plan.faults;
    if rng.chance(faults.resets) {
        if rng.chance(50) {
            let part = message(plan, rng, id);
            steps.push(Step::Raw(cut(rng, part)));
        }
        steps.extend([Step::Pause(rng.below(3 * MS)), Step::Reset]);
    } else if rng.chance(faults.cuts) {
        let part = message(plan, rng, id);
        steps.extend([Step::Raw(cut(rng, part)), Step::Fin]);
    } else if rng.chance(faults.fatal) {
        steps.push(Step::Send(Message::fatal(rng, id, plan.geometry.bulk_request)));
        if rng.chance(50) {
            // Ignored, whatever it is.
            let mut noise = vec![0; rng.size(5_000) as usize];
            rng.fill(&mut noise);
            steps.push(Step::Raw(noise));
        }
    } else if rng.chance(30) {
        // A half close before the answers are there.
        steps.push(Step::Fin);
    } else {
        steps.extend([Step::Await, Step::Fin]);
    }
}

/// A part of a frame: at least one byte, at least one missing.
fn cut(rng: &mut Rng, message: Message) -> Vec<u8> {
    let mut frame = message.frame;
    frame.truncate(rng.range(1, frame.len() as u64 - 1) as usize);
    frame
}

/// One message of the plan's mix.
fn message(plan: &Plan, rng: &mut Rng, id: u64) -> Message {
    if rng.chance(plan.faults.malformed) {
        return malformed(plan, rng, id);
    }
    let mix = &plan.mix;
    let weights = [mix.pings, mix.heartbeats, mix.metrics, mix.echoes, mix.bulk, mix.tensors];
    let mut at = rng.below(weights.iter().map(|w| u64::from(*w)).sum()) as u32;
    let mut choice = 0;
    while at >= weights[choice] {
        at -= weights[choice];
        choice += 1;
    }
    match choice {
        0 => Message::ping(id),
        1 => Message::heartbeat(id, rng.next() >> 1, rng.chance(50)),
        2 => Message::metrics(id),
        3 => request(plan, rng, id, 1),
        4 => request(plan, rng, id, 2),
        _ => request(plan, rng, id, 3),
    }
}

/// A request whose payload the node takes: small echo (1), echo of any size (2), other work (3).
fn request(plan: &Plan, rng: &mut Rng, id: u64, class: u32) -> Message {
    let room = u64::from(plan.geometry.bulk_request) - wire::request::ROOT_LEN as u64 - 64;
    let small = u64::from(plan.geometry.small_request) - wire::request::ROOT_LEN as u64 - 64;
    let work = match class {
        1 => TensorWork::echo(Dtype::U8, 1, rng.size(small) as u32),
        2 if rng.chance(30) => TensorWork::echo(Dtype::U8, 1, rng.range(small, room) as u32),
        2 => TensorWork::echo(Dtype::U8, 1, rng.size(room) as u32),
        _ => {
            let dtype = rng.pick(&[Dtype::F32, Dtype::F16, Dtype::Bf16]);
            let elements = rng.size(room / dtype.size() as u64) as u32;
            let rows = rng.size(u64::from(elements.min(80))) as u32;
            let cols = elements / rows;
            if rng.chance(50) {
                let k = rng.range(1, 12) as u32;
                TensorWork::topk(dtype, rows, cols, k, rng.pick(&[Dtype::F32, Dtype::F16]))
            } else {
                TensorWork::int8(dtype, rows, cols)
            }
        }
    };
    let streaming = class == 3 && rng.chance(30);
    let timeout = if rng.chance(plan.faults.deadlines) { rng.range(1, 40) as u32 } else { 0 };
    let mut message = Message::work(rng, id, work, streaming, timeout);
    let fits =
        |work: &wire::Work| wire::reply::reply_len(work) <= u64::from(plan.geometry.bulk_reply);
    if !checked(&work, streaming).as_ref().is_some_and(fits) {
        message = message.expecting(Expect::Refusal(ErrorCode::ReplyTooLong));
    }
    if rng.chance(40) {
        message = message.urgent(rng.pick(Priority::ALL));
    }
    if rng.chance(plan.mix.compressed) {
        let compression = rng.pick(&[Compression::Lz4, Compression::Zstd]);
        let packed = message.clone().compressed(compression);
        // One slot for the bytes as carried and a bulk slot to restore them into must exist at
        // once.
        let carried = packed.payload().len() as u64;
        let limit = if plan.geometry.bulk_slots < 2 {
            u64::from(plan.geometry.small_request)
        } else {
            u64::from(plan.geometry.bulk_request)
        };
        if carried <= limit {
            return packed;
        }
    }
    message
}

/// A message that is refused while the connection lives on.
fn malformed(plan: &Plan, rng: &mut Rng, id: u64) -> Message {
    let class = rng.range(1, 2) as u32;
    let request = request(plan, rng, id, class);
    let query = Kind::QueryRequest.code();
    let refusal = |code| Expect::Refusal(code);
    let mut noise = vec![0; rng.size(3_000).next_multiple_of(16) as usize];
    rng.fill(&mut noise);
    match rng.below(15) {
        0 => request.damaged(rng, false),
        1 if request.payload().len() >= wire::CHECKED_PAYLOAD_MIN
            && matches!(request.expect, Expect::Reply { .. })
            && request.frame[28..30] == [0, 0] =>
        {
            request.damaged(rng, true)
        }
        2 => {
            let kind = rng.range(0x0400, 0xFFFF) as u16;
            Message::raw(id, kind, 0, &noise, refusal(ErrorCode::UnknownType))
        }
        3 => {
            let kind = Kind::GossipStateUpdate.code();
            Message::raw(id, kind, 0, &noise, refusal(ErrorCode::UnservedType))
        }
        4 => {
            let compression = rng.range(3, 900) as u16;
            Message::raw(id, query, compression, &noise, refusal(ErrorCode::UnknownCompression))
        }
        5 => {
            let k_zero = TensorWork { k: 0, ..TensorWork::topk(Dtype::F32, 2, 9, 1, Dtype::F32) };
            Message::work(rng, id, k_zero, false, 0).expecting(refusal(ErrorCode::BadK))
        }
        6 => Message::raw(id, query, 0, &[], refusal(ErrorCode::BadArchive)),
        7 => Message::heartbeat(id, 5, true).damaged(rng, false),
        8 => {
            let mut ping = Message::ping(id).expecting(refusal(ErrorCode::BadChecksum));
            ping.frame[31] ^= 1 << rng.below(8);
            ping
        }
        9 => {
            let ones = [0xFF; wire::heartbeat::FRAME_LEN - wire::HEADER_LEN];
            let heartbeat = Kind::Heartbeat.code();
            Message::raw(id, heartbeat, 0, &ones, refusal(ErrorCode::BadArchive))
        }
        10 => {
            let compression = rng.pick(&[Compression::Lz4, Compression::Zstd]).code();
            noise.truncate(plan.geometry.small_request as usize);
            Message::raw(id, query, compression, &noise, refusal(ErrorCode::BadCompression))
        }
        11 => {
            let empty = TensorWork::echo(Dtype::U8, 0, 9);
            Message::work(rng, id, empty, false, 0).expecting(refusal(ErrorCode::BadShape))
        }
        12 => {
            let bytes = TensorWork::topk(Dtype::U8, 1, 9, 2, Dtype::F32);
            Message::work(rng, id, bytes, false, 0).expecting(refusal(ErrorCode::BadRequest))
        }
        13 => {
            let head = TensorWork::lm_head(Dtype::F32, 1, 9, 1, Dtype::F32);
            Message::work(rng, id, head, false, 0).expecting(refusal(ErrorCode::NoCapableWorker))
        }
        _ => {
            // A root of ones points outside and has impossible values.
            noise.resize(wire::request::ROOT_LEN + 64, 0);
            noise.fill(0xFF);
            Message::raw(id, query, 0, &noise, refusal(ErrorCode::BadArchive))
        }
    }
}

const _: () = assert!(crate::plan::OPERATIONS & (1 << Operation::LmHead as u32) == 0);
