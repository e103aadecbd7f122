//! Who waits for which answer on one connection.

use std::collections::HashMap;

/// What a frame with some message id is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<T> {
    /// For this call, and the call goes on.
    Part(T),
    /// For this call, and the last of it.
    Last(T),
    /// To a call that was answered, or that nobody waits for any more.
    Late,
    /// To nothing that was ever asked: the node does not keep the protocol.
    Unasked,
}

/// The calls under way on one connection, by message id. Ids count up and are never used twice, so
/// that a late answer is known as such without keeping what it answers.
#[derive(Debug)]
pub(crate) struct Book<T> {
    calls: HashMap<u64, T>,
    next: u64,
}

impl<T: Clone> Book<T> {
    pub(crate) fn new() -> Self {
        Self { calls: HashMap::new(), next: 1 }
    }

    /// Enters a call and gives it its id.
    pub(crate) fn open(&mut self, call: T) -> u64 {
        let id = self.next;
        self.next += 1;
        self.calls.insert(id, call);
        id
    }

    /// The call with this id, if it is under way.
    pub(crate) fn get(&self, id: u64) -> Option<&T> {
        self.calls.get(&id)
    }

    /// A frame came. `last` says that it ends its answer.
    pub(crate) fn arrived(&mut self, id: u64, last: bool) -> Arrival<T> {
        if last && let Some(call) = self.calls.remove(&id) {
            return Arrival::Last(call);
        }
        match self.calls.get(&id) {
            Some(call) => Arrival::Part(call.clone()),
            None if id > 0 && id < self.next => Arrival::Late,
            None => Arrival::Unasked,
        }
    }

    /// Nobody waits for this one any more. True where it was under way.
    pub(crate) fn forget(&mut self, id: u64) -> bool {
        self.calls.remove(&id).is_some()
    }

    /// The connection is over: everyone who still waits.
    pub(crate) fn close(&mut self) -> Vec<T> {
        self.calls.drain().map(|(_, call)| call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open,
        Arrive(u64, bool),
        Forget(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Open),
            (0..30_u64, any::<bool>()).prop_map(|(id, last)| Step::Arrive(id, last)),
            (0..30_u64).prop_map(Step::Forget),
        ]
    }

    proptest! {
        #[test]
        fn never_two_answers_to_one_call_and_never_one_to_a_stranger(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut book = Book::new();
            let (mut opened, mut over) = (0_u64, HashSet::new());
            for step in steps {
                match step {
                    Step::Open => {
                        opened += 1;
                        prop_assert_eq!(book.open(opened), opened);
                    }
                    Step::Forget(id) => {
                        let open = id > 0 && id <= opened && !over.contains(&id);
                        prop_assert_eq!(book.forget(id), open);
                        over.insert(id);
                        if id > opened || id == 0 {
                            over.remove(&id);
                        }
                    }
                    Step::Arrive(id, last) => match book.arrived(id, last) {
                        Arrival::Part(call) => prop_assert!(!last && call == id),
                        Arrival::Last(call) => {
                            prop_assert!(last && call == id);
                            prop_assert!(over.insert(id), "answered twice");
                        }
                        Arrival::Late => prop_assert!(over.contains(&id)),
                        Arrival::Unasked => prop_assert!(id == 0 || id > opened),
                    },
                }
            }
            let left: HashSet<u64> = book.close().into_iter().collect();
            prop_assert!((1..=opened).all(|id| left.contains(&id) != over.contains(&id)));
        }
    }
}
