//! Circuits and freezes by scope (MESHMSG-17, MESHMSG-18, X-18).

use wire::mesh::{CircuitAction, PRIORITY_MAX, SkipReason};

use crate::cluster::sector_of;
use crate::limits::{PROBES, SECTOR_CLUSTERS};

/// What an order to a breaker or a freeze is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One cluster of a sector.
    Cluster {
        /// The sector.
        sector: u16,
        /// Its cluster, 0 to 9.
        cluster: u8,
    },
    /// One sector.
    Sector(u16),
    /// All.
    Global,
}

/// The circuit and the freeze of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Frozen: nobody in it gets a message.
    pub frozen: bool,
    /// Its circuit.
    pub circuit: Circuit,
}

/// State of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// All passes.
    #[default]
    Closed,
    /// Nothing passes; where it is the global one, priority 3 does.
    Open,
    /// This many more targets pass.
    HalfOpen(u16),
}

impl Circuit {
    const fn passes(self) -> bool {
        match self {
            Self::Closed => true,
            Self::Open => false,
            Self::HalfOpen(left) => left > 0,
        }
    }

    const fn spend(&mut self) {
        if let Self::HalfOpen(left) = self {
            *left = left.saturating_sub(1);
        }
    }
}

/// The gates of all places.
#[derive(Debug)]
pub(super) struct Gates {
    pub(super) clusters: Vec<Gate>,
    pub(super) sectors: Vec<Gate>,
    pub(super) global: Gate,
}

impl Gates {
    pub(super) fn new(clusters: u32, sectors: u16) -> Self {
        Self {
            clusters: vec![Gate::default(); clusters as usize],
            sectors: vec![Gate::default(); usize::from(sectors)],
            global: Gate::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.clusters.capacity() + self.sectors.capacity()) * size_of::<Gate>()
    }

    fn gate_mut(&mut self, place: Place) -> Option<&mut Gate> {
        match place {
            Place::Global => Some(&mut self.global),
            Place::Sector(sector) => self.sectors.get_mut(usize::from(sector)),
            Place::Cluster { sector, cluster } => {
                self.clusters.get_mut(cluster_index(sector, cluster)?)
            }
        }
    }

    fn gate(&self, place: Place) -> Option<Gate> {
        match place {
            Place::Global => Some(self.global),
            Place::Sector(sector) => self.sectors.get(usize::from(sector)).copied(),
            Place::Cluster { sector, cluster } => {
                self.clusters.get(cluster_index(sector, cluster)?).copied()
            }
        }
    }

    pub(super) fn is_frozen(&self, cluster: u32) -> bool {
        self.global.frozen
            || self.sectors[usize::from(sector_of(cluster))].frozen
            || self.clusters[cluster as usize].frozen
    }

    /// Why nobody in a cluster is to get a message any more who was let pass before: a freeze, or
    /// a breaker that opened. A probe keeps its leave where its breaker is still half open.
    pub(super) fn revoked(&self, cluster: u32, priority: u8) -> Option<SkipReason> {
        if self.is_frozen(cluster) {
            return Some(SkipReason::Frozen);
        }
        let sector = self.sectors[usize::from(sector_of(cluster))].circuit;
        let open = self.clusters[cluster as usize].circuit == Circuit::Open
            || sector == Circuit::Open
            || (priority < PRIORITY_MAX && self.global.circuit == Circuit::Open);
        open.then_some(SkipReason::CircuitOpen)
    }

    /// Lets one target of a cluster pass, and counts it as a probe of every half-open circuit
    /// above it.
    pub(super) fn pass(&mut self, cluster: u32, priority: u8) -> Result<(), SkipReason> {
        let sector = &mut self.sectors[usize::from(sector_of(cluster))].circuit;
        let cluster = &mut self.clusters[cluster as usize].circuit;
        let critical = priority >= PRIORITY_MAX;
        let global = &mut self.global.circuit;
        if !cluster.passes() || !sector.passes() || !(critical || global.passes()) {
            return Err(SkipReason::CircuitOpen);
        }
        cluster.spend();
        sector.spend();
        if !critical {
            global.spend();
        }
        Ok(())
    }
}

fn cluster_index(sector: u16, cluster: u8) -> Option<usize> {
    let (sector, cluster) = (usize::from(sector), usize::from(cluster));
    (cluster < SECTOR_CLUSTERS).then_some(sector * SECTOR_CLUSTERS + cluster)
}

impl super::Registry {
    /// Carries out an order to a circuit. Every HALF_OPEN grants new probes. False for a place
    /// that this registry does not have.
    pub fn set_circuit(&mut self, place: Place, action: CircuitAction) -> bool {
        let circuit = match action {
            CircuitAction::Open => Circuit::Open,
            CircuitAction::HalfOpen => Circuit::HalfOpen(PROBES),
            CircuitAction::Close => Circuit::Closed,
        };
        self.gates.gate_mut(place).map(|gate| gate.circuit = circuit).is_some()
    }

    /// Freezes a place or thaws it. False for a place that this registry does not have.
    pub fn set_frozen(&mut self, place: Place, frozen: bool) -> bool {
        self.gates.gate_mut(place).map(|gate| gate.frozen = frozen).is_some()
    }

    /// True where a sector or a cluster is frozen.
    #[must_use]
    pub fn is_partly_frozen(&self) -> bool {
        self.gates.sectors.iter().chain(&self.gates.clusters).any(|gate| gate.frozen)
    }

    /// The gate of a place.
    #[must_use]
    pub fn gate(&self, place: Place) -> Option<Gate> {
        self.gates.gate(place)
    }

    /// True where a freeze reaches this agent.
    #[must_use]
    pub fn is_frozen(&self, handle: u32) -> bool {
        self.gates.is_frozen(self.columns.cluster[handle as usize])
    }
}
