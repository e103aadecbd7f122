//! Connections that end and are made again, and nodes that die and come back.

use super::{engine::Time, node::SHARDS, parts::Due, world::World};
use ::mesh::node::Peer;
use fleet::{MS, SECOND};

/// How long after the end of a connection its node knows.
const NOTICED_AFTER: Time = 20 * MS;

/// Shortest and longest time before a host tries again.
const RETRY: (Time, Time) = (SECOND, 3 * SECOND);

impl World {
    /// How a node names one life of a connection. Two lives of one connection have different
    /// places, because the node may learn of the new one first.
    pub(super) fn peer(&self, conn: u32, life: u32) -> Peer {
        Peer { shard: (conn % SHARDS) as u16, conn: 2 * conn + life % 2, life }
    }

    /// The connection that a node means; None for one that it was told is gone.
    pub(super) fn meant(&self, place: u32, life: u32) -> Option<u32> {
        let conn = self.conns.get(place as usize / 2)?;
        (life > conn.gone && life <= conn.life).then_some(place / 2)
    }

    /// A connection ends, and is made again after a pause.
    pub(super) fn cut(&mut self, conn: u32, pause: Time) {
        self.drop_silently(conn, pause, NOTICED_AFTER);
    }

    /// Likewise, and its node knows only after a while.
    pub(super) fn drop_silently(&mut self, conn: u32, pause: Time, noticed: Time) {
        let link = &mut self.conns[conn as usize];
        if !link.up {
            return;
        }
        link.up = false;
        let (life, child) = (link.life, link.child);
        if let Some(child) = child {
            self.call(child, |mesh, now, out| mesh.parent_down(now, out));
        }
        self.after(noticed, Due::Gone(conn, life));
        self.after(pause, Due::Connect(conn, life));
    }

    /// The node ended it.
    pub(super) fn closed_by_node(&mut self, peer: Peer) {
        self.totals.refused += 1;
        if let Some(conn) = self.meant(peer.conn, peer.life)
            && self.conns[conn as usize].life == peer.life
        {
            let pause = RETRY.0 + self.rng.below(RETRY.1);
            self.cut(conn, pause);
        }
    }

    /// A node learns that a connection is gone.
    pub(super) fn gone(&mut self, conn: u32, life: u32) {
        let link = &mut self.conns[conn as usize];
        if life <= link.gone {
            return;
        }
        link.gone = life;
        let (node, peer) = (link.node, self.peer(conn, life));
        self.call(node, |mesh, now, out| mesh.gone(now, peer, out));
    }

    /// A connection is made, or a refused registration tried again on the one that is there.
    pub(super) fn connect(&mut self, conn: u32, life: u32) {
        let hosts = self.plan.connections();
        let link = &self.conns[conn as usize];
        if link.life != life {
            return;
        }
        let node = link.node;
        let nodes_up = self.nodes[usize::from(node)].up
            && link.child.is_none_or(|child| self.nodes[usize::from(child)].up);
        if link.up {
            if conn < hosts {
                self.register(conn);
            }
            return;
        }
        if !nodes_up {
            let pause = RETRY.0 + self.rng.below(RETRY.1);
            return self.after(pause, Due::Connect(conn, life));
        }
        // A place is not used a second time while its first life is there.
        if life > 0 && self.conns[conn as usize].gone + 1 < life {
            self.gone(conn, life - 1);
        }
        let now = self.now;
        let link = &mut self.conns[conn as usize];
        link.life += 1;
        link.up = true;
        link.since = now;
        (link.last_up, link.last_down) = (now, now);
        let (life, child) = (link.life, link.child);
        if let Some(child) = child {
            let peer = self.peer(conn, life);
            self.call(child, |mesh, now, out| mesh.parent_up(now, peer, out));
        } else if conn < hosts {
            for agent in self.agents_of(conn) {
                self.actors[agent as usize].starts_anew();
            }
            self.register(conn);
        }
    }

    /// A node dies: all that it has and all its connections are gone at once.
    pub(super) fn node_down(&mut self, node: u8, pause: Time) {
        if !self.nodes[usize::from(node)].up {
            return;
        }
        self.watch.node_died(node, self.now);
        self.nodes[usize::from(node)].forget(&self.plan, self.now);
        for conn in 0..self.conns.len() as u32 {
            let link = &mut self.conns[conn as usize];
            if link.node == node || link.child == Some(node) {
                let (life, child) = (link.life, link.child.filter(|child| *child != node));
                if link.node == node {
                    link.gone = life;
                }
                if !link.up {
                    continue;
                }
                link.up = false;
                if let Some(child) = child {
                    self.call(child, |mesh, now, out| mesh.parent_down(now, out));
                }
                if self.conns[conn as usize].node != node {
                    self.after(NOTICED_AFTER, Due::Gone(conn, life));
                }
                let again = RETRY.0 + self.rng.below(RETRY.1);
                self.after(again, Due::Connect(conn, life));
            }
        }
        self.after(pause, Due::NodeUp(node));
    }

    /// It comes back with what it kept.
    pub(super) fn node_up(&mut self, node: u8) {
        let it = &mut self.nodes[usize::from(node)];
        it.up = true;
        if let Some(kept) = it.kept.clone() {
            self.call(node, |mesh, now, _| {
                let _ = mesh.restore(now, &kept);
            });
        }
    }
}
