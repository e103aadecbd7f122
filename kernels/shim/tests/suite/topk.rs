//! [COMP-04], [COMP-07]: top-k of the CUDA kernels is that of the CPU.

use cuda_shim::{Args, Launch, Memory, launch};
use half::{bf16, f16};
use kernels::cuda::{self, TopKJob, Tuning, dtype, topk_plan};
use kernels::topk::TopK;
use kernels::{Element, cast};

use crate::data::{ELEMENTS, Random, Rounded, adversarial, sample};

/// Parts of a row: 1 and 8 with four lanes to a thread, 32 with one.
fn tuning(split: u32) -> Tuning {
    let mut tuning = Tuning::for_capability(9, 0, 1);
    (tuning.blocks, tuning.split, tuning.spread) = (1024, split.min(8), u32::MAX);
    if split == 32 {
        (tuning.multiprocessors, tuning.spread) = (u32::MAX, 1);
    }
    tuning
}

/// How a batch is run.
#[derive(Clone, Copy, Debug)]
struct Way {
    k: u32,
    split: u32,
    seed: u64,
    values: u32,
    /// Bytes that rows lie behind an address that is a multiple of 16.
    shift: usize,
}

impl Way {
    const fn new(k: u32, split: u32, seed: u64) -> Self {
        Self { k, split, seed, values: dtype::F32, shift: 0 }
    }
}

/// The outputs of a row, laid out by the test.
struct Outputs {
    row: Memory,
    indices: Memory,
    values: Memory,
    count: Memory,
    numbers: Memory,
    flags: Memory,
}

impl Outputs {
    fn new(row: &Rounded, way: Way) -> Self {
        let mut memory = Memory::shifted(row.bytes.len(), way.shift);
        memory.bytes_mut().copy_from_slice(&row.bytes);
        let (size, k) = (if way.values == dtype::F32 { 4 } else { 2 }, way.k as usize);
        Self {
            row: memory,
            indices: Memory::shifted(4 * k, 4),
            values: Memory::shifted(size * k, size),
            count: Memory::shifted(4, 4),
            numbers: Memory::shifted(8, 4),
            flags: Memory::shifted(1, 3),
        }
    }

    fn job(&self) -> TopKJob {
        TopKJob {
            row: self.row.address(),
            indices: self.indices.address(),
            values: self.values.address(),
            count: self.count.address(),
            max: self.numbers.address(),
            log_sum: self.numbers.address() + 4,
            flags: self.flags.address(),
        }
    }
}

fn rounded(values: &[f32], as_dtype: u32) -> Vec<u8> {
    match as_dtype {
        dtype::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        dtype::F16 => {
            let mut to = vec![f16::ZERO; values.len()];
            cast::to_f16(values, &mut to);
            to.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        _ => {
            let mut to = vec![bf16::ZERO; values.len()];
            cast::to_bf16(values, &mut to);
            to.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
    }
}

/// Runs rows of one format and one length, and compares every bit with the CPU.
fn check(what: &str, rows: &[Rounded], way: Way) {
    let (element, cols) = (rows[0].element, rows[0].row().len());
    let outputs: Vec<Outputs> = rows.iter().map(|row| Outputs::new(row, way)).collect();
    let jobs = Memory::of(&outputs.iter().map(Outputs::job).collect::<Vec<_>>());
    let plan = topk_plan(rows.len() as u32, cols as u32, way.k.min(1024), tuning(way.split))
        .expect("a plan");
    let scratch = Memory::new(plan.scratch_len as usize);
    let name = |stage| format!("topk_{stage}_{}", cuda::suffix(element));
    let run = |name: &str, launch_as: Launch, args: Args| {
        if let Err(fault) = launch(name, launch_as, &args, way.seed) {
            panic!("{what} {way:?} cols {cols}: {fault}");
        }
    };
    let head = Args::new().address(jobs.address()).number(cols as u32).number(way.k);
    let head = head.number(plan.split);
    run(&name("scan"), plan.scan, head.clone().address(scratch.address()));
    run(&name("merge"), plan.merge, head.number(way.values).address(scratch.address()));
    assert!(scratch.is_intact() && jobs.is_intact());
    let mut cpu = TopK::new();
    for (row, out) in rows.iter().zip(&outputs) {
        compare(&format!("{what} {element:?} cols {cols} {way:?}"), &mut cpu, row, out, way);
    }
}

fn compare(what: &str, cpu: &mut TopK, row: &Rounded, out: &Outputs, way: Way) {
    let k = way.k as usize;
    let (mut indices, mut values) = (vec![0xcdcd_cdcd_u32; k], vec![0.0_f32; k]);
    let summary = cpu.run(row.row(), k, &mut indices, &mut values);
    let count = summary.count as usize;
    assert_eq!(out.count.read::<u32>(), [summary.count], "{what}");
    assert_eq!(out.indices.read::<u32>(), indices, "{what}");
    let mut bytes = rounded(&values[..count], way.values);
    bytes.resize(out.values.bytes().len(), Memory::POISON);
    assert_eq!(out.values.bytes(), bytes, "{what}: values");
    let numbers: Vec<u32> = out.numbers.read();
    assert_eq!(numbers[0], summary.max.to_bits(), "{what}: max");
    assert_eq!(numbers[1], summary.log_sum.to_bits(), "{what}: log-sum");
    assert_eq!(out.flags.bytes(), [summary.flags], "{what}: flags");
    let all = [&out.row, &out.indices, &out.values, &out.count, &out.numbers, &out.flags];
    assert!(all.iter().all(|memory| memory.is_intact()), "{what}: written outside");
    assert_eq!(out.row.bytes(), row.bytes, "{what}: the row was written to");
}

#[test]
fn every_length_near_the_edges() {
    let mut random = Random::new(1);
    for cols in [0, 1, 2, 3, 5, 31, 64, 100, 2047, 2049, 4095, 4096, 4097, 6144, 8193, 12_291] {
        let values = random.normals(cols, 4.0);
        for (at, element) in ELEMENTS.into_iter().enumerate() {
            let row = [Rounded::of(element, &values)];
            for (k, split) in [(1, 1), (8, 8), (100, 2), (1024, 4), (100, 32)] {
                check("random", &row, Way::new(k, split, (cols + at) as u64 % 3));
            }
        }
    }
}

#[test]
fn every_schedule_gives_the_same() {
    let mut random = Random::new(2);
    let values = random.normals(9001, 4.0);
    for element in ELEMENTS {
        let rows = [Rounded::of(element, &values), Rounded::of(element, &values[..9001])];
        for seed in 0..6 {
            for split in [1, 8, 32] {
                check("schedules", &rows, Way::new(100, split, seed));
            }
        }
    }
}

#[test]
fn adversarial_rows() {
    for (cols, ks) in [(777, [1, 100, 1024]), (9001, [8, 100, 1024])] {
        for (at, (what, values)) in adversarial(cols).into_iter().enumerate() {
            for element in ELEMENTS {
                let row = [Rounded::of(element, &values)];
                for k in ks {
                    let split = [1, 8, 32, 2][(at + k as usize) % 4];
                    check(what, &row, Way::new(k, split, at as u64 % 4));
                }
            }
        }
    }
}

/// Blocks of many rows run in any order, each on its own scratch.
#[test]
fn rows_of_one_launch_do_not_disturb_each_other() {
    for (at, element) in ELEMENTS.into_iter().enumerate() {
        let rows = adversarial(4500).into_iter().chain(adversarial(4500));
        let rows: Vec<_> = rows.map(|(_, values)| Rounded::of(element, &values)).collect();
        check("a batch", &rows, Way::new(50, [2, 32, 8][at], at as u64));
    }
}

#[test]
fn more_ties_than_there_is_room_for() {
    for (what, values) in adversarial(50_257) {
        if ["equal", "signed zeros", "four values", "ties at the top", "all -inf"].contains(&what) {
            for (k, element) in [(1024, Element::Bf16), (100, Element::F32)] {
                check(what, &[Rounded::of(element, &values)], Way::new(k, 8, 1));
            }
        }
    }
}

#[test]
fn unaligned_rows_of_large_vocabularies() {
    let mut random = Random::new(3);
    for (element, cols, shifts) in [
        (Element::Bf16, 50_257, [2, 4]),
        (Element::F16, 32_001, [6, 14]),
        (Element::F32, 50_257, [4, 12]),
        (Element::Bf16, 200_003, [0, 2]),
    ] {
        let row = [Rounded::of(element, &random.normals(cols, 3.0))];
        for (shift, split) in shifts.into_iter().zip([8, 32]) {
            check("unaligned", &row, Way { shift, ..Way::new(100, split, 0) });
        }
    }
}

#[test]
fn values_are_rounded_as_on_the_cpu() {
    let mut random = Random::new(4);
    let mut values = random.normals(5000, 30_000.0);
    values.extend(random.normals(3000, 1e-6));
    for as_dtype in [dtype::F16, dtype::BF16] {
        for element in ELEMENTS {
            let row = [Rounded::of(element, &values)];
            check("rounded", &row, Way { values: as_dtype, ..Way::new(1000, 4, 2) });
            let row = [Rounded::of(element, &values[5000..])];
            check("rounded", &row, Way { values: as_dtype, ..Way::new(1000, 1, 0) });
        }
    }
}

#[test]
fn comp_04_real_logits() {
    for (tensor, rows, split) in [("head.f32", 3, 8), ("tied.f16", 2, 1), ("wide.bf16", 1, 32)] {
        let matrix = sample("logits.safetensors", tensor, rows);
        assert!(matrix.cols > 30_000);
        for (k, seed) in [(100, 1), (1024, 0)] {
            check(tensor, &matrix.rows, Way::new(k, split, seed));
        }
    }
}

#[test]
fn no_entry_and_too_many() {
    let row = [Rounded::of(Element::F32, &[3.0; 20])];
    check("k of 0", &row, Way::new(0, 1, 0));
    check("k beyond what there is", &row, Way::new(1024, 1, 0));
}
