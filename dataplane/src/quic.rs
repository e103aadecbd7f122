//! QUIC listeners of a node: their threads, and how streams get to shards.

use crate::{certificates, plan::Plan, shards::Shards};
use dataplane_core::{Identities, driver::Caller};
use dataplane_quic::{Counters, Identify, Limits, Running};
use std::{
    cell::RefCell,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tls::Acceptor;
use tokio::task::spawn_blocking;

/// All QUIC listeners of a node, for those of its control thread who have to tell them something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Rc<RefCell<Vec<Running>>>);

/// The bounds of each listener: the node's, divided.
pub(crate) fn limits(plan: &Plan) -> Limits {
    let all = Limits::default();
    let listeners = u32::try_from(plan.quic.len()).unwrap_or(u32::MAX).max(1);
    let node = plan.limits.connections.saturating_mul(plan.shards());
    Limits {
        connections: all.connections.min(node).div_ceil(listeners),
        streams_in_all: all.streams_in_all.min(node).div_ceil(listeners),
        ..all
    }
}

/// Gives streams to the shards in turn, and to the next where one has no room.
#[derive(Debug)]
struct Turns {
    shards: Shards,
    next: AtomicUsize,
}

impl Turns {
    fn hand(&self, mut fd: OwnedFd, who: Caller) -> bool {
        let first = self.next.fetch_add(1, Relaxed);
        let count = self.shards.0.len();
        for turn in 0..count {
            match self.shards.0[first.wrapping_add(turn) % count].adopt(fd, who) {
                Ok(()) => return true,
                Err(back) => fd = back,
            }
        }
        false
    }
}

impl Listeners {
    /// Starts a listener for each bound socket. It takes datagrams once it is told to
    /// [`serve`](Self::serve).
    ///
    /// # Errors
    /// What the OS refuses, in a sentence.
    pub(crate) fn start(
        &self,
        plan: &Plan,
        sockets: Vec<(SocketAddr, OwnedFd)>,
        shards: &Shards,
        (acceptor, identities): (&Acceptor, &Arc<Identities>),
        counters: &[Arc<Counters>],
    ) -> Result<(), String> {
        let turns = Arc::new(Turns { shards: shards.clone(), next: AtomicUsize::new(0) });
        for ((address, socket), counters) in sockets.into_iter().zip(counters) {
            let turns = Arc::clone(&turns);
            let hand = Box::new(move |fd, who| turns.hand(fd, who));
            let identify: Identify = Box::new(certificates::identify(identities));
            let (tls, counters) = (acceptor.config(), Arc::clone(counters));
            let started = Running::start(socket, tls, limits(plan), counters, identify, hand);
            self.0.borrow_mut().push(started.map_err(|error| {
                format!(
                    "cannot serve quic {address}: {error}; `butterfly check` says what is missing"
                )
            })?);
        }
        Ok(())
    }

    fn all(&self, tell: impl Fn(&Running)) {
        self.0.borrow().iter().for_each(tell);
    }

    /// Takes datagrams from now on.
    pub(crate) fn serve(&self) {
        self.all(Running::serve);
    }

    /// New connections get the certificates that handshakes over TCP get now.
    pub(crate) fn reload(&self, acceptor: &Acceptor) {
        self.all(|listener| listener.reload(acceptor.config()));
    }

    /// No new connections, and no word to those who try: another process is to answer them.
    pub(crate) fn hush(&self) {
        self.all(Running::hush);
    }

    /// No new connections and no new streams.
    pub(crate) fn drain(&self) {
        self.all(Running::drain);
    }

    /// Ends all: what was answered still reaches its readers, for a second at most.
    pub(crate) async fn end(&self) {
        let all = self.0.take().into_iter();
        let ends: Vec<_> = all.map(|one| spawn_blocking(move || one.end())).collect();
        for end in ends {
            // The only failure is a thread that panicked, which has said why.
            let _ = end.await;
        }
    }
}
