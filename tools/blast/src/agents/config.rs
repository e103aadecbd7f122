//! What a run of agents is asked to do, checked as a whole before anything is opened.

use crate::config::{BlastError, CONNECTIONS_MAX, SOURCES_MAX, THREADS_MAX};
use client::{Addr, Security};
use fleet::{Fleet, Mix, Rng, World};
use sign::PublicKey;
use std::time::Duration;
use wire::mesh::{CAPABILITIES_MAX, CAPABILITY_LEN_MAX, REGISTRATION_MAX};

/// Most agents of a run.
pub const AGENTS_MAX: u32 = 1_000_000;
/// Connections that one ring takes by itself, with some room under a limit of 20,000 descriptors.
const PER_THREAD: u32 = 16_000;
/// Connections from one local address: half of the ports that it has.
const PER_SOURCE: u32 = 14_000;

/// Shares of agents that do not behave; each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Behaviours {
    /// Messages answered with CONFLICT.
    pub conflict: f64,
    /// Messages on which an agent ends without an answer; its connection ends where it has one of
    /// its own.
    pub crash: f64,
    /// Agents that report false times and queues.
    pub liars: f64,
    /// Agents that answer everything twice.
    pub twice: f64,
    /// Agents that fall silent at their first message; their connections stay.
    pub vanish: f64,
}

/// What a seed makes of one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Manners {
    /// Factor on the times that it reports; 1 for the truth.
    pub lie: f64,
    /// Sends every answer two times.
    pub twice: bool,
    /// Falls silent at the first message.
    pub vanishes: bool,
}

impl Behaviours {
    /// How agent `index` of a seed behaves.
    #[must_use]
    pub fn of(&self, seed: u64, index: u32) -> Manners {
        let mut rng = Rng::of(seed ^ 0xBAD, u64::from(index));
        let lies = rng.chance(self.liars);
        let fast = rng.chance(0.5);
        Manners {
            lie: match (lies, fast) {
                (false, _) => 1.0,
                (true, true) => 0.25,
                (true, false) => 4.0,
            },
            twice: rng.chance(self.twice),
            vanishes: rng.chance(self.vanish),
        }
    }

    fn all(&self) -> [(&'static str, f64); 5] {
        [
            ("conflict-rate", self.conflict),
            ("crash-rate", self.crash),
            ("liars", self.liars),
            ("twice", self.twice),
            ("vanish", self.vanish),
        ]
    }
}

/// A capability, and the share of agents that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Capability {
    /// Its name.
    pub name: String,
    /// 0 to 1.
    pub share: f64,
}

/// What agents do with keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// They take up only what the node signed.
    pub verify: bool,
    /// Its key; `None` for the one that it names when they register.
    pub node_key: Option<PublicKey>,
    /// They have keys, and sign their answers where the node asks for it.
    pub sign: bool,
}

/// A whole run of agents.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node.
    pub addr: Addr,
    /// Certificates, for an address that needs them.
    pub security: Option<Security>,
    /// Agents.
    pub count: u32,
    /// Agents on each connection.
    pub per_connection: u32,
    /// Link, clock and service models.
    pub world: World,
    /// Which classes.
    pub mix: Mix,
    /// Everything that is drawn comes from it.
    pub seed: u64,
    /// What they can do.
    pub capabilities: Vec<Capability>,
    /// How they misbehave.
    pub behaviours: Behaviours,
    /// What they do with keys.
    pub proof: Proof,
    /// Heartbeats per second of all agents together, planned ahead; `None` for one of each agent in
    /// five seconds.
    pub beats_per_second: Option<f64>,
    /// How long they stay; `None` for until they are stopped.
    pub duration: Option<Duration>,
    /// Threads, each with a ring of its own; `None` for as many as are needed, two at most where
    /// that is enough.
    pub threads: Option<u32>,
    /// Show progress.
    pub progress: bool,
}

impl Config {
    /// A fleet of `count` with the defaults of the command line.
    #[must_use]
    pub const fn new(addr: Addr, count: u32) -> Self {
        Self {
            addr,
            security: None,
            count,
            per_connection: 100,
            world: World::Off,
            mix: Mix::Source,
            seed: 1,
            capabilities: Vec::new(),
            behaviours: Behaviours {
                conflict: 0.0,
                crash: 0.0,
                liars: 0.0,
                twice: 0.0,
                vanish: 0.0,
            },
            proof: Proof { verify: false, node_key: None, sign: false },
            beats_per_second: None,
            duration: None,
            threads: None,
            progress: false,
        }
    }

    /// Connections over all threads.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.count.div_ceil(self.per_connection)
    }

    /// Threads that will run: never more than connections.
    #[must_use]
    pub fn threads_used(&self) -> u32 {
        let needed = self.connections().div_ceil(PER_THREAD);
        self.threads.unwrap_or_else(|| needed.max(2)).min(self.connections())
    }

    /// Local addresses to connect from.
    #[must_use]
    pub fn sources(&self) -> u32 {
        match self.addr {
            Addr::Tcp { .. } => self.connections().div_ceil(PER_SOURCE),
            Addr::Unix(_) | Addr::Tls { .. } | Addr::Quic { .. } => 1,
        }
    }

    /// Agents of connection `index`: the first, and how many.
    #[must_use]
    pub fn agents_of(&self, index: u32) -> (u32, u32) {
        let first = index * self.per_connection;
        (first, self.per_connection.min(self.count - first))
    }

    /// The fleet that the seed gives.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        Fleet::new(self.seed, self.world, self.mix, self.count)
            .with_rates(self.behaviours.conflict, self.behaviours.crash)
    }

    /// Accepts the run as a whole or says what is wrong with it.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn check(&self) -> Result<(), BlastError> {
        let bound = |what: &str, value: u32, max: u32| match value {
            0 => Err(BlastError::usage(format!("--{what} must be at least 1"))),
            value if value > max => Err(BlastError::usage(format!("--{what} is over {max}"))),
            _ => Ok(()),
        };
        bound("count", self.count, AGENTS_MAX)?;
        bound("per-connection", self.per_connection, REGISTRATION_MAX as u32)?;
        bound("hosts", self.connections(), CONNECTIONS_MAX)?;
        bound("threads", self.threads.unwrap_or(1), THREADS_MAX)?;
        if self.sources() > SOURCES_MAX {
            let what = format!("{} connections need too many addresses", self.connections());
            return Err(BlastError::usage(what));
        }
        for (what, share) in self.behaviours.all() {
            if !(0.0..=1.0).contains(&share) {
                return Err(BlastError::usage(format!("--{what} is a share, from 0 to 1")));
            }
        }
        if self.capabilities.len() > CAPABILITIES_MAX {
            let what = format!("more than {CAPABILITIES_MAX} of --capability");
            return Err(BlastError::usage(what));
        }
        for capability in &self.capabilities {
            let name = &capability.name;
            if name.is_empty() || name.len() > CAPABILITY_LEN_MAX {
                let what = format!("a capability has 1 to {CAPABILITY_LEN_MAX} bytes");
                return Err(BlastError::usage(what));
            }
            if !(0.0..=1.0).contains(&capability.share) {
                return Err(BlastError::usage(format!("the share of `{name}` is from 0 to 1")));
            }
        }
        match self.beats_per_second {
            Some(rate) if !(rate.is_finite() && rate > 0.0 && rate <= 1e7) => {
                Err(BlastError::usage("--beats-per-second must be over 0 and at most 10,000,000"))
            }
            _ if self.duration.is_some_and(|duration| duration.is_zero()) => {
                Err(BlastError::usage("--duration must be longer than 0"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(count: u32) -> Config {
        Config::new("127.0.0.1:1".parse().expect("an address"), count)
    }

    #[test]
    fn agents_are_spread_over_connections_without_gaps() {
        let config = Config { per_connection: 7, ..config(30) };
        assert_eq!(config.connections(), 5);
        let spread: Vec<_> = (0..5).map(|index| config.agents_of(index)).collect();
        assert_eq!(spread, [(0, 7), (7, 7), (14, 7), (21, 7), (28, 2)]);
    }

    #[test]
    fn thirty_thousand_connections_fit_two_rings_and_three_addresses() {
        let config = Config { per_connection: 1, ..config(30_000) };
        assert_eq!((config.threads_used(), config.sources()), (2, 3));
        config.check().expect("sound");
    }

    #[test]
    fn every_bound_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, &str); 8] = [
            (|c| c.count = 0, "--count"),
            (|c| c.per_connection = 257, "--per-connection"),
            (|c| c.threads = Some(0), "--threads"),
            (|c| c.behaviours.liars = 1.5, "--liars"),
            (|c| c.behaviours.crash = f64::NAN, "--crash-rate"),
            (|c| c.beats_per_second = Some(0.0), "--beats-per-second"),
            (|c| c.duration = Some(Duration::ZERO), "--duration"),
            (|c| c.capabilities = vec![Capability { name: String::new(), share: 1.0 }], "capab"),
        ];
        for (spoil, part) in cases {
            let mut config = config(10);
            spoil(&mut config);
            let message = config.check().expect_err(part).to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn manners_come_from_the_seed_in_the_asked_shares() {
        let behaviours =
            Behaviours { liars: 0.1, twice: 0.5, vanish: 1.0, ..Behaviours::default() };
        let all: Vec<_> = (0..10_000).map(|index| behaviours.of(7, index)).collect();
        let again: Vec<_> = (0..10_000).map(|index| behaviours.of(7, index)).collect();
        assert_eq!(all, again);
        let share = |which: fn(&Manners) -> bool| all.iter().filter(|one| which(one)).count();
        assert!((800..1_200).contains(&share(|one| one.lie != 1.0)));
        assert!((4_500..5_500).contains(&share(|one| one.twice)));
        assert_eq!(share(|one| one.vanishes), 10_000);
    }
}
