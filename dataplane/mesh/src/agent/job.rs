//! The messages that an agent has in hand.

use super::TRANSIT_AFTER;
use crate::Time;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Behind others.
    Waiting,
    /// Being served; at most one.
    Serving,
    /// Ready, until its moment comes.
    Held,
}

/// A message in hand. Times of the agent's clock, `origin` of the node's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) message_id: [u8; 16],
    pub(super) origin: Time,
    pub(super) received: Time,
    pub(super) target: Time,
    /// [`Time::MAX`] for never.
    pub(super) expires: Time,
    pub(super) began: Time,
    /// 0 for not yet.
    pub(super) ready: Time,
    pub(super) queue_found: u32,
    pub(super) weight: f32,
    pub(super) stage: Stage,
    pub(super) hold: bool,
    /// A TRANSIT was sent.
    pub(super) told: bool,
}

impl Job {
    /// Time spent on it.
    pub(super) const fn processing(&self) -> Time {
        self.ready.saturating_sub(self.began)
    }

    /// Nothing of it is under way, and it is due or too late. What is being served is judged when
    /// the service ends.
    pub(super) const fn is_over(&self, now: Time) -> bool {
        match self.stage {
            Stage::Waiting => now > self.expires,
            Stage::Serving => false,
            Stage::Held => now >= self.target || now > self.expires,
        }
    }

    /// Its sender should hear that it is under way.
    pub(super) const fn is_slow(&self, now: Time) -> bool {
        !self.told && now >= self.slow_at()
    }

    const fn slow_at(&self) -> Time {
        self.received.saturating_add(TRANSIT_AFTER)
    }

    fn next_due(&self) -> Time {
        let slow = if self.told { Time::MAX } else { self.slow_at() };
        let expired = self.expires.saturating_add(1);
        match self.stage {
            Stage::Waiting => slow.min(expired),
            Stage::Serving => slow,
            Stage::Held => slow.min(expired).min(self.target),
        }
    }
}

/// All of them in the order in which they came. Takes memory when the first one comes, and keeps
/// it.
#[derive(Clone, Debug)]
pub(super) struct Jobs(Vec<Job>);

impl Jobs {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, job: Job) {
        // One at a time is what most agents ever have: room for exactly that.
        if self.0.is_empty() && self.0.capacity() == 0 {
            self.0.reserve_exact(1);
        }
        self.0.push(job);
    }

    pub(super) fn first(&self) -> Option<&Job> {
        self.0.first()
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has(&self, message_id: &[u8; 16]) -> bool {
        self.0.iter().any(|job| job.message_id == *message_id)
    }

    pub(super) fn unready(&self) -> u32 {
        self.0.iter().filter(|job| job.stage != Stage::Held).count() as u32
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Job> {
        self.0.iter().filter(|job| job.stage == Stage::Held)
    }

    pub(super) fn position(&self, which: impl Fn(&Job) -> bool) -> Option<usize> {
        self.0.iter().position(which)
    }

    pub(super) fn serving(&self) -> Option<usize> {
        self.position(|job| job.stage == Stage::Serving)
    }

    pub(super) fn at_mut(&mut self, index: usize) -> &mut Job {
        &mut self.0[index]
    }

    pub(super) fn remove(&mut self, index: usize) -> Job {
        self.0.remove(index)
    }

    pub(super) fn next_due(&self) -> Time {
        self.0.iter().map(Job::next_due).min().unwrap_or(Time::MAX)
    }
}
