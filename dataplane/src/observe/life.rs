//! Whether a node turns. Nobody leaves a sign of life that nobody asks for: the control thread is
//! asked for an answer, and shards, which sleep for as long as they like, are woken for a turn.

use crate::shards::Shards;
use dataplane_core::Stats;
use overview::Check;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{Instant, sleep, timeout},
};

/// Who has not turned for this long does not turn.
const TURN_MAX: Duration = Duration::from_secs(2);
/// Between two looks at the shards.
const LOOK: Duration = Duration::from_millis(2);

/// Asks the control thread.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(UnboundedSender<oneshot::Sender<()>>);

/// One that asks, and what the control thread is to run.
pub(crate) fn pulse() -> (Pulse, impl Future<Output = ()>) {
    let (ask, mut asked) = unbounded_channel::<oneshot::Sender<()>>();
    let answer = async move {
        while let Some(reply) = asked.recv().await {
            // Whoever asked may have given up.
            let _ = reply.send(());
        }
    };
    (Pulse(ask), answer)
}

impl Pulse {
    async fn turns(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = self.0.send(reply).is_ok();
        asked && matches!(timeout(TURN_MAX, answer).await, Ok(Ok(())))
    }
}

fn check(name: String, holds: bool) -> Check {
    let detail = if holds { "turns" } else { "has not turned for 2 s" };
    Check { name, holds, detail: detail.to_owned() }
}

/// The control thread and every shard.
pub(crate) async fn checks(pulse: Pulse, shards: &Shards, stats: &[Arc<Stats>]) -> Vec<Check> {
    let turns = || stats.iter().map(|shard| shard.turns.get());
    let before: Vec<u64> = turns().collect();
    shards.wake();
    let deadline = Instant::now() + TURN_MAX;
    let control = pulse.turns().await;
    let has_turned = || turns().zip(&before).map(|(now, before)| now != *before);
    while !has_turned().all(|turned| turned) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    let shards = (0..).zip(has_turned()).map(|(n, turned)| check(format!("shard-{n}"), turned));
    std::iter::once(check("control".to_owned(), control)).chain(shards).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_runtime(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(work);
    }

    #[test]
    fn who_turns_is_told_from_who_does_not() {
        in_runtime(async {
            let stats = [Stats::new(), Stats::new()];
            let (pulse, control) = pulse();
            let nobody = Shards(Vec::new());
            let turner = Arc::clone(&stats[1]);
            let turn = async {
                loop {
                    turner.turns.add(1);
                    sleep(LOOK).await;
                }
            };
            let checks = tokio::select! {
                checks = checks(pulse, &nobody, &stats) => checks,
                () = async { tokio::join!(control, turn); } => unreachable!("they go on"),
            };
            let told: Vec<_> = checks.iter().map(|it| (it.name.as_str(), it.holds)).collect();
            assert_eq!(told, [("control", true), ("shard-0", false), ("shard-1", true)]);
            assert_eq!(checks[1].detail, "has not turned for 2 s");
        });
    }

    #[test]
    fn a_control_thread_that_is_gone_does_not_turn() {
        in_runtime(async {
            let (pulse, control) = pulse();
            drop(control);
            let checks = checks(pulse, &Shards(Vec::new()), &[]).await;
            assert_eq!(checks, [check("control".to_owned(), false)]);
        });
    }
}
