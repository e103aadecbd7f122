//! One connection of a pool: many calls under way, matched by message id.

use crate::{
    Answer, Buffer, ClientError,
    aio::{
        ask::{Ask, Parts, cancel},
        link::{Link, Reading, Writing},
    },
    frame,
    policy::book::{Arrival, Book},
    stats::Counts,
};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    sync::mpsc,
    time::{timeout, timeout_at},
};
use wire::{HEADER_LEN, Kind};

/// Bytes of a socket's reading and writing that are gathered.
const GATHER: usize = 64 * 1024;
/// Frames that may wait to leave; a call waits for room.
const OUTBOX: usize = 128;
/// Chunks of one answer that may wait for the caller; then the connection waits.
const CHUNKS_AHEAD: usize = 16;
/// After a write has failed: how long the node's reason may take to come.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the frames of an answer go.
#[derive(Clone, Debug)]
struct Route {
    frames: mpsc::Sender<Answer>,
    chunked: bool,
    deadline: Instant,
}

/// What both ends of a connection share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct State {
    book: Book<Route>,
    /// Why the connection is over, once it is.
    over: Option<ClientError>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection is over.
    fn why(&self) -> ClientError {
        self.lock().over.as_ref().map_or_else(|| ended("waiting for a reply"), ClientError::copy)
    }
}

/// The handle of a connection; it closes when the last one is gone.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    shared: Arc<Shared>,
    out: mpsc::Sender<Parts>,
}

/// The connection itself, to be driven.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    frames: mpsc::Receiver<Parts>,
    link: Link,
    payload_max: u32,
}

impl Conn {
    /// A handle, and what has to [`run`](Engine::run) for it.
    pub(crate) fn new(link: Link, payload_max: u32, counts: Arc<Counts>) -> (Self, Engine) {
        let state = Mutex::new(State { book: Book::new(), over: None });
        let shared = Arc::new(Shared { state, counts });
        let (out, frames) = mpsc::channel(OUTBOX);
        (Self { shared: Arc::clone(&shared), out }, Engine { shared, frames, link, payload_max })
    }

    /// Sends a try of this call.
    ///
    /// # Errors
    /// Why the connection is over; [`ClientError::Request`] for what no frame can carry.
    pub(crate) async fn send(
        &self,
        ask: &mut Ask,
        attempt: u8,
        deadline: Instant,
        chunked: bool,
    ) -> Result<Flight, ClientError> {
        let Ok(room) = self.out.reserve().await else { return Err(self.shared.why()) };
        let (frames, answers) = mpsc::channel(if chunked { CHUNKS_AHEAD } else { 1 });
        let id = {
            let mut state = self.shared.lock();
            if let Some(over) = &state.over {
                return Err(over.copy());
            }
            state.book.open(Route { frames, chunked, deadline })
        };
        let taken_back = ask.kind() == Kind::QueryRequest;
        let conn = self.clone();
        let mut flight = Flight { conn, id, answers, taken_back, is_sent: false, answered: false };
        room.send(ask.frame(id, attempt, deadline.saturating_duration_since(Instant::now()))?);
        flight.is_sent = true;
        Ok(flight)
    }

    /// Sends a ping and waits for its echo.
    pub(crate) async fn ping(&self, patience: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + patience;
        let mut ask = Ask::Plain(Kind::Heartbeat, bytes::Bytes::new());
        let echo = async { self.send(&mut ask, 0, deadline, false).await?.next().await };
        match timeout(patience, echo).await {
            Ok(Ok(echo)) if echo.kind == Kind::Heartbeat && echo.payload.as_slice().is_empty() => {
                Ok(())
            }
            Ok(Ok(other)) => {
                Err(ClientError::protocol(format!("a ping was answered by {}", other.kind)))
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(ClientError::Timeout { after: patience }),
        }
    }

    /// Ends the connection for this reason.
    pub(crate) fn end(&self, why: ClientError) {
        end(&self.shared, why);
    }
}

fn end(shared: &Shared, why: ClientError) {
    let mut state = shared.lock();
    state.over.get_or_insert(why);
    // Whoever waits finds the end of its answers, and asks why.
    state.book.close();
}

/// One try under way. Dropped before its answer is whole, it is taken back.
#[derive(Debug)]
pub(crate) struct Flight {
    conn: Conn,
    id: u64,
    answers: mpsc::Receiver<Answer>,
    taken_back: bool,
    is_sent: bool,
    /// The node has said something to it.
    pub(crate) answered: bool,
}

impl Flight {
    /// The next frame of the answer. Only until the last one.
    pub(crate) async fn next(&mut self) -> Result<Answer, ClientError> {
        match self.answers.recv().await {
            Some(answer) => {
                self.answered = true;
                Ok(answer)
            }
            None => Err(self.conn.shared.why()),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let open = self.conn.shared.lock().book.forget(self.id);
        // Where there is no room the connection is stuck, and the node ends the request with it.
        if open
            && self.is_sent
            && self.taken_back
            && self.conn.out.try_send(cancel(self.id)).is_ok()
        {
            self.conn.shared.counts.cancelled.fetch_add(1, Relaxed);
        }
    }
}

impl Engine {
    /// Drives the connection until its last handle is gone or it breaks; gives back why.
    pub(crate) async fn run(self) -> ClientError {
        let Link { reading, writing, .. } = self.link;
        let mut read = Box::pin(read(reading, &self.shared, self.payload_max));
        let why = tokio::select! {
            why = &mut read => why,
            wrote = write(writing, self.frames) => match wrote {
                Ok(()) => ended("waiting for a reply"),
                // The node may have said why it stopped listening.
                Err(source) => timeout(LAST_WORDS, &mut read)
                    .await
                    .unwrap_or(ClientError::Io { doing: "sending a frame", source }),
            },
        };
        end(&self.shared, why.copy());
        why
    }
}

fn ended(doing: &'static str) -> ClientError {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the node closed the connection");
    ClientError::Io { doing, source }
}

/// Writes until the last handle is gone, and says that nothing more will come.
async fn write(writing: Writing, mut frames: mpsc::Receiver<Parts>) -> io::Result<()> {
    let mut writing = BufWriter::with_capacity(GATHER, writing);
    while let Some(parts) = frames.recv().await {
        for part in &parts {
            writing.write_all(part).await?;
        }
        if frames.is_empty() {
            writing.flush().await?;
        }
    }
    writing.shutdown().await
}

async fn read(reading: Reading, shared: &Shared, payload_max: u32) -> ClientError {
    let mut reading = BufReader::with_capacity(GATHER, reading);
    loop {
        let answer = match one(&mut reading, payload_max).await {
            Ok(answer) => answer,
            Err(why) => return why,
        };
        if let Err(why) = hand_over(answer, shared).await {
            return why;
        }
    }
}

/// One whole frame.
async fn one(reading: &mut BufReader<Reading>, payload_max: u32) -> Result<Answer, ClientError> {
    let doing = |doing| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => ended(doing),
            _ => ClientError::Io { doing, source },
        }
    };
    let mut head = [0; HEADER_LEN];
    reading.read_exact(&mut head).await.map_err(doing("waiting for a reply"))?;
    let (header, kind) = frame::head(&head, payload_max)?;
    let mut payload = Buffer::new();
    payload.resize(header.payload_len() as usize);
    reading.read_exact(payload.as_mut_slice()).await.map_err(doing("receiving a reply"))?;
    frame::body(&header, payload.as_slice())?;
    Ok(Answer { header, kind, payload })
}

/// Gives a frame to the call that waits for it. A caller that lags behind its chunks holds up the
/// connection until its deadline, and is given up then.
async fn hand_over(answer: Answer, shared: &Shared) -> Result<(), ClientError> {
    let id = answer.header.message_id();
    let chunked = shared.lock().book.get(id).is_some_and(|route| route.chunked);
    let last = !chunked || is_last(&answer);
    let arrival = shared.lock().book.arrived(id, last);
    match arrival {
        Arrival::Last(route) | Arrival::Part(route) => {
            let deadline = route.deadline.into();
            // A caller that is gone has taken the call back.
            if timeout_at(deadline, route.frames.send(answer)).await.is_err() {
                shared.lock().book.forget(id);
            }
            Ok(())
        }
        Arrival::Late => {
            shared.counts.late.fetch_add(1, Relaxed);
            Ok(())
        }
        Arrival::Unasked => match answer.reply().refusal()? {
            // The connection as a whole is refused.
            Some(refusal) if id == 0 => Err(ClientError::Refused(refusal)),
            _ => Err(ClientError::protocol(format!("an answer to {id}, which was never asked"))),
        },
    }
}

/// False for a chunk with others behind it. What cannot be read is the last: there is no telling
/// what it announces.
fn is_last(answer: &Answer) -> bool {
    answer.kind != Kind::QueryResponse
        || answer.response().map_or(true, |response| response.root.streaming_chunk.is_final)
}
