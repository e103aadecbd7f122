//! Kernels on one core, each beside the floor that memory sets for it.
//!
//! `cargo bench -p kernels`, or with a filter: `cargo bench -p kernels -- topk`.
//!
//! - `topk/*`: the 100 best and the normaliser of a row of 131,072 logits. `floor` is a bare search
//!   for the largest entry of the same row. `warm` is one row again and again, `cold` walks
//!   through more rows than the caches hold, as rows that just arrived do.
//! - `int8/*`: hidden rows of 4,096 bf16, against the same bare search and a plain copy.
//! - `restore/*`: codes back to f32.
//! - `lmhead/*`: logits of 1, 8 and 32 hidden rows, against one bare pass over the weights.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use half::bf16;
use kernels::lmhead::{self, Weights};
use kernels::topk::TopK;
use kernels::{Level, Row, cast, int8};

const VOCABULARY: usize = 131_072;
const WIDTH: usize = 4096;
const K: usize = 100;

/// Numbers shaped like logits or hidden states: the sum of twelve uniform ones, about normal.
fn normal(count: usize, spread: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut unit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    (0..count).map(|_| ((0..12).map(|_| unit()).sum::<f32>() - 6.0) * spread).collect()
}

fn to_bf16(from: &[f32]) -> Vec<bf16> {
    let mut to = vec![bf16::ZERO; from.len()];
    cast::to_bf16(from, &mut to);
    to
}

/// Cuts `all` into rows of `width` and gives them one after the other, for ever.
fn rounds<'a>(all: Row<'a>, width: usize) -> impl FnMut() -> Row<'a> {
    let count = all.len() / width;
    let mut next = 0;
    move || {
        let start = next % count * width;
        next += 1;
        all.part(start..start + width).expect("inside")
    }
}

fn rows<'a>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    all: Row<'a>,
    width: usize,
    mut kernel: impl FnMut(Row<'a>),
) {
    let bytes = (width * all.element().size()) as u64;
    group.throughput(Throughput::Bytes(bytes));
    let one = all.part(0..width).expect("inside");
    group.bench_function(format!("{name}/warm"), |b| b.iter(|| kernel(black_box(one))));
    let mut next = rounds(all, width);
    group.bench_function(format!("{name}/cold"), |b| b.iter(|| kernel(next())));
}

fn topk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topk");
    let logits = normal(128 * VOCABULARY, 3.0);
    let halves = to_bf16(&logits);
    let (mut indices, mut values) = ([0; K], [0.0; K]);
    for (element, all) in [("f32", Row::F32(&logits)), ("bf16", Row::Bf16(&halves))] {
        rows(&mut group, &format!("floor/{element}"), all, VOCABULARY, |row| {
            black_box(row.max());
        });
        for level in Level::ALL.into_iter().filter(|level| *level != Level::Scalar) {
            let mut topk = TopK::with_level(level);
            let name = format!("{}/{element}", topk.level().name());
            rows(&mut group, &name, all, VOCABULARY, |row| {
                black_box(topk.run(row, K, &mut indices, &mut values));
            });
        }
    }
    group.finish();
}

fn hidden(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("int8");
    let states = to_bf16(&normal(16_384 * WIDTH, 1.0));
    let mut codes = vec![0; WIDTH];
    rows(&mut group, "floor/bf16", Row::Bf16(&states), WIDTH, |row| {
        black_box(row.max());
    });
    let mut copied = vec![bf16::ZERO; WIDTH];
    rows(&mut group, "copy/bf16", Row::Bf16(&states), WIDTH, |row| {
        let Row::Bf16(row) = row else { unreachable!("bf16 rows") };
        copied.copy_from_slice(row);
        black_box(&mut copied);
    });
    for level in Level::ALL.into_iter().filter(|level| *level != Level::Scalar) {
        rows(&mut group, &format!("{}/bf16", level.name()), Row::Bf16(&states), WIDTH, |row| {
            black_box(int8::quantize_at(level, row, &mut codes));
        });
    }
    group.finish();
    restored(criterion, &codes);
}

/// Codes back to f32; the throughput is that of the f32 that come out.
fn restored(criterion: &mut Criterion, codes: &[i8]) {
    let mut group = criterion.benchmark_group("restore");
    let mut out = vec![0.0; codes.len()];
    group.throughput(Throughput::Bytes((4 * codes.len()) as u64));
    for level in Level::ALL.into_iter().filter(|level| *level != Level::Scalar) {
        group.bench_function(format!("{}/row", level.name()), |b| {
            b.iter(|| int8::dequantize_at(level, black_box(codes), 0.01, &mut out));
        });
    }
    group.finish();
}

fn projection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lmhead");
    group.sample_size(10);
    let (vocabulary, width) = (32_000, 2048);
    let matrix = to_bf16(&normal(vocabulary * width, 0.02));
    let matrix = Row::Bf16(&matrix);
    let weights = Weights::new(matrix, width, None).expect("shape");
    group.throughput(Throughput::Bytes((matrix.len() * matrix.element().size()) as u64));
    group.bench_function("floor", |b| b.iter(|| black_box(matrix.max())));
    for count in [1, 8, 32] {
        let hidden = normal(count * width, 1.0);
        let mut out = vec![0.0; count * vocabulary];
        group.bench_function(format!("rows/{count}"), |b| {
            b.iter(|| lmhead::logits(black_box(&hidden), &weights, &mut out).expect("shape"));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    topk(&mut criterion);
    hidden(&mut criterion);
    projection(&mut criterion);
    criterion.final_summary();
}
