//! Attaching to what is no segment, or another build's; files that everybody may read and nobody
//! change.
#![cfg(not(loom))]

use link::{AttachError, Files, Layout, Segment, SharedFile};
use rustix::{
    fd::{BorrowedFd, OwnedFd},
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::{Errno, pread, pwrite, write},
    mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect},
};
use std::{io, path::Path, ptr};

const LAYOUT: Layout = Layout {
    shards: 2,
    workers: 3,
    small_slots: 4,
    small_request: 1_000,
    small_reply: 500,
    bulk_slots: 1,
    bulk_request: 20_000,
    bulk_reply: 10_000,
};
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The descriptors of a segment, as they come out of a control message.
fn received(segment: &Segment) -> Files<OwnedFd> {
    let Files { segment, requests } = segment.files();
    let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("descriptor");
    Files { segment: own(segment), requests: own(requests) }
}

/// A copy of a segment's head in a file of this length, changed at one place, beside the requests
/// of a good one.
fn forged(len: u64, at: u64, bytes: &[u8]) -> Files<OwnedFd> {
    let segment = Segment::create(&LAYOUT).expect("segment");
    let mut head = [0; 256];
    pread(segment.files().segment, &mut head, 0).expect("read");
    let fd = memfd_create("forged", MemfdFlags::ALLOW_SEALING).expect("memfd");
    ftruncate(&fd, len).expect("size");
    pwrite(&fd, &head[..256.min(len as usize)], 0).expect("write");
    pwrite(&fd, bytes, at).expect("write");
    fcntl_add_seals(&fd, SEALS).expect("seals");
    Files { segment: fd, ..received(&segment) }
}

fn total() -> u64 {
    LAYOUT.bytes().expect("possible").total()
}

#[test]
fn a_segment_is_attached_as_it_was_made() {
    let segment = Segment::create(&LAYOUT).expect("segment");
    let other = Segment::attach(received(&segment)).expect("attach");
    assert_eq!((segment.layout(), other.layout()), (&LAYOUT, &LAYOUT));
    assert_eq!(segment.range().1 as u64, total());
    // What a node maps cannot change its length any more.
    for fd in [segment.files().segment, segment.files().requests] {
        assert_eq!(ftruncate(fd, 0), Err(Errno::PERM));
        assert_eq!(ftruncate(fd, total() * 2), Err(Errno::PERM));
    }
    // And a forgery without a fault is a segment: the cases below fail for their fault alone.
    assert!(Segment::attach(forged(total(), 0, b"")).is_ok());
}

#[test]
fn what_is_no_segment_of_this_build_is_refused_with_the_difference() {
    let refusal = |fd| Segment::attach(fd).expect_err("refused");
    let magic = refusal(forged(total(), 0, b"ELF"));
    assert!(matches!(magic, AttachError::Magic(_)), "{magic}");
    let version = refusal(forged(total(), 8, &99_u32.to_ne_bytes()));
    assert!(matches!(version, AttachError::Version { theirs: 99, .. }), "{version}");
    assert!(version.to_string().starts_with("segment of another version: 99"), "{version}");
    // One worker more than the hash was made for.
    let hash = refusal(forged(total(), 14, &4_u16.to_ne_bytes()));
    assert!(matches!(hash, AttachError::Hash { .. }), "{hash}");
    for len in [0, 60, 4_096, total() - 1, total() + 4_096] {
        let length = refusal(forged(len, 0, b""));
        assert!(matches!(length, AttachError::Length { actual, .. } if actual == len), "{length}");
    }
}

#[test]
fn what_could_shrink_is_refused() {
    let segment = Segment::create(&LAYOUT).expect("segment");
    let open = || {
        let fd = memfd_create("open", MemfdFlags::ALLOW_SEALING).expect("memfd");
        ftruncate(&fd, total()).expect("size");
        fd
    };
    let refusal = |files| Segment::attach(files).expect_err("refused");
    let null = std::fs::File::open("/dev/null").expect("null");
    for fd in [open(), null.into()] {
        let fd2 = fd.try_clone().expect("descriptor");
        let head = refusal(Files { segment: fd, ..received(&segment) });
        assert!(matches!(head, AttachError::Unsealed), "{head}");
        let requests = refusal(Files { requests: fd2, ..received(&segment) });
        assert!(matches!(requests, AttachError::Unsealed), "{requests}");
    }
    // Sealed, but too short: the first touch of a request would end the process.
    let short = memfd_create("short", MemfdFlags::ALLOW_SEALING).expect("memfd");
    fcntl_add_seals(&short, SEALS).expect("seals");
    let length = refusal(Files { requests: short, ..received(&segment) });
    assert!(matches!(length, AttachError::Length { actual: 0, .. }), "{length}");
}

#[test]
fn sec_requests_are_read_only_to_workers_whatever_they_try() {
    let segment = Segment::create(&LAYOUT).expect("segment");
    let worker = Segment::attach(received(&segment)).expect("attach");
    assert!(worker.is_guarded() && !segment.is_guarded());
    let requests = worker.arenas().requests;
    // SAFETY: changes the protection of a mapping to which no reference exists.
    let upgraded = unsafe {
        mprotect(
            requests.cast().as_ptr(),
            requests.len(),
            MprotectFlags::READ | MprotectFlags::WRITE,
        )
    };
    assert_eq!(upgraded, Err(Errno::ACCESS));
    let fd = segment.files().requests;
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping touches no existing memory.
    let again = unsafe { mmap(ptr::null_mut(), 4_096, both, MapFlags::SHARED, fd, 0) };
    assert_eq!(again, Err(Errno::PERM));
    assert_eq!(pwrite(fd, b"x", 0), Err(Errno::PERM));
    // What the node writes arrives, and replies are theirs to write.
    // SAFETY: the node's own mapping; nothing else refers to the byte.
    unsafe { segment.arenas().requests.cast::<u8>().write(7) };
    // SAFETY: as above, in the other mapping.
    assert_eq!(unsafe { requests.cast::<u8>().read() }, 7);
    // SAFETY: as above; replies are mapped to be written.
    unsafe { worker.arenas().replies.cast::<u8>().write(8) };
    // SAFETY: as above.
    assert_eq!(unsafe { segment.arenas().replies.cast::<u8>().read() }, 8);
}

#[test]
fn a_segment_for_devices_can_be_written_whole() {
    let segment = Segment::create_for_devices(&LAYOUT).expect("segment");
    let worker = Segment::attach(received(&segment)).expect("attach");
    assert!(!worker.is_guarded());
    // SAFETY: nothing else refers to the byte.
    unsafe { worker.arenas().requests.cast::<u8>().write(9) };
    // SAFETY: as above.
    assert_eq!(unsafe { segment.arenas().requests.cast::<u8>().read() }, 9);
}

#[test]
fn impossible_and_unaffordable_segments_are_refused_with_a_sentence() {
    let none = Segment::create(&Layout { shards: 0, ..LAYOUT }).expect_err("no shards");
    assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
    assert!(none.to_string().contains("0 shards"), "{none}");
}

#[test]
fn a_shared_file_is_the_file_for_ever() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let file = SharedFile::load(&path).expect("this file");
    assert_eq!(file.bytes(), std::fs::read(&path).expect("this file"));
    assert_eq!(write(file.fd(), b"x"), Err(Errno::PERM));
    let other = SharedFile::attach(file.fd().try_clone_to_owned().expect("fd")).expect("attach");
    assert_eq!(other.bytes(), file.bytes());
}

#[test]
fn a_file_that_can_change_is_not_shared() {
    let refusal = |fd| SharedFile::attach(fd).expect_err("refused").to_string();
    let fd = memfd_create("open", MemfdFlags::ALLOW_SEALING).expect("memfd");
    write(&fd, b"12345678").expect("write");
    assert!(refusal(fd).contains("sealed"));
    let fd = memfd_create("open", MemfdFlags::ALLOW_SEALING).expect("memfd");
    fcntl_add_seals(&fd, SEALS.union(SealFlags::WRITE)).expect("seals");
    assert!(refusal(fd).contains("empty"));
    let missing = SharedFile::load(Path::new("/nonexistent")).expect_err("missing");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}
