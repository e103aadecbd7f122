//! Streams by key. A key names one life of an entry, so that what comes late finds nothing.

/// A stream of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Its place in the table, below the limit of streams in all.
    pub index: u32,
    /// Which life of that place.
    pub generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A table that grows up to a limit and reuses what is free.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    at_most: u32,
}

impl<T> Table<T> {
    pub(crate) const fn new(at_most: u32) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), at_most }
    }

    /// Puts a value in, or gives it back where the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<StreamKey, T> {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return Ok(StreamKey { index, generation: entry.generation });
        }
        let index = self.entries.len() as u32;
        if index >= self.at_most {
            return Err(value);
        }
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Ok(StreamKey { index, generation: 0 })
    }

    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        entry.value.as_mut().filter(|_| entry.generation == key.generation)
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<T> {
        self.get_mut(key)?;
        let entry = &mut self.entries[key.index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        entry.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_nothing_and_a_full_table_says_so() {
        let mut table = Table::new(2);
        let first = table.insert('a').expect("room");
        let second = table.insert('b').expect("room");
        assert_eq!(table.insert('c'), Err('c'));
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!((table.remove(first), table.get_mut(first)), (None, None));
        let third = table.insert('d').expect("room");
        assert_eq!(third.index, first.index);
        assert_ne!(third, first);
        assert_eq!(table.get_mut(second), Some(&mut 'b'));
    }
}
