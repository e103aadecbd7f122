//! The thread behind a listener: one UDP socket and the socket pairs of its streams on one
//! io_uring.
//!
//! Datagrams come by one standing receive into buffers that the kernel picks; sends go out as the
//! ring is entered. Socket pairs are watched through the ring and read and written by plain calls
//! that never wait, so that no byte lies in a buffer of ours for a stream that does not move.

mod buffers;
mod message;
mod pipes;
mod ring;
mod sends;
mod socket;

pub use socket::bind_udp;

use crate::{
    bridge::{Bridge, Happening, Identify, SEGMENTS_MAX, StreamKey},
    counters::{Counters, Refusal},
    limits::{Limits, PIECE_MAX},
    recognise::recognise,
};
use buffers::Buffers;
use bytes::BytesMut;
use dataplane_core::driver::Caller;
use io_uring::{opcode, types};
use message::{CONTROL_MAX, NAME_MAX};
use pipes::{Next, Pipe};
use ring::{Completion, Ring};
use sends::Sends;
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

/// What a listener takes for buffers, most of it only when it is first used.
pub const BYTES: u64 = buffers::BYTES + sends::BYTES + PIECE_MAX as u64;

/// Gives a stream's socket to a shard; false where none has room.
pub type Hand = Box<dyn FnMut(OwnedFd, Caller) -> bool + Send>;

/// How long an ending listener waits for its peers to have received what was finished for them.
const DELIVERY: Duration = Duration::from_secs(1);
/// Longest that its last datagrams may take to leave then.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What the control thread may ask of a listener.
#[derive(Debug)]
pub(crate) enum Order {
    Serve,
    Reload(Arc<rustls::ServerConfig>),
    Hush,
    Drain,
    End,
}

/// What an operation was, in the upper half of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    Receive = 1,
    Send,
    Bell,
    /// Something changed at a pipe; index and generation are the stream's.
    Pipe,
    /// A pipe's socket has room.
    Room,
    Forget,
}

/// Bits of a generation that travel with an operation.
const GENERATION_MASK: u32 = 0x00FF_FFFF;

const fn tag(op: Op, key: StreamKey) -> u64 {
    (op as u64) << 56 | ((key.generation & GENERATION_MASK) as u64) << 32 | key.index as u64
}

const fn plain(op: Op, index: u32) -> u64 {
    tag(op, StreamKey { index, generation: 0 })
}

/// What a listener starts with.
pub(crate) struct Seed {
    pub(crate) socket: OwnedFd,
    pub(crate) bell: OwnedFd,
    pub(crate) orders: Receiver<Order>,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
    pub(crate) identify: Identify,
    pub(crate) hand: Hand,
}

/// A listener at work.
pub(crate) struct Driver {
    ring: Ring,
    buffers: Buffers,
    sends: Sends,
    /// What the standing receive asks for: room for an address and control messages.
    arrivals: Box<libc::msghdr>,
    socket: OwnedFd,
    /// Datagrams are being taken.
    receiving: bool,
    /// Datagrams of one send.
    segments: usize,
    bell: OwnedFd,
    orders: Receiver<Order>,
    bridge: Bridge,
    pipes: Vec<Option<Pipe>>,
    open: u64,
    /// Pipes with something to do, each once.
    ready: VecDeque<u32>,
    scratch: Box<[u8; PIECE_MAX]>,
    hand: Hand,
    counters: Arc<Counters>,
    end: End,
}

/// How far a listener is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody has asked for it.
    No,
    /// Peers still receive what was finished, until then at most.
    Delivering(Instant),
    /// They were told; it is over when that has left, or then.
    Told(Instant),
}

impl Driver {
    /// Sets everything up for the calling thread.
    pub(crate) fn new(seed: Seed) -> io::Result<Self> {
        let cuts = socket::prepare(seed.socket.as_fd())?;
        let (counters, recognise) = (Arc::clone(&seed.counters), recognise(seed.identify));
        let bridge = Bridge::new(&seed.tls, seed.limits, counters, recognise)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let ring = Ring::new()?;
        let buffers = Buffers::new(&ring)?;
        let mut arrivals = Box::new(sends::message());
        arrivals.msg_namelen = NAME_MAX as u32;
        arrivals.msg_controllen = CONTROL_MAX as _;
        let mut driver = Self {
            ring,
            buffers,
            sends: Sends::new(),
            arrivals,
            socket: seed.socket,
            receiving: false,
            segments: if cuts { SEGMENTS_MAX } else { 1 },
            bell: seed.bell,
            orders: seed.orders,
            bridge,
            pipes: Vec::new(),
            open: 0,
            ready: VecDeque::new(),
            scratch: Box::new([0; PIECE_MAX]),
            hand: seed.hand,
            counters: seed.counters,
            end: End::No,
        };
        driver.watch(driver.bell.as_raw_fd(), libc::POLLIN, true, plain(Op::Bell, 0));
        Ok(driver)
    }

    /// Serves until told to end, and until the last words have left.
    pub(crate) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.turn(now);
            match self.end {
                End::Delivering(until) if now >= until || self.bridge.delivered() => {
                    self.bridge.end(now);
                    self.end = End::Told(now + LAST_WORDS);
                    self.listen_to_bridge(now);
                    self.send(now);
                    self.ring.enter(Some(Duration::ZERO));
                }
                End::Told(until) if now >= until || self.sends.idle() => return,
                _ => {}
            }
        }
    }

    /// One round: what came, what is due, what is to be moved, what is to be sent; then sleep.
    fn turn(&mut self, now: Instant) {
        while let Some(done) = self.ring.take() {
            self.complete(now, done);
        }
        self.bridge.timeout(now);
        self.listen_to_bridge(now);
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            self.serve(index);
        }
        self.listen_to_bridge(now);
        self.send(now);
        let wait = match self.bridge.next_timeout() {
            _ if !self.ready.is_empty() || self.ring.visible() => Some(Duration::ZERO),
            // Both ends are looked at again and again.
            _ if self.end != End::No => Some(LAST_WORDS / 10),
            due => due.map(|due| due.saturating_duration_since(Instant::now())),
        };
        self.counters.calls.add(1);
        self.ring.enter(wait);
    }

    fn complete(&mut self, now: Instant, done: Completion) {
        let (op, index) = ((done.user_data >> 56) as u8, done.user_data as u32);
        match op {
            op if op == Op::Receive as u8 => self.arrived(now, done),
            op if op == Op::Send as u8 => {
                self.sends.give_back(index as u16);
                self.counters.send_faults.add(u64::from(done.result < 0));
                if done.result == -libc::EIO {
                    // The way out does not cut: what was lost is sent again, one by one.
                    self.segments = 1;
                }
            }
            op if op == Op::Bell as u8 => self.obey(now, done.more()),
            op if op == Op::Pipe as u8 || op == Op::Room as u8 => self.stirred(op, done),
            _ => {}
        }
    }

    /// Datagrams came. Each gets memory of its own: one that waits must not hold those that came
    /// with it.
    fn arrived(&mut self, now: Instant, done: Completion) {
        if let (Some(buffer), Ok(len)) = (done.buffer(), usize::try_from(done.result)) {
            let bytes = self.buffers.take(buffer, len).unwrap_or_default();
            match types::RecvMsgOut::parse(bytes, &self.arrivals) {
                Ok(message) if !message.is_payload_truncated() => {
                    let arrival = message::read_control(message.control_data());
                    let payload = message.payload_data();
                    let each = arrival.each.unwrap_or(payload.len()).max(1);
                    if let Some(from) = message::read_address(message.name_data()) {
                        for datagram in payload.chunks(each) {
                            self.counters.copied_datagrams.add(datagram.len() as u64);
                            let datagram = BytesMut::from(datagram);
                            self.bridge.datagram(now, from, arrival.to, arrival.ecn, datagram);
                        }
                    }
                }
                _ => self.counters.receive_faults.add(1),
            }
            self.buffers.give_back(buffer);
        }
        if !done.more() {
            if done.result < 0 {
                self.counters.receive_faults.add(1);
                let broken = [libc::EINVAL, libc::EBADF, libc::EOPNOTSUPP];
                assert!(!broken.contains(&-done.result), "recvmsg: error {}", -done.result);
            }
            self.receive();
        }
    }

    /// Orders the standing receive.
    fn receive(&mut self) {
        let fd = types::Fd(self.socket.as_raw_fd());
        let entry = opcode::RecvMsgMulti::new(fd, &raw const *self.arrivals, buffers::GROUP)
            .build()
            .user_data(plain(Op::Receive, 0));
        // SAFETY: the header is boxed and never changed; the bytes go into registered buffers. Both
        // stay until `drop` has ended all operations.
        unsafe { self.ring.push(&entry) };
    }

    /// Watches a descriptor, once or for as long as it is there.
    fn watch(&mut self, fd: i32, events: i16, multi: bool, user_data: u64) {
        let poll = opcode::PollAdd::new(types::Fd(fd), events as u32).multi(multi);
        // SAFETY: a poll names no memory.
        unsafe { self.ring.push(&poll.build().user_data(user_data)) };
    }

    fn obey(&mut self, now: Instant, more: bool) {
        let mut count = [0; 8];
        // What the counter says does not matter, and it is empty at worst.
        let _ = rustix::io::read(&self.bell, &mut count);
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Serve if self.receiving => {}
                Order::Serve => {
                    self.receiving = true;
                    self.receive();
                }
                // It was checked against the same needs when it was made.
                Order::Reload(tls) => drop(self.bridge.reload(&tls)),
                Order::Hush => self.bridge.hush(),
                Order::Drain => self.bridge.drain(),
                Order::End => {
                    self.bridge.drain();
                    self.end = End::Delivering(now + DELIVERY);
                }
            }
        }
        if !more {
            self.watch(self.bell.as_raw_fd(), libc::POLLIN, true, plain(Op::Bell, 0));
        }
    }

    fn listen_to_bridge(&mut self, now: Instant) {
        while let Some(happening) = self.bridge.poll(now) {
            match happening {
                Happening::Opened(key, who) => self.open(key, who),
                Happening::Readable(key) | Happening::Writable(key) => self.queue(key),
                Happening::Gone(key) => self.close(key),
            }
        }
    }

    fn pipe(&mut self, key: StreamKey) -> Option<&mut Pipe> {
        let pipe = self.pipes.get_mut(key.index as usize)?.as_mut();
        pipe.filter(|pipe| pipe.key == key)
    }

    fn queue(&mut self, key: StreamKey) {
        if let Some(pipe) = self.pipe(key)
            && !std::mem::replace(&mut pipe.queued, true)
        {
            self.ready.push_back(key.index);
        }
    }

    /// A new stream: a socket pair for it, one end for a shard.
    fn open(&mut self, key: StreamKey, who: Caller) {
        self.counters.calls.add(1);
        let Ok((pipe, theirs)) = Pipe::new(key) else {
            self.counters.refuse(Refusal::Streams);
            return self.bridge.refuse(key);
        };
        if !(self.hand)(theirs, who) {
            self.counters.refuse(Refusal::Shards);
            return self.bridge.refuse(key);
        }
        let (index, fd) = (key.index as usize, pipe.raw_fd());
        if self.pipes.len() <= index {
            self.pipes.resize_with(index + 1, || None);
        }
        self.pipes[index] = Some(pipe);
        self.open += 1;
        self.counters.streams.add(1);
        self.counters.streams_open.set(self.open);
        self.watch(fd, libc::POLLIN | libc::POLLRDHUP, true, tag(Op::Pipe, key));
        self.queue(key);
    }

    /// The kernel has something to say of a pipe.
    fn stirred(&mut self, op: u8, done: Completion) {
        let index = done.user_data as u32;
        let generation = (done.user_data >> 32) as u32 & GENERATION_MASK;
        let Some(pipe) = self.pipes.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if pipe.key.generation & GENERATION_MASK != generation {
            return;
        }
        pipe.hung_up |= done.result >= 0 && done.result & i32::from(libc::POLLHUP) != 0;
        let (key, fd, hung_up) = (pipe.key, pipe.raw_fd(), pipe.hung_up);
        if op == Op::Room as u8 {
            pipe.asked = false;
        } else if !done.more() && !hung_up {
            self.watch(fd, libc::POLLIN | libc::POLLRDHUP, true, tag(Op::Pipe, key));
        }
        self.queue(key);
    }

    fn serve(&mut self, index: u32) {
        let Some(pipe) = self.pipes.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        pipe.queued = false;
        let key = pipe.key;
        match pipe.serve(&mut self.bridge, &mut self.scratch, &self.counters) {
            Next::Wait => {}
            Next::Again => self.queue(key),
            Next::WaitForRoom => {
                let (fd, asked) = (pipe.raw_fd(), std::mem::replace(&mut pipe.asked, true));
                if !asked {
                    self.watch(fd, libc::POLLOUT, false, tag(Op::Room, key));
                }
            }
            Next::Over => {
                self.bridge.leave(key);
                self.close(key);
            }
        }
    }

    /// Drops a pipe: the shard sees the end of its connection.
    fn close(&mut self, key: StreamKey) {
        if self.pipe(key).is_none() {
            return;
        }
        // The kernel holds the socket for as long as it watches it.
        for op in [Op::Pipe, Op::Room] {
            let entry = opcode::PollRemove::new(tag(op, key)).build();
            // SAFETY: a removal names no memory.
            unsafe { self.ring.push(&entry.user_data(plain(Op::Forget, 0))) };
        }
        self.pipes[key.index as usize] = None;
        self.open -= 1;
        self.counters.streams_open.set(self.open);
    }

    /// Sends what there is to send, as far as there are places for it.
    fn send(&mut self, now: Instant) {
        while let Some(place) = self.sends.take() {
            let bytes = self.sends.bytes(place);
            let Some(transmit) = self.bridge.transmit(now, self.segments, bytes) else {
                return self.sends.give_back(place);
            };
            let fd = types::Fd(self.socket.as_raw_fd());
            let entry = self.sends.entry(place, fd, &transmit);
            let entry = entry.user_data(plain(Op::Send, u32::from(place)));
            // SAFETY: the place keeps what the entry names until its completion gives it back, or
            // until `drop` has ended all operations.
            unsafe { self.ring.push(&entry) };
        }
    }
}

impl Drop for Driver {
    /// Ends what is under way before the memory goes that the kernel works on.
    fn drop(&mut self) {
        self.ring.enter(Some(Duration::ZERO));
        let limit = types::Timespec::new().sec(1);
        let all = types::CancelBuilder::any();
        let _ = self.ring.inner().submitter().register_sync_cancel(Some(limit), all);
    }
}
