//! Streams of good and bad frames, cut anywhere, before a mesh that takes what it likes when it
//! likes: nothing good is lost or doubled, its order holds, and no slot stays behind.

use crate::desk::{Desk, Sizes, ack, beat, compressed, frame, seen};
use proptest::prelude::*;
use wire::{
    Compression, HEADER_LEN, Header, Kind,
    payload::mesh::{AgentRecord, AgentRegistration},
};

#[derive(Clone, Debug)]
enum Piece {
    Ack,
    Beat,
    /// A registration of so many agents.
    Long(usize),
    Packed(usize, bool),
    /// An ack with a wrong byte.
    Broken,
    /// A mesh type with these bytes as payload, their CRC right: the mesh will refuse them.
    Odd(u16, Vec<u8>),
}

fn piece() -> impl Strategy<Value = Piece> {
    let bytes = prop::collection::vec(any::<u8>(), 1..400);
    prop_oneof![
        4 => Just(Piece::Ack),
        2 => Just(Piece::Beat),
        2 => (1..150usize).prop_map(Piece::Long),
        1 => (1..150usize, any::<bool>()).prop_map(|(n, zstd)| Piece::Packed(n, zstd)),
        1 => Just(Piece::Broken),
        1 => (0x0104..=0x010Du16, bytes).prop_map(|(kind, bytes)| Piece::Odd(kind, bytes)),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    /// The next so many bytes of a stream arrive.
    Bytes(usize, usize),
    /// The mesh takes so many.
    Take(usize),
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..STREAMS, 1..5_000usize).prop_map(|(stream, len)| Op::Bytes(stream, len)),
        3 => (1..6usize).prop_map(Op::Take),
        1 => Just(Op::Wait),
    ]
}

const STREAMS: usize = 3;

/// A stream's bytes, and the message ids that must come up of it: in order, beats aside.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    at: usize,
    good: Vec<u64>,
    beats: usize,
    came: Vec<u64>,
}

impl Stream {
    fn new(pieces: &[Piece]) -> Self {
        let mut stream = Self::default();
        for (id, piece) in (1..).zip(pieces) {
            let registration = |agents: &usize| {
                let agents = vec![AgentRecord::default(); *agents];
                frame(&AgentRegistration { agents, ..AgentRegistration::default() }, id.into())
            };
            stream.good.push(id.into());
            let bytes = match piece {
                Piece::Ack => ack(id),
                Piece::Long(agents) => registration(agents),
                Piece::Packed(agents, zstd) => {
                    let with = if *zstd { Compression::Zstd } else { Compression::Lz4 };
                    compressed(&registration(agents), with)
                }
                Piece::Odd(kind, payload) => {
                    let kind = Kind::from_code(*kind).unwrap();
                    let header = Header::for_payload(kind, id.into(), 1, payload);
                    [zerocopy::IntoBytes::as_bytes(&header), payload].concat()
                }
                bad => {
                    stream.good.pop();
                    stream.beats += usize::from(matches!(bad, Piece::Beat));
                    let mut broken = ack(id);
                    broken[HEADER_LEN + 3] ^= 0x40;
                    if matches!(bad, Piece::Beat) { beat(id, 5) } else { broken }
                }
            };
            stream.bytes.extend(bytes);
        }
        stream
    }
}

fn take(desk: &mut Desk, streams: &mut [Stream], at_most: usize) {
    for _ in 0..at_most {
        let Some(up) = desk.end.pop() else { break };
        let (conn, kind, id, _) = seen(&up);
        if kind != Kind::AgentHeartbeat {
            streams[conn.0 as usize].came.push(id);
        }
    }
    let _ = desk.end.made_room();
    desk.turn();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_good_is_lost_and_nothing_is_left_behind(
        pieces in prop::collection::vec(prop::collection::vec(piece(), 0..25), STREAMS),
        ops in prop::collection::vec(op(), 0..60),
        up in 1..6usize,
    ) {
        let mut desk = Desk::new(Sizes { up, chunks: 4, ..Sizes::default() });
        let mut streams: Vec<Stream> = pieces.iter().map(|pieces| Stream::new(pieces)).collect();
        let conns: Vec<_> = (0..STREAMS as u32).map(|index| desk.connect(index)).collect();
        // Whatever is left of the streams comes in the end.
        let rest = (0..STREAMS).flat_map(|s| [Op::Bytes(s, usize::MAX), Op::Take(3)]);
        for op in ops.into_iter().chain(rest) {
            match op {
                Op::Bytes(s, len) => {
                    let stream = &mut streams[s];
                    let end = stream.at.saturating_add(len).min(stream.bytes.len());
                    desk.receive(conns[s], &stream.bytes[stream.at..end]);
                    stream.at = end;
                }
                Op::Take(count) => take(&mut desk, &mut streams, count),
                Op::Wait => desk.turn(),
            }
        }
        for _ in 0..200 {
            take(&mut desk, &mut streams, usize::MAX);
        }
        for stream in &streams {
            prop_assert_eq!(&stream.came, &stream.good);
        }
        let beats: usize = streams.iter().map(|stream| stream.beats).sum();
        prop_assert_eq!(desk.stats.mesh_frames(Kind::AgentHeartbeat), beats as u64);
        let answered = desk.frames();
        let answered = answered.iter().filter(|f| f.1.kind() == Ok(Kind::AgentHeartbeat)).count();
        prop_assert_eq!(answered, beats);
        prop_assert_eq!(desk.shard.ledger().free, desk.shard.ledger().total());
        prop_assert_eq!(desk.stats.open.get(), STREAMS as u64);
    }
}
