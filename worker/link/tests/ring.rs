//! The ring against a plain queue, against a lying peer, and with both sides at full speed.
#![cfg(not(loom))]

use link::ring::{Consumer, Entry, INDEX_MAX, Places, Producer};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

type Word = Arc<AtomicU32>;
type Row = Arc<[AtomicU32]>;

/// A ring on the heap, its words at hand so that a test can play the broken peer.
struct Heap {
    tail: Word,
    head: Word,
    entries: Row,
}

impl Heap {
    fn new(capacity: usize) -> Self {
        let entries = (0..capacity).map(|_| AtomicU32::new(0)).collect();
        Self { tail: Arc::default(), head: Arc::default(), entries }
    }

    fn places(&self) -> Places<Word, Row> {
        Places::new(self.tail.clone(), self.head.clone(), self.entries.clone())
    }

    fn sides(&self) -> (Producer<Word, Row>, Consumer<Word, Row>) {
        (Producer::new(self.places()), Consumer::new(self.places()))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u32>),
    Pop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(0..=INDEX_MAX, 0..12).prop_map(Step::Push),
        (1_usize..12).prop_map(Step::Pop),
    ]
}

proptest! {
    /// Whatever is done in whatever order, the ring says what a queue says.
    #[test]
    fn behaves_as_a_bounded_queue(log in 0_u32..6, steps in prop::collection::vec(step(), 0..200)) {
        let capacity = 1_usize << log;
        let heap = Heap::new(capacity);
        let (mut producer, mut consumer) = heap.sides();
        let mut oracle = VecDeque::new();
        for step in steps {
            match step {
                Step::Push(batch) => {
                    let fits = oracle.len() + batch.len() <= capacity;
                    prop_assert_eq!(producer.push_batch(batch.iter().copied()), Ok(fits));
                    if fits {
                        let last = batch.len().saturating_sub(1);
                        let entries = batch.iter().enumerate();
                        let entry = |(at, &index)| Entry { index, last: at == last };
 oracle.extend(entries.map(entry));
                    }
                }
                Step::Pop(count) => {
                    for _ in 0..count {
                        prop_assert_eq!(consumer.has_news(), !oracle.is_empty());
                        prop_assert_eq!(consumer.pop(), Ok(oracle.pop_front()));
                    }
                }
            }
        }
    }

    /// A consumer that claims any position it likes gets room for what is true, or a fault; never a
    /// panic.
    #[test]
    fn a_lying_consumer_is_caught(pushed in 0_u32..8, claim in any::<u32>()) {
        let heap = Heap::new(8);
        let (mut producer, _) = heap.sides();
        prop_assert_eq!(producer.push_batch(0..pushed), Ok(true));
        heap.head.store(claim, Ordering::Relaxed);
        match producer.free(9) {
            Ok(free) => prop_assert!(claim <= pushed && free == 8 - pushed + claim),
            Err(fault) => prop_assert!(claim > pushed && fault.theirs == claim),
        }
    }

    /// A producer that claims any position gets its own entries read, or a fault; never a panic,
    /// never more than there are.
    #[test]
    fn a_lying_producer_is_caught(claim in any::<u32>(), junk in any::<u32>()) {
        let heap = Heap::new(8);
        let (_, mut consumer) = heap.sides();
        heap.entries.iter().for_each(|entry| entry.store(junk, Ordering::Relaxed));
        heap.tail.store(claim, Ordering::Relaxed);
        let mut popped = 0;
        let end = loop {
            match consumer.pop() {
                Ok(Some(entry)) => {
                    prop_assert!(entry.index <= INDEX_MAX);
                    popped += 1;
                }
                end => break end,
            }
        };
        if claim <= 8 {
            prop_assert_eq!((end, popped), (Ok(None), claim));
        } else {
            prop_assert!(end.is_err());
            prop_assert_eq!(popped, 0);
        }
    }
}

/// Two threads, a small ring, and payload words that only the ring's ordering protects. Under a
/// thread sanitizer this is the proof of the SYNC POINTs on this machine; without one, of the
/// values.
#[test]
fn two_threads_pass_everything_in_order() {
    const COUNT: u32 = 400_000;
    let heap = Heap::new(64);
    let (mut producer, mut consumer) = heap.sides();
    let payload: Arc<[AtomicU64]> = (0..64).map(|_| AtomicU64::new(0)).collect();
    let written = payload.clone();
    let pushing = thread::spawn(move || {
        let mut next = 0;
        while next < COUNT {
            let count = (next % 7 + 1).min(COUNT - next);
            while producer.free(count).expect("honest") < count {
                thread::yield_now();
            }
            for index in next..next + count {
                written[index as usize % 64].store(u64::from(index) * 3, Ordering::Relaxed);
            }
            assert_eq!(producer.push_batch(next..next + count), Ok(true));
            next += count;
        }
    });
    for expected in 0..COUNT {
        let entry = loop {
            match consumer.pop().expect("honest") {
                Some(entry) => break entry,
                None => thread::yield_now(),
            }
        };
        assert_eq!(entry.index, expected);
        // The slot may already carry the next round's value only after we popped; it is at least
        // ours.
        let value = payload[expected as usize % 64].load(Ordering::Relaxed);
        assert!(value >= u64::from(expected) * 3, "payload of {expected} not visible: {value}");
    }
    pushing.join().expect("producer");
    assert_eq!(consumer.pop(), Ok(None));
}
