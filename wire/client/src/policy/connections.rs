//! The connections of a pool: how many, which one a call goes to, which are pinged or replaced.

use super::backoff;
use std::time::{Duration, Instant};

/// Bounds of a pool's connections (POOL-01 to POOL-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are kept open even when nobody asks.
    pub least: usize,
    /// Most connections at any time, opening and closing ones included.
    pub most: usize,
    /// Most calls under way on one connection. More wait, or get another connection.
    pub in_flight: usize,
    /// A connection beyond `least` that is unused for so long is closed.
    pub idle: Duration,
    /// A connection is replaced at this age at the latest; up to a tenth earlier, by chance, so
    /// that not all of them go at once.
    pub life: Duration,
    /// A connection that is unused for longer is pinged before it is used.
    pub fresh: Duration,
    /// Bounds of the wait between attempts to connect, the first and the longest.
    pub reconnect: (Duration, Duration),
}

impl Limits {
    /// 2 to 16 connections of 64 calls each, 300 s idle, 3,600 s of life, a ping after 1 s.
    pub const DEFAULT: Self = Self {
        least: 2,
        most: 16,
        in_flight: 64,
        idle: Duration::from_secs(300),
        life: Duration::from_secs(3_600),
        fresh: Duration::from_secs(1),
        reconnect: (Duration::from_millis(10), Duration::from_secs(1)),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To this connection, which now counts the call.
    On(u64),
    /// Nowhere yet: ask again when something has changed.
    Wait,
    /// Nowhere: connecting has failed since the call looked first.
    Down,
}

/// What the face has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Connect, and say [`Connections::opened`] or [`Connections::failed`].
    Open(u64),
    /// Ping, and say [`Connections::checked`] or [`Connections::broke`].
    Ping(u64),
    /// Close; the machine has forgotten it.
    Close(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    /// To be pinged, or waiting for the echo.
    Checking {
        asked: bool,
    },
    /// Takes no more calls, and closes after the last.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    key: u64,
    state: State,
    in_flight: usize,
    used: Instant,
    ends: Instant,
    /// The peer is not confirmed yet (0-RTT): only for what may be replayed.
    early: bool,
    /// The node has answered on it.
    proved: bool,
}

/// All connections of a pool.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    members: Vec<Member>,
    next: u64,
    /// A call found no place since the last connection was begun.
    wanted: bool,
    /// Connections in a row that failed, or ended before the node answered.
    misses: u32,
    reopen: Instant,
    failures: u64,
}

impl Connections {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let most = limits.most.max(1);
        let limits = Limits {
            most,
            least: limits.least.min(most),
            in_flight: limits.in_flight.max(1),
            ..limits
        };
        let members = Vec::with_capacity(most);
        Self { limits, members, next: 1, wanted: false, misses: 0, reopen: now, failures: 0 }
    }

    /// Attempts to connect that failed so far.
    pub(crate) const fn failures(&self) -> u64 {
        self.failures
    }

    /// Connections that exist, in any state.
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// Calls under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.members.iter().map(|member| member.in_flight).sum()
    }

    /// A place for a call: on the connection with the fewest calls, the oldest of equals, so that
    /// those beyond need fall idle. `replayable` calls may go before the peer is confirmed. `seen`
    /// is what [`Self::failures`] was when the call began.
    pub(crate) fn acquire(&mut self, replayable: bool, seen: u64, now: Instant) -> Place {
        let Limits { in_flight, fresh, .. } = self.limits;
        let open = |member: &&mut Member| {
            member.state == State::Open
                && member.in_flight < in_flight
                && (replayable || !member.early)
        };
        let usable = |member: &&mut Member| {
            member.in_flight > 0 || now.saturating_duration_since(member.used) <= fresh
        };
        let best = self.members.iter_mut().filter(open).filter(usable);
        if let Some(member) = best.min_by_key(|member| member.in_flight) {
            member.in_flight += 1;
            return Place::On(member.key);
        }
        if let Some(stale) = self.members.iter_mut().find(open) {
            stale.state = State::Checking { asked: false };
            return Place::Wait;
        }
        if self.members.iter().any(|member| matches!(member.state, State::Checking { .. })) {
            return Place::Wait;
        }
        let any = self.members.iter().any(|member| member.state == State::Open);
        if self.failures > seen && !any {
            return Place::Down;
        }
        self.wanted |= !self.is_opening();
        Place::Wait
    }

    /// A call is over; `answered` where the node said something to it.
    pub(crate) fn release(&mut self, key: u64, answered: bool, now: Instant) {
        if let Some(member) = self.member(key) {
            member.in_flight = member.in_flight.saturating_sub(1);
            if answered {
                member.used = now;
                self.prove(key);
            }
        }
    }

    /// Connected. With `early`, only what may be replayed goes there until [`Self::confirmed`].
    pub(crate) fn opened(&mut self, key: u64, early: bool, now: Instant, random: f64) {
        let life = self.limits.life.mul_f64(1.0 - random.clamp(0.0, 1.0) / 10.0);
        if let Some(member) = self.member(key) {
            let ends = now.checked_add(life).unwrap_or(member.ends);
            *member = Member { state: State::Open, used: now, ends, early, ..*member };
        }
    }

    /// The peer of an early connection is known.
    pub(crate) fn confirmed(&mut self, key: u64) {
        if let Some(member) = self.member(key) {
            member.early = false;
        }
    }

    /// Connecting failed; `random` is in [0, 1).
    pub(crate) fn failed(&mut self, key: u64, now: Instant, random: f64) {
        self.members.retain(|member| member.key != key);
        self.failures += 1;
        self.miss(now, random);
    }

    /// The ping came back.
    pub(crate) fn checked(&mut self, key: u64, now: Instant) {
        self.prove(key);
        if let Some(member) = self.member(key)
            && let State::Checking { .. } = member.state
        {
            *member = Member { state: State::Open, used: now, ..*member };
        }
    }

    /// The connection is over. One that ended before the node had answered anything counts as one
    /// that failed, so that a node that accepts and closes is not called in a circle.
    pub(crate) fn broke(&mut self, key: u64, now: Instant, random: f64) {
        let Some(at) = self.members.iter().position(|member| member.key == key) else { return };
        if !self.members.remove(at).proved {
            self.miss(now, random);
        }
    }

    /// Something to do now, until there is nothing.
    pub(crate) fn act(&mut self, now: Instant) -> Option<Act> {
        if let Some(key) = self.leave(now) {
            return Some(Act::Close(key));
        }
        let asked = State::Checking { asked: true };
        let unasked = |member: &&mut Member| member.state == State::Checking { asked: false };
        if let Some(member) = self.members.iter_mut().find(unasked) {
            member.state = asked;
            return Some(Act::Ping(member.key));
        }
        if !self.needs_one() || now < self.reopen {
            return None;
        }
        self.wanted = false;
        let key = self.next;
        self.next += 1;
        self.members.push(Member {
            key,
            state: State::Opening,
            in_flight: 0,
            used: now,
            ends: now + self.limits.life,
            early: false,
            proved: false,
        });
        Some(Act::Open(key))
    }

    /// When [`Self::act`] may have something to do although nothing was reported.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let surplus = self.staying() > self.limits.least;
        let ends = self.members.iter().filter(|member| member.state == State::Open).map(|member| {
            let idle = member.used + self.limits.idle;
            if surplus && member.in_flight == 0 { member.ends.min(idle) } else { member.ends }
        });
        ends.chain(self.needs_one().then_some(self.reopen)).min()
    }

    /// One that is to be closed now: too old, or idle for too long and one too many.
    fn leave(&mut self, now: Instant) -> Option<u64> {
        let mut surplus = self.staying().saturating_sub(self.limits.least);
        for member in self.members.iter_mut().filter(|member| member.state == State::Open) {
            let idle = member.in_flight == 0
                && now.saturating_duration_since(member.used) >= self.limits.idle;
            if now >= member.ends || (idle && surplus > 0) {
                member.state = State::Leaving;
                surplus = surplus.saturating_sub(1);
            }
        }
        let done = |member: &Member| member.state == State::Leaving && member.in_flight == 0;
        let at = self.members.iter().position(done)?;
        Some(self.members.remove(at).key)
    }

    fn needs_one(&self) -> bool {
        let cold = self.staying() < self.limits.least;
        let wanted = self.wanted && !self.is_opening();
        self.members.len() < self.limits.most && (cold || wanted)
    }

    fn is_opening(&self) -> bool {
        self.members.iter().any(|member| member.state == State::Opening)
    }

    fn staying(&self) -> usize {
        self.members.iter().filter(|member| member.state != State::Leaving).count()
    }

    fn member(&mut self, key: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.key == key)
    }

    fn prove(&mut self, key: u64) {
        if let Some(member) = self.member(key) {
            member.proved = true;
            self.misses = 0;
        }
    }

    fn miss(&mut self, now: Instant, random: f64) {
        self.misses = self.misses.saturating_add(1);
        let (first, most) = self.limits.reconnect;
        self.reopen = now + backoff(first, most, self.misses, random);
    }
}

#[cfg(test)]
mod tests;
