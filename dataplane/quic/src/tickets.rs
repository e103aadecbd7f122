//! Sessions that can be resumed: each once, for a short time, a bounded number of them.
//!
//! Taking a session out by using it is what keeps a replayed first flight from being accepted
//! twice; the short life bounds what a stolen ticket is good for.

use rustls::server::StoresServerSessions;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

#[derive(Debug, Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// Keys in the order in which they came, those that were used since with them.
    order: VecDeque<Vec<u8>>,
}

/// The store that a TLS configuration keeps its sessions in.
#[derive(Debug)]
pub(crate) struct Tickets {
    kept: Mutex<Kept>,
    at_most: usize,
    life: Duration,
}

impl Tickets {
    pub(crate) fn new(at_most: usize, life: Duration) -> Self {
        Self { kept: Mutex::default(), at_most, life }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What a panicking holder leaves is whole: every change is one call of the map.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Tickets {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut kept = self.kept();
        while kept.order.len() >= self.at_most {
            let Some(oldest) = kept.order.pop_front() else { return false };
            kept.sessions.remove(&oldest);
        }
        kept.order.push_back(key.clone());
        kept.sessions.insert(key, (Instant::now(), value));
        true
    }

    /// Only TLS 1.2 resumes without taking.
    fn get(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (since, value) = self.kept().sessions.remove(key)?;
        (since.elapsed() < self.life).then_some(value)
    }

    fn can_cache(&self) -> bool {
        self.at_most > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_session_is_resumed_once() {
        let tickets = Tickets::new(2, HOUR);
        assert!(tickets.put(b"a".to_vec(), b"1".to_vec()));
        assert_eq!(tickets.get(b"a"), None);
        assert_eq!(tickets.take(b"a"), Some(b"1".to_vec()));
        assert_eq!(tickets.take(b"a"), None);
    }

    #[test]
    fn an_old_session_is_not_resumed() {
        let tickets = Tickets::new(2, Duration::ZERO);
        assert!(tickets.put(b"a".to_vec(), b"1".to_vec()));
        assert_eq!(tickets.take(b"a"), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let tickets = Tickets::new(2, HOUR);
        for key in [b"a", b"b", b"c"] {
            assert!(tickets.put(key.to_vec(), key.to_vec()));
        }
        assert_eq!(tickets.take(b"a"), None);
        assert_eq!(tickets.take(b"c"), Some(b"c".to_vec()));
        let kept = tickets.kept();
        assert_eq!((kept.sessions.len(), kept.order.len()), (1, 2));
        assert!(!Tickets::new(0, HOUR).can_cache());
        assert!(!Tickets::new(0, HOUR).put(b"a".to_vec(), Vec::new()));
    }
}
