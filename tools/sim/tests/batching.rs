//! BATCH-01..07 in scripted worlds: when batches close, how large they are, and who gets what from
//! them.

mod rig;

use dataplane_core::{Limits, driver::Time, limits::MS, stats::CloseReason};
use rig::{Rig, at_rest};
use sim::{Plan, checks::Lent, plan::roomy, request::Message, rng::Rng, script::Step};

/// Lets so many single requests occupy the workers, one batch each, and stalls them.
fn occupied(plan: Plan, singles: u64) -> Rig {
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let client = rig.client(vec![]);
    for id in 1..=singles {
        rig.steps(client, vec![Step::Send(echo(id)), Step::Pause(MS)]);
        rig.until(|world| world.checks.batches.lent.len() == id as usize);
    }
    rig
}

fn echo(id: u64) -> Message {
    Message::echo(&mut Rng::new(id), id, 100)
}

fn plan(workers: u16, batch_max: usize) -> Plan {
    let mut plan = Plan::quiet(1);
    plan.workers = workers;
    plan.limits.batch_max = batch_max;
    plan
}

fn ids(batch: &Lent) -> Vec<u64> {
    batch.orders.iter().map(|order| order.message_id).collect()
}

/// Times of arrival of a batch's requests.
fn arrivals(batch: &Lent) -> Vec<Time> {
    batch.orders.iter().map(|order| order.arrived_ns).collect()
}

#[test]
fn batch_01_and_02_the_defaults_are_32_requests_and_10_milliseconds() {
    let limits = Limits::default();
    assert_eq!((limits.batch_max, limits.batch_wait), (32, 10 * MS));
}

#[test]
fn an_idle_worker_gets_a_request_in_the_turn_it_arrives_in() {
    let mut rig = Rig::new(plan(1, 32));
    rig.client(vec![Step::Pause(MS), Step::Send(echo(1)), Step::Await, Step::Fin]);
    let world = at_rest(rig);
    let batch = &world.checks.batches.lent[0];
    assert_eq!(arrivals(batch), [batch.at]);
    assert_eq!(world.stats.batches(CloseReason::WorkerIdle), 1);
}

#[test]
fn batch_03_the_timer_starts_with_the_first_request_and_dies_with_its_batch() {
    // Two workers with one batch each; two requests fill a batch. The third opens the next.
    let mut rig = occupied(plan(2, 2), 2);
    rig.steps(
        0,
        vec![
            Step::Send(echo(3)),
            Step::Pause(3 * MS),
            Step::Send(echo(4)),
            Step::Pause(MS),
            Step::Send(echo(5)),
        ],
    );
    rig.until(|world| world.checks.batches.lent.len() == 4);
    let lent = &rig.world.checks.batches.lent;
    assert_eq!([ids(&lent[2]), ids(&lent[3])], [vec![3, 4], vec![5]]);
    let opened = lent[3].opened();
    assert!(lent[3].at >= opened + 10 * MS, "the first batch's timer closed the second");
    assert!(lent[3].at <= opened + 10 * MS + 10, "late by {}", lent[3].at - opened - 10 * MS);
    assert_eq!(rig.world.stats.batches(CloseReason::Age), 1);
    rig.finish();
}

#[test]
fn batch_04_a_full_batch_leaves_in_the_turn_that_fills_it() {
    let mut rig = occupied(plan(1, 3), 1);
    let wait = Step::Pause(MS);
    let [three, four, five] = [3, 4, 5].map(|id| Step::Send(echo(id)));
    rig.steps(0, vec![three, wait.clone(), four, wait, five]);
    rig.until(|world| world.checks.batches.lent.len() == 2);
    let batch = &rig.world.checks.batches.lent[1];
    assert_eq!(ids(batch), [3, 4, 5]);
    assert_eq!(arrivals(batch)[2], batch.at, "not in the turn of its last request");
    assert_eq!(rig.world.stats.batches(CloseReason::Full), 1);
    rig.finish();
}

#[test]
fn batch_05_expiry_flushes_what_is_there_and_an_empty_flush_is_nothing() {
    let mut rig = occupied(plan(1, 32), 1);
    rig.steps(0, vec![Step::Send(echo(3)), Step::Pause(9 * MS), Step::Send(echo(4))]);
    rig.until(|world| world.checks.batches.lent.len() == 2);
    let batch = &rig.world.checks.batches.lent[1];
    assert_eq!(ids(batch), [3, 4]);
    assert!((10 * MS..10 * MS + 10).contains(&(batch.at - batch.opened())));
    // Nothing is in a batch any more: the timer asks for nothing, and nothing is lent.
    rig.after(40 * MS);
    assert_eq!(rig.world.checks.batches.lent.len(), 2);
    assert_eq!(rig.world.stats.batches(CloseReason::Age), 1);
    rig.finish();
}

#[test]
fn batch_06_each_result_goes_to_its_own_request_in_order() {
    let mut rig = occupied(plan(1, 8), 1);
    // Rows of equal size and different content, from two clients.
    let mine: Vec<Step> = (10..14).map(|id| Step::Send(echo(id))).collect();
    let theirs = [20, 21, 22, 23].map(|id| 1 << 32 | id);
    let other = rig.client(theirs.map(|id| Step::Send(echo(id))).to_vec());
    rig.steps(0, mine);
    rig.until(|world| world.checks.batches.lent.len() == 2);
    let together = ids(&rig.world.checks.batches.lent[1]);
    assert_eq!(together.len(), 8, "one unit");
    let world = rig.finish();
    // That the content is right was judged by the clients themselves.
    let answered = |client: usize| -> Vec<u64> {
        world.clients[client].answers.iter().map(|answer| answer.id).collect()
    };
    assert_eq!(answered(0), [1, 10, 11, 12, 13]);
    assert_eq!(answered(other), theirs);
}

#[test]
fn batch_07_small_requests_are_handed_over_together() {
    let mut rig = occupied(plan(1, 32), 1);
    rig.steps(0, (100..120).map(|id| Step::Send(echo(id))).collect());
    rig.until(|world| world.checks.batches.lent.len() == 2);
    assert_eq!(rig.world.checks.batches.lent[1].slots.len(), 20);
    rig.finish();
}

#[test]
fn different_shapes_do_not_share_a_batch() {
    let mut rig = occupied(plan(1, 32), 1);
    let long = Message::echo(&mut Rng::new(9), 9, 1_500);
    rig.steps(0, vec![Step::Send(echo(8)), Step::Send(long), Step::Send(echo(10))]);
    // One batch goes to the worker when it is due; the other one waits for it to return one.
    rig.after(12 * MS);
    let world = rig.finish();
    let batches: Vec<Vec<u64>> = world.checks.batches.lent.iter().map(ids).collect();
    assert_eq!(batches, [vec![1], vec![8, 10], vec![9]]);
}

#[test]
fn a_near_deadline_closes_a_batch_before_its_time() {
    let mut rig = occupied(plan(1, 32), 1);
    let mut rng = Rng::new(5);
    let work = wire::payload::TensorWork::echo(wire::Dtype::U8, 1, 100);
    let urgent = Message::work(&mut rng, 5, work, false, 6);
    rig.steps(0, vec![Step::Send(urgent)]);
    rig.until(|world| world.checks.batches.lent.len() == 2);
    let batch = &rig.world.checks.batches.lent[1];
    let waited = batch.at - batch.opened();
    assert!((4 * MS..6 * MS).contains(&waited), "waited {waited}");
    assert_eq!(rig.world.stats.batches(CloseReason::Deadline), 1);
    rig.finish();
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let mut plan = plan(1, 32);
    plan.limits.batch_bytes = 1_000;
    let mut rig = occupied(plan, 1);
    let long = |id| Step::Send(Message::echo(&mut Rng::new(id), id, 600));
    rig.steps(0, vec![long(4), long(5), long(6)]);
    rig.until(|world| world.checks.batches.lent.len() == 2);
    assert_eq!(ids(&rig.world.checks.batches.lent[1]), [4, 5]);
    assert_eq!(rig.world.stats.batches(CloseReason::Bytes), 1);
    rig.finish();
}

#[test]
fn the_geometry_of_these_worlds_is_roomy() {
    assert!(roomy().small_slots >= 32, "otherwise slots, not batches, would decide");
}
