//! Gathers from the last answer to the result.

use super::{Effect, Effects, Mesh, Now, Record, VolleyReport};
use crate::{
    MS, Time,
    cascade::{self, PRIORITY},
    gather::{
        ENDED, KIDS_GRACE, PROGRESS_EVERY, Run, Stage, kids::KidState, report, targets::State,
    },
    trinary::{self, Verdict},
};
use wire::{
    Kind, frame,
    mesh::{Decision, SkipReason, Strategy},
    payload::{
        Text,
        mesh::{Counts, GatherReport, PhaseRow},
    },
};

impl Mesh {
    /// A shard is done with its part of a volley.
    pub fn volley_done(&mut self, now: Now, report: &VolleyReport, out: &mut Effects) {
        self.counters.sent += u64::from(report.sent);
        self.counters.expired += u64::from(report.expired);
        self.counters.gone += u64::from(report.gone);
        self.counters.refused += u64::from(report.refused);
        let part = self.runs.iter_mut().find_map(|run| {
            let same = |part: &&mut crate::gather::Part| {
                part.number == report.number && part.shard == report.shard && !part.is_done
            };
            Some((run.parts.iter_mut().find(same)?, &mut run.tally))
        });
        let Some((part, tally)) = part else {
            self.counters.stray_volleys += 1;
            return;
        };
        part.is_done = true;
        (part.expired, part.gone, part.refused) = (report.expired, report.gone, report.refused);
        for (late, count) in &report.fire_error {
            tally.fire_error.add_many(*late, *count);
        }
        self.tend_runs(now, out);
    }

    /// Does what is due in one gather.
    pub(super) fn tend(&mut self, now: Now, run: &mut Run, out: &mut Effects) {
        loop {
            let before = run.stage;
            match run.stage {
                Stage::Preparing { until } if now.node >= until || run.is_ripe() => {
                    self.prepared(now, run, out);
                }
                // Never told the moment: forgotten.
                Stage::Prepared { until } if now.node >= until => run.stage = Stage::Ended,
                Stage::Running { phase, end } if now.node >= end || run.is_ripe() => {
                    self.end_phase(now, run, phase, out);
                }
                Stage::Closing { until } if now.node >= until || run.is_ripe() => {
                    self.finish(now, run, out);
                }
                _ => {}
            }
            if run.stage == before || run.stage == Stage::Ended {
                break;
            }
        }
        if let Some(at) = run.progress_at.filter(|at| *at <= now.node) {
            run.progress_at = Some(at.max(now.node).saturating_add(PROGRESS_EVERY));
            if matches!(run.stage, Stage::Running { .. } | Stage::Closing { .. }) {
                self.report(now, run, false, out);
            }
        }
    }

    fn end_phase(&mut self, now: Now, run: &mut Run, phase: usize, out: &mut Effects) {
        settle(run, now.node);
        if run.order.strategy == Strategy::Priority {
            judge_phase(run, phase, now.node);
            if let Some(next) = next_phase(run, phase + 1)
                && now.node < run.ends_by
            {
                self.launch(now, run, next, out);
                return;
            }
        }
        let trips = run.kids.iter().filter(|kid| kid.state == KidState::Committed).map(|kid| {
            let clock = self.children.get(kid.child).map(|child| child.clock);
            clock.and_then(|clock| clock.rtt_min()).unwrap_or(0)
        });
        let until = match (trips.max(), run.order.strategy) {
            (None, _) => now.node,
            // Nodes below go through their own phases.
            (Some(_), Strategy::Priority) => run.ends_by.saturating_add(KIDS_GRACE),
            (Some(trip), _) => {
                let end = run.target.saturating_add(run.window).max(now.node);
                end.min(run.ends_by.max(now.node)).saturating_add(trip.min(1000 * MS) + KIDS_GRACE)
            }
        };
        // Its own end is behind it: only the nodes below are waited for.
        run.ends_by = run.ends_by.max(until);
        run.stage = Stage::Closing { until };
    }

    /// The result: counted, decided, sent, kept.
    pub(super) fn finish(&mut self, now: Now, run: &mut Run, out: &mut Effects) {
        settle(run, now.node);
        skip_waiting(run);
        for row in run.targets.rows() {
            if matches!(row.state, State::Silent | State::Lost) {
                self.registry.outcome(now.node, row.handle, false, 0, 0);
            }
        }
        let timings = run
            .targets
            .rows()
            .iter()
            .filter_map(|row| Some((self.registry.seat(row.handle).sector(), row.wide?)));
        self.counters.surges += self.surges.judge(now.node, timings);
        run.stage = Stage::Ended;
        let report = self.report(now, run, true, out);
        for row in run.tally.skip_rows() {
            if let Some(count) = self.counters.skips.get_mut(usize::from(row.reason)) {
                *count += u64::from(row.count);
            }
        }
        if let Some(decision) = Decision::from_code(report.decision) {
            self.counters.decisions[usize::from(decision.code())] += 1;
            if report.counts.targets > 0 {
                let proceed = decision == Decision::Proceed;
                self.punctuality.ended(&run.tally);
                self.kpi.ended(now.node, &report.counts, proceed, report.total_ns);
            }
        }
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(run.order.message_id);
        self.past.add(run, &report, now.epoch_ns);
        let mut kept = Vec::new();
        if frame::append(&mut kept, &report, 0, now.epoch_ns).is_ok() {
            let report = kept.split_off(wire::HEADER_LEN);
            out.push(Effect::Persist(Record::Gather { id: run.order.message_id, report }));
        }
    }

    /// Makes a report and sends it to whoever asked, if they are still there.
    pub(super) fn report(
        &mut self,
        now: Now,
        run: &mut Run,
        is_final: bool,
        out: &mut Effects,
    ) -> GatherReport {
        if is_final {
            agents_row(run, now.node);
        }
        let children = &self.children;
        let kid_name = |handle| children.get(handle).map_or_else(String::new, |it| it.name.clone());
        let mut report = report::build(run, &self.registry, &kid_name, now.node, is_final);
        let ahead = i128::from(report.target_ns) - i128::from(now.node);
        let epoch = i128::from(now.epoch_ns) + ahead;
        report.target_epoch_ns =
            if report.target_ns == 0 { 0 } else { u64::try_from(epoch.max(0)).unwrap_or(0) };
        let verdict = decide(run, &report.counts);
        report.decision = verdict.decision.code();
        report.confidence = verdict.confidence;
        report.reason = verdict.reason.into();
        report.recommendation = Text::literal(verdict.recommendation);
        if run.asker.listens {
            debug_assert_eq!(<GatherReport as wire::Payload>::KIND, Kind::GatherReport);
            self.send(now, run.asker.peer, run.asker.frame_id, &report, out);
        }
        report
    }
}

/// The decision over all counts, or the worst of its levels and phases (Y-18).
fn decide(run: &Run, counts: &Counts) -> Verdict {
    // Under the priority strategy each phase has its own rate, and has been judged by it.
    let rate = match run.order.strategy {
        Strategy::Priority => 0.0,
        strategy => cascade::rate(strategy),
    };
    let mut verdict = trinary::decide(counts, &run.order.bounds(rate));
    if counts.targets == 0 {
        return verdict;
    }
    if let Some((worst, reason)) = &run.worst
        && trinary::severity(*worst) > trinary::severity(verdict.decision)
    {
        verdict.decision = *worst;
        verdict.reason = format!("{reason}; {}", verdict.reason);
        verdict.recommendation = trinary::recommendation(*worst);
    }
    verdict
}

/// The last row of a wave or a parallel cascade: its agents.
fn agents_row(run: &mut Run, now: Time) {
    if run.order.strategy == Strategy::Priority || run.target == 0 {
        return;
    }
    let counts = report::counts(run, now, true);
    let needed = run.order.bounds(cascade::rate(run.order.strategy)).min_ready;
    run.phases.push(PhaseRow {
        took_ns: now.saturating_sub(run.phase_began),
        name: Text::literal(cascade::AGENTS.name),
        reached: counts.ready,
        of: counts.sent,
        needed,
        ..PhaseRow::default()
    });
}

/// The first phase of the priority strategy from this one on that has somebody waiting.
pub(super) fn next_phase(run: &Run, from: usize) -> Option<usize> {
    let waits = |at: &usize| {
        let rows = run.targets.rows().iter();
        rows.into_iter().any(|row| row.state == State::Waiting && row.class == PRIORITY[*at].0)
    };
    (from..PRIORITY.len()).find(waits)
}

/// A phase of the priority strategy is judged by its own rate; a failed one does not stop the next
/// (CASCADE-06).
fn judge_phase(run: &mut Run, phase: usize, now: Time) {
    let Some((class, rate)) = PRIORITY.get(phase) else { return };
    let mut counts = Counts::default();
    for row in run.targets.rows().iter().filter(|row| row.class == *class) {
        counts.targets += 1;
        counts.sent += u32::from(row.state != State::Skipped);
        match row.state {
            State::Ready => counts.ready += 1,
            State::Conflict => counts.conflicts += 1,
            State::Transit => counts.transit += 1,
            State::Silent | State::Lost | State::Waiting => counts.stragglers += 1,
            State::Skipped => counts.skipped += 1,
        }
    }
    if counts.targets == 0 {
        return;
    }
    let bounds = run.order.bounds(*rate);
    let verdict = trinary::decide(&counts, &bounds);
    run.phases.push(PhaseRow {
        took_ns: now.saturating_sub(run.phase_began),
        name: Text::literal(class.name()),
        reached: counts.ready,
        of: counts.sent,
        needed: bounds.min_ready,
        ..PhaseRow::default()
    });
    if verdict.decision != Decision::Proceed {
        run.note(verdict.decision, format!("class {}: {}", class.name(), verdict.reason));
    }
}

/// Turns copies that did not leave back into skips, so that every target has one outcome. A shard
/// says how many those were, not which: connections that are gone come first, then the latest send
/// times.
fn settle(run: &mut Run, now: Time) {
    for at in 0..run.parts.len() {
        let part = run.parts[at];
        let of_part = |row: &crate::gather::targets::Target| {
            row.volley == part.number
                && row.shard == part.shard
                && matches!(row.state, State::Silent | State::Lost)
        };
        let rows = run.targets.rows().iter().enumerate();
        let mut silent: Vec<usize> = rows.filter(|(_, row)| of_part(row)).map(|it| it.0).collect();
        let row = |at: usize| &run.targets.rows()[at];
        silent.sort_unstable_by_key(|at| {
            let row = row(*at);
            (row.state != State::Lost, core::cmp::Reverse(row.send_at), row.handle)
        });
        let mut skips: Vec<(usize, SkipReason)> = Vec::new();
        if part.is_done {
            let mut next = silent.into_iter();
            for (count, reason) in [
                (part.gone, SkipReason::Gone),
                (part.expired, SkipReason::Expired),
                (part.refused, SkipReason::QueueFull),
            ] {
                skips.extend(next.by_ref().take(count as usize).map(|at| (at, reason)));
            }
        } else {
            // The gather ends before the shard is done: what is not due yet expires there.
            let early = silent.into_iter().filter(|at| row(*at).send_at > now);
            skips.extend(early.map(|at| (at, SkipReason::Expired)));
        }
        for (at, reason) in skips {
            run.targets.skip(at);
            run.tally.skip(reason, 0, 0);
        }
    }
    // Settled once: the next phase has parts of its own.
    run.parts.clear();
}

/// Targets whose phase never came.
fn skip_waiting(run: &mut Run) {
    let rows = run.targets.rows().iter().enumerate();
    let waiting: Vec<usize> =
        rows.filter(|(_, row)| row.state == State::Waiting).map(|(at, _)| at).collect();
    for at in waiting {
        let human = !crate::class::is_machine(run.targets.rows()[at].class);
        let priority = run.order.strategy == Strategy::Priority;
        let reason =
            if human && priority { SkipReason::OverRange } else { SkipReason::Unconfirmed };
        run.targets.skip(at);
        run.tally.skip(reason, 0, 0);
    }
}
