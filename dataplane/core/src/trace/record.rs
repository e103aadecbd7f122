//! One request's life, as a value and as the words that a ring holds.

use crate::{
    driver::Time,
    limits::LENDINGS_MAX,
    stats::{CloseReason, Place, Shed},
};
use wire::{ErrorCode, Operation, Priority, trace::End};

/// Words of a record beside the ring's own.
pub(crate) const WORDS: usize = 15;

/// Moments of a request's life, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It got a slot; before, it waited for one.
    Slot,
    /// Its last byte was there.
    Whole,
    /// Its batch closed: the first that a worker got.
    Closed,
    /// A worker got it first.
    Lent,
    /// The worker got it that ended it: a later moment where others had lost it.
    LentLast,
    /// That worker took it up.
    Started,
    /// It was answered or refused, or its asker was found gone.
    Ended,
    /// The OS took the last byte of that.
    Sent,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 8] = [
        Self::Slot,
        Self::Whole,
        Self::Closed,
        Self::Lent,
        Self::LentLast,
        Self::Started,
        Self::Ended,
        Self::Sent,
    ];
}

/// More on why a request was refused than its error code says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The code says it all.
    #[default]
    Plain,
    /// Load, and which sign of it.
    Shed(Shed),
    /// Its deadline passed while it was here.
    Expired(Place),
}

/// The first code of each kind of cause.
const SHED: usize = 1;
const EXPIRED: usize = 16;

impl Cause {
    fn code(self) -> u8 {
        (match self {
            Self::Plain => 0,
            Self::Shed(shed) => SHED + shed as usize,
            Self::Expired(place) => EXPIRED + place as usize,
        }) as u8
    }

    fn from_code(code: u8) -> Self {
        let code = usize::from(code);
        let shed = code.checked_sub(SHED).and_then(|at| Shed::ALL.get(at));
        let place = code.checked_sub(EXPIRED).and_then(|at| Place::ALL.get(at));
        match (shed, place) {
            (Some(shed), _) => Self::Shed(*shed),
            (None, Some(place)) => Self::Expired(*place),
            (None, None) => Self::Plain,
        }
    }
}

/// What a request had to wait for before it was read, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits(pub u8);

impl Waits {
    /// Its connection asked for too much, or read too little.
    pub const CREDIT: Self = Self(1);
    /// Room for the answer.
    pub const ROOM: Self = Self(2);
    /// A small slot.
    pub const SMALL: Self = Self(4);
    /// A bulk slot.
    pub const BULK: Self = Self(8);

    /// Every bit with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::CREDIT, "credit"),
        (Self::ROOM, "room"),
        (Self::SMALL, "small_slot"),
        (Self::BULK, "bulk_slot"),
    ];

    pub(crate) const fn add(&mut self, bit: Self) {
        self.0 |= bit.0;
    }

    /// The names of what was waited for.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(bit, _)| self.0 & bit.0 != 0).map(|(_, name)| name)
    }
}

/// How the bytes of a request and of its answer went, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways(pub u8);

impl Ways {
    /// It came into a bulk slot.
    pub const BULK: Self = Self(1);
    /// It was restored into a second slot.
    pub const RESTORED: Self = Self(2);
    /// It was moved into a bulk slot, for the sake of its answer.
    pub const PROMOTED: Self = Self(4);
    /// Its answer was copied into a chunk.
    pub const INLINE: Self = Self(8);
    /// It repeats a request before it.
    pub const RETRY: Self = Self(16);
    /// It got the answer to that one.
    pub const TAKEN_OVER: Self = Self(32);

    /// Whether this way was gone.
    #[must_use]
    pub const fn has(self, way: Self) -> bool {
        self.0 & way.0 != 0
    }

    pub(crate) const fn add(&mut self, way: Self) {
        self.0 |= way.0;
    }
}

/// The life of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its id on its connection.
    pub message_id: u64,
    /// Its id over all its tries; zero for none.
    pub query_id: [u8; 16],
    /// When its header was let in, nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// Since then, to each [`Step`] that there was. Exact to one part in 16 million.
    pub steps: [Option<Time>; Step::ALL.len()],
    /// What its batch computed until it was done.
    pub compute_ns: Option<Time>,
    /// Its deadline, counted like the steps.
    pub deadline: Option<Time>,
    /// Who asked.
    pub identity: u32,
    /// Its connection in the shard's table.
    pub conn: u32,
    /// Which life of that entry, its lower bits.
    pub life: u16,
    /// Rows.
    pub rows: u32,
    /// Payload bytes as carried.
    pub carried: u32,
    /// Payload bytes once restored.
    pub payload: u32,
    /// Bytes of the answer.
    pub reply: u32,
    /// Bytes that were copied on their way into the slot.
    pub copied_in: u32,
    /// Bytes that its worker copied.
    pub copied_by_worker: u32,
    /// How it ended.
    pub end: End,
    /// Why it was refused.
    pub refusal: Option<ErrorCode>,
    /// And what lies behind that.
    pub cause: Cause,
    /// The worker that had it last.
    pub worker: Option<u16>,
    /// Who of the workers' backends signed the answer; 0 for nobody.
    pub signer: u8,
    /// Requests in its last batch.
    pub batch: u16,
    /// Why that closed.
    pub closed_by: Option<CloseReason>,
    /// What was asked for, once that was known.
    pub operation: Option<Operation>,
    /// How urgent it was.
    pub priority: Priority,
    /// Times that it was lent.
    pub tries: u8,
    /// Which of the asker's tries it was, from 0.
    pub attempt: u8,
    /// What it waited for before it was read.
    pub waits: Waits,
    /// How its bytes went.
    pub ways: Ways,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            message_id: 0,
            query_id: [0; 16],
            at_ns: 0,
            steps: [None; Step::ALL.len()],
            compute_ns: None,
            deadline: None,
            identity: 0,
            conn: 0,
            life: 0,
            rows: 0,
            carried: 0,
            payload: 0,
            reply: 0,
            copied_in: 0,
            copied_by_worker: 0,
            end: End::Answered,
            refusal: None,
            cause: Cause::Plain,
            worker: None,
            signer: 0,
            batch: 0,
            closed_by: None,
            operation: None,
            priority: Priority::Normal,
            tries: 0,
            attempt: 0,
            waits: Waits::default(),
            ways: Ways::default(),
        }
    }
}

const _: () = assert!(LENDINGS_MAX < 8, "three bits hold the tries");
const NOTHING: u8 = u8::MAX;
const NOBODY: u16 = u16::MAX;
/// The word with [`Step::Ended`] and [`Step::Sent`].
const LAST_STEPS: usize = 7;

/// A span as the bits of a binary32; none is the one NaN that has all bits set.
fn short(span: Option<Time>) -> u32 {
    span.map_or(u32::MAX, |ns| (ns as f32).to_bits())
}

fn span(bits: u32) -> Option<Time> {
    (bits != u32::MAX).then(|| f32::from_bits(bits) as Time)
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// The word that [`Step::Sent`] is in, and what it becomes.
pub(crate) fn with_sent(word: u64, sent: Time) -> u64 {
    pair(word as u32, short(Some(sent)))
}

/// Its place.
pub(crate) const SENT_AT: usize = LAST_STEPS;

impl Record {
    /// How long after its begin a step was.
    #[must_use]
    pub fn step(&self, step: Step) -> Option<Time> {
        self.steps[step as usize]
    }

    /// From its begin to its last step.
    #[must_use]
    pub fn total(&self) -> Time {
        self.steps.iter().flatten().copied().max().unwrap_or(0)
    }

    /// As words.
    pub(crate) fn pack(&self) -> [u64; WORDS] {
        let steps = |at: usize| pair(short(self.steps[at]), short(self.steps[at + 1]));
        let [id_0, id_1] = [&self.query_id[..8], &self.query_id[8..]]
            .map(|half| half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        let bytes = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        let [code, code_high] = self.refusal.map_or(0, ErrorCode::code).to_le_bytes();
        let [worker, worker_high] = self.worker.unwrap_or(NOBODY).to_le_bytes();
        let [batch, batch_high] = self.batch.to_le_bytes();
        let [life, life_high] = self.life.to_le_bytes();
        let packed = self.end.code() | self.priority.code() << 2 | (self.tries & 7) << 4;
        let closed_by = self.closed_by.map_or(NOTHING, |reason| reason as u8);
        let operation = self.operation.map_or(NOTHING, Operation::code);
        [
            self.message_id,
            id_0,
            id_1,
            self.at_ns,
            steps(0),
            steps(2),
            steps(4),
            steps(6),
            pair(short(self.compute_ns), short(self.deadline)),
            pair(self.identity, self.conn),
            pair(self.rows, self.carried),
            pair(self.payload, self.reply),
            pair(self.copied_in, self.copied_by_worker),
            bytes([code, code_high, worker, worker_high, batch, batch_high, life, life_high]),
            bytes([
                packed,
                closed_by,
                operation,
                self.cause.code(),
                self.signer,
                self.attempt,
                self.waits.0,
                self.ways.0,
            ]),
        ]
    }

    /// From words.
    pub(crate) fn unpack(words: &[u64; WORDS]) -> Self {
        let mut steps = [None; Step::ALL.len()];
        for (at, word) in words[4..=LAST_STEPS].iter().enumerate() {
            let [first, second] = halves(*word).map(span);
            (steps[2 * at], steps[2 * at + 1]) = (first, second);
        }
        let mut query_id = [0; 16];
        query_id[..8].copy_from_slice(&words[1].to_be_bytes());
        query_id[8..].copy_from_slice(&words[2].to_be_bytes());
        let [compute_ns, deadline] = halves(words[8]).map(span);
        let [identity, conn] = halves(words[9]);
        let [rows, carried] = halves(words[10]);
        let [payload, reply] = halves(words[11]);
        let [copied_in, copied_by_worker] = halves(words[12]);
        let number = |shift: u32| (words[13] >> shift) as u16;
        let [packed, closed_by, operation, cause, signer, attempt, waits, ways] =
            words[14].to_le_bytes();
        Self {
            message_id: words[0],
            query_id,
            at_ns: words[3],
            steps,
            compute_ns,
            deadline,
            identity,
            conn,
            rows,
            carried,
            payload,
            reply,
            copied_in,
            copied_by_worker,
            end: End::from_code(packed & 3).unwrap_or(End::Answered),
            refusal: ErrorCode::from_code(number(0)),
            cause: Cause::from_code(cause),
            worker: Some(number(16)).filter(|worker| *worker != NOBODY),
            signer,
            batch: number(32),
            life: number(48),
            closed_by: CloseReason::ALL.get(usize::from(closed_by)).copied(),
            operation: Operation::from_code(operation),
            priority: Priority::from_code(packed >> 2 & 3).unwrap_or(Priority::Normal),
            tries: packed >> 4 & 7,
            attempt,
            waits: Waits(waits),
            ways: Ways(ways),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_the_record() {
        let full = Record {
            message_id: u64::MAX,
            query_id: *b"0123456789abcdef",
            at_ns: 1_796_000_000_000_000_000,
            steps: [0, 1, 2, 3, 4, 5, 6, 7].map(|n| Some(n << 20)),
            compute_ns: Some(1 << 30),
            deadline: Some(5),
            identity: 0xFFFF_0001,
            conn: 77,
            life: 65_535,
            rows: 65_536,
            carried: 1,
            payload: 2,
            reply: u32::MAX,
            copied_in: 3,
            copied_by_worker: 4,
            end: End::Refused,
            refusal: Some(ErrorCode::Unconfirmed),
            cause: Cause::Expired(Place::Worker),
            worker: Some(63),
            signer: 255,
            batch: 256,
            closed_by: Some(CloseReason::Retry),
            operation: Some(Operation::Fetch),
            priority: Priority::Critical,
            tries: 3,
            attempt: 255,
            waits: Waits(15),
            ways: Ways(63),
        };
        let empty = Record::default();
        for record in [full, empty] {
            assert_eq!(Record::unpack(&record.pack()), record);
        }
        for cause in Shed::ALL.map(Cause::Shed).into_iter().chain(Place::ALL.map(Cause::Expired)) {
            assert_eq!(Cause::from_code(cause.code()), cause);
        }
        assert_eq!(Cause::from_code(99), Cause::Plain);
    }

    #[test]
    fn the_moment_of_sending_is_one_word_of_its_own() {
        let mut record = Record::default();
        record.steps[Step::Ended as usize] = Some(1_000);
        let mut words = record.pack();
        words[SENT_AT] = with_sent(words[SENT_AT], 2_048);
        record.steps[Step::Sent as usize] = Some(2_048);
        assert_eq!(Record::unpack(&words), record);
        assert_eq!(record.total(), 2_048);
    }

    #[test]
    fn spans_keep_their_order() {
        let spans = [0, 1, 16_777_216, 16_777_217, 60_000_000_001, 3_600_000_000_000];
        let kept: Vec<Time> = spans.iter().filter_map(|ns| span(short(Some(*ns)))).collect();
        assert!(kept.is_sorted() && kept.len() == spans.len());
        assert!(kept.iter().zip(spans).all(|(kept, ns)| kept.abs_diff(ns) <= ns >> 24));
    }
}
