//! Clients of a Butterfly node.
//!
//! A [`Pool`] is for programs: it keeps a few connections, multiplexes calls over them, tries again
//! what may be tried again, and keeps deadlines. [`aio::Pool`] is the same for tokio. What they
//! decide is decided by state machines that take time and chance as arguments (`policy`).
//!
//! ```no_run
//! use client::{Pool, PoolOptions};
//! use wire::{Dtype, payload::{QueryRequest, TensorWork}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new("127.0.0.1:7171".parse()?, PoolOptions::default())?;
//! let work = TensorWork::topk(Dtype::F32, 1, 1_000, 10, Dtype::F16);
//! let answer = pool.request(&QueryRequest { work, ..QueryRequest::default() }, vec![0; 4_000])?;
//! let top = answer.response()?.logits;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is one connection, for tools, tests and set-up code. It asks and waits
//! ([`Client::ping`], [`Client::call`]), or pipelines: [`Client::send`] any number of requests,
//! then [`Client::receive`] the answers, matched by message id.
//! [`Client::into_halves`] splits it for two threads. Every frame is checked (header, length,
//! CRC-16) before it is shown, and payloads lie 64-byte aligned, so that archives and tensor rows
//! are read in place.
#![forbid(unsafe_code)]

mod addr;
pub mod aio;
mod answer;
#[cfg(feature = "clap")]
mod args;
mod buffer;
mod carrier;
mod error;
mod frame;
mod mesh;
mod metrics;
mod options;
mod policy;
mod pool;
mod receiver;
mod security;
mod sender;
mod stats;
mod stream;
mod transport;
mod why;

pub use addr::{Addr, AddrError};
pub use answer::Answer;
#[cfg(feature = "clap")]
pub use args::SecurityArgs;
pub use buffer::Buffer;
pub use error::{ClientError, Refusal};
pub use mesh::{
    Agent, ClassPart, Cluster, Conflict, Ended, Gathers, Global, Listing, Map, Phase, Report,
    Sector, Skip,
};
pub use metrics::{Metric, Metrics};
pub use options::PoolOptions;
pub use policy::{connections::Limits, retry::Retry};
pub use pool::{Cancel, Chunks, Pending, Pool};
pub use receiver::{Receiver, Reply};
pub use security::Security;
pub use sender::Sender;
pub use stats::Stats;
pub use tls::Files;
pub use transport::Transport;
pub use why::{Trace, Traces};

use std::{os::fd::OwnedFd, time::Duration};
use stream::Stream;
use wire::{
    Kind,
    payload::{MetricsUpdate, QueryRequest, TraceQuery, TraceReport},
    response::Response,
};

/// How patient a client is, how much it accepts, and who it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest wait for a connection, over all addresses of a name.
    pub connect_timeout: Duration,
    /// Longest silence while reading, longest standstill while writing; `None` waits for ever.
    pub io_timeout: Option<Duration>,
    /// Largest payload accepted from the node, bytes.
    pub payload_max: u32,
    /// Certificates; `tls://` and `quic://` need them.
    pub security: Option<Security>,
}

impl Options {
    /// Five seconds to connect, thirty of silence, 256 MiB, no certificates.
    pub const DEFAULT: Self = Self {
        connect_timeout: Duration::from_secs(5),
        io_timeout: Some(Duration::from_secs(30)),
        payload_max: 256 * 1024 * 1024,
        security: None,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Connects, and hands the socket over as it is: for callers with an event loop of their own.
/// Behind `tls://` and `quic://` it is one end of a pair, whose other end a thread of this library
/// seals and opens.
///
/// # Errors
/// [`ClientError::Connect`]; [`ClientError::Security`].
pub fn connect_socket(
    addr: &Addr,
    security: Option<&Security>,
    timeout: Duration,
) -> Result<OwnedFd, ClientError> {
    Stream::connect(addr, security, timeout, None).map(|(stream, _)| stream.into())
}

/// One connection to a node.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    transport: Transport,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Connect`], with the address and what to do; [`ClientError::Security`] where
    /// certificates are needed and not there.
    pub fn connect(addr: &Addr, options: Options) -> Result<Self, ClientError> {
        let Options { connect_timeout, io_timeout, payload_max, security } = options;
        let (stream, transport) =
            Stream::connect(addr, security.as_ref(), connect_timeout, io_timeout)?;
        let writing = stream
            .try_clone()
            .map_err(|source| ClientError::Connect { addr: addr.clone(), source })?;
        Ok(Self {
            sender: Sender::new(writing, io_timeout),
            receiver: Receiver::new(stream, io_timeout, payload_max),
            transport,
        })
    }

    /// What the connection runs over.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The two halves, for a thread each. The connection closes when both are dropped.
    #[must_use]
    pub fn into_halves(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sending half.
    pub const fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The node has asked this connection to leave: [`Receiver::is_leaving`].
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.receiver.is_leaving()
    }

    /// Sends one frame and returns its message id: [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<u64, ClientError> {
        self.sender.send(kind, payload)
    }

    /// The next frame from the node, refusals included: [`Receiver::receive`].
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub fn receive(&mut self) -> Result<Reply<'_>, ClientError> {
        self.receiver.receive()
    }

    /// Sends one frame and waits for the first frame of its answer. Only for a connection with
    /// nothing under way.
    ///
    /// # Errors
    /// As sending and receiving; [`ClientError::Refused`]; [`ClientError::Protocol`] for an answer
    /// to something else.
    pub fn call(&mut self, kind: Kind, payload: &[u8]) -> Result<Reply<'_>, ClientError> {
        let id = self.sender.send(kind, payload)?;
        self.answer(id)
    }

    fn answer(&mut self, id: u64) -> Result<Reply<'_>, ClientError> {
        let reply = self.receiver.receive()?;
        let got = reply.header.message_id();
        // A refusal of the connection as a whole carries the id 0.
        match reply.refusal()? {
            Some(refusal) if got == id || got == 0 => Err(ClientError::Refused(refusal)),
            _ if got != id => {
                Err(ClientError::protocol(format!("an answer to {got}, but {id} was asked")))
            }
            _ => Ok(reply),
        }
    }

    /// Sends a QUERY_REQUEST about these rows and waits for the answer, which must be one frame.
    /// Only for a connection with nothing under way, and for requests without `streaming`.
    ///
    /// # Errors
    /// As [`Sender::send_request`] and [`Self::call`].
    pub fn request(
        &mut self,
        request: &mut QueryRequest,
        rows: &[u8],
    ) -> Result<Response<'_>, ClientError> {
        let id = self.sender.send_request(request, rows)?;
        self.answer(id)?.response()
    }

    /// Sends a HEARTBEAT without payload and waits for its echo.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn ping(&mut self) -> Result<(), ClientError> {
        let reply = self.call(Kind::Heartbeat, &[])?;
        if reply.kind != Kind::Heartbeat || !reply.payload.is_empty() {
            return Err(ClientError::protocol(format!("a ping was answered by {}", reply.kind)));
        }
        Ok(())
    }

    /// Asks for the node's figures.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn metrics(&mut self) -> Result<Metrics, ClientError> {
        let reply = self.call(Kind::MetricsUpdate, &[])?;
        Ok(Metrics::from(reply.open::<MetricsUpdate>()?))
    }

    /// Asks what became of requests.
    ///
    /// # Errors
    /// As [`Self::call`]. [`ErrorCode::UnservedType`](wire::ErrorCode::UnservedType) from a node
    /// that does not remember.
    pub fn why(&mut self, query: &TraceQuery) -> Result<Traces, ClientError> {
        let id = self.ask(query)?;
        Traces::read(self.answer(id)?.open::<TraceReport>()?)
    }
}
