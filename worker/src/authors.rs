//! Who signs a reply: which backend, and why that one. Written once, used for many replies.

use crate::job::Job;
use core::fmt;
use wire::{
    Coding, Dtype, ErrorCode, HEADER_LEN, Operation, Source, Work,
    reply::{self, Author, Chunk, Layout, Stamp},
};

/// Most different signatures that are kept. One more is signed by the first.
const AUTHORS_MAX: usize = 256;
/// Room for the texts and the root behind the parts of a reply.
const TAIL_MAX: usize = 2048;

/// One of the [`Authors`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuthorId(usize);

impl AuthorId {
    /// As the node is told.
    pub(crate) const fn code(self) -> u16 {
        self.0 as u16 + 1
    }
}

struct Entry {
    backend: &'static str,
    reason: String,
    author: Author,
    /// Bytes behind the parts of a reply, by operation code; 0 where not known yet.
    tails: [usize; 8],
}

/// The signatures of one worker.
pub(crate) struct Authors {
    worker: String,
    entries: Vec<Entry>,
}

impl fmt::Debug for Authors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authors").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Authors {
    pub(crate) fn new(worker: u16) -> Self {
        Self { worker: format!("worker-{worker}"), entries: Vec::new() }
    }

    /// The one who says this; made where there is none yet.
    pub(crate) fn who(&mut self, backend: &'static str, reason: &str) -> AuthorId {
        let known = |entry: &Entry| entry.backend == backend && entry.reason == reason;
        if let Some(at) = self.entries.iter().position(known) {
            return AuthorId(at);
        }
        if self.entries.len() == AUTHORS_MAX {
            return AuthorId::default();
        }
        let author = Author::new(&self.worker, backend, reason);
        let reason = reason.to_owned();
        self.entries.push(Entry { backend, reason, author, tails: [0; 8] });
        AuthorId(self.entries.len() - 1)
    }

    /// The one who says the same as `author`, and this.
    pub(crate) fn with(&mut self, author: AuthorId, more: &str) -> AuthorId {
        let Some(entry) = self.entries.get(author.0) else { return author };
        let same = |other: &Entry| {
            let reason = other.reason.strip_suffix(more);
            other.backend == entry.backend && reason == Some(entry.reason.as_str())
        };
        if let Some(at) = self.entries.iter().position(same) {
            return AuthorId(at);
        }
        let (backend, reason) = (entry.backend, format!("{}{more}", entry.reason));
        self.who(backend, &reason)
    }

    /// Ends a frame whose parts are filled. Returns its length.
    ///
    /// # Errors
    /// `ReplyTooLong` where the frame has no room.
    pub(crate) fn sign(
        &mut self,
        id: AuthorId,
        frame: &mut [u8],
        layout: &Layout,
        stamp: &Stamp,
    ) -> Result<usize, ErrorCode> {
        let entry = self.entries.get_mut(id.0).ok_or(ErrorCode::WorkerFailed)?;
        reply::finish(frame, layout, &mut entry.author, stamp)
    }

    /// Bytes of a frame with these parts, before it is written: what follows the parts depends on
    /// nothing but the author and the operation.
    pub(crate) fn frame_len(&mut self, id: AuthorId, operation: Operation, parts: usize) -> usize {
        let code = usize::from(operation.code());
        let known = self.entries.get(id.0).and_then(|entry| entry.tails.get(code)).copied();
        let tail = match known {
            Some(0) | None => {
                let tail = self.measure(id, operation);
                let entry = self.entries.get_mut(id.0);
                if let Some(place) = entry.and_then(|entry| entry.tails.get_mut(code)) {
                    *place = tail;
                }
                tail
            }
            Some(tail) => tail,
        };
        parts + tail
    }

    /// Signs a reply of one row to nobody and looks how long it became.
    fn measure(&mut self, id: AuthorId, operation: Operation) -> usize {
        // Hidden rows have no plain answer.
        let hidden = operation == Operation::Hidden;
        let work = Work {
            operation,
            dtype: Dtype::F32,
            values: Dtype::F32,
            coding: if hidden { Coding::Int8Group } else { Coding::Plain },
            source: Source::Inline,
            quality: 0.0,
            streaming: false,
            k: 1,
            rows: 1,
            cols: 1,
            data_offset: 0,
            data_len: 4,
            check: None,
        };
        let chunk = Chunk { index: 0, first_row: 0, rows: 1, is_final: true };
        let Some(layout) = Layout::of(&work, &chunk) else { return TAIL_MAX };
        let mut frame = vec![0; HEADER_LEN + layout.end() + TAIL_MAX];
        let stamp = Stamp {
            message_id: 0,
            timestamp_ns: 0,
            query_id: [0; 16],
            operation,
            compute_ns: 0,
            chunk,
        };
        self.sign(id, &mut frame, &layout, &stamp).map_or(TAIL_MAX, |len| len - layout.end())
    }
}

/// What is written over a reply to `job`.
pub(crate) fn stamp(job: &Job<'_>, compute_ns: u64, chunk: Chunk) -> Stamp {
    Stamp {
        message_id: job.order.message_id,
        timestamp_ns: crate::clock::epoch_ns(),
        query_id: wire::request::query_id(job.payload),
        operation: job.work.operation,
        compute_ns,
        chunk,
    }
}
