//! Signed orders, and who would like to give some: an agent that overhears, changes, replays and
//! invents them. What a node then obeys must have been given by the operator, and once.

use super::{
    fault::Fault,
    frames::{Opened, frame_of},
    judge::Promise,
    parts::Up,
    plan::Plan,
    strike::reseal,
    world::World,
};
use ::mesh::node::{Mesh, Trust};
use sign::{
    NO_KEY, SecretKey,
    order::{self, Order},
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use wire::{
    Kind, Payload,
    mesh::{Scope, SelectBy},
    payload::{
        mesh::{ArchivedSignature, Circuit, Freeze, Gather, Signature},
        open,
    },
};

/// Orders that the forger has overheard at most.
const OVERHEARD: usize = 8;
/// What it sends in one go.
const TRIES: u64 = 48;

fn key(seed: u8) -> Option<SecretKey> {
    SecretKey::from_seed(&[seed; 32])
}

fn operator_key() -> Option<SecretKey> {
    key(1)
}

fn first_key() -> Option<SecretKey> {
    key(100)
}

/// The first node has a key, and trusts the operator. So do those below, which trust the first node
/// as well: the operator says whom it means.
pub(super) fn trust(number: u8, plan: &Plan, since_ms: u64) -> Trust {
    if !plan.signed() {
        return Trust::default();
    }
    let above = first_key();
    let operators = [operator_key(), above.clone().filter(|_| number > 0)];
    Trust {
        key: if number == 0 { above.map(Arc::new) } else { None },
        operators: operators.iter().flatten().map(|key| *key.public()).collect(),
        since_ms,
        ..Trust::default()
    }
}

/// What was signed, what was obeyed, and what the forger knows.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    stamp: u64,
    given: BTreeSet<u64>,
    obeyed: BTreeSet<u64>,
    overheard: VecDeque<Vec<u8>>,
}

fn obeyed(mesh: &Mesh) -> u64 {
    let counters = mesh.counters();
    counters.gathers + counters.circuits + counters.freezes
}

impl World {
    /// Signs an order as the operator does, where orders are signed.
    pub(super) fn sign<T: Order>(&mut self, order: &mut T) {
        let Some(key) = operator_key().filter(|_| self.plan.signed()) else { return };
        let epoch = self.nodes[0].clocks(self.now).epoch_ns;
        let ledger = &mut self.ledger;
        ledger.stamp = order::next_stamp(ledger.stamp, epoch);
        ledger.given.insert(ledger.stamp);
        let audience = first_key().map_or(NO_KEY, |key| key.public().id());
        order::sign(order, &key, audience, ledger.stamp);
    }

    /// The forger listens where the operator speaks.
    pub(super) fn overhear(&mut self, frame: &[u8]) {
        if self.ledger.overheard.len() == OVERHEARD {
            self.ledger.overheard.pop_front();
        }
        self.ledger.overheard.push_back(frame.to_vec());
    }

    /// What a node had obeyed before it read something that may be an order; to be told
    /// [`Self::judge_order`] afterwards.
    pub(super) fn before_order(&self, node: u8, kind: Kind) -> Option<u64> {
        let order = matches!(kind, Kind::Gather | Kind::Circuit | Kind::Freeze);
        (order && self.plan.signed()).then(|| obeyed(&self.nodes[usize::from(node)].mesh))
    }

    /// Whether a node that has read this should have obeyed it, if it has.
    pub(super) fn judge_order(&mut self, node: u8, before: u64, read: &Opened<'_>) {
        if obeyed(&self.nodes[usize::from(node)].mesh) == before {
            self.judge.look(Promise::OrdersGenuine, self.now, true, String::new);
            return;
        }
        let stamp = stamp_of(read);
        let given = stamp.is_some_and(|stamp| self.ledger.given.contains(&stamp));
        let first = stamp.is_some_and(|stamp| self.ledger.obeyed.insert(stamp));
        self.judge.look(Promise::OrdersGenuine, self.now, given && first, || {
            let what = if given { "a second time" } else { "that nobody gave" };
            format!("node {node} obeys a {:?} {what}: stamp {stamp:?}", read.kind)
        });
    }

    /// An agent sends orders.
    pub(super) fn forge(&mut self, agent: u32, fault: &Fault) {
        if !self.plan.signed() || self.actors[agent as usize].silent {
            return;
        }
        let (conn, own) = (self.conn_of(agent), self.own(agent));
        self.actors[agent as usize].asks_at(own);
        for round in 0..TRIES {
            let many = self.ledger.overheard.len() as u64;
            let heard = fault.below(round + 300, many.max(1)) as usize;
            let heard = self.ledger.overheard.get(heard).cloned();
            let bytes = match (fault.below(round, 5), heard) {
                (0, Some(bytes)) => bytes,
                (1, Some(mut bytes)) => {
                    bytes.truncate(fault.below(round + 100, bytes.len() as u64) as usize);
                    bytes
                }
                (2, Some(bytes)) => reseal(&bytes, fault.below(round + 200, 1 << 40)),
                (3, _) => self.invent(fault, round, key(66)),
                _ => self.invent(fault, round, None),
            };
            self.send_up(conn, agent, Up::Frame(bytes));
        }
    }

    /// An order of the forger's own: unsigned, or by a key of its own under the operator's name.
    fn invent(&self, fault: &Fault, round: u64, by: Option<SecretKey>) -> Vec<u8> {
        let stamp = self.nodes[0].clocks(self.now).epoch_ns / 1_000_000 + round;
        let scope = Scope::Global.code();
        match fault.below(round + 400, 3) {
            0 => forged(Freeze { scope, ..Freeze::default() }, by, stamp),
            1 => forged(Circuit { scope, ..Circuit::default() }, by, stamp),
            _ => forged(Gather { select: SelectBy::All.code(), ..Gather::default() }, by, stamp),
        }
    }
}

fn forged<T: Order + Payload>(mut order: T, by: Option<SecretKey>, stamp: u64) -> Vec<u8> {
    if let (Some(key), Some(operator)) = (by, operator_key()) {
        let key_id = operator.public().id();
        order.signatures_mut().push(Signature { key_id, stamp_ms: stamp, ..Signature::default() });
        if let Some(bytes) = order::signed_bytes(&order, 0) {
            order.signatures_mut()[0].signature = key.sign(bytes.as_bytes());
        }
    }
    frame_of(&order, 1 << 50, 0)
}

/// The stamp of an order's first signature.
fn stamp_of(read: &Opened<'_>) -> Option<u64> {
    let first = |signatures: &[ArchivedSignature]| Some(signatures.first()?.stamp_ms.to_native());
    match read.kind {
        Kind::Gather => first(&open::<Gather>(read.payload).ok()?.signatures),
        Kind::Circuit => first(&open::<Circuit>(read.payload).ok()?.signatures),
        Kind::Freeze => first(&open::<Freeze>(read.payload).ok()?.signatures),
        _ => None,
    }
}
