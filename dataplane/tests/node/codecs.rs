//! `calibrate`, `basis`, `compress --codec` and `decompress` with real nodes: what goes in comes
//! out with the error that was said.

mod calibrate;

use crate::rig::{Folder, Node, butterfly, run, sample, strike, words};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
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
        // Means of the same numbers, added up in another order.
        for key in ["retained_mass", "kl_nats"] {
            let (said, restored) = (float(&said, key), float(&restored, key));
            assert!((said - restored).abs() < 1e-12, "{name} {key}: {said} {restored}");
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
                // To one side or the other: a set's values are rounded so that its mass stays.
                let bound = (max - expected.1) / 1024.0 + 1e-6;
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
    let kept = |report: &Value| float(report, "retained_mass");
    assert!((kept(&said) - kept(&restored)).abs() < 1e-12, "{said} {restored}");
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
fn tensors_of_any_rank_come_back_in_their_shape() {
    let node = Node::start(&[]);
    let folder = Folder::new();
    let input = folder.file("cube.safetensors");
    let values: Vec<f32> = (0..2 * 3 * 64).map(|n| (n as f32 * 0.37).sin()).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![2, 3, 64], &bytes).expect("a tensor");
    fs::write(&input, safetensors::serialize([("cube", view)], None).expect("a file")).expect("");
    let (addr, coded) = (node.addr_text(), folder.file("coded.safetensors"));
    report(&[
        "compress",
        "--addr",
        &addr,
        "--in",
        text(&input),
        "--tensor",
        "cube",
        "--target-db",
        "30",
        "--out",
        text(&coded),
        "--request",
        "1B",
    ]);
    decompress(&folder, &["--original", text(&input)]);
    let found = tensor(&folder.file("restored.safetensors"), "cube");
    assert_eq!((found.0, &found.1), (Dtype::F32, &vec![2, 3, 64]));
    assert!(relative_error(&values, &widened(found)) < 0.01);
}

#[test]
fn a_worker_killed_on_the_way_changes_no_byte_of_a_coded_file() {
    let node = Node::start(&[]);
    let folder = Folder::new();
    let how = ["--topk", "100", "--codec", "set-steps", "--request", "64KiB"];
    let run = || {
        compress(&node, &folder, ("logits.safetensors", "head.f32"), &how);
        fs::read(folder.file("coded.safetensors")).expect("written")
    };
    let expected = run();
    for _ in 0..3 {
        for worker in node.workers() {
            strike(worker, rustix::process::Signal::KILL);
        }
        assert!(run() == expected);
    }
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
