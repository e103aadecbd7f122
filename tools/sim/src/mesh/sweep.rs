//! The judge looks at everything: now and then, and at the end.

use super::{engine::Time, fault::Kind, judge::Promise, world::World};
use fleet::SECOND;
use std::collections::BTreeSet;
use wire::{mesh::AgentState, payload::mesh::ArchivedMeshView};

/// Silence after which an agent is not taken for present: 30 s, and what a sweep and a view take.
const SILENCE: Time = 37 * SECOND;

/// How long after its connection an agent may not be in a view yet.
const ON_THE_WAY: Time = 12 * SECOND;

/// Views are asked for this often.
const VIEWS: Time = 5 * SECOND;

impl World {
    pub(super) fn sweep(&mut self) {
        self.watch.ended(self.now, &mut self.judge);
        let agents = self.plan.agents as usize;
        for node in &self.nodes {
            let waiting = node.waiting();
            // A gather's copies each wait once; so many gathers may run at once.
            let most = node.config.gathers * agents;
            self.judge.look(Promise::Bounded, self.now, waiting <= most, || {
                format!("{waiting} copies wait, {most} may")
            });
        }
        // Asked for shortly before the end, so that the answers are read by then.
        if self.now + 3 * SECOND > self.plan.duration && !self.last_view {
            self.last_view = true;
            self.ask_for_agents();
        } else if (self.now / SECOND).is_multiple_of(VIEWS / SECOND) {
            self.ask_for_agents();
        }
    }

    /// A node told which agents it has.
    pub(super) fn judge_view(&mut self, node: u8, view: &ArchivedMeshView) {
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for row in view.agents.iter() {
            let name: &str = &row.name;
            let alone = names.insert(name.to_owned()) && ids.insert(row.agent_id);
            self.judge.look(Promise::OneCluster, self.now, alone, || {
                format!("node {node} has {name} or its agent twice")
            });
            let Some(agent) = self.operator.names.get(&row.agent_id).copied() else { continue };
            let actor = &self.actors[agent as usize];
            // What it said before may come when a partition ends.
            let parted = self.conns[self.conn_of(agent) as usize].parted_until;
            let since = actor.silent_since.max(parted);
            let silent = actor.silent && self.now > since + SILENCE;
            let serves = [AgentState::Active.code(), AgentState::Degraded.code()];
            let present = serves.contains(&row.state);
            self.judge.look(
                Promise::GoneIsNoticed,
                self.now,
                !(silent && present) || self.is_spoken_for(agent),
                || format!("agent {agent} ({name}) is silent since {}", actor.silent_since),
            );
            let place = parse(name);
            let it = &mut self.nodes[usize::from(node)];
            let given = it.given.iter_mut().flatten().find(|given| given.agent == agent);
            if let (Some(given), Some(place)) = (given, place) {
                self.watch.moved |= (given.sector, given.cluster) != place;
            }
            if self.last_view {
                self.present[agent as usize] |= present;
            }
        }
    }

    /// Whether a node may have a wrong picture of an agent: others on its connection speak in its
    /// name, which no node can tell, or a thief took the name.
    fn is_spoken_for(&self, agent: u32) -> bool {
        self.plan.faults.iter().any(|fault| match fault.kind {
            Kind::AnswersForOthers => {
                self.plan.per_connection > 1
                    && self.conn_of(self.struck(fault)) == self.conn_of(agent)
            }
            // Without keys a name is whose connection it came over, once its holder was away.
            Kind::StealsName => self.victim(fault) == agent,
            _ => false,
        })
    }

    /// What must hold in the end: whoever can be there is there.
    pub(super) fn finish(&mut self) {
        self.watch.ended(self.now, &mut self.judge);
        if self.plan.steady || !self.last_view {
            return;
        }
        for agent in 0..self.plan.agents {
            let actor = &self.actors[agent as usize];
            // A node need not take a liar for present.
            // One that crashed of itself a moment ago is on its way.
            let link = &self.conns[self.conn_of(agent) as usize];
            let late = !link.up || self.now < link.since + ON_THE_WAY;
            let back = late
                || actor.lost
                || !actor.lies.honest()
                || self.present[agent as usize]
                || self.is_spoken_for(agent);
            let placed = actor.placed;
            self.judge.look(Promise::AllComeBack, self.now, back, || {
                format!("agent {agent} is not active in the end (placed: {placed})")
            });
        }
    }
}

/// Sector and cluster of a name like `S07-C04-A12`.
fn parse(name: &str) -> Option<(u16, u16)> {
    let mut parts = name.split('-');
    let sector = parts.next()?.strip_prefix('S')?.parse().ok()?;
    let cluster = parts.next()?.strip_prefix('C')?.parse().ok()?;
    Some((sector, cluster))
}
