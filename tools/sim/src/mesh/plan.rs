//! What one run of the mesh consists of.

use super::{
    engine::Time,
    fault::{self, Fault, Faults},
};
use crate::rng::Rng;
use fleet::{Mix, SECOND, World};
use std::fmt::Write as _;

/// An error put in on purpose, to see that the judges find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Agents whose connection was made again act 30 ms before they should.
    ReleasesEarly,
    /// A cut connection leaves its sends in place, and they go to whoever took the place.
    ForgetsToDrop,
}

/// One run: everything that happens in it follows from this.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where chance comes from.
    pub seed: u64,
    /// Agents of all nodes together.
    pub agents: u32,
    /// Nodes below the first; 0 for one node with all agents.
    pub children: u32,
    /// Agents that share a connection.
    pub per_connection: u32,
    /// Virtual time that passes.
    pub duration: Time,
    /// Measuring begins after it.
    pub warm_up: Time,
    /// Every so manieth message is compared with the oracle; 0 for none.
    pub oracle_every: u32,
    /// What links, clocks and hosts are like.
    pub network: World,
    /// Which classes there are.
    pub mix: Mix,
    /// Between two gathers.
    pub period: Time,
    /// Share READY in time that the gathers ask for, in turn.
    pub dials: Vec<f32>,
    /// Every gather is for all and of one kind: what measurements need. Else they are drawn.
    pub steady: bool,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How that was drawn, for [`Self::command`].
    pub drawn: Faults,
    /// Every message goes through its wire encoding.
    pub bytes: bool,
    /// An error on purpose.
    pub bug: Option<Bug>,
}

impl Plan {
    /// A large, steady mesh, for measurements.
    #[must_use]
    pub fn measure(seed: u64, agents: u32, duration: Time, network: World, drawn: Faults) -> Self {
        Self {
            seed,
            agents,
            children: 0,
            per_connection: 1,
            duration,
            warm_up: 0,
            oracle_every: 0,
            network,
            mix: Mix::Source,
            period: 10 * SECOND,
            dials: vec![0.99],
            steady: true,
            faults: fault::draw(seed, drawn),
            drawn,
            bytes: false,
            bug: None,
        }
    }

    /// A small mesh in which everything is drawn from the seed.
    #[must_use]
    pub fn small(seed: u64, drawn: Faults) -> Self {
        let mut rng = Rng::new(seed ^ 0x9E_5A);
        let network = rng.pick(&[World::Datacentre, World::Wan, World::Hostile]);
        Self {
            seed,
            agents: rng.range(1, 150) as u32,
            children: if rng.chance(30) { rng.range(1, 3) as u32 } else { 0 },
            per_connection: rng.pick(&[1, 1, 4, 30]),
            duration: rng.range(90, 150) * SECOND,
            warm_up: 0,
            oracle_every: 0,
            network,
            mix: rng.pick(&[Mix::Source, Mix::Uniform, Mix::SourceWithHumans]),
            period: rng.range(3, 10) * SECOND,
            dials: vec![0.99, 0.999, 0.5],
            steady: false,
            faults: fault::draw(seed, drawn),
            drawn,
            bytes: false,
            bug: None,
        }
    }

    /// Orders are signed, and unsigned ones not obeyed.
    #[must_use]
    pub const fn signed(&self) -> bool {
        !self.steady && self.seed.is_multiple_of(2)
    }

    /// Connections that the agents make.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.agents.div_ceil(self.per_connection)
    }

    /// The command that runs exactly this.
    #[must_use]
    pub fn command(&self) -> String {
        let mut line = format!("sim mesh --seed {}", self.seed);
        let drawn = if self.steady {
            Self::measure(self.seed, self.agents, self.duration, self.network, self.drawn)
        } else {
            Self::small(self.seed, self.drawn)
        };
        let name = match self.drawn {
            Faults::None => "none",
            Faults::Some => "some",
            Faults::All => "all",
        };
        // Writing to a string cannot fail.
        if self.steady {
            let _ = write!(line, " --network {}", self.network.name());
        } else {
            line += " --small";
        }
        let _ = write!(line, " --faults {name}");
        if self.steady || self.agents != drawn.agents {
            let _ = write!(line, " --agents {}", self.agents);
        }
        if self.steady || self.duration != drawn.duration {
            let _ = write!(line, " --seconds {}", self.duration.div_ceil(SECOND));
        }
        if self.children != drawn.children {
            let _ = write!(line, " --children {}", self.children);
        }
        if self.faults != drawn.faults {
            let kept: Vec<String> = self.faults.iter().map(|f| f.number.to_string()).collect();
            let _ = write!(
                line,
                " --keep {}",
                if kept.is_empty() { "-".into() } else { kept.join(",") }
            );
        }
        line
    }
}
