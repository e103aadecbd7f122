//! Lines, turns and shares.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const PLACES: usize = 12;
const CONNS: u32 = 40;

fn geometry(small_slots: u32) -> Geometry {
    Geometry {
        small_slots,
        small_request: 64,
        small_reply: 64,
        bulk_slots: 2,
        bulk_request: 256,
        bulk_reply: 256,
        chunks: 1,
        chunk_len: 64,
    }
}

#[test]
fn a_thousand_connections_of_one_are_served_as_often_as_the_one_of_another() {
    let mut fair = Fair::new(&geometry(8), 3, 1_001);
    for conn in 0..1_000 {
        fair.join(ConnId(conn), 1, Need::Small, false);
    }
    fair.join(ConnId(1_000), 2, Need::Small, false);
    assert_eq!(fair.next(Need::Small), Some(ConnId(0)));
    assert_eq!(fair.next(Need::Small), Some(ConnId(1_000)), "second in turn, not in the queue");
    assert_eq!(fair.next(Need::Small), Some(ConnId(1)));
}

#[test]
fn while_others_wait_nobody_takes_more_than_its_share_past_them() {
    let mut fair = Fair::new(&geometry(8), 4, 8);
    for _ in 0..8 {
        assert!(fair.may_take(1, false), "alone, it may have all");
        fair.took(1, false);
    }
    fair.join(ConnId(0), 2, Need::Small, false);
    fair.freed(1, false);
    assert!(!fair.may_take(1, false), "7 of 8, and another waits: its share is 4");
    assert!(fair.may_take(3, false), "who holds nothing may");
    assert!(fair.may_take(1, true), "nobody waits for a bulk slot");
    // Both wait: the one that holds less than its share comes first.
    fair.join(ConnId(1), 1, Need::Small, false);
    fair.join(ConnId(2), 2, Need::Small, false);
    assert_eq!(fair.next(Need::Small), Some(ConnId(0)));
    fair.took(2, false);
    assert_eq!(fair.next(Need::Small), Some(ConnId(2)), "still short, though it was just served");
    fair.took(2, false);
    fair.served(2, Need::Small);
    assert!(fair.holds_back() && !fair.may_take(1, false) && fair.may_take(2, false));
    assert_eq!(fair.next(Need::Small), None, "what 2 left over is held back for it");
    fair.begin_turn();
    assert_eq!(fair.next(Need::Small), Some(ConnId(1)), "nobody is left who is short");
    assert!(fair.nobody_waits() && !fair.holds_back());
}

#[test]
fn who_leaves_a_line_leaves_no_gap() {
    let mut fair = Fair::new(&geometry(8), 2, 4);
    for conn in 0..4 {
        fair.join(ConnId(conn), 1, Need::Room, false);
    }
    [1, 0, 3].into_iter().for_each(|conn| fair.leave(ConnId(conn)));
    fair.join(ConnId(0), 1, Need::Room, true);
    assert_eq!([0; 3].map(|_| fair.next(Need::Room)), [Some(ConnId(0)), Some(ConnId(2)), None]);
}

/// Lines as plain queues.
#[derive(Default)]
struct Model {
    lines: [VecDeque<u32>; PLACES],
    turns: VecDeque<usize>,
    held: [u32; PLACES],
    had: [u64; PLACES],
    clock: u64,
    held_back: bool,
}

impl Model {
    fn leave(&mut self, conn: u32) {
        for (place, line) in self.lines.iter_mut().enumerate() {
            line.retain(|other| *other != conn);
            if line.is_empty() {
                self.turns.retain(|turn| *turn != place);
            }
        }
    }

    fn join(&mut self, conn: u32, place: usize, front: bool) {
        self.leave(conn);
        if self.lines[place].is_empty() {
            self.turns.push_back(place);
        }
        if front {
            self.lines[place].push_front(conn);
        } else {
            self.lines[place].push_back(conn);
        }
    }

    fn active(&self) -> usize {
        (0..PLACES).filter(|p| self.held[*p] > 0 || !self.lines[*p].is_empty()).count()
    }

    fn short(&self, place: usize, total: u32) -> bool {
        self.held[place] < (total / self.active().max(1) as u32).max(1)
    }

    fn next(&mut self, total: u32) -> Option<u32> {
        let few = 0..self.turns.len().min(SHARES_LOOKED_AT);
        let key = |at: &usize| {
            let place = self.turns[*at];
            (!self.short(place, total), self.had[place], *at)
        };
        let at = few.min_by_key(key)?;
        let short = self.short(*self.turns.get(at)?, total);
        if self.held_back && !short {
            return None;
        }
        let place = self.turns.remove(at)?;
        self.turns.push_back(place);
        self.clock = self.clock.max(self.had[place]);
        let conn = *self.lines[place].front()?;
        self.leave(conn);
        Some(conn)
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Join(u32, usize, bool),
    Leave(u32),
    Next,
    Served(usize),
    Turn,
    Took(usize),
    Freed(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..CONNS, 0..PLACES, any::<bool>()).prop_map(|(c, p, f)| Op::Join(c, p, f)),
        1 => (0..CONNS).prop_map(Op::Leave),
        3 => Just(Op::Next),
        1 => Just(Op::Turn),
        1 => (0..PLACES).prop_map(Op::Served),
        3 => (0..PLACES).prop_map(Op::Took),
        2 => (0..PLACES).prop_map(Op::Freed),
    ]
}

proptest! {
    #[test]
    fn lines_and_turns_are_those_of_plain_queues(ops in prop::collection::vec(op(), 1..400)) {
        let total = 16;
        let mut fair = Fair::new(&geometry(total), PLACES, CONNS);
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Join(conn, place, front) => {
                    fair.join(ConnId(conn), place, Need::Small, front);
                    model.join(conn, place, front);
                }
                Op::Leave(conn) => {
                    fair.leave(ConnId(conn));
                    model.leave(conn);
                }
                Op::Next => {
                    let next = fair.next(Need::Small).map(|conn| conn.0);
                    prop_assert_eq!(next, model.next(total));
                }
                Op::Served(place) => {
                    fair.served(place, Need::Small);
                    model.held_back |= model.active() > 1 && model.short(place, total);
                }
                Op::Turn => {
                    fair.begin_turn();
                    model.held_back = false;
                }
                Op::Took(place) => {
                    fair.took(place, false);
                    model.held[place] += 1;
                    let least = model.clock.saturating_sub(total.into());
                    model.had[place] = model.had[place].max(least) + 1;
                }
                Op::Freed(place) if model.held[place] > 0 => {
                    fair.freed(place, false);
                    model.held[place] -= 1;
                }
                Op::Freed(_) => {}
            }
            let waiting: usize = model.lines.iter().map(VecDeque::len).sum();
            prop_assert_eq!(fair.waiting(Need::Small), waiting);
            for place in 0..PLACES {
                let others = model.turns.iter().any(|turn| *turn != place);
                let may = model.short(place, total) || !(others || model.held_back);
                prop_assert_eq!(fair.may_take(place, false), may);
            }
        }
    }
}
