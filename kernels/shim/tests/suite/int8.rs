//! [COMP-05], [COMP-06]: int8 of the CUDA kernels is that of the CPU.

use cuda_shim::{Args, Launch, Memory, launch};
use half::f16;
use kernels::cuda::{self, RowJob, Tuning};
use kernels::int8::{centred, channel, group};
use kernels::{Element, flags, int8};

use crate::data::{ELEMENTS, Random, Rounded, adversarial, sample};

/// What a launch made of one row.
struct Coded {
    codes: Vec<i8>,
    scales: Vec<u8>,
    flags: u8,
}

/// Runs rows of one format and one length; `scales` is the number of bytes of scales per row.
fn code(
    kernel: &str,
    plan: Launch,
    rows: &[Rounded],
    (scales, more, seed, shift): (usize, &[u64], u64, usize),
) -> Vec<Coded> {
    let cols = rows[0].row().len();
    let memory: Vec<[Memory; 4]> = rows
        .iter()
        .map(|row| {
            let mut from = Memory::shifted(row.bytes.len(), shift * row.element.size());
            from.bytes_mut().copy_from_slice(&row.bytes);
            let codes = Memory::shifted(cols, shift);
            [from, codes, Memory::shifted(scales, 4), Memory::shifted(1, 1)]
        })
        .collect();
    let jobs: Vec<RowJob> = memory
        .iter()
        .map(|memory| {
            let [row, codes, scales, flags] = memory.each_ref().map(Memory::address);
            RowJob { row, codes, scales, flags }
        })
        .collect();
    let jobs = Memory::of(&jobs);
    let args = Args::new().address(jobs.address()).number(cols as u32);
    let args = more.iter().fold(args, |args, address| args.address(*address));
    let name = format!("{kernel}_{}", cuda::suffix(rows[0].element));
    launch(&name, plan, &args, seed).unwrap_or_else(|fault| panic!("cols {cols}: {fault}"));
    assert!(memory.iter().flatten().all(Memory::is_intact), "{name}: written outside");
    memory
        .iter()
        .map(|[_, codes, scales, flags]| Coded {
            codes: codes.read(),
            scales: scales.bytes().to_vec(),
            flags: flags.bytes()[0],
        })
        .collect()
}

fn tuning() -> Tuning {
    Tuning::for_capability(9, 0, 132)
}

/// Row after row, against `kernels::int8`, with a mean and masked channels if given.
fn check_row(what: &str, rows: &[Rounded], center: centred::Center<'_>, seed: u64, shift: usize) {
    let cols = rows[0].row().len();
    let mean = Memory::of(center.mean.unwrap_or_default());
    let mut bits = vec![0_u32; cols.div_ceil(32)];
    center.masked.iter().for_each(|col| bits[*col as usize / 32] |= 1 << (col % 32));
    let masked = Memory::of(&bits);
    let mean = if center.mean.is_some() { mean.address() } else { 0 };
    let masked = if center.masked.is_empty() { 0 } else { masked.address() };
    let plan = cuda::int8_row_plan(rows.len() as u32, cols as u32, tuning()).expect("rows");
    let coded = code("int8_row", plan, rows, (4, &[mean, masked], seed, shift));
    for (row, got) in rows.iter().zip(coded) {
        let (mut codes, mut t) = (vec![0; cols], vec![0.0; cols]);
        let (scale, seen) = centred::quantize(row.row(), center, &mut t, &mut codes);
        let what = format!("{what} {:?} cols {cols} seed {seed}", row.element);
        assert_eq!(got.codes, codes, "{what}");
        assert_eq!(got.scales, scale.to_le_bytes(), "{what}");
        assert_eq!(got.flags, seen, "{what}");
    }
}

fn check_channel(what: &str, rows: &[Rounded], mean: Option<&[f32]>, scale: &[f32], seed: u64) {
    let cols = rows[0].row().len();
    let (mean_memory, scales) = (Memory::of(mean.unwrap_or_default()), Memory::of(scale));
    let mean_address = if mean.is_some() { mean_memory.address() } else { 0 };
    let plan = cuda::int8_channel_plan(rows.len() as u32, cols as u32, tuning()).expect("rows");
    let more = [mean_address, scales.address()];
    let coded = code("int8_channel", plan, rows, (0, &more, seed, 0));
    for (row, got) in rows.iter().zip(coded) {
        let mut codes = vec![0; cols];
        let seen = channel::quantize(row.row(), mean, scale, &mut codes);
        assert_eq!(got.codes, codes, "{what} {:?} cols {cols}", row.element);
        assert_eq!(got.flags, seen, "{what}");
    }
}

fn check_group(what: &str, rows: &[Rounded], seed: u64) {
    let cols = rows[0].row().len();
    let groups = cols.div_ceil(group::GROUP);
    let plan = cuda::int8_group_plan(rows.len() as u32, cols as u32, tuning()).expect("rows");
    let coded = code("int8_group", plan, rows, (2 * groups, &[], seed, 0));
    for (row, got) in rows.iter().zip(coded) {
        let (mut codes, mut scales) = (vec![0; cols], vec![f16::ZERO; groups]);
        let seen = group::quantize(row.row(), &mut codes, &mut scales);
        let scales: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        assert_eq!(got.codes, codes, "{what} {:?} cols {cols}", row.element);
        assert_eq!(got.scales, scales, "{what}");
        assert_eq!(got.flags, seen, "{what}");
    }
}

const LENGTHS: [usize; 14] = [0, 1, 7, 8, 9, 31, 33, 64, 200, 384, 1023, 1600, 4096, 20_011];

#[test]
fn every_length() {
    let mut random = Random::new(5);
    for (at, cols) in LENGTHS.into_iter().enumerate() {
        let (values, mean) = (random.normals(cols, 2.0), random.normals(cols, 0.5));
        let scale: Vec<f32> = (0..cols).map(|_| random.unit() * 0.05 + 1e-4).collect();
        for element in ELEMENTS {
            let rows = [Rounded::of(element, &values), Rounded::of(element, &mean)];
            for shift in [0, 1, 4] {
                check_row("plain", &rows, centred::Center::default(), at as u64, shift);
            }
            let masked: Vec<u32> = (0..cols as u32).filter(|col| col % 37 == 5).collect();
            let center = centred::Center { mean: Some(&mean), masked: &masked };
            check_row("centred", &rows, center, at as u64, 0);
            check_channel("channel", &rows, Some(&mean), &scale, at as u64);
            check_channel("channel", &rows, None, &scale, 0);
            check_group("group", &rows, at as u64);
        }
    }
}

#[test]
fn adversarial_rows() {
    for cols in [45, 1200] {
        for (at, (what, values)) in adversarial(cols).into_iter().enumerate() {
            let mean = Random::new(6).normals(cols, 1.0);
            let strange = [0.0, -0.5, f32::INFINITY, f32::NAN, 1e-45, 3e38, 0.25];
            let scale: Vec<f32> = (0..cols).map(|col| strange[col % 7]).collect();
            for element in ELEMENTS {
                let row = [Rounded::of(element, &values)];
                check_row(what, &row, centred::Center::default(), at as u64, 0);
                let center = centred::Center { mean: Some(&mean), masked: &[0, 1, 40] };
                check_row(what, &row, center, 1, 1);
                check_channel(what, &row, Some(&mean), &scale, 2);
                check_group(what, &row, at as u64);
            }
        }
    }
}

#[test]
fn rows_of_one_launch_do_not_disturb_each_other() {
    for element in ELEMENTS {
        let rows = adversarial(1031).into_iter();
        let rows: Vec<_> = rows.map(|(_, values)| Rounded::of(element, &values)).collect();
        check_row("a batch", &rows, centred::Center::default(), 4, 1);
        check_group("a batch", &rows, 4);
    }
}

/// Entries at and beside the middle between two codes, where a product with the reciprocal would
/// round to the other side than the division.
#[test]
fn comp_05_entries_in_the_middle_between_codes() {
    let mut random = Random::new(7);
    for _ in 0..40 {
        let scale = f32::from_bits(0x2000_0000 + (random.next() >> 2));
        let mut values = vec![scale * 127.0];
        for step in -127..127 {
            let middle = (step as f32 + 0.5) * scale;
            values.extend([middle.next_down(), middle, middle.next_up()]);
        }
        check_row(
            "middles",
            &[Rounded::of(Element::F32, &values)],
            centred::Center::default(),
            0,
            0,
        );
    }
}

#[test]
fn every_size_of_scale() {
    let mut random = Random::new(8);
    let shape = random.normals(70, 1.0);
    for exponent in (-149..127).step_by(3) {
        let size = 2.0_f64.powi(exponent) as f32;
        let values: Vec<f32> = shape.iter().map(|x| x * size).collect();
        check_row("sizes", &[Rounded::of(Element::F32, &values)], centred::Center::default(), 0, 0);
        check_group("sizes", &[Rounded::of(Element::F32, &values)], 0);
    }
}

#[test]
fn comp_06_real_hidden_states() {
    for tensor in ["hidden.f16", "hidden.f32", "outlier.f32"] {
        let matrix = sample("hidden.safetensors", tensor, 24);
        check_row(tensor, &matrix.rows, centred::Center::default(), 3, 0);
        check_group(tensor, &matrix.rows, 3);
        let mean = matrix.rows[0].widened();
        let scale: Vec<f32> = mean.iter().map(|x| x.abs() / 100.0 + 0.01).collect();
        check_channel(tensor, &matrix.rows, Some(&mean), &scale, 3);
    }
}

#[test]
fn flags_are_those_of_the_frame() {
    let rows = [Rounded::of(Element::F32, &[f32::NAN, f32::INFINITY, 1e-44])];
    let plan = cuda::int8_row_plan(1, 3, tuning()).expect("rows");
    let got = code("int8_row", plan, &rows, (4, &[0, 0], 0, 0));
    assert_eq!(got[0].flags, flags::NAN | flags::INFINITY | flags::DENORMAL_SCALE);
    let mut codes = [0; 3];
    assert_eq!(int8::quantize(rows[0].row(), &mut codes).1, got[0].flags);
}
