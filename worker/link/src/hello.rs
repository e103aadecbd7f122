//! The handshake between a node and the worker process it has just started, over the process's
//! standard input.
//!
//! ```text
//!   node                                            worker
//!   send_offer: 48 bytes + descriptors  ---------->  receive_offer
//!   receive_answer                      <----------  send_answer: 256 bytes, Ready or Refused
//!   ... work goes through the segment ...
//!   receive_answer                      <----------  send_answer: 256 bytes, Changed; rarely
//!   closes its end                      ---------->  end of file: finish what is held, exit 0
//! ```
//!
//! The socket is a Unix stream pair. The node sends nothing after the offer: its end is the
//! message, whether it drains or died. The worker speaks again only where what it computes on has
//! changed, for example because a device was lost. All messages have a fixed length and native byte
//! order; version and layout hash come first in effect, since nothing else is believed when they
//! differ.

use crate::{layout::SHARDS_MAX, mapping::Files};
use core::mem::MaybeUninit;
use rustix::{
    cmsg_space,
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::{Errno, IoSlice, IoSliceMut},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recv, recvmsg, send, sendmsg,
    },
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the handshake itself.
pub const VERSION: u32 = 2;
/// Bytes of an answer, for a supervisor that reads it by itself and gives it to [`Answer::parse`].
pub const ANSWER_LEN: usize = size_of::<AnswerBytes>();

const OFFER_MAGIC: [u8; 8] = *b"BUTTOFFR";
const ANSWER_MAGIC: [u8; 8] = *b"BUTTANSW";
const HAS_WEIGHTS: u32 = 1;
const HAS_BASIS: u32 = 2;
/// The segment's two files, the worker's door, the shards' doors, the weights, the basis.
const FDS_MAX: usize = SHARDS_MAX as usize + 5;
const TEXT_MAX: usize = 200;

/// What goes wrong in a handshake.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The other end is gone.
    #[error("the other side closed the control socket during the handshake")]
    Closed,
    /// Not the message that belongs here.
    #[error("the control socket carries no butterfly handshake")]
    Magic,
    /// Made by another release.
    #[error(
        "the other side speaks handshake version {theirs}, this program {ours}; \
         start both from one build"
    )]
    Version {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A field is impossible.
    #[error("impossible handshake: {0}")]
    Field(&'static str),
    /// The OS refused.
    #[error("control socket: {0}")]
    Os(#[from] Errno),
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct OfferBytes {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    layout_hash: u64,
    worker: u16,
    shards: u16,
    reserved: [u8; 20],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct AnswerBytes {
    magic: [u8; 8],
    version: u32,
    /// 1 ready, 2 refused, 3 changed.
    verdict: u32,
    pid: u32,
    operations: u32,
    backend: [u8; 16],
    sandbox: u32,
    reserved: [u8; 12],
    text: [u8; TEXT_MAX],
}

const _: () = assert!(size_of::<OfferBytes>() == 48 && ANSWER_LEN == 256);

/// What a node gives to a worker.
#[derive(Debug)]
pub struct Offer<Fd> {
    /// Which worker it shall be.
    pub worker: u16,
    /// Hash of the segment's layout.
    pub layout_hash: u64,
    /// The segment.
    pub files: Files<Fd>,
    /// What the worker sleeps on.
    pub door: Fd,
    /// What the shards sleep on, in their order.
    pub shards: Vec<Fd>,
    /// A sealed safetensors file with the weights of `lm-head`.
    pub weights: Option<Fd>,
    /// A sealed file with the basis that hidden rows are coded with.
    pub basis: Option<Fd>,
}

/// What a worker says to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It serves.
    Ready {
        /// Its process id.
        pid: u32,
        /// What it serves, bit = operation code.
        operations: u32,
        /// What keeps it in its box, bit = part of the sandbox.
        sandbox: u32,
        /// `cpu` or `cuda`.
        backend: String,
        /// What it computes on and why, for people.
        text: String,
    },
    /// It goes on serving what it said it serves, but on something else: said after `Ready`.
    Changed {
        /// `cpu` or `cuda`, from now on.
        backend: String,
        /// What it computes on now and why, for people.
        text: String,
    },
    /// It cannot serve and exits.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

/// The node's first step.
///
/// # Errors
/// [`HelloError::Os`], or [`HelloError::Field`] for more shards than one message can carry.
pub fn send_offer(control: impl AsFd, offer: &Offer<BorrowedFd<'_>>) -> Result<(), HelloError> {
    let shards = u16::try_from(offer.shards.len()).unwrap_or(u16::MAX);
    if shards > SHARDS_MAX {
        return Err(HelloError::Field("too many shards"));
    }
    let bytes = OfferBytes {
        magic: OFFER_MAGIC,
        version: VERSION,
        flags: offer.weights.map_or(0, |_| HAS_WEIGHTS) | offer.basis.map_or(0, |_| HAS_BASIS),
        layout_hash: offer.layout_hash,
        worker: offer.worker,
        shards,
        reserved: [0; 20],
    };
    let fds: Vec<_> = [offer.files.segment, offer.files.requests, offer.door]
        .into_iter()
        .chain(offer.shards.iter().copied())
        .chain(offer.weights)
        .chain(offer.basis)
        .collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(HelloError::Field("too many descriptors"));
    }
    let io = [IoSlice::new(bytes.as_bytes())];
    // So short a message on a fresh stream socket is taken whole or not at all.
    match sendmsg(control, &io, &mut ancillary, SendFlags::NOSIGNAL)? {
        sent if sent == size_of::<OfferBytes>() => Ok(()),
        _ => Err(HelloError::Closed),
    }
}

/// The worker's first step: waits for the offer.
///
/// # Errors
/// [`HelloError`]; descriptors that came with a bad offer are closed.
pub fn receive_offer(control: impl AsFd) -> Result<Offer<OwnedFd>, HelloError> {
    let mut bytes = [0_u8; size_of::<OfferBytes>()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received =
        retry(|| recvmsg(&control, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags))?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes < bytes.len() {
        return Err(HelloError::Closed);
    }
    let offer: OfferBytes = zerocopy::transmute!(bytes);
    if offer.magic != OFFER_MAGIC {
        return Err(HelloError::Magic);
    }
    if offer.version != VERSION {
        return Err(HelloError::Version { theirs: offer.version, ours: VERSION });
    }
    let [weights, basis] = [HAS_WEIGHTS, HAS_BASIS].map(|flag| offer.flags & flag != 0);
    let expected = 3 + usize::from(offer.shards) + usize::from(weights) + usize::from(basis);
    if fds.len() != expected {
        return Err(HelloError::Field("the number of descriptors"));
    }
    let basis = if basis { fds.pop() } else { None };
    let weights = if weights { fds.pop() } else { None };
    let mut fds = fds.into_iter();
    let (Some(segment), Some(requests), Some(door)) = (fds.next(), fds.next(), fds.next()) else {
        return Err(HelloError::Field("the number of descriptors"));
    };
    let files = Files { segment, requests };
    let (worker, layout_hash) = (offer.worker, offer.layout_hash);
    Ok(Offer { worker, layout_hash, files, door, shards: fds.collect(), weights, basis })
}

/// The worker's second step.
///
/// # Errors
/// [`HelloError`].
pub fn send_answer(control: impl AsFd, answer: &Answer) -> Result<(), HelloError> {
    let bytes = answer.to_bytes();
    match retry(|| send(&control, &bytes, SendFlags::NOSIGNAL))? {
        ANSWER_LEN => Ok(()),
        _ => Err(HelloError::Closed),
    }
}

/// The node's second step: waits for the answer, as long as the socket's own timeout allows.
///
/// # Errors
/// [`HelloError`].
pub fn receive_answer(control: impl AsFd) -> Result<Answer, HelloError> {
    let mut bytes = [0_u8; ANSWER_LEN];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match retry(|| recv(&control, &mut *rest, RecvFlags::empty()))?.1 {
            0 => return Err(HelloError::Closed),
            received => filled += received,
        }
    }
    Answer::parse(&bytes)
}

impl Answer {
    /// Reads an answer from its bytes.
    ///
    /// # Errors
    /// [`HelloError`] for bytes that are none.
    pub fn parse(bytes: &[u8; ANSWER_LEN]) -> Result<Self, HelloError> {
        let answer: AnswerBytes = zerocopy::transmute!(*bytes);
        if answer.magic != ANSWER_MAGIC {
            return Err(HelloError::Magic);
        }
        if answer.version != VERSION {
            return Err(HelloError::Version { theirs: answer.version, ours: VERSION });
        }
        match answer.verdict {
            1 => Ok(Self::Ready {
                pid: answer.pid,
                operations: answer.operations,
                sandbox: answer.sandbox,
                backend: text(&answer.backend),
                text: text(&answer.text),
            }),
            2 => Ok(Self::Refused { reason: text(&answer.text) }),
            3 => Ok(Self::Changed { backend: text(&answer.backend), text: text(&answer.text) }),
            _ => Err(HelloError::Field("the verdict")),
        }
    }

    /// The bytes of an answer; texts are cut to what fits.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ANSWER_LEN] {
        let (verdict, [pid, operations, sandbox], name, words) = match self {
            Self::Ready { pid, operations, sandbox, backend, text } => {
                (1, [*pid, *operations, *sandbox], backend.as_str(), text)
            }
            Self::Refused { reason } => (2, [0; 3], "", reason),
            Self::Changed { backend, text } => (3, [0; 3], backend.as_str(), text),
        };
        zerocopy::transmute!(AnswerBytes {
            magic: ANSWER_MAGIC,
            version: VERSION,
            verdict,
            pid,
            operations,
            backend: cut(name),
            sandbox,
            reserved: [0; 12],
            text: cut(words),
        })
    }
}

/// As much of a text as fits, cut between characters, zeros behind it.
fn cut<const N: usize>(words: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let end = (0..=N.min(words.len())).rev().find(|&end| words.is_char_boundary(end)).unwrap_or(0);
    bytes[..end].copy_from_slice(&words.as_bytes()[..end]);
    bytes
}

/// Words for people. A worker that fell into other hands shall not command their terminals.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).replace(char::is_control, "?")
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
