//! Which slots work for which connection: a list for each, so that what a connection takes back is
//! found among its own requests and never among all.

use crate::{driver::ConnId, memory::SlotId};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    next: u32,
}

/// Lists of slots by connection, the latest first.
#[derive(Debug)]
pub(crate) struct Owned {
    heads: Vec<u32>,
    links: Vec<Link>,
}

impl Owned {
    pub(crate) fn new(connections: u32, slots: u32) -> Self {
        Self {
            heads: vec![NONE; connections as usize],
            links: vec![Link { before: NONE, next: NONE }; slots as usize],
        }
    }

    /// The slot works for this connection from now on.
    pub(crate) fn link(&mut self, conn: ConnId, slot: SlotId) {
        let Some(head) = self.heads.get_mut(conn.0 as usize) else { return };
        let next = core::mem::replace(head, slot.0);
        self.links[slot.0 as usize] = Link { before: NONE, next };
        if let Some(next) = self.links.get_mut(next as usize) {
            next.before = slot.0;
        }
    }

    /// It does not any more.
    pub(crate) fn unlink(&mut self, conn: ConnId, slot: SlotId) {
        let Some(head) = self.heads.get_mut(conn.0 as usize) else { return };
        let Link { before, next } = self.links[slot.0 as usize];
        if *head == slot.0 {
            *head = next;
        }
        if let Some(before) = self.links.get_mut(before as usize) {
            before.next = next;
        }
        if let Some(next) = self.links.get_mut(next as usize) {
            next.before = before;
        }
    }

    /// The slots of a connection.
    pub(crate) fn of(&self, conn: ConnId) -> impl Iterator<Item = SlotId> {
        let head = self.heads.get(conn.0 as usize).copied();
        let next = |at: &u32| self.links.get(*at as usize).map(|link| link.next);
        core::iter::successors(head, next).take_while(|at| *at != NONE).map(SlotId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_connection_has_its_own_slots(
            steps in prop::collection::vec((0..3u32, 0..8u32), 1..100),
        ) {
            let mut owned = Owned::new(3, 8);
            let mut model: [Vec<u32>; 3] = Default::default();
            for (conn, slot) in steps {
                match model.iter().position(|list| list.contains(&slot)) {
                    Some(owner) => {
                        owned.unlink(ConnId(owner as u32), SlotId(slot));
                        model[owner].retain(|s| *s != slot);
                    }
                    None => {
                        owned.link(ConnId(conn), SlotId(slot));
                        model[conn as usize].insert(0, slot);
                    }
                }
                for (conn, list) in (0..).zip(&model) {
                    let slots: Vec<u32> = owned.of(ConnId(conn)).map(|s| s.0).collect();
                    prop_assert_eq!(&slots, list);
                }
            }
        }
    }
}
