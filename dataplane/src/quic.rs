//! QUIC listeners of a node: their threads, and how streams get to shards.

use crate::{callers::Callers, plan::Plan, shards::Shards};
use dataplane_core::driver::Caller;
use dataplane_quic::{Counters, Identify, Limits, Running};
use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// All QUIC listeners of a node.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Running>);

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

/// Starts a listener for each bound socket.
///
/// # Errors
/// Files that are no good, or what the OS refuses, in a sentence.
pub(crate) fn start(
    plan: &Plan,
    sockets: Vec<(SocketAddr, OwnedFd)>,
    shards: &Shards,
    callers: &Arc<Callers>,
    counters: &[Arc<Counters>],
) -> Result<Listeners, String> {
    let mut listeners = Listeners::default();
    let Some(files) = &plan.tls else { return Ok(listeners) };
    let turns = Arc::new(Turns { shards: shards.clone(), next: AtomicUsize::new(0) });
    for ((address, socket), counters) in sockets.into_iter().zip(counters) {
        let tls = tls::server_config(files).map_err(|error| error.to_string())?;
        let (turns, callers) = (Arc::clone(&turns), Arc::clone(callers));
        let hand = Box::new(move |fd, who| turns.hand(fd, who));
        let identify: Identify = Box::new(move |identity| callers.identify(identity));
        let started =
            Running::start(socket, tls, limits(plan), Arc::clone(counters), identify, hand);
        listeners.0.push(started.map_err(|error| {
            format!("cannot serve quic {address}: {error}; `butterfly check` says what is missing")
        })?);
    }
    Ok(listeners)
}

impl Listeners {
    /// No new connections and no new streams.
    pub(crate) fn drain(&self) {
        self.0.iter().for_each(Running::drain);
    }

    /// Ends all: what was answered still reaches its readers, for a second at most.
    pub(crate) fn end(self) {
        self.0.into_iter().for_each(Running::end);
    }
}
