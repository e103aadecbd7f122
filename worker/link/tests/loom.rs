//! All interleavings of the ring and of the doorbell that the memory model allows, at small size.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p link --release --test loom`
#![cfg(loom)]

use link::{
    door,
    ring::{Consumer, Places, Producer},
};
use loom::{
    cell::UnsafeCell,
    sync::{Arc, Condvar, Mutex, atomic::AtomicU32},
    thread,
};

type Word = std::sync::Arc<AtomicU32>;
type Row = std::sync::Arc<[AtomicU32]>;

fn ring(capacity: usize) -> (Producer<Word, Row>, Consumer<Word, Row>) {
    let tail = std::sync::Arc::new(AtomicU32::new(0));
    let head = std::sync::Arc::new(AtomicU32::new(0));
    let entries: Row = (0..capacity).map(|_| AtomicU32::new(0)).collect();
    let places = || Places::new(tail.clone(), head.clone(), entries.clone());
    (Producer::new(places()), Consumer::new(places()))
}

fn pop(consumer: &mut Consumer<Word, Row>) -> link::ring::Entry {
    loop {
        match consumer.pop().expect("honest") {
            Some(entry) => return entry,
            None => thread::yield_now(),
        }
    }
}

/// SYNC POINT submit: what was written to a slot before the push is there after the pop. The cells
/// are plain memory: a missing edge is a reported race.
#[test]
fn what_was_written_before_a_push_is_seen_after_the_pop() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(4);
        let slots = Arc::new([UnsafeCell::new(0_u32), UnsafeCell::new(0), UnsafeCell::new(0)]);
        let written = slots.clone();
        let pushing = thread::spawn(move || {
            for (index, slot) in written.iter().enumerate() {
                // SAFETY: the index was not pushed yet: the slot is this thread's.
                slot.with_mut(|slot| unsafe { *slot = index as u32 + 10 });
            }
            assert_eq!(producer.push_batch(0..2), Ok(true));
            assert_eq!(producer.push_batch(2..3), Ok(true));
        });
        for expected in 0..3 {
            let entry = pop(&mut consumer);
            assert_eq!((entry.index, entry.last), (expected, expected > 0));
            // SAFETY: popped: the slot is this thread's now.
            let value = slots[expected as usize].with(|slot| unsafe { *slot });
            assert_eq!(value, expected + 10);
        }
        pushing.join().expect("producer");
    });
}

/// SYNC POINT reuse: an entry is not written again before it was read, with a ring too small for
/// all.
#[test]
fn an_entry_is_read_before_it_is_written_again() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let pushing = thread::spawn(move || {
            for index in 0..3 {
                while !producer.push_batch([index].into_iter()).expect("honest") {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            assert_eq!(pop(&mut consumer).index, expected);
        }
        pushing.join().expect("producer");
    });
}

/// The slot goes there and back: two rings, one plain cell, changed by both sides in turn.
#[test]
fn a_lent_slot_comes_back_with_its_reply() {
    loom::model(|| {
        let (mut lending, mut submissions) = ring(2);
        let (mut completing, mut completions) = ring(2);
        let slot = Arc::new(UnsafeCell::new(1_u32));
        let lent = slot.clone();
        let worker = thread::spawn(move || {
            let entry = pop(&mut submissions);
            // SAFETY: lent to this thread.
            lent.with_mut(|slot| unsafe { *slot *= 5 });
            assert_eq!(completing.push_batch([entry.index].into_iter()), Ok(true));
        });
        // SAFETY: not lent yet.
        slot.with_mut(|slot| unsafe { *slot += 1 });
        assert_eq!(lending.push_batch([0].into_iter()), Ok(true));
        assert_eq!(pop(&mut completions).index, 0);
        // SAFETY: completed: ours again.
        assert_eq!(slot.with(|slot| unsafe { *slot }), 10);
        worker.join().expect("worker");
    });
}

/// An eventfd as the model sees it: a counter to wait for.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().expect("bell") = true;
        self.0.1.notify_one();
    }

    fn sleep(&self) {
        let mut rung = self.0.0.lock().expect("bell");
        while !*rung {
            rung = self.0.1.wait(rung).expect("bell");
        }
        *rung = false;
    }
}

fn sleeper(consumer: &mut Consumer<Word, Row>, flag: &AtomicU32, bell: &Bell, count: u32) {
    let mut popped = 0;
    while popped < count {
        if consumer.pop().expect("honest").is_some() {
            popped += 1;
            continue;
        }
        door::park(flag);
        if !consumer.has_news() {
            bell.sleep();
        }
        door::unpark(flag);
    }
}

/// SYNC POINT doze: no push is slept through. A lost wake-up is a deadlock, which the model
/// reports.
#[test]
fn no_push_is_slept_through() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (mut producer, mut consumer) = ring(2);
        let (flag, bell) = (Arc::new(AtomicU32::new(0)), Bell::new());
        let (ringer_flag, ringer_bell) = (flag.clone(), bell.clone());
        let pushing = thread::spawn(move || {
            for index in 0..2 {
                assert_eq!(producer.push_batch([index].into_iter()), Ok(true));
                if door::take(&ringer_flag) {
                    ringer_bell.ring();
                }
            }
        });
        sleeper(&mut consumer, &flag, &bell, 2);
        pushing.join().expect("producer");
    });
}

/// Two ringers on one door (two workers, one shard), each with its own ring.
#[test]
fn two_ringers_wake_one_sleeper() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (flag, bell) = (Arc::new(AtomicU32::new(0)), Bell::new());
        let (mut first, mut first_ring) = ring(1);
        let (mut second, mut second_ring) = ring(1);
        let (other_flag, other_bell) = (flag.clone(), bell.clone());
        let ringer = thread::spawn(move || {
            assert_eq!(first.push_batch([0].into_iter()), Ok(true));
            if door::take(&other_flag) {
                other_bell.ring();
            }
        });
        let (other_flag, other_bell) = (flag.clone(), bell.clone());
        let other = thread::spawn(move || {
            assert_eq!(second.push_batch([0].into_iter()), Ok(true));
            if door::take(&other_flag) {
                other_bell.ring();
            }
        });
        let mut popped = 0;
        while popped < 2 {
            let before = popped;
            popped += u32::from(first_ring.pop().expect("honest").is_some());
            popped += u32::from(second_ring.pop().expect("honest").is_some());
            if popped > before {
                continue;
            }
            door::park(&flag);
            if !first_ring.has_news() && !second_ring.has_news() {
                bell.sleep();
            }
            door::unpark(&flag);
        }
        ringer.join().expect("ringer");
        other.join().expect("ringer");
    });
}
