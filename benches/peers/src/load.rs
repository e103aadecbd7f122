//! The load, the same for every system: callers that answer when their answer has come, and
//! histograms of how long that took.
//!
//! Closed: every caller asks again as soon as it has its answer. Open: messages are planned at a
//! fixed rate, a thread of its own says when each is due, and time counts from the planned moment,
//! so that a system that falls behind cannot hide it.

use hdrhistogram::Histogram;
use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{Barrier, Semaphore};

/// One way to ask one system: sends the body, waits for the answer, and holds it against what it
/// should be.
pub(crate) trait Caller: Send + Sync + 'static {
    /// An error says what was wrong; the run is then worth nothing.
    fn call(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As soon as the last was answered.
    Closed,
    /// So many a second.
    Open(f64),
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    /// Calls under way at once for each caller.
    pub(crate) depth: usize,
    /// When no more is sent.
    pub(crate) time: Duration,
    /// The same in messages, whichever comes first.
    pub(crate) most: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Nanoseconds from the moment of sending, planned or actual, to the answer.
    pub(crate) times: Histogram<u64>,
    /// Calls that were answered.
    pub(crate) answered: u64,
    /// Calls that were to be made, where that was planned.
    pub(crate) planned: u64,
    /// From the first call to the last answer.
    pub(crate) took: Duration,
}

/// Calls per task that warm connections and caches, and are not counted.
const WARM_UP: usize = 3;
/// An open run that cannot keep up is cut off after this many times its own length.
const OVERTIME: u32 = 2;

/// Runs the plan over these callers; `begun` is called between warm-up and the first counted call.
pub(crate) async fn drive<C: Caller>(
    callers: Vec<Arc<C>>,
    plan: Plan,
    begun: impl FnOnce(),
) -> Result<Tally, String> {
    let tasks = callers.len() * plan.depth;
    let shared = Arc::new(Shared {
        plan,
        start: Mutex::new(Instant::now()),
        gate: Barrier::new(tasks + 1),
        due: Semaphore::new(0),
        next: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    });
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let caller = Arc::clone(&callers[task % callers.len()]);
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.task(&*caller).await })
        })
        .collect();
    shared.gate.wait().await;
    begun();
    let start = Instant::now();
    *shared.start.lock().map_err(|_| "a task panicked")? = start;
    let pacer = matches!(plan.pace, Pace::Open(_)).then(|| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.pace(start))
    });
    shared.gate.wait().await;
    let mut times = histogram();
    for task in running {
        let found = task.await.map_err(|error| format!("a task ended: {error}"))??;
        times.add(found).map_err(|error| error.to_string())?;
    }
    let took = start.elapsed();
    if let Some(pacer) = pacer {
        pacer.join().map_err(|_| "the pacer panicked")?;
    }
    let answered = times.len();
    let planned = match plan.pace {
        Pace::Closed => answered,
        Pace::Open(rate) => planned(plan, rate),
    };
    Ok(Tally { times, answered, planned, took })
}

fn planned(plan: Plan, rate: f64) -> u64 {
    plan.most.min((rate * plan.time.as_secs_f64()) as u64)
}

fn histogram() -> Histogram<u64> {
    // Up to a minute, three digits.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("fixed bounds hold")
}

struct Shared {
    plan: Plan,
    start: Mutex<Instant>,
    /// Passed twice: when all are warm, and when time has begun.
    gate: Barrier,
    /// Messages whose moment has come and that nobody has sent yet.
    due: Semaphore,
    /// The number of the next message.
    next: AtomicU64,
    failed: AtomicBool,
}

impl Shared {
    async fn task<C: Caller>(&self, caller: &C) -> Result<Histogram<u64>, String> {
        let mut warm = Ok(());
        for _ in 0..WARM_UP {
            warm = warm.and(caller.call().await);
        }
        self.gate.wait().await;
        self.gate.wait().await;
        let result = match (warm, self.plan.pace) {
            (Err(why), _) => Err(why),
            (Ok(()), Pace::Closed) => self.closed(caller).await,
            (Ok(()), Pace::Open(rate)) => self.open(caller, rate).await,
        };
        if result.is_err() {
            self.failed.store(true, Relaxed);
            self.due.close();
        }
        result
    }

    fn start(&self) -> Instant {
        *self.start.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn closed<C: Caller>(&self, caller: &C) -> Result<Histogram<u64>, String> {
        let mut times = histogram();
        let end = self.start() + self.plan.time;
        let mut now = Instant::now();
        while now < end && self.next.fetch_add(1, Relaxed) < self.plan.most {
            caller.call().await?;
            let after = Instant::now();
            times.saturating_record((after - now).as_nanos() as u64);
            now = after;
            if self.failed.load(Relaxed) {
                break;
            }
        }
        Ok(times)
    }

    async fn open<C: Caller>(&self, caller: &C, rate: f64) -> Result<Histogram<u64>, String> {
        let mut times = histogram();
        let start = self.start();
        let end = start + self.plan.time * OVERTIME;
        // Closed when there is no more to send.
        while let Ok(permit) = self.due.acquire().await {
            permit.forget();
            let number = self.next.fetch_add(1, Relaxed);
            let moment = start + Duration::from_secs_f64(number as f64 / rate);
            caller.call().await?;
            let after = Instant::now();
            times.saturating_record((after - moment).as_nanos() as u64);
            if after > end || number + 1 >= planned(self.plan, rate) {
                self.due.close();
            }
        }
        Ok(times)
    }

    /// Says when messages are due. A timer of the runtime would be a millisecond late.
    fn pace(&self, start: Instant) {
        let Pace::Open(rate) = self.plan.pace else { return };
        // Without it the kernel wakes up to 50 us late, for all systems alike.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        let mut said = 0;
        let count = planned(self.plan, rate);
        while said < count && !self.due.is_closed() {
            let due = ((start.elapsed().as_secs_f64() * rate) as u64 + 1).min(count);
            self.due.add_permits((due - said) as usize);
            said = due;
            let next = start + Duration::from_secs_f64(said as f64 / rate);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after yielding a few times; fails at one call.
    struct Counter {
        calls: AtomicU64,
        bad: u64,
    }

    impl Caller for Counter {
        async fn call(&self) -> Result<(), String> {
            tokio::task::yield_now().await;
            let number = self.calls.fetch_add(1, Relaxed);
            if number == self.bad { Err("wrong bytes".into()) } else { Ok(()) }
        }
    }

    fn callers(count: usize, bad: u64) -> Vec<Arc<Counter>> {
        (0..count).map(|_| Arc::new(Counter { calls: AtomicU64::new(0), bad })).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_planned_message_is_sent_once_and_counted() {
        for pace in [Pace::Closed, Pace::Open(1e6)] {
            let callers = callers(3, u64::MAX);
            let plan = Plan { pace, depth: 4, time: Duration::from_secs(60), most: 500 };
            let tally = drive(callers.clone(), plan, || {}).await.expect("runs");
            assert_eq!((tally.answered, tally.planned), (500, 500));
            let calls: u64 = callers.iter().map(|caller| caller.calls.load(Relaxed)).sum();
            assert_eq!(calls, 500 + 12 * WARM_UP as u64);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wrong_answer_fails_the_run() {
        for (pace, bad) in [(Pace::Closed, 100), (Pace::Open(1e6), 100), (Pace::Closed, 0)] {
            let plan = Plan { pace, depth: 2, time: Duration::from_secs(60), most: 5_000 };
            let failed = drive(callers(2, bad), plan, || {}).await;
            assert_eq!(failed.err().as_deref(), Some("wrong bytes"));
        }
    }
}
