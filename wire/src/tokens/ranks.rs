//! A table that numbers ids by how often they occur, so that frequent ones take one byte.

use twox_hash::XxHash64;

/// The most ids of a table.
pub const RANKS_MAX: usize = 1 << 20;

/// Ids in order of frequency. Both sides hold the same table; packed tokens name it by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    ids: Vec<u32>,
    /// The rank of each id up to the largest, or `NONE`.
    of_id: Vec<u32>,
    hash: u64,
}

const NONE: u32 = u32::MAX;

impl Ranks {
    /// A table of these ids, the most frequent first.
    ///
    /// `None` if there are more than [`RANKS_MAX`], one is not below that, or one comes twice.
    #[must_use]
    pub fn new(ids: Vec<u32>) -> Option<Self> {
        if ids.len() > RANKS_MAX {
            return None;
        }
        let end = ids.iter().max().map_or(0, |most| *most as usize + 1);
        if end > RANKS_MAX {
            return None;
        }
        let mut of_id = vec![NONE; end];
        for (rank, id) in ids.iter().enumerate() {
            let place = of_id.get_mut(*id as usize)?;
            if *place != NONE {
                return None;
            }
            *place = rank as u32;
        }
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let hash = XxHash64::oneshot(0, &bytes);
        Some(Self { ids, of_id, hash })
    }

    /// A table of all ids below `vocabulary`: those of `text` by how often they come, then the
    /// others, equal ones in order.
    ///
    /// `None` if `vocabulary` is over [`RANKS_MAX`] or an id of `text` is not below it.
    #[must_use]
    pub fn of_text(text: &[u32], vocabulary: usize) -> Option<Self> {
        if vocabulary > RANKS_MAX {
            return None;
        }
        let mut counts = vec![0_u64; vocabulary];
        for id in text {
            *counts.get_mut(*id as usize)? += 1;
        }
        let mut ids: Vec<(u64, u32)> = counts.into_iter().zip(0..).collect();
        ids.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        Self::new(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// The ids, the most frequent first.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// XXH64 (seed 0) of the ids as little-endian u32.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The number that stands for an id: its rank, or what it lies beyond the table.
    pub(super) fn number(&self, id: u32) -> u64 {
        match self.of_id.get(id as usize) {
            Some(rank) if *rank != NONE => u64::from(*rank),
            _ => self.ids.len() as u64 + u64::from(id),
        }
    }

    /// The id for a number; `None` for a number that none has.
    pub(super) fn id(&self, number: u64) -> Option<u32> {
        let Some(beyond) = number.checked_sub(self.ids.len() as u64) else {
            return self.ids.get(number as usize).copied();
        };
        let id = u32::try_from(beyond).ok()?;
        (self.number(id) == number).then_some(id)
    }
}
