//! The tree of nodes: those below that joined, the one above that was joined.

use super::{Beat, Effects, Mesh, Now, Peer};
use crate::{
    Time,
    child::up::Up,
    gather::kids::{self, KidState},
    limits::SILENT_AFTER,
};
use wire::{
    ErrorCode, Kind,
    mesh::{AgentState, Role},
    payload::mesh::{ArchivedMeshSummary, ArchivedNodeJoin, GatherReport, MeshSummary, NodeJoin},
};

// The node below.
impl Mesh {
    /// The connection to the node above is there. The node joins over it.
    pub fn parent_up(&mut self, now: Now, peer: Peer, out: &mut Effects) {
        if self.up.is_some() {
            self.parent_down(now, out);
        }
        self.up = Some(Up::new(now.node, peer));
        self.tend_parent(now, out);
    }

    /// The connection to the node above is gone. What it asked for goes on here, and its result is
    /// kept; the node serves its own agents and operators as before (HIER-03).
    pub fn parent_down(&mut self, now: Now, out: &mut Effects) {
        let Some(up) = self.up.take() else { return };
        self.counters.parent_lost += u64::from(up.joined.is_some());
        for run in self.runs.iter_mut().filter(|run| run.asker.peer == up.peer) {
            run.asker.listens = false;
        }
        self.tend_runs(now, out);
    }

    /// Joins, beats and sends summaries when they are due.
    pub(super) fn tend_parent(&mut self, now: Now, out: &mut Effects) {
        let Some(up) = self.up.as_mut() else { return };
        let peer = up.peer;
        if now.node >= up.beat_at {
            up.beaten(now.node);
            match up.joined {
                None => self.ask_to_join(now, peer, out),
                Some(place) => self.beat(now, peer, place, out),
            }
        }
        let Some(up) = self.up.as_mut() else { return };
        if now.node >= up.summary_at {
            up.summary_at = now.node.saturating_add(crate::limits::SUMMARY_EVERY);
            self.send_summary(now, peer, out);
        }
    }

    fn ask_to_join(&mut self, now: Now, peer: Peer, out: &mut Effects) {
        let join = NodeJoin {
            name: self.config.name.as_str().into(),
            node_id: self.config.node_id,
            sent_ns: now.node,
            role: Role::Sector.code(),
            ..NodeJoin::default()
        };
        self.tell(now, peer, &join, out);
    }

    fn beat(&mut self, now: Now, peer: Peer, (handle, generation): (u32, u32), out: &mut Effects) {
        let (origin_ns, received_ns) = self.up.as_ref().and_then(|up| up.last).unwrap_or((0, 0));
        let agents = self.registry.len();
        let beat = Beat {
            handle,
            generation,
            hlc: self.hlc.tick(now.epoch_ns),
            origin_ns,
            received_ns,
            sent_ns: now.node,
            queue_depth: self.runs.len() as u32,
            reliability: crate::trinary::share(self.registry.count(AgentState::Active), agents),
            state: AgentState::Active.code(),
            ..Beat::default()
        };
        self.tell(now, peer, &beat, out);
    }

    /// The answer of the node above to a beat: our `sent_ns`, its two times.
    pub(super) fn parent_beat(&mut self, arrived: Time, beat: &Beat) {
        let Some(up) = self.up.as_mut() else { return };
        up.last = Some((beat.sent_ns, arrived));
        if beat.origin_ns > 0
            && !up.clock.sample(beat.origin_ns, beat.received_ns, beat.sent_ns, arrived)
        {
            self.counters.bad_times += 1;
        }
    }

    fn send_summary(&mut self, now: Now, peer: Peer, out: &mut Effects) {
        self.sum_up(now);
        let summary = MeshSummary {
            clusters: self.own_clusters(now),
            scores: crate::gather::tally::bins(&self.own_scores()),
            node_id: self.config.node_id,
            hlc: self.hlc.tick(now.epoch_ns),
            ..MeshSummary::default()
        };
        self.tell(now, peer, &summary, out);
    }
}

// The node above.
impl Mesh {
    /// A node asks to join, or the one above answers that this one has.
    pub(super) fn node_join(
        &mut self,
        now: Now,
        from: Peer,
        _arrived: Time,
        message_id: u64,
        join: &ArchivedNodeJoin,
        out: &mut Effects,
    ) {
        if let Some(up) = self.up.as_mut().filter(|up| up.peer == from) {
            if up.joined.is_none() {
                up.join(now.node, join.handle.to_native(), join.generation.to_native());
                self.counters.parent_joined += 1;
                self.tend_parent(now, out);
            }
            return;
        }
        // Nobody joins itself, and a node that has agents on this connection is no node.
        let itself = join.node_id == self.config.node_id || join.node_id == [0; 16];
        let most = self.config.children;
        let handle = if itself || self.registry.on_link(from.into()) > 0 {
            None
        } else {
            self.children.join(now.node, from, join.node_id, &join.name, most)
        };
        let Some(handle) = handle else {
            self.counters.children_refused += 1;
            self.refuse(now, from, Kind::NodeJoin, message_id, ErrorCode::MeshFull, out);
            return;
        };
        self.counters.children_joined += 1;
        let generation = self.children.get(handle).map_or(0, |child| child.generation);
        let answer = NodeJoin {
            name: self.config.name.as_str().into(),
            node_id: self.config.node_id,
            sent_ns: now.node,
            handle,
            generation,
            role: self.config.role.code(),
            ..NodeJoin::default()
        };
        self.send(now, from, message_id, &answer, out);
    }

    /// A beat of a node below, which the shard has answered.
    pub(super) fn child_beat(&mut self, now: Now, child: u32, arrived: Time, beat: &Beat) {
        let Some(child) = self.children.get_mut(child) else { return };
        child.heard = now.node;
        self.counters.beats += 1;
        if beat.origin_ns > 0
            && !child.clock.sample(beat.origin_ns, beat.received_ns, beat.sent_ns, arrived)
        {
            self.counters.bad_times += 1;
        }
    }

    pub(super) fn child_summary(
        &mut self,
        now: Now,
        from: Peer,
        summary: &ArchivedMeshSummary,
        out: &mut Effects,
    ) {
        let Some(child) = self.children.at(from) else {
            self.counters.unserved += 1;
            self.refuse(now, from, Kind::MeshSummary, 0, ErrorCode::StaleAgent, out);
            return;
        };
        self.stamp(now, summary.hlc.to_native());
        self.counters.summaries += 1;
        if let Some(child) = self.children.get_mut(child) {
            child.heard = now.node;
        }
        if !self.children.summary(now.node, child, summary) {
            self.counters.bad_sums += 1;
        }
    }

    /// What a node below says of its part in a gather. Its sums are checked: a result that does
    /// not add up is none.
    pub(super) fn child_report(
        &mut self,
        now: Now,
        from: Peer,
        message_id: u64,
        report: GatherReport,
        out: &mut Effects,
    ) {
        let run = self.runs.iter_mut().find(|run| u64::from(run.number) == message_id);
        let Some(child) = self.children.at(from) else {
            // An answer of somebody who was not asked.
            self.counters.unserved += 1;
            let code = ErrorCode::UnservedType;
            self.refuse(now, from, Kind::GatherReport, message_id, code, out);
            return;
        };
        let Some(run) = run else {
            self.counters.unknown += 1;
            return;
        };
        let generation = self.children.get(child).map_or(0, |child| child.generation);
        let mine = |kid: &&mut kids::Kid| kid.child == child && kid.generation == generation;
        let Some(kid) = run.kids.iter_mut().find(mine) else {
            self.counters.unknown += 1;
            return;
        };
        let told = kid.prepared.as_ref().map(|prepared| prepared.counts.targets);
        let whole = kids::adds_up(&report.counts) || !report.is_final;
        // A child that has not sent yet can have nothing but plans; afterwards its targets are
        // those it named.
        let fits = told.is_none_or(|told| told == report.counts.targets);
        match (kid.state, report.is_final) {
            _ if !whole || !fits || report.counts.targets > self.config.targets => {
                self.counters.bad_sums += 1;
                kid.state = KidState::Lost;
            }
            (KidState::Asked, false) => {
                kid.prepared = Some(Box::new(report));
                kid.state = KidState::Prepared;
            }
            (KidState::Committed, false) => kid.report = Some(Box::new(report)),
            (KidState::Committed, true) => {
                kid.report = Some(Box::new(report));
                kid.state = KidState::Done;
            }
            _ => self.counters.duplicates += 1,
        }
        self.tend_runs(now, out);
    }

    /// Nodes below that have been silent for too long are lost, though their connection stands.
    pub(super) fn sweep_children(&mut self, now: Now, out: &mut Effects) {
        let silent = |child: &crate::child::Child| {
            child.peer.is_some() && now.node.saturating_sub(child.heard) >= SILENT_AFTER
        };
        let lost: Vec<u32> =
            self.children.iter().filter(|(_, child)| silent(child)).map(|it| it.0).collect();
        for child in &lost {
            self.lose_child(*child);
        }
        if !lost.is_empty() {
            self.tend_runs(now, out);
        }
    }

    /// A node below is away: what it was asked for is lost, and its name is said in the results.
    pub(super) fn lose_child(&mut self, handle: u32) {
        let Some(child) = self.children.get_mut(handle) else { return };
        child.peer = None;
        self.counters.children_lost += 1;
        for run in &mut self.runs {
            for kid in run.kids.iter_mut().filter(|kid| kid.child == handle) {
                if kid.state != KidState::Done {
                    kid.state = KidState::Lost;
                }
            }
        }
    }
}
