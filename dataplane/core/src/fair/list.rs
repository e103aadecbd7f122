//! Lists of small numbers, linked through a table: joining and leaving take constant time anywhere,
//! and nothing is allocated after the table is.

const NONE: u32 = u32::MAX;

/// The neighbours of every number that can be in a list: one list of a table at most.
#[derive(Debug)]
pub(super) struct Links(Vec<[u32; 2]>);

impl Links {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![[NONE; 2]; len])
    }
}

/// First and last of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(super) const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// The only one that is in the list.
    pub(super) fn only(&self) -> Option<u32> {
        self.first().filter(|first| *first == self.last)
    }

    /// All, in order.
    pub(super) fn iter<'a>(&self, links: &'a Links) -> impl Iterator<Item = u32> + use<'a> {
        let next = |at: &u32| Some(links.0[*at as usize][1]).filter(|next| *next != NONE);
        std::iter::successors(self.first(), next)
    }

    pub(super) fn push_back(&mut self, links: &mut Links, it: u32) {
        links.0[it as usize] = [self.last, NONE];
        match self.last {
            NONE => self.first = it,
            last => links.0[last as usize][1] = it,
        }
        self.last = it;
    }

    pub(super) fn push_front(&mut self, links: &mut Links, it: u32) {
        links.0[it as usize] = [NONE, self.first];
        match self.first {
            NONE => self.last = it,
            first => links.0[first as usize][0] = it,
        }
        self.first = it;
    }

    /// Takes out one that is in this list.
    pub(super) fn remove(&mut self, links: &mut Links, it: u32) {
        let [before, after] = core::mem::replace(&mut links.0[it as usize], [NONE; 2]);
        match before {
            NONE => self.first = after,
            before => links.0[before as usize][1] = after,
        }
        match after {
            NONE => self.last = before,
            after => links.0[after as usize][0] = before,
        }
    }
}
