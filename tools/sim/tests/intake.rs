//! WIRE-12: however the stream is cut, the same messages come out of it; and what intake does where
//! there is no room, in either lane.

mod rig;

use dataplane_core::{Geometry, limits::MS, stats::CloseCause};
use rig::{Rig, at_rest};
use sim::{
    Plan,
    client::Answer,
    plan::{roomy, tiny},
    request::{Expect, Message},
    rng::Rng,
    script::Step,
};
use wire::{Compression, Dtype, ErrorCode, Kind, payload::TensorWork};

/// Every kind of small frame, and some that are refused.
fn small_frames() -> Vec<Message> {
    let mut rng = Rng::new(3);
    let echo = |rng: &mut Rng, id, len| Message::echo(rng, id, len);
    let rows = TensorWork::topk(Dtype::F16, 3, 20, 4, Dtype::F16);
    let unknown = Expect::Refusal(ErrorCode::UnknownType);
    vec![
        Message::ping(1),
        Message::heartbeat(2, 77, false),
        echo(&mut rng, 3, 1),
        Message::raw(4, 0x7777, 0, &[9; 48], unknown),
        Message::ping(5),
        echo(&mut rng, 6, 200).damaged(&mut Rng::new(1), false),
        Message::work(&mut rng, 7, rows, false, 0),
        echo(&mut rng, 8, 300).compressed(Compression::Lz4),
        Message::heartbeat(9, 78, false),
    ]
}

/// Frames that take the connection into the bulk lane, through it, and out of it again.
fn bulk_frames() -> Vec<Message> {
    let mut rng = Rng::new(4);
    let mut frames = vec![Message::echo(&mut rng, 1, 700), Message::heartbeat(2, 1, true)];
    frames.push(Message::echo(&mut rng, 3, 3_000));
    frames.push(Message::echo(&mut rng, 4, 2_000).compressed(Compression::Zstd));
    frames.extend((5..12).map(|id| Message::echo(&mut rng, id, 20)));
    frames.push(Message::ping(12));
    frames.push(Message::raw(13, 0x7777, 0, &[1; 1_600], Expect::Refusal(ErrorCode::UnknownType)));
    frames.push(Message::echo(&mut rng, 14, 2_500));
    frames
}

fn small_geometry() -> Geometry {
    Geometry { small_request: 1_024, small_reply: 2_048, bulk_slots: 2, ..tiny() }
}

/// What a client reads when its frames come in these pieces: content was judged by the client, so
/// the rest is which messages were answered how. Answers of workers and of the node itself may
/// overtake each other.
fn read(
    geometry: Geometry,
    frames: &[Message],
    pieces: Vec<usize>,
) -> Vec<(u64, Kind, Option<ErrorCode>)> {
    let mut plan = Plan::quiet(1);
    plan.geometry = geometry;
    let mut rig = Rig::new(plan);
    let client = rig.client(vec![Step::stream(frames.to_vec(), pieces), Step::Await, Step::Fin]);
    let world = at_rest(rig);
    let sent: usize = frames.iter().map(|frame| frame.frame.len()).sum();
    assert_eq!(world.stats.bytes_in.get(), sent as u64, "every byte is counted once");
    let told = |a: &Answer| (a.id, a.kind, a.code);
    let mut answers: Vec<_> = world.clients[client].answers.iter().map(told).collect();
    answers.sort_unstable();
    answers
}

fn length(frames: &[Message]) -> usize {
    frames.iter().map(|frame| frame.frame.len()).sum()
}

#[test]
fn wire_12_every_split_of_small_frames_parses_identically() {
    let frames = small_frames();
    let whole = read(roomy(), &frames, vec![]);
    assert_eq!(whole.len(), frames.len());
    for at in 1..length(&frames) {
        assert_eq!(read(roomy(), &frames, vec![at]), whole, "split at {at}");
    }
}

#[test]
fn wire_12_every_piece_size_parses_identically() {
    let frames = small_frames();
    let whole = read(roomy(), &frames, vec![]);
    for size in (1..=160).chain([1_000, 1_500]) {
        let pieces = vec![size; length(&frames) / size];
        assert_eq!(read(roomy(), &frames, pieces), whole, "pieces of {size}");
    }
}

#[test]
fn wire_12_splits_on_the_way_through_the_bulk_lane_parse_identically() {
    let frames = bulk_frames();
    let whole = read(small_geometry(), &frames, vec![]);
    assert_eq!(whole.len(), frames.len());
    for at in (1..length(&frames)).step_by(3) {
        assert_eq!(read(small_geometry(), &frames, vec![at]), whole, "split at {at}");
    }
    for size in (1..=97).step_by(8).chain([512, 1_100]) {
        let pieces = vec![size; length(&frames) / size];
        assert_eq!(read(small_geometry(), &frames, pieces), whole, "pieces of {size}");
    }
}

#[test]
fn wire_12_random_pieces_parse_identically() {
    let frames: Vec<Message> = bulk_frames();
    let whole = read(small_geometry(), &frames, vec![]);
    let mut rng = Rng::new(12);
    for round in 0..300 {
        let most = rng.range(1, 3_000);
        let pieces = (0..length(&frames)).map(|_| rng.size(most) as usize).collect();
        assert_eq!(read(small_geometry(), &frames, pieces), whole, "round {round}");
    }
}

#[test]
fn bytes_kept_on_the_way_to_the_bulk_lane_are_not_overtaken_by_a_fill() {
    // One bulk slot. The first frame starts the change of lanes; what follows it in the same piece
    // cannot be taken before the slot is free again.
    let mut plan = Plan::quiet(1);
    plan.geometry = tiny();
    plan.service_max = 3 * MS;
    let mut rig = Rig::new(plan);
    let mut rng = Rng::new(8);
    let frames: Vec<Message> = (1..6).map(|id| Message::echo(&mut rng, id, 5_000)).collect();
    let client = rig.client(vec![Step::stream(frames, vec![4_000, 8_000])]);
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 5);
    assert!(world.stats.waits.get() > 0, "nothing had to wait: the scenario shows nothing");
}

#[test]
fn a_connection_returns_to_the_small_lane_after_a_run_of_small_frames() {
    let mut rig = Rig::new(Plan::quiet(1));
    let mut rng = Rng::new(8);
    let mut steps = vec![Step::Send(Message::heartbeat(1, 1, true)), Step::Await];
    for id in 2..20 {
        steps.extend([Step::Send(Message::echo(&mut rng, id, 10)), Step::Await]);
    }
    rig.client(steps);
    let world = rig.finish();
    assert_eq!((world.stats.to_bulk.get(), world.stats.to_small.get()), (1, 1));
    assert_eq!(world.stats.frames_bulk.get(), 4);
}

#[test]
fn a_heartbeat_in_two_pieces_is_answered_even_where_every_chunk_is_taken() {
    let mut plan = Plan::quiet(1);
    plan.geometry = Geometry { chunks: 1, ..tiny() };
    plan.network.window_down = 40_000;
    let mut rig = Rig::new(plan);
    // The first client reads nothing for a while: its long answers are stuck, and the pong behind
    // them holds the only chunk. That happens between the two pieces of the other's heartbeat.
    let mut rng = Rng::new(8);
    let mut steps = vec![Step::Stall(50 * MS)];
    steps.extend((1..4).map(|id| Step::Send(Message::echo(&mut rng, id, 15_000))));
    steps.extend([Step::Pause(3 * MS), Step::Send(Message::ping(9))]);
    rig.client(steps);
    let beats = vec![Message::heartbeat(1, 5, true), Message::ping(2)];
    let other = rig.client(vec![Step::Stream(beats, vec![50], 2 * MS)]);
    rig.after(10 * MS);
    assert!(rig.world.clients[other].answers.is_empty(), "there was a chunk after all");
    let world = rig.finish();
    assert_eq!(world.clients[other].answers.len(), 2);
}

#[test]
fn a_stream_of_whole_frames_is_not_a_slow_sender_though_it_never_pauses_between_two() {
    let mut plan = Plan::quiet(1);
    plan.limits.frame_timeout = 100 * MS;
    let mut rig = Rig::new(plan);
    // Each piece ends inside a frame, for ten seconds; each frame is complete 20 ms after its first
    // byte.
    let mut rng = Rng::new(8);
    let frames: Vec<Message> = (1..500).map(|id| Message::echo(&mut rng, id, 10)).collect();
    let len = frames[0].frame.len();
    let pieces = [vec![len / 2], vec![len; frames.len() - 1]].concat();
    let client = rig.client(vec![Step::Stream(frames, pieces, 20 * MS)]);
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 499);
    assert_eq!(world.stats.closes(CloseCause::SlowSender), 0);
    assert!(world.now > 4_000 * MS, "not long enough to show anything");
}
