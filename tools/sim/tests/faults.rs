//! What goes wrong outside, in scripted worlds: peers at fault, peers too slow, deadlines, workers
//! that die or lie, a node that is full or drains.

mod rig;

use dataplane_core::{
    Geometry,
    driver::WorkerId,
    limits::{LENDINGS_MAX, MS},
    stats::{Cancel, CloseCause, Place},
};
use rig::{Rig, at_rest};
use sim::{
    Plan, World,
    plan::{roomy, tiny},
    request::Message,
    rng::Rng,
    script::Step,
};
use wire::{Dtype, ErrorCode, Kind, payload::TensorWork};

fn echo(id: u64, len: u32) -> Message {
    Message::echo(&mut Rng::new(id), id, len)
}

/// An echo that may take so many milliseconds.
fn urgent(id: u64, len: u32, timeout_ms: u32) -> Message {
    let work = TensorWork::echo(Dtype::U8, 1, len);
    Message::work(&mut Rng::new(id), id, work, false, timeout_ms)
}

fn codes(world: &World, client: usize) -> Vec<(u64, Option<ErrorCode>)> {
    world.clients[client].answers.iter().map(|answer| (answer.id, answer.code)).collect()
}

#[test]
fn what_came_before_a_fault_is_answered_before_the_half_close() {
    let mut rig = Rig::new(Plan::quiet(1));
    rig.world.stall_workers(true);
    let fatal = Message::fatal(&mut Rng::new(1), 3, roomy().bulk_request);
    let steps = vec![Step::Send(echo(1, 50)), Step::Send(echo(2, 9_000)), Step::Send(fatal)];
    let client = rig.client(steps);
    // The report leaves at once; the half close waits for the answers, however long they take.
    rig.until(|world| world.clients[client].answers.len() == 1);
    rig.after(3_000 * MS);
    assert_eq!(rig.world.stats.closes(CloseCause::Fault), 0);
    rig.world.stall_workers(false);
    let world = at_rest(rig);
    let answered: Vec<u64> = codes(&world, client).iter().map(|(id, _)| *id).collect();
    assert_eq!(answered, [3, 1, 2]);
    assert_eq!(world.stats.closes(CloseCause::Fault), 1);
}

#[test]
fn a_peer_that_half_closes_behind_a_fault_still_reads_the_report() {
    let mut plan = Plan::quiet(1);
    plan.network.effect_max = MS;
    let mut rig = Rig::new(plan);
    let fatal = Message::fatal(&mut Rng::new(1), 3, roomy().bulk_request);
    let client = rig.client(vec![Step::Send(fatal), Step::Fin]);
    let world = at_rest(rig);
    assert_eq!(world.clients[client].answers.len(), 1);
}

#[test]
fn a_peer_that_lingers_after_a_fault_is_closed() {
    let mut rig = Rig::new(Plan::quiet(1));
    let fatal = Message::fatal(&mut Rng::new(1), 3, roomy().bulk_request);
    // It reads nothing, and so does not see the half close.
    let client = rig.client(vec![Step::Stall(5_000 * MS), Step::Send(fatal)]);
    rig.until(|world| world.stats.closes(CloseCause::Fault) == 1);
    let took = rig.world.now;
    assert!((1_000 * MS..=2_100 * MS).contains(&took), "closed at {took}");
    let world = at_rest(rig);
    assert_eq!(world.clients[client].answers.len(), 1, "it was there to be read all the time");
}

#[test]
fn a_slow_sender_is_closed_and_its_slot_is_free_again() {
    let mut plan = Plan::quiet(1);
    plan.limits.frame_timeout = 50 * MS;
    let mut rig = Rig::new(plan);
    let mut part = echo(1, 9_000).frame;
    part.truncate(5_000);
    let client = rig.client(vec![Step::Raw(part)]);
    rig.until(|world| world.shard.ledger().receiving == 1);
    let world = at_rest(rig);
    assert_eq!(world.stats.closes(CloseCause::SlowSender), 1);
    assert_eq!(codes(&world, client), [(1, Some(ErrorCode::PeerTooSlow))], "it is told");
}

#[test]
fn a_slow_reader_is_closed_and_its_slots_and_chunks_are_free_again() {
    let mut plan = Plan::quiet(1);
    plan.limits.write_timeout = 50 * MS;
    plan.network.window_down = 1_000;
    let mut rig = Rig::new(plan);
    let client = rig.client(vec![
        Step::Stall(4_000 * MS),
        Step::Send(echo(1, 9_000)),
        Step::Send(Message::ping(2)),
        Step::Pause(3_000 * MS),
        Step::Reset,
    ]);
    let world = at_rest(rig);
    assert!(world.clients[client].answers.is_empty());
    assert_eq!(world.stats.closes(CloseCause::SlowReader), 1);
}

#[test]
fn one_that_does_not_read_its_pongs_leaves_chunks_to_the_others() {
    let mut plan = Plan::quiet(1);
    plan.geometry = Geometry { chunks: 2, chunk_len: 4_096, ..tiny() };
    plan.limits.unsent_per_connection = 2_000;
    plan.network.window_down = 1_000;
    let mut rig = Rig::new(plan);
    let mut flood = vec![Step::Stall(5_000 * MS)];
    flood.extend((1..1_000).map(|id| Step::Send(Message::ping(id))));
    rig.client(flood);
    rig.after(MS);
    let other = rig.client(vec![Step::Send(echo(1, 50))]);
    rig.until(|world| !world.clients[other].answers.is_empty());
    let answered = rig.world.clients[other].answers[0].at;
    assert!(answered < 5 * MS, "answered only at {answered}");
    rig.finish();
}

#[test]
fn a_deadline_is_answered_when_it_passes_and_what_the_worker_says_later_is_dropped() {
    let mut rig = Rig::new(Plan::quiet(1));
    rig.world.stall_workers(true);
    let client = rig.client(vec![
        Step::Send(echo(1, 100)),
        Step::Send(urgent(2, 100, 30)),
        Step::Send(urgent(3, 4_000, 5)),
    ]);
    rig.until(|world| world.clients[client].answers.len() == 2);
    let world = rig.finish();
    let answers = &world.clients[client].answers;
    let late = Some(ErrorCode::DeadlineExceeded);
    assert_eq!(codes(&world, client), [(3, late), (2, late), (1, None)]);
    let start = 1_000_000;
    assert!((start + 5 * MS..start + 5 * MS + 1_000).contains(&answers[0].at), "{answers:?}");
    assert!((start + 30 * MS..start + 30 * MS + 1_000).contains(&answers[1].at), "{answers:?}");
    assert_eq!(Place::ALL.map(|place| world.stats.expired(place)).iter().sum::<u64>(), 2);
}

#[test]
fn the_deadline_of_an_answer_on_its_way_keeps_nobody_awake() {
    let mut plan = Plan::quiet(1);
    plan.network.window_down = 1_000;
    let mut rig = Rig::new(plan);
    let slow = rig.client(vec![Step::Stall(900 * MS), Step::Send(urgent(1, 9_000, 20))]);
    rig.until(|world| world.shard.ledger().sending == 1);
    let before = rig.world.stats.turns.get();
    rig.after(800 * MS);
    let turns = rig.world.stats.turns.get() - before;
    assert!(turns < 20, "{turns} turns in a world in which nothing happens");
    let world = rig.finish();
    assert_eq!(codes(&world, slow), [(1, None)]);
}

#[test]
fn a_dead_workers_requests_go_to_another_in_order_and_in_batches_of_one_shape() {
    let mut plan = Plan::quiet(1);
    plan.workers = 2;
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let client = rig.client(vec![]);
    // One alone for each worker, then one batch of mixed arrival for each.
    for id in [1, 2] {
        rig.steps(client, vec![Step::Send(echo(id, 100)), Step::Pause(MS)]);
        rig.until(|world| world.checks.batches.lent.len() == id as usize);
    }
    let mixed = (3..11).map(|id| Step::Send(echo(id, if id % 2 == 0 { 100 } else { 1_200 })));
    rig.steps(client, mixed.collect());
    rig.until(|world| world.checks.batches.lent.len() == 4);
    rig.world.kill_worker(WorkerId(0));
    rig.until(|world| world.stats.workers_up.get() == 1);
    rig.world.kill_worker(WorkerId(1));
    // The judge of batches looks at shape and order of everything that is lent.
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 10);
    assert!(world.clients[client].answers.iter().all(|a| a.kind == Kind::QueryResponse));
    assert!(world.stats.reclaimed.get() >= 6, "{} reclaimed", world.stats.reclaimed.get());
}

#[test]
fn a_request_that_outlives_every_worker_is_refused() {
    let mut plan = Plan::quiet(1);
    plan.faults.crashes = 1;
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let client = rig.client(vec![Step::Send(echo(1, 100))]);
    for lending in 1..=LENDINGS_MAX as usize {
        rig.until(|world| world.checks.batches.lent.len() == lending);
        rig.world.kill_worker(WorkerId(0));
    }
    rig.until(|world| world.stats.workers_up.get() == 0);
    let world = rig.finish();
    assert_eq!(codes(&world, client), [(1, Some(ErrorCode::WorkerFailed))]);
}

#[test]
fn wrong_completions_are_counted_and_change_nothing() {
    let mut plan = Plan::quiet(1);
    plan.faults.lies = 100;
    plan.service_max = MS;
    let mut rig = Rig::new(plan);
    let client = rig.client((1..40).map(|id| Step::Send(echo(id, 100))).collect());
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 39);
    assert!(world.stats.link_faults.get() > 0);
    assert_eq!(world.stats.link_faults.get(), world.lies_told());
}

#[test]
fn an_answer_never_reaches_the_next_connection_with_the_same_id() {
    let mut rig = Rig::new(Plan::quiet(1));
    rig.world.stall_workers(true);
    let client = rig.client(vec![Step::Send(echo(1, 100)), Step::Send(echo(2, 9_000))]);
    rig.until(|world| world.shard.ledger().lent > 0);
    rig.steps(client, vec![Step::Reset, Step::Reconnect, Step::Send(echo(3, 100))]);
    rig.until(|world| world.stats.accepted.get() == 2);
    rig.after(20 * MS);
    // The client itself judges that nothing comes which this connection did not ask for.
    let world = rig.finish();
    assert_eq!(codes(&world, client), [(3, None)]);
    // One was with a worker; the other went with its connection.
    assert_eq!((world.stats.orphaned.get(), world.stats.cancels(Cancel::Closed)), (1, 1));
}

#[test]
fn a_connection_too_many_is_told_so_even_where_every_chunk_is_taken() {
    let mut plan = Plan::quiet(1);
    plan.faults.crowd = true;
    plan.limits.connections = 1;
    plan.geometry = Geometry { chunks: 1, ..tiny() };
    plan.network.window_down = 1_000;
    let mut rig = Rig::new(plan);
    // The answer to a long echo is stuck; the pong behind it holds the only chunk.
    let slow = vec![Step::Stall(300 * MS), Step::Send(echo(1, 9_000)), Step::Pause(MS)];
    let first = rig.client(slow);
    rig.steps(first, vec![Step::Send(Message::ping(2))]);
    rig.until(|world| world.stats.pings.get() == 1);
    let second = rig.client(vec![Step::Send(Message::ping(7))]);
    let world = rig.finish();
    assert_eq!(codes(&world, second), [(0, Some(ErrorCode::TooManyConnections))]);
    assert_eq!(world.clients[first].answers.len(), 2);
}

#[test]
fn a_draining_node_answers_refuses_and_is_finished_when_the_last_byte_has_left() {
    let mut plan = Plan::quiet(1);
    plan.network.window_down = 100;
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let client = rig.client(vec![Step::Send(echo(1, 100)), Step::Pause(2 * MS)]);
    rig.steps(client, vec![Step::Stall(50 * MS), Step::Send(echo(2, 100))]);
    rig.until(|world| world.shard.ledger().lent == 1);
    rig.world.drain();
    rig.after(20 * MS);
    assert!(!rig.world.shard.finished(), "a request is with a worker");
    rig.world.stall_workers(false);
    rig.after(5 * MS);
    assert_eq!(rig.world.shard.ledger().free, roomy().slots(), "the reply was copied out");
    assert!(!rig.world.shard.finished(), "its bytes have not left");
    let world = rig.finish();
    assert!(world.shard.finished());
    assert_eq!(codes(&world, client), [(2, Some(ErrorCode::Draining)), (1, None)]);
}

#[test]
fn credit_is_a_bound_and_comes_back() {
    let mut plan = Plan::quiet(1);
    plan.limits.requests_per_connection = 3;
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let client = rig.client((1..10).map(|id| Step::Send(echo(id, 100))).collect());
    rig.after(50 * MS);
    let ledger = rig.world.shard.ledger();
    assert_eq!(ledger.lent + ledger.arrived, 3);
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 9);
}

#[test]
fn a_connection_that_breaks_while_it_waits_for_a_bulk_slot_leaves_nothing_behind() {
    let mut plan = Plan::quiet(1);
    plan.geometry = tiny();
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let holder = rig.client(vec![Step::Send(echo(1, 9_000))]);
    rig.until(|world| world.shard.ledger().lent == 1);
    // Its rows fit a small slot, its answer does not.
    let tokens = TensorWork::topk(Dtype::U8, 1, 1, 1, Dtype::F32);
    let many = TensorWork { dtype: Dtype::F16.code(), rows: 40, cols: 9, k: 9, ..tokens };
    let small = Message::work(&mut Rng::new(2), 2, many, false, 0);
    let waiting = rig.client(vec![Step::Send(small)]);
    rig.until(|world| world.shard.ledger().receiving == 1 && world.stats.waits.get() == 1);
    rig.steps(waiting, vec![Step::Reset]);
    let world = rig.finish();
    assert_eq!(codes(&world, holder), [(1, None)]);
    assert!(world.clients[waiting].answers.is_empty());
}

#[test]
fn peers_are_asked_to_leave_once_and_answered_for_as_long_as_they_stay() {
    let mut plan = Plan::quiet(1);
    // One chunk: the second word finds no room at first.
    plan.geometry = Geometry { chunks: 1, ..roomy() };
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let id = |client: u64, n: u64| client << 32 | n;
    let clients = [1, 2].map(|client| rig.client(vec![Step::Send(echo(id(client, 1), 100))]));
    rig.until(|world| world.shard.ledger().lent == 2);
    rig.world.hand_over();
    rig.after(20 * MS);
    assert_eq!(rig.world.stats.asked_to_leave.get(), 2);
    rig.world.stall_workers(false);
    for (client, number) in clients.into_iter().zip([1, 2]) {
        rig.steps(client, vec![Step::Send(echo(id(number, 2), 100))]);
    }
    let late = rig.client(vec![Step::Send(echo(id(3, 1), 100))]);
    let world = rig.finish();
    let notice = (0, Some(ErrorCode::Draining));
    assert_eq!(codes(&world, clients[0]), [notice, (id(1, 1), None), (id(1, 2), None)]);
    assert_eq!(codes(&world, clients[1]), [notice, (id(2, 1), None), (id(2, 2), None)]);
    assert!(codes(&world, late).contains(&notice), "one that came while the doors closed");
    assert_eq!(
        (world.stats.asked_to_leave.get(), world.stats.refusals(ErrorCode::Draining)),
        (3, 0)
    );
}

#[test]
fn what_is_no_answer_is_run_again_and_refused_only_when_it_was_tried_enough() {
    for (bad, refused) in [(30, false), (100, true)] {
        let mut plan = Plan::quiet(1);
        plan.faults.bad_outcomes = bad;
        plan.service_max = MS;
        let mut rig = Rig::new(plan);
        let client = rig.client((1..40).map(|id| Step::Send(echo(id, 100))).collect());
        let world = rig.finish();
        let codes = codes(&world, client);
        assert_eq!(codes.len(), 39);
        let failed = codes.iter().filter(|(_, code)| *code == Some(ErrorCode::WorkerFailed));
        let failed = failed.count();
        if refused {
            let faults = 39 * u64::from(LENDINGS_MAX);
            assert_eq!((failed, world.stats.link_faults.get()), (39, faults));
        } else {
            // Three in a row by chance: one of 37.
            assert!(failed < 8 && world.stats.link_faults.get() > 3, "{failed}");
        }
    }
}

#[test]
fn a_worker_that_keeps_a_request_is_reported_however_its_pulse_goes() {
    let mut plan = Plan::quiet(1);
    plan.limits.hold_timeout = 3_000 * MS;
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    let client = rig.client(vec![Step::Send(echo(1, 100))]);
    rig.until(|world| world.shard.ledger().lent == 1);
    rig.after(2_900 * MS);
    assert_eq!(rig.world.stats.overdue.get(), 0);
    rig.after(1_200 * MS);
    assert_eq!(rig.world.stats.overdue.get(), 1, "once per patience");
    let world = rig.finish();
    assert_eq!(codes(&world, client), [(1, None)]);
}
