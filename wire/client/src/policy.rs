//! What decides, without doing: state machines of the pool. They take time and randomness as
//! arguments and know no sockets, clocks or threads; the faces carry out what they say.

pub(crate) mod book;
pub(crate) mod budget;
pub(crate) mod connections;
pub(crate) mod race;
pub(crate) mod retry;

use std::time::Duration;

/// The wait before try `tries` + 1: uniform between nothing and a bound that doubles with every
/// try from `first` up to `most` (full jitter, so that those who failed together do not come back
/// together). `random` is in [0, 1).
pub(crate) fn backoff(first: Duration, most: Duration, tries: u32, random: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(20);
    most.min(first.saturating_mul(1 << doublings)).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_06_the_bound_doubles_from_the_first_to_the_most_and_stays_there() {
        let (first, most) = (Duration::from_millis(10), Duration::from_millis(1_000));
        let bound = |tries| backoff(first, most, tries, 1.0).as_millis();
        assert_eq!([1, 2, 3, 7, 8, 9, u32::MAX].map(bound), [10, 20, 40, 640, 1000, 1000, 1000]);
        assert_eq!(backoff(first, most, 3, 0.5), Duration::from_millis(20));
        assert_eq!(backoff(first, most, 3, 0.0), Duration::ZERO);
    }
}
