//! Several addresses of one name: IPv6 first, IPv4 a short moment later, whoever answers first wins
//! (TRANS-08, in the manner of RFC 8305).

use core::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an address is tried alone before the next one is tried beside it.
pub(crate) const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses of one name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// Addresses in the order in which to try them, and when.
#[derive(Debug)]
pub(crate) struct Race {
    waiting: std::vec::IntoIter<SocketAddr>,
    /// When the next one may start; at once where nothing is under way.
    next: Instant,
    running: usize,
}

impl Race {
    /// Puts the addresses in order: the families in turn, IPv6 first, each in the order given.
    pub(crate) fn new(addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) -> Self {
        let all = addresses.into_iter().take(ADDRESSES_MAX);
        let (six, four): (Vec<_>, Vec<_>) = all.partition(SocketAddr::is_ipv6);
        let (mut six, mut four) = (six.into_iter(), four.into_iter());
        let mut order = Vec::new();
        loop {
            let before = order.len();
            order.extend(six.next());
            order.extend(four.next());
            if order.len() == before {
                break;
            }
        }
        Self { waiting: order.into_iter(), next: now, running: 0 }
    }

    /// An address to start with now, if it is time.
    pub(crate) fn start(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.running > 0 && now < self.next {
            return None;
        }
        let address = self.waiting.next()?;
        self.running += 1;
        self.next = now + HEAD_START;
        Some(address)
    }

    /// One that started has failed: the next need not wait.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.next = now;
    }

    /// When to look for another start; `None` where all have started.
    pub(crate) fn wake(&self) -> Option<Instant> {
        (!self.waiting.as_slice().is_empty()).then_some(self.next)
    }

    /// True where nothing is under way and nothing is left.
    pub(crate) fn is_lost(&self) -> bool {
        self.running == 0 && self.waiting.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn trans_08_ipv6_goes_first_and_ipv4_follows_after_the_head_start() {
        let now = Instant::now();
        let given = addresses(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "[::1]:1", "[::2]:1"]);
        let mut race = Race::new(given, now);
        let mut order = Vec::new();
        let mut at = now;
        while !race.waiting.as_slice().is_empty() {
            order.extend(race.start(at));
            assert_eq!(race.start(at), None, "one at a time");
            assert_eq!(race.start(at + HEAD_START / 2), None);
            at += HEAD_START;
        }
        let wanted = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"];
        assert_eq!(order, addresses(&wanted));
    }

    #[test]
    fn trans_08_an_address_that_fails_makes_room_at_once() {
        let now = Instant::now();
        let mut race = Race::new(addresses(&["1.0.0.1:1", "[::1]:1"]), now);
        assert!(race.start(now).is_some_and(|first| first.is_ipv6()));
        assert_eq!(race.wake(), Some(now + HEAD_START));
        race.failed(now);
        assert!(race.start(now).is_some_and(|second| second.is_ipv4()));
        assert!(!race.is_lost() && race.wake().is_none());
        race.failed(now);
        assert!(race.is_lost());
        assert!(Race::new([], now).is_lost());
    }
}
