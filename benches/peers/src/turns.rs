//! Who waits for the next answer, where answers come in the order of the questions.

use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// The line of those who wait. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<oneshot::Sender<Bytes>>,
    closed: bool,
}

impl Turns {
    /// The next turn; fails once the line is closed.
    pub(crate) fn take(&self) -> oneshot::Receiver<Bytes> {
        let (tell, told) = oneshot::channel();
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.closed {
            line.waiting.push_back(tell);
        }
        told
    }

    /// The answer for whoever is first; one for nobody is dropped.
    pub(crate) fn answer(&self, answer: Bytes) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = line.waiting.pop_front() {
            let _ = first.send(answer);
        }
    }

    /// There will be no more answers.
    pub(crate) fn close(&self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.closed = true;
        line.waiting.clear();
    }
}
