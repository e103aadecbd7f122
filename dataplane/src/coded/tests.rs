//! What is written reads back; what contradicts itself is refused.

use super::*;
use crate::folder::Folder;
use crate::tensors::{Column, PartFile, header};
use proptest::prelude::*;
use safetensors::Dtype as FileDtype;
use std::{fs, path::Path};
use wire::response::CodedView;

fn label(rows: usize) -> Label {
    Label {
        coding: Coding::SetSteps,
        quality: 0.5,
        k: 100,
        basis: [0; 32],
        tensor: "a \"name\"".to_owned(),
        dtype: Dtype::F16,
        shape: vec![rows, 1000],
        lm_head: false,
    }
}

/// Writes blocks of rows in a given order and gives all rows as they must come back.
fn write(path: &Path, label: Label, blocks: &[Vec<Vec<u8>>], order: &[usize]) -> Vec<Vec<u8>> {
    let all: Vec<Vec<u8>> = blocks.iter().flatten().cloned().collect();
    let mut writer = CodedWriter::create(path, label, all.len() as u64).expect("creates");
    let starts: Vec<usize> =
        (0..blocks.len()).map(|at| blocks[..at].iter().map(Vec::len).sum()).collect();
    for at in order {
        let rows = &blocks[*at];
        let ends: Vec<u32> = (1..=rows.len())
            .map(|n| rows[..n].iter().map(Vec::len).sum::<usize>() as u32)
            .collect();
        let flags: Vec<u8> = rows.iter().map(|row| row.len() as u8 & 31).collect();
        let view = CodedView {
            rows: rows.len() as u32,
            cols: 1000,
            k: 100,
            coding: Coding::SetSteps,
            quality: 0.5,
            basis: &[7; 32],
            ends: &ends,
            flags: &flags,
            data: &rows.concat(),
        };
        writer.put(starts[*at] as u64, &view).expect("writes");
    }
    assert_eq!(writer.held(), 0);
    let len = writer.len();
    writer.finish(path).expect("finishes");
    assert_eq!(fs::metadata(path).expect("there").len(), len);
    all
}

proptest! {
    #[test]
    fn rows_come_back_in_order_however_they_came(
        blocks in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..5), 1..9),
        turn in any::<prop::sample::Index>(),
    ) {
        let folder = Folder::new("coded");
        let path = folder.0.join("c.safetensors");
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.rotate_left(turn.index(blocks.len()));
        order.reverse();
        let count = blocks.iter().map(Vec::len).sum();
        let rows = write(&path, label(count), &blocks, &order);
        let file = CodedFile::open(&path).expect("opens");
        prop_assert_eq!(&file.label, &Label { basis: [7; 32], ..label(count) });
        prop_assert_eq!(file.coded_bytes(), rows.concat().len() as u64 + 9 * count as u64);
        let mut block = Block::default();
        prop_assert!(file.read(0, &mut block).expect("reads"));
        prop_assert!(block.rows().eq(rows.iter().map(Vec::as_slice)));
        // From the middle on, too.
        let middle = count as u64 / 2;
        prop_assert!(file.read(middle, &mut block).expect("reads"));
        prop_assert!(block.rows().eq(rows[middle as usize..].iter().map(Vec::as_slice)));
        prop_assert!(!file.read(count as u64, &mut block).expect("reads"));
        // Whoever else reads such files finds three plain tensors.
        let bytes = fs::read(&path).expect("there");
        let whole = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        prop_assert_eq!(whole.tensor("data").expect("data").data(), rows.concat());
        let ends = whole.tensor("ends").expect("ends");
        prop_assert_eq!(ends.shape(), [count]);
    }
}

#[test]
fn a_file_without_all_rows_is_not_finished() {
    let folder = Folder::new("coded-short");
    let path = folder.0.join("c.safetensors");
    let writer = CodedWriter::create(&path, label(3), 3).expect("creates");
    let error = writer.finish(&path).expect_err("nothing came").to_string();
    assert!(error.contains("0 of its 3 rows"), "{error}");
    assert_eq!(fs::read_dir(&folder.0).expect("folder").count(), 0);
}

/// A file with these ends and texts around 40 bytes of data.
fn forge(path: &Path, ends: &[u64], change: impl FnOnce(&mut Vec<(&'static str, String)>)) {
    let column =
        |name: &'static str, dtype, len| Column { name: name.into(), dtype, shape: vec![len] };
    let columns = [
        column("ends", FileDtype::U64, ends.len()),
        column("flags", FileDtype::U8, ends.len()),
        column("data", FileDtype::U8, 40),
    ];
    let mut texts = label(2).texts();
    change(&mut texts);
    let mut bytes = header(&columns, &texts, 0).expect("small");
    bytes.extend(ends.iter().flat_map(|end| end.to_le_bytes()));
    bytes.extend(vec![0; ends.len() + 40]);
    PartFile::write_whole(path, &bytes).expect("writes");
}

#[test]
fn ends_and_texts_that_make_no_sense_are_refused() {
    let folder = Folder::new("coded-forged");
    let path = folder.0.join("c.safetensors");
    let read = || CodedFile::open(&path).and_then(|file| file.read(0, &mut Block::default()));
    forge(&path, &[10, 40], |_| ());
    assert!(read().expect("sound"));
    for ends in [[41, 40], [10, 41], [10, 39], [u64::MAX, 40], [40, 10]] {
        forge(&path, &ends, |_| ());
        assert!(read().expect_err("contradicts itself").to_string().contains("row"), "{ends:?}");
    }
    forge(&path, &[10], |_| ());
    assert!(read().expect_err("too few").to_string().contains("`ends`"));
    for (key, text) in [
        ("format", "other"),
        ("version", "2"),
        ("coding", "plain"),
        ("coding", "set-u9"),
        ("quality", "much"),
        ("k", "0"),
        ("k", "1025"),
        ("cols", "999"),
        ("basis", "12"),
        ("dtype", "u8"),
        ("tensor", "__metadata__"),
        ("shape", "[2]"),
        ("shape", "[]"),
        ("shape", "[2, 300000]"),
        ("shape", "[18446744073709551615, 1000]"),
    ] {
        forge(&path, &[10, 40], |texts| {
            let place = texts.iter().position(|(found, _)| *found == key).expect("a text");
            texts[place].1 = text.to_owned();
        });
        let error = read().expect_err(text).to_string();
        assert!(error.contains("cannot be decompressed"), "{key} {text}: {error}");
    }
    let missing = |at: usize| {
        forge(&path, &[10, 40], |texts| drop(texts.remove(at)));
        read().expect_err("a text is missing")
    };
    (0..label(2).texts().len()).for_each(|at| drop(missing(at)));
}

#[test]
fn names_of_bases_are_exact() {
    let id = [0xA5; 32];
    assert_eq!(from_hex(&hex(&id)), Some(id));
    for bad in ["", "a5", &hex(&id)[1..], &hex(&id).replace('a', "g"), &"+5".repeat(32)] {
        assert_eq!(from_hex(bad), None, "{bad}");
    }
}
