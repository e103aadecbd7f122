//! What a registry should do, written as plainly as possible: one map, searched from end to end.

use std::collections::BTreeMap;

use mesh::Time;
use mesh::limits::{KEEP_GONE, SILENT_AFTER};
use mesh::registry::{Impedance, RegisterFault};
use wire::mesh::{AgentClass, AgentState, SkipReason};

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) class: AgentClass,
    pub(crate) state: AgentState,
    /// The connection, and the number of the registration.
    pub(crate) link: Option<(u32, u64)>,
    /// When the connection was lost, and the how manyth loss this was.
    gone: (Time, u64),
    pub(crate) heartbeat: Time,
    pub(crate) score: f64,
    pub(crate) capabilities: Vec<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) agents: BTreeMap<u32, Agent>,
    pub(crate) capacity: usize,
    pub(crate) events: u64,
}

pub(crate) fn score_ms(it: &Impedance) -> f64 {
    let ms = |time: Time| time as f64 / 1e6;
    let work = ms(it.processing) * (1.0 + f64::from(it.queue) / 10.0);
    (ms(it.latency) / 2.0 + work).min(1000.0)
}

fn state_after(old: AgentState, class: AgentClass, it: &Impedance) -> AgentState {
    let slow = class != AgentClass::Human && score_ms(it) > 800.0;
    match (old, it.state) {
        (AgentState::Quarantined, _) => AgentState::Quarantined,
        (_, AgentState::Active) if slow => AgentState::Degraded,
        (_, claimed) => claimed,
    }
}

impl Model {
    /// True where it resumed.
    pub(crate) fn register(
        &mut self,
        now: Time,
        id: u32,
        class: AgentClass,
        link: u32,
        capabilities: &[&'static str],
        told: &Impedance,
    ) -> Result<bool, RegisterFault> {
        self.events += 1;
        let mut resumed = false;
        if let Some(old) = self.agents.get(&id) {
            if old.state == AgentState::Quarantined && old.class != class {
                return Err(RegisterFault::BadRecord);
            }
            let elsewhere = old.link.is_some_and(|(own, _)| own != link);
            if elsewhere && old.state != AgentState::Offline {
                return Err(RegisterFault::NameTaken);
            }
            resumed = old.class == class;
        } else if self.agents.len() == self.capacity {
            let away = self.agents.iter().filter(|(_, it)| it.link.is_none());
            let oldest = away.min_by_key(|(_, it)| it.gone);
            let oldest = oldest.map(|(id, it)| (*id, it.gone.0)).ok_or(RegisterFault::Full)?;
            if now - oldest.1 < KEEP_GONE {
                return Err(RegisterFault::Full);
            }
            self.agents.remove(&oldest.0);
        }
        let old = self.agents.get(&id).map_or(AgentState::Offline, |it| it.state);
        let agent = Agent {
            class,
            state: state_after(old, class, told),
            link: Some((link, self.events)),
            gone: (0, 0),
            heartbeat: now,
            score: score_ms(told),
            capabilities: capabilities.to_vec(),
        };
        self.agents.insert(id, agent);
        Ok(resumed)
    }

    /// False where it has no connection.
    pub(crate) fn heartbeat(&mut self, now: Time, id: u32, told: &Impedance) -> bool {
        let Some(agent) = self.agents.get_mut(&id).filter(|it| it.link.is_some()) else {
            return false;
        };
        agent.heartbeat = now;
        agent.score = score_ms(told);
        agent.state = state_after(agent.state, agent.class, told);
        true
    }

    /// Ids of the connection's agents, the latest to register first.
    pub(crate) fn on_link(&self, link: u32) -> Vec<u32> {
        let on = |it: &Agent| it.link.filter(|(own, _)| *own == link).map(|(_, order)| order);
        let mut ids: Vec<_> =
            self.agents.iter().filter_map(|(id, it)| Some((on(it)?, *id))).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.into_iter().map(|(_, id)| id).collect()
    }

    pub(crate) fn unlink(&mut self, now: Time, link: u32) -> Vec<u32> {
        let ids = self.on_link(link);
        for id in &ids {
            self.events += 1;
            if let Some(agent) = self.agents.get_mut(id) {
                agent.link = None;
                agent.gone = (now, self.events);
                if agent.state != AgentState::Quarantined {
                    agent.state = AgentState::Offline;
                }
            }
        }
        ids
    }

    pub(crate) fn sweep(&mut self, now: Time) -> usize {
        let mut silent = 0;
        for agent in self.agents.values_mut().filter(|it| it.link.is_some()) {
            let serves = matches!(agent.state, AgentState::Active | AgentState::Degraded);
            if serves && now - agent.heartbeat >= SILENT_AFTER {
                agent.state = AgentState::Offline;
                silent += 1;
            }
        }
        silent
    }

    pub(crate) fn quarantine(&mut self, id: u32, on: bool) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if on {
            agent.state = AgentState::Quarantined;
        } else if agent.state == AgentState::Quarantined {
            agent.state = AgentState::Offline;
        }
    }

    /// What becomes of an agent in a selection, circuits aside.
    pub(crate) fn admits(&self, id: u32, frozen: bool, required: &[&str]) -> Option<SkipReason> {
        let agent = &self.agents[&id];
        let capable = required.iter().all(|it| agent.capabilities.contains(it));
        match agent.state {
            AgentState::Offline => Some(SkipReason::Offline),
            AgentState::Quarantined => Some(SkipReason::Quarantined),
            _ if frozen => Some(SkipReason::Frozen),
            _ if !capable => Some(SkipReason::Incapable),
            _ => None,
        }
    }
}
