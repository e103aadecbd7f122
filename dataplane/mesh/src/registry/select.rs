//! Choosing whom a message is for.

use wire::mesh::{AgentClass, AgentState, CAPABILITIES_MAX, SkipReason};

use super::Registry;
use super::names::holds;
use crate::limits::SECTOR_CLUSTERS;

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// Everyone.
    All,
    /// One class.
    Class(AgentClass),
    /// One sector.
    Sector(u16),
    /// One cluster of a sector.
    Cluster {
        /// The sector.
        sector: u16,
        /// Its cluster, 0 to 9.
        cluster: u8,
    },
    /// Whoever has a capability.
    Capability(&'a str),
    /// These; one named twice is chosen once.
    Ids(&'a [[u8; 16]]),
}

/// A capability, looked up once for many agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(u16);

/// A question to the registry.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Whom.
    pub by: By<'a>,
    /// The message's priority, 0 to 3: 3 passes an open global circuit.
    pub priority: u8,
    /// Capabilities that everyone chosen must have.
    pub requires: &'a [&'a str],
}

/// A target that gets no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its handle; where the reason is [`SkipReason::Unknown`] the index in the list of ids.
    pub target: u32,
    /// Why.
    pub reason: SkipReason,
}

/// Required capabilities as ids; nobody has a capability that is unknown.
struct Required {
    ids: [u16; CAPABILITIES_MAX],
    len: usize,
    possible: bool,
}

impl Registry {
    /// Writes the chosen agents' handles to `chosen` and everybody else whom the selection names,
    /// with the reason, to `skipped`; what was in the vectors goes. Each target is in exactly one
    /// of them, once; an unknown id as often as it is named. Order: by handle, by seat (sectors,
    /// clusters), or as the ids are given.
    pub fn select(
        &mut self,
        selection: &Selection<'_>,
        chosen: &mut Vec<u32>,
        skipped: &mut Vec<Skipped>,
    ) {
        chosen.clear();
        skipped.clear();
        self.find(selection.by, chosen, skipped);
        let required = self.required(selection.requires);
        chosen.retain(|handle| match self.admits(*handle, selection.priority, &required) {
            Ok(()) => true,
            Err(reason) => {
                skipped.push(Skipped { target: *handle, reason });
                false
            }
        });
    }

    /// Everybody the selection names.
    fn find(&mut self, by: By<'_>, found: &mut Vec<u32>, skipped: &mut Vec<Skipped>) {
        match by {
            By::All => found.extend(self.iter()),
            By::Class(class) => {
                found.extend(self.iter().filter(|handle| self.class(*handle) == class));
            }
            By::Sector(sector) => {
                let clusters = self.clusters.of_sector(sector);
                found.extend(clusters.flat_map(|cluster| self.clusters.members(cluster)));
            }
            By::Cluster { sector, cluster } => {
                if usize::from(cluster) < SECTOR_CLUSTERS {
                    let number = u32::from(sector) * SECTOR_CLUSTERS as u32 + u32::from(cluster);
                    found.extend(self.clusters.members(number));
                }
            }
            By::Capability(text) => {
                let Some(id) = self.names.id(text) else { return };
                let held = &self.columns.capabilities;
                found.extend(self.iter().filter(|handle| holds(&held[*handle as usize], &[id])));
            }
            By::Ids(ids) => self.find_ids(ids, found, skipped),
        }
    }

    fn find_ids(&mut self, ids: &[[u8; 16]], found: &mut Vec<u32>, skipped: &mut Vec<Skipped>) {
        self.selection = self.selection.wrapping_add(1);
        if self.selection == 0 {
            self.columns.mark.fill(0);
            self.selection = 1;
        }
        for (index, id) in ids.iter().enumerate() {
            let Some(agent) = self.by_id(id) else {
                let target = u32::try_from(index).unwrap_or(u32::MAX);
                skipped.push(Skipped { target, reason: SkipReason::Unknown });
                continue;
            };
            let mark = &mut self.columns.mark[agent.handle as usize];
            if core::mem::replace(mark, self.selection) != self.selection {
                found.push(agent.handle);
            }
        }
    }

    fn required(&self, texts: &[&str]) -> Required {
        let mut required = Required { ids: [0; CAPABILITIES_MAX], len: 0, possible: true };
        for text in texts {
            match self.names.id(text) {
                Some(id) if required.ids[..required.len].contains(&id) => {}
                Some(id) if required.len < CAPABILITIES_MAX => {
                    required.ids[required.len] = id;
                    required.len += 1;
                }
                // Unknown, or more of them than any agent can have.
                _ => required.possible = false,
            }
        }
        required
    }

    /// Whether an agent may get a message now. Circuits come last: only who passes all else is a
    /// probe.
    fn admits(&mut self, handle: u32, priority: u8, required: &Required) -> Result<(), SkipReason> {
        let at = handle as usize;
        if let Some(reason) = self.is_away(handle) {
            return Err(reason);
        }
        let cluster = self.columns.cluster[at];
        if self.gates.is_frozen(cluster) {
            return Err(SkipReason::Frozen);
        }
        let held = &self.columns.capabilities[at];
        if !required.possible || !holds(held, &required.ids[..required.len]) {
            return Err(SkipReason::Incapable);
        }
        self.gates.pass(cluster, priority)
    }

    fn is_away(&self, handle: u32) -> Option<SkipReason> {
        match self.columns.state[handle as usize] {
            AgentState::Quarantined => Some(SkipReason::Quarantined),
            AgentState::Offline => Some(SkipReason::Offline),
            AgentState::Active | AgentState::Degraded => None,
        }
    }

    /// Why somebody who was chosen a while ago is to get no message now: gone or kept from work
    /// since then, or in a part that was frozen or cut off since then. For phases that come later
    /// than the choice; nobody is counted as a probe twice.
    #[must_use]
    pub fn revoked(&self, handle: u32, priority: u8) -> Option<SkipReason> {
        let cluster = self.columns.cluster[handle as usize];
        self.is_away(handle).or_else(|| self.gates.revoked(cluster, priority))
    }

    /// A capability that some agent has now. It is good until agents come or go.
    #[must_use]
    pub fn capability(&self, text: &str) -> Option<Capability> {
        self.names.id(text).map(Capability)
    }

    /// True where the agent has this capability.
    #[must_use]
    #[inline]
    pub fn is_capable(&self, handle: u32, capability: Capability) -> bool {
        holds(&self.columns.capabilities[handle as usize], &[capability.0])
    }

    /// How many capabilities the agent has.
    #[must_use]
    pub fn capability_count(&self, handle: u32) -> usize {
        let held = &self.columns.capabilities[handle as usize];
        held.iter().filter(|id| **id != super::names::NO_CAPABILITY).count()
    }

    /// Every capability that some agent has, in order.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.names.ids().iter().filter_map(|id| self.names.text(*id))
    }
}
