//! Memory is read shortly before it is needed.
//!
//! Agents beat and answer in no order, so in a large mesh each event begins with a dozen reads that
//! no cache has, one waiting for the other: most of the time went there. What happens next is
//! known, though. Its rows are read some events ahead, all at once: none waits for another, and
//! when the events come they find them at hand. Nothing is changed by that, and no event comes to
//! happen otherwise than without.

use super::{
    parts::Due,
    world::{AGENTS, World},
};
use ::mesh::node::ScheduledSend;
use std::hint::black_box;

/// Events that are looked at together.
const EVENTS_AHEAD: usize = 24;

/// So many copies before it leaves, a copy is looked at.
pub(super) const COPIES_AHEAD: usize = 6;

/// In smaller meshes everything is at hand.
const LARGE: u32 = 2_000;

impl World {
    /// Reads what the next events will need.
    #[inline]
    pub(super) fn look_ahead(&mut self) {
        if self.plan.agents < LARGE {
            return;
        }
        self.queue.coming(EVENTS_AHEAD, &mut self.ahead);
        if self.ahead.is_empty() {
            return;
        }
        let first = self.ahead.iter().map(|(node, due)| self.touch_first(*node, *due));
        let first = first.fold(0, |sum, word| sum ^ word);
        let then = self.ahead.iter().map(|(_, due)| self.touch_then(*due));
        black_box(first ^ then.fold(0, |sum, word| sum ^ word));
        self.ahead.clear();
    }

    /// What is found by numbers that are known. Nothing here is decided by what is read: the
    /// processor would wait for it.
    #[inline]
    fn touch_first(&self, node: u32, due: Due) -> u64 {
        match due {
            Due::Agent(agent) | Due::Served(agent, _) => self.touch_agent(agent),
            Due::Down(flight) => {
                let flight = self.downs.get(flight).map_or(0, |flight| flight.conn);
                let agent = node.checked_sub(AGENTS).map_or(0, |agent| self.touch_agent(agent));
                u64::from(flight) ^ agent
            }
            Due::Up(flight, handle) => {
                let flight = self.ups.get(flight).map_or(0, |flight| flight.conn);
                let Some(node) = self.nodes.get(node as usize) else { return 0 };
                let given = node.given.get(handle as usize).copied().flatten();
                let given = given.map_or(0, |given| given.agent);
                u64::from(flight ^ given) ^ node.mesh.touch(handle)
            }
            _ => 0,
        }
    }

    /// What is found by what was just read.
    #[inline]
    fn touch_then(&self, due: Due) -> u64 {
        match due {
            Due::Served(agent, _) => {
                self.actors.get(agent as usize).map_or(0, |actor| actor.agent.touch_job())
            }
            Due::Up(flight, _) => {
                self.ups.get(flight).map_or(0, |flight| self.touch_link(flight.conn))
            }
            _ => 0,
        }
    }

    fn touch_agent(&self, agent: u32) -> u64 {
        let Some(actor) = self.actors.get(agent as usize) else { return 0 };
        let model = self.fleet.agent(agent);
        let ends = model.clock_offset as u64 ^ u64::from(model.step_path.to_bits());
        actor.touch() ^ ends ^ self.touch_link(self.conn_of(agent))
    }

    fn touch_link(&self, conn: u32) -> u64 {
        self.conns.get(conn as usize).map_or(0, |link| link.last_up ^ u64::from(link.life))
    }

    /// Reads what a copy will need that leaves soon.
    pub(super) fn warm_copy(&self, node: u8, send: &ScheduledSend) {
        let given = self.nodes[usize::from(node)].given.get(send.handle as usize);
        let given = given.copied().flatten().map_or(0, |given| given.life);
        let conn = send.conn / 2;
        let first = conn * self.plan.per_connection;
        black_box(u64::from(given) ^ self.touch_link(conn) ^ self.touch_agent(first));
    }
}
