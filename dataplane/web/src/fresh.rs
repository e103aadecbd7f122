//! One rendering for all who ask within a moment.

use std::{future::Future, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// The last rendering of something. While one is being made, whoever else asks waits for it.
#[derive(Debug)]
pub(crate) struct Fresh<T> {
    age_max: Duration,
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Fresh<T> {
    /// Renderings are shown again until they are this old.
    pub(crate) fn new(age_max: Duration) -> Self {
        Self { age_max, last: Mutex::new(None) }
    }

    /// The last one, or what `make` gives.
    pub(crate) async fn get(&self, make: impl Future<Output = T>) -> T {
        let mut last = self.last.lock().await;
        if let Some((made, shown)) = &*last
            && made.elapsed() < self.age_max
        {
            return shown.clone();
        }
        let shown = make.await;
        *last = Some((Instant::now(), shown.clone()));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn in_runtime(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(work);
    }

    #[test]
    fn who_asks_together_gets_the_same_rendering() {
        in_runtime(async {
            let fresh = Fresh::new(Duration::from_secs(3600));
            let made = Cell::new(0);
            let make = || async {
                made.set(made.get() + 1);
                tokio::task::yield_now().await;
                made.get()
            };
            let all = tokio::join!(fresh.get(make()), fresh.get(make()), fresh.get(make()));
            assert_eq!((all, made.get()), ((1, 1, 1), 1));
        });
    }

    #[test]
    fn what_is_too_old_is_made_anew_and_a_making_that_was_given_up_locks_nobody_out() {
        in_runtime(async {
            let fresh = Fresh::new(Duration::ZERO);
            assert_eq!(fresh.get(async { 1 }).await, 1);
            tokio::select! {
                biased;
                _ = fresh.get(std::future::pending()) => unreachable!("never made"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(fresh.get(async { 2 }).await, 2);
        });
    }
}
