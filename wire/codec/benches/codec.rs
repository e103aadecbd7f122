//! Coding and restoring rows on one core: `cargo bench -p codec`, or with a filter.
//!
//! - `set/*`: top-100 sets of sample rows of 30,522 logits; a row at a time.
//! - `hidden/*`: sample rows of 384 hidden states. `restore` counts the f32 that come out, `copy`
//!   is a plain copy of as many. `hidden-32-rows/*` are the codings that rotate, many rows in a
//!   call.

use codec::{
    Basis, Coding,
    fit::Fit,
    hidden,
    set::{self, Set, SetBuf},
};
use criterion::{Criterion, Throughput};
use kernels::{Element, Row, topk::TopK};
use safetensors::SafeTensors;
use std::{hint::black_box, path::Path, time::Duration};

const K: usize = 100;
const COLS: usize = 30_522;
const WIDTH: usize = 384;

fn sample(file: &str, tensor: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(file);
    let bytes = std::fs::read(path).expect("a sample");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.tensor(tensor).expect("a tensor").data().to_vec()
}

fn sets(criterion: &mut Criterion) {
    let bytes = sample("logits.safetensors", "head.f32");
    let rows: Vec<_> = bytes
        .chunks_exact(4 * COLS)
        .map(|row| Row::from_bytes(Element::F32, row).expect("whole"))
        .collect();
    let mut topk = TopK::new();
    let chosen: Vec<_> = rows
        .iter()
        .map(|row| {
            let (mut indices, mut values) = (vec![0; K], vec![0.0; K]);
            let summary = topk.run(*row, K, &mut indices, &mut values);
            (indices, values, summary)
        })
        .collect();
    let mut group = criterion.benchmark_group("set");
    group.throughput(Throughput::Elements(1));
    for coding in Coding::ALL.iter().copied().filter(|coding| coding.is_set()) {
        let mut out = vec![0; set::worst_len(coding, K as u32, COLS as u32)];
        let (mut scratch, mut buffer) = (set::Scratch::new(K), SetBuf::new(K));
        let mut encode = |at: usize, out: &mut [u8]| {
            let (indices, values, summary) = &chosen[at % chosen.len()];
            let (max, log_sum, flags) = (summary.max, summary.log_sum, summary.flags);
            let set = Set { indices, values, max, log_sum, flags };
            set::encode(coding, &set, COLS as u32, 0.0, out, &mut scratch).expect("room")
        };
        let mut at = 0;
        group.bench_function(format!("code/{coding}"), |b| {
            b.iter(|| {
                at += 1;
                encode(at, &mut out)
            });
        });
        let coded: Vec<Vec<u8>> = (0..chosen.len())
            .map(|at| {
                let len = encode(at, &mut out);
                out[..len].to_vec()
            })
            .collect();
        group.bench_function(format!("restore/{coding}"), |b| {
            b.iter(|| {
                at += 1;
                let row = &coded[at % coded.len()];
                set::decode(coding, black_box(row), COLS as u32, K, &mut buffer).expect("a set");
            });
        });
    }
    group.finish();
}

fn learn(bytes: &[u8]) -> Basis {
    let mut fit = Fit::new(WIDTH, "hidden.f16").expect("a width");
    for row in bytes.chunks_exact(2 * WIDTH) {
        fit.add(Row::from_bytes(Element::F16, row).expect("whole"));
    }
    fit.finish(true, 64, |_| {}).expect("rows to learn from")
}

fn states(criterion: &mut Criterion) {
    let bytes = sample("hidden.safetensors", "hidden.f16");
    let basis = learn(&bytes);
    let rows: Vec<_> = bytes
        .chunks_exact(2 * WIDTH)
        .map(|row| Row::from_bytes(Element::F16, row).expect("whole"))
        .collect();
    let mut group = criterion.benchmark_group("hidden");
    group.throughput(Throughput::Bytes(4 * WIDTH as u64));
    let (from, mut restored) = (vec![1.0_f32; WIDTH], vec![0.0_f32; WIDTH]);
    group.bench_function("copy", |b| {
        b.iter(|| {
            restored.copy_from_slice(black_box(&from));
            black_box(&mut restored);
        });
    });
    for coding in Coding::ALL.iter().copied().filter(|coding| coding.is_hidden()) {
        let quality = if coding == Coding::Rotated { hidden::QUALITY } else { 0.0 };
        let mut scratch = hidden::Scratch::new(WIDTH);
        let mut out = vec![0; coding.row_max(0, WIDTH)];
        let mut encode = |at: usize, out: &mut [u8]| {
            let row = rows[at % rows.len()];
            hidden::encode(coding, row, Some(&basis), quality, out, &mut scratch).expect("room").0
        };
        let mut at = 0;
        group.bench_function(format!("code/{coding}"), |b| {
            b.iter(|| {
                at += 1;
                encode(at, &mut out)
            });
        });
        let coded: Vec<Vec<u8>> = (0..rows.len())
            .map(|at| {
                let len = encode(at, &mut out);
                out[..len].to_vec()
            })
            .collect();
        let mut scratch = hidden::Scratch::new(WIDTH);
        group.bench_function(format!("restore/{coding}"), |b| {
            b.iter(|| {
                at += 1;
                let row = black_box(&coded[at % coded.len()]);
                hidden::decode(coding, row, Some(&basis), &mut restored, &mut scratch)
                    .expect("a row");
            });
        });
    }
    group.finish();
    batches(criterion, &bytes, &basis);
}

/// Codings that rotate, 32 rows in a call; the throughput is that of all of them as f32.
fn batches(criterion: &mut Criterion, bytes: &[u8], basis: &Basis) {
    const ROWS: usize = hidden::BATCH;
    let rows = Row::from_bytes(Element::F16, &bytes[..ROWS * WIDTH * 2]).expect("whole");
    let mut group = criterion.benchmark_group("hidden-32-rows");
    group.throughput(Throughput::Bytes((4 * ROWS * WIDTH) as u64));
    for coding in [Coding::Rotated, Coding::Pca] {
        let quality = if coding == Coding::Rotated { hidden::QUALITY } else { 0.0 };
        let mut scratch = hidden::Scratch::for_rows(WIDTH);
        let mut data = vec![0; ROWS * coding.row_max(0, WIDTH)];
        let (mut ends, mut flags) = ([0; ROWS], [0; ROWS]);
        group.bench_function(format!("code/{coding}"), |b| {
            b.iter(|| {
                let (data, ends, flags) = (&mut data[..], &mut ends[..], &mut flags[..]);
                let to = hidden::Room { data, start: 0, ends, flags };
                hidden::encode_rows(coding, rows, WIDTH, Some(basis), quality, to, &mut scratch)
                    .expect("room")
            });
        });
        let mut out = vec![0.0; ROWS * WIDTH];
        group.bench_function(format!("restore/{coding}"), |b| {
            b.iter(|| {
                let from = hidden::Coded { data: black_box(&data), start: 0, ends: &ends };
                hidden::decode_rows(coding, from, WIDTH, Some(basis), &mut out, &mut scratch)
                    .expect("rows");
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    sets(&mut criterion);
    states(&mut criterion);
    criterion.final_summary();
}
