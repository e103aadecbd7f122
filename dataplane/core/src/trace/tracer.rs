//! What a shard keeps so that it can write a record when a request ends: a note for each slot, the
//! answers that have not left yet, and who signs for the workers.

use super::{
    Rings,
    record::{Record, Waits, Ways},
    ring::Ring,
};
use crate::{driver::Time, memory::SlotId, stats::CloseReason};
use std::sync::Arc;
use wire::{Operation, Priority, trace::End};

/// Answers whose departure is waited for. One more leaves without being noticed.
const UNSENT: u32 = 4_096;
/// Workers and signatures of each that are told apart.
const WORKERS: usize = 64;
const SIGNERS: usize = 256;
const NONE: u32 = u32::MAX;

/// What is noted of the request in a slot while it is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    /// Its header was let in.
    pub begun: Time,
    /// It got its slot.
    pub taken: Time,
    /// Its first batch closed.
    pub closed: Time,
    /// It was lent for the first time; 0 for not yet.
    pub lent: Time,
    pub query_id: [u8; 16],
    pub carried: u32,
    pub copied_in: u32,
    pub batch: u16,
    pub closed_by: Option<CloseReason>,
    pub operation: Option<Operation>,
    pub priority: Priority,
    pub attempt: u8,
    pub waits: Waits,
    pub ways: Ways,
}

const _: () = assert!(size_of::<Note>() == 64);

const BLANK: Note = Note {
    begun: 0,
    taken: 0,
    closed: 0,
    lent: 0,
    query_id: [0; 16],
    carried: 0,
    copied_in: 0,
    batch: 0,
    closed_by: None,
    operation: None,
    priority: Priority::Normal,
    attempt: 0,
    waits: Waits(0),
    ways: Ways(0),
};

/// What is noted of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfConn {
    /// When the header of a request was let in that has no slot yet; 0 for none.
    pub begun: Time,
    /// What it has waited for since.
    pub waits: Waits,
    /// Bytes that the OS has taken.
    taken: u64,
    /// Answers that have not left, oldest and youngest.
    first: u32,
    last: u32,
}

impl Default for OfConn {
    fn default() -> Self {
        Self { begun: 0, waits: Waits(0), taken: 0, first: NONE, last: NONE }
    }
}

/// An answer that has not left.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    notable: bool,
    position: u64,
    /// Its place in the ring of the sample.
    sampled: Option<u64>,
    /// Its last byte, counted over all of the connection.
    end: u64,
    begun: Time,
}

const UNLINKED: Link =
    Link { next: NONE, notable: false, position: 0, sampled: None, end: 0, begun: 0 };

/// The writing end of one shard's rings.
#[derive(Debug)]
pub(crate) struct Tracer {
    pub(crate) rings: Arc<Rings>,
    pub(crate) shard: u16,
    notes: Box<[Note]>,
    links: Box<[Link]>,
    /// The first unused link.
    free: u32,
    /// The node's number of each worker's signature; 0 for one that is not known yet.
    signers: Box<[u8]>,
    /// Requests that take this long are notable.
    slow: Time,
}

impl Tracer {
    pub(crate) fn new(rings: Arc<Rings>, shard: u16, slots: u32, slow: Time) -> Self {
        let link = |at| Link { next: if at + 1 < UNSENT { at + 1 } else { NONE }, ..UNLINKED };
        Self {
            rings,
            shard,
            notes: vec![BLANK; slots as usize].into(),
            links: (0..UNSENT).map(link).collect(),
            free: 0,
            signers: vec![0; WORKERS * SIGNERS].into(),
            slow,
        }
    }

    /// Bytes of one, beside the rings.
    pub(crate) const fn bytes(slots: u32) -> u64 {
        let notes = slots as usize * size_of::<Note>();
        (notes + UNSENT as usize * size_of::<Link>() + WORKERS * SIGNERS) as u64
    }

    pub(crate) fn note(&mut self, slot: SlotId) -> &mut Note {
        &mut self.notes[slot.0 as usize]
    }

    /// A request has got its slot: what is known of it from its header.
    pub(crate) fn begin(&mut self, now: Time, slot: SlotId, conn: &mut OfConn, carried: u32) {
        let OfConn { begun, waits, .. } = *conn;
        (conn.begun, conn.waits) = (0, Waits(0));
        let begun = if begun == 0 { now } else { begun };
        *self.note(slot) = Note { begun, taken: now, carried, waits, ..BLANK };
    }

    /// It goes on in another slot.
    pub(crate) fn moved(&mut self, from: SlotId, to: SlotId, way: Ways) {
        *self.note(to) = *self.note(from);
        self.note(to).ways.add(way);
    }

    /// Files a record. Where its answer is on its way on a connection, of which so many bytes have
    /// not left, its departure will be entered.
    pub(crate) fn file(&mut self, begun: Time, record: &Record, conn: Option<(&mut OfConn, u64)>) {
        let plain = record.end == End::Answered && record.tries == 1 && record.attempt == 0;
        let notable = !plain || record.total() >= self.slow;
        let words = record.pack();
        let position = self.ring(notable).write(&words);
        let sampled = self.rings.samples(record).then(|| self.own().sampled.write(&words));
        let Some((conn, unsent)) = conn else { return };
        let Some(link) = self.links.get_mut(self.free as usize) else { return };
        let end = conn.taken + unsent;
        let at = core::mem::replace(&mut self.free, link.next);
        *link = Link { next: NONE, notable, position, sampled, end, begun };
        match self.links.get_mut(conn.last as usize) {
            Some(last) => last.next = at,
            None => conn.first = at,
        }
        conn.last = at;
    }

    fn own(&self) -> &super::ShardRings {
        &self.rings.shards[usize::from(self.shard)]
    }

    fn ring(&self, notable: bool) -> &Ring {
        if notable { &self.own().notable } else { &self.own().plain }
    }

    /// The OS has taken so many bytes of a connection.
    pub(crate) fn sent(&mut self, now: Time, conn: &mut OfConn, bytes: u64) {
        conn.taken += bytes;
        while let Some(link) = self.links.get(conn.first as usize).copied() {
            if link.end > conn.taken {
                return;
            }
            let span = now.saturating_sub(link.begun);
            self.ring(link.notable).amend(link.position, span);
            if let Some(position) = link.sampled {
                self.own().sampled.amend(position, span);
            }
            self.unlink(conn);
        }
    }

    /// A connection is gone, with all that has not left.
    pub(crate) fn gone(&mut self, conn: &mut OfConn) {
        while conn.first != NONE {
            self.unlink(conn);
        }
    }

    fn unlink(&mut self, conn: &mut OfConn) {
        let at = conn.first;
        let Some(link) = self.links.get_mut(at as usize) else { return };
        conn.first = core::mem::replace(&mut link.next, self.free);
        self.free = at;
        if conn.first == NONE {
            conn.last = NONE;
        }
    }

    /// The node's number of a worker's signature; asks `read` for the words behind one that is new.
    pub(crate) fn signer(
        &mut self,
        worker: u16,
        author: u16,
        read: impl FnOnce() -> Option<(String, String)>,
    ) -> u8 {
        let (worker, author) = (usize::from(worker), usize::from(author));
        if author == 0 || worker >= WORKERS || author >= SIGNERS {
            return 0;
        }
        let known = &mut self.signers[worker * SIGNERS + author];
        if *known == 0
            && let Some((backend, reason)) = read()
        {
            *known = self.rings.sign(backend, reason);
        }
        *known
    }

    /// A worker has started anew, and numbers its signatures anew.
    pub(crate) fn forget_signers(&mut self, worker: u16) {
        let from = usize::from(worker) * SIGNERS;
        if let Some(own) = self.signers.get_mut(from..from + SIGNERS) {
            own.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Bounds, record::Step},
        *,
    };

    fn tracer() -> Tracer {
        let rings = Rings::new(1, Bounds { records: 64, sample: 1.0 });
        Tracer::new(rings, 0, 1, 1_000_000)
    }

    fn sent(ring: &Ring) -> Vec<Option<Time>> {
        let read = |at| ring.read(at).and_then(|record| record.step(Step::Sent));
        (ring.oldest()..ring.written()).map(read).collect()
    }

    #[test]
    fn departures_are_entered_as_the_os_takes_bytes() {
        let mut tracer = tracer();
        let (mut one, mut other) = (OfConn::default(), OfConn::default());
        let record = Record { tries: 1, ..Record::default() };
        tracer.file(100, &record, Some((&mut one, 10)));
        tracer.file(100, &record, Some((&mut other, 5)));
        tracer.file(120, &record, Some((&mut one, 30)));
        tracer.sent(160, &mut one, 9);
        let rings = Arc::clone(&tracer.rings);
        let plain = &rings.shards()[0].plain;
        assert_eq!(sent(plain), [None, None, None]);
        tracer.sent(164, &mut one, 1);
        assert_eq!(sent(plain), [Some(64), None, None]);
        tracer.sent(248, &mut one, 40);
        tracer.sent(248, &mut other, 5);
        assert_eq!(sent(plain), [Some(64), Some(148), Some(128)]);
        assert_eq!(sent(&rings.shards()[0].sampled), sent(plain), "the sample says the same");
        assert_eq!((one.first, one.last, other.first), (NONE, NONE, NONE));
    }

    #[test]
    fn links_run_out_and_come_back() {
        let mut tracer = tracer();
        let mut conn = OfConn::default();
        let record = Record { tries: 1, ..Record::default() };
        for _ in 0..=UNSENT {
            tracer.file(0, &record, Some((&mut conn, 1)));
        }
        assert_eq!(tracer.free, NONE);
        tracer.gone(&mut conn);
        let mut free = 0;
        let mut at = tracer.free;
        while at != NONE {
            (free, at) = (free + 1, tracer.links[at as usize].next);
        }
        assert_eq!((free, conn.first, conn.last), (UNSENT, NONE, NONE));
    }

    #[test]
    fn what_is_not_answered_plainly_is_kept_apart() {
        let mut tracer = tracer();
        let plain = Record { tries: 1, ..Record::default() };
        let mut slow = plain.clone();
        slow.steps[Step::Ended as usize] = Some(2_000_000);
        let again = Record { tries: 2, ..plain.clone() };
        let refused = Record { end: End::Refused, ..plain.clone() };
        let gone = Record { end: End::Gone, ..plain.clone() };
        for record in [&plain, &slow, &again, &refused, &gone, &plain] {
            tracer.file(0, record, None);
        }
        let own = &tracer.rings.shards()[0];
        assert_eq!((own.plain.written(), own.notable.written(), own.sampled.written()), (2, 4, 6));
    }

    #[test]
    fn a_signature_is_read_once_until_its_worker_starts_anew() {
        let mut tracer = tracer();
        let words = || Some(("cpu".to_owned(), "no GPU".to_owned()));
        let first = tracer.signer(3, 1, words);
        assert_ne!(first, 0);
        assert_eq!(tracer.signer(3, 1, || panic!("it is known")), first);
        assert_eq!(tracer.signer(4, 9, words), first, "the same words are one signer");
        tracer.forget_signers(3);
        let other = tracer.signer(3, 1, || Some(("cuda".to_owned(), "sooner".to_owned())));
        assert_ne!(other, first);
        assert_eq!(tracer.rings.signer(other).map(|signer| signer.0).as_deref(), Some("cuda"));
        let never = || panic!("nobody's signature is not read");
        assert_eq!([tracer.signer(3, 0, never), tracer.signer(64, 1, never)], [0, 0]);
        assert_eq!(tracer.signer(0, 256, never), 0);
    }
}
