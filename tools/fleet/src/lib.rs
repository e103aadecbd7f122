//! A synthetic fleet: links, clocks and service times of agents, drawn from a seed.
//!
//! A [`Fleet`] is a list of [`AgentModel`]s and nothing else: it has no clock and no state, so real
//! sockets (`blast agents`) and virtual time (`sim`) use the same one. *True time* is whatever
//! monotonic clock the caller lives by; every function that depends on it takes it as `at`.
//!
//! One message to agent `i` with payload weight `w`, sent at true time `t`:
//!
//! ```
//! use fleet::{Fleet, Mix, MS, Rng, World};
//! let fleet = Fleet::new(7, World::Wan, Mix::Source, 1_000);
//! let mut rng = Rng::of(7, 3); // the caller's stream; one per agent keeps runs comparable
//! let (i, w, t) = (3, 1.0, 5_000 * MS);
//! let arrives = t + fleet.sample_down(i, t, &mut rng);
//! let queue = fleet.queue(i, arrives); // also what heartbeats report
//! let ready = arrives + fleet.sample_service(i, arrives, w, queue, &mut rng);
//! let answer = ready + fleet.sample_up(i, ready, &mut rng);
//! let on_the_agents_clock = fleet.clock(i, ready); // what its ACK says
//! // The best anyone could have known: the message is ready within `lead` with probability 0.99.
//! let lead = fleet.oracle_quantile(i, t, 0.99, w, queue);
//! assert!(answer > ready && lead > 0 && on_the_agents_clock > 0);
//! ```
//!
//! **Assumptions**, all in [`World`] and `world.rs`: link delay = base (lognormal over agents,
//! asymmetric) + lognormal jitter + rare Pareto spikes + a TCP retransmission delay per lost
//! packet; service = base(class) x rate of the agent x (1 + 0.5 weight)(1 + 0.1 queue) x lognormal
//! noise, the rate wandering slowly; queues wander in minutes; clocks have an arbitrary offset and
//! a constant drift. Agents are independent of each other.
#![forbid(unsafe_code)]

mod agent;
pub mod normal;
mod oracle;
mod rng;
mod world;

use wire::mesh::AgentClass;

pub use agent::AgentModel;
pub use rng::{Rng, mix};
pub use world::{Mix, World};

/// Nanoseconds of a monotonic clock.
pub type Time = u64;
/// One millisecond of [`Time`].
pub const MS: Time = 1_000_000;
/// One second of [`Time`].
pub const SECOND: Time = 1_000 * MS;

/// What an agent makes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does it, and says READY.
    Ready,
    /// It knows better, and says CONFLICT.
    Conflict,
    /// It vanishes: no answer, and its connection ends.
    Crash,
}

/// A change from one moment on.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// From this true time on (millisecond resolution).
    pub at: Time,
    /// Share of the agents that change, 0..=1.
    pub share: f64,
    /// Factor on their service times.
    pub service: f32,
    /// Factor on their link delays.
    pub path: f32,
}

/// A fleet of agents. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: u64,
    world: World,
    agents: Vec<AgentModel>,
}

impl Fleet {
    /// `count` agents of this world and mix. Agent `i` depends on seed, world, mix and `i` alone,
    /// not on `count`. About 96 bytes and 1 us each.
    #[must_use]
    pub fn new(seed: u64, world: World, mix: Mix, count: u32) -> Self {
        let traits = world.traits();
        let agents = (0..count)
            .map(|i| {
                let mut rng = Rng::of(seed, u64::from(i));
                AgentModel::draw(&traits, mix.class_of(i), &mut rng)
            })
            .collect();
        Self { seed, world, agents }
    }

    /// The same fleet whose agents answer CONFLICT, and crash, with these probabilities per
    /// message.
    #[must_use]
    pub fn with_rates(mut self, conflict: f64, crash: f64) -> Self {
        for agent in &mut self.agents {
            agent.conflict_rate = conflict as f32;
            agent.crash_rate = crash as f32;
        }
        self
    }

    /// The same fleet with a step change. Which agents change depends on the seed.
    #[must_use]
    pub fn with_step(mut self, step: Step) -> Self {
        for (i, agent) in self.agents.iter_mut().enumerate() {
            if Rng::of(self.seed ^ 0x57E9, i as u64).chance(step.share) {
                agent.step_at_ms = u32::try_from(step.at / MS).unwrap_or(u32::MAX);
                agent.step_service = step.service;
                agent.step_path = step.path;
            }
        }
        self
    }

    /// How many agents there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.agents.len() as u32
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// Its world.
    #[must_use]
    pub const fn world(&self) -> World {
        self.world
    }

    /// The model of agent `i`.
    ///
    /// # Panics
    /// If there is none: `i` is at least [`Fleet::len`]. So do all functions that take `i`.
    #[must_use]
    pub fn agent(&self, i: u32) -> &AgentModel {
        &self.agents[i as usize]
    }

    /// Class of agent `i`.
    #[must_use]
    pub fn class(&self, i: u32) -> AgentClass {
        self.agent(i).class
    }

    /// A 128-bit id of agent `i`, the same for the same seed.
    #[must_use]
    pub fn id(&self, i: u32) -> [u8; 16] {
        let mut rng = Rng::of(self.seed ^ 0x1D, u64::from(i));
        ((u128::from(rng.next()) << 64) | u128::from(rng.next())).to_be_bytes()
    }

    /// One-way delay of a packet to agent `i` that leaves at true time `at`.
    pub fn sample_down(&self, i: u32, at: Time, rng: &mut Rng) -> Time {
        let agent = self.agent(i);
        agent.sample_link(agent.down, at, rng)
    }

    /// One-way delay of a packet from agent `i` that leaves at true time `at`.
    pub fn sample_up(&self, i: u32, at: Time, rng: &mut Rng) -> Time {
        let agent = self.agent(i);
        agent.sample_link(agent.up, at, rng)
    }

    /// Service time of a message that begins at true time `at` and meets this queue.
    pub fn sample_service(&self, i: u32, at: Time, weight: f32, queue: u32, rng: &mut Rng) -> Time {
        let agent = self.agent(i);
        let noise = rng.lognormal(f64::from(agent.noise));
        (agent.service_median(at, weight, queue) * noise) as Time
    }

    /// What agent `i` makes of one message.
    pub fn sample_outcome(&self, i: u32, rng: &mut Rng) -> Outcome {
        let agent = self.agent(i);
        let at = rng.unit();
        let crash = f64::from(agent.crash_rate);
        if at < crash {
            Outcome::Crash
        } else if at < crash + f64::from(agent.conflict_rate) {
            Outcome::Conflict
        } else {
            Outcome::Ready
        }
    }

    /// Queue depth of agent `i` at true time `at`.
    #[must_use]
    pub fn queue(&self, i: u32, at: Time) -> u32 {
        self.agent(i).queue_at(at)
    }

    /// Agent `i`'s clock at a true time. Never decreases.
    #[must_use]
    pub fn clock(&self, i: u32, true_time: Time) -> Time {
        self.agent(i).clock(true_time)
    }

    /// The true time at which agent `i`'s clock shows `agent_time` (within 2 ns).
    #[must_use]
    pub fn true_time(&self, i: u32, agent_time: Time) -> Time {
        self.agent(i).true_time(agent_time)
    }

    /// The oracle: quantile `tau` (0 < tau < 1) of the ready delay (down + service) of a message
    /// that leaves at true time `at`, from the model itself; for `tau` up to
    /// 0.9999. See [`Fleet::oracle_share`].
    #[must_use]
    pub fn oracle_quantile(&self, i: u32, at: Time, tau: f64, weight: f32, queue: u32) -> Time {
        oracle::Ready::of(self.agent(i), at, weight, queue).quantile(tau)
    }

    /// Probability that the ready delay is at most `delay`: the service time's exact distribution
    /// summed over a grid of link delays (`oracle.rs`). Tests hold it against what is drawn.
    #[must_use]
    pub fn oracle_share(&self, i: u32, at: Time, delay: Time, weight: f32, queue: u32) -> f64 {
        oracle::Ready::of(self.agent(i), at, weight, queue).share(delay as f64)
    }
}

#[cfg(test)]
mod tests;
