//! What a node remembers of requests, against a plain map.

use dataplane_core::{
    driver::Time,
    memory::SlotId,
    recall::{Bounds, Owner, Recall, Twin},
};
use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc, thread};

const SPAN: Time = 1_000;
const ROOMY: Bounds = Bounds { entries: 1 << 12, span: SPAN, answers: 64 };

fn owner(shard: u16, slot: u32) -> Owner {
    Owner { shard, slot: SlotId(slot) }
}

fn key(recall: &Recall, id: u8) -> u64 {
    recall.key(7, &[id; 16])
}

#[derive(Clone, Debug)]
enum Op {
    Enter(u8, u32),
    Claim(u8, u32),
    Answered(u8, u32, bool),
    Forget(u8, u32),
    Pass(Time),
}

fn op() -> impl Strategy<Value = Op> {
    let (id, slot) = (1..12u8, 0..4u32);
    prop_oneof![
        1 => (id.clone(), slot.clone()).prop_map(|(id, slot)| Op::Enter(id, slot)),
        3 => (id.clone(), slot.clone()).prop_map(|(id, slot)| Op::Claim(id, slot)),
        2 => (id.clone(), slot.clone(), any::<bool>())
            .prop_map(|(id, slot, short)| Op::Answered(id, slot, short)),
        1 => (id, slot).prop_map(|(id, slot)| Op::Forget(id, slot)),
        1 => (1..400u64).prop_map(Op::Pass),
    ]
}

/// What is known, told plainly: under way in a slot, or answered, perhaps with bytes.
#[derive(Clone, Debug, PartialEq)]
enum Fact {
    UnderWay(u32),
    Answered(Option<Vec<u8>>),
}

proptest! {
    #[test]
    fn w84_retries_are_known_as_by_a_map(ops in prop::collection::vec(op(), 1..200)) {
        let recall = Recall::new(ROOMY, 42);
        let mut model: HashMap<u8, (Time, Fact)> = HashMap::new();
        let mut now = 1;
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Pass(time) => now += time,
                Op::Enter(id, slot) => {
                    recall.enter(now, key(&recall, id), owner(0, slot));
                    model.retain(|other, (at, _)| *other != id || now - *at < SPAN);
                    model.entry(id).or_insert((now, Fact::UnderWay(slot)));
                }
                Op::Claim(id, slot) => {
                    model.retain(|other, (at, _)| *other != id || now - *at < SPAN);
                    let known = recall.claim(now, key(&recall, id), owner(0, slot));
                    let expected = model.get(&id).map(|(_, fact)| fact.clone());
                    let got = known.map(|twin| match twin {
                        Twin::UnderWay(owner) => Fact::UnderWay(owner.slot.0),
                        Twin::Answered(at) => {
                            Fact::Answered(recall.kept(key(&recall, id), at, <[u8]>::to_vec))
                        }
                    });
                    prop_assert_eq!(&got, &expected);
                    model.entry(id).or_insert((now, Fact::UnderWay(slot)));
                }
                Op::Answered(id, slot, short) => {
                    let bytes = vec![step as u8; step];
                    let answer = short.then_some(&bytes[..]);
                    recall.answered(now, key(&recall, id), owner(0, slot), answer);
                    if let Some((at, fact)) = model.get_mut(&id)
                        && *fact == Fact::UnderWay(slot)
                    {
                        (*at, *fact) = (now, Fact::Answered(answer.map(<[u8]>::to_vec)));
                    }
                }
                Op::Forget(id, slot) => {
                    recall.forget(key(&recall, id), owner(0, slot));
                    if model.get(&id).is_some_and(|(_, fact)| *fact == Fact::UnderWay(slot)) {
                        model.remove(&id);
                    }
                }
            }
        }
        prop_assert_eq!(recall.overruns(), 0);
    }
}

#[test]
fn w85_a_full_memory_forgets_what_was_answered_first_and_says_so() {
    let recall = Recall::new(Bounds { entries: 8, span: SPAN, answers: 0 }, 1);
    let keys: Vec<u64> = (1..=9).map(|id| key(&recall, id)).collect();
    for (slot, key) in (0..).zip(&keys[..8]) {
        recall.enter(1, *key, owner(0, slot));
    }
    recall.answered(2, keys[5], owner(0, 5), Some(&[1]));
    assert_eq!(recall.overruns(), 0);
    recall.enter(3, keys[8], owner(0, 8));
    assert_eq!(recall.overruns(), 1);
    assert_eq!(recall.claim(3, keys[0], owner(1, 0)), Some(Twin::UnderWay(owner(0, 0))));
    assert_eq!(recall.claim(3, keys[5], owner(1, 5)), None, "forgotten: it runs again");
}

#[test]
fn senders_and_ids_are_told_apart_and_no_id_is_no_key() {
    let recall = Recall::new(ROOMY, 3);
    assert_eq!(recall.key(1, &[0; 16]), 0);
    assert_ne!(recall.key(1, &[1; 16]), recall.key(2, &[1; 16]));
    assert_ne!(recall.key(1, &[1; 16]), recall.key(1, &[2; 16]));
    let other = Recall::new(ROOMY, 4);
    assert_ne!(recall.key(1, &[1; 16]), other.key(1, &[1; 16]), "nobody can choose buckets");
}

#[test]
fn an_answer_that_was_overwritten_is_gone_and_never_another_ones() {
    let recall = Recall::new(Bounds { answers: 2, ..ROOMY }, 5);
    for id in 1..=3 {
        recall.enter(1, key(&recall, id), owner(0, id.into()));
        recall.answered(1, key(&recall, id), owner(0, id.into()), Some(&[id; 3]));
    }
    let kept = |id| match recall.claim(1, key(&recall, id), owner(9, 9)) {
        Some(Twin::Answered(at)) => recall.kept(key(&recall, id), at, <[u8]>::to_vec),
        other => panic!("{other:?}"),
    };
    assert_eq!([kept(1), kept(2), kept(3)], [None, Some(vec![2; 3]), Some(vec![3; 3])]);
}

#[test]
fn w84_of_retries_on_several_shards_at_once_one_runs() {
    let recall = Arc::new(Recall::new(Bounds { entries: 1 << 16, ..ROOMY }, 6));
    let runs = |shard: u16| {
        let recall = Arc::clone(&recall);
        thread::spawn(move || {
            let ids = (0..2_000_u32).map(|id| {
                let mut query_id = [1; 16];
                query_id[..4].copy_from_slice(&id.to_le_bytes());
                recall.key(0, &query_id)
            });
            let ours = ids.map(|key| recall.claim(1, key, owner(shard, 0)).is_none());
            ours.collect::<Vec<bool>>()
        })
    };
    let threads: Vec<_> = (0..4).map(runs).collect();
    let threads: Vec<Vec<bool>> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(recall.overruns(), 0, "otherwise some may run twice");
    for id in 0..2_000 {
        assert_eq!(threads.iter().filter(|ours| ours[id]).count(), 1, "request {id}");
    }
}
