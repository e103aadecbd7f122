//! The receiver's kernels: what codes and sets stand for is what the CPU says.

use cuda_shim::{Args, Memory, launch};
use half::{bf16, f16};
use kernels::cuda::{self, DenseJob, ScatterJob, Tuning, dtype};
use kernels::int8::{centred, channel, group};
use kernels::{Element, Row, cast};

use crate::data::{Random, Rounded};

const DTYPES: [(u32, usize); 3] = [(dtype::F32, 4), (dtype::F16, 2), (dtype::BF16, 2)];

fn rounded(values: &[f32], as_dtype: u32) -> Vec<u8> {
    let mut f16s = vec![f16::ZERO; values.len()];
    let mut bf16s = vec![bf16::ZERO; values.len()];
    match as_dtype {
        dtype::F32 => return values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        dtype::F16 => cast::to_f16(values, &mut f16s),
        _ => {
            cast::to_bf16(values, &mut bf16s);
            return bf16s.iter().flat_map(|x| x.to_le_bytes()).collect();
        }
    }
    f16s.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Restores one row and compares it with `expected`, for every dtype and alignment.
fn check(kernel: &str, codes: &[i8], scales: &[u8], more: &[u64], expected: &[f32]) {
    let cols = codes.len();
    for (as_dtype, size) in DTYPES {
        for shift in [0, 1] {
            let mut code_memory = Memory::shifted(cols, shift);
            code_memory.bytes_mut().copy_from_slice(bytemuck_bytes(codes));
            let (scale_memory, out) = (Memory::of(scales), Memory::shifted(cols * size, shift * 4));
            let jobs = Memory::of(&[DenseJob {
                codes: code_memory.address(),
                scales: scale_memory.address(),
                out: out.address(),
            }]);
            let args = Args::new().address(jobs.address()).number(cols as u32);
            let args = more.iter().fold(args, |args, address| args.address(*address));
            let plan = cuda::dense_plan(1, cols as u32, Tuning::for_capability(7, 5, 40));
            launch(kernel, plan.expect("rows"), &args.number(as_dtype), shift as u64)
                .unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(out.bytes(), rounded(expected, as_dtype), "{kernel} {as_dtype} cols {cols}");
            assert!(out.is_intact(), "{kernel}: written outside");
        }
    }
}

fn bytemuck_bytes(codes: &[i8]) -> &[u8] {
    bytemuck::cast_slice(codes)
}

#[test]
fn rows_channels_and_groups_are_restored() {
    let mut random = Random::new(13);
    for cols in [0_usize, 1, 7, 8, 9, 33, 384, 2050] {
        let codes: Vec<i8> = (0..cols).map(|_| random.next() as i8).collect();
        let (mean, scale) = (random.normals(cols, 1.0), random.normals(cols, 0.01));
        let (means, scales) = (Memory::of(&mean), Memory::of(&scale));
        let mut out = vec![0.0; cols];
        for size in [0.037, -0.0, 1e-40, 1e30] {
            centred::restore(&codes, size, Some(&mean), &mut out);
            let bytes = size.to_le_bytes();
            check("restore_row", &codes, &bytes, &[means.address()], &out);
            centred::restore(&codes, size, None, &mut out);
            check("restore_row", &codes, &bytes, &[0], &out);
        }
        channel::restore(&codes, Some(&mean), &scale, &mut out);
        check("restore_channel", &codes, &[], &[means.address(), scales.address()], &out);
        channel::restore(&codes, None, &scale, &mut out);
        check("restore_channel", &codes, &[], &[0, scales.address()], &out);
        let halves: Vec<f16> =
            (0..cols.div_ceil(32)).map(|_| f16::from_bits(random.next() as u16 & 0x7bff)).collect();
        group::restore(&codes, &halves, &mut out);
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        check("restore_group", &codes, &bytes, &[], &out);
    }
}

/// Scatters one set; gives the row.
fn scatter(cols: u32, k: u32, indices: &[u32], values: &[u8], dtypes: (u32, u32)) -> Vec<u8> {
    let size = if dtypes.1 == dtype::F32 { 4 } else { 2 };
    let (index_memory, value_memory) = (Memory::of(indices), Memory::of(values));
    let count = Memory::of(&[indices.len() as u32]);
    let out = Memory::shifted(cols as usize * size, size);
    let jobs = Memory::of(&[ScatterJob {
        indices: index_memory.address(),
        values: value_memory.address(),
        count: count.address(),
        out: out.address(),
    }]);
    let args = Args::new().address(jobs.address()).number(cols).number(k);
    let args = args.float(f32::NEG_INFINITY).number(dtypes.0).number(dtypes.1);
    let plan = cuda::dense_plan(1, cols, Tuning::for_capability(7, 5, 40)).expect("rows");
    launch("scatter_topk", plan, &args, 3).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(out.is_intact(), "written outside");
    out.bytes().to_vec()
}

#[test]
fn a_set_is_spread_over_its_row() {
    let (indices, values) = ([5, 0, 999, 1000, u32::MAX, 77], [3.0_f32, 2.5, -1.0, 9.0, 9.0, 0.5]);
    let mut expected = vec![f32::NEG_INFINITY; 1000];
    for at in [0, 1, 2, 5] {
        expected[indices[at] as usize] = values[at];
    }
    for (values_dtype, _) in DTYPES {
        for (out_dtype, _) in DTYPES {
            let bytes = rounded(&values, values_dtype);
            let out = scatter(1000, 6, &indices, &bytes, (values_dtype, out_dtype));
            assert_eq!(out, rounded(&expected, out_dtype));
        }
    }
    // A count beyond k is hostile: no more than k are read.
    let out = scatter(1000, 1, &indices, &rounded(&values, dtype::F32), (dtype::F32, dtype::F32));
    assert_eq!(out.chunks(4).filter(|x| *x != f32::NEG_INFINITY.to_le_bytes()).count(), 1);
}

/// [COMP-03]: the conversions of `common.cuh`, all of one way and many of the other.
#[test]
fn comp_03_conversions_are_those_of_the_cpu() {
    let all: Vec<u32> = (0..=0xffff).collect();
    for (element, code) in [(Element::F16, dtype::F16), (Element::Bf16, dtype::BF16)] {
        let bytes: Vec<u8> = all.iter().flat_map(|bits| (*bits as u16).to_le_bytes()).collect();
        let out = scatter(0x10000, 0x10000, &all, &bytes, (code, dtype::F32));
        let mut widened = vec![0.0; all.len()];
        Row::from_bytes(element, &bytes).expect("whole").widen(&mut widened);
        for (got, expected) in out.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).zip(widened)
        {
            let same = got.to_bits() == expected.to_bits();
            assert!(same || got.is_nan() && expected.is_nan(), "{got} {expected}");
        }
    }
    let mut random = Random::new(14);
    let mut values: Vec<f32> = (0..40_000).map(|_| f32::from_bits(random.next())).collect();
    // The range of f16, its ends, and the middles between its numbers.
    values.extend((0..20_000).map(|_| f32::from_bits(0x3000_0000 + (random.next() & 0x1fff_ffff))));
    let halves = Rounded::of(Element::F16, &random.normals(5_000, 1e-6)).widened();
    values.extend(halves.iter().flat_map(|x| [*x, x * (1.0 + 1.0 / 2048.0), x * 1.000_000_1]));
    values.truncate(60_000);
    values.extend([65_504.0, 65_519.99, 65_520.0, 65_536.0, 5.96e-8, 2.98e-8, 2.980_232_6e-8]);
    let indices: Vec<u32> = (0..values.len() as u32).collect();
    let bytes = rounded(&values, dtype::F32);
    for out_dtype in [dtype::F16, dtype::BF16] {
        let count = values.len() as u32;
        let out = scatter(count, count, &indices, &bytes, (dtype::F32, out_dtype));
        assert_eq!(out, rounded(&values, out_dtype));
    }
}
