//! More requests than workers can do, open loop and in virtual time (SEC-09): what is let in is
//! done in good time, the rest is told so at once, and nothing is lost.

mod rig;

use dataplane_core::{Geometry, driver::Time, limits::MS, stats::Shed};
use rig::Rig;
use sim::{Plan, World, client::Answer, plan::roomy, request::Message, rng::Rng, script::Step};
use wire::{Dtype, ErrorCode, Priority, payload::TensorWork};

/// What a request takes of a worker.
const SERVICE: Time = 100_000;
const WORKERS: u16 = 2;
const CLIENTS: u64 = 8;
/// Requests count from here, when the first burst is over, to the end.
const FROM: Time = 200 * MS;
const UNTIL: Time = 500 * MS;

fn plan() -> Plan {
    let mut plan = Plan::quiet(7);
    plan.geometry = Geometry { small_slots: 2_048, chunks: 128, ..roomy() };
    plan.workers = WORKERS;
    // The workers of the simulator return a batch as a whole: longer ones would only be later.
    plan.limits.batch_max = 4;
    plan.service_each = SERVICE;
    plan.limits.queue_target = 20 * MS;
    plan
}

/// Sends of one client: as many as come at random moments so far apart on average.
fn arrivals(
    rng: &mut Rng,
    client: u64,
    gap: Time,
    until: Time,
    make: &dyn Fn(u64) -> Message,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut at, mut n) = (0, 0);
    while at < until {
        let uniform = (1 + rng.below(1 << 32)) as f64 / (1_u64 << 32) as f64;
        let pause = (-uniform.ln() * gap as f64) as Time;
        at += pause;
        n += 1;
        steps.extend([Step::Pause(pause), Step::Send(make(client << 32 | n))]);
    }
    steps
}

fn echo(id: u64) -> Message {
    Message::echo(&mut Rng::new(id), id, 64)
}

/// What came of the requests that count.
struct Outcome {
    /// Answers per second over what the workers can do.
    goodput: f64,
    /// How long the answers took, sorted.
    answered: Vec<Time>,
    /// How long the refusals took, sorted.
    refused: Vec<Time>,
}

impl Outcome {
    fn of(world: &World) -> Self {
        let all = || world.clients.iter().flat_map(|client| &client.answers);
        let counts = |a: &&Answer| (FROM..UNTIL).contains(&a.asked);
        let took = |code: Option<ErrorCode>| {
            let of_code = all().filter(counts).filter(|a| a.code == code);
            let mut times: Vec<Time> = of_code.map(|a| a.at - a.asked).collect();
            times.sort_unstable();
            times
        };
        // Goodput is what leaves in the interval, whenever it was asked for.
        let left = all().filter(|a| a.code.is_none() && (FROM..UNTIL).contains(&a.at)).count();
        let can = (UNTIL - FROM) / SERVICE * Time::from(WORKERS);
        let goodput = left as f64 / can as f64;
        Self { goodput, answered: took(None), refused: took(Some(ErrorCode::Overloaded)) }
    }

    fn p99(times: &[Time]) -> Time {
        times[(times.len() - 1) * 99 / 100]
    }
}

/// Offers so many times of what the workers can do.
fn offered(factor: f64) -> (World, Outcome) {
    let mut rig = Rig::new(plan());
    rig.world.allow_overload();
    let gap = SERVICE as f64 / f64::from(WORKERS) / factor * CLIENTS as f64;
    for client in 1..=CLIENTS {
        let steps = arrivals(&mut Rng::new(client), client, gap as Time, UNTIL, &echo);
        rig.client(steps);
    }
    // That every request is answered once was judged by the clients themselves.
    let world = rig.finish();
    let outcome = Outcome::of(&world);
    (world, outcome)
}

#[test]
fn sec_09_at_two_and_ten_times_the_capacity_goodput_holds_and_latency_stays_bounded() {
    let (_, calm) = offered(0.9);
    assert_eq!(calm.refused.len(), 0, "nobody is refused below capacity");
    let usual = Outcome::p99(&calm.answered);
    for factor in [2.0, 10.0] {
        let (world, flood) = offered(factor);
        assert!(flood.goodput >= 0.9, "{factor} x: goodput {:.3}", flood.goodput);
        let p99 = Outcome::p99(&flood.answered);
        assert!(p99 <= 2 * usual, "{factor} x: {p99} ns, at 0.9 x {usual} ns");
        let told = Outcome::p99(&flood.refused);
        assert!(told <= MS, "{factor} x: refused after {told} ns");
        assert!(world.stats.sheds(Shed::Queue) > 0);
        assert_eq!(world.stats.waits.get(), 0, "TCP never backed up");
    }
}

#[test]
fn a_refusal_leaves_in_the_turn_that_completes_the_request() {
    let (world, _) = offered(2.0);
    // With a network that takes no time, the same moment (and the nanoseconds between two turns).
    let refused = world.clients.iter().flat_map(|c| &c.answers).filter(|a| a.code.is_some());
    let slowest = refused.map(|a| a.at - a.asked).max().expect("some are refused");
    assert!(slowest < 100, "{slowest} ns");
}

/// Offers twice of what the workers can do, in equal parts of each priority.
fn mixed() -> World {
    let mut rig = Rig::new(plan());
    rig.world.allow_overload();
    let gap = SERVICE / Time::from(WORKERS) / 2 * CLIENTS;
    for client in 1..=CLIENTS {
        let priority = Priority::ALL[client as usize % 4];
        let make = move |id| echo(id).urgent(priority);
        let steps = arrivals(&mut Rng::new(client), client, gap, UNTIL, &make);
        rig.client(steps);
    }
    rig.finish()
}

#[test]
fn sec_09_the_lowest_priorities_are_shed_first() {
    let world = mixed();
    let answered = |priority: usize| {
        let of = world.clients.iter().enumerate().filter(|(n, _)| (n + 1) % 4 == priority);
        let answers: Vec<&Answer> = of.flat_map(|(_, client)| &client.answers).collect();
        let fine = answers.iter().filter(|a| a.code.is_none()).count();
        fine as f64 / answers.len() as f64
    };
    let shares = [0, 1, 2, 3].map(answered);
    assert!(shares[3] > 0.99, "what is critical fits: {shares:?}");
    assert!(shares.is_sorted(), "{shares:?}");
    assert!(shares[0] < 0.3, "{shares:?}");
    let sheds = Priority::ALL.iter().map(|p| world.stats.sheds_of(*p)).sum::<u64>();
    assert_eq!(sheds, Shed::ALL.iter().map(|s| world.stats.sheds(*s)).sum::<u64>());
    assert_eq!(sheds, world.stats.refusals(ErrorCode::Overloaded));
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_before_it_costs_anything() {
    let mut rig = Rig::new(plan());
    rig.world.allow_overload();
    let work = TensorWork::echo(Dtype::U8, 1, 64);
    let make = move |id| Message::work(&mut Rng::new(id), id, work, false, 2);
    for client in 1..=CLIENTS {
        let gap = SERVICE / Time::from(WORKERS) / 2 * CLIENTS;
        let steps = arrivals(&mut Rng::new(client), client, gap, UNTIL, &make);
        rig.client(steps);
    }
    let world = rig.finish();
    assert!(world.stats.sheds(Shed::Deadline) > 0);
    let late = world.stats.refusals(ErrorCode::DeadlineExceeded);
    let told = world.stats.refusals(ErrorCode::Overloaded);
    assert!(late * 20 < told, "{late} computed or kept in vain, {told} told at once");
}

/// Two slots, one worker that stands still with both of its places taken and the slots full.
fn full(first: Priority) -> Rig {
    let mut plan = Plan::quiet(3);
    plan.geometry = Geometry { small_slots: 3, ..roomy() };
    plan.limits.batch_max = 1;
    let mut rig = Rig::new(plan);
    rig.world.allow_overload();
    rig.world.stall_workers(true);
    let client = rig.client(vec![]);
    for id in 1..=3 {
        rig.steps(client, vec![Step::Send(echo(id).urgent(first)), Step::Pause(MS)]);
    }
    rig.until(|world| world.shard.ledger().free == 16 && world.shard.ledger().arrived == 1);
    rig
}

fn codes(world: &World) -> Vec<(u64, Option<ErrorCode>)> {
    let answers = world.clients.iter().flat_map(|client| &client.answers);
    let mut codes: Vec<_> = answers.map(|a| (a.id, a.code)).collect();
    codes.sort_by_key(|(id, _)| *id);
    codes
}

#[test]
fn a_higher_priority_takes_the_slot_of_a_lower_one_that_waits() {
    let mut rig = full(Priority::Background);
    rig.steps(0, vec![Step::Send(echo(4).urgent(Priority::High))]);
    rig.after(2 * MS);
    assert_eq!(codes(&rig.world), [(3, Some(ErrorCode::Overloaded))]);
    assert_eq!(rig.world.stats.sheds(Shed::Displaced), 1);
    let world = rig.finish();
    assert_eq!(codes(&world)[3], (4, None));
}

#[test]
fn among_equals_a_burst_waits_for_a_slot() {
    let mut rig = full(Priority::Normal);
    rig.steps(0, vec![Step::Send(echo(4))]);
    rig.after(2 * MS);
    assert_eq!(codes(&rig.world), []);
    let world = rig.finish();
    assert_eq!(codes(&world), [(1, None), (2, None), (3, None), (4, None)]);
}

#[test]
fn when_slots_run_out_the_hopeless_go_first() {
    let mut plan = Plan::quiet(3);
    plan.geometry = Geometry { small_slots: 4, ..roomy() };
    plan.limits.batch_max = 1;
    plan.service_each = 10 * MS;
    let mut rig = Rig::new(plan);
    rig.world.allow_overload();
    // The worker learns that such work takes 10 ms.
    let client = rig.client((1..=3).map(|id| Step::Send(echo(id))).collect());
    rig.until(|world| world.stats.replies.get() == 3);
    rig.world.stall_workers(true);
    let work = TensorWork::echo(Dtype::U8, 1, 64);
    let hurried = Message::work(&mut Rng::new(6), 6, work, false, 25);
    rig.steps(client, vec![Step::Send(echo(4)), Step::Send(echo(5)), Step::Send(hurried)]);
    rig.steps(client, vec![Step::Send(echo(7)), Step::Pause(10 * MS), Step::Send(echo(8))]);
    rig.after(20 * MS);
    assert_eq!(codes(&rig.world)[3..], [(6, Some(ErrorCode::Overloaded))]);
    assert_eq!(rig.world.stats.sheds(Shed::Hopeless), 1);
    let world = rig.finish();
    assert_eq!(codes(&world).len(), 8);
}

#[test]
fn what_is_overtaken_for_too_long_is_refused() {
    let mut plan = plan();
    plan.workers = 1;
    plan.limits.batch_max = 1;
    let mut rig = Rig::new(plan);
    rig.world.allow_overload();
    // More that is critical than the worker can do, and one request that nobody is in a hurry for.
    let low = rig
        .client(vec![Step::Pause(3 * SERVICE), Step::Send(echo(1).urgent(Priority::Background))]);
    let urgent = |n: u64| {
        [Step::Send(echo(1 << 32 | n).urgent(Priority::Critical)), Step::Pause(SERVICE / 2)]
    };
    let flood = rig.client((0..4_000).flat_map(urgent).collect());
    let world = rig.finish();
    assert_eq!(world.clients[low].answers[0].code, Some(ErrorCode::Overloaded));
    assert_eq!(world.stats.sheds(Shed::Starved), 1);
    assert!(world.clients[flood].answers.len() == 4_000);
}
