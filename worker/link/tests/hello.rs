//! The handshake over a real socket pair: what arrives, and what is refused.
#![cfg(not(loom))]

use link::{
    Files, Layout, Segment,
    door::Door,
    hello::{
        ANSWER_LEN, Answer, HelloError, Offer, receive_answer, receive_offer, send_answer,
        send_offer,
    },
    layout::SHARDS_MAX,
};
use proptest::prelude::*;
use std::{io::Write, os::unix::net::UnixStream};

const LAYOUT: Layout = Layout {
    shards: 1,
    workers: 1,
    small_slots: 1,
    small_request: 64,
    small_reply: 64,
    bulk_slots: 0,
    bulk_request: 0,
    bulk_reply: 0,
};

#[test]
fn an_offer_brings_every_descriptor_to_its_place() {
    let (node, worker) = UnixStream::pair().expect("socket");
    let segment = Segment::create(&LAYOUT).expect("segment");
    let doors: Vec<Door> = (0..=SHARDS_MAX).map(|_| Door::new().expect("door")).collect();
    let most = usize::from(SHARDS_MAX);
    for (count, weights, basis) in
        [(1, true, false), (7, false, false), (2, false, true), (most, true, true)]
    {
        let sent = Offer {
            worker: 5,
            layout_hash: 0xFEED,
            files: segment.files(),
            door: doors[0].fd(),
            shards: doors[1..=count].iter().map(Door::fd).collect(),
            weights: weights.then(|| doors[0].fd()),
            basis: basis.then(|| doors[0].fd()),
        };
        send_offer(&node, &sent).expect("sent");
        let received = receive_offer(&worker).expect("received");
        assert_eq!((received.worker, received.layout_hash), (5, 0xFEED));
        assert_eq!(received.weights.is_some(), weights);
        assert_eq!(received.basis.is_some(), basis);
        assert_eq!(received.shards.len(), count);
        Segment::attach(received.files).expect("the segment");
        // Each bell is itself: ring the received, hear the sent.
        for (received, sent) in received.shards.into_iter().zip(&doors[1..]) {
            assert!(!sent.silence());
            Door::from_fd(received).ring();
            assert!(sent.silence());
        }
        Door::from_fd(received.door).ring();
        assert!(doors[0].silence());
    }
}

#[test]
fn too_many_shards_are_refused_before_anything_is_sent() {
    let (node, _worker) = UnixStream::pair().expect("socket");
    let door = Door::new().expect("door");
    let shards = vec![door.fd(); usize::from(SHARDS_MAX) + 1];
    let files = Files { segment: door.fd(), requests: door.fd() };
    let (door, weights, basis) = (door.fd(), None, None);
    let offer = Offer { worker: 0, layout_hash: 0, files, door, shards, weights, basis };
    assert!(matches!(send_offer(&node, &offer), Err(HelloError::Field(_))));
}

#[test]
fn answers_come_as_they_were_given() {
    let (node, worker) = UnixStream::pair().expect("socket");
    let ready = Answer::Ready {
        pid: 4_000_000_000,
        operations: 0b1_1110,
        sandbox: 0b101,
        backend: "cpu".into(),
        text: "one core, avx512; asked for".into(),
    };
    let refused = Answer::Refused { reason: "the weights are café".into() };
    let changed =
        Answer::Changed { backend: "cpu".into(), text: "one core; the device was lost".into() };
    for answer in [ready, refused, changed] {
        send_answer(&worker, &answer).expect("sent");
        assert_eq!(receive_answer(&node).expect("received"), answer);
    }
    drop(worker);
    assert!(matches!(receive_answer(&node), Err(HelloError::Closed)));
}

#[test]
fn sec_a_workers_words_reach_no_terminal_as_commands() {
    let (node, worker) = UnixStream::pair().expect("socket");
    let reason = "fine\n\u{1b}[2J\u{9b}31mworker 7 ready\u{7f}".to_owned();
    send_answer(&worker, &Answer::Refused { reason }).expect("sent");
    let heard = receive_answer(&node).expect("received");
    let shown = "fine??[2J?31mworker 7 ready?".to_owned();
    assert_eq!(heard, Answer::Refused { reason: shown });
}

#[test]
fn whoever_else_speaks_is_refused() {
    for bytes in [b"".as_slice(), b"short", &[0; 48], &[0xFF; 400]] {
        let (mut node, mut worker) = UnixStream::pair().expect("socket");
        node.write_all(bytes).expect("write");
        worker.write_all(bytes).expect("write");
        node.shutdown(std::net::Shutdown::Write).expect("shutdown");
        worker.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let whole = bytes.len() >= 48;
        match receive_offer(&worker) {
            Err(HelloError::Magic) => assert!(whole),
            Err(HelloError::Closed) => assert!(!whole),
            other => panic!("{other:?}"),
        }
        assert!(receive_answer(&node).is_err());
    }
}

/// The right words with a descriptor missing.
#[test]
fn an_offer_without_its_descriptors_is_refused() {
    let (mut node, worker) = UnixStream::pair().expect("socket");
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(b"BUTTOFFR");
    bytes[8..12].copy_from_slice(&link::hello::VERSION.to_ne_bytes());
    node.write_all(&bytes).expect("write");
    assert!(matches!(receive_offer(&worker), Err(HelloError::Field(_))));
    bytes[8] ^= 0x40;
    node.write_all(&bytes).expect("write");
    assert!(matches!(receive_offer(&worker), Err(HelloError::Version { .. })));
}

proptest! {
    /// Any text survives, or its longest prefix of whole characters that fits.
    #[test]
    fn texts_are_cut_between_characters(reason in "[^\0]{0,300}") {
        let answer = Answer::parse(&Answer::Refused { reason: reason.clone() }.to_bytes());
        let Ok(Answer::Refused { reason: kept }) = answer else { panic!("{answer:?}") };
        let fits = (0..=reason.len().min(200)).rev().find(|&end| reason.is_char_boundary(end));
        let shown = reason[..fits.unwrap_or(0)].replace(char::is_control, "?");
        prop_assert_eq!(kept, shown);
    }

    /// Any bytes are an answer or a refusal of them; never a panic.
    #[test]
    fn any_bytes_are_read(
        mut bytes in prop::collection::vec(any::<u8>(), ANSWER_LEN),
        honest in any::<bool>(),
    ) {
        if honest {
            let head = Answer::Refused { reason: String::new() }.to_bytes();
            bytes[..16].copy_from_slice(&head[..16]);
        }
        let bytes: [u8; ANSWER_LEN] = bytes.try_into().expect("the length asked for");
        prop_assert_eq!(Answer::parse(&bytes).is_ok(), honest);
    }
}
