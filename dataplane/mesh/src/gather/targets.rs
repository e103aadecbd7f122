//! Each target's one outcome, in a flat array that is used again by later gathers.

use crate::{Time, plan::Planned};
use wire::mesh::AgentClass;

/// What became of a target. It only ever moves forward, and each target is in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Chosen; its phase has not come.
    Waiting,
    /// Got no send time, or lost it.
    Skipped,
    /// Has a send time; nothing came back.
    Silent,
    /// As [`State::Silent`], and its connection is gone: nothing will come.
    Lost,
    /// Said that it is under way.
    Transit,
    /// READY.
    Ready,
    /// CONFLICT.
    Conflict,
}

/// One target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub handle: u32,
    pub generation: u32,
    pub send_at: Time,
    pub lead_us: u32,
    pub owd_us: u32,
    pub processing_us: u32,
    /// Queue that the plan was made for.
    pub queue: u32,
    /// Number of the volley, and the shard.
    pub volley: u32,
    pub shard: u16,
    pub class: AgentClass,
    pub state: State,
    /// Whether its READY missed the forecast widely, where that is known.
    pub wide: Option<bool>,
}

/// All targets of a gather.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    rows: Vec<Target>,
    /// By handle: the row's index plus one, 0 for none.
    index: Vec<u32>,
    /// Rows that a further answer may come from.
    open: u32,
}

impl Targets {
    /// Takes these in, in place of what was there. `capacity`: handles are below it.
    pub(crate) fn fill(&mut self, capacity: u32, rows: impl Iterator<Item = Target>) {
        self.clear();
        self.index.resize(capacity as usize, 0);
        self.rows.extend(rows);
        for (at, row) in self.rows.iter().enumerate() {
            if let Some(index) = self.index.get_mut(row.handle as usize) {
                *index = at as u32 + 1;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        for row in self.rows.drain(..) {
            if let Some(index) = self.index.get_mut(row.handle as usize) {
                *index = 0;
            }
        }
        self.open = 0;
    }

    pub(crate) fn rows(&self) -> &[Target] {
        &self.rows
    }

    pub(crate) fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    pub(crate) const fn open(&self) -> u32 {
        self.open
    }

    /// The row of an agent, if it is a target.
    pub(crate) fn find(&self, handle: u32) -> Option<usize> {
        let at = (*self.index.get(handle as usize)?).checked_sub(1)?;
        Some(at as usize)
    }

    /// Gives a waiting target its send time.
    pub(crate) fn schedule(&mut self, at: usize, planned: &Planned, volley: u32, shard: u16) {
        let us = |time: Time| u32::try_from(time / 1_000).unwrap_or(u32::MAX);
        let row = &mut self.rows[at];
        debug_assert_eq!(row.state, State::Waiting);
        row.send_at = planned.send_at;
        row.lead_us = us(planned.lead);
        row.owd_us = us(planned.owd);
        row.processing_us = us(planned.processing);
        row.volley = volley;
        row.shard = shard;
        row.state = State::Silent;
        self.open += 1;
    }

    /// Takes a target out that waits, or whose copy never left.
    pub(crate) fn skip(&mut self, at: usize) {
        let row = &mut self.rows[at];
        debug_assert!(matches!(row.state, State::Waiting | State::Silent | State::Lost));
        self.open -= u32::from(row.state == State::Silent);
        row.state = State::Skipped;
    }

    /// Moves a target on. False where it has its final answer, or none can come: the answer does
    /// not count.
    pub(crate) fn answer(&mut self, at: usize, state: State) -> bool {
        let row = &mut self.rows[at];
        let moves = match (row.state, state) {
            (State::Silent, State::Transit) => true,
            (State::Silent | State::Transit, State::Ready | State::Conflict) => {
                self.open -= 1;
                true
            }
            _ => false,
        };
        if moves {
            row.state = state;
        }
        moves
    }

    /// Notes whether a target missed its forecast widely.
    pub(crate) fn time(&mut self, at: usize, wide: Option<bool>) {
        self.rows[at].wide = wide;
    }

    /// The agent's connection is gone: no further answer can come. A TRANSIT stays one, and is not
    /// waited for; answers need the connection, so that none follows.
    pub(crate) fn lose(&mut self, handle: u32) {
        let Some(at) = self.find(handle) else { return };
        let row = &mut self.rows[at];
        match row.state {
            State::Silent => {
                row.state = State::Lost;
                self.open -= 1;
            }
            State::Transit if row.generation != GONE => {
                row.generation = GONE;
                self.open -= 1;
            }
            _ => {}
        }
    }
}

/// A generation that no registration has: registrations count from 1.
const GONE: u32 = 0;
