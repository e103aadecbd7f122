//! Peers with good keys and bad manners, and people on the way: nothing that was not sent as it
//! came is ever delivered, and every bound holds.

use crate::{
    pair::{Pair, give, sent},
    rig::World,
};
use proptest::prelude::*;
use rustls::{AlertDescription, Error};
use std::io::Write;
use tls::{
    Acceptor, Fault, HANDSHAKE_MAX, HANDSHAKE_RECORDS_MAX, HEAD, OWED_MAX, Opened, PLAIN_MAX,
    QUIET_MAX, RECORD_MAX, Session, TAIL, record_len,
};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

fn open(session: &mut Session, mut record: Vec<u8>) -> Result<Option<Vec<u8>>, Fault> {
    let len = record_len(&record)?.filter(|len| *len == record.len());
    assert!(len.is_some(), "a whole record");
    match session.open(&mut record)? {
        Opened::Data(range) => Ok(Some(record[range].to_vec())),
        Opened::Nothing | Opened::Closed => Ok(None),
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let world = World::new();
    let bits = (HEAD + 3 + TAIL) * 8;
    for bit in 0..bits {
        let mut pair = Pair::new(&world);
        pair.client.writer().write_all(b"abc").unwrap();
        let mut bytes = sent(&mut pair.client);
        assert_eq!(bytes.len() * 8, bits);
        bytes[bit / 8] ^= 1 << (bit % 8);
        match pair.arrive(&bytes) {
            Err(fault) => {
                let owed = pair.owed();
                let told = give(&mut pair.client, &owed).unwrap_err();
                let alert = fault.alert().unwrap();
                assert_eq!(told, Error::AlertReceived(AlertDescription::from(alert)), "{bit}");
            }
            // The length was changed to a greater one: what follows makes the record whole, and
            // wrong.
            Ok((plain, closed)) => {
                assert!((3 * 8..5 * 8).contains(&bit), "bit {bit}");
                assert!(plain.is_empty() && !closed);
                assert_eq!(pair.arrive(&vec![0; RECORD_MAX]), Err(Fault::Forged));
            }
        }
    }
}

#[test]
fn records_cannot_be_left_out_repeated_or_moved() {
    let world = World::new();
    let attacks: [&[usize]; 4] = [&[1], &[0, 0], &[1, 0], &[0, 2]];
    for order in attacks {
        let (mut forger, mut session) = Pair::new(&world).forge();
        let records: Vec<_> = (b'a'..b'd').map(|letter| forger.record(&[letter, DATA])).collect();
        let last = order.iter().map(|at| open(&mut session, records[*at].clone())).last();
        assert_eq!(last, Some(Err(Fault::Forged)), "{order:?}");
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_kept() {
    let head = |len: usize| [DATA, 3, 3, (len >> 8) as u8, len as u8];
    assert_eq!(record_len(&head(PLAIN_MAX + 256)), Ok(Some(RECORD_MAX)));
    assert_eq!(record_len(&head(PLAIN_MAX + 257)), Err(Fault::TooLong));
    assert_eq!(record_len(&head(u16::MAX.into())), Err(Fault::TooLong));
    assert_eq!(record_len(&head(TAIL)), Ok(Some(HEAD + TAIL)));
    for len in 0..TAIL {
        assert_eq!(
            record_len(&head(len)),
            Err(Fault::Forged),
            "{len}: no room for a kind and a tag"
        );
    }
    for part in 0..HEAD {
        assert_eq!(record_len(&head(100)[..part]), Ok(None));
    }
    for kind in (0..=u8::MAX).filter(|kind| *kind != DATA) {
        assert_eq!(record_len(&[kind]), Err(Fault::Unexpected));
        assert_eq!(record_len(&[kind, 3, 3, 0, 32]), Err(Fault::Unexpected));
    }
}

#[test]
fn padding_is_taken_off_and_is_bounded() {
    let world = World::new();
    let (mut forger, mut session) = Pair::new(&world).forge();
    let padded = [&b"abc"[..], &[DATA], &[0; 200]].concat();
    assert_eq!(open(&mut session, forger.record(&padded)), Ok(Some(b"abc".to_vec())));
    let full = [&vec![1; PLAIN_MAX][..], &[DATA]].concat();
    assert_eq!(open(&mut session, forger.record(&full)).unwrap().unwrap().len(), PLAIN_MAX);
    let all_padding = forger.record(&[0; 100]);
    assert_eq!(open(&mut session, all_padding), Err(Fault::Unexpected), "no kind at all");

    let (mut forger, mut session) = Pair::new(&world).forge();
    let over = [&vec![1; PLAIN_MAX + 1][..], &[DATA]].concat();
    assert_eq!(open(&mut session, forger.record(&over)), Err(Fault::TooLong));
}

#[test]
fn only_data_alerts_and_new_keys_may_come() {
    let world = World::new();
    let hello = [&[1, 0, 0, 4][..], b"help"].concat();
    let ticket = [4, 0, 0, 2, 0, 0];
    let certificate = [11, 0, 0, 4, 0, 0, 0, 0];
    for (what, kind, message, fault) in [
        ("a second handshake", HANDSHAKE, &hello[..], Fault::Unexpected),
        ("a ticket", HANDSHAKE, &ticket, Fault::Unexpected),
        ("a late certificate", HANDSHAKE, &certificate, Fault::Unexpected),
        ("half a new key", HANDSHAKE, &[24, 0, 0], Fault::Unexpected),
        ("a new key and more", HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Fault::Unexpected),
        ("a new key of no sense", HANDSHAKE, &[24, 0, 0, 1, 2], Fault::Malformed),
        ("an empty message", HANDSHAKE, &[], Fault::Unexpected),
        ("an empty alert", ALERT, &[], Fault::Malformed),
        ("two alerts", ALERT, &[1, 0, 1, 0], Fault::Malformed),
        ("a fatal alert", ALERT, &[2, 40], Fault::Alert(40)),
        ("an alert of a warning's level", ALERT, &[1, 40], Fault::Alert(40)),
        ("a change of cipher", 20, &[1], Fault::Unexpected),
        ("a heartbeat", 24, &[1, 0, 3, b'a'], Fault::Unexpected),
        ("an unknown kind", 99, b"x", Fault::Unexpected),
    ] {
        let (mut forger, mut session) = Pair::new(&world).forge();
        let record = forger.record(&[message, &[kind]].concat());
        assert_eq!(open(&mut session, record), Err(fault.clone()), "{what}");
        assert_eq!(session.owes(), fault.alert().is_some(), "{what}");
    }
}

#[test]
fn records_without_data_are_counted() {
    let world = World::new();
    for record in [&[DATA][..], &[1, 90, ALERT], &[DATA, 0, 0]] {
        let (mut forger, mut session) = Pair::new(&world).forge();
        for _ in 0..3 {
            for _ in 0..QUIET_MAX {
                assert_eq!(open(&mut session, forger.record(record)), Ok(None));
            }
            assert!(open(&mut session, forger.record(&[b'x', DATA])).unwrap().is_some());
        }
        for _ in 0..QUIET_MAX {
            assert_eq!(open(&mut session, forger.record(record)), Ok(None));
        }
        assert_eq!(open(&mut session, forger.record(record)), Err(Fault::Flood));
    }
}

#[test]
fn a_flood_of_new_keys_is_answered_once_and_then_ended() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    for _ in 0..QUIET_MAX {
        pair.client.refresh_traffic_keys().unwrap();
        let bytes = sent(&mut pair.client);
        pair.arrive(&bytes).unwrap();
    }
    assert_eq!(pair.owed().len(), HEAD + 5 + TAIL, "one new key for all that were asked for");
    pair.client.refresh_traffic_keys().unwrap();
    let bytes = sent(&mut pair.client);
    assert_eq!(pair.arrive(&bytes), Err(Fault::Flood));
}

#[test]
fn a_peer_that_never_replaces_its_key_is_asked_once_and_then_ended() {
    let world = World::new();
    let suite = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    let (mut forger, mut session) = Pair::with(&world, suite, 10, usize::MAX).forge();
    let mut asked = 0;
    let fault = loop {
        if let Err(fault) = open(&mut session, forger.record(&[b'x', DATA])) {
            break fault;
        }
        asked += u32::from(session.write_owed(&mut [0; OWED_MAX]).unwrap() > 0);
    };
    assert_eq!((fault, forger.number, asked), (Fault::Worn, 41, 1));
}

#[test]
fn there_is_room_for_what_is_owed_or_nothing_is_written() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    pair.session.close();
    assert_eq!(pair.session.write_owed(&mut [0; 5]), Err(Fault::TooLong));
}

#[test]
fn what_is_no_handshake_is_told_so() {
    let world = World::new();
    let acceptor = Acceptor::new(world.node).unwrap();
    for text in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01\x50\x01"] {
        let mut shake = acceptor.handshake().unwrap();
        assert!(matches!(shake.read(text.as_bytes()), Err(Fault::Handshake(_))), "{text}");
        assert_eq!(shake.output().first(), Some(&ALERT), "{text}");
    }
}

#[test]
fn a_handshake_without_end_is_cut_off() {
    let world = World::new();
    let acceptor = Acceptor::new(world.node).unwrap();
    let mut shake = acceptor.handshake().unwrap();
    // A hello that is announced as 16 MiB, in records of full size.
    let mut start = vec![HANDSHAKE, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    start.resize(HEAD + PLAIN_MAX, 0);
    let mut next = vec![HANDSHAKE, 3, 1, 0x40, 0];
    next.resize(HEAD + PLAIN_MAX, 0);
    let mut taken = 0;
    let ended =
        std::iter::once(start).chain(std::iter::repeat(next)).take(100).find_map(|record| {
            taken += record.len();
            shake.read(&record).err()
        });
    assert!(ended.is_some() && taken <= HANDSHAKE_MAX + RECORD_MAX, "{ended:?} after {taken}");
}

#[test]
fn a_handshake_in_crumbs_is_cut_off() {
    let world = World::new();
    let acceptor = Acceptor::new(world.node.clone()).unwrap();
    let mut client = crate::rig::client(&world.client, "localhost");
    let hello = sent(&mut client);
    // The hello as it is, a byte a record: legal, and of use to nobody.
    let mut shake = acceptor.handshake().unwrap();
    let ended = hello[HEAD..].iter().position(|byte| {
        shake.read(&[HANDSHAKE, 3, 1, 0, 1, *byte]) == Err(Fault::HandshakeTooLong)
    });
    assert_eq!(ended, Some(HANDSHAKE_RECORDS_MAX as usize));
    // In a few pieces it is a hello.
    let mut shake = acceptor.handshake().unwrap();
    for part in hello[HEAD..].chunks(40) {
        let head = [HANDSHAKE, 3, 1, 0, part.len() as u8];
        assert_eq!(shake.read(&[&head[..], part].concat()), Ok(HEAD + part.len()));
    }
    assert!(!shake.output().is_empty(), "a server's answer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes at all, in any cut, to a handshake: it waits or fails, and never takes more than
    /// its bound.
    #[test]
    fn any_bytes_may_come_to_a_handshake(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        kind in prop::sample::select(vec![0, 20, 21, 22, 23, 24]),
        step in 1_usize..500,
    ) {
        let world = World::new();
        let mut shake = Acceptor::new(world.node).unwrap().handshake().unwrap();
        let bytes = [&[kind, 3, 3][..], &bytes].concat();
        for part in bytes.chunks(step) {
            match shake.read(part) {
                Ok(used) => prop_assert_eq!(used, part.len()),
                Err(_) => break,
            }
            prop_assert!(!shake.is_complete());
        }
    }

    /// Well-framed records of any bytes are no handshake either.
    #[test]
    fn any_records_may_come_to_a_handshake(
        records in prop::collection::vec(
            (20_u8..=23, prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..8,
        ),
    ) {
        let world = World::new();
        let mut shake = Acceptor::new(world.node).unwrap().handshake().unwrap();
        for (kind, mut bytes, is_hello) in records {
            if is_hello && bytes.len() > 4 {
                let [high, low] = ((bytes.len() - 4) as u16).to_be_bytes();
                bytes[..4].copy_from_slice(&[1, 0, high, low]);
            }
            let head = [kind, 3, 3, (bytes.len() >> 8) as u8, bytes.len() as u8];
            if shake.read(&[&head[..], &bytes].concat()).is_err() {
                break;
            }
            prop_assert!(!shake.is_complete());
        }
    }

    /// Any bytes at all where a record should be are never data.
    #[test]
    fn any_bytes_may_come_to_a_session(
        bytes in prop::collection::vec(any::<u8>(), TAIL..3_000),
    ) {
        let world = World::new();
        let mut session = Pair::new(&world).session;
        let [high, low] = (bytes.len() as u16).to_be_bytes();
        let mut record = [&[DATA, 3, 3, high, low][..], &bytes].concat();
        prop_assert_eq!(session.open(&mut record), Err(Fault::Forged));
    }
}
