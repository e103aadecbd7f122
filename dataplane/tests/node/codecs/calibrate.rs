//! What is learned, and what is chosen to meet a target.

use super::{calibrate, compress, decompress, failure, float, text};
use crate::rig::{Folder, Node, run, sample, words};
use serde_json::Value;
use std::fs;

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
    // From so few rows the ends of channels are not known well, and what lies outside is cut.
    let (saving, found) = error("int8-channel");
    assert!(saving == 0.75 && found < 0.05, "{saving} {found}");
    let (saving, found) = error("int8-centred");
    assert!(saving > 0.74 && found < 0.013, "{saving} {found}");
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
