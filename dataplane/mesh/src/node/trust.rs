//! Whose orders count: those that a known key signed, once, lately (SIGN-04, SEC-08).

use super::{Mesh, Now, Source};
use crate::{
    SECOND, Time,
    limits::{HELD_FOR, HELD_MAX, OPERATORS_MAX, ORDERS_PER_MINUTE},
};
use sign::{
    KeyId, NO_KEY, PublicKey, SecretKey, Stale, Window,
    order::{self, Order},
};
use std::{collections::BTreeSet, sync::Arc};
use wire::{ErrorCode, error::Refusal, mesh::SIGNATURES_MAX, payload::mesh::Signature};

/// Keys, and what they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The node's own: signs what it sends to agents and to nodes below.
    pub key: Option<Arc<SecretKey>>,
    /// Who may give orders. Empty: whoever may connect.
    pub operators: Vec<PublicKey>,
    /// Orders of this machine need a signature too.
    pub always: bool,
    /// CIRCUIT and FREEZE of the whole mesh need signatures of two operators.
    pub two_person: bool,
    /// Answers of agents that registered a key count only with a signature.
    pub signed_acks: bool,
    /// The wall clock at the start, milliseconds: older stamps may have been used before.
    pub since_ms: u64,
}

/// What is remembered about orders.
#[derive(Debug)]
pub(super) struct Guard {
    window: Window,
    held: Vec<Held>,
    rates: Vec<(KeyId, u64, u32)>,
    stamp: u64,
}

/// An order that waits for a second signature.
#[derive(Debug)]
struct Held {
    digest: [u8; 32],
    first: Signature,
    until: Time,
}

impl Guard {
    pub(super) fn new(trust: &Trust) -> Self {
        Self {
            window: Window::new(OPERATORS_MAX, trust.since_ms),
            held: Vec::new(),
            rates: Vec::new(),
            stamp: 0,
        }
    }

    fn is_held(&self, digest: &[u8; 32], signature: &Signature) -> bool {
        self.held.iter().any(|held| held.digest == *digest && held.first == *signature)
    }

    fn hold(&mut self, now: Time, digest: [u8; 32], first: Signature) {
        if self.is_held(&digest, &first) {
            return;
        }
        if self.held.len() == HELD_MAX {
            self.held.remove(0);
        }
        self.held.push(Held { digest, first, until: now.saturating_add(HELD_FOR) });
    }

    /// Whether a key has given more orders in this minute than anybody would by hand.
    fn is_rash(&mut self, now: Time, key: KeyId) -> bool {
        let minute = now / (60 * SECOND);
        self.rates.retain(|(_, when, _)| *when == minute);
        let Some(at) = self.rates.iter().position(|(whose, ..)| *whose == key) else {
            self.rates.push((key, minute, 1));
            return false;
        };
        self.rates[at].2 = self.rates[at].2.saturating_add(1);
        self.rates[at].2 > ORDERS_PER_MINUTE
    }
}

/// Why an order is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// It has no signature of a known key.
    Unsigned,
    /// A signature of a known key does not verify.
    Forged,
    /// A stamp is too far from the clock, by so many milliseconds from it.
    Stale(u64),
    /// A stamp was used.
    Replayed,
    /// More orders than a person gives.
    Rash,
    /// One signature of two.
    Held,
    /// More signatures than the format allows.
    Crowded,
}

impl Denied {
    const fn refusal(self, kind: u16) -> Refusal {
        match self {
            Self::Unsigned | Self::Forged => Refusal::new(ErrorCode::Forbidden, kind),
            Self::Stale(off) => Refusal::new(ErrorCode::Forbidden, kind).over(sign::SKEW_MS, off),
            Self::Replayed => Refusal::new(ErrorCode::Duplicate, kind),
            Self::Rash => Refusal::new(ErrorCode::RateLimited, kind).retry_after(60_000),
            Self::Held => Refusal::new(ErrorCode::Unconfirmed, kind),
            Self::Crowded => Refusal::new(ErrorCode::BadRequest, kind),
        }
    }
}

impl Mesh {
    /// Whether an order is to be obeyed. `is_wide`: it is about the whole mesh, so that where two
    /// persons are demanded one is not enough.
    ///
    /// # Errors
    /// What its sender is to be told.
    pub(super) fn authorise<T: Order>(
        &mut self,
        now: Now,
        from: Source,
        order: &T,
        is_wide: bool,
        kind: wire::Kind,
    ) -> Result<(), Refusal> {
        if self.config.trust.operators.is_empty() {
            return Ok(());
        }
        let is_parent = self.up.as_ref().is_some_and(|up| up.peer == from.peer);
        // Whoever gives orders from above has asked for its second signature there.
        let persons = if self.config.trust.two_person && is_wide && !is_parent { 2 } else { 1 };
        let verdict = match self.good_signatures(now, order) {
            Ok(good) if good.is_empty() => self.unsigned(from, order, persons),
            Ok(good) => self.spend(now, order, &good, persons, is_parent),
            Err(denied) => Err(denied),
        };
        verdict.map_err(|denied| {
            let counters = &mut self.counters;
            *match denied {
                Denied::Unsigned => &mut counters.orders_unsigned,
                Denied::Forged | Denied::Crowded => &mut counters.orders_forged,
                Denied::Stale(_) => &mut counters.orders_stale,
                Denied::Replayed => &mut counters.orders_replayed,
                Denied::Rash => &mut counters.orders_rash,
                Denied::Held => &mut counters.orders_held,
            } += 1;
            denied.refusal(kind.code())
        })
    }

    /// An order without a signature of a known key is obeyed only from this machine, and not where
    /// the node was told otherwise.
    fn unsigned<T: Order>(&self, from: Source, order: &T, persons: usize) -> Result<(), Denied> {
        let trust = &self.config.trust;
        let fine = from.is_local && !trust.always && persons == 1;
        if fine && order.signatures().is_empty() { Ok(()) } else { Err(Denied::Unsigned) }
    }

    /// The signatures of known keys for this node: all of them hold, or the order is denied.
    fn good_signatures<T: Order>(&self, now: Now, order: &T) -> Result<Vec<Signature>, Denied> {
        let trust = &self.config.trust;
        let signatures = order.signatures();
        if signatures.len() > SIGNATURES_MAX {
            return Err(Denied::Crowded);
        }
        let own = trust.key.as_ref().map_or(NO_KEY, |key| key.public().id());
        let mut good = Vec::new();
        for (place, one) in signatures.iter().enumerate() {
            let Some(key) = trust.operators.iter().find(|key| key.id() == one.key_id) else {
                continue;
            };
            if one.audience != NO_KEY && one.audience != own {
                continue;
            }
            let digest = order::digest(order);
            if !self.guard.is_held(&digest, one) {
                let checked = self.guard.window.check(one.key_id, one.stamp_ms, epoch_ms(now));
                checked.map_err(stale)?;
            }
            let bytes = order::signed_bytes(order, place).ok_or(Denied::Forged)?;
            if !key.verify(bytes.as_bytes(), &one.signature) {
                return Err(Denied::Forged);
            }
            good.push(*one);
        }
        Ok(good)
    }

    /// Uses the stamps up: none is good for a second order.
    fn spend<T: Order>(
        &mut self,
        now: Now,
        order: &T,
        good: &[Signature],
        persons: usize,
        is_parent: bool,
    ) -> Result<(), Denied> {
        let guard = &mut self.guard;
        guard.held.retain(|held| held.until > now.node);
        let digest = order::digest(order);
        for one in good {
            if guard.is_held(&digest, one) {
                continue;
            }
            guard.window.take(one.key_id, one.stamp_ms, epoch_ms(now)).map_err(stale)?;
            if !is_parent && guard.is_rash(now.node, one.key_id) {
                return Err(Denied::Rash);
            }
        }
        let signers: BTreeSet<KeyId> = good.iter().map(|one| one.key_id).collect();
        if signers.len() < persons {
            guard.hold(now.node, digest, good[0]);
            return Err(Denied::Held);
        }
        guard.held.retain(|held| held.digest != digest);
        self.counters.orders_signed += 1;
        Ok(())
    }

    /// Signs what this node hands on. One that was changed on the way loses what others signed.
    pub(super) fn endorse<T: Order>(&mut self, now: Now, order: &mut T, is_changed: bool) {
        let full = order.signatures().len() >= SIGNATURES_MAX;
        if let Some(key) = self.config.trust.key.clone() {
            if is_changed || full {
                order.signatures_mut().clear();
            }
            self.guard.stamp = order::next_stamp(self.guard.stamp, now.epoch_ns);
            order::sign(order, &key, NO_KEY, self.guard.stamp);
        } else if is_changed {
            order.signatures_mut().clear();
        }
    }
}

const fn epoch_ms(now: Now) -> u64 {
    now.epoch_ns / 1_000_000
}

const fn stale(stale: Stale) -> Denied {
    match stale {
        Stale::Clock(off) => Denied::Stale(off),
        Stale::Seen => Denied::Replayed,
    }
}
