//! Who may do what, and how much of it, in scripted worlds.

mod rig;

use dataplane_core::{
    Geometry, Policy,
    limits::{MS, REFUSALS_IN_A_ROW, SWEPT_AT_A_TIME},
    policy::Terms,
    stats::CloseCause,
};
use rig::{Rig, at_rest};
use sim::{Plan, World, plan::roomy, request::Message, rng::Rng, script::Step};
use wire::{ErrorCode, Kind, Operation, Role, Roles};

const FORBIDDEN: Option<ErrorCode> = Some(ErrorCode::Forbidden);
const TOO_SLOW: Option<ErrorCode> = Some(ErrorCode::PeerTooSlow);
const LIMITED: Option<ErrorCode> = Some(ErrorCode::RateLimited);

/// A quiet world whose clients are ann in these roles, on these terms.
fn plan(roles: Roles, terms: Terms) -> Plan {
    let mut policy = Policy::default();
    policy.peers.insert("ann".to_owned(), terms);
    let names = vec![("ann".to_owned(), roles)];
    Plan { policy, names, places: 2, ..Plan::quiet(1) }
}

fn client() -> Roles {
    Roles::of(Role::Client)
}

fn echo(id: u64, len: u32) -> Message {
    Message::echo(&mut Rng::new(id), id, len)
}

fn codes(world: &World, client: usize) -> Vec<(u64, Option<ErrorCode>)> {
    world.clients[client].answers.iter().map(|answer| (answer.id, answer.code)).collect()
}

fn role_refusals(world: &World, role: &str) -> u64 {
    let mut found = 0;
    dataplane_core::stats::Source::visit(&*world.stats, &mut |name, _, label, n| {
        if name == "butterfly_role_refusals_total" && label == role {
            found += n;
        }
    });
    found
}

#[test]
fn what_a_role_may_not_ask_is_skipped_and_the_connection_goes_on() {
    let mut rig = Rig::new(plan(Roles::of(Role::WorkerHost), Terms::default()));
    let steps = [echo(1, 100), echo(2, 30_000), Message::metrics(3), Message::ping(4)];
    let client = rig.client(steps.map(Step::Send).to_vec());
    // In the bulk lane as well.
    rig.steps(client, vec![Step::Send(Message::heartbeat(5, 5, true)), Step::Await]);
    rig.steps(client, vec![Step::Send(echo(6, 30_000)), Step::Send(Message::ping(7))]);
    let world = rig.finish();
    let forbidden = |id| (id, FORBIDDEN);
    let expected =
        [forbidden(1), forbidden(2), forbidden(3), (4, None), (5, None), forbidden(6), (7, None)];
    assert_eq!(codes(&world, client), expected);
    assert_eq!(world.stats.waits.get(), 0);
    assert_eq!(world.stats.frames_bulk.get(), 0, "no payload was taken");
    assert_eq!((role_refusals(&world, "worker-host"), role_refusals(&world, "client")), (4, 0));
}

#[test]
fn an_operation_that_was_not_granted_is_refused_and_others_are_not() {
    let terms = Terms { operations: Some(1 << Operation::TopK.code()), ..Terms::default() };
    let mut rig = Rig::new(plan(client(), terms));
    let topk = wire::payload::TensorWork::topk(wire::Dtype::F32, 1, 9, 2, wire::Dtype::F32);
    let topk = Message::work(&mut Rng::new(2), 2, topk, false, 0);
    let client = rig.client(vec![Step::Send(echo(1, 9)), Step::Await, Step::Send(topk)]);
    let world = rig.finish();
    assert_eq!(codes(&world, client), [(1, FORBIDDEN), (2, None)]);
}

#[test]
fn who_never_learns_is_disconnected_after_a_thousand_refusals() {
    let mut rig = Rig::new(plan(Roles::of(Role::Agent), Terms::default()));
    let most = u64::from(REFUSALS_IN_A_ROW);
    // A ping between starts the count again.
    let mut steps: Vec<Step> = (1..most).map(|id| Step::Send(Message::metrics(id))).collect();
    steps.extend([Step::Send(Message::ping(most)), Step::Await]);
    let client = rig.client(steps);
    rig.until(|world| world.clients[client].answers.len() as u64 == most);
    assert_eq!(rig.world.stats.closes(CloseCause::Refused), 0);
    let flood = (1..=most + 50).map(|id| Step::Send(Message::metrics(most + id)));
    rig.steps(client, flood.collect());
    let world = at_rest(rig);
    assert_eq!(world.stats.closes(CloseCause::Refused), 1);
    assert_eq!(world.stats.refusals(ErrorCode::Forbidden), 2 * most - 1);
}

#[test]
fn operations_that_were_not_granted_count_as_refusals_too() {
    let mut rig = Rig::new(plan(client(), Terms { operations: Some(0), ..Terms::default() }));
    let flood = (1..=u64::from(REFUSALS_IN_A_ROW)).map(|id| Step::Send(echo(id, 10)));
    rig.client(flood.collect());
    let world = at_rest(rig);
    assert_eq!(world.stats.closes(CloseCause::Refused), 1);
}

#[test]
fn z_15_over_the_rate_is_refused_with_the_time_to_wait_and_then_let_in() {
    let terms = Terms { requests_per_second: Some(8), ..Terms::default() };
    let mut rig = Rig::new(plan(client(), terms));
    // Two at once, a quarter of a second's worth; then one in 125 ms.
    let client = rig.client((1..=4).map(|id| Step::Send(Message::ping(id))).collect());
    rig.steps(
        client,
        vec![Step::Pause(127 * MS), Step::Send(Message::ping(5)), Step::Send(Message::ping(6))],
    );
    let world = rig.finish();
    let expected = [(1, None), (2, None), (3, LIMITED), (4, LIMITED), (5, None), (6, LIMITED)];
    assert_eq!(codes(&world, client), expected);
    let hint = world.clients[client].reports.iter().map(|report| report.retry_after_ms);
    assert_eq!(hint.collect::<Vec<_>>(), [125, 125, 124]);
    let limits: Vec<u64> = world.clients[client].reports.iter().map(|it| it.limit).collect();
    assert_eq!(limits, [8; 3]);
}

#[test]
fn requests_under_way_are_bounded_over_all_connections_of_a_name() {
    let terms = Terms { requests: Some(3), bytes: Some(30_000), ..Terms::default() };
    let mut rig = Rig::new(plan(client(), terms));
    rig.world.stall_workers(true);
    let one = rig.client(vec![Step::Send(echo(1, 100)), Step::Send(echo(2, 100))]);
    rig.until(|world| world.shard.ledger().arrived + world.shard.ledger().lent == 2);
    // Too many bytes; one more request; one too many.
    let two = rig.client(vec![
        Step::Send(echo(11, 30_000)),
        Step::Send(echo(12, 100)),
        Step::Send(echo(13, 100)),
    ]);
    rig.until(|world| world.clients[two].answers.len() == 2);
    assert_eq!(codes(&rig.world, two), [(11, LIMITED), (13, LIMITED)]);
    rig.world.stall_workers(false);
    rig.until(|world| world.clients[two].answers.len() == 3);
    rig.steps(two, vec![Step::Send(echo(14, 20_000))]);
    let world = rig.finish();
    assert_eq!(codes(&world, one), [(1, None), (2, None)]);
    assert_eq!(codes(&world, two)[2..], [(12, None), (14, None)]);
}

#[test]
fn a_compressed_request_is_on_the_account_until_it_is_answered() {
    let mut rig = Rig::new(plan(client(), Terms { requests: Some(1), ..Terms::default() }));
    rig.world.stall_workers(true);
    let packed = echo(1, 3_000).compressed(wire::Compression::Lz4);
    let client = rig.client(vec![Step::Send(packed), Step::Pause(MS), Step::Send(echo(2, 10))]);
    rig.until(|world| world.clients[client].answers.len() == 1);
    let world = rig.finish();
    assert_eq!(codes(&world, client), [(2, LIMITED), (1, None)]);
}

#[test]
fn a_connection_too_many_of_one_name_is_told_so_and_others_get_in() {
    let mut plan = plan(client(), Terms { connections: Some(1), ..Terms::default() });
    plan.names.push(("bob".to_owned(), client()));
    plan.places = 3;
    let mut rig = Rig::new(plan);
    let ann = rig.client(vec![Step::Send(Message::ping(1))]);
    let bob = rig.client(vec![Step::Send(Message::ping(1))]);
    let again = rig.client(vec![Step::Pause(MS), Step::Send(Message::ping(9))]);
    let bob_again = rig.client(vec![Step::Send(Message::ping(1))]);
    rig.until(|world| world.clients[again].answers.len() == 1);
    let turned_away = rig.world.clients[again].reports[0];
    assert_eq!((turned_away.limit, turned_away.actual), (1, 2));
    // When the first has left there is a seat again.
    rig.steps(ann, vec![Step::Await, Step::Fin]);
    rig.until(|world| world.stats.open.get() == 2);
    rig.steps(again, vec![Step::Reconnect, Step::Send(Message::ping(10))]);
    for last in [bob, again, bob_again] {
        rig.steps(last, vec![Step::Await, Step::Fin]);
    }
    let world = at_rest(rig);
    assert_eq!(codes(&world, again), [(0, Some(ErrorCode::TooManyConnections)), (10, None)]);
    for other in [ann, bob, bob_again] {
        assert_eq!(codes(&world, other), [(1, None)]);
    }
    assert_eq!(role_refusals(&world, "client"), 1);
}

#[test]
fn a_connection_on_which_nothing_moves_is_told_so_and_closed() {
    let mut rig = Rig::new(plan(client(), Terms { idle: Some(5_000 * MS), ..Terms::default() }));
    rig.world.stall_workers(true);
    // One waits for us: that is not being idle. One has changed lanes.
    let waits = rig.client(vec![Step::Send(echo(1, 100))]);
    let idle = rig.client(vec![Step::Send(Message::ping(1))]);
    let bulk = rig.client(vec![Step::Send(Message::heartbeat(1, 1, true))]);
    let silent = rig.client(vec![Step::Pause(MS)]);
    rig.steps(silent, vec![Step::Stall(0)]);
    rig.until(|world| world.stats.closes(CloseCause::Idle) == 3);
    let took = rig.world.now;
    assert!((5_000 * MS..=7_000 * MS).contains(&took), "closed at {took}");
    let told = (0, TOO_SLOW);
    rig.until(|world| world.stats.open.get() == 1);
    rig.after(MS);
    assert_eq!(codes(&rig.world, idle), [(1, None), told]);
    assert_eq!(codes(&rig.world, bulk), [(1, None), told]);
    assert_eq!(codes(&rig.world, silent), [told]);
    let world = rig.finish();
    assert_eq!(codes(&world, waits), [(1, None)]);
}

#[test]
fn every_part_of_a_large_table_is_looked_over() {
    let many = SWEPT_AT_A_TIME as usize + 100;
    let mut plan = plan(client(), Terms { idle: Some(5_000 * MS), ..Terms::default() });
    plan.limits.connections = 2 * SWEPT_AT_A_TIME;
    // A chunk for each, to say so at once.
    plan.geometry = Geometry { chunks: many as u32, chunk_len: 1_024, ..roomy() };
    let mut rig = Rig::new(plan);
    for _ in 0..many {
        rig.client(vec![Step::Send(Message::ping(1))]);
    }
    let world = at_rest(rig);
    assert_eq!(world.stats.closes(CloseCause::Idle), many as u64);
    assert!((5_000 * MS..=7_000 * MS).contains(&world.now), "the last at {}", world.now);
}

#[test]
fn where_chunks_are_few_idle_peers_are_told_one_after_the_other() {
    let mut plan = plan(client(), Terms { idle: Some(5_000 * MS), ..Terms::default() });
    plan.geometry = Geometry { chunks: 2, ..roomy() };
    let mut rig = Rig::new(plan);
    let clients: Vec<usize> =
        (0..6).map(|_| rig.client(vec![Step::Send(Message::ping(1))])).collect();
    let world = at_rest(rig);
    assert_eq!(world.stats.closes(CloseCause::Idle), 6);
    let told = |client: &usize| codes(&world, *client) == [(1, None), (0, TOO_SLOW)];
    assert!(clients.iter().all(told));
    assert!(world.now > 7_000 * MS, "two at a time");
}

#[test]
fn whoever_is_local_may_be_idle_for_ever() {
    let mut rig = Rig::new(Plan::quiet(1));
    let client = rig.client(vec![Step::Send(Message::ping(1))]);
    rig.after(10_000_000 * MS);
    rig.steps(client, vec![Step::Send(Message::ping(2))]);
    let world = rig.finish();
    assert_eq!(world.clients[client].answers.len(), 2);
    assert!(world.clients[client].answers.iter().all(|answer| answer.kind == Kind::Heartbeat));
}

#[test]
fn sec_09_a_flood_is_held_to_ten_times_the_usual_while_the_node_is_busy() {
    let mut plan = plan(client(), Terms::default());
    plan.names.push(("bob".to_owned(), client()));
    plan.places = 3;
    plan.limits.requests_per_connection = 64;
    let mut rig = Rig::new(plan);
    rig.world.stall_workers(true);
    // Bob's requests take the slots; then ann sends 10,900 pings within a moment.
    let ann = rig.client(vec![]);
    let bob = rig.client((1..=60).map(|id| Step::Send(echo(id, 100))).collect());
    rig.until(|world| world.shard.ledger().lent + world.shard.ledger().arrived == 60);
    rig.after(2_000 * MS);
    rig.world.expect_limited(true);
    let flood: Vec<Step> = (1..=10_900).map(|id| Step::Send(Message::ping(id))).collect();
    rig.steps(ann, flood);
    rig.until(|world| world.clients[ann].answers.len() == 10_900);
    let refused = codes(&rig.world, ann).iter().filter(|(_, code)| *code == LIMITED).count();
    assert_eq!(refused, 900, "ten times a thousand in a second is let in");
    let hint = rig.world.clients[ann].reports[0].retry_after_ms;
    assert!((1..=1_000).contains(&hint), "{hint} ms");
    let world = rig.finish();
    assert_eq!(world.clients[bob].answers.len(), 60);
}
