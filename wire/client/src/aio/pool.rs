//! A pool of connections to one node, and its calls.

use crate::{
    Addr, Answer, ClientError, Gathers, Listing, Map, Metrics, PoolOptions, Security, Stats,
    Traces,
    aio::{
        ask::Ask,
        chunks::{Chunks, UnderWay},
        keeper::{Inner, keep},
    },
    mesh::{agents, gathers, map},
    policy::retry::{Fault, Next, Tries},
};
use bytes::Bytes;
use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::time::{sleep_until, timeout_at};
use wire::{
    ErrorCode, HEADER_LEN, Kind,
    payload::{
        MetricsUpdate, Payload, QueryRequest, TraceQuery, TraceReport,
        mesh::{MeshQuery, MeshView},
    },
};

/// A pool of connections to one node. Clones share the connections, which close when the last clone
/// is gone.
///
/// Every call has one deadline: [`PoolOptions::timeout`], that of [`Pool::within`], or
/// `routing_hint.timeout_ms` of a request that states less. What is left of it travels with each
/// try; nothing is tried again past it, and the caller has an answer or an error by then.
///
/// A call whose future is dropped is forgotten here, and a request is taken back from the node.
#[derive(Clone, Debug)]
pub struct Pool {
    life: Arc<Life>,
    timeout: Duration,
}

/// Ends the pool with its last user.
#[derive(Debug)]
struct Life(Arc<Inner>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Pool {
    /// A pool that begins to connect at once. Inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`ClientError::Security`] for an address that needs certificates, without any. A node that
    /// is not there is an error of the calls.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(addr: Addr, options: PoolOptions) -> Result<Self, ClientError> {
        if addr.is_secured() {
            Security::of(options.security.as_ref(), &addr)?;
        }
        let timeout = options.timeout;
        let inner = Inner::new(addr, options);
        tokio::spawn(keep(Arc::clone(&inner)));
        Ok(Self { life: Arc::new(Life(inner)), timeout })
    }

    /// The same connections, with another time for every call.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { life: Arc::clone(&self.life), timeout }
    }

    /// Sends a request about these rows and waits for its answer, which must be one frame:
    /// `streaming` is off, whatever the request says. A request without `query_id` gets a random
    /// one, which all its tries share.
    ///
    /// # Errors
    /// [`ClientError::Refused`] and [`ClientError::Connect`] as the last try met them,
    /// [`ClientError::DeadlineExceeded`], [`ClientError::Io`] and [`ClientError::Protocol`] where
    /// the connection broke and a further try was not allowed, [`ClientError::Request`],
    /// [`ClientError::Busy`].
    pub async fn request(
        &self,
        request: &QueryRequest,
        rows: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let whole = QueryRequest { streaming: false, ..request.clone() };
        self.single(Ask::query(&whole, rows.into())).await
    }

    /// Sends a request about these rows; the answer comes in chunks. Tried again only until the
    /// first chunk is there.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn stream(
        &self,
        request: &QueryRequest,
        rows: impl Into<Bytes>,
    ) -> Result<Chunks, ClientError> {
        let request = QueryRequest { streaming: true, ..request.clone() };
        let mut ask = Ask::query(&request, rows.into());
        let time = ask.time(self.timeout);
        let mut tries = Tries::new(self.inner().options.retry, Instant::now() + time);
        let (first, under_way) = self.drive(&mut ask, &mut tries, time, true).await?;
        Ok(Chunks::new(first, under_way, tries.deadline(), time))
    }

    /// Sends one message of a kind and waits for its answer, which must be one frame. Tried again
    /// after a broken connection only where the message is a question or a request; what gives an
    /// order is tried again only where it cannot have arrived.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn call(&self, kind: Kind, payload: impl Into<Bytes>) -> Result<Answer, ClientError> {
        self.single(Ask::Plain(kind, payload.into())).await
    }

    /// [`Self::call`] with a message in place of its payload.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn ask<T: Payload>(&self, message: &T) -> Result<Answer, ClientError> {
        let mut frame = Vec::new();
        wire::frame::append(&mut frame, message, 0, 0)
            .map_err(|_| ClientError::Request(ErrorCode::PayloadTooLong))?;
        self.call(T::KIND, Bytes::from(frame).slice(HEADER_LEN..)).await
    }

    /// Sends a ping and waits for its echo.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn ping(&self) -> Result<(), ClientError> {
        let echo = self.call(Kind::Heartbeat, Bytes::new()).await?;
        if echo.kind != Kind::Heartbeat || !echo.payload.as_slice().is_empty() {
            return Err(ClientError::protocol(format!("a ping was answered by {}", echo.kind)));
        }
        Ok(())
    }

    /// Asks for the node's figures.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn metrics(&self) -> Result<Metrics, ClientError> {
        let answer = self.call(Kind::MetricsUpdate, Bytes::new()).await?;
        Ok(Metrics::from(answer.open::<MetricsUpdate>()?))
    }

    /// As [`Client::why`](crate::Client::why).
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn why(&self, query: &TraceQuery) -> Result<Traces, ClientError> {
        Traces::read(self.ask(query).await?.open::<TraceReport>()?)
    }

    /// As [`Client::agents`](crate::Client::agents).
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn agents(&self, query: &MeshQuery) -> Result<Listing, ClientError> {
        Listing::read(self.ask(&agents(query)).await?.open::<MeshView>()?)
    }

    /// As [`Client::map`](crate::Client::map).
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn map(&self, sector: Option<u16>) -> Result<Map, ClientError> {
        Map::read(self.ask(&map(sector)).await?.open::<MeshView>()?)
    }

    /// As [`Client::gathers`](crate::Client::gathers).
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn gathers(&self) -> Result<Gathers, ClientError> {
        Gathers::read(self.ask(&gathers()).await?.open::<MeshView>()?)
    }

    /// What the pool has done, and how it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (connections, in_flight, transport) = self.inner().now();
        Stats { connections, in_flight, transport, ..self.inner().counts.read() }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.life.0
    }

    async fn single(&self, mut ask: Ask) -> Result<Answer, ClientError> {
        let time = ask.time(self.timeout);
        let mut tries = Tries::new(self.inner().options.retry, Instant::now() + time);
        Ok(self.drive(&mut ask, &mut tries, time, false).await?.0)
    }

    /// Tries until there is a first frame that is no refusal, or no further try is allowed.
    async fn drive(
        &self,
        ask: &mut Ask,
        tries: &mut Tries,
        time: Duration,
        chunked: bool,
    ) -> Result<(Answer, UnderWay), ClientError> {
        let inner = self.inner();
        inner.counts.calls.fetch_add(1, Relaxed);
        inner.lock().budget.pay_in();
        let mut last = None;
        let late = |last: Option<ClientError>| ClientError::DeadlineExceeded {
            after: time,
            last: last.map(Box::new),
        };
        while let Some((attempt, _)) = tries.begin(Instant::now()) {
            let deadline = tries.deadline();
            let once = self.once(ask, attempt, deadline, chunked);
            let failure = match timeout_at(deadline.into(), once).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(late(last)),
            };
            let fault = fault(&failure, ask);
            let next = {
                let budget = &mut inner.lock().budget;
                tries.failed(fault, Instant::now(), fastrand::f64(), budget)
            };
            match next {
                Next::Again(at) => sleep_until(at.into()).await,
                Next::Stop if is_late(&failure) => return Err(late(Some(failure))),
                Next::Stop => return Err(failure),
            }
            inner.counts.retries.fetch_add(1, Relaxed);
            last = Some(failure);
        }
        Err(late(last))
    }

    async fn once(
        &self,
        ask: &mut Ask,
        attempt: u8,
        deadline: Instant,
        chunked: bool,
    ) -> Result<(Answer, UnderWay), ClientError> {
        let inner = self.inner();
        let waiting = Waiting::new(inner)?;
        let (slot, conn) = inner.place(ask.is_replayable()).await?;
        drop(waiting);
        let flight = conn.send(ask, attempt, deadline, chunked).await?;
        let mut under_way = UnderWay::new(flight, slot);
        let answer = under_way.next().await?;
        match answer.reply().refusal()? {
            Some(refusal) => Err(ClientError::Refused(refusal)),
            None => Ok((answer, under_way)),
        }
    }
}

/// Counts those who wait for a place.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Result<Self, ClientError> {
        let before = inner.counts.waiting.fetch_add(1, Relaxed);
        let guard = Waiting(inner);
        if before >= inner.options.waiting {
            return Err(ClientError::Busy { waiting: before });
        }
        Ok(guard)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts.waiting.fetch_sub(1, Relaxed);
    }
}

/// What a failure means for another try.
fn fault(failure: &ClientError, ask: &Ask) -> Fault {
    match failure {
        // A handshake that failed for its certificates fails again.
        ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
            Fault::Final
        }
        ClientError::Connect { .. } => Fault::Unreached,
        ClientError::Refused(refusal) => {
            Fault::Refused { code: refusal.code, after: refusal.retry_after }
        }
        ClientError::Io { .. } | ClientError::Protocol { .. } | ClientError::Timeout { .. } => {
            Fault::Lost { safe: ask.is_safe() }
        }
        _ => Fault::Final,
    }
}

/// True where the node said that the time is up.
fn is_late(failure: &ClientError) -> bool {
    matches!(failure, ClientError::Refused(refusal) if refusal.code == ErrorCode::DeadlineExceeded)
}
