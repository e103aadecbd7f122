//! Planning a phase and handing its copies to the shards.

use super::{Effect, Effects, Mesh, Now, ScheduledSend, VolleyOrder};
use crate::{
    MS, SECOND, Time,
    cascade::{self, PRIORITY},
    gather::{Part, Run, Stage, ask::Select, kids::KidState, targets::State},
    plan::{self, Ask, Plan, Planned},
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use wire::{
    mesh::{AgentClass, Routing, SkipReason, Strategy, Template, Trinary},
    payload::mesh::Coordinate,
};

/// Share of the one-way delays that the window must cover twice: there is a way back.
const WAY_BACK: f64 = 0.999;
/// Added to a node's lead for the way of the order to it, besides its round trip.
const HOP: Time = 15 * MS;

impl Mesh {
    /// Begins a phase: the classes of the priority strategy come one after the other, all other
    /// strategies have one phase. A moment that was given is the first phase's; each later phase
    /// comes as soon as it can (CASCADE-06).
    pub(super) fn launch(&mut self, now: Now, run: &mut Run, phase: usize, out: &mut Effects) {
        run.phase_began = now.node;
        let rows = self.still_meant(run, phase);
        let is_first = run.target == 0;
        let at = if is_first { run.order.at } else { None };
        let plan = self.plan(now, run, &rows, at, is_first);
        run.target = plan.target_time.max(1);
        run.lead_max = plan.sends.iter().map(|send| send.lead).fold(run.lead_max, Time::max);
        run.window = Self::window(run, &plan);
        run.stage = Stage::Running { phase, end: self.end(now, run) };
        if is_first {
            self.tell_below(now, run, out);
        }
        for (index, skip) in &plan.skips {
            let (would_need, available) = skip.numbers();
            run.targets.skip(rows[*index as usize]);
            run.tally.skip(skip.reason(), would_need, available);
        }
        self.dispatch(now, run, &rows, &plan, out);
    }

    /// The waiting targets of a phase that may still get a message: time passed since they were
    /// chosen, and parts may have been frozen or cut off. What is scheduled is not recalled.
    fn still_meant(&self, run: &mut Run, phase: usize) -> Vec<usize> {
        let mut rows = rows_of(run, phase);
        let priority = run.order.priority;
        rows.retain(|at| match self.registry.revoked(run.targets.rows()[*at].handle, priority) {
            None => true,
            Some(reason) => {
                run.targets.skip(*at);
                run.tally.skip(reason, 0, 0);
                false
            }
        });
        rows
    }

    /// How long everybody of a run that was only announced would need.
    pub(super) fn rehearse(&mut self, now: Now, run: &mut Run) {
        let rows: Vec<usize> = (0..run.targets.rows().len()).collect();
        let plan = self.plan(now, run, &rows, None, true);
        let leads = plan.sends.iter().map(|send| send.lead + plan.smoothing);
        let below = self.lead_below(run);
        run.lead_max = leads.max().unwrap_or(0).max(below);
        run.window = run.order.window_least().max(way_back(&plan)).max(window_below(run));
    }

    /// How long answers count after the moment: as the operator or the strategy says, or as long
    /// as the slowest ways back take, here or below. A node that has one above it keeps to that
    /// one's window: its result is waited for no longer.
    fn window(run: &Run, plan: &Plan) -> Time {
        let least = run.order.window_least();
        if run.asker.is_parent { least } else { least.max(way_back(plan)).max(window_below(run)) }
    }

    /// The longest lead of the nodes below, with the way to them.
    fn lead_below(&self, run: &Run) -> Time {
        let prepared = run.kids.iter().filter(|kid| kid.state == KidState::Prepared);
        let lead = prepared.map(|kid| {
            let clock = self.children.get(kid.child).map(|child| child.clock);
            let trip = clock.and_then(|clock| clock.rtt_min()).unwrap_or(0);
            kid.lead_max() + trip.min(SECOND) + HOP
        });
        lead.max().unwrap_or(0)
    }

    fn plan(
        &mut self,
        now: Now,
        run: &mut Run,
        rows: &[usize],
        at: Option<Time>,
        is_first: bool,
    ) -> Plan {
        let registry = &self.registry;
        let target = |row: &usize| {
            let handle = run.targets.rows()[*row].handle;
            let link = registry
                .link(handle)
                .map_or(0, |link| u32::from(link.shard as u8) << 24 | (link.conn & 0x00FF_FFFF));
            plan::Target {
                handle,
                queue: run.targets.rows()[*row].queue,
                class: registry.class(handle),
                link,
                reliability: registry.reliability(now.node, handle),
                drift: registry.drift(handle),
                fresh: registry.fresh(now.node, handle),
            }
        };
        let targets: Vec<plan::Target> = rows.iter().map(target).collect();
        let humans = matches!(run.order.select, Select::Class(AgentClass::Human) | Select::Ids(_));
        let mut ask = Ask {
            now: now.node,
            target_time: at,
            window: None,
            dial: run.order.dial,
            weight: run.order.weight,
            hold: run.order.hold,
            send_gap: self.config.send_gap,
            humans,
        };
        let began = (self.config.stopwatch)();
        let mut plan = plan::plan(&self.predictor, &targets, &ask, &mut self.scratch);
        let below = if is_first { now.node + self.lead_below(run) } else { 0 };
        if at.is_none() && plan.target_time < below {
            ask.target_time = Some(below);
            plan = plan::plan(&self.predictor, &targets, &ask, &mut self.scratch);
        }
        run.plan_ns += (self.config.stopwatch)().saturating_sub(began);
        plan
    }

    /// When a phase ends at the latest: the window after the moment, within the time that the last
    /// level of a wave may take, unless the operator chose moment or window.
    fn end(&self, now: Now, run: &Run) -> Time {
        let end = run.target.saturating_add(run.window);
        let is_own = run.order.at.is_none() && run.order.window.is_none();
        let level = if run.order.strategy == Strategy::Wave && is_own {
            now.node.saturating_add(cascade::AGENTS.within)
        } else {
            Time::MAX
        };
        end.min(level).min(run.ends_by)
    }

    fn dispatch(
        &mut self,
        now: Now,
        run: &mut Run,
        rows: &[usize],
        plan: &Plan,
        out: &mut Effects,
    ) {
        let Some(template) = self.template(now, run) else {
            return;
        };
        let ttl = Time::from(run.order.ttl_ms) * MS;
        let expires = if ttl == 0 { Time::MAX } else { run.began.saturating_add(ttl) };
        let expires = expires.min(run.ends_by);
        let number = self.number();
        let mut volleys: BTreeMap<u16, Vec<ScheduledSend>> = BTreeMap::new();
        for send in &plan.sends {
            let row = rows[send.target as usize];
            let handle = run.targets.rows()[row].handle;
            let skip = match self.registry.link(handle) {
                None => Err(SkipReason::Gone),
                Some(_) if send.send_at >= expires => Err(SkipReason::Expired),
                Some(link) => Ok(link),
            };
            match skip {
                Ok(link) => {
                    run.targets.schedule(row, send, number, link.shard);
                    let target = &run.targets.rows()[row];
                    run.tally.classes[target.class as usize].leads.add(send.lead);
                    let copy = scheduled(send, (link.conn, link.life), handle, target.generation);
                    volleys.entry(link.shard).or_default().push(copy);
                }
                Err(reason) => {
                    run.targets.skip(row);
                    run.tally.skip(reason, send.lead, expires.saturating_sub(now.node));
                }
            }
        }
        for (shard, sends) in volleys {
            self.counters.scheduled += sends.len() as u64;
            run.parts.push(Part { number, shard, is_done: false, expired: 0, gone: 0, refused: 0 });
            let (template, priority) = (template.clone(), run.order.priority);
            let order = VolleyOrder { number, shard, template, expires, priority, sends };
            out.push(Effect::Volley(order));
        }
    }

    /// The message, encoded once. It is as old as its gather: its time to live counts from there.
    fn template(&mut self, now: Now, run: &Run) -> Option<Template> {
        let order = &run.order;
        let mut message = Coordinate {
            payload: order.payload.clone(),
            requires_capabilities: order.requires.iter().map(|it| it.as_str().into()).collect(),
            message_id: order.message_id,
            correlation_id: order.correlation_id,
            causation_id: order.causation_id,
            source_agent_id: order.source_agent_id,
            payload_hash: Sha256::digest(&order.payload).into(),
            hlc: self.hlc.tick(now.epoch_ns),
            created_ns: now.epoch_ns.saturating_sub(now.node.saturating_sub(run.began)),
            target_ns: run.target,
            ttl_ms: order.ttl_ms,
            payload_weight: order.weight,
            routing: Routing::ScatterGather.code(),
            verb: order.verb.code(),
            priority: order.priority,
            expectation: Trinary::Ready.code(),
            hold: order.hold,
            ..Coordinate::default()
        };
        // Once for all copies (SIGN-04).
        if let Some(key) = &self.config.trust.key {
            sign::agents::sign_coordinate(&mut message, key);
        }
        Template::new(&message, run.began).ok()
    }
}

/// The longest window that a node below needs.
fn window_below(run: &Run) -> Time {
    let prepared = run.kids.iter().filter(|kid| kid.state == KidState::Prepared);
    let windows = prepared.filter_map(|kid| Some(kid.prepared.as_ref()?.window_ns));
    windows.max().unwrap_or(0).min(2 * crate::limits::LATENCY_MAX)
}

/// The waiting targets of a phase.
fn rows_of(run: &Run, phase: usize) -> Vec<usize> {
    let class = PRIORITY.get(phase).map(|(class, _)| *class);
    let all = run.order.strategy != Strategy::Priority;
    let rows = run.targets.rows().iter().enumerate();
    let waits = rows.filter(|(_, row)| row.state == State::Waiting);
    waits.filter(|(_, row)| all || Some(row.class) == class).map(|(at, _)| at).collect()
}

fn scheduled(
    send: &Planned,
    (conn, life): (u32, u32),
    handle: u32,
    generation: u32,
) -> ScheduledSend {
    let us = |time: Time| u32::try_from(time / 1_000).unwrap_or(u32::MAX);
    ScheduledSend {
        at: send.send_at,
        conn,
        life,
        handle,
        generation,
        lead_us: us(send.lead),
        expected_us: us(send.processing),
        confidence: send.confidence,
    }
}

/// How long the slowest ways back take: twice a high quantile of the one-way delays.
fn way_back(plan: &Plan) -> Time {
    let mut delays: Vec<Time> = plan.sends.iter().map(|send| send.owd).collect();
    let Some(last) = delays.len().checked_sub(1) else { return 0 };
    let rank = ((last as f64 * WAY_BACK).ceil() as usize).min(last);
    let (_, delay, _) = delays.select_nth_unstable(rank);
    delay.saturating_mul(2).min(crate::limits::LATENCY_MAX)
}
