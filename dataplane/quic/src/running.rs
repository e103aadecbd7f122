//! A listener's thread, and the control thread's hold on it.

use crate::{
    bridge::Identify,
    counters::Counters,
    driver::{Driver, Hand, Order, Seed},
    limits::Limits,
};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

/// The name of a listener's thread.
const THREAD: &str = "butterfly-quic";

/// A running listener. Dropped, it goes on; [`end`](Self::end) ends it.
#[derive(Debug)]
pub struct Running {
    orders: Sender<Order>,
    bell: OwnedFd,
    thread: JoinHandle<()>,
}

impl Running {
    /// Gets ready to serve QUIC on a bound UDP socket, on a thread of its own; it begins with
    /// [`serve`](Self::serve). `tls` asks peers for their certificates; `identify` says what they
    /// may be; `hand` gives the socket of each stream to a shard. Each listener has `counters` of
    /// its own.
    ///
    /// # Errors
    /// The OS's: no io_uring, no memory, a socket that is not of UDP.
    pub fn start(
        socket: OwnedFd,
        tls: Arc<rustls::ServerConfig>,
        limits: Limits,
        counters: Arc<Counters>,
        identify: Identify,
        hand: Hand,
    ) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (tell, orders) = channel();
        let seed =
            Seed { socket, bell: bell.try_clone()?, orders, tls, limits, counters, identify, hand };
        let (ready, started) = channel();
        let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            match Driver::new(seed) {
                Ok(driver) => {
                    // Whoever waits for it is there: it is the caller of `start`.
                    let _ = ready.send(Ok(()));
                    driver.run();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { orders: tell, bell, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the thread ended before it was ready")),
        }
    }

    /// Takes datagrams from now on. A socket that processes share is to be read by one at a time.
    pub fn serve(&self) {
        self.order(Order::Serve);
    }

    /// Other certificates for new connections; those that are open go on.
    pub fn reload(&self, tls: Arc<rustls::ServerConfig>) {
        self.order(Order::Reload(tls));
    }

    /// No new connections, and no answer to those who try: they try again, and meet the process
    /// that then reads the socket. What there is goes on.
    pub fn hush(&self) {
        self.order(Order::Hush);
    }

    /// No new connections and no new streams.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Tells all peers that the node ends, and ends.
    pub fn end(self) {
        self.order(Order::End);
        // A thread that panicked has aborted the process, or has told its reason.
        let _ = self.thread.join();
    }

    /// A listener that has ended needs no order: that is what a failure means.
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}
