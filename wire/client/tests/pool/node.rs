//! A node that follows a script: it hears frames, and says and does what it is told, sound or not.

use client::Addr;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    runtime::{Builder, Runtime},
};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind, Operation, error,
    payload::{MetricsUpdate, QueryRequest},
    reply, request,
};
use zerocopy::IntoBytes;

/// A frame that the node heard.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// How many of its kind came before it.
    pub(crate) nth: usize,
    /// On which connection, in the order in which they came.
    pub(crate) conn: usize,
    /// Its type.
    pub(crate) kind: Kind,
    /// Its message id.
    pub(crate) id: u64,
    /// Its payload.
    pub(crate) payload: Vec<u8>,
}

impl Heard {
    fn root(&self) -> client::Buffer {
        client::Buffer::copy_of(&self.payload)
    }

    /// The id of a request.
    pub(crate) fn query_id(&self) -> [u8; 16] {
        request::query_id(&self.payload)
    }

    /// The deadline of a request.
    pub(crate) fn timeout_ms(&self) -> u32 {
        let payload = self.root();
        let root = wire::payload::open::<QueryRequest>(payload.as_slice()).expect("a request");
        root.routing_hint.timeout_ms.to_native()
    }

    /// Which try of its request it is.
    pub(crate) fn attempt(&self) -> u8 {
        let payload = self.root();
        let root = wire::payload::open::<QueryRequest>(payload.as_slice()).expect("a request");
        root.attempt
    }

    /// The frames that answer it: an echo, whole or in chunks.
    pub(crate) fn echo(&self) -> Vec<Vec<u8>> {
        if self.kind != Kind::QueryRequest {
            return vec![frame(self.kind, self.id, &[])];
        }
        let payload = self.root();
        let (_, work) = request::work(payload.as_slice()).expect("sound work");
        assert!(request::verify(payload.as_slice(), &work));
        let rows = request::rows(payload.as_slice(), &work).expect("rows");
        let mut author = reply::Author::new("w0", "cpu", "test");
        let chunks = reply::chunks(&work).map(|chunk| {
            let layout = reply::Layout::of(&work, &chunk).expect("a layout");
            let mut out = vec![0; reply::reply_len(&work) as usize];
            let from = chunk.first_row as usize * work.cols as usize;
            let here = &rows[from..from + chunk.rows as usize * work.cols as usize];
            out[HEADER_LEN..HEADER_LEN + here.len()].copy_from_slice(here);
            let stamp = reply::Stamp {
                message_id: self.id,
                timestamp_ns: 1,
                query_id: self.query_id(),
                operation: Operation::Echo,
                compute_ns: 1,
                chunk,
            };
            let len = reply::finish(&mut out, &layout, &mut author, &stamp).expect("room");
            out.truncate(len);
            out
        });
        chunks.collect()
    }

    /// The frame that refuses it.
    pub(crate) fn refusal(&self, code: ErrorCode, retry_after_ms: u32) -> Vec<u8> {
        refusal(self.id, code, retry_after_ms)
    }

    /// What a sound node says to it.
    pub(crate) fn sound(&self) -> Vec<Do> {
        match self.kind {
            Kind::MetricsUpdate => {
                let mut out = Vec::new();
                let update = MetricsUpdate { active_workers: 3, ..MetricsUpdate::default() };
                wire::frame::append(&mut out, &update, self.id, 0).expect("room");
                vec![Do::Say(out)]
            }
            Kind::ErrorReport => Vec::new(),
            _ => self.echo().into_iter().map(Do::Say).collect(),
        }
    }
}

pub(crate) fn refusal(id: u64, code: ErrorCode, retry_after_ms: u32) -> Vec<u8> {
    let mut out = vec![0; error::FRAME_MAX];
    let what = error::Refusal::new(code, 1).retry_after(retry_after_ms);
    let len = error::write_frame(&mut out, id, 0, &what);
    out.truncate(len);
    out
}

pub(crate) fn frame(kind: Kind, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header::for_payload(kind, id, 0, payload).as_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// What the node does next on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    /// Writes these bytes.
    Say(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Ends the connection.
    Close,
}

type Script = dyn Fn(&Heard) -> Vec<Do> + Send + Sync;

/// The node.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) brain: Arc<Brain>,
}

/// What its connections share.
pub(crate) struct Brain {
    script: Box<Script>,
    heard: Mutex<Vec<Heard>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Most connections at one time.
    pub(crate) most: AtomicUsize,
}

impl Node {
    pub(crate) fn new(script: impl Fn(&Heard) -> Vec<Do> + Send + Sync + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let brain = Brain {
            script: Box::new(script),
            heard: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        };
        Self { runtime: runtime.expect("a runtime"), brain: Arc::new(brain) }
    }

    /// Listens on TCP.
    pub(crate) fn listen(&self, at: &str) -> Addr {
        let _inside = self.runtime.enter();
        let listener = std::net::TcpListener::bind(at).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let brain = Arc::clone(&self.brain);
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&brain).talk(stream));
            }
        });
        addr.into()
    }

    /// All that was heard of a kind.
    pub(crate) fn heard(&self, kind: Kind) -> Vec<Heard> {
        let heard = self.brain.heard.lock().expect("the log");
        heard.iter().filter(|heard| heard.kind == kind).cloned().collect()
    }

    /// Waits until so many of a kind were heard.
    pub(crate) fn wait_for(&self, kind: Kind, count: usize) -> Vec<Heard> {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            let heard = self.heard(kind);
            if heard.len() >= count {
                return heard;
            }
            assert!(Instant::now() < give_up, "{} of {count} {kind}", heard.len());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.brain.accepted.load(SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.brain.open.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.brain.most.load(SeqCst)
    }
}

impl Brain {
    /// One connection, over whatever it runs.
    pub(crate) async fn talk(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let conn = self.accepted.fetch_add(1, SeqCst);
        let open = self.open.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(open, SeqCst);
        self.follow(conn, stream).await;
        self.open.fetch_sub(1, SeqCst);
    }

    async fn follow(&self, conn: usize, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        loop {
            let mut head = [0; HEADER_LEN];
            if stream.read_exact(&mut head).await.is_err() {
                // An orderly end, where the client's was one.
                let _ = stream.shutdown().await;
                return;
            }
            let header = *Header::peek(&head).expect("32 bytes");
            header.check(1 << 26).expect("a sound header");
            let mut payload = vec![0; header.payload_len() as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            assert_eq!(wire::check::crc16(&payload), header.checksum());
            let kind = header.kind().expect("a known kind");
            let heard = {
                let mut log = self.heard.lock().expect("the log");
                let nth = log.iter().filter(|heard| heard.kind == kind).count();
                log.push(Heard { nth, conn, kind, id: header.message_id(), payload });
                log.last().expect("just pushed").clone()
            };
            for order in (self.script)(&heard) {
                match order {
                    Do::Say(bytes) => {
                        if stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    Do::Wait(time) => tokio::time::sleep(time).await,
                    Do::Close => {
                        let _ = stream.shutdown().await;
                        return;
                    }
                }
            }
        }
    }
}
