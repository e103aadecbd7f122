//! The agents of a demonstration: `blast`'s, on threads of this process.

use super::mesh::{Answered, Fleet};
use crate::failure::Failure;
use blast::{
    BlastError,
    agents::{self, Config, World, truth::Truth},
};
use client::Addr;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

/// Agents of one host share a connection.
const PER_CONNECTION: u32 = 100;

/// A running fleet. Dropped without an end, its threads end by themselves.
#[derive(Debug)]
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Truth, BlastError>>>,
}

impl Fleet for Crowd {
    fn start(addr: &Addr, agents: u32) -> Result<Self, Failure> {
        let config = Config {
            per_connection: PER_CONNECTION,
            world: World::Datacentre,
            ..Config::new(addr.clone(), agents)
        };
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let run = move || agents::observe(config, &flag).map(|(_, truth)| truth);
        let thread = thread::Builder::new()
            .name("fleet".to_owned())
            .spawn(run)
            .map_err(|error| Failure::setup(format!("cannot start a thread: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn finish(mut self) -> Result<Vec<Answered>, Failure> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        let Some(Ok(truth)) = ended else {
            return Err(Failure::run("the agents' threads failed"));
        };
        let answered = |sample: &agents::truth::Sample| Answered {
            sent: sample.sent,
            delay: sample.delay,
            lead: sample.lead,
        };
        Ok(truth.map_err(Failure::run)?.samples.iter().map(answered).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
