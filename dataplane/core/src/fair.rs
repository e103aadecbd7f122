//! Fairness between identities: who holds slots, who waits for what, and whose turn it is.
//!
//! Connections that wait stand in one line per identity and need; the lines are served in turn, one
//! connection at a time, so a thousand connections of one identity get as much as the one of
//! another. While others wait, nobody takes more than its share of the slots past them. What one
//! that holds less than its share leaves over stays for it until the next turn: its next frame may
//! be on its way through a single connection. Everything here takes constant time and allocates
//! nothing.

mod list;

use crate::{driver::ConnId, limits::SHARES_LOOKED_AT, memory::Geometry};
use list::{Links, List};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A chunk, or room in the ring to the mesh; or it has credit again and is to go on.
    Room,
    /// A small slot.
    Small,
    /// A bulk slot.
    Bulk,
}

impl Need {
    pub(crate) const ALL: [Self; 3] = [Self::Room, Self::Small, Self::Bulk];

    /// A slot of this class.
    pub(crate) const fn slot(bulk: bool) -> Self {
        if bulk { Self::Bulk } else { Self::Small }
    }
}

/// One need: a line for each identity, and the identities with somebody in their line, in the order
/// of their turns.
#[derive(Debug)]
struct Round {
    lines: Vec<List>,
    turns: List,
    turn_links: Links,
    waiting: usize,
    /// Slots there are, and how many each identity holds; nobody holds room.
    total: u32,
    held: Vec<u32>,
    /// How many slots each has had, as start-time fair queueing counts (Goyal, Vin, Cheng 1996):
    /// who has had less comes first, and whoever was away is not owed more than all slots once.
    had: Vec<u64>,
    /// What the last that was served had had.
    clock: u64,
    /// Identities that hold or wait.
    active: u32,
    /// One was served in this turn that still holds less than its share: nobody gets more than its
    /// own before the next.
    held_back: bool,
}

impl Round {
    fn new(places: usize, total: u32) -> Self {
        Self {
            lines: vec![List::EMPTY; places],
            turns: List::EMPTY,
            turn_links: Links::new(places),
            waiting: 0,
            total,
            held: vec![0; places],
            had: vec![0; places],
            clock: 0,
            active: 0,
            held_back: false,
        }
    }

    fn is_active(&self, place: usize) -> bool {
        self.held[place] > 0 || !self.lines[place].is_empty()
    }

    /// Changes what an identity holds or who is in its line, and counts it in or out.
    fn change(&mut self, place: usize, change: impl FnOnce(&mut Self)) {
        let before = self.is_active(place);
        change(self);
        match (before, self.is_active(place)) {
            (false, true) => self.active += 1,
            (true, false) => self.active -= 1,
            _ => {}
        }
    }

    /// Whether this identity holds less than its share: all are equal that hold or wait.
    fn is_short(&self, place: usize) -> bool {
        self.held[place] < (self.total / self.active.max(1)).max(1)
    }

    /// Whose turn it is, of the first few: who holds less than its share, then who has had least,
    /// then who has waited longest.
    fn next(&self) -> Option<u32> {
        let few = self.turns.iter(&self.turn_links).take(SHARES_LOOKED_AT);
        few.min_by_key(|place| {
            let place = *place as usize;
            (!self.is_short(place), self.had[place])
        })
    }

    fn others_wait(&self, place: usize) -> bool {
        !self.turns.is_empty() && self.turns.only() != Some(place as u32)
    }
}

/// Who holds and who waits, of one shard.
#[derive(Debug)]
pub(crate) struct Fair {
    rounds: [Round; 3],
    conns: Links,
    /// By connection: the line it stands in.
    standing: Vec<Option<(Need, u32)>>,
}

impl Fair {
    /// For so many identities and connections.
    pub(crate) fn new(geometry: &Geometry, places: usize, connections: u32) -> Self {
        let totals = [0, geometry.small_slots, geometry.bulk_slots];
        Self {
            rounds: totals.map(|total| Round::new(places, total)),
            conns: Links::new(connections as usize),
            standing: vec![None; connections as usize],
        }
    }

    /// Bytes for so many identities.
    pub(crate) const fn bytes(places: u32) -> u64 {
        let each = size_of::<List>() + size_of::<[u32; 2]>() + size_of::<u32>() + size_of::<u64>();
        Need::ALL.len() as u64 * places as u64 * each as u64
    }

    /// Connections that wait for this.
    pub(crate) const fn waiting(&self, need: Need) -> usize {
        self.rounds[need as usize].waiting
    }

    /// Nobody waits for anything.
    pub(crate) fn nobody_waits(&self) -> bool {
        self.rounds.iter().all(|round| round.waiting == 0)
    }

    /// Whether this identity may take a slot past those who wait: it holds less than its share, or
    /// there are no others and nothing is held back for them.
    pub(crate) fn may_take(&self, place: usize, bulk: bool) -> bool {
        let round = &self.rounds[Need::slot(bulk) as usize];
        round.is_short(place) || !(round.others_wait(place) || round.held_back)
    }

    /// A connection of this identity was served, and has what it waited for.
    pub(crate) fn served(&mut self, place: usize, need: Need) {
        let round = &mut self.rounds[need as usize];
        round.held_back |= round.active > 1 && round.is_short(place);
    }

    /// A turn begins: what was held back is for everybody.
    pub(crate) fn begin_turn(&mut self) {
        self.rounds.iter_mut().for_each(|round| round.held_back = false);
    }

    /// Whether something is held back until the next turn.
    pub(crate) fn holds_back(&self) -> bool {
        self.rounds.iter().any(|round| round.held_back)
    }

    /// This identity has taken a slot.
    pub(crate) fn took(&mut self, place: usize, bulk: bool) {
        self.rounds[Need::slot(bulk) as usize].change(place, |round| {
            let least = round.clock.saturating_sub(u64::from(round.total));
            round.held[place] += 1;
            round.had[place] = round.had[place].max(least) + 1;
        });
    }

    /// A slot of this identity is free again.
    pub(crate) fn freed(&mut self, place: usize, bulk: bool) {
        self.rounds[Need::slot(bulk) as usize].change(place, |round| round.held[place] -= 1);
    }

    /// A connection joins its identity's line, at the end or in front.
    pub(crate) fn join(&mut self, conn: ConnId, place: usize, need: Need, front: bool) {
        self.leave(conn);
        self.standing[conn.0 as usize] = Some((need, place as u32));
        let (round, conns) = (&mut self.rounds[need as usize], &mut self.conns);
        round.waiting += 1;
        round.change(place, |round| {
            let line = &mut round.lines[place];
            if line.is_empty() {
                round.turns.push_back(&mut round.turn_links, place as u32);
            }
            if front {
                line.push_front(conns, conn.0);
            } else {
                line.push_back(conns, conn.0);
            }
        });
    }

    /// A connection waits no more, wherever it stood.
    pub(crate) fn leave(&mut self, conn: ConnId) {
        let Some((need, place)) = self.standing[conn.0 as usize].take() else { return };
        let (round, conns) = (&mut self.rounds[need as usize], &mut self.conns);
        round.waiting -= 1;
        round.change(place as usize, |round| {
            let line = &mut round.lines[place as usize];
            line.remove(conns, conn.0);
            if line.is_empty() {
                round.turns.remove(&mut round.turn_links, place);
            }
        });
    }

    /// The connection whose turn it is: the first of the identity whose turn it is. `None` where
    /// nobody waits, or what there is is held back for who does not wait at this moment.
    pub(crate) fn next(&mut self, need: Need) -> Option<ConnId> {
        let round = &mut self.rounds[need as usize];
        let place = round.next()?;
        if round.held_back && !round.is_short(place as usize) {
            return None;
        }
        round.clock = round.clock.max(round.had[place as usize]);
        round.turns.remove(&mut round.turn_links, place);
        round.turns.push_back(&mut round.turn_links, place);
        let conn = ConnId(round.lines[place as usize].first()?);
        self.leave(conn);
        Some(conn)
    }
}

#[cfg(test)]
mod tests;
