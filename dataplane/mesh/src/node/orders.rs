//! CIRCUIT and FREEZE: carried out here, handed on to whom they concern.

use super::{Effect, Effects, Mesh, Now, Peer};
use crate::{
    limits::SECTOR_CLUSTERS,
    registry::{Link, Place},
};
use sign::order::Order;
use std::collections::BTreeSet;
use wire::{
    ErrorCode, Kind, Payload, frame,
    mesh::{CircuitAction, DETAIL_LEN_MAX, SIGNATURES_MAX, Scope},
    payload::mesh::{
        ArchivedCircuit, ArchivedFreeze, ArchivedSignature, Circuit, Freeze, Signature,
    },
};

fn text(from: &str) -> wire::payload::Text {
    crate::gather::tally::clip(from, DETAIL_LEN_MAX).into()
}

/// One more than the limit: enough to see that it was passed.
pub(crate) fn signatures(from: &[ArchivedSignature]) -> Vec<Signature> {
    let native = |one: &ArchivedSignature| Signature {
        key_id: one.key_id,
        audience: one.audience,
        stamp_ms: one.stamp_ms.to_native(),
        signature: one.signature,
    };
    from.iter().take(SIGNATURES_MAX + 1).map(native).collect()
}

/// A CIRCUIT out of a payload that was checked as an archive; its reason is cut to its limit.
#[must_use]
pub fn read_circuit(from: &ArchivedCircuit) -> Circuit {
    Circuit {
        reason: text(&from.reason),
        signatures: signatures(&from.signatures),
        message_id: from.message_id,
        hlc: from.hlc.to_native(),
        sector: from.sector.to_native(),
        cluster: from.cluster.to_native(),
        action: from.action,
        scope: from.scope,
        ..Circuit::default()
    }
}

/// A FREEZE likewise.
#[must_use]
pub fn read_freeze(from: &ArchivedFreeze) -> Freeze {
    Freeze {
        preserve_state_to: text(&from.preserve_state_to),
        signatures: signatures(&from.signatures),
        message_id: from.message_id,
        hlc: from.hlc.to_native(),
        sector: from.sector.to_native(),
        cluster: from.cluster.to_native(),
        scope: from.scope,
        thaw: from.thaw,
        ..Freeze::default()
    }
}

/// Where an order applies.
enum Reach {
    /// Here, and with `Global` below as well.
    Here(Place),
    /// At a node below, which calls the sector this.
    Below(u32, u16),
}

impl Mesh {
    fn reach(&self, scope: u8, sector: u16, cluster: u16) -> Option<Reach> {
        let scope = Scope::from_code(scope)?;
        if scope == Scope::Global {
            return Some(Reach::Here(Place::Global));
        }
        if scope == Scope::Cluster && usize::from(cluster) >= SECTOR_CLUSTERS {
            return None;
        }
        if let Some((child, theirs)) = self.children.owner(sector) {
            return Some(Reach::Below(child, theirs));
        }
        if sector >= self.registry.clusters().sectors() {
            return None;
        }
        Some(Reach::Here(match scope {
            Scope::Cluster => Place::Cluster { sector, cluster: cluster as u8 },
            _ => Place::Sector(sector),
        }))
    }

    fn bad_order(&mut self, now: Now, from: Peer, kind: Kind, out: &mut Effects) {
        self.counters.bad_orders += 1;
        self.refuse(now, from, kind, 0, ErrorCode::BadRequest, out);
    }

    /// Hands an order on to all nodes below.
    fn hand_down<T: Payload + Order + Clone>(&mut self, now: Now, order: &T, out: &mut Effects) {
        let mut order = order.clone();
        self.endorse(now, &mut order, false);
        let peers: Vec<Peer> = self.children.iter().filter_map(|(_, child)| child.peer).collect();
        for peer in peers {
            self.tell(now, peer, &order, out);
        }
    }

    /// An order to a breaker (MESHMSG-17). A critical message passes a global breaker that is open
    ///
    pub fn circuit(&mut self, now: Now, from: Peer, order: &Circuit, out: &mut Effects) {
        self.stamp(now, order.hlc);
        let action = CircuitAction::from_code(order.action);
        let reach = self.reach(order.scope, order.sector, order.cluster);
        let (Some(action), Some(reach)) = (action, reach) else {
            self.bad_order(now, from, Kind::Circuit, out);
            return;
        };
        self.counters.circuits += 1;
        match reach {
            Reach::Below(child, theirs) => {
                let mut order = Circuit { sector: theirs, ..order.clone() };
                self.endorse(now, &mut order, true);
                if let Some(peer) = self.children.get(child).and_then(|child| child.peer) {
                    self.tell(now, peer, &order, out);
                }
            }
            Reach::Here(place) => {
                self.registry.set_circuit(place, action);
                if place == Place::Global {
                    self.hand_down(now, order, out);
                }
            }
        }
    }

    /// Freezes a part of the mesh, or thaws it (MESHMSG-18): nobody in it gets messages, and every
    /// connection with agents in it gets the order.
    pub fn freeze(&mut self, now: Now, from: Peer, order: &Freeze, out: &mut Effects) {
        self.stamp(now, order.hlc);
        let Some(reach) = self.reach(order.scope, order.sector, order.cluster) else {
            self.bad_order(now, from, Kind::Freeze, out);
            return;
        };
        self.counters.freezes += 1;
        match reach {
            Reach::Below(child, theirs) => {
                let mut order = Freeze { sector: theirs, ..order.clone() };
                self.endorse(now, &mut order, true);
                if let Some(peer) = self.children.get(child).and_then(|child| child.peer) {
                    self.tell(now, peer, &order, out);
                }
            }
            Reach::Here(place) => {
                self.registry.set_frozen(place, !order.thaw);
                self.tell_agents(now, place, order, out);
                if place == Place::Global {
                    self.hand_down(now, order, out);
                }
            }
        }
    }

    /// One copy for each connection with agents in the place, encoded once.
    fn tell_agents(&mut self, now: Now, place: Place, order: &Freeze, out: &mut Effects) {
        let mut order = order.clone();
        self.endorse(now, &mut order, false);
        let inside = |handle: &u32| {
            let name = self.registry.seat(*handle).name();
            match place {
                Place::Global => true,
                Place::Sector(sector) => name.sector == sector,
                Place::Cluster { sector, cluster } => {
                    (name.sector, name.cluster) == (sector, cluster)
                }
            }
        };
        let handles = self.registry.iter().filter(inside);
        let links: BTreeSet<Link> =
            handles.filter_map(|handle| self.registry.link(handle)).collect();
        let mut frame = Vec::new();
        if frame::append(&mut frame, &order, 0, now.epoch_ns).is_err() {
            return;
        }
        out.extend(links.into_iter().map(|link| Effect::Send {
            to: Peer { shard: link.shard, conn: link.conn, life: link.life },
            frame: frame.clone(),
        }));
    }
}
