//! The sending half of a load: what is due, on which connection, and what leaves with the turn.

use super::{Load, Phases};
use crate::{conn::State, outbox::Outbox, schedule::Schedule};
use dataplane_core::{
    driver::{Driver, Time},
    memory::Memory,
};
use wire::HEADER_LEN;
use zerocopy::IntoBytes;

/// Sends before events are looked at again.
const SENDS_PER_TURN: usize = 4_096;
/// A send that leaves this long after its plan is late.
const LATE: Time = 1_000_000;
/// Between two looks for sockets that replace dead ones.
const RECONNECT_LOOK: Time = 1_000_000;

impl Load {
    /// When the load must run again although nothing happens.
    pub(super) fn wake_at(&self, now: Time) -> Option<Time> {
        let Phases { start, stop, give_up, .. } = self.phases;
        let last = [start, stop].into_iter().find(|time| now < *time).unwrap_or(give_up);
        // A socket that replaces a dead one is no event: look for it from time to time.
        let last = if self.missing > 0 { last.min(now + RECONNECT_LOOK) } else { last };
        match self.schedule {
            Some(schedule) if self.departed < self.total && !self.ready.is_empty() => {
                Some(schedule.planned(self.departed).min(last))
            }
            _ => Some(last),
        }
    }

    /// Sends what is due and has room. Returns how many requests left.
    pub(super) fn pump<M: Memory>(&mut self, now: Time, memory: &mut M) -> usize {
        match self.schedule {
            Some(schedule) => self.pump_open(schedule, now, memory),
            None => self.pump_closed(now, memory),
        }
    }

    fn pump_open<M: Memory>(&mut self, schedule: Schedule, now: Time, memory: &mut M) -> usize {
        let mut count = 0;
        if self.starved {
            // Until this moment no window had room.
            self.held = now;
        }
        while count < SENDS_PER_TURN && self.departed < self.total {
            let planned = schedule.planned(self.departed);
            if planned > now {
                break;
            }
            let Some(index) = self.ready.pop_front().map(|index| index as usize) else { break };
            self.conns[index].ready = false;
            if self.conns[index].state == State::Open {
                if !self.depart(index, planned, now, memory) {
                    self.starved = true;
                    self.conns[index].ready = true;
                    self.ready.push_front(index as u32);
                    return count;
                }
                self.departed += 1;
                count += 1;
                self.feed(index);
            }
        }
        self.starved = self.ready.is_empty();
        count
    }

    fn pump_closed<M: Memory>(&mut self, now: Time, memory: &mut M) -> usize {
        let mut count = 0;
        if now < self.phases.start || now >= self.phases.stop {
            return count;
        }
        while let Some(index) = self.ready.pop_front().map(|index| index as usize) {
            self.conns[index].ready = false;
            while self.conns[index].state == State::Open && self.windows.has_room(index) {
                if !self.depart(index, now, now, memory) {
                    self.feed(index);
                    return count;
                }
                count += 1;
            }
        }
        count
    }

    /// Writes one request into the outbox of a connection with room. False when no chunk is free.
    #[inline]
    fn depart<M: Memory>(
        &mut self,
        index: usize,
        planned: Time,
        now: Time,
        memory: &mut M,
    ) -> bool {
        let template = self.next_template;
        let frame = &self.prepared.frames[template];
        let outbox: &mut Outbox = &mut self.conns[index].outbox;
        let Some((chunk, from)) = outbox.append(&mut self.pool, frame.inline.len() as u32) else {
            return false;
        };
        let measured = planned >= self.phases.measure;
        let Some(id) = self.windows.depart(index, planned, template as u32, measured) else {
            unreachable!("a connection in the queue has room in its window");
        };
        let from = from as usize;
        let place = &mut memory.chunk_mut(chunk)[from..from + frame.inline.len()];
        place.copy_from_slice(&frame.inline);
        let header = frame.header(id, self.prepared.epoch.wrapping_add(now));
        place[..HEADER_LEN].copy_from_slice(header.as_bytes());
        outbox.refer(&frame.payload);
        self.under_way += 1;
        self.next_template =
            if template + 1 == self.prepared.frames.len() { 0 } else { template + 1 };
        if measured {
            self.tally.sent += 1;
            self.tally.bytes_out += u64::from(frame.len);
            if now - planned > LATE {
                self.tally.late += 1;
                self.tally.late_own += u64::from(now - planned.max(self.held).min(now) > LATE);
            }
        }
        self.touch(index);
        true
    }

    /// Orders a transmit for every connection that has something to send and none under way.
    pub(super) fn transmit<D: Driver>(&mut self, driver: &mut D) {
        for index in self.dirty.drain(..) {
            let conn = &mut self.conns[index as usize];
            conn.dirty = false;
            let (State::Open, Some(id)) = (conn.state, conn.id) else { continue };
            let (segments, count) = conn.outbox.front();
            conn.sending = true;
            driver.transmit(id, &segments[..count]);
        }
    }
}
