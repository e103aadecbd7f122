//! `butterfly compress` on the samples against answers that other software computed.

use crate::rig::{Folder, Node, PATIENCE, butterfly, run, sample, strike, words};
use safetensors::{Dtype, SafeTensors};
use std::{fs, path::Path};

/// A tensor read back: dtype, shape, bytes.
fn tensor(file: &[u8], name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
    let file = SafeTensors::deserialize(file).expect("a valid file");
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no `{name}` in {:?}", file.names()));
    (view.dtype(), view.shape().to_vec(), view.data().to_vec())
}

fn numbers<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

/// Element `i` of an oracle's values, widened to f32.
fn widened(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let bits = |shift: fn(u16) -> f32| numbers(bytes, u16::from_le_bytes).into_iter().map(shift);
    match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes),
        Dtype::F16 => bits(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => bits(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        other => panic!("{other}"),
    }
}

/// Runs the command and gives the output file.
fn compress(node: &Node, input: &Path, name: &str, how: &[&str]) -> Vec<u8> {
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    let addr = node.addr_text();
    let mut args = vec!["compress", "--addr", &addr, "--tensor", name];
    args.extend(["--in", input.to_str().expect("text"), "--out", out.to_str().expect("text")]);
    args.extend(how);
    let output = run(&args);
    assert!(output.status.success(), "{name}: {}", words(&output));
    fs::read(out).expect("written")
}

#[test]
fn comp_topk_agrees_with_the_oracles() {
    let node = Node::start(&["--workers", "2"]);
    let oracle = fs::read(sample("topk.safetensors")).expect("sample");
    let logits = sample("logits.safetensors");
    // Stored tensor, oracle set, the dtype that values travel in without loss.
    for (name, set, values) in [
        ("head.f32", "head.f32", "f32"),
        ("tied.f16", "tied.f16", "f16"),
        ("wide.bf16", "wide_bf16.bf16", "bf16"),
        ("wide.f32", "wide_f32.f32", "f32"),
    ] {
        for k in [100, 1024] {
            let k_text = k.to_string();
            // Small requests, so that several are under way and come back in any order.
            let how = ["--topk", &k_text, "--values", values, "--request", "256KiB"];
            let out = compress(&node, &logits, name, &how);
            let (dtype, shape, indices) = tensor(&out, "indices");
            let rows = shape[0];
            assert_eq!((dtype, &shape[..]), (Dtype::I32, &[rows, k][..]), "{name}");
            let (_, oracle_shape, oracle_indices) = tensor(&oracle, &format!("{set}.k{k}.indices"));
            let judged = oracle_shape[0] * k * 4;
            assert!(indices[..judged] == oracle_indices[..], "{name} k={k}: indices");

            let (dtype, _, values) = tensor(&out, "values");
            assert_eq!(dtype, Dtype::F32);
            let (oracle_dtype, _, oracle_values) = tensor(&oracle, &format!("{set}.k{k}.values"));
            let expected = widened(oracle_dtype, &oracle_values);
            let found = numbers(&values, f32::from_le_bytes);
            assert!(found[..expected.len()] == expected, "{name} k={k}: values");

            let (dtype, shape, found) = tensor(&out, "logsumexp");
            assert_eq!((dtype, shape), (Dtype::F64, vec![rows]));
            let (_, _, expected) = tensor(&oracle, &format!("{set}.logsumexp"));
            let pairs = numbers(&found, f64::from_le_bytes)
                .into_iter()
                .zip(numbers(&expected, f64::from_le_bytes));
            for (row, (found, expected)) in pairs.enumerate() {
                let error = (found - expected).abs() / expected.abs().max(1.0);
                assert!(error <= 1e-6, "{name} row {row}: {found} against {expected}");
            }
            let (dtype, shape, flags) = tensor(&out, "flags");
            assert_eq!((dtype, shape), (Dtype::U8, vec![rows]));
            assert!(flags.iter().all(|flags| *flags == 0), "{name}: {flags:?}");
        }
    }
}

#[test]
fn comp_int8_agrees_with_the_oracles_bit_for_bit() {
    let node = Node::start(&[]);
    let oracle = fs::read(sample("int8.safetensors")).expect("sample");
    for name in ["hidden.f16", "hidden.f32", "outlier.f32"] {
        let how = ["--int8", "row", "--request", "16KiB"];
        let out = compress(&node, &sample("hidden.safetensors"), name, &how);
        for (column, dtype) in [("codes", Dtype::I8), ("scales", Dtype::F32)] {
            let found = tensor(&out, column);
            assert_eq!(found.0, dtype);
            assert!(found == tensor(&oracle, &format!("{name}.{column}")), "{name}: {column}");
        }
    }
}

#[test]
fn comp_lm_head_agrees_with_the_oracle() {
    let weights = sample("lm_head.safetensors");
    let node = Node::start(&["--lm-head", weights.to_str().expect("text")]);
    let rows = sample("lm_head_rows.safetensors");
    let out = compress(&node, &rows, "features", &["--lm-head", "--topk", "100"]);
    let oracle = fs::read(&rows).expect("sample");
    let values = numbers(&tensor(&out, "values").2, f32::from_le_bytes);
    let expected = numbers(&tensor(&oracle, "top100.values").2, f64::from_le_bytes);
    assert_eq!(values.len(), expected.len());
    let mut largest = 0.0_f64;
    for (found, expected) in values.iter().zip(&expected) {
        largest = largest.max((f64::from(*found) - expected).abs() / expected.abs().max(1.0));
    }
    assert!(largest < 1e-4, "largest relative error of a value: {largest}");
    let lse = numbers(&tensor(&out, "logsumexp").2, f64::from_le_bytes);
    let expected_lse = numbers(&tensor(&oracle, "logsumexp").2, f64::from_le_bytes);
    for (found, expected) in lse.iter().zip(&expected_lse) {
        assert!((found - expected).abs() < 1e-4, "{found} against {expected}");
    }
    // Neighbours closer than the rounding of an f32 product may change places; nothing else may.
    let indices = numbers(&tensor(&out, "indices").2, i32::from_le_bytes);
    let expected_indices = numbers(&tensor(&oracle, "top100.indices").2, i32::from_le_bytes);
    for (at, (found, expected_index)) in indices.iter().zip(&expected_indices).enumerate() {
        if found == expected_index {
            continue;
        }
        let row = &expected_indices[at / 100 * 100..at / 100 * 100 + 100];
        let place = row.iter().position(|index| index == found);
        let close = place
            .is_none_or(|place| (expected[at / 100 * 100 + place] - expected[at]).abs() < 1e-4);
        assert!(close && (place.is_some() || at % 100 == 99), "row {}: {found}", at / 100);
    }
}

#[test]
fn rows_with_fewer_than_k_entries_are_marked() {
    let node = Node::start(&[]);
    let out = compress(&node, &sample("hidden.safetensors"), "hidden.f32", &["--topk", "1000"]);
    let indices = numbers(&tensor(&out, "indices").2, i32::from_le_bytes);
    for row in indices.chunks(1000) {
        assert!(row[..384].iter().all(|index| (0..384).contains(index)));
        assert!(row[384..].iter().all(|index| *index == -1));
    }
    let flags = tensor(&out, "flags").2;
    assert!(flags.iter().all(|flags| flags & wire::flags::SHORT != 0));
}

#[test]
fn json_says_what_was_kept() {
    let node = Node::start(&[]);
    let folder = Folder::new();
    let (input, out) = (sample("logits.safetensors"), folder.file("o.safetensors"));
    let output = run(&[
        "compress",
        "--json",
        "--addr",
        &node.addr_text(),
        "--tensor",
        "head.f32",
        "--topk",
        "100",
        "--in",
        input.to_str().expect("text"),
        "--out",
        out.to_str().expect("text"),
    ]);
    assert!(output.status.success(), "{}", words(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!((&report["rows"], &report["rows_judged"]), (&16.into(), &16.into()));
    let float = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"));
    assert!(float("ratio") > 50.0);
    // These rows keep .978 of their mass at k = 100, by float64 arithmetic elsewhere.
    assert!((0.95..0.99).contains(&float("retained_mass")));
    assert!((0.05..0.15).contains(&float("kl_nats")));
}

#[test]
fn mistakes_are_explained_and_leave_no_file() {
    let node = Node::start(&["--max-payload", "64KiB"]);
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    let addr = node.addr_text();
    let logits = sample("logits.safetensors").display().to_string();
    let tokens = sample("tokens.safetensors").display().to_string();
    let readme = sample("README.md").display().to_string();
    let hidden = sample("hidden.safetensors").display().to_string();
    for (addr, input, name, how, code, expected) in [
        (&*addr, "/nonexistent", "t", "--topk 5", 2, "/nonexistent"),
        (&addr, &readme, "t", "--topk 5", 2, "not a valid safetensors file"),
        (&addr, &hidden, "hiden", "--topk 5", 2, "hidden.f16 F16 [256, 384]"),
        (&addr, &tokens, "edge.one.ids", "--topk 5", 2, "U32"),
        (&addr, &hidden, "hidden.f16", "--topk 1025", 2, "1 to 1024"),
        (&addr, &hidden, "hidden.f16", "--topk 0", 2, "1 to 1024"),
        (&addr, &logits, "head.f32", "--topk 5", 2, "--max-payload"),
        (&addr, &hidden, "hidden.f16", "--lm-head --topk 5", 1, "no_capable_worker"),
        ("127.0.0.1:1", &hidden, "hidden.f16", "--topk 5", 1, "butterfly serve"),
        ("nonsense", &hidden, "hidden.f16", "--topk 5", 2, "nonsense"),
    ] {
        let mut args = vec!["compress", "--addr", addr, "--in", input, "--tensor", name];
        args.extend(["--out", out.to_str().expect("text")]);
        args.extend(how.split(' '));
        let output = run(&args);
        assert_eq!(output.status.code(), Some(code), "{input} {name} {how}: {}", words(&output));
        assert!(words(&output).contains(expected), "{expected}: {}", words(&output));
        assert_eq!(fs::read_dir(out.parent().expect("folder")).expect("lists").count(), 0);
    }
}

#[test]
fn refusals_that_pass_are_waited_out() {
    // Room for one connection, and it is taken.
    let node = Node::start(&["--max-connections", "1"]);
    let mut holder = node.raw();
    holder.lives();
    let addr = node.addr_text();
    let folder = Folder::new();
    let (input, out) = (sample("hidden.safetensors"), folder.file("o.safetensors"));
    let mut child = butterfly()
        .args(["compress", "--addr", &addr, "--tensor", "hidden.f16", "--int8", "row", "--json"])
        .arg("--in")
        .arg(input)
        .arg("--out")
        .arg(&out)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    // It is turned away at least twice before there is room.
    let turned_away = || {
        holder.send(&metrics_request());
        let frame = holder.frame().expect("figures");
        let update = wire::payload::open::<wire::payload::MetricsUpdate>(frame.payload.as_slice());
        client::Metrics::from(update.expect("readable"))
            .by_label("butterfly_refusals_total", "reason")["too_many_connections"]
    };
    await_that("it is turned away", turned_away, 2);
    drop(holder);
    assert!(child.wait().expect("ends").success());
    assert!(out.exists());
}

/// Asks for the node's figures on a connection that exists already.
fn metrics_request() -> Vec<u8> {
    let header = wire::Header::for_payload(wire::Kind::MetricsUpdate, 1, 0, &[]);
    zerocopy::IntoBytes::as_bytes(&header).to_vec()
}

/// Asks until a count is reached.
fn await_that(what: &str, mut count: impl FnMut() -> u64, least: u64) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while count() < least {
        assert!(std::time::Instant::now() < deadline, "{what}: not {least} times");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_worker_killed_on_the_way_changes_nothing_in_the_file() {
    let node = Node::start(&[]);
    let input = sample("logits.safetensors");
    let how = ["--topk", "100", "--request", "64KiB"];
    let expected = compress(&node, &input, "head.f32", &how);
    for _ in 0..3 {
        for worker in node.workers() {
            strike(worker, rustix::process::Signal::KILL);
        }
        assert!(compress(&node, &input, "head.f32", &how) == expected);
    }
}
