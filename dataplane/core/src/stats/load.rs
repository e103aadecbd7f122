//! Reasons and outcomes that have to do with load: refusing, taking back, trying again.

/// Why a request was not let in, or had to go again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Its deadline would have passed before its turn.
    Deadline,
    /// It would have waited for too long.
    Queue,
    /// No slot was free, and requests were late already.
    Slots,
    /// Its deadline could not be met any more, and its slot was needed.
    Hopeless,
    /// Its slot was needed for a request of higher priority.
    Displaced,
    /// Higher priorities overtook it for too long.
    Starved,
}

impl Shed {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 6] =
        [Self::Deadline, Self::Queue, Self::Slots, Self::Hopeless, Self::Displaced, Self::Starved];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Queue => "queue",
            Self::Slots => "slots",
            Self::Hopeless => "hopeless",
            Self::Displaced => "displaced",
            Self::Starved => "starved",
        }
    }
}

/// What became of a request to take another one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It waited, and is gone.
    Waiting,
    /// A worker has it; what that says is dropped.
    Lent,
    /// Nothing of that id is under way.
    Unknown,
    /// Its connection ended while it waited.
    Closed,
}

impl Cancel {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Lent, Self::Unknown, Self::Closed];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Lent => "lent",
            Self::Unknown => "unknown",
            Self::Closed => "closed",
        }
    }
}

/// What became of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing of its id was known, or that had not been answered: it runs.
    Run,
    /// It waits for the answer to the request before it.
    TakenOver,
    /// It got the answer that was kept.
    Kept,
    /// It was refused as a duplicate.
    Duplicate,
}

impl Retry {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Run, Self::TakenOver, Self::Kept, Self::Duplicate];

    /// Label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::TakenOver => "taken_over",
            Self::Kept => "kept",
            Self::Duplicate => "duplicate",
        }
    }
}
