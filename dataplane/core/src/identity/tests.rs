//! Names, places and accounts.

use super::*;
use crate::{
    limits::{BASELINE_MIN, MS, RATE_BURST, SURGE},
    policy::Terms,
};
use proptest::prelude::*;
use wire::Role;

const SECOND: Time = 1_000 * MS;

fn client() -> Roles {
    Roles::of(Role::Client)
}

/// A table of `places` in which clients are allowed this.
fn table(places: u32, allowed: Allowance) -> Identities {
    let mut policy = Policy::default();
    policy.roles[Role::Client as usize] = allowed;
    Identities::new(policy, places)
}

fn known(table: &Identities, name: &str) -> Caller {
    table.identify(name, client()).expect("there is a place")
}

#[test]
fn a_name_keeps_its_place_and_others_get_others() {
    let table = table(4, Allowance::UNLIMITED);
    let (ann, bob) = (known(&table, "ann"), known(&table, "bob"));
    assert_ne!(ann.identity, bob.identity);
    assert_eq!(known(&table, "ann"), ann);
    assert!(ann.identity != 0 && bob.identity != 0, "nobody with a name is local");
}

#[test]
fn a_full_table_refuses_counts_and_takes_places_back_from_who_is_gone() {
    let table = table(3, Allowance::UNLIMITED);
    let (ann, bob) = (known(&table, "ann"), known(&table, "bob"));
    table.connect(ann).expect("a seat");
    table.connect(bob).expect("a seat");
    assert_eq!(table.identify("eve", client()), None);
    table.disconnect(bob);
    let eve = known(&table, "eve");
    assert_eq!(eve.place(), bob.place());
    // A caller made out for the old name is nobody any more.
    assert!(table.connect(bob).is_err());
    table.connect(eve).expect("the new name has the seat");
    assert_eq!(table.identify("bob", client()), None, "its place is gone, and all are taken");
    assert_eq!(known(&table, "ann"), ann);
    let mut refused = 0;
    table.visit(&mut |name, _, _, n| {
        if name == "butterfly_identities_refused_total" {
            refused = n;
        }
    });
    assert_eq!(refused, 2);
}

#[test]
fn names_without_sense_and_places_without_a_table_are_refused() {
    let table = table(3, Allowance::UNLIMITED);
    assert_eq!(table.identify("", client()), None);
    assert_eq!(table.identify(&"x".repeat(NAME_MAX + 1), client()), None);
    assert!(table.connect(Caller { identity: 9, roles: client() }).is_err());
    table.connect(Caller::LOCAL).expect("local is always there");
}

#[test]
fn connections_are_counted_and_bounded() {
    let table = table(3, Allowance { connections: 2, ..Allowance::UNLIMITED });
    let ann = known(&table, "ann");
    table.connect(ann).expect("first");
    table.connect(ann).expect("second");
    let over = table.connect(ann).expect_err("third");
    assert_eq!((over.limit, over.actual), (2, 3));
    table.disconnect(ann);
    table.connect(ann).expect("second again");
    assert_eq!(table.load(ann).0, 2);
}

#[test]
fn requests_and_bytes_under_way_are_bounded_and_come_back() {
    let allowed = Allowance { requests: 2, bytes: 100, ..Allowance::UNLIMITED };
    let table = table(3, allowed);
    let ann = known(&table, "ann");
    assert_eq!(table.take(ann, 60), Ok(true));
    let over = table.take(ann, 41).expect_err("a byte too many");
    assert_eq!((over.limit, over.actual), (100, 101));
    assert_eq!(table.take(ann, 40), Ok(true));
    let over = table.take(ann, 0).expect_err("a request too many");
    assert_eq!((over.limit, over.actual), (2, 3));
    assert_eq!(table.load(ann), (0, 2, 100));
    table.give(ann.place(), 60);
    table.give(ann.place(), 40);
    assert_eq!(table.load(ann), (0, 0, 0));
    assert_eq!(table.take(Caller::LOCAL, 1), Ok(false), "no bound, no account");
}

#[test]
fn a_hint_is_when_the_next_frame_passes_to_the_nanosecond() {
    let table = table(3, Allowance { requests_per_second: 100, ..Allowance::UNLIMITED });
    let ann = known(&table, "ann");
    let burst = (0..).take_while(|_| table.pace(SECOND, ann).is_ok()).count();
    assert_eq!(burst as u64, RATE_BURST / (SECOND / 100));
    let over = table.pace(SECOND, ann).expect_err("the burst is spent");
    assert_eq!((over.limit, over.retry_after), (100, SECOND / 100));
    assert!(table.pace(SECOND + over.retry_after - 1, ann).is_err());
    table.pace(SECOND + over.retry_after, ann).expect("as hinted");
}

#[test]
fn sec_09_a_busy_node_takes_ten_times_the_usual_and_learns_nothing_from_a_flood() {
    let table = table(3, Allowance::UNLIMITED);
    let ann = known(&table, "ann");
    // Minutes of 4,000 frames a second: that becomes the usual.
    for tick in 0..4_000 * 400 {
        table
            .surge(SECOND + tick * (SECOND / 4_000), ann, true)
            .expect("within ten times the least");
    }
    let now = 401 * SECOND;
    let passed = |now, busy| (0..50_000).filter(|_| table.surge(now, ann, busy).is_ok()).count();
    let usual = passed(now, true) as u64 / SURGE;
    assert!((3_900..=4_000).contains(&usual), "{usual} a second are usual");
    let over = table.surge(now + SECOND / 4, ann, true).expect_err("it floods");
    assert_eq!((over.limit, over.retry_after), (usual * SURGE, SECOND * 3 / 4));
    // The flood goes on for a minute; what is usual stays.
    for second in 1..60 {
        assert_eq!(passed(now + second * SECOND, true) as u64, usual * SURGE);
    }
    assert_eq!(passed(now + 60 * SECOND, false), 50_000, "a node with room takes all");
    assert!((0..20_000).all(|_| table.surge(now, Caller::LOCAL, true).is_ok()));
}

#[test]
fn a_newcomer_may_send_ten_times_the_least() {
    let table = table(3, Allowance::UNLIMITED);
    let ann = known(&table, "ann");
    let passed = (0..20_000).filter(|_| table.surge(5 * SECOND, ann, true).is_ok()).count();
    assert_eq!(passed as u64, BASELINE_MIN * SURGE);
}

#[test]
fn what_is_said_of_a_name_counts_from_its_next_connection() {
    let mut policy = Policy::default();
    let terms = Terms { operations: Some(2), idle: Some(7), ..Terms::default() };
    policy.peers.insert("ann".to_owned(), terms);
    let table = Identities::new(policy, 4);
    let (ann, bob) = (known(&table, "ann"), known(&table, "bob"));
    assert_eq!((table.operations(ann), table.idle(ann)), (2, 7));
    assert_eq!((table.operations(bob), table.idle(bob)), (u32::MAX, 300 * SECOND));
    assert_eq!((table.operations(Caller::LOCAL), table.idle(Caller::LOCAL)), (u32::MAX, 0));
}

proptest! {
    /// The bucket in exact arithmetic: tokens in units of a nanosecond's worth.
    #[test]
    fn the_rate_is_that_of_a_token_bucket(
        rate in 1u32..5_000,
        gaps in prop::collection::vec(0u64..30 * MS, 1..300),
    ) {
        let table = table(2, Allowance { requests_per_second: rate, ..Allowance::UNLIMITED });
        let ann = known(&table, "ann");
        let each = SECOND / u64::from(rate);
        let room = (RATE_BURST / each).max(1) * each;
        let (mut tokens, mut now) = (room, SECOND);
        for gap in gaps {
            now += gap;
            tokens = (tokens + gap).min(room);
            let passes = tokens >= each;
            if passes {
                tokens -= each;
            }
            prop_assert_eq!(table.pace(now, ann).is_ok(), passes);
        }
    }
}
