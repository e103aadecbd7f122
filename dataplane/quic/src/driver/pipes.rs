//! Socket pairs: one end is a shard's, the other end is moved here between its stream and the
//! kernel's buffer. Nothing is kept in between: what one side does not take is not read from the
//! other.

use crate::{
    bridge::{Bridge, Read, StreamKey},
    counters::Counters,
    limits::PIECE_MAX,
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags,
        SocketType, recv, sendmsg, shutdown, socketpair,
    },
};
use std::{
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// Pieces of one send to a shard.
const SLICES: usize = 64;
/// Pieces moved each way before others get their turn.
const TURN: usize = 4;

/// What a pipe needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To hear from the kernel or from the bridge.
    Wait,
    /// To hear when the shard's buffer has room again.
    WaitForRoom,
    /// Another turn.
    Again,
    /// To be dropped: both ways have ended.
    Over,
}

/// This end of a socket pair, and the stream behind it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) key: StreamKey,
    fd: OwnedFd,
    /// The shard may still have something for the peer.
    from_shard: bool,
    /// The peer may still have something for the shard.
    to_shard: bool,
    /// The shard's end is closed.
    pub(super) hung_up: bool,
    /// It waits for its turn.
    pub(super) queued: bool,
    /// The kernel will say when there is room again.
    pub(super) asked: bool,
}

impl Pipe {
    /// A pipe for a stream, and the end of the shard.
    pub(super) fn new(key: StreamKey) -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (fd, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let pipe = Self {
            key,
            fd,
            from_shard: true,
            to_shard: true,
            hung_up: false,
            queued: false,
            asked: false,
        };
        Ok((pipe, theirs))
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Moves what can be moved, both ways.
    pub(super) fn serve(
        &mut self,
        bridge: &mut Bridge,
        scratch: &mut [u8; PIECE_MAX],
        counters: &Counters,
    ) -> Next {
        let down = self.down(bridge, counters);
        let up = self.up(bridge, scratch, counters);
        if self.hung_up && !self.from_shard && self.to_shard {
            self.to_shard = false;
            bridge.stop(self.key);
        }
        match (self.to_shard || self.from_shard, up, down) {
            (false, ..) => Next::Over,
            (_, Next::Again, _) | (_, _, Next::Again) => Next::Again,
            _ => down,
        }
    }

    /// From the peer to the shard.
    fn down(&mut self, bridge: &mut Bridge, counters: &Counters) -> Next {
        for _ in 0..TURN {
            if !self.to_shard {
                return Next::Wait;
            }
            let sent = match bridge.read(self.key) {
                Read::Wait => return Next::Wait,
                Read::End => {
                    self.to_shard = false;
                    // It fails where the shard has closed its end, which then needs no telling.
                    let _ = shutdown(&self.fd, Shutdown::Write);
                    return Next::Wait;
                }
                Read::Bytes(pieces) => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let count = pieces.len().min(SLICES);
                    for (slice, piece) in slices.iter_mut().zip(pieces) {
                        *slice = IoSlice::new(piece);
                    }
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    let mut control = SendAncillaryBuffer::default();
                    counters.calls.add(1);
                    sendmsg(&self.fd, &slices[..count], &mut control, flags)
                }
            };
            match sent {
                Ok(count) => {
                    counters.copied_to_shard.add(count as u64);
                    bridge.consumed(self.key, count);
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => return Next::WaitForRoom,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.to_shard = false;
                    bridge.stop(self.key);
                }
            }
        }
        Next::Again
    }

    /// From the shard to the peer.
    fn up(
        &mut self,
        bridge: &mut Bridge,
        scratch: &mut [u8; PIECE_MAX],
        counters: &Counters,
    ) -> Next {
        for _ in 0..TURN {
            if !self.from_shard || !bridge.room(self.key) {
                return Next::Wait;
            }
            counters.calls.add(1);
            match recv(&self.fd, &mut scratch[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.from_shard = false;
                    bridge.finish(self.key);
                }
                Ok((count, _)) => {
                    counters.copied_from_shard.add(count as u64);
                    bridge.write(self.key, &scratch[..count]);
                }
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // The shard closed without reading all. What it has written, a refusal maybe,
                    // was read before this and still reaches the peer.
                    self.from_shard = false;
                    self.to_shard = false;
                    bridge.finish(self.key);
                }
            }
        }
        Next::Again
    }
}
