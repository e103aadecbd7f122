//! A node's ways to its end: told by a signal, or succeeded by another process.

use super::{Ending, Node};
use crate::{
    listen::Bound, observe::Phase, plan::Plan, say, signals::Signals, supervisor::Supervisor,
};
use std::time::Duration;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

/// After the last answer of a drain has left, how long its bytes may take to reach their readers.
const SETTLE: Duration = Duration::from_millis(50);

/// How often a process that was succeeded looks whether its last peer has left.
const LEFT: Duration = Duration::from_millis(10);
/// Longest that peers by QUIC have to leave for another process: who comes anew meets nobody until
/// then.
const QUIC_LEAVE: Duration = Duration::from_secs(3);

impl Node {
    /// Everything from a node's last request on. True where all have their answers.
    pub(super) async fn wind_up(
        &mut self,
        ending: Ending,
        plan: &Plan,
        mut bound: Bound,
        (supervisor, signals): (&Supervisor, &mut Signals),
    ) -> bool {
        let limit = plan.limits.drain_timeout;
        match ending {
            Ending::Told(name) => {
                bound.close();
                self.standing.set(Phase::Draining);
                supervisor.stopping("draining");
                say::out(format!("{name}: draining for up to {limit:?}"));
                self.drain_or_signal(limit, signals).await
            }
            Ending::Succeeded(reads) => {
                bound.give_away();
                self.standing.set(Phase::Succeeded);
                self.web.iter().for_each(web::Running::leave);
                supervisor.hush();
                let until = "answering until the last peer has left";
                say::out(format!("succeeded: another process serves here; {until}"));
                self.leave_or_signal(limit, reads, signals).await
            }
        }
    }

    /// True once every shard has answered all it had; false when the time is over.
    async fn drain(&mut self, deadline: Instant) -> bool {
        self.quic.drain();
        self.threads.shards.drain();
        for _ in 0..self.threads.shards.0.len() {
            if timeout_at(deadline, self.finished.recv()).await.is_err() {
                return false;
            }
        }
        sleep(SETTLE).await;
        true
    }

    /// The same, unless another signal comes.
    async fn drain_or_signal(&mut self, limit: Duration, signals: &mut Signals) -> bool {
        let deadline = Instant::now() + limit;
        tokio::select! {
            drained = self.drain(deadline) => drained,
            name = signals.next() => {
                say::note(format!("{name} again: ending at once"));
                false
            }
        }
    }

    /// Answers until the last peer has left or the time is over, then drains what is left. What
    /// comes by QUIC goes first: another process waits for its datagrams.
    async fn leave_or_signal(
        &mut self,
        limit: Duration,
        reads: oneshot::Sender<()>,
        signals: &mut Signals,
    ) -> bool {
        let deadline = Instant::now() + limit;
        let mut patient = true;
        if !self.quic_counters.is_empty() {
            let streams = |node: &Self| {
                node.quic_counters.iter().any(|counters| counters.streams_open.get() > 0)
            };
            let soon = deadline.min(Instant::now() + QUIC_LEAVE);
            patient = self.until_left(soon, streams, signals).await;
            self.quic.end().await;
        }
        drop(reads);
        if patient {
            let peers = |node: &Self| node.stats.shards().iter().any(|shard| shard.open.get() > 0);
            self.until_left(deadline, peers, signals).await;
        }
        self.drain_or_signal(limit, signals).await
    }

    /// Waits until there is nobody of these any more, for so long at most. False where a signal
    /// came.
    async fn until_left(
        &self,
        deadline: Instant,
        is_open: impl Fn(&Self) -> bool,
        signals: &mut Signals,
    ) -> bool {
        let mut alone_since: Option<Instant> = None;
        while Instant::now() < deadline {
            match (is_open(self), alone_since) {
                (true, _) => alone_since = None,
                (false, None) => alone_since = Some(Instant::now()),
                // A connection that was accepted at the last moment has shown itself by now.
                (false, Some(since)) if since.elapsed() >= SETTLE => break,
                (false, Some(_)) => {}
            }
            tokio::select! {
                () = sleep(LEFT) => {}
                name = signals.next() => {
                    say::note(format!("{name}: not waiting for the last peers"));
                    return false;
                }
            }
        }
        true
    }
}
