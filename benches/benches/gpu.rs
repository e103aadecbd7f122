//! What does a CUDA device give, in figures that can be held against its own copy bandwidth?
//!
//! ```text
//! cargo bench -p benches --bench gpu              # a table
//! cargo bench -p benches --bench gpu -- --json    # the same for programs
//! ```
//!
//! The kernels and launches are the worker's own. "Resident" rows lie on the device, and the time
//! is the device's, over runs that follow each other; "from host" rows are copied from pinned
//! memory, their replies back, and the time is that of one run alone as the host sees it. Bytes are
//! those that have to be read and written once. Without a device this says so and ends well.
//! `benches/torch_peer.py` measures PyTorch on the same shapes.

use serde_json::{Value, json};
use wire::{Dtype, Operation};
use worker::cuda::{Bench, Case, Fault, Travel};

/// Runs in a row.
const COUNT: u32 = 50;
/// Columns of a row of logits.
const VOCABULARY: u32 = 131_072;
/// Entries of a set.
const K: u32 = 100;
/// Width of hidden rows.
const WIDTH: u32 = 4096;

/// One line of the report.
struct Line {
    what: String,
    seconds: f64,
    bytes: f64,
    rows: u32,
}

impl Line {
    fn share(&self, bandwidth: f64) -> f64 {
        self.bytes / self.seconds / bandwidth
    }
}

/// Bytes that a case reads and writes at the least.
fn bytes(case: &Case) -> f64 {
    let (rows, cols) = (f64::from(case.rows), f64::from(case.cols));
    let row = cols * case.dtype.size() as f64;
    let reply = match case.operation {
        Operation::Int8 => cols + 5.0,
        _ => f64::from(case.k) * 6.0 + 13.0,
    };
    rows * (row + reply)
}

fn topk(bench: &Bench, lines: &mut Vec<Line>) -> Result<(), Fault> {
    let operation = Operation::TopK;
    for dtype in [Dtype::F32, Dtype::Bf16] {
        for rows in [1, 8, 64, 256] {
            let case = Case { operation, dtype, rows, cols: VOCABULARY, k: K };
            let name = dtype.name();
            let what = format!("top-{K} + log-sum-exp, {rows} x {VOCABULARY} {name}");
            let seconds = bench.steady(&case, Travel::Resident, COUNT)?;
            let bytes = bytes(&case);
            lines.push(Line { what: format!("{what}, resident"), seconds, bytes, rows });
            let seconds = bench.alone(&case, Travel::FromHost)?;
            lines.push(Line { what: format!("{what}, from host"), seconds, bytes, rows });
        }
    }
    Ok(())
}

fn int8(bench: &Bench, lines: &mut Vec<Line>) -> Result<(), Fault> {
    let (operation, dtype) = (Operation::Int8, Dtype::Bf16);
    let case = Case { operation, dtype, rows: 4096, cols: WIDTH, k: 0 };
    let what = format!("int8, 4096 x {WIDTH} bf16, resident");
    let seconds = bench.steady(&case, Travel::Resident, COUNT)?;
    lines.push(Line { what, seconds, bytes: bytes(&case), rows: case.rows });
    Ok(())
}

fn lm_head(bench: &mut Bench, lines: &mut Vec<Line>) -> Result<(), Fault> {
    bench.weigh(VOCABULARY, WIDTH)?;
    let weights = f64::from(VOCABULARY) * f64::from(WIDTH) * 2.0;
    let operation = Operation::LmHead;
    // Hidden rows of the weights' type go to the library, f32 ones to our kernel.
    let ways = [(Dtype::F32, "our kernel"), (Dtype::Bf16, "cuBLASLt")];
    for (dtype, how) in ways.into_iter().take(1 + usize::from(bench.has_library())) {
        for rows in [1, 8, 64] {
            let case = Case { operation, dtype, rows, cols: VOCABULARY, k: K };
            let what = format!("lm-head + top-{K}, {rows} x {WIDTH} to {VOCABULARY}, {how}");
            let seconds = bench.steady(&case, Travel::FromHost, 10)?;
            // One pass over the weights, whatever the number of rows.
            lines.push(Line { what, seconds, bytes: weights, rows });
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench) -> Result<(f64, Vec<Line>), Fault> {
    let bandwidth = bench.copy_bandwidth()?;
    let mut lines = Vec::new();
    topk(bench, &mut lines)?;
    int8(bench, &mut lines)?;
    lm_head(bench, &mut lines)?;
    Ok((bandwidth, lines))
}

fn as_json(bench: &Bench, bandwidth: f64, lines: &[Line]) -> Value {
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "what": line.what,
                "microseconds": line.seconds * 1e6,
                "bytes": line.bytes,
                "share_of_copy_bandwidth": line.share(bandwidth),
                "rows_per_second": f64::from(line.rows) / line.seconds,
            })
        })
        .collect();
    json!({
        "device": bench.device().to_string(),
        "tuning": bench.tuning().architecture,
        "copy_bytes_per_second": bandwidth,
        "lines": lines,
    })
}

fn print(bench: &Bench, bandwidth: f64, lines: &[Line]) {
    println!("{}, tuned as {}", bench.device(), bench.tuning().architecture);
    println!("copy on the device: {:.0} GB/s, read and written bytes counted\n", bandwidth / 1e9);
    println!("{:<68} {:>10} {:>8} {:>8} {:>12}", "", "us", "GB/s", "of copy", "rows/s");
    for line in lines {
        println!(
            "{:<68} {:>10.1} {:>8.0} {:>7.0}% {:>12.0}",
            line.what,
            line.seconds * 1e6,
            line.bytes / line.seconds / 1e9,
            line.share(bandwidth) * 100.0,
            f64::from(line.rows) / line.seconds,
        );
    }
}

fn main() {
    let as_program = std::env::args().any(|arg| arg == "--json");
    let mut bench = match Bench::open(0) {
        Ok(bench) => bench,
        Err(closed) if as_program => {
            println!("{:#}", json!({ "device": null, "reason": closed.to_string() }));
            return;
        }
        Err(closed) => {
            println!("nothing measured: {closed}");
            return;
        }
    };
    // The smoke run of all benches shows that this one starts, not what it finds.
    if std::env::args().any(|arg| arg == "--test") {
        println!("{}", bench.device());
        return;
    }
    match measure(&mut bench) {
        Ok((bandwidth, lines)) if as_program => {
            println!("{:#}", as_json(&bench, bandwidth, &lines));
        }
        Ok((bandwidth, lines)) => print(&bench, bandwidth, &lines),
        Err(fault) => {
            eprintln!("{}: {fault}", bench.device());
            std::process::exit(1);
        }
    }
}
