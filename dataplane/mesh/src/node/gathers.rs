//! Gathers from the question to the first copy: who is meant, who is asked below, whether the
//! levels of a wave confirm.

use super::{Effects, Mesh, Now, Peer};
use crate::{
    cascade,
    gather::{
        Asker, PREPARED_FOR, PROGRESS_EVERY, Run, Stage,
        ask::{Context, Fault, Order, Phase, Select},
        kids::KidState,
        targets::{State, Target},
    },
    limits::SECTOR_CLUSTERS,
    registry::{By, Selection},
    trinary,
};
use wire::{
    ErrorCode, Kind,
    error::Refusal,
    mesh::{Decision, SkipReason, Strategy},
    payload::{
        Text,
        mesh::{Gather, PhaseRow},
    },
};

impl Mesh {
    /// An operator, or the node above, asks for a gather. `message_id` is the frame's: the reports
    /// repeat it.
    pub fn gather(
        &mut self,
        now: Now,
        from: Peer,
        message_id: u64,
        ask: &Gather,
        out: &mut Effects,
    ) {
        self.stamp(now, ask.hlc);
        let is_parent = self.up.as_ref().is_some_and(|up| up.peer == from);
        let asker = Asker { peer: from, frame_id: message_id, is_parent, listens: true };
        match self.order(now, ask, is_parent) {
            Ok(order) if order.phase == Phase::Commit => self.commit(now, asker, order, out),
            Ok(order) => self.begin(now, asker, order, out),
            Err(fault) => {
                self.counters.bad_gathers += 1;
                let refusal =
                    Refusal::new(fault.code, Kind::Gather.code()).over(fault.limit, fault.actual);
                self.refuse_with(now, from, message_id, refusal, out);
            }
        }
    }

    fn order(&mut self, now: Now, ask: &Gather, is_parent: bool) -> Result<Order, Fault> {
        let parent_at = match (is_parent, ask.at_node_ns) {
            (true, at) if at > 0 => {
                let clock = self.up.as_ref().and_then(|up| up.clock.to_own(at, now.node));
                // Without a common clock the moment means nothing.
                Some(clock.ok_or(Fault::new(ErrorCode::BadRequest))?)
            }
            _ => None,
        };
        let context = Context {
            node: now.node,
            epoch_ns: now.epoch_ns,
            targets: self.config.targets,
            parent_at,
            message_id: self.fresh_id(now),
        };
        let order = Order::new(ask, &context)?;
        let twin = self.runs.iter().any(|run| run.order.message_id == order.message_id);
        if twin && order.phase != Phase::Commit {
            return Err(Fault::new(ErrorCode::BadRequest));
        }
        // Only the node above asks in two steps.
        if order.phase != Phase::Whole && !is_parent {
            return Err(Fault::new(ErrorCode::BadRequest));
        }
        Ok(order)
    }

    fn begin(&mut self, now: Now, asker: Asker, order: Order, out: &mut Effects) {
        if self.runs.len() >= self.config.gathers {
            self.counters.bad_gathers += 1;
            let (most, peer, id) = (self.config.gathers as u64, asker.peer, asker.frame_id);
            let refusal = Refusal::new(ErrorCode::Overloaded, Kind::Gather.code())
                .over(most, most + 1)
                .retry_after(100);
            self.refuse_with(now, peer, id, refusal, out);
            return;
        }
        let mut run = self.open(now, asker, order);
        if let Err(fault) = self.choose(&mut run) {
            self.counters.bad_gathers += 1;
            let refusal =
                Refusal::new(fault.code, Kind::Gather.code()).over(fault.limit, fault.actual);
            self.recycle(run);
            self.refuse_with(now, asker.peer, asker.frame_id, refusal, out);
            return;
        }
        self.counters.gathers += 1;
        self.ask_below(now, &mut run, out);
        self.keep(now, run, out);
    }

    /// A run with nothing in it yet.
    fn open(&mut self, now: Now, asker: Asker, order: Order) -> Run {
        let (targets, tally) = self.spare.pop().unwrap_or_default();
        Run {
            number: self.number(),
            asker,
            began: now.node,
            ends_by: now.node.saturating_add(order.timeout),
            stage: Stage::Preparing { until: now.node },
            targets,
            tally,
            parts: Vec::new(),
            kids: Vec::new(),
            phases: Vec::new(),
            phase_began: now.node,
            target: 0,
            window: order.window_least(),
            lead_max: 0,
            plan_ns: 0,
            progress_at: order.progress.then_some(now.node.saturating_add(PROGRESS_EVERY)),
            worst: None,
            order,
        }
    }

    /// Fills in who is meant and can be asked, and who cannot.
    fn choose(&mut self, run: &mut Run) -> Result<(), Fault> {
        let order = &run.order;
        let requires: Vec<&str> = order.requires.iter().map(String::as_str).collect();
        let by = match &order.select {
            Select::All => By::All,
            Select::Class(class) => By::Class(*class),
            Select::Sector(sector) => By::Sector(*sector),
            Select::Cluster(sector, cluster) => By::Cluster {
                sector: *sector,
                // A number that no sector has chooses nobody.
                cluster: u8::try_from(*cluster).unwrap_or(u8::MAX),
            },
            Select::Capability(text) => By::Capability(text),
            Select::Ids(ids) => By::Ids(ids),
        };
        let selection = Selection { by, priority: order.priority, requires: &requires };
        self.registry.select(&selection, &mut self.chosen, &mut self.skipped);
        let many = self.chosen.len() + self.skipped.len();
        let most = self.config.targets as usize;
        if many > most {
            let (limit, actual) = (most as u64, many as u64);
            return Err(Fault { code: ErrorCode::TooManyTargets, limit, actual });
        }
        // Whom this node does not know may be below; the node that was asked first says who is
        // unknown everywhere.
        let forgive = run.asker.is_parent || self.children.iter().next().is_some();
        let registry = &self.registry;
        for skipped in &self.skipped {
            if skipped.reason != SkipReason::Unknown {
                run.tally.classes[registry.class(skipped.target) as usize].unreachable += 1;
            } else if forgive {
                continue;
            }
            run.tally.skip(skipped.reason, 0, 0);
        }
        let target = |handle: &u32| Target {
            handle: *handle,
            generation: registry.generation(*handle),
            send_at: 0,
            lead_us: 0,
            owd_us: 0,
            processing_us: 0,
            queue: registry.queue(*handle),
            volley: 0,
            shard: 0,
            class: registry.class(*handle),
            state: State::Waiting,
            wide: None,
        };
        run.targets.fill(registry.capacity(), self.chosen.iter().map(target));
        let (sectors, clusters) = self.levels();
        run.phases = vec![sectors, clusters];
        Ok(())
    }

    /// How many of the meant sectors and clusters have somebody who serves behind closed breakers,
    /// from the selection just made. Agents that lack an ability or are unknown say nothing of
    /// their level.
    fn levels(&self) -> (PhaseRow, PhaseRow) {
        let mut clusters = vec![None; self.registry.clusters().count() as usize];
        let at = |handle: u32| self.registry.seat(handle).cluster as usize;
        for handle in &self.chosen {
            clusters[at(*handle)] = Some(true);
        }
        for skipped in &self.skipped {
            if !matches!(skipped.reason, SkipReason::Unknown | SkipReason::Incapable) {
                clusters[at(skipped.target)].get_or_insert(false);
            }
        }
        // A sector is meant where one of its clusters is, and confirmed where one of them is.
        let sectors = clusters.chunks(SECTOR_CLUSTERS).map(|of| of.iter().copied().max().flatten());
        let sectors: Vec<Option<bool>> = sectors.collect();
        let row = |level: &cascade::Level, of: &[Option<bool>]| PhaseRow {
            name: Text::literal(level.name),
            reached: of.iter().filter(|it| **it == Some(true)).count() as u32,
            of: of.iter().flatten().count() as u32,
            needed: level.needed,
            ..PhaseRow::default()
        };
        (row(&cascade::SECTORS, &sectors), row(&cascade::CLUSTERS, &clusters))
    }

    /// All nodes below answered, or their time is up: the levels are judged, the first copies go.
    pub(super) fn prepared(&mut self, now: Now, run: &mut Run, out: &mut Effects) {
        for kid in &mut run.kids {
            if kid.state == KidState::Asked {
                kid.state = KidState::Lost;
            }
        }
        self.add_levels(now, run);
        self.count_unknown(run);
        if run.order.phase == Phase::Prepare {
            self.rehearse(now, run);
            run.stage = Stage::Prepared { until: now.node.saturating_add(PREPARED_FOR) };
            self.report(now, run, false, out);
            return;
        }
        if run.order.strategy == Strategy::Wave {
            let missed = |row: &PhaseRow| !trinary::reaches(row.reached, row.of, row.needed);
            let say = |row: &PhaseRow| {
                format!("{} of {} {} confirmed", row.reached, row.of, row.name.as_str())
            };
            if missed(&run.phases[0]) {
                let reason = say(&run.phases[0]);
                run.note(Decision::FailedAtSector, reason);
                self.finish(now, run, out);
                return;
            }
            if missed(&run.phases[1]) {
                let reason = say(&run.phases[1]);
                run.note(Decision::Retry, reason);
            }
        } else if !run.asker.is_parent {
            run.phases.clear();
        }
        let first = super::finish::next_phase(run, 0).unwrap_or(0);
        self.launch(now, run, first, out);
    }

    /// The node above names the moment for what it had this one prepare. What was not prepared, or
    /// too long ago, is done as a whole.
    fn commit(&mut self, now: Now, asker: Asker, order: Order, out: &mut Effects) {
        let same = |run: &Run| {
            run.order.correlation_id == order.correlation_id
                && run.asker.peer == asker.peer
                && run.order.phase == Phase::Prepare
        };
        let Some(at) = self.runs.iter().position(same) else {
            if self.runs.iter().any(|run| run.order.message_id == order.message_id) {
                self.counters.bad_gathers += 1;
                return;
            }
            self.begin(now, asker, order, out);
            return;
        };
        let mut run = self.runs.remove(at);
        run.asker = asker;
        run.window = order.window_least();
        run.ends_by = now.node.saturating_add(order.timeout);
        run.order = order;
        run.phases.clear();
        let first = super::finish::next_phase(&run, 0).unwrap_or(0);
        self.launch(now, &mut run, first, out);
        self.keep(now, run, out);
    }

    /// Puts a run back among the others, or away where it has ended, after doing what is due.
    pub(super) fn keep(&mut self, now: Now, mut run: Run, out: &mut Effects) {
        self.tend(now, &mut run, out);
        if run.stage == Stage::Ended {
            self.recycle(run);
        } else {
            self.runs.push(run);
        }
    }

    /// Keeps a run's memory for the next one.
    pub(super) fn recycle(&mut self, mut run: Run) {
        run.targets.clear();
        run.tally.clear();
        self.spare.push((run.targets, run.tally));
    }

    /// Does what is due in all gathers.
    pub(super) fn tend_runs(&mut self, now: Now, out: &mut Effects) {
        let due = |run: &Run| run.due() <= now.node || run.is_ripe();
        if !self.runs.iter().any(due) {
            return;
        }
        // In the order in which they began.
        self.runs.sort_unstable_by_key(|run| (run.began, run.number));
        for run in core::mem::take(&mut self.runs) {
            self.keep(now, run, out);
        }
    }
}
