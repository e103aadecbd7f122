//! Connections under TLS, which the shard cannot tell from others: it learns of them when the
//! handshake is done and who is at the other end is known, and sees plain bytes only.
//!
//! ```text
//!   stream -> provided buffers -> [handshake | opened in place] -> shard, header room, slot
//!   chunks, replies -> copied and sealed into an output buffer -> send
//! ```
//!
//! Reading, the kernel's side is the stream of the small lane in both lanes; a fill is served from
//! plain bytes, by one copy. A record that lies whole in a provided buffer is opened where it lies;
//! one that straddles two is put together in its connection's own buffer, which is taken when the
//! first such record comes and kept until the connection ends. Those buffers are not shared: who
//! holds one may be waiting for a slot, and who has the slot must not wait for a buffer.
//!
//! Writing, each send takes an output buffer out of a pool and gives it back when the kernel has
//! taken the bytes. A connection that finds none reports that nothing was sent, once there is one.

mod handshake;
mod open;
mod outputs;
mod receive;
mod send;

use crate::table::Reading;
use dataplane_core::driver::{Caller, Time};
use outputs::Outputs;
use std::{collections::VecDeque, fmt, io, sync::Arc};
use tls::{Acceptor, Handshake, Identity, RECORD_MAX, Session};

/// Pieces of ciphertext that may lie ahead of a connection that wants none: then its stream stops.
const AHEAD_MAX: u32 = 4;

/// Heap of a connection besides its record buffer: keys in both directions, secrets for the next
/// ones, and who the peer is. Measured by a test.
pub(crate) const SESSION_BYTES: u64 = 3 << 10;
/// Heap of a handshake at most: what rustls keeps of it and what it may hold.
pub(crate) const HANDSHAKE_BYTES: u64 = 96 << 10;

/// Sizes of a driver's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSizes {
    /// Handshakes under way at once. Over that, those who come wait in line.
    pub handshakes: u32,
    /// How long a handshake may take, nanoseconds; a quarter of it while others wait in line.
    pub handshake_ns: u64,
    /// Output buffers.
    pub outputs: u32,
    /// Full records in an output buffer.
    pub output_records: u32,
}

impl Default for TlsSizes {
    fn default() -> Self {
        Self { handshakes: 256, handshake_ns: 5_000_000_000, outputs: 256, output_records: 2 }
    }
}

impl TlsSizes {
    /// Bytes at most: of output buffers, and of everything by connection and handshake.
    pub(crate) fn bytes(&self, connections: u64) -> [u64; 2] {
        let outputs = u64::from(self.outputs) * (self.output_len() as u64 + 4);
        let each = SESSION_BYTES + size_of::<Secure>() as u64 + RECORD_MAX as u64;
        [outputs, connections * each + u64::from(self.handshakes) * HANDSHAKE_BYTES]
    }

    fn output_len(&self) -> usize {
        tls::OWED_MAX + self.output_records.max(1) as usize * tls::SEALED_MAX
    }
}

/// Turns a proven identity into a number of the node's table and the roles that it has here; `None`
/// refuses the peer. Asked once per connection.
pub trait Identify: Send + Sync {
    /// Who this is to the shards.
    fn identify(&self, identity: &Identity) -> Option<Caller>;
}

impl<F: Fn(&Identity) -> Option<Caller> + Send + Sync> Identify for F {
    fn identify(&self, identity: &Identity) -> Option<Caller> {
        self(identity)
    }
}

/// What stands at a listener that lets nobody in who does not prove who he is.
#[derive(Clone)]
pub struct Gate {
    acceptor: Acceptor,
    identify: Arc<dyn Identify>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("acceptor", &self.acceptor).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate with this certificate and this table of identities.
    #[must_use]
    pub fn new(acceptor: Acceptor, identify: Arc<dyn Identify>) -> Self {
        Self { acceptor, identify }
    }
}

/// Where plain bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a provided buffer; `last` where no ciphertext follows in it, so that it goes back when
    /// the plain bytes are used. Where some follows, the buffer is the first of the stash.
    Buffer { id: u16, last: bool },
    /// In the connection's own buffer.
    Own,
}

/// Plain bytes that the shard has not used yet.
#[derive(Clone, Copy, Debug)]
struct Plain {
    place: Place,
    from: u32,
    len: u32,
}

/// A send under way.
#[derive(Clone, Copy, Debug)]
struct Out {
    buffer: u32,
    from: u32,
    len: u32,
    /// Plain bytes of the shard's that it stands for.
    plain: u32,
}

enum Stage {
    /// Waits for one of the handshakes under way to end.
    InLine(Gate),
    Shaking(Box<Handshake>, Arc<dyn Identify>),
    Open(Box<Session>),
    /// Of no more use.
    Over,
}

/// What a connection under TLS has beside its entry in the table.
pub(crate) struct Secure {
    stage: Stage,
    plain: Option<Plain>,
    /// The record that straddles buffers, and how much of it is here.
    own: Option<Box<[u8; RECORD_MAX]>>,
    gathered: u32,
    /// The fill that the shard has ordered; where it has got to is in the table.
    ordered: Reading,
    /// Pieces of ciphertext in the stash.
    ahead: u32,
    out: Option<Out>,
    /// The shard's transmit waits for a send to end or for an output buffer.
    waiting: bool,
    /// In the list of those that wait for an output buffer.
    queued: bool,
    /// A half close follows the last send.
    ending: bool,
    /// The peer has said that nothing more will come.
    closed: bool,
}

impl Secure {
    fn new(gate: Gate) -> Self {
        Self {
            stage: Stage::InLine(gate),
            plain: None,
            own: None,
            gathered: 0,
            ordered: Reading::Nothing,
            ahead: 0,
            out: None,
            waiting: false,
            queued: false,
            ending: false,
            closed: false,
        }
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("plain", &self.plain).finish_non_exhaustive()
    }
}

/// A handshake under way, in the order in which they began.
#[derive(Clone, Copy, Debug)]
struct Begun {
    index: u32,
    since: Time,
}

/// All of a driver's TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    sizes: TlsSizes,
    /// By connection; empty in a driver without TLS.
    conns: Box<[Option<Box<Secure>>]>,
    begun: VecDeque<Begun>,
    /// Connections whose handshake has not begun.
    line: VecDeque<u32>,
    outputs: Outputs,
    /// Connections that found no output buffer.
    short: VecDeque<u32>,
}

impl Tls {
    pub(crate) fn new(sizes: Option<TlsSizes>, connections: u32) -> io::Result<Self> {
        let connections = if sizes.is_some() { connections } else { 0 };
        let unused = TlsSizes { outputs: 0, handshakes: 0, ..TlsSizes::default() };
        let sizes = sizes.unwrap_or(unused);
        Ok(Self {
            sizes,
            conns: (0..connections).map(|_| None).collect(),
            begun: VecDeque::with_capacity(sizes.handshakes as usize),
            line: VecDeque::with_capacity(connections as usize),
            outputs: Outputs::new(sizes.outputs, sizes.output_len())?,
            short: VecDeque::with_capacity(connections as usize),
        })
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.conns.is_empty()
    }

    fn get(&mut self, index: u32) -> Option<&mut Secure> {
        self.conns.get_mut(index as usize)?.as_deref_mut()
    }
}
