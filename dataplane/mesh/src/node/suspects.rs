//! Agents' keys, and agents that say what cannot be: after too much of it within a while they are
//! kept from all work for a while (SEC-01, SEC-05). Where most of a cluster is, so is the rest of
//! it; where most clusters of a sector are, so is the rest of that (SEC-06, SEC-07). Most, so that
//! nobody takes work from others with fewer agents than they are.

use super::{Mesh, Now, Peer};
use crate::{
    Time,
    cluster::sector_of,
    limits::{FALLEN_AGENTS, FALLEN_CLUSTERS, QUARANTINE_FOR, STRIKES, STRIKES_WITHIN},
    registry::AgentRef,
};
use sign::PublicKey;
use std::{collections::BTreeMap, ops::Range};
use wire::{
    ErrorCode,
    mesh::AgentState,
    payload::mesh::{AgentRecord, ArchivedAck},
};

/// What is remembered about agents besides the registry, by handle.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    keys: BTreeMap<u32, Known>,
    strikes: BTreeMap<u32, Strikes>,
    /// Until when an agent is kept from work.
    ends: BTreeMap<u32, Time>,
}

/// An agent's key.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: PublicKey,
    /// It signed an answer. Until then anybody might have named it.
    is_proven: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    since: Time,
    count: u32,
}

impl Mesh {
    /// The key of a record, which must be that under which its id is known, once somebody has shown
    /// to have it.
    pub(super) fn key_of(&self, record: &AgentRecord) -> Result<Option<PublicKey>, ErrorCode> {
        let key = match record.public_key {
            none if none == [0; 32] => None,
            bytes => Some(PublicKey::from_bytes(&bytes).ok_or(ErrorCode::BadRequest)?),
        };
        let known = self.registry.by_id(&record.agent_id);
        let bound = known.and_then(|agent| self.suspects.keys.get(&agent.handle));
        if bound.is_some_and(|bound| bound.is_proven && Some(bound.key) != key) {
            return Err(ErrorCode::NameTaken);
        }
        Ok(key)
    }

    /// Remembers the key of an agent that came. `resumed`: under this handle it was here before.
    pub(super) fn note_key(&mut self, handle: u32, key: Option<PublicKey>, resumed: bool) {
        let suspects = &mut self.suspects;
        if !resumed {
            suspects.keys.remove(&handle);
            suspects.strikes.remove(&handle);
            suspects.ends.remove(&handle);
        }
        let Some(key) = key else {
            suspects.keys.remove(&handle);
            return;
        };
        let known = suspects.keys.entry(handle).or_insert(Known { key, is_proven: false });
        if known.key != key {
            *known = Known { key, is_proven: false };
        }
    }

    /// Whether an answer may count as its agent's. Without a key of that agent everybody on its
    /// connection is it; what is not of its connection is judged elsewhere.
    pub(super) fn is_vouched(&mut self, now: Now, from: Peer, ack: &ArchivedAck) -> bool {
        let agent =
            AgentRef { handle: ack.handle.to_native(), generation: ack.generation.to_native() };
        if !self.config.trust.signed_acks || self.registry.verify(agent, from.into()).is_err() {
            return true;
        }
        let Some(known) = self.suspects.keys.get_mut(&agent.handle) else { return true };
        if sign::agents::verify_ack(ack, &known.key) {
            known.is_proven = true;
            self.counters.acks_verified += 1;
            return true;
        }
        self.counters.acks_forged += 1;
        self.suspect(now, agent.handle);
        false
    }

    /// An agent said what it cannot have meant: impossible figures, an answer that it did not sign.
    pub(super) fn suspect(&mut self, now: Now, handle: u32) {
        if self.registry.state(handle) == AgentState::Quarantined {
            return;
        }
        let strikes = self.suspects.strikes.entry(handle).or_default();
        if now.node.saturating_sub(strikes.since) > STRIKES_WITHIN {
            *strikes = Strikes { since: now.node, count: 0 };
        }
        strikes.count += 1;
        if strikes.count < STRIKES {
            return;
        }
        self.suspects.strikes.remove(&handle);
        if self.keep_from_work(now, handle) {
            self.isolate(now, self.registry.seat(handle).cluster);
        }
    }

    /// Begins a quarantine.
    fn keep_from_work(&mut self, now: Now, handle: u32) -> bool {
        if !self.registry.quarantine(now.node, handle, true) {
            return false;
        }
        self.counters.quarantined += 1;
        self.suspects.ends.insert(handle, now.node.saturating_add(QUARANTINE_FOR));
        for run in &mut self.runs {
            run.targets.lose(handle);
        }
        true
    }

    /// Keeps the rest of a cluster from work where it has fallen, and the rest of its sector where
    /// that has.
    fn isolate(&mut self, now: Now, cluster: u32) {
        if !self.has_fallen(cluster) {
            return;
        }
        self.keep_all_from_work(now, cluster..cluster + 1);
        let all = self.registry.clusters().of_sector(sector_of(cluster));
        let taken = |cluster: &u32| self.registry.clusters().taken(*cluster) > 0;
        let fallen = all.clone().filter(|cluster| self.has_fallen(*cluster)).count();
        if fallen >= FALLEN_CLUSTERS && fallen * 2 > all.clone().filter(taken).count() {
            self.keep_all_from_work(now, all);
        }
    }

    /// True where most of a cluster's agents were put into quarantine here.
    fn has_fallen(&self, cluster: u32) -> bool {
        let members = self.registry.clusters().members(cluster);
        let kept = members.filter(|handle| self.suspects.ends.contains_key(handle)).count();
        kept >= FALLEN_AGENTS && kept * 2 > self.registry.clusters().taken(cluster)
    }

    fn keep_all_from_work(&mut self, now: Now, clusters: Range<u32>) {
        let members = clusters.flat_map(|cluster| self.registry.clusters().members(cluster));
        let free = |handle: &u32| !self.suspects.ends.contains_key(handle);
        let rest: Vec<u32> = members.filter(free).collect();
        self.counters.isolated += u64::from(!rest.is_empty());
        for handle in rest {
            self.keep_from_work(now, handle);
        }
    }

    /// Agents that an earlier life of this node kept from work stay so for as long again.
    pub(super) fn resume_quarantines(&mut self, now: Now) {
        let registry = &self.registry;
        let kept = |handle: &u32| registry.state(*handle) == AgentState::Quarantined;
        let until = now.node.saturating_add(QUARANTINE_FOR);
        self.suspects.ends = registry.iter().filter(kept).map(|handle| (handle, until)).collect();
    }

    /// Ends what has lasted long enough: with its next heartbeat the agent is back.
    pub(super) fn release(&mut self, now: Now) {
        let over = |until: &Time| *until <= now.node;
        let due = self.suspects.ends.iter().filter(|(_, until)| over(until));
        let due: Vec<u32> = due.map(|(handle, _)| *handle).collect();
        for handle in due {
            self.suspects.ends.remove(&handle);
            self.registry.quarantine(now.node, handle, false);
            self.counters.released += 1;
        }
    }
}
