//! What goes wrong in a mesh: kinds of faults, and lists of them drawn from a seed.

use super::engine::Time;
use crate::rng::Rng;

/// Declares the kinds of faults with their names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {
        /// Kinds of faults. Who is struck follows from the fault's `pick`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// For people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// An agent claims from now on that it was READY and acted earlier than it was.
    ClaimsEarly = "claims-early";
    /// Likewise later, by seconds.
    ClaimsLate = "claims-late";
    /// An agent states absurd processing times.
    ClaimsWork = "claims-work";
    /// An agent's heartbeats state absurd queues, scores and states.
    ClaimsLoad = "claims-load";
    /// An agent's messages carry absurd times.
    ClaimsTime = "claims-time";
    /// A tenth of all agents agree to claim that they are READY at once.
    Collusion = "collusion";
    /// An agent falls silent for good; its connection stays.
    Vanishes = "vanishes";
    /// An agent falls silent, and comes back on a new connection under its id.
    Returns = "returns";
    /// A connection ends, and is made again.
    Cut = "cut";
    /// Likewise, in the middle of a gather.
    CutMidGather = "cut-mid-gather";
    /// An agent answers everything twice from now on.
    AnswersTwice = "answers-twice";
    /// An agent answers in another's name from now on.
    AnswersForOthers = "answers-for-others";
    /// An agent answers under a generation that it does not have.
    AnswersAsBefore = "answers-as-before";
    /// An agent answers messages that nobody sent.
    AnswersNothing = "answers-nothing";
    /// An agent sends hundreds of heartbeats at once.
    Floods = "floods";
    /// An agent registers the id of another one that is connected.
    StealsName = "steals-name";
    /// An agent registers once more on the connection that it has.
    RegistersAgain = "registers-again";
    /// An agent sends bytes that are no message.
    Garbage = "garbage";
    /// An eighth of the agents is unreachable for a while; what was sent comes afterwards.
    Partition = "partition";
    /// The links of a third of the agents become three times as slow, from now on.
    LinkStep = "link-step";
    /// A third of the agents become twice as slow, from now on.
    ServiceStep = "service-step";
    /// An agent's monotonic clock jumps ahead.
    ClockStep = "clock-step";
    /// The node's wall clock jumps, ahead or back.
    WallStep = "wall-step";
    /// A gather for a moment in the past.
    AskPast = "ask-past";
    /// A gather for nobody.
    AskNobody = "ask-nobody";
    /// A gather for more than there may be.
    AskTooMany = "ask-too-many";
    /// A gather with numbers that mean nothing.
    AskNonsense = "ask-nonsense";
    /// A gather whose messages live for less time than they need.
    AskShortLived = "ask-short-lived";
    /// The operator leaves in the middle of its gather.
    AskAndLeave = "ask-and-leave";
    /// A cluster or sector is frozen for a while.
    Freeze = "freeze";
    /// A breaker of a cluster or sector is opened for a while.
    Circuit = "circuit";
    /// An agent sends orders: of its own, forged, changed, cut short, and those that it overheard.
    ForgesOrders = "forges-orders";
    /// A parent dies in mid-cascade and comes back. Where there is none: the one node does.
    ParentDies = "parent-dies";
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its number in the seed's list: what `--keep` names.
    pub number: u32,
    /// What.
    pub kind: Kind,
    /// When, in 1/65,536 of the run.
    pub when: u16,
    /// Chance, already drawn: who is struck, and how hard.
    pub pick: u64,
}

impl Fault {
    /// When, in a run of this length.
    #[must_use]
    pub fn at(&self, duration: Time) -> Time {
        ((u128::from(duration) * u128::from(self.when)) >> 16) as Time
    }

    /// A number below `n` that follows from `pick`; another `label`, another number.
    #[must_use]
    pub fn below(&self, label: u64, n: u64) -> u64 {
        Rng::new(self.pick ^ label.wrapping_mul(0xD6E8_FEB8_6659_FD93)).below(n)
    }
}

/// How many faults a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// None.
    None,
    /// A few kinds.
    Some,
    /// Every kind at least once.
    All,
}

/// The faults of a seed. None falls into the first tenth or the last two fifths of a run: each
/// meets a mesh at work and can be recovered from.
#[must_use]
pub fn draw(seed: u64, faults: Faults) -> Vec<Fault> {
    let mut rng = Rng::new(seed ^ 0xFA_17);
    let kinds: Vec<Kind> = match faults {
        Faults::None => Vec::new(),
        Faults::Some => (0..rng.range(1, 12)).map(|_| rng.pick(Kind::ALL)).collect(),
        Faults::All => Kind::ALL.to_vec(),
    };
    let fault = |(number, kind): (usize, Kind)| Fault {
        number: number as u32,
        kind,
        when: rng.range(6_554, 39_321) as u16,
        pick: rng.next(),
    };
    kinds.into_iter().enumerate().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_follow_from_seeds_and_reach_every_kind() {
        assert_eq!(draw(3, Faults::Some), draw(3, Faults::Some));
        assert_ne!(draw(3, Faults::Some), draw(4, Faults::Some));
        assert!(draw(3, Faults::None).is_empty());
        let drawn: Vec<Kind> =
            (0..200).flat_map(|seed| draw(seed, Faults::Some)).map(|f| f.kind).collect();
        for kind in Kind::ALL {
            assert!(drawn.iter().filter(|k| *k == kind).count() >= 5, "{}", kind.name());
        }
        for fault in draw(9, Faults::All) {
            let at = fault.at(1_000);
            assert!((100..600).contains(&at), "{at}");
        }
    }
}
