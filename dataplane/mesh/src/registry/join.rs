//! Joining, coming back, losing the connection, leaving for good.

use wire::mesh::{AgentClass, AgentState, REGISTRATION_MAX};

use super::beat::SETTLED;
use super::index::{hash_id, hash_link};
use super::names::{Held, NOTHING, Names};
use super::{AgentRef, Impedance, Link, NO_LINK, RefFault, Registry, score_of};
use crate::Time;
use crate::cluster::{NONE, band_of, key_of};
use crate::limits::{KEEP_GONE, LATENCY_MAX, PROCESSING_MAX};
use crate::profile::Hourly;

/// An agent that registers.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// 128-bit id, not zero.
    pub id: [u8; 16],
    /// Impedance class.
    pub class: AgentClass,
    /// Where its connection is.
    pub link: Link,
    /// What it can do.
    pub capabilities: &'a [&'a str],
    /// How fast it is, or what its class lets one expect: decides its cluster.
    pub impedance: Impedance,
}

/// A registration that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What it is called from now on.
    pub agent: AgentRef,
    /// True where the registry knew it: handle, name and history are what they were.
    pub resumed: bool,
}

/// Why a registration was refused. The caller counts these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterFault {
    /// Another connection that is alive has an agent of this id.
    NameTaken,
    /// No room, and nobody has been away for long enough.
    Full,
    /// This connection has as many agents as one may have.
    LinkFull,
    /// The fleet has too many different capabilities.
    CapabilitiesFull,
    /// The id is zero, a capability is empty, too long or unprintable, there are too many of
    /// them, or an agent in quarantine says it is of another class.
    BadRecord,
}

impl Registry {
    /// Registers an agent, or takes one back that lost its connection (or fell silent on it). An
    /// agent that comes back as another class is a new one. In a full registry a newcomer takes
    /// the place of the agent that has been away longest, after five minutes.
    ///
    /// # Errors
    /// [`RegisterFault`]; nothing has changed then.
    pub fn register(
        &mut self,
        now: Time,
        newcomer: &Newcomer<'_>,
    ) -> Result<Joined, RegisterFault> {
        if newcomer.id == [0; 16]
            || newcomer.link == NO_LINK
            || !Names::valid(newcomer.capabilities)
        {
            return Err(RegisterFault::BadRecord);
        }
        let known = self.by_id(&newcomer.id).map(|agent| agent.handle);
        let own = known.and_then(|handle| self.link(handle));
        if let Some(handle) = known {
            self.may_resume(handle, own, newcomer)?;
        }
        if own != Some(newcomer.link)
            && usize::from(self.on_link(newcomer.link)) >= REGISTRATION_MAX
        {
            return Err(RegisterFault::LinkFull);
        }
        if known.is_none() && !self.has_room(now) {
            return Err(RegisterFault::Full);
        }
        let held = self.names.take(newcomer.capabilities).ok_or(RegisterFault::CapabilitiesFull)?;
        let same = known.filter(|handle| self.class(*handle) == newcomer.class);
        let handle = match (same, known) {
            (Some(handle), _) => handle,
            (None, Some(other)) => {
                self.forget(now, other);
                self.admit(now, newcomer)
            }
            (None, None) => self.admit(now, newcomer),
        };
        self.connect(now, handle, newcomer, held);
        let generation = self.columns.generation[handle as usize];
        Ok(Joined { agent: AgentRef { handle, generation }, resumed: same.is_some() })
    }

    fn may_resume(
        &self,
        handle: u32,
        own: Option<Link>,
        newcomer: &Newcomer<'_>,
    ) -> Result<(), RegisterFault> {
        let state = self.state(handle);
        if state == AgentState::Quarantined && self.class(handle) != newcomer.class {
            return Err(RegisterFault::BadRecord);
        }
        match own {
            Some(link) if link != newcomer.link && state != AgentState::Offline => {
                Err(RegisterFault::NameTaken)
            }
            _ => Ok(()),
        }
    }

    /// True where [`Self::admit`] finds a handle.
    fn has_room(&self, now: Time) -> bool {
        let oldest = self.gone.0;
        self.free != NONE
            || self.fresh < self.capacity()
            || (oldest != NONE
                && now.saturating_sub(self.columns.since[oldest as usize]) >= KEEP_GONE)
    }

    /// A handle and a seat for somebody new. The caller has seen that there is room: a registry
    /// has at least as many seats as handles.
    fn admit(&mut self, now: Time, newcomer: &Newcomer<'_>) -> u32 {
        if self.free == NONE && self.fresh == self.capacity() {
            self.forget(now, self.gone.0);
        }
        let handle = if self.free == NONE {
            self.fresh += 1;
            self.fresh - 1
        } else {
            let handle = self.free;
            self.free = self.columns.next[handle as usize];
            handle
        };
        let at = handle as usize;
        let told = newcomer.impedance;
        let latency = told.latency.min(LATENCY_MAX);
        let score = score_of(latency, told.processing.min(PROCESSING_MAX), told.queue);
        let seat = self.clusters.join(handle, key_of(newcomer.class, band_of(score)));
        let columns = &mut self.columns;
        if let Some(seat) = seat {
            columns.set_seat(at, seat);
        }
        columns.id[at] = newcomer.id;
        columns.known[at] = true;
        columns.class[at] = newcomer.class;
        columns.state[at] = AgentState::Offline;
        self.counts[usize::from(AgentState::Offline.code())] += 1;
        columns.average[at] = score;
        columns.outcomes[at] = Hourly::new();
        columns.strayed[at] = SETTLED;
        self.push_gone(now, handle);
        self.ids.insert(hash_id(self.seed, &newcomer.id), handle);
        handle
    }

    /// Puts a known agent on its new connection, with what it says of itself.
    fn connect(&mut self, now: Time, handle: u32, newcomer: &Newcomer<'_>, held: Held) {
        let at = handle as usize;
        let old = core::mem::replace(&mut self.columns.capabilities[at], held);
        self.names.release(&old);
        self.columns.generation[at] = self.columns.generation[at].wrapping_add(1).max(1);
        self.detach(handle);
        self.push_link(handle, newcomer.link);
        self.take(now, handle, &newcomer.impedance);
    }

    /// A connection is gone: its agents are offline at once and keep handle, name and history.
    /// Their handles are added to `gone`.
    pub fn unlink(&mut self, now: Time, link: Link, gone: &mut Vec<u32>) {
        while let Some(handle) = self.first_of(link) {
            self.detach(handle);
            self.push_gone(now, handle);
            if self.state(handle) != AgentState::Quarantined {
                self.set_state(now, handle, AgentState::Offline);
            }
            gone.push(handle);
        }
    }

    /// Takes an agent out for good: its seat, its handle and its id are free.
    ///
    /// # Errors
    /// Unknown and stale references.
    pub fn remove(&mut self, now: Time, agent: AgentRef) -> Result<(), RefFault> {
        let handle = self.get(agent)?;
        self.forget(now, handle);
        Ok(())
    }

    fn forget(&mut self, now: Time, handle: u32) {
        let at = handle as usize;
        self.detach(handle);
        self.set_state(now, handle, AgentState::Offline);
        self.counts[usize::from(AgentState::Offline.code())] -= 1;
        let columns = &mut self.columns;
        let held = core::mem::replace(&mut columns.capabilities[at], NOTHING);
        self.names.release(&held);
        let seat = columns.seat(at);
        self.clusters.leave(seat);
        self.mend_lead(now, seat.cluster);
        let (seed, ids) = (self.seed, &self.columns.id);
        let hash_of = |it: u32| hash_id(seed, &ids[it as usize]);
        self.ids.remove(hash_of(handle), handle, hash_of);
        self.columns.known[at] = false;
        self.columns.next[at] = core::mem::replace(&mut self.free, handle);
    }

    /// Agents of a connection.
    #[must_use]
    pub fn on_link(&self, link: Link) -> u16 {
        self.first_of(link).map_or(0, |first| self.columns.together[first as usize])
    }

    /// Handles of a connection's agents, the latest to register first.
    pub fn of_link(&self, link: Link) -> impl Iterator<Item = u32> + '_ {
        let next = |handle: &u32| {
            let next = self.columns.next[*handle as usize];
            (next != NONE).then_some(next)
        };
        core::iter::successors(self.first_of(link), next)
    }

    fn first_of(&self, link: Link) -> Option<u32> {
        self.links.find(hash_link(self.seed, link), |it| self.columns.link[it as usize] == link)
    }

    fn push_link(&mut self, handle: u32, link: Link) {
        let at = handle as usize;
        let hash = hash_link(self.seed, link);
        let first = self.first_of(link);
        let columns = &mut self.columns;
        columns.link[at] = link;
        columns.prev[at] = NONE;
        columns.next[at] = first.unwrap_or(NONE);
        columns.together[at] = 1;
        match first {
            Some(first) => {
                columns.prev[first as usize] = handle;
                columns.together[at] += columns.together[first as usize];
                self.links.replace(hash, first, handle);
            }
            None => self.links.insert(hash, handle),
        }
    }

    pub(super) fn push_gone(&mut self, now: Time, handle: u32) {
        let at = handle as usize;
        let columns = &mut self.columns;
        columns.since[at] = now;
        columns.next[at] = NONE;
        columns.prev[at] = self.gone.1;
        match self.gone.1 {
            NONE => self.gone.0 = handle,
            last => columns.next[last as usize] = handle,
        }
        self.gone.1 = handle;
    }

    /// Takes an agent out of the list it is in: its connection's, or that of those without one.
    fn detach(&mut self, handle: u32) {
        let at = handle as usize;
        let link = core::mem::replace(&mut self.columns.link[at], NO_LINK);
        let columns = &mut self.columns;
        let (next, prev) = (columns.next[at], columns.prev[at]);
        if next != NONE {
            columns.prev[next as usize] = prev;
        }
        if prev != NONE {
            columns.next[prev as usize] = next;
        }
        if link == NO_LINK {
            if prev == NONE {
                self.gone.0 = next;
            }
            if next == NONE {
                self.gone.1 = prev;
            }
            return;
        }
        let hash = hash_link(self.seed, link);
        if prev != NONE {
            // The index leads to the first, which counts.
            if let Some(first) = self.first_of(link) {
                self.columns.together[first as usize] -= 1;
            }
        } else if next != NONE {
            self.columns.together[next as usize] = self.columns.together[at] - 1;
            self.links.replace(hash, handle, next);
        } else {
            let (seed, links) = (self.seed, &self.columns.link);
            let hash_of = |it: u32| match it {
                it if it == handle => hash,
                it => hash_link(seed, links[it as usize]),
            };
            self.links.remove(hash, handle, hash_of);
        }
    }
}
