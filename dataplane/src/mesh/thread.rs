//! The thread of the mesh: feeds the machine with what the shards and the node above send, and
//! carries out what it wants.

use super::{
    keeper::Keeper,
    link::Links,
    parent::{Above, Parent},
    store::Write,
};
use client::Buffer;
use crossbeam_channel::{Receiver, Sender};
use dataplane_core::{
    driver::{Caller, ConnId},
    mesh_port::{Down, Up},
    schedule::{ScheduledSend, Volley},
    stats::{Show, Source as Figures, Spread, Value, Visit},
};
use mesh::{
    Time,
    node::{Effect, Effects, Mesh, Now, Peer, Record, Source, VolleyOrder, VolleyReport, Wanted},
    sketch::Sketch,
    summary::HistoryPoint,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    time::{ClockId, clock_gettime},
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::sync::oneshot;
use wire::{
    mesh::{PerAgent, View, bin_middle},
    payload::mesh::MeshView,
};

/// Messages taken from one shard before the next gets its turn.
const MESSAGES_PER_PASS: usize = 1_024;
/// How often the counters are copied out for readers.
const PUBLISH_EVERY: Time = 200 * mesh::MS;
/// Between two points of the history.
const HISTORY_EVERY: Time = 10 * mesh::SECOND;
/// The shard number that stands for the connection to the node above.
const ABOVE: u16 = u16::MAX;

/// Everything the thread owns.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) mesh: Mesh,
    pub(crate) links: Links,
    pub(crate) parent: Option<Parent>,
    pub(crate) keeper: Option<Keeper>,
    /// What the control thread wants.
    pub(crate) requests: Receiver<Request>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) counters: Arc<Published>,
}

/// What the control thread may ask of the mesh.
#[derive(Debug)]
pub(crate) enum Request {
    /// Let go of the state directory, and say so.
    Release(Sender<()>),
    /// Take it again.
    Resume,
    /// What the mesh looks like, for this node's own page.
    View(View, oneshot::Sender<MeshView>),
}

/// The machine's counters as readers see them.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<Vec<Figure>>);

/// Name, label pair (or none), value.
type Figure = (&'static str, &'static str, String, Value);

impl Figures for Published {
    /// All of them are shown in one go below.
    fn visit(&self, _visit: Visit<'_>) {}

    fn show(&self, show: Show<'_>) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, label, value, figure) in all.iter() {
            show(name, &[(label, value)], *figure);
        }
    }
}

/// The node's clock.
pub(crate) fn node_time() -> Time {
    nanoseconds(ClockId::Monotonic)
}

pub(crate) fn now() -> Now {
    Now { node: node_time(), epoch_ns: nanoseconds(ClockId::Realtime) }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Runs until told to stop, then keeps the registry one last time.
pub(crate) fn run(mut seat: Seat) {
    let mut work = Work::default();
    let (mut publish_at, mut history_at) = (0, 0);
    while !seat.stop.load(Relaxed) {
        let now = now();
        let busy = seat.pass(now, &mut work);
        if now.node >= publish_at {
            publish_at = now.node + PUBLISH_EVERY;
            seat.publish(now);
        }
        if now.node >= history_at {
            history_at = now.node + HISTORY_EVERY;
            seat.note_history(now);
        }
        if !busy {
            let due = seat.mesh.next_wakeup().unwrap_or(Time::MAX).min(publish_at);
            seat.rest(due);
        }
    }
    if let Some(keeper) = seat.keeper.take() {
        keeper.close(Write::Snapshot(seat.mesh.registry().snapshot(node_time())));
    }
}

/// What is reused from pass to pass.
#[derive(Debug, Default)]
struct Work {
    effects: Effects,
    /// For payloads that do not lie where an archive can be read.
    aligned: Buffer,
    /// Takes frames for the node above while connected.
    above: Option<(u32, Sender<Vec<u8>>)>,
}

impl Seat {
    /// Takes in what there is, lets the machine do what is due, carries out what it wants. False
    /// where there was nothing.
    fn pass(&mut self, now: Now, work: &mut Work) -> bool {
        let mut busy = false;
        for shard in 0..self.links.len() {
            for _ in 0..MESSAGES_PER_PASS {
                let Some(up) = self.links.pop(shard) else { break };
                busy = true;
                self.take(now, shard, up, work);
            }
            self.links.after_taking(shard);
            self.carry_out(work);
        }
        while let Some(event) = self.parent.as_ref().and_then(|it| it.events.try_recv().ok()) {
            busy = true;
            self.hear(now, event, work);
        }
        while let Ok(request) = self.requests.try_recv() {
            busy = true;
            self.grant(now, request);
        }
        self.mesh.advance(now, &mut work.effects);
        busy |= !work.effects.is_empty();
        self.carry_out(work);
        self.links.settle() || busy
    }

    fn take(&mut self, now: Now, shard: usize, up: Up, work: &mut Work) {
        let peer = |conn: ConnId, life| Peer { shard: shard as u16, conn: conn.0, life };
        let effects = &mut work.effects;
        match up {
            Up::Frame { conn, life, who, received, kind, message_id, len, bytes } => {
                let payload = &bytes.0[..usize::from(len)];
                let from = source(peer(conn, life), who);
                self.mesh.frame(now, from, received, kind, message_id, payload, effects);
            }
            Up::Long { conn, life, who, received, kind, message_id, payload } => {
                work.aligned.resize(payload.len());
                work.aligned.as_mut_slice().copy_from_slice(&payload);
                let payload = work.aligned.as_slice();
                let from = source(peer(conn, life), who);
                self.mesh.frame(now, from, received, kind, message_id, payload, effects);
            }
            Up::Gone { conn, life } => self.mesh.gone(now, peer(conn, life), effects),
            Up::VolleyDone(report) => {
                let report = VolleyReport {
                    number: report.number,
                    shard: report.shard,
                    sent: report.sent,
                    expired: report.expired,
                    gone: report.gone,
                    refused: report.refused,
                    fire_error: report.fire_error.bins().collect(),
                };
                self.mesh.volley_done(now, &report, effects);
            }
        }
    }

    fn grant(&mut self, now: Now, request: Request) {
        match (&self.keeper, request) {
            // Whoever asked may have given up meanwhile.
            (_, Request::View(view, reply)) => {
                let _ = reply.send(self.mesh.view(now, &Wanted::all(view)));
            }
            (Some(keeper), Request::Release(done)) => {
                keeper.release(Write::Snapshot(self.mesh.registry().snapshot(node_time())), done);
            }
            (Some(keeper), Request::Resume) => keeper.resume(),
            // Nothing is held: the other end of `done` is told by its drop.
            (None, _) => {}
        }
    }

    /// What the node above says.
    fn hear(&mut self, now: Now, event: Above, work: &mut Work) {
        let peer = |life| Peer { shard: ABOVE, conn: 0, life };
        match event {
            Above::Up { life, frames } => {
                work.above = Some((life, frames));
                self.mesh.parent_up(now, peer(life), &mut work.effects);
            }
            Above::Frame { life, arrived, kind, message_id, payload } => {
                let (from, bytes) = (peer(life), payload.as_slice());
                self.mesh.frame(now, from, arrived, kind, message_id, bytes, &mut work.effects);
            }
            Above::Down { life } => {
                if work.above.as_ref().is_some_and(|(up, _)| *up == life) {
                    work.above = None;
                }
                self.mesh.parent_down(now, &mut work.effects);
            }
        }
        self.carry_out(work);
    }

    fn carry_out(&mut self, work: &mut Work) {
        for effect in work.effects.drain(..) {
            match effect {
                Effect::Send { to, frame } if to.shard == ABOVE => {
                    // A parent that does not read is as good as gone: what does not fit is lost,
                    // and the silence ends the connection.
                    if let Some((life, frames)) = &work.above
                        && *life == to.life
                    {
                        let _ = frames.try_send(frame);
                    }
                }
                Effect::Send { to, frame } => {
                    let (conn, life) = (ConnId(to.conn), to.life);
                    self.links.push(to.shard, Down::Send { conn, life, frame: frame.into() });
                }
                Effect::Volley(order) => {
                    let shard = order.shard;
                    self.links.push(shard, Down::Volley(Box::new(volley(order))));
                }
                Effect::Close { peer } if peer.shard == ABOVE => work.above = None,
                Effect::Close { peer } => {
                    let down = Down::Close { conn: ConnId(peer.conn), life: peer.life };
                    self.links.push(peer.shard, down);
                }
                Effect::Persist(record) => self.keep(record),
            }
        }
    }

    fn keep(&self, record: Record) {
        let Some(keeper) = &self.keeper else { return };
        match record {
            Record::Registry(bytes) => keeper.write(Write::Snapshot(bytes)),
            Record::Gather { id, report } => keeper.write(Write::Gather { id, report }),
        }
    }

    /// Writes down how the sectors fare, one row each (IMPED-13).
    fn note_history(&self, now: Now) {
        let Some(keeper) = &self.keeper else { return };
        let mut rows = Vec::new();
        self.mesh.summaries().history(&mut rows);
        let point: Vec<u8> = rows.iter().flat_map(HistoryPoint::to_bytes).collect();
        if !point.is_empty() {
            keeper.write(Write::History { at: now.epoch_ns, point });
        }
    }

    fn publish(&self, now: Now) {
        let mut all: Vec<Figure> = Vec::new();
        let mut count = |name, label, value: &str, n| {
            all.push((name, label, value.to_owned(), Value::Count(n)));
        };
        self.mesh.visit(&mut count);
        if let Some(keeper) = &self.keeper {
            keeper.stats.visit(&mut count);
        }
        self.mesh.measure(now, &mut |name, label, value, real| {
            all.push((name, label, value.to_owned(), Value::Real(real)));
        });
        let punctuality = self.mesh.punctuality();
        for (name, sketch) in [
            ("butterfly_mesh_ready_early_seconds", &punctuality.early),
            ("butterfly_mesh_ready_late_seconds", &punctuality.late),
        ] {
            all.push((name, "", String::new(), Value::Spread(spread(sketch))));
        }
        *self.counters.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Sleeps until something comes or is due.
    fn rest(&self, due: Time) {
        let door = self.links.door();
        if self.links.park() {
            let left = due.saturating_sub(node_time());
            let limit = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let mut fds = [PollFd::new(&*door, PollFlags::IN)];
            // An interrupted sleep is a short one.
            let _ = poll(&mut fds, Some(&limit));
        }
        self.links.unpark();
        door.silence();
    }
}

/// A sketch in the few buckets of exposition, each value as the middle of its bin.
fn spread(sketch: &Sketch) -> Spread {
    let mut spread = Spread::default();
    for (bin, count) in sketch.bins() {
        let middle = bin_middle(bin);
        spread.put(middle, count);
        spread.add_sum(u128::from(middle) * u128::from(count));
    }
    spread
}

/// Who proved nothing was let in because it is of this machine.
const fn source(peer: Peer, who: Caller) -> Source {
    Source { peer, is_local: who.identity == Caller::LOCAL.identity }
}

/// A volley in the shard's words.
fn volley(order: VolleyOrder) -> Volley {
    let sends = order
        .sends
        .iter()
        .map(|send| ScheduledSend {
            at: send.at,
            conn: ConnId(send.conn),
            life: send.life,
            agent: PerAgent {
                handle: send.handle,
                generation: send.generation,
                lead_us: send.lead_us,
                expected_us: send.expected_us,
                confidence: send.confidence,
            },
        })
        .collect();
    Volley::new(order.number, order.shard, order.template, order.expires, order.priority, sends)
}
