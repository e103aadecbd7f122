//! Who a node knows by name, and the accounts of each: connections, requests and bytes under way,
//! the rate. One table for all shards, of fixed size. On the data path there are atomics only;
//! giving a name its place is rare and takes a lock.
//!
//! A place whose name has no connection left may get another name. Its number then changes, so
//! that a [`Caller`] made for the old name is refused and can never act as the new one.

mod account;

use crate::{
    driver::{Caller, Time},
    policy::{Allowance, Policy},
    stats::{Source, Visit},
};
use account::Account;
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use wire::Roles;

pub use account::Over;

/// Bits of an identity that say its place; the others count the names that the place has had.
const PLACE_BITS: u32 = 16;
/// Most places of a table.
pub const IDENTITIES_MAX: u32 = 1 << PLACE_BITS;
/// Who proved no name is called so.
pub const LOCAL_NAME: &str = "local";
/// Longest name, bytes.
pub const NAME_MAX: usize = 256;

impl Caller {
    /// The caller's place in the table of identities.
    #[must_use]
    #[inline]
    pub const fn place(self) -> usize {
        (self.identity & (IDENTITIES_MAX - 1)) as usize
    }

    /// Which of the place's names it is.
    const fn turn(self) -> u32 {
        self.identity >> PLACE_BITS
    }
}

/// Names and places, for those who come.
#[derive(Debug, Default)]
struct Names {
    places: HashMap<Box<str>, u32>,
    /// By place; `None` for those never used, and for place 0.
    names: Vec<Option<Box<str>>>,
    used: u32,
    /// Where the search for a place to be had goes on.
    hand: u32,
}

/// All identities of a node.
#[derive(Debug)]
pub struct Identities {
    policy: Policy,
    accounts: Box<[Account]>,
    names: Mutex<Names>,
    refused: AtomicU64,
}

impl Identities {
    /// A table with so many places, the local one among them (1 to [`IDENTITIES_MAX`]).
    #[must_use]
    pub fn new(policy: Policy, places: u32) -> Self {
        let places = places.clamp(1, IDENTITIES_MAX);
        let accounts: Box<[Account]> = (0..places).map(|_| Account::default()).collect();
        accounts[0].allow(&policy.local);
        let names = Names {
            places: HashMap::with_capacity(places as usize),
            names: (0..places).map(|_| None).collect(),
            used: 1,
            hand: 1,
        };
        Self { policy, accounts, names: Mutex::new(names), refused: AtomicU64::new(0) }
    }

    /// Bytes of a table.
    #[must_use]
    pub const fn bytes(places: u32) -> u64 {
        // A name's entry in the map, its text at the longest, its place.
        let name = 2 * (size_of::<Box<str>>() as u64 + NAME_MAX as u64) + 16;
        places as u64 * (size_of::<Account>() as u64 + name)
    }

    /// Places, used or not.
    #[must_use]
    pub fn places(&self) -> usize {
        self.accounts.len()
    }

    /// The caller of this name: the place it has, or gets. `None` where every place belongs to a
    /// name that is connected, or the name is empty or too long; that is counted. Call it for each
    /// connection, so that a change of roles or a lost place shows.
    #[must_use]
    pub fn identify(&self, name: &str, roles: Roles) -> Option<Caller> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = names.places.get(name).copied().or_else(|| self.settle(&mut names, name));
        let Some(place) = place else {
            self.refused.fetch_add(1, Relaxed);
            return None;
        };
        let account = &self.accounts[place as usize];
        account.allow(&self.policy.allowance(name, roles));
        Some(Caller { identity: account.turn() << PLACE_BITS | place, roles })
    }

    /// Finds a place for a new name: one never used, or one whose name has no connection.
    fn settle(&self, names: &mut Names, name: &str) -> Option<u32> {
        if name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let places = self.accounts.len() as u32;
        let place = if names.used < places {
            names.used += 1;
            names.used - 1
        } else {
            (1..places).find_map(|_| {
                let place = names.hand;
                names.hand = if place + 1 < places { place + 1 } else { 1 };
                self.accounts[place as usize].vacate().then_some(place)
            })?
        };
        if let Some(old) = names.names[place as usize].replace(name.into()) {
            names.places.remove(&old);
        }
        names.places.insert(name.into(), place);
        Some(place)
    }

    fn account(&self, who: Caller) -> &Account {
        // A place outside is nobody's; the gate lets no such caller in.
        self.accounts.get(who.place()).unwrap_or(&self.accounts[0])
    }

    /// A connection of this caller begins.
    ///
    /// # Errors
    /// It has as many as it may have, or its place is another's by now.
    pub fn connect(&self, who: Caller) -> Result<(), Over> {
        match self.accounts.get(who.place()) {
            Some(account) => account.connect(who.turn()),
            None => Err(Over::default()),
        }
    }

    /// A connection of this caller is gone.
    pub fn disconnect(&self, who: Caller) {
        self.account(who).disconnect();
    }

    /// A frame of this caller has come.
    ///
    /// # Errors
    /// It is over its rate.
    #[inline]
    pub fn pace(&self, now: Time, who: Caller) -> Result<(), Over> {
        self.account(who).pace(now)
    }

    /// The same for a frame that the node can do without where it is `busy` and the caller sends
    /// far more than usual (SEC-09). Whoever is local has no rate of its own to compare with.
    ///
    /// # Errors
    /// It is over ten times its usual rate.
    #[inline]
    pub fn surge(&self, now: Time, who: Caller, busy: bool) -> Result<(), Over> {
        if who.place() == 0 { Ok(()) } else { self.account(who).surge(now, busy) }
    }

    /// A request of so many bytes begins. True where it is on the account now, and
    /// [`Self::give`] has to take it off again; who has no such bound has no such account.
    ///
    /// # Errors
    /// Too much of its requests or bytes is under way.
    #[inline]
    pub fn take(&self, who: Caller, bytes: u32) -> Result<bool, Over> {
        self.account(who).take(bytes)
    }

    /// A request of so many bytes, on the account of this place, has ended.
    #[inline]
    pub fn give(&self, place: usize, bytes: u32) {
        if let Some(account) = self.accounts.get(place) {
            account.give(bytes);
        }
    }

    /// Operations that this caller may ask for (bit = code).
    #[must_use]
    #[inline]
    pub fn operations(&self, who: Caller) -> u32 {
        self.account(who).operations()
    }

    /// How long its connections may be idle; 0 for ever.
    #[must_use]
    #[inline]
    pub fn idle(&self, who: Caller) -> Time {
        self.account(who).idle()
    }

    /// Connections of this caller, and what is on its account: requests under way and their bytes.
    #[must_use]
    pub fn load(&self, who: Caller) -> (u32, u32, u64) {
        self.account(who).load()
    }

    /// The identity of a name, where it has one now. Whoever proved nothing is [`LOCAL_NAME`].
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        if name == LOCAL_NAME {
            return Some(Caller::LOCAL.identity);
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = *names.places.get(name)?;
        Some(self.accounts[place as usize].turn() << PLACE_BITS | place)
    }

    /// The name of an identity; empty where another name has its place by now.
    #[must_use]
    pub fn name(&self, identity: u32) -> String {
        if identity == Caller::LOCAL.identity {
            return LOCAL_NAME.to_owned();
        }
        let who = Caller { identity, roles: Roles::NONE };
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.names.get(who.place()).and_then(Option::as_deref);
        let same = self.account(who).turn() == who.turn();
        name.filter(|_| same).unwrap_or_default().to_owned()
    }

    /// What the policy allows this name in these roles.
    #[must_use]
    pub fn allowance(&self, name: &str, roles: Roles) -> Allowance {
        self.policy.allowance(name, roles)
    }
}

impl Default for Identities {
    /// Everybody is local, and nothing is limited.
    fn default() -> Self {
        Self::new(Policy::default(), 1)
    }
}

impl Source for Identities {
    fn visit(&self, visit: Visit<'_>) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        visit("butterfly_identities", "", "", names.places.len() as u64);
        visit("butterfly_identities_refused_total", "", "", self.refused.load(Relaxed));
    }
}

#[cfg(test)]
mod tests;
