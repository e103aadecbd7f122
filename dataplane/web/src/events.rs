//! The stream of events: one rendering for all readers. A reader that is slow misses what came
//! meanwhile and gets the latest; nothing is kept for it here.

use crate::counters::Counters;
use bytes::Bytes;
use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// What each reader gets first: how long to wait before it comes back.
const FIRST: &[u8] = b"retry: 2000\n\n";
/// What it gets where there is no event.
const HEARTBEAT: &[u8] = b": alive\n\n";

/// An overview as an event.
pub(crate) fn overview(json: &[u8]) -> Bytes {
    [b"event: overview\ndata: ", json, b"\n\n"].concat().into()
}

/// The places of readers.
#[derive(Debug)]
pub(crate) struct Seats {
    room: usize,
    counters: Arc<Counters>,
}

/// One reader's place.
#[derive(Debug)]
struct Seat(Rc<Seats>);

impl Seats {
    pub(crate) fn new(room: usize, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self { room, counters })
    }

    /// True where nobody looks.
    pub(crate) fn is_empty(&self) -> bool {
        self.counters.readers.get() == 0
    }

    fn take(self: &Rc<Self>) -> Option<Seat> {
        let readers = &self.counters.readers;
        (readers.get() < self.room as u64).then(|| {
            readers.set(readers.get() + 1);
            Seat(Rc::clone(self))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let readers = &self.0.counters.readers;
        readers.set(readers.get().saturating_sub(1));
    }
}

/// Where a reader's events come from.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) events: watch::Receiver<Bytes>,
    pub(crate) leaving: watch::Receiver<bool>,
    pub(crate) heartbeat: Duration,
}

impl Feed {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let bytes = tokio::select! {
            _ = self.leaving.wait_for(|leaving| *leaving) => return None,
            changed = self.events.changed() => {
                changed.ok()?;
                self.events.borrow_and_update().clone()
            }
            () = sleep(self.heartbeat) => Bytes::from_static(HEARTBEAT),
        };
        Some((bytes, self))
    }
}

/// What comes next, and where it goes on after that.
type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Feed)>>>>;

/// One reader's stream.
pub(crate) struct Events {
    first: Option<Bytes>,
    next: Next,
    _seat: Seat,
}

impl Events {
    /// A stream of what comes from now on; `None` where all places are taken.
    pub(crate) fn new(seats: &Rc<Seats>, feed: Feed) -> Option<Self> {
        let seat = seats.take()?;
        Some(Self {
            first: Some(Bytes::from_static(FIRST)),
            next: Box::pin(feed.next()),
            _seat: seat,
        })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let told = ready!(self.next.as_mut().poll(cx));
        Poll::Ready(told.map(|(bytes, feed)| {
            self.next = Box::pin(feed.next());
            bytes
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn feed(beats: Duration) -> (watch::Sender<Bytes>, watch::Sender<bool>, Feed) {
        let (tell, events) = watch::channel(Bytes::new());
        let (leave, leaving) = watch::channel(false);
        (tell, leave, Feed { events, leaving, heartbeat: beats })
    }

    fn in_runtime(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(work);
    }

    #[test]
    fn a_reader_gets_the_latest_and_ends_with_the_node() {
        in_runtime(async {
            let seats = Seats::new(1, Arc::default());
            let (tell, leave, feed) = feed(Duration::from_secs(3600));
            let mut reader = Events::new(&seats, feed).expect("a place");
            let next = async |reader: &mut Events| poll_fn(|cx| reader.poll(cx)).await;
            assert_eq!(next(&mut reader).await.as_deref(), Some(FIRST));
            let _ = tell.send(overview(b"1"));
            let _ = tell.send(overview(b"2"));
            let got = next(&mut reader).await;
            assert_eq!(got.as_deref(), Some(&b"event: overview\ndata: 2\n\n"[..]));
            let _ = leave.send(true);
            assert_eq!(next(&mut reader).await, None);
        });
    }

    #[test]
    fn without_events_there_is_a_sign_of_life() {
        in_runtime(async {
            let seats = Seats::new(1, Arc::default());
            let (_tell, _leave, feed) = feed(Duration::from_millis(1));
            let mut reader = Events::new(&seats, feed).expect("a place");
            for expected in [FIRST, HEARTBEAT, HEARTBEAT] {
                let got = poll_fn(|cx| reader.poll(cx)).await;
                assert_eq!(got.as_deref(), Some(expected));
            }
        });
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let seats = Seats::new(2, Arc::default());
        let (_tell, _leave, one) = feed(Duration::from_secs(1));
        let more = || Feed {
            events: one.events.clone(),
            leaving: one.leaving.clone(),
            heartbeat: one.heartbeat,
        };
        let first = Events::new(&seats, more()).expect("a place");
        let _second = Events::new(&seats, more()).expect("a place");
        assert!(Events::new(&seats, more()).is_none());
        assert!(!seats.is_empty());
        drop(first);
        assert!(Events::new(&seats, more()).is_some());
    }
}
