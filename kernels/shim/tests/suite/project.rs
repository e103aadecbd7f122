//! [COMP-01]: products of the CUDA kernels are those of the CPU.

use cuda_shim::{Args, Memory, launch};
use kernels::cuda::{self, Tuning};
use kernels::lmhead::{self, Weights};

use crate::data::{ELEMENTS, Random, Rounded, sample};

fn check(matrix: &Rounded, width: usize, rows: &[Vec<f32>], bias: Option<&[f32]>, seed: u64) {
    let weights = Weights::new(matrix.row(), width, bias).expect("shape");
    let outputs = weights.vocabulary();
    let (from, to): (Vec<Memory>, Vec<Memory>) =
        rows.iter().map(|row| (Memory::of(row), Memory::shifted(4 * outputs, 4))).unzip();
    let addresses =
        |memory: &[Memory]| Memory::of(&memory.iter().map(Memory::address).collect::<Vec<_>>());
    let (from_table, to_table) = (addresses(&from), addresses(&to));
    // A matrix may lie anywhere.
    let shift = if seed.is_multiple_of(2) { 0 } else { matrix.element.size() };
    let mut entries = Memory::shifted(matrix.bytes.len(), shift);
    entries.bytes_mut().copy_from_slice(&matrix.bytes);
    let bias_memory = Memory::of(bias.unwrap_or_default());
    let args = Args::new()
        .address(from_table.address())
        .number(rows.len() as u32)
        .address(entries.address())
        .number(width as u32)
        .number(outputs as u32)
        .address(if bias.is_some() { bias_memory.address() } else { 0 })
        .address(to_table.address());
    let plan =
        cuda::project_plan(rows.len() as u32, outputs as u32, Tuning::for_capability(9, 0, 132))
            .expect("a plan");
    let name = format!("project_{}", cuda::suffix(matrix.element));
    launch(&name, plan, &args, seed).unwrap_or_else(|fault| panic!("{fault}"));
    let mut logits = vec![0.0; rows.len() * outputs];
    lmhead::logits(&rows.concat(), &weights, &mut logits).expect("shape");
    for (number, (expected, got)) in logits.chunks(outputs).zip(&to).enumerate() {
        let expected: Vec<u32> = expected.iter().map(|x| x.to_bits()).collect();
        let what = format!("{name} {outputs}x{width}, row {number} of {}", rows.len());
        assert_eq!(got.read::<u32>(), expected, "{what}");
        assert!(got.is_intact(), "{what}: written outside");
    }
}

#[test]
fn every_shape() {
    let mut random = Random::new(12);
    for (at, (outputs, width)) in [
        (1, 1),
        (3, 15),
        (31, 16),
        (33, 17),
        (64, 64),
        (70, 100),
        (100, 65),
        (257, 384),
        (9, 520),
        (130, 1048),
    ]
    .into_iter()
    .enumerate()
    {
        let bias = random.normals(outputs, 1.0);
        for element in ELEMENTS {
            let matrix = Rounded::of(element, &random.normals(outputs * width, 0.1));
            for count in [1, 4, 5, 17] {
                let rows: Vec<_> = (0..count).map(|_| random.normals(width, 1.0)).collect();
                let bias = (count % 2 == 1).then_some(&bias[..]);
                check(&matrix, width, &rows, bias, at as u64);
                check(&matrix, width, &rows, bias, at as u64 + 1);
            }
        }
    }
}

/// Zeros of both signs and products that underflow: a lane that ends as -0 must stay it.
#[test]
fn signs_of_zero_survive() {
    for width in [1, 16, 20, 64, 70, 80] {
        let tiny = [1e-30_f32, -1e-30, 0.0, -0.0];
        let matrix: Vec<f32> = (0..40 * width).map(|at| tiny[at * 7 / 3 % 4]).collect();
        let rows: Vec<Vec<f32>> =
            (0..4).map(|row| (0..width).map(|at| tiny[(at / 2 + row) % 4]).collect()).collect();
        for element in ELEMENTS {
            let matrix = Rounded::of(element, &matrix);
            check(&matrix, width, &rows, None, 1);
            check(&matrix, width, &rows[..1], None, 2);
            check(&matrix, width, &[&rows[..], &rows[..]].concat(), None, 3);
        }
        let negative = [vec![-1e-30_f32; width]];
        check(&Rounded::of(ELEMENTS[0], &vec![1e-30; 40 * width]), width, &negative, None, 2);
    }
}

#[test]
fn comp_01_a_real_projection() {
    let weights = sample("lm_head.safetensors", "weight", 600);
    let features = sample("lm_head_rows.safetensors", "features", 6);
    let bytes = weights.rows.iter().flat_map(|row| row.bytes.clone()).collect();
    let matrix = Rounded { element: weights.rows[0].element, bytes };
    let rows: Vec<_> = features.rows.iter().map(Rounded::widened).collect();
    check(&matrix, weights.cols, &rows, None, 0);
    check(&matrix, weights.cols, &rows[..1], None, 4);
}
