//! A worker that breaks its word. The node starts this program in place of its own for workers; it
//! is honest, and the very same code, unless a file says which lie is wanted.

use link::{
    Lent, LinkFault, Segment, WorkerSide,
    door::Door,
    hello::{Answer, receive_offer, send_answer},
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    io::Errno,
    net::{RecvFlags, recv},
    process::{Signal, getpid, set_parent_process_death_signal},
    thread::set_name,
};
use std::{ffi::CStr, fs, io, process::ExitCode, sync::Arc, thread, time::Duration};
use wire::{ErrorCode, HEADER_LEN, Header, Kind, Outcome};
use zerocopy::IntoBytes;

/// The variable that names the file.
pub(crate) const FILE: &str = "CHAOS_LIES";
/// What the process is called, so that it is found.
pub(crate) const NAME: &CStr = c"liar";
/// Exit code of a liar that could not even begin.
const NO_NODE: u8 = 4;

/// What a liar says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Gives back a slot that it does not hold.
    NotLent,
    /// Gives a slot back twice.
    Twice,
    /// Gives back a slot that does not exist.
    OutOfRange,
    /// States a reply longer than its slot.
    TooLong,
    /// States a reply shorter than a header.
    TooShort,
    /// Leaves a frame that is no response.
    WrongKind,
    /// Leaves the answer to another question.
    WrongId,
    /// Leaves a frame whose length is not what it states.
    WrongLength,
    /// Leaves bytes that are no frame.
    Garbage,
    /// States a status that does not exist.
    UnknownStatus,
    /// Keeps what it was lent for ever, and beats its pulse.
    Keeps,
}

impl Lie {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::NotLent,
        Self::Twice,
        Self::OutOfRange,
        Self::TooLong,
        Self::TooShort,
        Self::WrongKind,
        Self::WrongId,
        Self::WrongLength,
        Self::Garbage,
        Self::UnknownStatus,
        Self::Keeps,
    ];

    /// As in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotLent => "not-lent",
            Self::Twice => "twice",
            Self::OutOfRange => "out-of-range",
            Self::TooLong => "too-long",
            Self::TooShort => "too-short",
            Self::WrongKind => "wrong-kind",
            Self::WrongId => "wrong-id",
            Self::WrongLength => "wrong-length",
            Self::Garbage => "garbage",
            Self::UnknownStatus => "unknown-status",
            Self::Keeps => "keeps",
        }
    }
}

/// Which lie is wanted now.
fn wanted() -> Option<Lie> {
    let text = fs::read_to_string(std::env::var_os(FILE)?).ok()?;
    Lie::ALL.into_iter().find(|lie| lie.name() == text.trim())
}

/// Runs as a worker.
pub(crate) fn run(args: &worker::Args) -> ExitCode {
    match wanted() {
        None => worker::run(args),
        Some(lie) => {
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let _ = set_name(NAME);
            match serve(lie) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("liar: {why}");
                    ExitCode::from(NO_NODE)
                }
            }
        }
    }
}

fn serve(lie: Lie) -> Result<(), String> {
    let control = io::stdin();
    let control = control.as_fd();
    let offer = receive_offer(control).map_err(|error| error.to_string())?;
    let segment = Segment::attach(offer.files).map_err(|error| error.to_string())?;
    let segment = Arc::new(segment);
    let doors = offer.shards.into_iter().map(Door::from_fd).collect();
    let side = WorkerSide::new(&segment, offer.worker, Door::from_fd(offer.door), doors);
    let ready = Answer::Ready {
        pid: getpid().as_raw_nonzero().get().cast_unsigned(),
        operations: u32::MAX,
        sandbox: 0,
        backend: "cpu".to_owned(),
        text: format!("lies: {}", lie.name()),
    };
    send_answer(control, &ready).map_err(|error| error.to_string())?;
    let slots = segment.layout().small_slots + segment.layout().bulk_slots;
    let mut batch = Vec::new();
    let mut kept = Vec::new();
    while is_there(control) {
        side.beat();
        // The node may have emptied the rings meanwhile; it will end this process soon.
        if side.next_batch(256, &mut batch).is_err() {
            break;
        }
        for lent in batch.drain(..) {
            // What does not fit the ring any more is a lie that nobody hears.
            let _ = tell(lie, &side, slots, lent, &mut kept);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn is_there(control: BorrowedFd<'_>) -> bool {
    matches!(recv(control, &mut [0_u8; 8], RecvFlags::DONTWAIT), Err(Errno::AGAIN | Errno::INTR))
}

fn tell<'s>(
    lie: Lie,
    side: &'s WorkerSide,
    slots: u32,
    mut lent: Lent<'s>,
    kept: &mut Vec<Lent<'s>>,
) -> Result<(), LinkFault> {
    let id = lent.order().message_id;
    let done = |reply_len| Outcome { frames: 1, reply_len, ..Outcome::default() };
    let outcome = match lie {
        Lie::Keeps => {
            kept.push(lent);
            return Ok(());
        }
        // One of them is lent to this worker at most; the others are lies.
        Lie::NotLent => {
            kept.push(lent);
            return (0..slots).try_for_each(|slot| side.claim(0, slot));
        }
        Lie::OutOfRange => {
            kept.push(lent);
            return side.claim(0, slots + 7);
        }
        Lie::Twice => {
            let slot = lent.slot();
            let status = ErrorCode::WorkerFailed.code();
            lent.complete(Outcome { status, ..Outcome::default() })?;
            return side.claim(0, slot);
        }
        Lie::TooLong => done(u32::MAX),
        Lie::TooShort => done(HEADER_LEN as u32 - 1),
        Lie::WrongKind => frame(&mut lent, Kind::Heartbeat, id, 0),
        Lie::WrongId => frame(&mut lent, Kind::QueryResponse, id ^ 1, 0),
        Lie::WrongLength => frame(&mut lent, Kind::QueryResponse, id, 1_000_000),
        Lie::Garbage => {
            if let Ok((_, reply)) = lent.parts() {
                reply[..HEADER_LEN].fill(0xA5);
            }
            done(HEADER_LEN as u32)
        }
        Lie::UnknownStatus => Outcome { status: u16::MAX, ..Outcome::default() },
    };
    lent.complete(outcome)
}

/// A bare header in the reply area, and the outcome that goes with it.
fn frame(lent: &mut Lent<'_>, kind: Kind, id: u64, payload_len: u32) -> Outcome {
    let header = Header::new(kind, id, 0, payload_len, wire::check::crc16(&[]));
    if let Ok((_, reply)) = lent.parts() {
        reply[..HEADER_LEN].copy_from_slice(header.as_bytes());
    }
    Outcome { frames: 1, reply_len: HEADER_LEN as u32, ..Outcome::default() }
}
