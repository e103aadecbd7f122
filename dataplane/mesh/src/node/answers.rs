//! Answers: whose they are, when the agent was READY on the node's clock, what they change.

use super::{AckView, Effects, Mesh, Now, Peer};
use crate::{
    Time,
    gather::targets::{State, Target},
    predict::{Observed, Work},
    registry::AgentRef,
};
use wire::mesh::Trinary;

/// What an answer shows, node time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// When the copy left.
    left: Time,
    one_way: Time,
    processing: Time,
    ready: Time,
    acted: Option<Time>,
    /// The times were possible: the predictor may learn from them.
    is_sound: bool,
    /// READY before it came, or after the answer left, all by the agent's own clock.
    is_absurd: bool,
}

impl Mesh {
    /// An answer. Only the first final one of each agent that was asked, on its own connection and
    /// within the gather's life, changes anything; every other one is counted.
    pub fn ack(
        &mut self,
        now: Now,
        from: Peer,
        arrived: Time,
        ack: &AckView<'_>,
        out: &mut Effects,
    ) {
        self.stamp(now, ack.hlc);
        let found = self.runs.iter().position(|run| run.order.message_id == ack.message_id);
        let agent = AgentRef { handle: ack.handle, generation: ack.generation };
        let own = self.registry.verify(agent, from.into()).is_ok();
        let Some(at) = found else {
            let ended = self.ended.contains(&ack.message_id);
            *if ended && own {
                &mut self.counters.after_end
            } else {
                &mut self.counters.unknown
            } += 1;
            return;
        };
        let run = &mut self.runs[at];
        let row = if own { run.targets.find(ack.handle) } else { None };
        let row = row.filter(|row| run.targets.rows()[*row].generation == ack.generation);
        let state = Trinary::from_code(ack.state);
        let (Some(row), Some(state)) = (row, state) else {
            run.tally.foreign += 1;
            self.counters.foreign += 1;
            return;
        };
        let state = match state {
            Trinary::Ready => State::Ready,
            Trinary::Conflict => State::Conflict,
            Trinary::Transit => State::Transit,
        };
        if !run.targets.answer(row, state) {
            run.tally.duplicates += 1;
            self.counters.duplicates += 1;
            return;
        }
        let target = run.targets.rows()[row];
        let seen = self.times(&target, arrived, ack);
        if !seen.is_sound {
            self.counters.bad_times += 1;
        }
        if seen.is_absurd {
            self.suspect(now, ack.handle);
        }
        match state {
            State::Ready => {
                let wide = self.take_ready(now, at, &target, &seen);
                self.runs[at].targets.time(row, wide);
            }
            State::Conflict => {
                self.counters.conflicts += 1;
                let run = &mut self.runs[at];
                run.tally.quarrel(ack.handle, ack.conflict_detail, ack.context_hash);
                // Information, not failure (TRIN-01); it says nothing about durations.
                let latency = self.registry.latency(ack.handle);
                let processing = self.registry.processing(ack.handle);
                self.registry.outcome(now.node, ack.handle, true, latency, processing);
            }
            _ => self.counters.transit += 1,
        }
        if self.runs[at].is_settled() {
            self.tend_runs(now, out);
        }
    }

    /// An answer's times on the node's clock. Nobody is READY before the message left, nor after
    /// the answer came: whatever an agent claims lies between.
    fn times(&mut self, target: &Target, arrived: Time, ack: &AckView<'_>) -> Seen {
        let left = ack.origin_ns;
        let clock = &mut self.clocks[target.handle as usize];
        let possible = left >= target.send_at
            && left <= arrived
            && clock.sample(left, ack.received_ns, ack.sent_ns, arrived);
        let left = if possible { left } else { target.send_at.min(arrived) };
        let own = |other: Time| {
            if other == 0 { None } else { clock.to_own(other, arrived) }
        };
        let within = |time: Option<Time>| time.map_or(arrived, |time| time.clamp(left, arrived));
        let ordered =
            ack.ready_ns == 0 || (ack.received_ns <= ack.ready_ns && ack.ready_ns <= ack.sent_ns);
        let ready = within(own(ack.ready_ns));
        let one_way = within(own(ack.received_ns)) - left;
        let processing = ack.ready_ns.saturating_sub(ack.received_ns).min(arrived - left);
        Seen {
            left,
            one_way,
            processing,
            ready,
            acted: own(ack.acted_ns),
            is_sound: possible && ordered,
            is_absurd: !ordered,
        }
    }

    /// Whether it missed its forecast widely, where its times can be believed.
    fn take_ready(&mut self, now: Now, at: usize, target: &Target, seen: &Seen) -> Option<bool> {
        self.counters.ready += 1;
        let run = &mut self.runs[at];
        let us = |time: u32| Time::from(time) * 1_000;
        run.tally.ready(target.class, seen.ready, run.target);
        let predicted = target.send_at + us(target.owd_us) + us(target.processing_us);
        let error = predicted.abs_diff(seen.ready);
        run.tally.prediction_error.add(error);
        self.kpi.predicted(now.node, error);
        if let Some(acted) = seen.acted.filter(|_| run.order.hold) {
            run.tally.spread.add(acted.abs_diff(run.target));
        }
        let trip = seen.one_way.saturating_mul(2);
        self.registry.outcome(now.node, target.handle, true, trip, seen.processing);
        if !seen.is_sound {
            return None;
        }
        let sector = self.registry.seat(target.handle).sector();
        let observed = Observed {
            work: Work { weight: run.order.weight, queue: target.queue },
            dial: run.order.dial,
            one_way: seen.one_way,
            processing: seen.processing,
            ready_delay: seen.ready - seen.left,
            late: seen.ready > run.target,
            lead: us(target.lead_us),
            alone: self.surges.is_held(now.node, sector),
        };
        Some(self.predictor.observe(target.handle, &observed))
    }
}
