//! The promises of the mesh, and the judge that watches over them: it knows true time and every
//! agent's true clock, and recounts from what it saw pass, not from what the node says.

use super::engine::Time;
use std::fmt;

/// Declares the promises with their names.
macro_rules! promises {
    ($($(#[$doc:meta])* $promise:ident = $name:literal;)*) => {
        /// What must hold, whatever goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Promise { $($(#[$doc])* $promise,)* }

        impl Promise {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$promise),*];

            /// For people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$promise => $name,)* }
            }
        }
    };
}

promises! {
    /// No agent acts before the target moment as its own clock shows it.
    NeverEarly = "never-early";
    /// The target moment on an agent's clock is known to within half its round trip.
    TargetKnown = "target-known";
    /// No agent acts on a message after its time to live, and none leaves then.
    NeverExpired = "never-expired";
    /// An agent acts on a message at most once.
    ActsOnce = "acts-once";
    /// A target gets at most one copy of a message.
    SentOnce = "sent-once";
    /// Targets = scheduled + skipped; sent = ready + conflicts + transit + stragglers.
    CountsAddUp = "counts-add-up";
    /// What the report counts is what passed the wire.
    CountsTrue = "counts-true";
    /// Skips are given a reason, each once.
    SkipsExplained = "skips-explained";
    /// A registered agent is in exactly one cluster, at a place of its own.
    OneCluster = "one-cluster";
    /// Nothing is sent into a frozen part.
    FrozenIsQuiet = "frozen-is-quiet";
    /// Every gather ends by its time limit, with exactly one final report.
    GathersEnd = "gathers-end";
    /// An answer in another's name is not counted.
    ForeignIgnored = "foreign-ignored";
    /// A message goes only to the connection and registration that it was planned for.
    RightRecipient = "right-recipient";
    /// Where orders are signed, a node acts on one only if the operator gave it, and once.
    OrdersGenuine = "orders-genuine";
    /// An id that is in use stays with the connection that holds it.
    NameKept = "name-kept";
    /// What the node holds stays within what its limits say.
    Bounded = "bounded";
    /// Whoever can come back has come back when the faults are over.
    AllComeBack = "all-come-back";
    /// Nobody who is gone for longer than 30 s is taken for present.
    GoneIsNoticed = "gone-is-noticed";
    /// A core that was told the time waits for a later one.
    NeverSpins = "never-spins";
    /// No core panics.
    NeverPanics = "never-panics";
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub promise: Promise,
    /// When, in true time.
    pub at: Time,
    /// How.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / 1e9;
        write!(f, "{} broken at {seconds:.6} s: {}", self.promise.name(), self.what)
    }
}

/// Watches the promises, and counts how often each was looked at.
#[derive(Clone, Debug)]
pub struct Judge {
    breach: Option<Breach>,
    looked: [u64; Promise::ALL.len()],
}

impl Default for Judge {
    fn default() -> Self {
        Self { breach: None, looked: [0; Promise::ALL.len()] }
    }
}

impl Judge {
    /// Looks whether `promise` holds; `what` says how it does not. The first breach is kept.
    #[inline]
    pub fn look(&mut self, promise: Promise, at: Time, holds: bool, what: impl FnOnce() -> String) {
        self.looked[promise as usize] += 1;
        if !holds && self.breach.is_none() {
            self.breach = Some(Breach { promise, at, what: what() });
        }
    }

    /// The first promise that was broken.
    #[must_use]
    pub const fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// How often a promise was looked at.
    #[must_use]
    pub const fn looked(&self, promise: Promise) -> u64 {
        self.looked[promise as usize]
    }
}
