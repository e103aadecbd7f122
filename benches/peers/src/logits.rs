//! Logits as text over HTTP beside our frames: the same rows go in, the same kernels find the same
//! entries; what differs is the protocol and the form of the answer.

use crate::{
    json::{self, Top},
    load::{Caller, Pace, Plan},
    node,
    processes::Server,
    samples::{self, Logits},
    systems::{Run, measured},
};
use bytes::Bytes;
use client::aio::Pool;
use codec::{Coding, set};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use kernels::{Element, fidelity};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Mutex,
};
use wire::{
    Dtype, HEADER_LEN,
    payload::{QueryRequest, TensorWork},
};

/// Entries of a row that are asked for.
pub(crate) const K: u32 = 100;
/// Connections, each with one request under way: HTTP/1.1 has no more.
pub(crate) const CONNECTIONS: usize = 4;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON, every digit that an f32 needs (up to nine).
    Json,
    /// JSON, six decimals.
    JsonShort,
    /// The first, through gzip.
    JsonGzip,
    /// Our frame, indices u32 and values f32.
    RawF32,
    /// Our frame, indices u32 and values f16.
    RawF16,
    /// Our frame, rows in the coding `set-steps`.
    Coded,
}

impl Form {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 6] =
        [Self::Json, Self::JsonShort, Self::JsonGzip, Self::RawF32, Self::RawF16, Self::Coded];

    /// For tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON, up to 9 digits",
            Self::JsonShort => "JSON, 6 decimals",
            Self::JsonGzip => "JSON, up to 9 digits, gzip",
            Self::RawF32 => "Butterfly, `topk`, f32",
            Self::RawF16 => "Butterfly, `topk`, f16",
            Self::Coded => "Butterfly, `topk` as `set-steps`",
        }
    }

    /// True for text.
    pub(crate) const fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::JsonShort | Self::JsonGzip)
    }
}

/// What arrived, judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Bytes that came over the connection for an answer, headers included, per row.
    pub(crate) bytes_per_row: f64,
    /// Mean KL divergence of the full distribution from what arrived, nats.
    pub(crate) kl: f64,
}

/// The two servers.
#[derive(Debug)]
pub(crate) struct Logs<'a> {
    http: Server,
    node: &'a str,
    node_id: u32,
}

impl<'a> Logs<'a> {
    /// Starts the HTTP server; the node runs.
    pub(crate) fn start(node: &'a str, node_id: u32) -> Result<Self, String> {
        Ok(Self { http: Server::of_ours("json", &[])?, node, node_id })
    }

    /// One question about these rows, its answer held against them.
    pub(crate) async fn judge(&self, form: Form, logits: &Logits) -> Result<Arrived, String> {
        let (tops, bytes) = match self.callers(form, logits, 1).await? {
            Callers::Http(callers) => callers[0].ask().await?,
            Callers::Frames(callers) => callers[0].ask().await?,
        };
        let mut kl = 0.0;
        for (at, top) in tops.iter().enumerate() {
            let row = logits.row(at).ok_or("more rows than were asked about")?;
            let kept = fidelity::topk(row, &top.indices, &top.values, top.max, top.log_sum);
            kl += kept.ok_or("an answer that cannot be judged")?.kl_with_tail;
        }
        let rows = logits.rows as f64;
        Ok(Arrived { bytes_per_row: bytes as f64 / rows, kl: kl / rows })
    }

    /// The same question again and again.
    pub(crate) async fn run(
        &self,
        form: Form,
        logits: &Logits,
        time: Duration,
        most: u64,
    ) -> Result<Run, String> {
        let plan = Plan { pace: Pace::Closed, depth: 1, time, most };
        match self.callers(form, logits, CONNECTIONS).await? {
            Callers::Http(callers) => measured(callers, plan, &[self.http.id()]).await,
            Callers::Frames(callers) => measured(callers, plan, &[self.node_id]).await,
        }
    }

    async fn callers(&self, form: Form, logits: &Logits, count: usize) -> Result<Callers, String> {
        if form.is_json() {
            let mut callers = Vec::new();
            for _ in 0..count {
                callers.push(Arc::new(Http::connect(&self.http.place, form, logits).await?));
            }
            return Ok(Callers::Http(callers));
        }
        let pool = node::pool(self.node, count, 1)?;
        let frames = || Arc::new(Frames::new(pool.clone(), form, logits));
        Ok(Callers::Frames((0..count).map(|_| frames()).collect()))
    }
}

enum Callers {
    Http(Vec<Arc<Http>>),
    Frames(Vec<Arc<Frames>>),
}

/// All rows came, with all entries that were asked for.
fn whole(tops: &[Top], rows: usize) -> Result<(), String> {
    let full = |top: &Top| top.indices.len() == K as usize && top.values.len() == K as usize;
    if tops.len() == rows && tops.iter().all(full) {
        return Ok(());
    }
    Err(format!("{} of {rows} rows came, or not {K} entries of each", tops.len()))
}

/// A connection that counts what it reads.
struct Counted {
    stream: TcpStream,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, into);
        self.read.fetch_add((into.filled().len() - before) as u64, Relaxed);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, to: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(to)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, to: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(to)
    }
}

/// An HTTP/1.1 connection that is kept.
struct Http {
    send: Mutex<SendRequest<Full<Bytes>>>,
    read: Arc<AtomicU64>,
    path: String,
    host: String,
    is_packed: bool,
    logits: Logits,
}

impl Http {
    async fn connect(place: &str, form: Form, logits: &Logits) -> Result<Self, String> {
        let stream = TcpStream::connect(place).await.map_err(|e| format!("{place}: {e}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let read = Arc::new(AtomicU64::new(0));
        let counted = TokioIo::new(Counted { stream, read: Arc::clone(&read) });
        let made = hyper::client::conn::http1::handshake(counted).await;
        let (send, connection) = made.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let decimals = if form == Form::JsonShort { 6 } else { json::ALL_DIGITS };
        let (dtype, cols) = (samples::label(logits.element), logits.cols);
        Ok(Self {
            send: Mutex::new(send),
            read,
            path: format!("/v1/completions/{dtype}/{cols}/{K}/{decimals}"),
            host: place.to_owned(),
            is_packed: form == Form::JsonGzip,
            logits: logits.clone(),
        })
    }

    /// What came, and in how many bytes.
    async fn ask(&self) -> Result<(Vec<Top>, u64), String> {
        let encoding = if self.is_packed { "gzip" } else { "identity" };
        let request = Request::post(&self.path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT_ENCODING, encoding)
            .body(Full::new(self.logits.bytes.clone()))
            .map_err(|error| error.to_string())?;
        let before = self.read.load(Relaxed);
        let mut send = self.send.lock().await;
        send.ready().await.map_err(|error| error.to_string())?;
        let answer = send.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
        let body = body.to_bytes();
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let tops = json::read(&body, self.is_packed)?;
        whole(&tops, self.logits.rows)?;
        Ok((tops, self.read.load(Relaxed) - before))
    }
}

impl Caller for Http {
    async fn call(&self) -> Result<(), String> {
        self.ask().await.map(drop)
    }
}

/// Our frames.
struct Frames {
    pool: Pool,
    request: QueryRequest,
    logits: Logits,
}

impl Frames {
    fn new(pool: Pool, form: Form, logits: &Logits) -> Self {
        let dtype = match logits.element {
            Element::F32 => Dtype::F32,
            Element::F16 => Dtype::F16,
            Element::Bf16 => Dtype::Bf16,
        };
        let (rows, cols) = (logits.rows as u32, logits.cols as u32);
        let values = if form == Form::RawF16 { Dtype::F16 } else { Dtype::F32 };
        let work = TensorWork::topk(dtype, rows, cols, K, values);
        let work = if form == Form::Coded { work.coded(Coding::SetSteps, 0.0) } else { work };
        let request = QueryRequest { work, ..QueryRequest::default() };
        Self { pool, request, logits: logits.clone() }
    }

    /// What came, and in how many bytes.
    async fn ask(&self) -> Result<(Vec<Top>, u64), String> {
        let answer = self.pool.request(&self.request, self.logits.bytes.clone()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let response = answer.response().map_err(|error| error.to_string())?;
        let mut tops = Vec::new();
        if let Some(sets) = response.logits {
            for row in 0..sets.rows as usize {
                tops.push(Top {
                    indices: sets.row_indices(row).to_vec(),
                    values: sets.row_values_f32(row).collect(),
                    max: sets.max[row],
                    log_sum: sets.log_sum[row],
                });
            }
        }
        if let Some(coded) = response.coded {
            let mut buffer = set::SetBuf::new(K as usize);
            for row in 0..coded.rows as usize {
                set::decode(coded.coding, coded.row(row), coded.cols, K as usize, &mut buffer)
                    .map_err(|fault| format!("row {row} cannot be decoded: {fault:?}"))?;
                let (indices, values) = (buffer.indices.clone(), buffer.values.clone());
                tops.push(Top { indices, values, max: buffer.max, log_sum: buffer.log_sum });
            }
        }
        whole(&tops, self.logits.rows)?;
        Ok((tops, (HEADER_LEN + answer.payload.as_slice().len()) as u64))
    }
}

impl Caller for Frames {
    async fn call(&self) -> Result<(), String> {
        self.ask().await.map(drop)
    }
}
