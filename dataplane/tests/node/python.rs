//! A client in another language, made from FORMAT.md alone (`wire/tests/client.py`), against a real
//! node: what it reads is what other software computed.

use crate::rig::{Node, sample, words};
use safetensors::SafeTensors;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// What the client printed of one row.
struct Row {
    logsumexp: f64,
    entries: Vec<(u32, f32)>,
}

/// Runs the client, or says why it cannot run here.
fn client(node: &Node, tensor: &str, k: usize) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/client.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(node.addr_text()).arg(sample("logits.safetensors"));
    match command.args([tensor, &k.to_string()]).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("not run: python3 does not start ({error}); install python3 to run it");
            None
        }
    }
}

/// The lines of the rows, and those of the figures.
fn read(output: &Output) -> (Vec<Row>, Vec<String>) {
    assert!(output.status.success(), "{}", words(output));
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let mut rows: Vec<Row> = Vec::new();
    let mut figures = Vec::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts[..] {
            ["row", at, "logsumexp", value] => {
                assert_eq!(at.parse(), Ok(rows.len()));
                let logsumexp = value.parse().expect("a number");
                rows.push(Row { logsumexp, entries: Vec::new() });
            }
            [index, value] => {
                let entry = (index.parse().expect("index"), value.parse().expect("value"));
                rows.last_mut().expect("a row").entries.push(entry);
            }
            ["figure", ..] => figures.push(line.to_owned()),
            _ => panic!("an unexpected line: {line}"),
        }
    }
    (rows, figures)
}

/// A tensor of the oracle, its elements widened to f64.
fn oracle(name: &str) -> Vec<f64> {
    let bytes = fs::read(sample("topk.safetensors")).expect("sample");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor(name).expect("the tensor");
    let data = view.data();
    match view.dtype() {
        safetensors::Dtype::F64 => {
            data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
        }
        safetensors::Dtype::F32 => {
            data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
        }
        safetensors::Dtype::I32 => {
            data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()
        }
        safetensors::Dtype::BF16 => {
            data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).into()).collect()
        }
        other => panic!("{other} is not in the oracle"),
    }
}

#[test]
fn a_client_of_sixty_lines_of_python_reads_what_other_software_computed() {
    let node = Node::start(&[]);
    // The second is over the bound from which payloads carry a CRC-32C, and its rows are bf16.
    for (tensor, answers) in [("head.f32", "head.f32"), ("wide.bf16", "wide_bf16.bf16")] {
        let Some(output) = client(&node, tensor, 100) else { return };
        let (rows, figures) = read(&output);
        let indices = oracle(&format!("{answers}.k100.indices"));
        let values = oracle(&format!("{answers}.k100.values"));
        let sums = oracle(&format!("{answers}.logsumexp"));
        assert_eq!(rows.len(), sums.len());
        for (at, row) in rows.iter().enumerate() {
            let expected: Vec<(u32, f32)> = (at * 100..(at + 1) * 100)
                .map(|place| (indices[place] as u32, values[place] as f32))
                .collect();
            assert_eq!(row.entries, expected, "{tensor}, row {at}");
            assert!((row.logsumexp - sums[at]).abs() < 1e-5 * sums[at].abs(), "{tensor}, row {at}");
        }
        let ping = figures.iter().find(|line| line.starts_with("figure butterfly_pings_total "));
        let pings: u64 =
            ping.expect("pings").rsplit(' ').next().expect("a value").parse().expect("u64");
        assert!(pings >= 1, "its own ping is counted in the figures that it reads");
        assert!(
            figures
                .iter()
                .any(|line| line.contains("butterfly_info ") && line.contains("version=\""))
        );
    }
    assert_eq!(node.counted("butterfly_requests_total", "operation", "topk"), 2);
    assert_eq!(node.refusals("bad_checksum") + node.refusals("bad_check"), 0);
}

#[test]
fn a_refusal_ends_the_python_client_with_the_words_of_the_node() {
    let node = Node::start(&[]);
    let Some(output) = client(&node, "head.f32", 4_096) else { return };
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("k must be between 1 and 1024"), "{}", words(&output));
    node.await_count("butterfly_refusals_total", "reason", "bad_k", 1);
}
