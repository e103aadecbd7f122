//! A search through the rings, a part at a time, so that no turn pays for all of it.

use super::{Record, Rings, Step};
use wire::trace::{End, Select};

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which requests.
    pub select: Select,
    /// For [`Select::Message`].
    pub message_id: u64,
    /// For [`Select::Query`].
    pub query_id: [u8; 16],
    /// Only of this identity.
    pub identity: Option<u32>,
    /// Only of this connection.
    pub connection: Option<u32>,
    /// Only of this shard.
    pub shard: Option<usize>,
    /// At most so many.
    pub limit: usize,
}

impl Question {
    fn fits(&self, record: &Record) -> bool {
        let one = match self.select {
            Select::Message => record.message_id == self.message_id,
            Select::Query => record.query_id == self.query_id,
            Select::Refused => record.end == End::Refused,
            Select::Last | Select::Slowest => true,
        };
        one && self.identity.is_none_or(|identity| identity == record.identity)
            && self.connection.is_none_or(|connection| connection == record.conn)
    }

    /// What is greater comes first.
    fn rank(&self, record: &Record) -> u64 {
        match self.select {
            Select::Slowest => record.step(Step::Ended).unwrap_or(0),
            _ => record.at_ns + record.total(),
        }
    }
}

/// A request that was found, and its shard.
pub type Found = (usize, Record);

/// The search.
#[derive(Debug)]
pub struct Scan {
    question: Question,
    /// Rings to look through: two of each shard.
    ring: usize,
    /// Where in the ring: the next position to read is the one before. `None`: not begun.
    at: Option<u64>,
    /// Found in this ring.
    here: usize,
    found: Vec<Found>,
    searched: u64,
}

impl Scan {
    /// Not begun.
    #[must_use]
    pub fn new(question: Question) -> Self {
        let found = Vec::with_capacity(question.limit);
        Self { question, ring: 0, at: None, here: 0, found, searched: 0 }
    }

    /// Looks at so many more records. True once there are no more.
    pub fn step(&mut self, rings: &Rings, mut records: usize) -> bool {
        while let Some(shard) = rings.shards().get(self.ring / 2) {
            let notable = self.ring % 2 == 1;
            let ring = if notable { &shard.notable } else { &shard.plain };
            let skipped = self.question.shard.is_some_and(|only| only != self.ring / 2)
                || (self.question.select == Select::Refused && !notable);
            let enough =
                self.question.select != Select::Slowest && self.here >= self.question.limit;
            let at = self.at.unwrap_or_else(|| ring.written());
            if skipped || enough || at <= ring.oldest() {
                (self.ring, self.at, self.here) = (self.ring + 1, None, 0);
                continue;
            }
            if records == 0 {
                self.at = Some(at);
                return false;
            }
            records -= 1;
            self.at = Some(at - 1);
            let Some(record) = ring.read(at - 1) else { continue };
            self.searched += 1;
            if self.question.fits(&record) {
                self.here += 1;
                self.keep(record);
            }
        }
        true
    }

    /// Keeps the first ones by rank.
    fn keep(&mut self, record: Record) {
        let (question, shard) = (&self.question, self.ring / 2);
        if self.found.len() < question.limit {
            self.found.push((shard, record));
            return;
        }
        let last = self.found.iter_mut().min_by_key(|(_, found)| question.rank(found));
        if let Some(last) = last.filter(|(_, found)| question.rank(found) < question.rank(&record))
        {
            *last = (shard, record);
        }
    }

    /// What was found, first ones first, and how many were looked at.
    #[must_use]
    pub fn into_found(mut self) -> (Vec<Found>, u64) {
        let question = &self.question;
        self.found.sort_by_key(|(_, record)| core::cmp::Reverse(question.rank(record)));
        (self.found, self.searched)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Bounds, *};
    use std::sync::Arc;

    /// Two shards; on each, requests 0 to 9 are answered (later ones faster) and 10 to 13 refused.
    fn rings() -> Arc<Rings> {
        let rings = Rings::new(2, Bounds { records: 16, sample: 0.0 });
        for (shard, own) in rings.shards().iter().enumerate() {
            for n in 0..14 {
                let refused = n >= 10;
                let mut record = Record {
                    message_id: n,
                    at_ns: 1_000 * n + shard as u64,
                    identity: (n % 2) as u32,
                    conn: shard as u32 + 5,
                    end: if refused { End::Refused } else { End::Answered },
                    query_id: [n as u8; 16],
                    ..Record::default()
                };
                record.steps[Step::Ended as usize] = Some(100 - n);
                let ring = if refused { &own.notable } else { &own.plain };
                ring.write(&record.pack());
            }
        }
        rings
    }

    fn question(select: Select, limit: usize) -> Question {
        let (message_id, query_id) = (7, [3; 16]);
        let (identity, connection, shard) = (None, None, None);
        Question { select, message_id, query_id, identity, connection, shard, limit }
    }

    fn ask(question: Question, step: usize) -> Vec<(usize, u64)> {
        let rings = rings();
        let mut scan = Scan::new(question);
        let mut steps = 0;
        while !scan.step(&rings, step) {
            steps += 1;
            assert!(steps < 1_000, "it comes to an end");
        }
        scan.into_found().0.into_iter().map(|(shard, record)| (shard, record.message_id)).collect()
    }

    #[test]
    fn each_selection_finds_its_own_in_steps_of_any_length() {
        for step in [1, 3, 1_000] {
            let of = |select, limit| ask(question(select, limit), step);
            assert_eq!(of(Select::Message, 8), [(1, 7), (0, 7)], "newest first");
            assert_eq!(of(Select::Query, 8), [(1, 3), (0, 3)]);
            assert_eq!(of(Select::Last, 3), [(1, 13), (0, 13), (1, 12)]);
            assert_eq!(of(Select::Slowest, 3).iter().map(|(_, n)| *n).max(), Some(1));
            assert_eq!(of(Select::Refused, 3), [(1, 13), (0, 13), (1, 12)]);
        }
    }

    #[test]
    fn identity_connection_and_shard_narrow_a_search_down() {
        let base = question(Select::Last, 2);
        assert_eq!(ask(Question { identity: Some(0), ..base.clone() }, 9), [(1, 12), (0, 12)]);
        assert_eq!(ask(Question { connection: Some(5), ..base.clone() }, 9), [(0, 13), (0, 12)]);
        assert_eq!(ask(Question { shard: Some(1), ..base.clone() }, 9), [(1, 13), (1, 12)]);
        assert_eq!(ask(Question { shard: Some(9), ..base }, 9), []);
    }
}
