//! What a shard does for the mesh besides taking in its frames: it sends what comes down, now or at
//! its moment, and says what came of it.

use crate::{
    conn::Conn,
    driver::{ConnId, Time},
    limits::{DOWNS_PER_TURN, FIRED_CONNECTIONS_PER_TURN, FIRES_PER_TURN, INSERTS_PER_TURN},
    memory::{Geometry, Memory},
    mesh_port::{Down, MeshPort, Up},
    schedule::{Outcome, Pending, Schedule, VolleyReport},
    shard::{Cx, Shard},
    stats::CloseCause,
};

/// The mesh's part of a shard.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) port: MeshPort,
    pub(crate) schedule: Schedule,
    /// Frames from the mesh that found no chunk; what came down behind them waits.
    sending: Option<Down>,
    /// Connections wait for room in the ring up.
    pub(crate) waits_short: bool,
    /// Connections wait for room for a longer payload.
    pub(crate) waits_long: bool,
}

impl Mesh {
    /// Whether something that connections wait for is there.
    fn lets_in(&self) -> bool {
        (self.waits_short && self.port.has_room(false))
            || (self.waits_long && self.port.has_room(true))
    }

    /// When it must run again; `freed` says that a chunk or a slot was freed meanwhile.
    pub(crate) fn next_wakeup(&self, freed: bool) -> Option<Time> {
        let stuck = self.schedule.blocked || self.sending.is_some();
        let at_once = self.port.is_unsettled()
            || self.lets_in()
            || self.schedule.is_taking()
            || (freed && stuck)
            || (self.sending.is_none() && self.port.has_down());
        if at_once {
            Some(0)
        } else if self.schedule.blocked {
            None
        } else {
            self.schedule.wheel.next_due()
        }
    }

    /// Nothing scheduled, nothing to tell.
    pub(crate) fn is_idle(&self) -> bool {
        let scheduled = !self.schedule.wheel.is_empty() || self.schedule.is_taking();
        !scheduled && self.sending.is_none() && self.port.is_settled()
    }

    fn report(&mut self, report: Option<Box<VolleyReport>>) {
        if let Some(report) = report {
            self.port.tell(Up::VolleyDone(report));
        }
    }
}

impl Shard {
    /// Joins a mesh: frames of the mesh go up through `port`, and up to `scheduled` sends can wait
    /// for their moments. Without this, such frames are refused as unserved.
    #[must_use]
    pub fn with_mesh(mut self, mut port: MeshPort, scheduled: u32) -> Self {
        port.reserve(self.conns.len() as usize + crate::limits::VOLLEYS_MAX);
        let schedule = Schedule::new(scheduled);
        let mesh = Mesh { port, schedule, sending: None, waits_short: false, waits_long: false };
        self.mesh = Some(Box::new(mesh));
        self
    }

    /// Sends that wait for their moments, those on their way into the wheel not counted.
    #[must_use]
    pub fn scheduled(&self) -> usize {
        self.mesh.as_ref().map_or(0, |mesh| mesh.schedule.wheel.len())
    }

    /// Whether the mesh is to be woken: something went up since this was last asked.
    pub fn take_fed(&mut self) -> bool {
        self.mesh.as_mut().is_some_and(|mesh| mesh.port.take_fed())
    }

    /// Tells the mesh what it has to know, takes what came down, sends what is due.
    pub(crate) fn mesh_turn<M: Memory>(&mut self, cx: &mut Cx<'_, M>) {
        let Some(mut mesh) = self.mesh.take() else { return };
        mesh.port.settle();
        // Due sends first: their moments do not wait for a volley to be taken in.
        self.fire(cx, &mut mesh);
        self.take_down(cx, &mut mesh);
        if mesh.lets_in() {
            (mesh.waits_short, mesh.waits_long) = (false, false);
            self.freed = true;
        }
        self.stats.schedule_pending.set(mesh.schedule.wheel.len() as u64);
        self.mesh = Some(mesh);
    }

    /// Takes what came down, within the bounds of a turn.
    fn take_down<M: Memory>(&mut self, cx: &mut Cx<'_, M>, mesh: &mut Mesh) {
        let mut inserts = INSERTS_PER_TURN;
        for _ in 0..DOWNS_PER_TURN {
            if mesh.schedule.is_taking() {
                let (refused, report) = mesh.schedule.take(&mut inserts);
                self.stats.schedule_refused.add(u64::from(refused));
                mesh.report(report);
                if mesh.schedule.is_taking() {
                    return;
                }
            }
            if mesh.sending.is_some() && !self.freed {
                return;
            }
            let Some(down) = mesh.sending.take().or_else(|| mesh.port.next_down()) else { return };
            match down {
                Down::Send { conn, life, frame } => {
                    if !self.send_now(cx, conn, life, &frame) {
                        mesh.sending = Some(Down::Send { conn, life, frame });
                        return;
                    }
                }
                Down::Volley(volley) => {
                    let report = mesh.schedule.begin(*volley, &self.geometry);
                    let refused = report.as_ref().map_or(0, |report| report.refused);
                    self.stats.schedule_refused.add(u64::from(refused));
                    mesh.report(report);
                }
                Down::Close { conn, life } => {
                    if self.conns.open_mut(conn).is_some_and(|c| c.life == life) {
                        self.close(conn, CloseCause::Mesh);
                    }
                }
            }
        }
    }

    /// Sends frames of the mesh. False where no chunk is free; frames that cannot be sent are
    /// dropped and counted.
    fn send_now<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        life: u32,
        frame: &[u8],
    ) -> bool {
        let reached = if frame.len() > longest(&self.geometry) {
            Err(Outcome::Refused)
        } else {
            self.reach(id, life, frame.len()).map(|_| ())
        };
        if reached.is_err() {
            self.stats.mesh_dropped.add(1);
            return true;
        }
        let sent = self.append_frame(cx, id, frame);
        self.stats.mesh_sent.add(u64::from(sent));
        sent
    }

    /// The connection, if `len` more bytes may be queued for it.
    fn reach(&mut self, id: ConnId, life: u32, len: usize) -> Result<&mut Conn, Outcome> {
        let most = self.limits.unsent_per_connection;
        let conn = self.conns.open_mut(id).filter(|c| c.life == life && !c.finishing);
        match conn {
            None => Err(Outcome::Gone),
            Some(conn) if conn.outbox.bytes + len as u64 > most => Err(Outcome::Refused),
            Some(conn) => Ok(conn),
        }
    }

    fn append_frame<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, frame: &[u8]) -> bool {
        if frame.len() <= self.geometry.chunk_len as usize {
            return self.append(cx, id, frame.len(), |out| out.copy_from_slice(frame));
        }
        let Some(conn) = self.conns.open_mut(id) else { return true };
        let appended = self.egress.append_long(cx.mem, &mut conn.outbox, frame);
        if appended {
            self.mark_dirty(cx.now, id);
        }
        appended
    }

    /// Sends what is due, in order, as many as a turn may.
    fn fire<M: Memory>(&mut self, cx: &mut Cx<'_, M>, mesh: &mut Mesh) {
        if mesh.schedule.blocked && !self.freed {
            return;
        }
        mesh.schedule.blocked = false;
        let connections = self.dirty.len() + FIRED_CONNECTIONS_PER_TURN;
        for _ in 0..FIRES_PER_TURN {
            if self.dirty.len() >= connections {
                return;
            }
            let Some((at, pending)) = mesh.schedule.wheel.peek(cx.now) else { return };
            let Some(outcome) = self.fire_one(cx, &mut mesh.schedule, at, &pending) else {
                mesh.schedule.blocked = true;
                self.stats.schedule_blocked.add(1);
                return;
            };
            mesh.schedule.wheel.pop(cx.now);
            match outcome {
                Outcome::Sent(error) => {
                    self.stats.schedule_fired.add(1);
                    self.stats.fire_error.record(error);
                }
                Outcome::Expired => self.stats.schedule_expired.add(1),
                Outcome::Gone => self.stats.schedule_gone.add(1),
                Outcome::Refused => self.stats.schedule_refused.add(1),
            }
            let report = mesh.schedule.settle(pending.flight, outcome);
            mesh.report(report);
        }
    }

    /// Writes one scheduled frame behind what already leaves for its connection, so that all frames
    /// due together for a connection share a transmit. `None` where no chunk is free.
    fn fire_one<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        schedule: &mut Schedule,
        at: Time,
        pending: &Pending,
    ) -> Option<Outcome> {
        let Schedule { scratch, .. } = schedule;
        let mut scratch = core::mem::take(scratch);
        let outcome = self.fire_with(cx, schedule, &mut scratch, at, pending);
        schedule.scratch = scratch;
        outcome
    }

    fn fire_with<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        schedule: &Schedule,
        scratch: &mut [u8],
        at: Time,
        pending: &Pending,
    ) -> Option<Outcome> {
        // Every pending send belongs to a flight; one that did not would be gone.
        let Some(flight) = schedule.flight(pending.flight) else { return Some(Outcome::Gone) };
        if cx.now > flight.expires {
            return Some(Outcome::Expired);
        }
        let (template, agent) = (&flight.template, &pending.agent);
        let len = template.frame_len();
        if let Err(outcome) = self.reach(pending.conn, pending.life, len) {
            return Some(outcome);
        }
        let message_id = u64::from(flight.report.number) << 32 | u64::from(agent.handle);
        let now = cx.now;
        let write = |out: &mut [u8]| template.write(out, message_id, now, agent);
        let sent = if len <= self.geometry.chunk_len as usize {
            self.append(cx, pending.conn, len, |out| {
                // The room is exactly as long as the frame.
                let _ = write(out);
            })
        } else {
            let len = write(scratch);
            self.append_frame(cx, pending.conn, &scratch[..len])
        };
        sent.then_some(Outcome::Sent(now - at))
    }
}

/// Bytes of the longest frame that the mesh may send: half of what the chunks hold, so that it gets
/// its chunks in the end.
pub(crate) const fn longest(geometry: &Geometry) -> usize {
    geometry.chunks as usize * geometry.chunk_len as usize / 2
}
