//! Compression and token packing against encodings that other software made.

use proptest::prelude::*;
use safetensors::SafeTensors;
use wire::{
    Compression, PackFault, check,
    pack::{compress, restore_into},
    tokens::{self, Ranks, TokenFault},
};

fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/samples/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&sample(name)).expect("JSON")
}

fn compression_of(encoding: &str) -> Compression {
    if encoding.starts_with("lz4") { Compression::Lz4 } else { Compression::Zstd }
}

#[test]
fn wire_08_frames_of_the_official_packages_are_restored() {
    let bytes = sample("framing.safetensors");
    let frames = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut seen = 0;
    for name in frames.names() {
        let (payload, encoding) = name.split_once('.').expect("payload.encoding");
        if encoding == "bin" {
            continue;
        }
        let plain = frames.tensor(&format!("{payload}.bin")).expect("plain").data().to_vec();
        let packed = frames.tensor(name).expect("packed").data();
        let mut out = vec![0xEE; plain.len() + 3];
        let restored = restore_into(compression_of(encoding), packed, &mut out);
        assert_eq!(restored, Ok(plain.len()), "{name}");
        assert_eq!(out[..plain.len()], plain, "{name}");
        let mut exact = vec![0; plain.len()];
        assert_eq!(restore_into(compression_of(encoding), packed, &mut exact), Ok(plain.len()));
        if !plain.is_empty() {
            let mut tight = vec![0; plain.len() - 1];
            let fault = restore_into(compression_of(encoding), packed, &mut tight);
            assert_eq!(fault, Err(PackFault::TooLong), "{name} in too little room");
        }
        for cut in [0, 1, 4, packed.len() / 2, packed.len() - 1] {
            let fault = restore_into(compression_of(encoding), &packed[..cut], &mut out);
            assert!(fault.is_err(), "{name} cut at {cut}");
        }
        seen += 1;
    }
    assert!(seen > 70, "only {seen} frames");
}

#[test]
fn wire_09_crc16_agrees_with_three_other_packages() {
    let bytes = sample("framing.safetensors");
    let frames = SafeTensors::deserialize(&bytes).expect("safetensors");
    let oracle = json("framing.json");
    let payloads = oracle["payloads"].as_object().expect("payloads");
    assert!(payloads.len() >= 11);
    for (name, facts) in payloads {
        let plain = frames.tensor(&format!("{name}.bin")).expect("plain");
        let expected = facts["crc16"]["CRC-16/IBM-3740"].as_str().expect("a sum");
        assert_eq!(format!("{:#06x}", check::crc16(plain.data())), expected, "{name}");
        let (a, b) = plain.data().split_at(plain.data().len() / 3);
        assert_eq!(format!("{:#06x}", check::crc16_of(&[a, b])), expected, "{name} in two");
    }
    // The published check values of both sums.
    assert_eq!(check::crc16(b"123456789"), 0x29B1);
    assert_eq!(check::crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(check::crc32c_of(&[b"1234", b"", b"56789"]), 0xE306_9283);
}

#[test]
fn the_inner_check_sees_what_crc16_cannot() {
    let bytes = sample("framing.safetensors");
    let frames = SafeTensors::deserialize(&bytes).expect("safetensors");
    let plain = frames.tensor("blindspot8192.bin").expect("plain").data().to_vec();
    let oracle = json("crc_blindspots.json");
    let spot = &oracle["two_bit"][0];
    assert_eq!(spot["crc"], "CRC-16/IBM-3740");
    let mut flipped = plain.clone();
    for bit in spot["flipped_bits"].as_array().expect("bits") {
        let bit = bit.as_u64().expect("a bit") as usize;
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
    }
    assert_ne!(flipped, plain);
    assert_eq!(check::crc16(&flipped), check::crc16(&plain));
    assert_ne!(check::crc32c(&flipped), check::crc32c(&plain));
}

#[test]
fn a_decompression_bomb_stops_at_its_room() {
    let zeros = vec![0_u8; 16 << 20];
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        compress(compression, &zeros, &mut packed).expect("compresses");
        assert!(packed.len() < zeros.len() / 100);
        let mut out = vec![0xEE; 4096 + 16];
        let (room, guard) = out.split_at_mut(4096);
        assert_eq!(restore_into(compression, &packed, room), Err(PackFault::TooLong));
        assert!(guard.iter().all(|byte| *byte == 0xEE));
    }
    // The same without a stated size: the room itself must stop it.
    let mut unstated = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut unstated, &zeros).expect("compresses");
    let packed = unstated.finish().expect("compresses");
    assert_eq!(restore_into(Compression::Lz4, &packed, &mut [0; 4096]), Err(PackFault::TooLong));
}

#[test]
fn damaged_frames_are_refused() {
    let text = b"one two one two one two one two three three three three".repeat(20);
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        compress(compression, &text, &mut packed).expect("compresses");
        let mut out = vec![0; text.len()];
        assert_eq!(restore_into(compression, &packed, &mut out), Ok(text.len()));
        // Flips in the filling are nobody's business; the frame itself states its length in every
        // format.
        let frame = packed.len() - 31;
        for at in 0..frame {
            let mut broken = packed.clone();
            broken[at] ^= 0x10;
            out.fill(0);
            let restored = restore_into(compression, &broken, &mut out);
            let whole = restored == Ok(text.len()) && out == text;
            assert!(restored.is_err() || whole, "{compression} byte {at}");
        }
        assert!(restore_into(compression, &[], &mut out).is_err());
        assert!(restore_into(compression, b"not a frame", &mut out).is_err());
    }
}

#[test]
fn comp_01_leb128_agrees_with_another_package() {
    let oracle = json("framing.json");
    let vectors = oracle["leb128_u64"].as_array().expect("vectors");
    assert!(vectors.len() >= 16);
    for vector in vectors {
        let value: u64 = vector["value"].as_str().and_then(|text| text.parse().ok()).expect("u64");
        let mut bytes = Vec::new();
        tokens::put_leb128(value, &mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, vector["hex"].as_str().expect("hex"));
        let mut rest = &bytes[..];
        assert_eq!(tokens::get_leb128(&mut rest), Ok(value));
        assert!(rest.is_empty());
    }
    let overlong: [&[u8]; 4] = [
        &[0x80, 0x00],
        &[0xFF, 0x80, 0x00],
        &[0xFF; 11],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02],
    ];
    for mut bytes in overlong {
        assert_eq!(tokens::get_leb128(&mut bytes), Err(TokenFault::Invalid));
    }
    assert_eq!(tokens::get_leb128(&mut &[0x80][..]), Err(TokenFault::Length));
}

#[test]
fn comp_01_comp_02_real_token_streams_pack_as_measured() {
    let bytes = sample("tokens.safetensors");
    let streams = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut seen = 0;
    for name in streams.names() {
        let Some(name) = name.strip_suffix(".ids") else { continue };
        let column = |part: &str| {
            let tensor = streams.tensor(&format!("{name}.{part}")).expect("column");
            tensor
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|id| u32::from_le_bytes(*id))
                .collect::<Vec<_>>()
        };
        let ids = column("ids");
        let plain = streams.tensor(&format!("{name}.leb128")).expect("leb128").data().to_vec();
        let runs = column("run_counts");

        let mut packed = vec![7];
        let len = tokens::encode(&ids, &mut packed);
        assert_eq!(packed.len(), 1 + len);
        let packed = &packed[1..];
        let mut decoded = vec![42];
        assert_eq!(tokens::decode(packed, ids.len(), &mut decoded), Ok(ids.len()));
        assert_eq!(decoded[1..], ids, "{name}");
        assert_eq!(tokens::decode(packed, ids.len() - 1, &mut decoded), Err(TokenFault::TooMany));
        assert_eq!(decoded.len(), 1 + ids.len(), "a refusal leaves the output as it was");

        // Escapes only ever save, and cost nothing where nothing repeats.
        let head = 1 + leb128_len(ids.len() as u64);
        assert!(len <= head + plain.len(), "{name}: {len} against {}", plain.len());
        if packed[0] == tokens::SCHEME_LEB128 && runs.iter().all(|run| *run == 1) {
            assert_eq!(packed[head..], plain, "{name}");
        }
        if name.starts_with("padded_batch") {
            assert!(len * 100 < ids.len() * 4 * 30, "70% saved on padded batches, {len}");
        }
        if name.starts_with("edge.all_same") {
            assert!(len < 12, "{len}");
        }
        seen += 1;
    }
    assert!(seen >= 10);
}

/// Ids of a stream of the samples.
fn stream(streams: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = streams.tensor(&format!("{name}.ids")).expect("a stream");
    tensor.data().as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect()
}

#[test]
fn comp_01_ranks_save_60_percent_on_text_they_have_not_seen() {
    let bytes = sample("tokens.safetensors");
    let streams = SafeTensors::deserialize(&bytes).expect("safetensors");
    let names = [
        "wordpiece.rust_book.512",
        "wordpiece.node_api.1024",
        "wordpiece.py_docstrings.2048",
        "wordpiece.rust_cargo.4096",
    ];
    let (mut bytes, mut count) = (0, 0);
    for name in names {
        let others = names.into_iter().filter(|other| *other != name);
        let text: Vec<u32> = others.flat_map(|other| stream(&streams, other)).collect();
        let ranks = Ranks::of_text(&text, 30_522).expect("a table");
        let ids = stream(&streams, name);
        let mut packed = Vec::new();
        let len = tokens::encode_with(&ids, Some(&ranks), &mut packed);
        assert_eq!(packed[0], tokens::SCHEME_RANKS, "{name}");
        // No short text is without words of its own; together they reach the goal.
        assert!(len * 100 <= ids.len() * 4 * 44, "{name}: {len} of {}", ids.len() * 4);
        (bytes, count) = (bytes + len, count + ids.len());
        let mut out = Vec::new();
        assert_eq!(tokens::decode_with(&packed, ids.len(), Some(&ranks), &mut out), Ok(ids.len()));
        assert_eq!(out, ids);
        let other = Ranks::of_text(&text[1..], 30_522).expect("a table");
        for ranks in [None, Some(&other)] {
            let fault = tokens::decode_with(&packed, ids.len(), ranks, &mut out);
            assert_eq!(fault, Err(TokenFault::Ranks));
        }
        assert_eq!(out, ids);
    }
    assert!(bytes * 100 <= count * 4 * 40, "{bytes} of {}", count * 4);
}

#[test]
fn tables_are_sound() {
    assert!(Ranks::new(vec![1, 2, 1]).is_none());
    assert!(Ranks::new(vec![tokens::RANKS_MAX as u32]).is_none());
    assert!(Ranks::of_text(&[5], 5).is_none());
    let ranks = Ranks::of_text(&[3, 1, 3, 0], 5).expect("a table");
    assert_eq!(ranks.ids(), [3, 0, 1, 2, 4]);
    assert_eq!(Ranks::new(ranks.ids().to_vec()), Some(ranks));
}

fn leb128_len(value: u64) -> usize {
    let mut bytes = Vec::new();
    tokens::put_leb128(value, &mut bytes);
    bytes.len()
}

#[test]
fn packed_tokens_that_lie_are_refused() {
    let mut out = Vec::new();
    let cases: [(&[u8], TokenFault); 14] = [
        (&[], TokenFault::Length),
        (&[0], TokenFault::Length),
        (&[3, 0], TokenFault::Scheme),
        (&[2, 0, 1, 2, 3, 4, 5, 6, 7], TokenFault::Length),
        (&[2, 0, 1, 2, 3, 4, 5, 6, 7, 8], TokenFault::Ranks),
        (&[0, 1, 0x80, 0x00, 1], TokenFault::Invalid),
        (&[0, 3, 5, 0x80, 0x00, 0], TokenFault::Invalid),
        (&[0, 3, 5, 0x80, 0x00, 3], TokenFault::Length),
        (&[0, 1, 5, 5], TokenFault::Length),
        (&[0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F], TokenFault::Invalid),
        (&[1, 1, 33, 0], TokenFault::Invalid),
        (&[1, 2, 8, 0], TokenFault::Length),
        (&[1, 1, 4, 0x1F], TokenFault::Invalid),
        (&[0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], TokenFault::TooMany),
    ];
    for (bytes, fault) in cases {
        assert_eq!(tokens::decode(bytes, 1000, &mut out), Err(fault), "{bytes:02x?}");
        assert!(out.is_empty());
    }
}

/// Ids as they come: mostly small, with repeats, now and then anything.
fn ids() -> impl Strategy<Value = Vec<u32>> {
    let id = prop_oneof![4 => 0..300_u32, 2 => 0..130_000_u32, 1 => any::<u32>()];
    let run = (id, prop_oneof![3 => Just(1_usize), 1 => 1..200_usize]);
    proptest::collection::vec(run, 0..200)
        .prop_map(|runs| runs.into_iter().flat_map(|(id, n)| std::iter::repeat_n(id, n)).collect())
}

proptest! {
    #[test]
    fn tokens_come_back(ids in ids()) {
        let mut packed = Vec::new();
        tokens::encode(&ids, &mut packed);
        let mut out = Vec::new();
        prop_assert_eq!(tokens::decode(&packed, ids.len(), &mut out), Ok(ids.len()));
        prop_assert_eq!(out, ids);
    }

    #[test]
    fn tokens_come_back_by_ranks(ids in ids(), table in ids(), vocabulary in 0..400_u32) {
        let known: Vec<u32> = table.into_iter().filter(|id| *id < vocabulary).collect();
        let ranks = Ranks::of_text(&known, vocabulary as usize).expect("a table");
        let mut packed = vec![9];
        let len = tokens::encode_with(&ids, Some(&ranks), &mut packed);
        prop_assert!(len <= tokens::encode(&ids, &mut Vec::new()));
        let mut out = Vec::new();
        let packed = &packed[1..];
        let count = tokens::decode_with(packed, ids.len(), Some(&ranks), &mut out);
        prop_assert_eq!(count, Ok(ids.len()));
        prop_assert_eq!(out, ids);
    }

    #[test]
    fn compressed_bytes_come_back(bytes in proptest::collection::vec(0..8_u8, 0..3000), lz4: bool) {
        let compression = if lz4 { Compression::Lz4 } else { Compression::Zstd };
        let mut packed = vec![1, 2, 3];
        compress(compression, &bytes, &mut packed).expect("compresses");
        prop_assert_eq!(packed.len() % 16, 0);
        let mut out = vec![0; bytes.len()];
        prop_assert_eq!(restore_into(compression, &packed, &mut out), Ok(bytes.len()));
        prop_assert_eq!(out, bytes);
    }
}
