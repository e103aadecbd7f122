//! What do the header, the two checks and checked access to an archive cost?

use benches::frames;
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use wire::{
    HEADER_LEN, Header, Kind,
    check::{crc16, crc32c},
    payload::{self, Heartbeat},
    request,
};
use zerocopy::IntoBytes;

const PAYLOAD_MAX: u32 = 16 << 20;

/// A payload at an address that archives may start at.
struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    /// The payload of a frame.
    fn payload_of(frame: &[u8]) -> Self {
        let payload = &frame[HEADER_LEN..];
        let mut words = vec![0_u128; payload.len().div_ceil(16)];
        words.as_mut_bytes()[..payload.len()].copy_from_slice(payload);
        Self { words, len: payload.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }
}

fn header(criterion: &mut Criterion) {
    let frame = frames::heartbeats(1);
    let mut group = criterion.benchmark_group("header");
    group.bench_function("parse", |bench| {
        bench.iter(|| {
            let header = Header::peek(black_box(&frame)).expect("32 bytes are there");
            header.check(PAYLOAD_MAX).and_then(|()| Ok((header.kind()?, header.compression()?)))
        });
    });
    group.bench_function("write", |bench| {
        let mut out = [0_u8; HEADER_LEN];
        bench.iter(|| {
            let header = Header::new(Kind::Heartbeat, black_box(7), black_box(9), 64, 0x1234);
            out.copy_from_slice(header.as_bytes());
            black_box(&mut out);
        });
    });
    group.finish();
}

fn checks(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..512_u32 * 1024).map(|at| (at % 253) as u8).collect();
    let mut group = criterion.benchmark_group("check");
    for len in [64, 4 * 1024, 512 * 1024] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("crc16", len), &bytes[..len], |bench, bytes| {
            bench.iter(|| crc16(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("crc32c", len), &bytes[..len], |bench, bytes| {
            bench.iter(|| crc32c(black_box(bytes)));
        });
    }
    group.finish();
}

fn access(criterion: &mut Criterion) {
    let heartbeat = Aligned::payload_of(&frames::heartbeats(1));
    let small = Aligned::payload_of(&frames::rows(1, 64));
    let large = Aligned::payload_of(&frames::rows(1, 512 * 1024));
    let mut group = criterion.benchmark_group("access");
    group.bench_function("heartbeat", |bench| {
        bench.iter(|| {
            let beat = payload::access::<Heartbeat>(black_box(heartbeat.bytes()));
            beat.expect("made by us").sent_ns.to_native()
        });
    });
    for (name, payload) in [("request-64B", &small), ("request-512KiB", &large)] {
        group.bench_function(name, |bench| {
            bench.iter(|| request::work(black_box(payload.bytes())).expect("made by us").1.rows);
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    header(&mut criterion);
    checks(&mut criterion);
    access(&mut criterion);
    criterion.final_summary();
}
