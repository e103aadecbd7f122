//! The mesh's ends of the ports of all shards, and the bells beside them.
//!
//! One mesh thread, on any core, takes what comes up, pushes what goes down, and sleeps on its
//! door with a time limit. It never waits for a shard: what a ring down does not take is kept here,
//! and while too much is kept, nothing more is taken from above.

use dataplane_core::mesh_port::{Down, MeshEnd, MeshPort, Up, port};
use dataplane_uring::Bell;
use link::door::Door;
use std::{collections::VecDeque, io, sync::Arc};

/// Room of a ring up, per shard: a heartbeat and an answer of every agent of a large node.
const UP: usize = 16 << 10;
/// Room of a ring down, per shard.
const DOWN: usize = 8 << 10;
/// What may be kept for one shard before the mesh stops taking frames.
const KEPT_MAX: usize = 64 << 10;

/// Bytes of one shard's rings.
pub(crate) const BYTES: u64 = MeshPort::bytes(UP, DOWN);

/// A shard's side of its link.
#[derive(Debug)]
pub(crate) struct Berth {
    /// The shard's end.
    pub(crate) port: MeshPort,
    /// Wakes the shard.
    pub(crate) own: Arc<Bell>,
    /// Wakes the mesh.
    pub(crate) mesh: Arc<Bell>,
}

#[derive(Debug)]
struct Link {
    end: MeshEnd,
    /// Wakes the shard.
    bell: Arc<Bell>,
    /// What the ring down did not take, in order.
    kept: VecDeque<Down>,
}

/// The mesh thread's side of all links.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
    bell: Arc<Bell>,
}

impl Links {
    /// Links to so many shards, and the shards' sides of them.
    ///
    /// # Errors
    /// The OS's: too many open files.
    pub(crate) fn new(shards: usize) -> io::Result<(Self, Vec<Berth>)> {
        let mesh = Arc::new(Bell::new()?);
        let mut links = Vec::new();
        let mut berths = Vec::new();
        for _ in 0..shards {
            let (port, end) = port(UP, DOWN);
            let own = Arc::new(Bell::new()?);
            links.push(Link { end, bell: Arc::clone(&own), kept: VecDeque::new() });
            berths.push(Berth { port, own, mesh: Arc::clone(&mesh) });
        }
        Ok((Self { links, bell: mesh }, berths))
    }

    /// Shards.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// What the mesh thread sleeps on. Others may ring it, too.
    pub(crate) fn door(&self) -> Arc<Door> {
        Arc::clone(self.bell.door())
    }

    /// The next thing from a shard. Nothing, too, while too much is kept for some shard.
    pub(crate) fn pop(&mut self, shard: usize) -> Option<Up> {
        if self.links.iter().any(|link| link.kept.len() >= KEPT_MAX) {
            return None;
        }
        self.links.get_mut(shard)?.end.pop()
    }

    /// To be called after taking from a shard: lets it go on if it waited for room.
    pub(crate) fn after_taking(&self, shard: usize) {
        if let Some(link) = self.links.get(shard)
            && link.end.made_room()
        {
            link.bell.ring();
        }
    }

    /// Tells a shard something, after all it was told before, and wakes it if it sleeps. A shard
    /// that does not exist is told nothing.
    pub(crate) fn push(&mut self, shard: u16, down: Down) {
        let Some(link) = self.links.get_mut(usize::from(shard)) else { return };
        link.kept.push_back(down);
        link.settle();
    }

    /// Pushes what was kept, as far as there is room. True where anything moved.
    pub(crate) fn settle(&mut self) -> bool {
        // All of them, whatever the first says.
        self.links.iter_mut().filter_map(|link| link.settle().then_some(())).count() > 0
    }

    /// Announces sleep; false where there is something to do instead. Always to be followed by
    /// [`Self::unpark`].
    pub(crate) fn park(&self) -> bool {
        // The count may be anything: the rings themselves are looked at.
        self.bell.park(self.bell.pushed())
            && self.links.iter().all(|link| link.kept.is_empty() && !link.end.has_news())
    }

    /// Awake again.
    pub(crate) fn unpark(&self) {
        self.bell.unpark();
    }
}

impl Link {
    fn settle(&mut self) -> bool {
        let mut moved = false;
        while let Some(down) = self.kept.pop_front() {
            if let Err(down) = self.end.push(down) {
                self.kept.push_front(down);
                break;
            }
            moved = true;
        }
        if moved {
            self.bell.ring();
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_core::driver::ConnId;

    #[test]
    fn what_a_ring_does_not_take_is_kept_and_nothing_more_is_taken_above() {
        let (mut links, berths) = Links::new(2).unwrap();
        assert_eq!((links.len(), berths.len()), (2, 2));
        assert!(links.park(), "nothing to do");
        links.unpark();
        let close = || Down::Close { conn: ConnId(0), life: 1 };
        (0..DOWN).for_each(|_| links.push(1, close()));
        assert!(links.park(), "all of it is in the ring");
        links.unpark();
        links.push(1, close());
        assert!(!links.park(), "something is kept");
        links.unpark();
        assert!(!links.settle(), "the shard took nothing");
        (0..KEPT_MAX).for_each(|_| links.push(1, close()));
        assert!(links.pop(0).is_none());
        links.push(9, close());
        assert!(berths[1].own.pushed() > 0 && berths[0].own.pushed() == 0);
    }
}
