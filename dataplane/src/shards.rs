//! The control thread's hold on the shards: one command queue each.

use crate::listen::{Bearing, Place};
use crossbeam_channel::{Receiver, Sender};
use dataplane_core::{
    driver::WorkerId,
    probe::{Probe, Probed},
};
use dataplane_uring::{Command, Commander, Gate, Gone};
use std::process::ExitStatus;

/// Room in a shard's queue. Commands are rare (a worker's life is a few, and restarts back off), so
/// a full queue means a shard that does not run any more.
pub(crate) const QUEUE: usize = 1024;

/// All shards of a node.
#[derive(Clone, Debug)]
pub(crate) struct Shards(pub(crate) Vec<Commander>);

impl Shards {
    /// A shard that has ended needs no command: both ways a send fails mean that.
    fn tell_all(&self, command: impl Fn() -> Command) {
        for commander in &self.0 {
            let _ = commander.send(command());
        }
    }

    /// Work may go to this worker from now on.
    pub(crate) fn worker_up(&self, worker: u16, operations: u32) {
        self.tell_all(|| Command::WorkerUp { worker: WorkerId(worker), operations });
    }

    /// Whether a worker is healthy: batches go to those that are.
    pub(crate) fn worker_health(&self, worker: u16, healthy: bool) {
        self.tell_all(|| Command::WorkerHealth { worker: WorkerId(worker), healthy });
    }

    /// Has one of the shards put a question to a worker. False where that shard has ended.
    pub(crate) fn probe(&self, turn: usize, probe: Probe, answers: &Sender<Probed>) -> bool {
        let commander = turn.checked_rem(self.0.len()).map(|shard| &self.0[shard]);
        commander.is_some_and(|it| it.send(Command::Probe(probe, answers.clone())).is_ok())
    }

    /// This worker's process is gone. Returns once every shard has taken back what it held.
    pub(crate) async fn worker_down(&self, worker: u16, status: ExitStatus) {
        let (done, settled) = crossbeam_channel::bounded(self.0.len());
        self.tell_all(|| Command::WorkerDown(Gone::new(WorkerId(worker), status, done.clone())));
        drop(done);
        // Ends when the last shard has answered, or dropped its command because it has ended.
        let wait = move || while settled.recv().is_ok() {};
        // The only failure is a runtime that shuts down, when nobody waits any more.
        let _ = tokio::task::spawn_blocking(wait).await;
    }

    /// Opens the doors: sockets by shard, and what stands in front of a place.
    pub(crate) fn listen(&self, sockets: Vec<Vec<Bearing>>, gate: impl Fn(&Place) -> Option<Gate>) {
        for (commander, sockets) in self.0.iter().zip(sockets) {
            for (place, socket) in sockets {
                let _ = commander.send(match gate(&place) {
                    Some(gate) => Command::ListenTls(socket, gate),
                    None => Command::Listen(socket),
                });
            }
        }
    }

    /// Asks every shard whether it turns; each that does answers once.
    pub(crate) fn call(&self) -> Receiver<()> {
        let (to, answers) = crossbeam_channel::bounded(self.0.len());
        self.tell_all(|| Command::Answer(to.clone()));
        answers
    }

    /// No new connections; peers are asked to leave, and answered until they have.
    pub(crate) fn leave(&self) {
        self.tell_all(|| Command::Leave);
    }

    /// Has each turn once more, if it sleeps.
    pub(crate) fn wake(&self) {
        self.0.iter().for_each(Commander::wake);
    }

    /// No new connections, no new work. Also wakes every shard.
    pub(crate) fn drain(&self) {
        self.tell_all(|| Command::Drain);
    }
}
