//! The reader and the writer against the safetensors crate, and against broken files.

use super::{writer::DATA_ALIGN, *};
use crate::folder::Folder;
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::fs;

fn samples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples").join(name)
}

#[test]
fn ranges_are_what_the_whole_file_says() {
    let path = samples("logits.safetensors");
    let bytes = fs::read(&path).expect("sample");
    let whole = SafeTensors::deserialize(&bytes).expect("valid");
    let file = TensorFile::open(&path).expect("opens");
    for name in ["head.f32", "tied.f16", "wide.bf16"] {
        let rows = file.rows(name).expect("there");
        let expected = whole.tensor(name).expect("there");
        assert_eq!(rows.rows * rows.row_bytes(), expected.data().len() as u64);
        let mut found = Vec::new();
        let mut part = Vec::new();
        for first in 0..rows.rows {
            rows.read(first, 1, &mut part).expect("reads");
            found.extend_from_slice(&part);
        }
        assert!(found == expected.data(), "{name}");
    }
}

#[test]
fn leading_axes_count_together_as_rows() {
    let folder = Folder::new("axes");
    let path = folder.0.join("t.safetensors");
    let shape = vec![2, 3, 4];
    let columns = [Column { name: "t".into(), dtype: Dtype::F16, shape }];
    let mut writer = Writer::create(&path, &columns).expect("creates");
    writer.write(0, 0, &[7; 48]).expect("writes");
    writer.finish().expect("finishes");
    let file = TensorFile::open(&path).expect("opens");
    let rows = file.rows("t").expect("there");
    assert_eq!((rows.rows, rows.cols, rows.row_bytes()), (6, 4, 8));
}

#[test]
fn a_missing_tensor_lists_those_that_exist() {
    let file = TensorFile::open(&samples("demo.safetensors")).expect("opens");
    let text = file.rows("logit").expect_err("misspelt").to_string();
    assert!(text.contains("`logit`") && text.contains("logits F32 [8, 30522]"), "{text}");
}

#[test]
fn other_element_types_are_refused_by_name() {
    let file = TensorFile::open(&samples("tokens.safetensors")).expect("opens");
    let text = file.rows("edge.one.ids").expect_err("integers").to_string();
    assert!(text.contains("U32") && text.contains("BF16"), "{text}");
}

#[test]
fn broken_files_are_told_apart_and_never_panic() {
    let folder = Folder::new("broken");
    let path = folder.0.join("b.safetensors");
    let whole = fs::read(samples("demo.safetensors")).expect("sample");
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("header longer than the file", u64::MAX.to_le_bytes().to_vec()),
        ("json", [&8u64.to_le_bytes()[..], b"nonsense"].concat()),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("longer", [&whole[..], &[0]].concat()),
        ("text", b"this is a text file, not a tensor file".to_vec()),
    ];
    for (case, bytes) in cases {
        fs::write(&path, bytes).expect("writes");
        let error = TensorFile::open(&path).expect_err(case);
        assert!(matches!(error, TensorError::Malformed { .. }), "{case}: {error}");
    }
    let missing = TensorFile::open(&folder.0.join("none")).expect_err("missing").to_string();
    assert!(missing.contains("none"), "{missing}");
}

#[test]
fn an_abandoned_file_leaves_nothing() {
    let folder = Folder::new("abandoned");
    let path = folder.0.join("a.safetensors");
    let columns = [Column { name: "flags".into(), dtype: Dtype::U8, shape: vec![4] }];
    drop(Writer::create(&path, &columns).expect("creates"));
    assert_eq!(fs::read_dir(&folder.0).expect("folder").count(), 0);
}

proptest! {
    #[test]
    fn what_is_written_reads_back_with_the_crate(rows in 1usize..9, cols in 1usize..9, seed: u8) {
        let folder = Folder::new("written");
        let path = folder.0.join(format!("{rows}-{cols}-{seed}.safetensors"));
        let columns = [
            Column { name: "codes".into(), dtype: Dtype::I8, shape: vec![rows, cols] },
            Column { name: "scales".into(), dtype: Dtype::F32, shape: vec![rows] },
        ];
        let mut writer = Writer::create(&path, &columns).expect("creates");
        // Last row first: order is free.
        for row in (0..rows).rev() {
            writer.write(0, row as u64, &vec![seed.wrapping_add(row as u8); cols]).expect("writes");
            writer.write(1, row as u64, &(row as f32).to_le_bytes()).expect("writes");
        }
        writer.finish().expect("finishes");
        let bytes = fs::read(&path).expect("reads");
        let file = SafeTensors::deserialize(&bytes).expect("valid");
        let codes = file.tensor("codes").expect("codes");
        for (row, line) in codes.data().chunks(cols).enumerate() {
            prop_assert!(line.iter().all(|code| *code == seed.wrapping_add(row as u8)));
        }
        let data_start = bytes.len() - rows * cols - rows * 4;
        prop_assert_eq!(data_start % DATA_ALIGN, 0);
    }

    /// A file made worse, and shapes that nobody would write: refused, or read to its last row.
    #[test]
    fn sec_no_tensor_file_makes_the_reader_panic(
        shape in prop::collection::vec(
            prop_oneof![0_u64..5, Just(u64::MAX), Just(1 << 62), any::<u64>()],
            0..5,
        ),
        offsets in prop_oneof![Just((0_u64, 24_u64)), any::<(u64, u64)>()],
        dtype in prop::sample::select(vec!["F32", "F16", "BF16", "I8", "U64", "F4", "?"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (from, to) = offsets;
        let head = format!(
            "{{\"t\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{from},{to}]}}}}"
        );
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(head.as_bytes());
        bytes.resize(bytes.len() + 24, 7);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let folder = Folder::new("hostile");
        let path = folder.0.join("h.safetensors");
        fs::write(&path, &bytes).expect("writes");
        let Ok(file) = TensorFile::open(&path) else { return Ok(()) };
        for name in file.names() {
            let name = name.split(' ').next().unwrap_or_default();
            let Ok(rows) = file.rows(name) else { continue };
            prop_assert!(rows.rows * rows.row_bytes() <= bytes.len() as u64);
            let mut last = Vec::new();
            rows.read(rows.rows - 1, 1, &mut last).expect("it is in the file");
            prop_assert_eq!(last.len() as u64, rows.row_bytes());
        }
    }
}
