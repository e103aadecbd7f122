//! The connections of a plan's targets: a table that is kept from plan to plan.

/// One connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shared {
    /// The connection's number plus one; 0 for an empty place.
    key: u64,
    /// Distance from T, in grains, of the send that is being filled; 0 for none.
    pub(super) slot: u64,
    /// Targets behind it.
    pub(super) targets: u32,
}

/// Open addressing over a power of two, at most half full.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    places: Vec<Shared>,
}

impl Links {
    /// Empties the table, with room for so many connections.
    pub(super) fn begin(&mut self, connections: usize) {
        let places = (2 * connections).next_power_of_two().max(2);
        self.places.clear();
        self.places.resize(places, Shared::default());
    }

    /// The entry of a connection, empty at first. There is always one: connections are at most as
    /// many as the targets that the table was made for.
    pub(super) fn at(&mut self, link: u32) -> &mut Shared {
        let key = u64::from(link) + 1;
        let mask = self.places.len() - 1;
        // Fibonacci hashing: neighbours land far apart.
        let mut at = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
        while self.places[at].key != key && self.places[at].key != 0 {
            at = (at + 1) & mask;
        }
        let place = &mut self.places[at];
        place.key = key;
        place
    }
}
