//! `calibrate`, `basis`, `compress --codec` and `decompress` with real nodes: what goes in comes out
//! with the error that was said.

use crate::rig::{Folder, Node, butterfly, run, sample, words};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::{fs, path::Path};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Runs a command that must do what it is asked and gives its JSON.
fn report(args: &[&str]) -> Value {
    let output = butterfly().args(args).arg("--json").output().expect("the binary runs");
    assert!(output.status.success(), "{args:?}: {}", words(&output));
    assert_eq!(words(&output), "", "{args:?}: progress beside JSON");
    serde_json::from_slice(&output.stdout).expect("json")
}

/// Runs a command that must fail and gives its exit code and last words.
fn failure(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    assert!(!output.status.success(), "{args:?}");
    (output.status.code(), words(&output))
}

fn float(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"))
}

/// Tensor `name` of a file: dtype, shape, bytes.
fn tensor(path: &Path, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
    let bytes = fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a valid file");
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no `{name}` in {:?}", file.names()));
    (view.dtype(), view.shape().to_vec(), view.data().to_vec())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

/// A tensor of f16 or f32 as f32.
fn widened((dtype, _, bytes): (Dtype, Vec<usize>, Vec<u8>)) -> Vec<f32> {
    match dtype {
        Dtype::F32 => floats(&bytes),
        Dtype::F16 => {
            let bits = bytes.as_chunks().0.iter().map(|x| u16::from_le_bytes(*x));
            bits.map(|bits| half::f16::from_bits(bits).to_f32()).collect()
        }
        other => panic!("{other}"),
    }
}

/// Norm of the differences over norm of the originals, computed here.
fn relative_error(original: &[f32], restored: &[f32]) -> f64 {
    assert_eq!(original.len(), restored.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let noise: f64 = original.iter().zip(restored).map(|(x, y)| square(x - y)).sum();
    (noise / original.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

/// A basis of the sample's hidden states, and what was said of it.
fn calibrate(folder: &Folder, name: &str, more: &[&str]) -> Value {
    let (input, out) = (sample("hidden.safetensors"), folder.file(name));
    let mut args = vec!["calibrate", "--in", text(&input), "--tensor", "hidden.f16"];
    args.extend(["--out", text(&out)]);
    args.extend(more);
    report(&args)
}

/// Compresses into `coded.safetensors` of the folder.
fn compress(node: &Node, folder: &Folder, (file, name): (&str, &str), how: &[&str]) -> Value {
    let (addr, input, out) = (node.addr_text(), sample(file), folder.file("coded.safetensors"));
    let mut args = vec!["compress", "--addr", &addr, "--in", text(&input), "--tensor", name];
    args.extend(["--out", text(&out)]);
    args.extend(how);
    report(&args)
}

/// Restores `coded.safetensors` into `restored.safetensors` of the folder.
fn decompress(folder: &Folder, how: &[&str]) -> Value {
    let (coded, out) = (folder.file("coded.safetensors"), folder.file("restored.safetensors"));
    let mut args = vec!["decompress", "--in", text(&coded), "--out", text(&out)];
    args.extend(how);
    report(&args)
}

#[test]
fn comp_sets_come_back_as_plain_top_k_writes_them() {
    let node = Node::start(&["--workers", "2"]);
    let folder = Folder::new();
    let logits = sample("logits.safetensors");
    let plain = folder.file("plain.safetensors");
    let addr = node.addr_text();
    for name in ["head.f32", "wide.bf16"] {
        report(&[
            "compress",
            "--addr",
            &addr,
            "--in",
            text(&logits),
            "--tensor",
            name,
            "--topk",
            "100",
            "--out",
            text(&plain),
        ]);
        // A row a request, so that many are under way and come back in any order.
        let how = ["--topk", "100", "--codec", "set-f16", "--request", "1B"];
        let said = compress(&node, &folder, ("logits.safetensors", name), &how);
        let restored = decompress(&folder, &["--original", text(&logits)]);
        for key in ["retained_mass", "kl_nats"] {
            assert_eq!(said[key], restored[key], "{name} {key}");
        }
        assert!(float(&restored, "ratio") > 300.0, "{restored}");
        let restored = folder.file("restored.safetensors");
        for column in ["logsumexp", "flags"] {
            assert_eq!(tensor(&restored, column), tensor(&plain, column), "{name} {column}");
        }
        // Values of f16 may tie where f32 did not: the same entries, in another order.
        let entries = |path: &Path| -> Vec<(i32, f32)> {
            let indices = tensor(path, "indices").2;
            let indices = indices.as_chunks().0.iter().map(|x| i32::from_le_bytes(*x));
            indices.zip(floats(&tensor(path, "values").2)).collect()
        };
        let (mut found, mut expected) = (entries(&restored), entries(&plain));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.chunks_mut(100).zip(expected.chunks_mut(100)) {
            let max = expected[0].1;
            found.sort_unstable_by_key(|(index, _)| *index);
            expected.sort_unstable_by_key(|(index, _)| *index);
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(found.0, expected.0, "{name}");
                let bound = (max - expected.1) / 2048.0 + 1e-6;
                assert!((found.1 - expected.1).abs() <= bound, "{name}: {found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn comp_sets_of_products_are_coded_too() {
    let weights = sample("lm_head.safetensors");
    let node = Node::start(&["--lm-head", text(&weights)]);
    let folder = Folder::new();
    let how = ["--lm-head", "--topk", "50", "--codec", "set-steps", "--mass", "0.5"];
    let said = compress(&node, &folder, ("lm_head_rows.safetensors", "features"), &how);
    let restored = decompress(&folder, &[]);
    assert_eq!((&restored["cols"], &restored["dtype"]), (&8192.into(), &"f32".into()));
    assert_eq!(said["retained_mass"], restored["retained_mass"]);
    let indices = tensor(&folder.file("restored.safetensors"), "indices");
    assert_eq!(indices.1, [64, 50]);
    assert!(indices.2.as_chunks::<4>().0.contains(&[0xFF; 4]), "no row became shorter");
    let rows = sample("lm_head_rows.safetensors");
    let (coded, out) = (folder.file("coded.safetensors"), folder.file("again.safetensors"));
    let (code, words) = failure(&[
        "decompress",
        "--in",
        text(&coded),
        "--out",
        text(&out),
        "--original",
        text(&rows),
    ]);
    assert_eq!(code, Some(2));
    assert!(words.contains("products with the node's weights"), "{words}");
}

#[test]
fn comp_hidden_rows_come_back_without_a_basis() {
    let node = Node::start(&[]);
    let folder = Folder::new();
    let hidden = sample("hidden.safetensors");
    let how = ["--codec", "int8-group", "--request", "16KiB"];
    let said = compress(&node, &folder, ("hidden.safetensors", "hidden.f16"), &how);
    let restored = decompress(&folder, &["--original", text(&hidden)]);
    let found = tensor(&folder.file("restored.safetensors"), "hidden.f16");
    assert_eq!((found.0, &found.1), (Dtype::F32, &vec![256, 384]));
    let error = relative_error(&widened(tensor(&hidden, "hidden.f16")), &widened(found));
    assert!(error < 0.009, "{error}");
    for told in [&said, &restored] {
        assert!((float(told, "relative_error") - error).abs() < 1e-6, "{error}: {told}");
        assert!((float(told, "snr_db") + 20.0 * error.log10()).abs() < 1e-3, "{told}");
        assert!(float(told, "cosine") > 0.9999, "{told}");
    }
    // What needs a basis says so, and how to get one.
    let (addr, out) = (node.addr_text(), folder.file("none.safetensors"));
    let (code, words) = failure(&[
        "compress",
        "--addr",
        &addr,
        "--in",
        text(&hidden),
        "--tensor",
        "hidden.f16",
        "--codec",
        "rotated",
        "--out",
        text(&out),
    ]);
    assert_eq!(code, Some(2));
    assert!(words.contains("butterfly serve --basis") && words.contains("calibrate"), "{words}");
    let (code, words) = failure(&["basis", "--addr", &addr, "--out", text(&out)]);
    assert_eq!(code, Some(1));
    assert!(words.contains("no basis"), "{words}");
    assert!(!out.exists());
}

#[test]
fn comp_rotated_rows_need_the_basis_that_they_were_coded_with() {
    let folder = Folder::new();
    let learned = calibrate(&folder, "basis.safetensors", &["--holdout", "0.25"]);
    let id = learned["basis"]["id"].as_str().expect("a name").to_owned();
    let basis = folder.file("basis.safetensors");
    let node = Node::start(&["--basis", text(&basis)]);
    let hidden = sample("hidden.safetensors");
    let how = ["--codec", "rotated", "--step", "0.125", "--request", "16KiB"];
    let said = compress(&node, &folder, ("hidden.safetensors", "hidden.f16"), &how);
    assert!(float(&said, "relative_error") < 0.04, "{said}");

    // Without it: which one, and the commands that get it.
    let (coded, out) = (folder.file("coded.safetensors"), folder.file("restored.safetensors"));
    let plain = ["decompress", "--in", text(&coded), "--out", text(&out)];
    let (code, words) = failure(&plain);
    assert_eq!(code, Some(2));
    for part in [&*id, "butterfly basis --addr NODE --out basis.safetensors", "--addr NODE here"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!out.exists());

    // From the node, from a file that was fetched from it, with the same result.
    let addr = node.addr_text();
    let restored = decompress(&folder, &["--addr", &addr, "--original", text(&hidden)]);
    assert_eq!(
        (&restored["basis"], &restored["relative_error"]),
        (&id.clone().into(), &said["relative_error"])
    );
    let first = fs::read(&out).expect("written");
    let fetched = folder.file("fetched.safetensors");
    let told = report(&["basis", "--addr", &addr, "--out", text(&fetched)]);
    assert_eq!(told["id"], learned["basis"]["id"]);
    assert!(fs::read(&fetched).expect("written") == fs::read(&basis).expect("written"));
    decompress(&folder, &["--basis", text(&fetched)]);
    assert!(fs::read(&out).expect("written") == first);
    let error = relative_error(
        &widened(tensor(&hidden, "hidden.f16")),
        &widened(tensor(&out, "hidden.f16")),
    );
    assert!((error - float(&said, "relative_error")).abs() < 1e-6, "{error}: {said}");

    // Another basis is told from this one by name.
    let other = calibrate(&folder, "other.safetensors", &["--holdout", "0.5"]);
    let other_id = other["basis"]["id"].as_str().expect("a name");
    let other = folder.file("other.safetensors");
    let (code, words) = failure(&[&plain[..], &["--basis", text(&other)]].concat());
    assert_eq!(code, Some(2));
    assert!(words.contains(&id) && words.contains(other_id), "{words}");
    let (code, words) = failure(&[
        "compress",
        "--addr",
        &addr,
        "--in",
        text(&hidden),
        "--tensor",
        "hidden.f16",
        "--codec",
        "int8-channel",
        "--basis",
        text(&other),
        "--out",
        text(&folder.file("x.safetensors")),
    ]);
    assert_eq!(code, Some(2));
    assert!(words.contains(&id[..16]) && words.contains(&other_id[..16]), "{words}");
    assert!(words.contains("leave --basis out"), "{words}");
}

#[test]
fn comp_targets_are_reached_by_what_was_chosen() {
    let folder = Folder::new();
    calibrate(&folder, "basis.safetensors", &["--holdout", "0"]);
    let basis = folder.file("basis.safetensors");
    let node = Node::start(&["--basis", text(&basis)]);
    let mut last = f64::INFINITY;
    for target in [0.02, 0.1, 0.4] {
        let wanted = target.to_string();
        let how = ["--target-kl", &*wanted];
        let said = compress(&node, &folder, ("logits.safetensors", "head.f32"), &how);
        // All rows of so few are sampled, so what was predicted is what came.
        assert!(float(&said, "kl_nats") <= target, "{said}");
        let predicted = float(&said["chosen"], "kl_nats");
        assert!((float(&said, "kl_nats") - predicted).abs() < 1e-6, "{said}");
        let bytes = float(&said["chosen"], "bytes_per_row");
        assert!(bytes < last, "{said}");
        last = bytes;
        decompress(&folder, &[]);
    }
    let mut last = f64::INFINITY;
    for target in [40.0, 30.0, 20.0] {
        let wanted = target.to_string();
        let how = ["--target-db", &*wanted, "--basis", text(&basis)];
        let said = compress(&node, &folder, ("hidden.safetensors", "hidden.f32"), &how);
        assert!(float(&said, "snr_db") >= target, "{said}");
        let bytes = float(&said["chosen"], "bytes_per_row");
        assert!(bytes < last, "{said}");
        last = bytes;
    }
    // What cannot be reached is said before anything is sent, and leaves no file.
    let (addr, out) = (node.addr_text(), folder.file("x.safetensors"));
    let logits = sample("logits.safetensors");
    let (code, words) = failure(&[
        "compress",
        "--addr",
        &addr,
        "--in",
        text(&logits),
        "--tensor",
        "tied.f16",
        "--target-kl",
        "0.001",
        "--topk",
        "10",
        "--out",
        text(&out),
    ]);
    assert_eq!(code, Some(2));
    assert!(words.contains("10 entries") && words.contains("--topk"), "{words}");
    assert!(!out.exists());
}

#[test]
fn a_calibration_shows_every_coding() {
    let folder = Folder::new();
    let page = folder.file("report.html");
    let more = ["--rank", "128", "--report", text(&page)];
    let told = calibrate(&folder, "basis.safetensors", &more);
    assert_eq!((&told["rows_judged"], &told["basis"]["rows_learned"]), (&64.into(), &192.into()));
    let codings = told["codings"].as_array().expect("codings");
    let html = fs::read_to_string(&page).expect("written");
    for coding in wire::Coding::ALL.iter().filter(|coding| coding.is_hidden()) {
        let of_it = |entry: &&Value| {
            entry["coding"]
                .as_str()
                .is_some_and(|name| name.split(' ').next() == Some(coding.name()))
        };
        assert!(codings.iter().any(|entry| of_it(&entry)), "{coding}: {told}");
        assert!(html.matches(coding.name()).count() >= 3, "{coding}: in plot, title and table");
    }
    // The figures that bases of these states have elsewhere, with room.
    let error = |name: &str| {
        let entry = codings.iter().find(|entry| entry["coding"] == name).expect("there");
        (float(entry, "saving"), float(entry, "relative_error"))
    };
    let (saving, found) = error("int8-channel");
    assert!(saving == 0.75 && found < 0.02, "{saving} {found}");
    let (saving, found) = error("rotated 0.125");
    assert!(saving > 0.8 && found < 0.04, "{saving} {found}");
    assert!(error("pca").1 > 0.1, "truncation loses what it was not shown");

    // For people: the table, the plot, what to do next. The same basis again.
    let (input, out) = (sample("hidden.safetensors"), folder.file("again.safetensors"));
    let output = run(&[
        "calibrate",
        "--in",
        text(&input),
        "--tensor",
        "hidden.f16",
        "--rank",
        "128",
        "--out",
        text(&out),
    ]);
    assert!(output.status.success(), "{}", words(&output));
    let shown = String::from_utf8(output.stdout).expect("text");
    let id = told["basis"]["id"].as_str().expect("a name");
    for part in [&id[..16], "rotated 0.125", "bytes a row", "┤", "butterfly serve --basis"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let described = run(&["basis", "--in", text(&out)]);
    let described = String::from_utf8(described.stdout).expect("text");
    assert!(described.contains(id) && described.contains("128 of 384"), "{described}");

    for (more, expected) in [
        (["--holdout", "1"], "0 to 0.9"),
        (["--holdout", "nan"], "0 to 0.9"),
        (["--rank", "385"], "1 to 384"),
        (["--rank", "0"], "1 to 384"),
    ] {
        let mut args = vec!["calibrate", "--in", text(&input), "--tensor", "hidden.f16"];
        args.extend(["--out", "/nonexistent/x"]);
        args.extend(more);
        let (code, words) = failure(&args);
        assert!(code == Some(2) && words.contains(expected), "{more:?}: {words}");
    }
}

#[test]
fn files_that_hold_no_coded_rows_are_refused() {
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    for (input, expected) in [
        (sample("hidden.safetensors"), "no coded rows"),
        (sample("README.md"), "not a valid safetensors file"),
        (folder.file("none"), "none"),
    ] {
        let (code, words) = failure(&["decompress", "--in", text(&input), "--out", text(&out)]);
        assert!(code == Some(2) && words.contains(expected), "{expected}: {words}");
        assert!(!out.exists());
    }
    let readme = sample("README.md");
    let (code, words) = failure(&["serve", "--listen", "127.0.0.1:0", "--basis", text(&readme)]);
    assert!(code == Some(2) && words.contains("is no basis"), "{words}");
}
