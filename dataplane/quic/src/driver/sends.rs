//! Sends under way: each has its bytes, its address and its control messages at a place that does
//! not move until the kernel is done with it.

use super::message::{CONTROL_MAX, NAME_MAX, write_address, write_control};
use io_uring::{opcode, squeue, types};
use quinn_proto::Transmit;

/// Sends under way. The kernel ends most of them while they are submitted, so that their number
/// bounds a burst, not the connections that can be served.
const COUNT: u16 = 64;
/// Longest send: `SEGMENTS_MAX` datagrams of an Ethernet frame each, which fits a UDP length.
const LEN: usize = 48 << 10;
/// Bytes of all sends.
pub(super) const BYTES: u64 = LEN as u64 * COUNT as u64;

#[repr(align(8))]
struct Control([u8; CONTROL_MAX]);

struct Send {
    bytes: Vec<u8>,
    name: [u8; NAME_MAX],
    control: Control,
    vector: libc::iovec,
    header: libc::msghdr,
}

impl Send {
    fn new() -> Self {
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            bytes: Vec::with_capacity(LEN),
            name: [0; NAME_MAX],
            control: Control([0; CONTROL_MAX]),
            vector,
            header: message(),
        }
    }
}

/// A message header that names nothing.
pub(super) fn message() -> libc::msghdr {
    // SAFETY: all zeroes are a valid `msghdr`: null pointers and lengths of nothing.
    unsafe { std::mem::zeroed() }
}

/// All places for sends.
pub(super) struct Sends {
    places: Box<[Box<Send>]>,
    free: Vec<u16>,
}

impl Sends {
    pub(super) fn new() -> Self {
        let places = (0..COUNT).map(|_| Box::new(Send::new())).collect();
        Self { places, free: (0..COUNT).collect() }
    }

    /// A free place, its bytes empty.
    pub(super) fn take(&mut self) -> Option<u16> {
        let place = self.free.pop()?;
        self.bytes(place).clear();
        Some(place)
    }

    /// The bytes to be sent from a place that `take` gave, before `entry`.
    pub(super) fn bytes(&mut self, place: u16) -> &mut Vec<u8> {
        &mut self.places[usize::from(place)].bytes
    }

    /// The kernel's order for what `transmit` says of this place's bytes. What it names stays as it
    /// is until `give_back`.
    pub(super) fn entry(&mut self, place: u16, fd: types::Fd, t: &Transmit) -> squeue::Entry {
        let send = &mut *self.places[usize::from(place)];
        let name = write_address(t.destination, &mut send.name);
        let control = write_control(t, &mut send.control.0);
        send.vector.iov_base = send.bytes.as_mut_ptr().cast();
        send.vector.iov_len = t.size;
        send.header.msg_name = send.name.as_mut_ptr().cast();
        send.header.msg_namelen = name as u32;
        send.header.msg_iov = &raw mut send.vector;
        send.header.msg_iovlen = 1;
        send.header.msg_control = send.control.0.as_mut_ptr().cast();
        send.header.msg_controllen = control as _;
        opcode::SendMsg::new(fd, &raw const send.header).build()
    }

    /// The kernel is done with this place.
    pub(super) fn give_back(&mut self, place: u16) {
        debug_assert!(!self.free.contains(&place), "place {place} is free already");
        self.free.push(place);
    }

    /// True when nothing is under way.
    pub(super) fn idle(&self) -> bool {
        self.free.len() == self.places.len()
    }
}
