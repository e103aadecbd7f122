//! What is under way on each connection, found again by message id in one step.

use dataplane_core::driver::Time;

/// Bits of a message id that name the place in the window; the rest counts, so that no id comes
/// twice.
const PLACE_BITS: u32 = 16;

/// Deepest window of one connection.
pub const DEPTH_MAX: u32 = 1 << PLACE_BITS;

/// One request under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flight {
    /// Its message id; 0 for a free place.
    id: u64,
    /// When it should have left: latency counts from here.
    pub planned: Time,
    /// Which template it was made from.
    pub template: u32,
    /// Whether it counts, or only warms up.
    pub measured: bool,
}

/// What a message id in a reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The request it answers; its place is free again.
    Found(Flight),
    /// It was answered before (or its count was used, though for another place).
    Duplicate,
    /// Nothing with its count or its place was ever sent.
    Unknown,
}

/// The windows of all connections of a thread: `depth` places each.
#[derive(Debug)]
pub struct Windows {
    depth: u32,
    flights: Vec<Flight>,
    free: Vec<u16>,
    free_len: Vec<u32>,
    issued: Vec<u64>,
}

impl Windows {
    /// `connections` empty windows of `depth` places.
    ///
    /// # Panics
    /// If `depth` is 0 or over [`DEPTH_MAX`].
    #[must_use]
    pub fn new(connections: usize, depth: u32) -> Self {
        assert!(depth > 0 && depth <= DEPTH_MAX);
        let places = connections * depth as usize;
        Self {
            depth,
            flights: vec![Flight::default(); places],
            free: (0..places).map(|place| (place % depth as usize) as u16).collect(),
            free_len: vec![depth; connections],
            issued: vec![0; connections],
        }
    }

    /// Whether another request fits on this connection.
    #[must_use]
    #[inline]
    pub fn has_room(&self, conn: usize) -> bool {
        self.free_len[conn] > 0
    }

    /// Requests under way on this connection.
    #[must_use]
    pub fn under_way(&self, conn: usize) -> u32 {
        self.depth - self.free_len[conn]
    }

    /// Takes a place and returns the message id to send, or `None` when the window is full.
    #[inline]
    pub fn depart(
        &mut self,
        conn: usize,
        planned: Time,
        template: u32,
        measured: bool,
    ) -> Option<u64> {
        let left = self.free_len[conn].checked_sub(1)?;
        self.free_len[conn] = left;
        let base = conn * self.depth as usize;
        let place = self.free[base + left as usize];
        self.issued[conn] += 1;
        let id = self.issued[conn] << PLACE_BITS | u64::from(place);
        self.flights[base + place as usize] = Flight { id, planned, template, measured };
        Some(id)
    }

    /// Looks up and frees the place of the request with this id.
    #[inline]
    pub fn land(&mut self, conn: usize, id: u64) -> Landing {
        let place = (id & u64::from(u16::MAX)) as u32;
        let count = id >> PLACE_BITS;
        if place >= self.depth || count == 0 || count > self.issued[conn] {
            return Landing::Unknown;
        }
        let base = conn * self.depth as usize;
        let flight = &mut self.flights[base + place as usize];
        if flight.id != id {
            return Landing::Duplicate;
        }
        let found = core::mem::take(flight);
        let len = &mut self.free_len[conn];
        self.free[base + *len as usize] = place as u16;
        *len += 1;
        Landing::Found(found)
    }

    /// Gives up all that is under way on this connection and returns how many measured requests
    /// that were. The ids stay used, so that a late reply is still told from a fresh one.
    pub fn abandon(&mut self, conn: usize) -> u64 {
        let base = conn * self.depth as usize;
        let flights = &mut self.flights[base..base + self.depth as usize];
        let lost = flights.iter().filter(|flight| flight.id != 0 && flight.measured).count();
        flights.fill(Flight::default());
        for place in 0..self.depth {
            self.free[base + place as usize] = place as u16;
        }
        self.free_len[conn] = self.depth;
        lost as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn duplicates_and_strangers_are_told_apart() {
        let mut windows = Windows::new(2, 2);
        let id = windows.depart(1, 7, 3, true).expect("room");
        assert_eq!(windows.land(0, id), Landing::Unknown);
        assert_eq!(windows.land(1, id + 2), Landing::Unknown, "a place outside of the window");
        assert_eq!(windows.land(1, id + (1 << PLACE_BITS)), Landing::Unknown);
        assert_eq!(windows.land(1, 0), Landing::Unknown);
        let Landing::Found(flight) = windows.land(1, id) else { panic!("not found") };
        assert_eq!((flight.planned, flight.template, flight.measured), (7, 3, true));
        assert_eq!(windows.land(1, id), Landing::Duplicate);
    }

    #[test]
    fn abandoned_requests_are_counted_once() {
        let mut windows = Windows::new(1, 3);
        let measured = windows.depart(0, 1, 0, true).expect("room");
        windows.depart(0, 1, 0, false).expect("room");
        assert_eq!(windows.under_way(0), 2);
        assert_eq!(windows.abandon(0), 1);
        assert_eq!(windows.abandon(0), 0);
        assert_eq!(windows.land(0, measured), Landing::Duplicate);
        assert_eq!(windows.under_way(0), 0);
    }

    proptest! {
        #[test]
        fn a_window_agrees_with_a_map(
            steps in prop::collection::vec((0..3usize, 0..9usize), 1..300),
        ) {
            let mut windows = Windows::new(3, 4);
            let mut model: Vec<HashMap<u64, u64>> = vec![HashMap::new(); 3];
            let mut seen: Vec<HashSet<u64>> = vec![HashSet::new(); 3];
            for (at, (conn, choice)) in steps.into_iter().enumerate() {
                if choice < 5 {
                    match windows.depart(conn, at as u64, 0, true) {
                        Some(id) => {
                            prop_assert!(seen[conn].insert(id), "an id came twice");
                            model[conn].insert(id, at as u64);
                        }
                        None => prop_assert_eq!(model[conn].len(), 4),
                    }
                } else if let Some(&id) = model[conn].keys().min() {
                    let planned = model[conn].remove(&id);
                    match windows.land(conn, id) {
                        Landing::Found(flight) => prop_assert_eq!(Some(flight.planned), planned),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                prop_assert_eq!(windows.under_way(conn) as usize, model[conn].len());
                prop_assert_eq!(windows.has_room(conn), model[conn].len() < 4);
            }
        }
    }
}
