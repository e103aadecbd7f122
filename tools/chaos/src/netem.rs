//! One direction of a connection with a bad network in between, without any I/O: bytes in with a
//! time, bytes out when they are due. Nothing is lost and nothing changes its place: this is a
//! stream, so a lossy link shows as delay, and in the end as a cut.

use fleet::Rng;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bytes that one direction holds; more are not taken, so that the sender feels the link.
pub(crate) const HELD_MAX: usize = 1 << 20;

/// What a link does to one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Every byte comes so much later.
    pub(crate) delay: Duration,
    /// And up to so much later still, at random.
    pub(crate) jitter: Duration,
    /// Bytes per second at most; 0 for no bound.
    pub(crate) bandwidth: u64,
    /// Half of what leaves does so in pieces of at most so many bytes; 0 for as it came.
    pub(crate) piece: usize,
    /// Nothing moves.
    pub(crate) stalled: bool,
}

/// Bytes on their way.
#[derive(Debug)]
pub(crate) struct Pipe {
    held: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the link has sent all that it has let out, at its bandwidth.
    free_at: Option<Instant>,
    random: Rng,
}

impl Pipe {
    /// An empty one; jitter comes from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { held: VecDeque::new(), bytes: 0, free_at: None, random: Rng::new(seed) }
    }

    /// How many bytes it takes now.
    pub(crate) const fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.bytes)
    }

    /// Nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes bytes in.
    pub(crate) fn push(&mut self, now: Instant, weather: &Weather, bytes: &[u8]) {
        let jitter = weather.jitter.mul_f64(self.random.unit());
        let due = now + weather.delay + jitter;
        // A stream keeps its order: nothing is due before what came earlier.
        let due = self.held.back().map_or(due, |(last, _)| due.max(*last));
        self.bytes += bytes.len();
        self.held.push_back((due, bytes.to_vec()));
    }

    /// The bytes that may leave now; `leave` says how many of them did.
    pub(crate) fn pull(
        &mut self,
        now: Instant,
        weather: &Weather,
        leave: impl FnOnce(&[u8]) -> usize,
    ) -> usize {
        if self.next_due(now, weather) != Some(now) {
            return 0;
        }
        let Some((_, bytes)) = self.held.front_mut() else { return 0 };
        // All of it in single bytes would be a slow link first of all, and that is another fault.
        let piece = match weather.piece as u64 {
            0 => bytes.len(),
            _ if self.random.chance(0.5) => bytes.len(),
            most => bytes.len().min(1 + self.random.below(most) as usize),
        };
        let left = leave(&bytes[..piece]).min(piece);
        bytes.drain(..left);
        if bytes.is_empty() {
            self.held.pop_front();
        }
        self.bytes -= left;
        if weather.bandwidth > 0 {
            let took = Duration::from_secs_f64(left as f64 / weather.bandwidth as f64);
            self.free_at = Some(self.free_at.map_or(now, |free| free.max(now)) + took);
        }
        left
    }

    /// When something may leave: `now` for at once, `None` for not before the weather changes.
    pub(crate) fn next_due(&self, now: Instant, weather: &Weather) -> Option<Instant> {
        if weather.stalled {
            return None;
        }
        let (due, _) = self.held.front()?;
        let free = self.free_at.filter(|_| weather.bandwidth > 0).unwrap_or(now);
        Some((*due).max(free).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bytes_wait_for_delay_bandwidth_and_better_weather() {
        let start = Instant::now();
        let mut pipe = Pipe::new(1);
        let slow = Weather { delay: 10 * MS, bandwidth: 1_000, ..Weather::default() };
        pipe.push(start, &slow, &[7; 5]);
        pipe.push(start, &slow, &[8; 5]);
        assert_eq!(pipe.next_due(start, &slow), Some(start + 10 * MS));
        assert_eq!(pipe.pull(start + 9 * MS, &slow, <[u8]>::len), 0);
        assert_eq!(pipe.pull(start + 10 * MS, &slow, <[u8]>::len), 5, "what came in one");
        assert_eq!(pipe.next_due(start + 10 * MS, &slow), Some(start + 15 * MS), "5 bytes at 1/ms");
        let stalled = Weather { stalled: true, ..slow };
        assert_eq!(pipe.next_due(start + 20 * MS, &stalled), None);
        assert_eq!(pipe.pull(start + 20 * MS, &slow, <[u8]>::len), 5);
        assert!(pipe.is_empty() && pipe.room() == HELD_MAX);
    }

    proptest! {
        #[test]
        fn whatever_the_weather_the_stream_comes_whole_and_in_order(
            steps in prop::collection::vec((0..3_u8, 1..40_usize, 0..20_u64), 1..200),
            seed: u64,
        ) {
            let mut now = Instant::now();
            let mut pipe = Pipe::new(seed);
            let (mut next, mut sent, mut got) = (0_u8, Vec::<u8>::new(), Vec::<u8>::new());
            for (what, size, ms) in steps {
                let weather = Weather {
                    delay: ms as u32 * MS,
                    jitter: 5 * MS,
                    bandwidth: size as u64 * 100,
                    piece: size % 7,
                    stalled: what == 2 && ms > 15,
                };
                now += ms as u32 * MS;
                if what == 0 {
                    let bytes: Vec<u8> = (0..size).map(|i| next.wrapping_add(i as u8)).collect();
                    next = next.wrapping_add(size as u8);
                    pipe.push(now, &weather, &bytes);
                    sent.extend(bytes);
                } else {
                    pipe.pull(now, &weather, |bytes| {
                        let took = bytes.len().min(size);
                        got.extend(&bytes[..took]);
                        took
                    });
                }
            }
            let fair = Weather::default();
            now += Duration::from_secs(1);
            while !pipe.is_empty() {
                pipe.pull(now, &fair, |bytes| {
                    got.extend(bytes);
                    bytes.len()
                });
            }
            prop_assert_eq!(got, sent);
        }
    }
}
