//! The worlds: what links, clocks and hosts are like, and the classes that live in them. All
//! figures are assumptions, chosen to be plausible and stated here; nothing else invents any.

use wire::mesh::AgentClass;

use crate::MS;

/// What the network and the hosts are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// No delay, no skew, no service time: agents answer at once.
    Off,
    /// One site: a quarter of a millisecond, hardly any loss.
    Datacentre,
    /// A continent: tens of milliseconds, some jitter, one packet in 500 lost.
    Wan,
    /// Bad links and shared hosts: long, uneven, lossy, slow at times.
    Hostile,
}

impl World {
    /// The three worlds that numbers are stated for.
    pub const MODELLED: [Self; 3] = [Self::Datacentre, Self::Wan, Self::Hostile];

    /// The name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Datacentre => "datacentre",
            Self::Wan => "wan",
            Self::Hostile => "hostile",
        }
    }

    /// The world of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Off, Self::Datacentre, Self::Wan, Self::Hostile]
            .into_iter()
            .find(|w| w.name() == name)
    }

    pub(crate) const fn traits(self) -> Traits {
        match self {
            Self::Off => Traits::NONE,
            Self::Datacentre => Traits {
                base: 0.25 * MS as f64,
                base_spread: 0.4,
                asymmetry: 0.03,
                jitter: 0.2,
                spike_rate: 0.005,
                spike: 2.0 * MS as f64,
                loss: 0.000_02,
                drift_ppm: 10.0,
                noise: 1.0,
                wander: 0.05,
                service: 1.0,
            },
            Self::Wan => Traits {
                base: 30.0 * MS as f64,
                base_spread: 0.5,
                asymmetry: 0.03,
                jitter: 0.06,
                spike_rate: 0.01,
                spike: 25.0 * MS as f64,
                loss: 0.002,
                drift_ppm: 20.0,
                noise: 1.2,
                wander: 0.05,
                service: 1.0,
            },
            Self::Hostile => Traits {
                base: 70.0 * MS as f64,
                base_spread: 0.6,
                asymmetry: 0.08,
                jitter: 0.2,
                spike_rate: 0.03,
                spike: 80.0 * MS as f64,
                loss: 0.012,
                drift_ppm: 50.0,
                noise: 1.8,
                wander: 0.12,
                service: 1.0,
            },
        }
    }
}

/// The figures of a world. Spreads are sigmas of lognormals with median 1.
pub(crate) struct Traits {
    /// Median over agents of the one-way delay, ns.
    pub(crate) base: f64,
    pub(crate) base_spread: f64,
    /// Spread of the downward share of a round trip around one half.
    pub(crate) asymmetry: f64,
    /// Scale of the jitter as a share of the base delay.
    pub(crate) jitter: f64,
    /// Share of packets that meet a spike, and its least length in ns (Pareto above that).
    pub(crate) spike_rate: f64,
    pub(crate) spike: f64,
    /// Share of packets lost, median over agents.
    pub(crate) loss: f64,
    /// Clocks run this much too fast or slow, uniformly between minus and plus.
    pub(crate) drift_ppm: f64,
    /// Factor on the classes' service noise.
    pub(crate) noise: f64,
    /// How far service rates wander slowly, as a share.
    pub(crate) wander: f64,
    /// Factor on service times.
    pub(crate) service: f64,
}

impl Traits {
    const NONE: Self = Self {
        base: 0.0,
        base_spread: 0.0,
        asymmetry: 0.0,
        jitter: 0.0,
        spike_rate: 0.0,
        spike: 0.0,
        loss: 0.0,
        drift_ppm: 0.0,
        noise: 0.0,
        wander: 0.0,
        service: 0.0,
    };
}

/// Which classes a fleet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// The shares of the specification: A 10,000, B 8,000, C 5,000, D 2,000, E 3,000.
    Source,
    /// As [`Mix::Source`], and F 2,000: people.
    SourceWithHumans,
    /// A to E alike.
    Uniform,
    /// One class only.
    Only(AgentClass),
}

impl Mix {
    /// The mix of this name, as on a command line.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "source" => Some(Self::Source),
            "source-with-humans" => Some(Self::SourceWithHumans),
            "uniform" => Some(Self::Uniform),
            _ => AgentClass::ALL.iter().find(|c| c.name() == name).map(|&c| Self::Only(c)),
        }
    }

    /// Shares in code order, A to F.
    const fn shares(self) -> [u32; 6] {
        match self {
            Self::Source => [10_000, 8_000, 5_000, 2_000, 3_000, 0],
            Self::SourceWithHumans => [10_000, 8_000, 5_000, 2_000, 3_000, 2_000],
            Self::Uniform => [1, 1, 1, 1, 1, 0],
            Self::Only(class) => {
                let mut shares = [0; 6];
                shares[class as usize] = 1;
                shares
            }
        }
    }

    /// The class of agent `index`: a low-discrepancy sequence, so any prefix and any stride of a
    /// fleet has nearly the exact shares.
    pub(crate) fn class_of(self, index: u32) -> AgentClass {
        let shares = self.shares();
        let total: u32 = shares.iter().sum();
        let golden = u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let mut at = ((golden * u64::from(total)) >> 32) as u32;
        for (class, share) in AgentClass::ALL.iter().zip(shares) {
            if at < share {
                return *class;
            }
            at -= share;
        }
        AgentClass::Edge
    }
}

/// What a class is like: see [`Profile::of`].
pub(crate) struct Profile {
    /// Median service time at load 1, ns (CLASS-07).
    pub(crate) base: f64,
    /// Spread of the agents' rates around it.
    pub(crate) rate_spread: f64,
    /// Spread of one agent's service times from message to message.
    pub(crate) noise: f64,
    /// Mean queue depth, median over agents.
    pub(crate) queue: f64,
}

impl Profile {
    pub(crate) const fn of(class: AgentClass) -> Self {
        let (base_ms, rate_spread, noise, queue) = match class {
            AgentClass::Edge => (10.0, 0.25, 0.15, 1.0),
            AgentClass::Serverless => (50.0, 0.35, 0.20, 2.0),
            AgentClass::Persistent => (200.0, 0.30, 0.15, 2.0),
            AgentClass::Gpu => (100.0, 0.30, 0.10, 4.0),
            AgentClass::Local => (150.0, 0.50, 0.25, 1.0),
            AgentClass::Human => (60_000.0, 0.80, 0.60, 1.0),
        };
        Self { base: base_ms * MS as f64, rate_spread, noise, queue }
    }
}
