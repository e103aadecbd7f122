//! The blocking face of a pool: the asynchronous one, driven by the thread of this library.

use crate::{
    Addr, Answer, ClientError, Gathers, Listing, Map, Metrics, PoolOptions, Stats, Traces, aio,
    carrier,
};
use bytes::Bytes;
use std::time::Duration;
use tokio::{runtime::Handle, sync::oneshot, task::AbortHandle};
use wire::{
    Kind,
    payload::{QueryRequest, TraceQuery, mesh::MeshQuery},
};

/// A pool of connections to one node, for threads that wait: [`aio::Pool`] with the same policy.
/// Clones share the connections, which close when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: aio::Pool,
    runtime: Handle,
}

impl Pool {
    /// A pool that begins to connect at once.
    ///
    /// # Errors
    /// As [`aio::Pool::new`]; [`ClientError::Io`] where the OS has no thread for it.
    pub fn new(addr: Addr, options: PoolOptions) -> Result<Self, ClientError> {
        let runtime = carrier::runtime()
            .map_err(|source| ClientError::Io { doing: "starting a thread", source })?;
        let pool = {
            let _inside = runtime.enter();
            aio::Pool::new(addr, options)?
        };
        Ok(Self { pool, runtime })
    }

    /// The same connections, with another time for every call.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { pool: self.pool.within(timeout), runtime: self.runtime.clone() }
    }

    /// [`aio::Pool::request`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn request(
        &self,
        request: &QueryRequest,
        rows: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.submit(request, rows).wait()
    }

    /// Begins a request. Waiting for the answer comes later, taking it back is possible until
    /// then.
    pub fn submit(&self, request: &QueryRequest, rows: impl Into<Bytes>) -> Pending<Answer> {
        let (pool, request, rows) = (self.pool.clone(), request.clone(), rows.into());
        self.begin(async move { pool.request(&request, rows).await })
    }

    /// [`aio::Pool::stream`]; the chunks are waited for one by one.
    ///
    /// # Errors
    /// As there.
    pub fn stream(
        &self,
        request: &QueryRequest,
        rows: impl Into<Bytes>,
    ) -> Result<Chunks, ClientError> {
        let (pool, request, rows) = (self.pool.clone(), request.clone(), rows.into());
        let chunks = self.begin(async move { pool.stream(&request, rows).await }).wait()?;
        Ok(Chunks { chunks: Some(chunks), runtime: self.runtime.clone() })
    }

    /// [`aio::Pool::call`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn call(&self, kind: Kind, payload: impl Into<Bytes>) -> Result<Answer, ClientError> {
        let (pool, payload) = (self.pool.clone(), payload.into());
        self.begin(async move { pool.call(kind, payload).await }).wait()
    }

    /// [`aio::Pool::ping`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn ping(&self) -> Result<(), ClientError> {
        let pool = self.pool.clone();
        self.begin(async move { pool.ping().await }).wait()
    }

    /// [`aio::Pool::metrics`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn metrics(&self) -> Result<Metrics, ClientError> {
        let pool = self.pool.clone();
        self.begin(async move { pool.metrics().await }).wait()
    }

    /// [`aio::Pool::why`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn why(&self, query: &TraceQuery) -> Result<Traces, ClientError> {
        let (pool, query) = (self.pool.clone(), query.clone());
        self.begin(async move { pool.why(&query).await }).wait()
    }

    /// [`aio::Pool::agents`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn agents(&self, query: &MeshQuery) -> Result<Listing, ClientError> {
        let (pool, query) = (self.pool.clone(), query.clone());
        self.begin(async move { pool.agents(&query).await }).wait()
    }

    /// [`aio::Pool::map`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn map(&self, sector: Option<u16>) -> Result<Map, ClientError> {
        let pool = self.pool.clone();
        self.begin(async move { pool.map(sector).await }).wait()
    }

    /// [`aio::Pool::gathers`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn gathers(&self) -> Result<Gathers, ClientError> {
        let pool = self.pool.clone();
        self.begin(async move { pool.gathers().await }).wait()
    }

    /// What the pool has done, and how it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }

    fn begin<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Pending<T> {
        begin(&self.runtime, call)
    }
}

fn begin<T: Send + 'static>(
    runtime: &Handle,
    call: impl Future<Output = Result<T, ClientError>> + Send + 'static,
) -> Pending<T> {
    let (tell, done) = oneshot::channel();
    let task = runtime.spawn(async move {
        // Whoever dropped the other end has taken the call back.
        let _ = tell.send(call.await);
    });
    Pending { done, cancel: Cancel(task.abort_handle()) }
}

/// A call under way. Dropping it takes the call back.
#[derive(Debug)]
#[must_use]
pub struct Pending<T> {
    done: oneshot::Receiver<Result<T, ClientError>>,
    cancel: Cancel,
}

impl<T> Pending<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// As the call; [`ClientError::Cancelled`] where it was taken back.
    ///
    /// # Panics
    /// Inside a tokio runtime, whose thread it would block: [`aio::Pool`] is for those.
    pub fn wait(mut self) -> Result<T, ClientError> {
        let (_, never) = oneshot::channel();
        let done = std::mem::replace(&mut self.done, never);
        done.blocking_recv().unwrap_or(Err(ClientError::Cancelled))
    }

    /// A handle that takes the call back, for another thread.
    #[must_use]
    pub fn canceller(&self) -> Cancel {
        self.cancel.clone()
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Takes a call back: the node is told, its answer is dropped, and whoever waits gets
/// [`ClientError::Cancelled`]. Does nothing where the call is over.
#[derive(Clone, Debug)]
pub struct Cancel(AbortHandle);

impl Cancel {
    /// Takes the call back.
    pub fn cancel(&self) {
        self.0.abort();
    }
}

/// The chunks of a streamed answer, in order; ends behind the last one and behind an error.
/// Dropped before its end, it takes the request back.
#[derive(Debug)]
pub struct Chunks {
    chunks: Option<aio::Chunks>,
    runtime: Handle,
}

impl Iterator for Chunks {
    type Item = Result<Answer, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunks = self.chunks.take()?;
        let next = begin(&self.runtime, async move {
            let next = chunks.next().await;
            Ok((next, chunks))
        });
        match next.wait() {
            Ok((next, chunks)) => {
                self.chunks = Some(chunks);
                next
            }
            Err(why) => Some(Err(why)),
        }
    }
}
