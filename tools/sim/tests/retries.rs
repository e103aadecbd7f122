//! Taking requests back (W83), and retries that run once (POOL-06, W84).

mod rig;

use dataplane_core::{
    limits::MS,
    stats::{Cancel, Retry},
};
use rig::Rig;
use sim::{Plan, World, request::Message, rng::Rng, script::Step};
use std::collections::BTreeMap;
use wire::{Dtype, ErrorCode, payload::TensorWork};

fn echo(id: u64, len: u32) -> Message {
    Message::echo(&mut Rng::new(id), id, len)
}

fn codes(world: &World, client: usize) -> Vec<(u64, Option<ErrorCode>)> {
    world.clients[client].answers.iter().map(|answer| (answer.id, answer.code)).collect()
}

/// One worker that stands still and has a batch of one request (id 1); what comes next waits.
fn stalled() -> Rig {
    let mut rig = Rig::new(Plan::quiet(1));
    rig.world.stall_workers(true);
    rig.client(vec![Step::Send(echo(1, 100))]);
    rig.until(|world| world.shard.ledger().lent == 1);
    rig
}

#[test]
fn w83_what_waits_is_taken_back_at_once_and_its_slot_is_free() {
    let mut rig = stalled();
    rig.steps(0, vec![Step::Send(echo(2, 100)), Step::Send(echo(3, 100)), Step::Cancel(2)]);
    rig.after(MS);
    assert_eq!(codes(&rig.world, 0), [(2, Some(ErrorCode::Cancelled))]);
    assert_eq!(rig.world.shard.ledger().arrived, 1);
    let world = rig.finish();
    assert_eq!(codes(&world, 0)[1..], [(1, None), (3, None)]);
    assert_eq!(world.stats.cancels(Cancel::Waiting), 1);
}

#[test]
fn w83_of_what_a_worker_has_the_answer_is_dropped() {
    let mut rig = stalled();
    rig.steps(0, vec![Step::Cancel(1)]);
    rig.after(MS);
    assert_eq!(codes(&rig.world, 0), [(1, Some(ErrorCode::Cancelled))]);
    assert_eq!(rig.world.shard.ledger().lent, 1, "the slot stays with the worker");
    // The client would complain about a second answer.
    let world = rig.finish();
    assert_eq!(world.stats.cancels(Cancel::Lent), 1);
    assert_eq!(world.stats.replies.get(), 0);
}

#[test]
fn w83_taking_back_what_is_not_there_means_nothing() {
    let mut rig = stalled();
    let stranger = rig.client(vec![Step::Cancel(1), Step::Cancel(77)]);
    rig.steps(0, vec![Step::Cancel(2)]);
    rig.after(MS);
    let world = rig.finish();
    assert_eq!(codes(&world, 0), [(1, None)], "nobody takes back what another asked for");
    assert_eq!(codes(&world, stranger), []);
    assert_eq!(world.stats.cancels(Cancel::Unknown), 3);
}

#[test]
fn w83_a_connection_that_ends_takes_back_what_waits() {
    let mut rig = stalled();
    rig.steps(0, vec![Step::Send(echo(2, 100)), Step::Send(echo(3, 100)), Step::Pause(MS)]);
    rig.until(|world| world.shard.ledger().arrived == 2);
    rig.steps(0, vec![Step::Reset]);
    rig.until(|world| world.stats.open.get() == 0);
    let ledger = rig.world.shard.ledger();
    assert_eq!((ledger.arrived, ledger.lent), (0, 1));
    let world = rig.finish();
    assert_eq!(world.stats.cancels(Cancel::Closed), 2);
    assert_eq!(world.checks.batches.lent.len(), 1, "no worker saw the others");
}

#[test]
fn w83_other_reports_are_not_for_a_node() {
    let mut rig = Rig::new(Plan::quiet(1));
    let mut report = Message::cancel(5);
    let refusal = wire::error::Refusal::new(ErrorCode::Overloaded, 1);
    report.resize(wire::error::FRAME_MAX, 0);
    let len = wire::error::write_frame(&mut report, 5, 1, &refusal);
    let kind = wire::Kind::ErrorReport.code();
    let unserved = sim::request::Expect::Refusal(ErrorCode::UnservedType);
    let other = Message::raw(5, kind, 0, &report[wire::HEADER_LEN..len], unserved.clone());
    let long = Message::raw(6, kind, 0, &[0; 1_600], unserved);
    let broken =
        Message::raw(7, kind, 0, &[0xFF; 64], sim::request::Expect::Refusal(ErrorCode::BadArchive));
    let client =
        rig.client(vec![Step::stream(vec![other, long, broken, Message::ping(8)], vec![40])]);
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 4);
}

#[test]
fn pool_06_a_retry_takes_over_the_answer_of_a_lost_connection() {
    // Short answers are copied, long ones sent from their slot: both get a header of their own.
    for len in [100, 9_000] {
        let mut rig = Rig::new(Plan::quiet(1));
        rig.world.stall_workers(true);
        let first = echo(1, len);
        rig.client(vec![Step::Send(first.clone())]);
        rig.until(|world| world.shard.ledger().lent == 1);
        rig.steps(0, vec![Step::Reset]);
        rig.until(|world| world.stats.open.get() == 0);
        let retry = rig.client(vec![Step::Send(first.again(1 << 32 | 1, 1))]);
        rig.until(|world| world.stats.retries(Retry::TakenOver) == 1);
        // Its content, and that it comes once, is judged by the client.
        let world = rig.finish();
        assert_eq!(codes(&world, retry), [(1 << 32 | 1, None)]);
        assert_eq!(world.checks.batches.lent.len(), 1, "computed once");
    }
}

/// The worker was told the deadline of the first, and refuses by it.
#[test]
fn pool_06_a_retry_that_takes_over_has_a_deadline_of_its_own() {
    let mut rig = Rig::new(Plan::quiet(1));
    rig.world.stall_workers(true);
    let work = TensorWork::echo(Dtype::U8, 1, 100);
    let first = Message::work(&mut Rng::new(1), 1, work, false, 5);
    rig.client(vec![Step::Send(first.clone())]);
    rig.until(|world| world.shard.ledger().lent == 1);
    rig.until(|world| world.clients[0].answers.len() == 1);
    rig.steps(0, vec![Step::Send(first.again(1 << 32 | 1, 1))]);
    rig.until(|world| world.stats.retries(Retry::TakenOver) == 1);
    rig.world.stall_workers(false);
    let world = rig.finish();
    let late = Some(ErrorCode::DeadlineExceeded);
    assert_eq!(codes(&world, 0), [(1, late), (1 << 32 | 1, None)]);
    assert_eq!(world.checks.batches.lent.len(), 2, "lent again with the deadline of the retry");
}

#[test]
fn pool_06_a_retry_beside_the_first_is_a_duplicate_and_later_gets_its_answer() {
    let mut rig = Rig::new(Plan::quiet(1));
    rig.world.stall_workers(true);
    let first = echo(1, 100);
    rig.client(vec![Step::Send(first.clone())]);
    rig.until(|world| world.shard.ledger().lent == 1);
    let retry = rig.client(vec![Step::Send(first.clone().again(2 << 32 | 1, 1))]);
    rig.until(|world| world.stats.retries(Retry::Duplicate) == 1);
    rig.world.stall_workers(false);
    rig.until(|world| world.stats.replies.get() == 1);
    rig.steps(retry, vec![Step::Send(first.again(2 << 32 | 2, 2))]);
    let world = rig.finish();
    let expected = [(2 << 32 | 1, Some(ErrorCode::Duplicate)), (2 << 32 | 2, None)];
    assert_eq!(codes(&world, retry), expected);
    assert_eq!((world.stats.retries(Retry::Kept), world.checks.batches.lent.len()), (1, 1));
}

#[test]
fn pool_06_a_retry_of_what_came_to_nothing_runs() {
    let mut rig = stalled();
    let second = echo(2, 100);
    rig.steps(0, vec![Step::Send(second.clone()), Step::Cancel(2), Step::Pause(MS)]);
    rig.steps(0, vec![Step::Send(second.again(3, 1))]);
    rig.after(2 * MS);
    let world = rig.finish();
    assert_eq!(codes(&world, 0), [(2, Some(ErrorCode::Cancelled)), (1, None), (3, None)]);
    assert_eq!(world.stats.retries(Retry::Run), 1);
}

#[test]
fn pool_06_no_request_is_computed_twice_however_often_it_is_asked_for() {
    let mut plan = Plan::quiet(9);
    plan.workers = 2;
    plan.service_max = 2 * MS;
    plan.pause_max = 5 * MS;
    plan.network.delay_max = MS;
    plan.network.piece_max = 700;
    let mut rig = Rig::new(plan);
    let mut rng = Rng::new(11);
    // The upper half of an id names the attempt, the lower one the question.
    const QUESTIONS: u64 = 200;
    let questions: Vec<Message> = (1..=QUESTIONS).map(|id| echo(id, 200)).collect();
    for attempt in 0..6_u8 {
        let mut steps = Vec::new();
        for question in &questions {
            // Before the first answer is there, together with it, or long after.
            steps.push(Step::Pause(rng.below(2 * MS)));
            let id = u64::from(attempt) << 32 | question.id;
            steps.push(Step::Send(question.clone().again(id, attempt)));
            if rng.chance(5) {
                steps.extend([Step::Reset, Step::Reconnect]);
            }
        }
        rig.client(steps);
    }
    let world = rig.finish();
    let mut computed: BTreeMap<u64, u64> = BTreeMap::new();
    let orders = world.checks.batches.lent.iter().flat_map(|batch| &batch.orders);
    orders.for_each(|order| *computed.entry(order.message_id & 0xFFFF_FFFF).or_default() += 1);
    // The first attempt always runs, also behind a retry that overtook it: that one is allowed.
    let firsts: BTreeMap<u64, u64> = {
        let mut firsts = BTreeMap::new();
        let orders = world.checks.batches.lent.iter().flat_map(|batch| &batch.orders);
        orders
            .filter(|order| order.message_id >> 32 == 0)
            .for_each(|order| *firsts.entry(order.message_id).or_default() += 1);
        firsts
    };
    for (question, times) in &computed {
        let first = firsts.get(question).copied().unwrap_or(0);
        assert!(*times - first <= 1, "question {question} ran {times} times, {first} as the first");
    }
    assert!(world.stats.retries(Retry::Kept) > 100);
    assert!(world.stats.retries(Retry::Duplicate) > 0);
    assert_eq!(world.recall.overruns(), 0);
}
