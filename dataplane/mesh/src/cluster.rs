//! Clusters of agents with similar impedance (HIER-01, HIER-05): who sits where.
//!
//! A cluster holds agents of one class and one band of the score, as long as there are clusters
//! left; in a full house a newcomer takes the seat that is nearest to its kind, so a registry that
//! has room for an agent always has a seat for it.

use wire::mesh::AgentClass;

use crate::limits::{BANDS, CLUSTER_AGENTS, SECTOR_CLUSTERS};

mod name;

pub use name::{Name, Named};

/// No handle, no cluster, no lead.
pub(crate) const NONE: u32 = u32::MAX;
const NO_SEAT: u8 = u8::MAX;
const CLASSES: usize = AgentClass::ALL.len();
const KEYS: usize = CLASSES * (BANDS.len() + 1);
/// Key of a cluster without agents.
const FREE: u8 = u8::MAX;

/// A place in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat {
    /// Number of the cluster in the whole fleet: sector x 10 + cluster of the sector.
    pub cluster: u32,
    /// 0 to 29.
    pub position: u8,
}

impl Seat {
    /// The sector this seat is in.
    #[must_use]
    pub const fn sector(self) -> u16 {
        sector_of(self.cluster)
    }

    /// What people call it: `S07-C04-A12`.
    #[must_use]
    pub const fn name(self) -> Name {
        Name {
            sector: self.sector(),
            cluster: (self.cluster % SECTOR_CLUSTERS as u32) as u8,
            agent: self.position,
        }
    }
}

/// The sector of a cluster.
#[must_use]
pub const fn sector_of(cluster: u32) -> u16 {
    (cluster / SECTOR_CLUSTERS as u32) as u16
}

/// The band of a score: clusters hold agents of one class and one band.
#[must_use]
pub fn band_of(score: f32) -> u8 {
    BANDS.iter().take_while(|end| score >= **end).count() as u8
}

/// What the agents of a cluster have in common.
pub(crate) const fn key_of(class: AgentClass, band: u8) -> u8 {
    class.code() * (BANDS.len() as u8 + 1) + band
}

/// All clusters of a registry: seats, kinds, leads. Fixed memory.
#[derive(Debug)]
pub struct Clusters {
    seats: Vec<[u32; CLUSTER_AGENTS]>,
    taken: Vec<u8>,
    /// Class and band, or free.
    keys: Vec<u8>,
    /// Position of the lead, or none.
    leads: Vec<u8>,
    /// Lists of the clusters of one key that have room.
    next: Vec<u32>,
    prev: Vec<u32>,
    heads: [u32; KEYS],
    /// One bit per cluster that is free; no free one before word `hint`.
    free: Vec<u64>,
    hint: usize,
}

impl Clusters {
    /// Clusters for that many agents, all free.
    pub(crate) fn new(capacity: u32) -> Self {
        let count = (capacity as usize).div_ceil(CLUSTER_AGENTS);
        let mut free = vec![u64::MAX; count.div_ceil(64)];
        if !count.is_multiple_of(64) {
            free[count / 64] = (1 << (count % 64)) - 1;
        }
        Self {
            seats: vec![[NONE; CLUSTER_AGENTS]; count],
            taken: vec![0; count],
            keys: vec![FREE; count],
            leads: vec![NO_SEAT; count],
            next: vec![NONE; count],
            prev: vec![NONE; count],
            heads: [NONE; KEYS],
            free,
            hint: 0,
        }
    }

    /// Clusters there are, taken or free.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.seats.len() as u32
    }

    /// Sectors there are.
    #[must_use]
    pub const fn sectors(&self) -> u16 {
        self.seats.len().div_ceil(SECTOR_CLUSTERS) as u16
    }

    /// The clusters of a sector; none of an unknown one.
    #[must_use]
    pub fn of_sector(&self, sector: u16) -> core::ops::Range<u32> {
        let first = (u32::from(sector) * SECTOR_CLUSTERS as u32).min(self.count());
        first..(first + SECTOR_CLUSTERS as u32).min(self.count())
    }

    /// Handles of a cluster's agents, by position; none of an unknown cluster.
    pub fn members(&self, cluster: u32) -> impl Iterator<Item = u32> + '_ {
        let seats = self.seats.get(cluster as usize).map_or(&[][..], |seats| &seats[..]);
        seats.iter().copied().filter(|handle| *handle != NONE)
    }

    /// How many agents a cluster has.
    #[must_use]
    pub fn taken(&self, cluster: u32) -> usize {
        self.taken.get(cluster as usize).copied().map_or(0, usize::from)
    }

    /// The handle at a seat.
    #[must_use]
    pub fn at(&self, seat: Seat) -> Option<u32> {
        let handle = *self.seats.get(seat.cluster as usize)?.get(usize::from(seat.position))?;
        (handle != NONE).then_some(handle)
    }

    /// The lead's handle, where the cluster has one (HIER-04).
    #[must_use]
    pub fn lead(&self, cluster: u32) -> Option<u32> {
        let position = *self.leads.get(cluster as usize)?;
        self.at(Seat { cluster, position })
    }

    pub(crate) fn set_lead(&mut self, cluster: u32, lead: Option<Seat>) {
        self.leads[cluster as usize] = lead.map_or(NO_SEAT, |seat| seat.position);
    }

    /// What the cluster's agents have in common, none for a free cluster.
    pub(crate) fn key(&self, cluster: u32) -> Option<u8> {
        self.keys.get(cluster as usize).copied().filter(|key| *key != FREE)
    }

    /// A seat among its kind: in a cluster that has room, in a free one, or in the nearest kind's.
    /// None where every seat is taken.
    pub(crate) fn join(&mut self, handle: u32, key: u8) -> Option<Seat> {
        if self.join_kind(key).is_none() {
            let nearest = self.nearest(key)?;
            return Some(self.sit(handle, self.heads[nearest]));
        }
        Some(self.sit(handle, self.heads[usize::from(key)]))
    }

    /// Another seat, among its new kind. None, and the old seat kept, where its kind has no room.
    pub(crate) fn transfer(&mut self, handle: u32, from: Seat, key: u8) -> Option<Seat> {
        let cluster = self.join_kind(key)?;
        self.leave(from);
        Some(self.sit(handle, cluster))
    }

    /// This very seat, in a cluster of this kind. False where it is taken, unknown, or the cluster
    /// has another kind.
    pub(crate) fn claim(&mut self, handle: u32, seat: Seat, key: u8) -> bool {
        let cluster = seat.cluster as usize;
        let known = cluster < self.seats.len() && usize::from(seat.position) < CLUSTER_AGENTS;
        if !known || usize::from(key) >= KEYS || self.at(seat).is_some() {
            return false;
        }
        if self.keys[cluster] == FREE {
            self.open(seat.cluster, key);
        }
        if self.keys[cluster] != key {
            return false;
        }
        self.put(handle, seat);
        true
    }

    /// Gives a seat up. The last agent to leave frees the cluster. The caller sees to the lead.
    pub(crate) fn leave(&mut self, seat: Seat) {
        let cluster = seat.cluster as usize;
        self.seats[cluster][usize::from(seat.position)] = NONE;
        if usize::from(self.taken[cluster]) == CLUSTER_AGENTS {
            self.link(seat.cluster);
        }
        self.taken[cluster] -= 1;
        if self.taken[cluster] == 0 {
            self.unlink(seat.cluster);
            self.keys[cluster] = FREE;
            self.free[cluster / 64] |= 1 << (cluster % 64);
            self.hint = self.hint.min(cluster / 64);
        }
    }

    /// A cluster of this kind that has room: the latest that got room, or the first free one.
    fn join_kind(&mut self, key: u8) -> Option<u32> {
        let head = self.heads[usize::from(key)];
        if head != NONE {
            return Some(head);
        }
        let word = (self.hint..self.free.len()).find(|word| self.free[*word] != 0);
        self.hint = word.unwrap_or(self.free.len());
        let cluster = word? as u32 * 64 + self.free[word?].trailing_zeros();
        self.open(cluster, key);
        Some(cluster)
    }

    /// The kind with room that is nearest: same class before other classes, then the band.
    fn nearest(&self, key: u8) -> Option<usize> {
        let bands = BANDS.len() + 1;
        let (class, band) = (usize::from(key) / bands, usize::from(key) % bands);
        let far = |other: usize| (class.abs_diff(other / bands), band.abs_diff(other % bands));
        (0..KEYS).filter(|other| self.heads[*other] != NONE).min_by_key(|other| far(*other))
    }

    fn open(&mut self, cluster: u32, key: u8) {
        let at = cluster as usize;
        self.keys[at] = key;
        self.free[at / 64] &= !(1 << (at % 64));
        self.link(cluster);
    }

    fn sit(&mut self, handle: u32, cluster: u32) -> Seat {
        let seats = &self.seats[cluster as usize];
        let position = seats.iter().position(|seat| *seat == NONE).unwrap_or(0) as u8;
        let seat = Seat { cluster, position };
        self.put(handle, seat);
        seat
    }

    fn put(&mut self, handle: u32, seat: Seat) {
        let cluster = seat.cluster as usize;
        self.seats[cluster][usize::from(seat.position)] = handle;
        self.taken[cluster] += 1;
        if usize::from(self.taken[cluster]) == CLUSTER_AGENTS {
            self.unlink(seat.cluster);
        }
    }

    fn link(&mut self, cluster: u32) {
        let head = &mut self.heads[usize::from(self.keys[cluster as usize])];
        self.next[cluster as usize] = *head;
        self.prev[cluster as usize] = NONE;
        if *head != NONE {
            self.prev[*head as usize] = cluster;
        }
        *head = cluster;
    }

    fn unlink(&mut self, cluster: u32) {
        let (next, prev) = (self.next[cluster as usize], self.prev[cluster as usize]);
        if next != NONE {
            self.prev[next as usize] = prev;
        }
        if prev == NONE {
            self.heads[usize::from(self.keys[cluster as usize])] = next;
        } else {
            self.next[prev as usize] = next;
        }
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> usize {
        self.seats.capacity() * (size_of::<[u32; CLUSTER_AGENTS]>() + 2 * 4 + 3)
            + self.free.capacity() * 8
            + size_of::<Self>()
    }
}
