//! The nodes below in a gather: asked how long they need, told the moment.

use super::{Effects, Mesh, Now, Peer};
use crate::{
    Time, cascade,
    gather::{
        Run, Stage,
        ask::Select,
        kids::{Kid, KidState},
    },
};
use wire::{
    mesh::{SelectBy, SkipReason},
    payload::mesh::{Gather, PHASE_COMMIT, PHASE_PREPARE},
};

/// Of the time that a node has for its PREPARE, the part that it gives the nodes below.
const SHARE_BELOW: (Time, Time) = (3, 4);

impl Mesh {
    /// Asks the nodes below that may know targets how long they need.
    pub(super) fn ask_below(&mut self, now: Now, run: &mut Run, out: &mut Effects) {
        let within = if run.asker.is_parent {
            let (part, whole) = SHARE_BELOW;
            run.order.timeout.min(cascade::SECTORS.within) / whole * part
        } else {
            cascade::SECTORS.within
        };
        let until = now.node.saturating_add(within).min(run.ends_by);
        run.stage = Stage::Preparing { until };
        let only = match run.order.select {
            Select::Sector(sector) | Select::Cluster(sector, _) => {
                match self.children.owner(sector) {
                    Some((child, theirs)) => Some((child, theirs)),
                    None => return,
                }
            }
            _ => None,
        };
        let present: Vec<(u32, Peer, u32)> = self
            .children
            .iter()
            .filter(|(handle, _)| only.is_none_or(|(child, _)| child == *handle))
            .filter_map(|(handle, child)| Some((handle, child.peer?, child.generation)))
            .collect();
        let sector = only.map(|(_, theirs)| theirs);
        let mut ask = self.question(now, run, sector);
        ask.phase = PHASE_PREPARE;
        ask.timeout_ns = within;
        self.endorse(now, &mut ask, true);
        for (child, peer, generation) in present {
            let (known_agents, known_sectors) = self.children.known(child);
            run.kids.push(Kid {
                child,
                generation,
                state: KidState::Asked,
                known_agents,
                known_sectors,
                prepared: None,
                report: None,
            });
            self.send(now, peer, u64::from(run.number), &ask, out);
        }
    }

    /// The GATHER for a node below; `sector` is its own number, where one was chosen.
    fn question(&mut self, now: Now, run: &Run, sector: Option<u16>) -> Gather {
        let order = &run.order;
        let mut ask = Gather {
            payload: order.payload.clone(),
            requires_capabilities: order.requires.iter().map(|it| it.as_str().into()).collect(),
            message_id: order.message_id,
            correlation_id: order.correlation_id,
            causation_id: order.causation_id,
            source_agent_id: order.source_agent_id,
            hlc: self.hlc.tick(now.epoch_ns),
            window_ns: run.window,
            ttl_ms: order.ttl_ms,
            payload_weight: order.weight,
            on_time: order.dial.share() as f32,
            min_rate: order.min_rate.unwrap_or(0.0),
            max_conflict: order.max_conflict,
            max_transit: order.max_transit,
            verb: order.verb.code(),
            priority: order.priority,
            strategy: order.strategy.code(),
            hold: order.hold,
            progress: order.progress,
            ..Gather::default()
        };
        let by = match &order.select {
            Select::All => SelectBy::All,
            Select::Class(class) => {
                ask.class = class.code();
                SelectBy::Class
            }
            Select::Sector(own) => {
                ask.sector = sector.unwrap_or(*own);
                SelectBy::Sector
            }
            Select::Cluster(own, cluster) => {
                (ask.sector, ask.cluster) = (sector.unwrap_or(*own), *cluster);
                SelectBy::Cluster
            }
            Select::Capability(text) => {
                ask.capability = text.as_str().into();
                SelectBy::Capability
            }
            Select::Ids(ids) => {
                ask.ids.clone_from(ids);
                SelectBy::Ids
            }
        };
        ask.select = by.code();
        ask
    }

    /// Tells the nodes below that are prepared the moment; those that are not are left out.
    pub(super) fn tell_below(&mut self, now: Now, run: &mut Run, out: &mut Effects) {
        if run.kids.is_empty() {
            return;
        }
        let sector = match run.order.select {
            Select::Sector(sector) | Select::Cluster(sector, _) => {
                self.children.owner(sector).map(|(_, theirs)| theirs)
            }
            _ => None,
        };
        let mut ask = self.question(now, run, sector);
        ask.phase = PHASE_COMMIT;
        ask.at_node_ns = run.target;
        ask.timeout_ns = run.ends_by.saturating_sub(now.node);
        self.endorse(now, &mut ask, true);
        for at in 0..run.kids.len() {
            let kid = &mut run.kids[at];
            let peer = self.children.get(kid.child).and_then(|child| child.peer);
            kid.state = match (kid.state, peer) {
                (KidState::Prepared, Some(_)) => KidState::Committed,
                _ => KidState::Lost,
            };
            if let (KidState::Committed, Some(peer)) = (kid.state, peer) {
                self.send(now, peer, u64::from(run.number), &ask, out);
            }
        }
    }

    /// Adds what the nodes below said of their sectors and clusters. One that said nothing has none
    /// of those that its last summary knew.
    pub(super) fn add_levels(&self, now: Now, run: &mut Run) {
        for level in 0..run.phases.len().min(2) {
            run.phases[level].took_ns = now.node - run.began;
            for kid in &run.kids {
                let said = kid.prepared.as_ref().and_then(|report| report.phases.get(level));
                let (reached, of) = match said {
                    Some(said) => (said.reached.min(said.of), said.of),
                    None if level == 0 => (0, kid.known_sectors),
                    None => (0, 0),
                };
                let row = &mut run.phases[level];
                row.reached = row.reached.saturating_add(reached);
                row.of = row.of.saturating_add(of);
            }
        }
    }

    /// Ids that neither this node nor one below knows.
    pub(super) fn count_unknown(&self, run: &mut Run) {
        let Select::Ids(ids) = &run.order.select else { return };
        if run.asker.is_parent || run.kids.is_empty() && self.children.iter().next().is_none() {
            return;
        }
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let below = run.kids.iter().map(|kid| u64::from(kid.counts(false).targets)).sum::<u64>();
        let known = u64::from(run.targets.len()) + u64::from(run.tally.skipped()) + below;
        let unknown = (distinct.len() as u64).saturating_sub(known);
        run.tally.skip_many(SkipReason::Unknown, unknown as u32);
    }
}
