//! The tree of nodes (HIER-01..04): the nodes that joined below, and the one above.

pub(crate) mod up;

use crate::{Time, clock::OffsetFilter, gather::tally::clip, node::Peer, sketch::Sketch};
use std::collections::BTreeMap;
use wire::payload::mesh::{ArchivedMeshSummary, Bin, ClusterRow};

/// Clusters of a child that are kept: four times those of a whole fleet (HIER-01).
pub const CHILD_CLUSTERS: usize = 4_096;
/// Bytes of a node's name that are kept.
pub const NAME_MAX: usize = 64;

/// A node below.
#[derive(Debug)]
pub(crate) struct Child {
    pub node_id: [u8; 16],
    pub name: String,
    /// None while it is away.
    pub peer: Option<Peer>,
    /// Counts its joins.
    pub generation: u32,
    /// Its clock against ours.
    pub clock: OffsetFilter,
    pub heard: Time,
    /// Its clusters, sectors in its own numbering.
    pub clusters: Vec<ClusterRow>,
    pub scores: Sketch,
    pub summary_at: Option<Time>,
}

/// All nodes below. Handles are indices: a child that comes back keeps its own.
#[derive(Debug, Default)]
pub(crate) struct Children {
    all: Vec<Child>,
    /// Child and its sector, by our number minus `first`; and the other way round.
    sectors: Vec<(u32, u16)>,
    numbers: BTreeMap<(u32, u16), u16>,
    /// Our first number for sectors of children.
    first: u16,
}

/// Sectors of children that get numbers.
pub const CHILD_SECTORS: usize = 10_000;

impl Children {
    /// Sectors below `first` are the node's own.
    pub(crate) const fn new(first: u16) -> Self {
        Self { all: Vec::new(), sectors: Vec::new(), numbers: BTreeMap::new(), first }
    }

    pub(crate) fn get(&self, handle: u32) -> Option<&Child> {
        self.all.get(handle as usize)
    }

    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut Child> {
        self.all.get_mut(handle as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Child)> {
        self.all.iter().enumerate().map(|(at, child)| (at as u32, child))
    }

    /// The child on this connection.
    pub(crate) fn at(&self, peer: Peer) -> Option<u32> {
        let at = self.all.iter().position(|child| child.peer == Some(peer))?;
        Some(at as u32)
    }

    /// A node joins, or comes back. None: there is no room, or another connection is that node.
    pub(crate) fn join(
        &mut self,
        now: Time,
        peer: Peer,
        node_id: [u8; 16],
        name: &str,
        most: usize,
    ) -> Option<u32> {
        let name = clip(name, NAME_MAX).to_owned();
        if let Some(at) = self.all.iter().position(|child| child.node_id == node_id) {
            let child = &mut self.all[at];
            if child.peer.is_some_and(|other| other != peer) {
                return None;
            }
            // A repeated question on the same connection gets the same answer.
            if child.peer.is_none() {
                child.generation = child.generation.wrapping_add(1).max(1);
                child.clock = OffsetFilter::new();
            }
            (child.peer, child.name, child.heard) = (Some(peer), name, now);
            return Some(at as u32);
        }
        if self.all.len() >= most || self.at(peer).is_some() {
            return None;
        }
        self.all.push(Child {
            node_id,
            name,
            peer: Some(peer),
            generation: 1,
            clock: OffsetFilter::new(),
            heard: now,
            clusters: Vec::new(),
            scores: Sketch::new(),
            summary_at: None,
        });
        Some(self.all.len() as u32 - 1)
    }

    /// Takes a child's summary, sectors get numbers of ours the first time they are heard of.
    /// False: more of them than there is room for; what fits is kept.
    pub(crate) fn summary(&mut self, now: Time, handle: u32, from: &ArchivedMeshSummary) -> bool {
        let Some(child) = self.all.get_mut(handle as usize) else { return false };
        child.summary_at = Some(now);
        child.clusters.clear();
        child.clusters.extend(from.clusters.iter().take(CHILD_CLUSTERS).map(row));
        let bin = |bin: &wire::payload::mesh::ArchivedBin| Bin {
            bin: bin.bin.to_native(),
            count: bin.count.to_native(),
        };
        let scores: Vec<Bin> = from.scores.iter().take(wire::mesh::BINS_MAX).map(bin).collect();
        child.scores = crate::gather::tally::unbin(&scores);
        let mut fits = from.clusters.len() <= CHILD_CLUSTERS;
        for row in &child.clusters {
            let key = (handle, row.sector);
            if self.numbers.contains_key(&key) {
                continue;
            }
            let room = CHILD_SECTORS.min(usize::from((u16::MAX - 1).saturating_sub(self.first)));
            if self.sectors.len() < room {
                self.numbers.insert(key, self.first + self.sectors.len() as u16);
                self.sectors.push(key);
            } else {
                fits = false;
            }
        }
        fits
    }

    /// Our number of a child's sector.
    pub(crate) fn number(&self, child: u32, sector: u16) -> Option<u16> {
        self.numbers.get(&(child, sector)).copied()
    }

    /// Whose sector a number of ours is: the child and its number. None: our own, or nobody's.
    pub(crate) fn owner(&self, number: u16) -> Option<(u32, u16)> {
        let at = number.checked_sub(self.first)?;
        self.sectors.get(usize::from(at)).copied()
    }

    /// Active agents and sectors that a child's last summary knew.
    pub(crate) fn known(&self, handle: u32) -> (u32, u32) {
        let Some(child) = self.get(handle) else { return (0, 0) };
        let active = child.clusters.iter().fold(0_u32, |sum, row| sum.saturating_add(row.active));
        let sectors = self.numbers.range((handle, 0)..=(handle, u16::MAX)).count();
        (active, sectors as u32)
    }
}

/// A row out of a summary; texts are cut at their limit.
fn row(from: &wire::payload::mesh::ArchivedClusterRow) -> ClusterRow {
    let text = |text: &str| clip(text, NAME_MAX).into();
    ClusterRow {
        slowest: text(&from.slowest),
        fastest: text(&from.fastest),
        lead: text(&from.lead),
        age_ns: from.age_ns.to_native(),
        count: from.count.to_native(),
        active: from.active.to_native(),
        degraded: from.degraded.to_native(),
        unstable: from.unstable.to_native(),
        mean: score(from.mean.to_native()),
        p95: score(from.p95.to_native()),
        sector: from.sector.to_native(),
        cluster: from.cluster.to_native(),
        ..ClusterRow::default()
    }
}

/// A score as another node states it, within its range.
fn score(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, crate::limits::SCORE_MAX) }
}
