//! A hash index of fixed size: finds handles by a key that lies in the registry's columns.

use super::Link;

/// Open addressing with linear probing; at most half full, so probes are short. It stores handles
/// only: the caller says what a handle's key hashes to and whether it is the one looked for.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<u32>,
    mask: usize,
}

const EMPTY: u32 = u32::MAX;

impl Index {
    /// Room for that many handles, without ever growing.
    pub(super) fn new(capacity: u32) -> Self {
        let slots = (capacity as usize * 2).next_power_of_two().max(2);
        Self { slots: vec![EMPTY; slots], mask: slots - 1 }
    }

    /// The handle with this hash for which `same` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let handle = self.slots[at];
            if handle == EMPTY {
                return None;
            }
            if same(handle) {
                return Some(handle);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds a handle that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, handle: u32) {
        let mut at = hash as usize & self.mask;
        while self.slots[at] != EMPTY {
            at = (at + 1) & self.mask;
        }
        self.slots[at] = handle;
    }

    /// Puts `new` where `old` is: both have the same key.
    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(at) = self.place(hash, old) {
            self.slots[at] = new;
        }
    }

    /// Takes a handle out and closes the gap: no tombstones, so an index never degrades.
    pub(super) fn remove(&mut self, hash: u64, handle: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut gap) = self.place(hash, handle) else { return };
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask;
            let moved = self.slots[at];
            if moved == EMPTY {
                break;
            }
            let home = hash_of(moved) as usize & self.mask;
            // It may fill the gap if its home is not between the gap and where it is.
            if at.wrapping_sub(home) & self.mask >= at.wrapping_sub(gap) & self.mask {
                self.slots[gap] = moved;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
    }

    fn place(&self, hash: u64, handle: u32) -> Option<usize> {
        let mut at = hash as usize & self.mask;
        while self.slots[at] != EMPTY {
            if self.slots[at] == handle {
                return Some(at);
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }
}

/// A keyed hash of 128 bits: two multiplications folded, as wyhash does. The seed keeps peers from
/// choosing ids that collide.
#[inline]
fn hash128(seed: u64, low: u64, high: u64) -> u64 {
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    let first = fold(
        low ^ seed ^ 0x9E37_79B9_7F4A_7C15,
        high ^ seed.rotate_left(32) ^ 0xD6E8_FEB8_6659_FD93,
    );
    fold(first ^ 0xA076_1D64_78BD_642F, seed ^ 0xE703_7ED1_A0B4_28DB)
}

/// Hash of an agent's id.
pub(super) fn hash_id(seed: u64, id: &[u8; 16]) -> u64 {
    let wide = u128::from_le_bytes(*id);
    hash128(seed, wide as u64, (wide >> 64) as u64)
}

/// Hash of a connection.
pub(super) fn hash_link(seed: u64, link: Link) -> u64 {
    hash128(seed, u64::from(link.conn) << 32 | u64::from(link.life), u64::from(link.shard))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys of few values, so that probes collide and wrap around.
        #[test]
        fn an_index_is_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..24), 0..200)) {
            let hash_of = |handle: u32| u64::from(handle % 5) * 7;
            let mut index = Index::new(24);
            let mut model = std::collections::BTreeSet::new();
            for (add, handle) in steps {
                if add && model.insert(handle) {
                    index.insert(hash_of(handle), handle);
                } else if !add && model.remove(&handle) {
                    index.remove(hash_of(handle), handle, hash_of);
                }
                for handle in 0..24 {
                    let found = index.find(hash_of(handle), |it| it == handle);
                    prop_assert_eq!(found.is_some(), model.contains(&handle));
                }
            }
        }
    }
}
