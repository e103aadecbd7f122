use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn acts(pool: &mut Connections, now: Instant) -> Vec<Act> {
    std::iter::from_fn(|| pool.act(now)).collect()
}

/// A pool whose warm connections are open.
fn warm(limits: Limits, now: Instant) -> Connections {
    let mut pool = Connections::new(limits, now);
    for act in acts(&mut pool, now) {
        let Act::Open(key) = act else { panic!("{act:?}") };
        pool.opened(key, false, now, 0.0);
    }
    pool
}

#[test]
fn pool_01_two_are_opened_before_anybody_asks() {
    let now = Instant::now();
    let mut pool = Connections::new(Limits::DEFAULT, now);
    assert_eq!(acts(&mut pool, now), [Act::Open(1), Act::Open(2)]);
    pool.opened(1, false, now, 0.0);
    pool.failed(2, now, 0.5);
    assert_eq!(acts(&mut pool, now), [], "not before the pause is over");
    assert_eq!(pool.wake(), Some(now + MS * 5));
    assert_eq!(acts(&mut pool, now + MS * 5), [Act::Open(3)]);
}

#[test]
fn pool_02_y_25_calls_are_multiplexed_and_more_connections_come_only_when_all_are_full() {
    let now = Instant::now();
    let limits = Limits { most: 3, in_flight: 2, ..Limits::DEFAULT };
    let mut pool = warm(limits, now);
    let places: Vec<_> = (0..4).map(|_| pool.acquire(false, 0, now)).collect();
    assert_eq!(places, [1, 2, 1, 2].map(Place::On));
    assert_eq!(pool.acquire(false, 0, now), Place::Wait);
    assert_eq!(acts(&mut pool, now), [Act::Open(3)]);
    assert_eq!(pool.acquire(false, 0, now), Place::Wait);
    assert_eq!(acts(&mut pool, now), [], "one at a time, and never a fourth");
    pool.opened(3, false, now, 0.0);
    assert_eq!(pool.acquire(false, 0, now), Place::On(3));
    pool.release(1, true, now);
    assert_eq!(pool.acquire(false, 0, now), Place::On(1));
}

#[test]
fn a_call_that_waits_for_a_connection_under_way_asks_for_no_other() {
    let now = Instant::now();
    let mut pool = Connections::new(Limits { least: 1, ..Limits::DEFAULT }, now);
    assert_eq!(acts(&mut pool, now), [Act::Open(1)]);
    assert_eq!(pool.acquire(false, 0, now), Place::Wait);
    pool.opened(1, false, now, 0.0);
    assert_eq!(acts(&mut pool, now), []);
    assert_eq!(pool.acquire(false, 0, now), Place::On(1));
}

#[test]
fn pool_03_only_what_is_beyond_the_warm_ones_is_closed_when_idle() {
    let now = Instant::now();
    let mut pool = warm(Limits { least: 1, in_flight: 1, ..Limits::DEFAULT }, now);
    assert_eq!(pool.acquire(false, 0, now), Place::On(1));
    assert_eq!(pool.acquire(false, 0, now), Place::Wait);
    assert_eq!(acts(&mut pool, now), [Act::Open(2)]);
    pool.opened(2, false, now, 0.0);
    pool.release(1, true, now + S);
    assert_eq!(acts(&mut pool, now + S * 299), []);
    assert_eq!(pool.wake(), Some(now + S * 300));
    assert_eq!(acts(&mut pool, now + S * 300), [Act::Close(2)]);
    assert_eq!(acts(&mut pool, now + S * 3_000), [], "the last one stays");
}

#[test]
fn pool_04_an_old_connection_takes_no_more_calls_and_is_replaced() {
    let now = Instant::now();
    let mut pool = warm(Limits { least: 1, most: 2, ..Limits::DEFAULT }, now);
    pool.opened(1, false, now, 0.5);
    assert_eq!(pool.acquire(false, 0, now), Place::On(1));
    let old = now + S * 3_420;
    assert_eq!(pool.wake(), Some(old), "a twentieth earlier, by chance");
    assert_eq!(acts(&mut pool, old), [Act::Open(2)]);
    pool.opened(2, false, old, 0.0);
    assert_eq!(pool.acquire(false, 0, old), Place::On(2));
    pool.release(1, true, old);
    assert_eq!(acts(&mut pool, old), [Act::Close(1)]);
}

#[test]
fn pool_05_what_was_idle_is_pinged_before_it_is_used() {
    let now = Instant::now();
    let mut pool = warm(Limits { least: 1, ..Limits::DEFAULT }, now);
    let later = now + S * 2;
    assert_eq!(pool.acquire(false, 0, later), Place::Wait);
    assert_eq!(acts(&mut pool, later), [Act::Ping(1)]);
    assert_eq!(pool.acquire(false, 0, later), Place::Wait);
    assert_eq!(acts(&mut pool, later), [], "one ping, however many wait");
    pool.checked(1, later);
    assert_eq!(pool.acquire(false, 0, later), Place::On(1));
    pool.release(1, true, later);
    assert_eq!(pool.acquire(false, 0, later + MS * 900), Place::On(1), "a moment is no idleness");
    pool.release(1, true, later + S);

    let later = later + S * 10;
    assert_eq!(pool.acquire(false, 0, later), Place::Wait);
    assert_eq!(acts(&mut pool, later), [Act::Ping(1)]);
    pool.broke(1, later, 0.5);
    assert_eq!(acts(&mut pool, later), [Act::Open(2)], "a proven one is replaced at once");
}

#[test]
fn trans_05_before_the_peer_is_confirmed_only_what_may_be_replayed_goes() {
    let now = Instant::now();
    let mut pool = Connections::new(Limits { least: 1, ..Limits::DEFAULT }, now);
    acts(&mut pool, now);
    pool.opened(1, true, now, 0.0);
    assert_eq!(pool.acquire(false, 0, now), Place::Wait);
    assert_eq!(pool.acquire(true, 0, now), Place::On(1));
    pool.confirmed(1);
    assert_eq!(pool.acquire(false, 0, now), Place::On(1));
}

#[test]
fn a_node_that_accepts_and_closes_is_not_called_in_a_circle() {
    let mut now = Instant::now();
    let start = now;
    let mut pool = Connections::new(Limits { least: 1, ..Limits::DEFAULT }, now);
    for _ in 0..20 {
        let [Act::Open(key)] = acts(&mut pool, now)[..] else { panic!("not opened") };
        pool.opened(key, false, now, 0.0);
        pool.broke(key, now, 0.9);
        now = pool.wake().expect("another try");
    }
    assert!(now - start > S * 9, "{:?}", now - start);
}

#[test]
fn a_call_hears_of_a_failure_that_came_after_it() {
    let now = Instant::now();
    let mut pool = Connections::new(Limits { least: 1, ..Limits::DEFAULT }, now);
    acts(&mut pool, now);
    assert_eq!(pool.acquire(false, 0, now), Place::Wait);
    pool.failed(1, now, 0.0);
    assert_eq!(pool.acquire(false, 0, now), Place::Down);
    assert_eq!(pool.acquire(false, pool.failures(), now), Place::Wait);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    Release(usize),
    Finish(usize, bool),
    Echo(usize),
    Break(usize),
    Sleep(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Acquire),
        2 => any::<usize>().prop_map(Step::Release),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, fine)| Step::Finish(at, fine)),
        1 => any::<usize>().prop_map(Step::Echo),
        1 => any::<usize>().prop_map(Step::Break),
        1 => (0..1_000_000_u32).prop_map(Step::Sleep),
    ]
}

/// What the face would know.
#[derive(Debug, Default)]
struct Model {
    opening: Vec<u64>,
    pinging: Vec<u64>,
    open: HashSet<u64>,
    calls: Vec<u64>,
}

impl Model {
    fn carry_out(&mut self, pool: &mut Connections, now: Instant) {
        for act in acts(pool, now) {
            match act {
                Act::Open(key) => self.opening.push(key),
                Act::Ping(key) => self.pinging.push(key),
                Act::Close(key) => {
                    assert!(self.open.remove(&key) && !self.calls.contains(&key), "{key} in use");
                }
            }
        }
    }

    fn take(list: &mut Vec<u64>, at: usize) -> Option<u64> {
        (!list.is_empty()).then(|| list.swap_remove(at % list.len()))
    }
}

proptest! {
    #[test]
    fn pool_02_never_more_than_the_most_and_every_call_on_an_open_connection(
        steps in prop::collection::vec(step(), 0..300),
        least in 0..4_usize,
        most in 1..6_usize,
        in_flight in 1..4_usize,
    ) {
        let mut now = Instant::now();
        let limits = Limits { least, most, in_flight, ..Limits::DEFAULT };
        let mut pool = Connections::new(limits, now);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Acquire => if let Place::On(key) = pool.acquire(false, pool.failures(), now) {
                    prop_assert!(model.open.contains(&key) && !model.pinging.contains(&key));
                    model.calls.push(key);
                },
                Step::Release(at) => if let Some(key) = Model::take(&mut model.calls, at) {
                    pool.release(key, true, now);
                },
                Step::Finish(at, fine) => if let Some(key) = Model::take(&mut model.opening, at) {
                    if fine {
                        pool.opened(key, false, now, 0.3);
                        model.open.insert(key);
                    } else {
                        pool.failed(key, now, 0.3);
                    }
                },
                Step::Echo(at) => if let Some(key) = Model::take(&mut model.pinging, at) {
                    pool.checked(key, now);
                },
                Step::Break(at) => {
                    let mut open: Vec<u64> = model.open.iter().copied().collect();
                    open.sort_unstable();
                    if let Some(key) = Model::take(&mut open, at) {
                        pool.broke(key, now, 0.3);
                        model.open.remove(&key);
                        model.pinging.retain(|other| *other != key);
                        model.calls.retain(|other| *other != key);
                    }
                }
                Step::Sleep(ms) => now += MS * ms,
            }
            model.carry_out(&mut pool, now);
            prop_assert!(pool.count() <= most);
            prop_assert_eq!(pool.count(), model.open.len() + model.opening.len());
            let mut load = HashMap::new();
            model.calls.iter().for_each(|key| *load.entry(*key).or_insert(0) += 1);
            prop_assert!(load.values().all(|calls| *calls <= in_flight));
            prop_assert_eq!(pool.in_flight(), model.calls.len());
        }
    }
}
