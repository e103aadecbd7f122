//! What all users of a pool share, and the task that keeps its connections.

use crate::{
    Addr, ClientError, PoolOptions, Transport,
    aio::{
        conn::Conn,
        link::{Link, Ways},
    },
    policy::{
        budget::Budget,
        connections::{Act, Connections, Place},
    },
    stats::Counts,
};
use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long the echo of a ping may take.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// How long `quic://` goes by TLS after UDP was silent.
const UDP_REST: Duration = Duration::from_secs(60);

/// What all users of a pool share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) addr: Addr,
    pub(crate) options: PoolOptions,
    pub(crate) counts: Arc<Counts>,
    state: Mutex<State>,
    /// A place may have become free.
    places: Notify,
    /// The keeper may have something to do.
    work: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    connections: Connections,
    pub(crate) budget: Budget,
    conns: HashMap<u64, Conn>,
    /// Why no connection came about, or why one ended, the last time.
    failure: Option<ClientError>,
    transport: Option<Transport>,
    /// Until when UDP is not tried.
    udp_rests: Option<Instant>,
    /// The node has turned early data down.
    no_early: bool,
    closed: bool,
}

impl Inner {
    pub(crate) fn new(addr: Addr, options: PoolOptions) -> Arc<Self> {
        let retry = options.retry;
        let state = State {
            connections: Connections::new(options.limits, Instant::now()),
            budget: Budget::new(retry.share, retry.reserve),
            conns: HashMap::new(),
            failure: None,
            transport: None,
            udp_rests: None,
            no_early: false,
            closed: false,
        };
        let (state, counts) = (Mutex::new(state), Arc::default());
        Arc::new(Self { addr, options, counts, state, places: Notify::new(), work: Notify::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections, calls under way, and what the newest connection runs over.
    pub(crate) fn now(&self) -> (usize, usize, Option<Transport>) {
        let state = self.lock();
        (state.connections.count(), state.connections.in_flight(), state.transport)
    }

    /// Waits for a place on a connection.
    ///
    /// # Errors
    /// Why connecting failed, where it did since the wait began.
    pub(crate) async fn place(
        self: &Arc<Self>,
        replayable: bool,
    ) -> Result<(Slot, Conn), ClientError> {
        let seen = self.lock().connections.failures();
        loop {
            let mut changed = std::pin::pin!(self.places.notified());
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                match state.connections.acquire(replayable, seen, Instant::now()) {
                    Place::On(key) => {
                        let conn = state.conns.get(&key).cloned();
                        // From here on dropping the slot, which takes the lock, gives it back.
                        drop(state);
                        let slot = Slot { inner: Arc::clone(self), key, answered: false };
                        // The handles go before the connections only where the pool is closed.
                        return Ok((slot, conn.ok_or(ClientError::Cancelled)?));
                    }
                    Place::Down => {
                        let why = state.failure.as_ref().map(ClientError::copy);
                        return Err(why.unwrap_or(ClientError::Cancelled));
                    }
                    Place::Wait => {}
                }
            }
            self.work.notify_one();
            changed.await;
        }
    }

    fn changed(&self) {
        self.work.notify_one();
        self.places.notify_waiters();
    }

    /// The last user is gone: no more connections, and those that are there end with their calls.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.conns.clear();
        drop(state);
        self.changed();
    }
}

/// A call's place on a connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Slot {
    inner: Arc<Inner>,
    key: u64,
    /// The node has answered.
    pub(crate) answered: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now = Instant::now();
        self.inner.lock().connections.release(self.key, self.answered, now);
        self.inner.places.notify_one();
        self.inner.work.notify_one();
    }
}

/// Carries out what the machine says, until the pool is closed.
pub(crate) async fn keep(inner: Arc<Inner>) {
    loop {
        let wake = {
            let mut state = inner.lock();
            if state.closed {
                return;
            }
            while let Some(act) = state.connections.act(Instant::now()) {
                match act {
                    Act::Open(key) => drop(tokio::spawn(open(Arc::clone(&inner), key))),
                    Act::Ping(key) => {
                        if let Some(conn) = state.conns.get(&key).cloned() {
                            tokio::spawn(check(Arc::clone(&inner), key, conn));
                        }
                    }
                    Act::Close(key) => drop(state.conns.remove(&key)),
                }
            }
            state.connections.wake()
        };
        let later = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = inner.work.notified() => {}
            () = later => {}
        }
    }
}

/// One connection, from connecting to its end.
async fn open(inner: Arc<Inner>, key: u64) {
    let ways = {
        let state = inner.lock();
        Ways {
            security: inner.options.security.as_ref(),
            patience: inner.options.connect_timeout,
            udp: state.udp_rests.is_none_or(|until| until <= Instant::now()),
            early: !state.no_early,
        }
    };
    let mut link = match Link::open(&inner.addr, ways).await {
        Ok(link) => link,
        Err(why) => {
            let mut state = inner.lock();
            state.failure = Some(why);
            state.connections.failed(key, Instant::now(), fastrand::f64());
            drop(state);
            inner.counts.failures.fetch_add(1, Relaxed);
            return inner.changed();
        }
    };
    let (transport, early) = (link.transport, link.early.take());
    let (conn, engine) = Conn::new(link, inner.options.payload_max, Arc::clone(&inner.counts));
    {
        let mut state = inner.lock();
        if state.closed {
            return;
        }
        if transport == Transport::TlsForQuic && ways.udp {
            state.udp_rests = Some(Instant::now() + UDP_REST);
            inner.counts.fallbacks.fetch_add(1, Relaxed);
        }
        state.transport = Some(transport);
        state.conns.insert(key, conn.clone());
        state.connections.opened(key, early.is_some(), Instant::now(), fastrand::f64());
    }
    inner.counts.connected.fetch_add(1, Relaxed);
    inner.changed();
    if let Some(accepted) = early {
        tokio::spawn(confirm(Arc::clone(&inner), key, accepted, conn));
    } else {
        drop(conn);
    }
    let why = engine.run().await;
    let mut state = inner.lock();
    state.conns.remove(&key);
    state.connections.broke(key, Instant::now(), fastrand::f64());
    state.failure = Some(why);
    drop(state);
    inner.changed();
}

/// Waits for the end of a handshake behind whose back something was sent.
async fn confirm(inner: Arc<Inner>, key: u64, accepted: quinn::ZeroRttAccepted, conn: Conn) {
    if accepted.await {
        inner.counts.early.fetch_add(1, Relaxed);
        inner.lock().connections.confirmed(key);
        return inner.changed();
    }
    // The stream is void, and what was sent on it is not there: all over again, without.
    inner.lock().no_early = true;
    drop_conn(&inner, key, &conn, ClientError::protocol("the node turned 0-RTT data down"));
}

/// Pings a connection before it is used again.
async fn check(inner: Arc<Inner>, key: u64, conn: Conn) {
    inner.counts.pings.fetch_add(1, Relaxed);
    match conn.ping(PING_PATIENCE).await {
        Ok(()) => {
            inner.lock().connections.checked(key, Instant::now());
            inner.changed();
        }
        Err(why) => drop_conn(&inner, key, &conn, why),
    }
}

fn drop_conn(inner: &Inner, key: u64, conn: &Conn, why: ClientError) {
    conn.end(why);
    let mut state = inner.lock();
    state.conns.remove(&key);
    state.connections.broke(key, Instant::now(), fastrand::f64());
    drop(state);
    inner.changed();
}
