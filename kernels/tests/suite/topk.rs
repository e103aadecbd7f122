//! [COMP-04], [COMP-07]: the k best entries and the normaliser.

use half::{bf16, f16};
use kernels::topk::{MAX_K, RowSummary, TopK};
use kernels::{Element, Level, Row, flags};
use proptest::prelude::*;

use crate::reference::{self, Random};
use crate::samples::{ELEMENTS, Owned, Samples};

const UNTOUCHED: (u32, f32) = (u32::MAX, -12345.0);

struct Answer {
    indices: Vec<u32>,
    values: Vec<f32>,
    summary: RowSummary,
}

fn run(topk: &mut TopK, row: Row<'_>, k: usize) -> Answer {
    let mut indices = vec![UNTOUCHED.0; k];
    let mut values = vec![UNTOUCHED.1; k];
    let summary = topk.run(row, k, &mut indices, &mut values);
    let count = summary.count as usize;
    assert!(indices[count..].iter().all(|i| *i == UNTOUCHED.0), "filler");
    assert!(values[count..].iter().all(|v| *v == UNTOUCHED.1), "filler");
    indices.truncate(count);
    values.truncate(count);
    Answer { indices, values, summary }
}

fn scratches() -> Vec<TopK> {
    Level::ALL.into_iter().map(TopK::with_level).collect()
}

/// Every level against the reference and against each other, bit for bit.
fn check(topks: &mut [TopK], row: Row<'_>, widened: &[f32], k: usize) {
    let (indices, values) = reference::topk(widened, k);
    let max = values.first().copied().unwrap_or(f32::NEG_INFINITY);
    let mut first: Option<RowSummary> = None;
    for topk in topks {
        let level = topk.level();
        let answer = run(topk, row, k);
        assert_eq!(answer.indices, indices, "{level:?} k {k} n {}", widened.len());
        let bits = |values: &[f32]| values.iter().map(|v| (v + 0.0).to_bits()).collect::<Vec<_>>();
        let returned: Vec<u32> = answer.values.iter().map(|v| v.to_bits()).collect();
        assert_eq!(returned, bits(&values), "{level:?}");
        let got = answer.summary;
        assert_eq!(got.max.to_bits(), (max + 0.0).to_bits());
        assert_eq!(got.flags & flags::NAN != 0, widened.iter().any(|x| x.is_nan()));
        assert_eq!(got.flags & flags::FEWER_THAN_K != 0, indices.len() < k);
        let is_infinite = !widened.is_empty() && max.is_infinite();
        assert_eq!(got.flags & flags::INFINITY != 0, is_infinite);
        assert_eq!(got.flags & !(flags::NAN | flags::FEWER_THAN_K | flags::INFINITY), 0);
        let expected = if max.is_finite() {
            reference::log_sum(widened)
        } else {
            (widened.iter().filter(|x| **x == max).count() as f64).ln()
        };
        let log_sum = f64::from(got.log_sum);
        assert!(log_sum == expected || (log_sum - expected).abs() < 1e-6, "{log_sum} {expected}");
        let same = first.get_or_insert(got);
        assert_eq!(same.log_sum.to_bits(), got.log_sum.to_bits(), "{level:?} n {}", widened.len());
    }
}

fn check_all(topks: &mut [TopK], values: &[f32], ks: &[usize]) {
    for (element, _) in ELEMENTS {
        let owned = Owned::of(element, values);
        let widened = owned.widened();
        for k in ks {
            check(topks, owned.row(), &widened, *k);
        }
    }
}

#[test]
fn comp_04_agrees_with_torch_on_real_and_emulated_logits() {
    let (logits, oracle) = (Samples::open("logits.safetensors"), Samples::open("topk.safetensors"));
    let mut topk = TopK::new();
    let mut compared = 0;
    let sets = [
        ("head", "head.f32"),
        ("tied", "tied.f16"),
        ("wide_bf16", "wide.bf16"),
        ("wide_f32", "wide.f32"),
    ];
    for (set, stored) in sets {
        let stored = logits.tensor(stored);
        for (element, dtype) in ELEMENTS {
            for k in [100, MAX_K] {
                let name = format!("{set}.{dtype}.k{k}");
                let Some(indices) = oracle.find(&format!("{name}.indices")) else { continue };
                let values = oracle.tensor(&format!("{name}.values"));
                let logsumexp = oracle.tensor(&format!("{set}.{dtype}.logsumexp")).f64s();
                for (row, logsumexp) in logsumexp.iter().enumerate().take(indices.rows) {
                    let owned = Owned::of(element, &stored.widened(row));
                    for prefix in [1, 8, k] {
                        let answer = run(&mut topk, owned.row(), prefix);
                        assert_eq!(answer.indices, indices.indices(row)[..prefix], "{name} {row}");
                        assert_eq!(answer.values, values.widened(row)[..prefix], "{name} {row}");
                        let RowSummary { max, log_sum, flags, .. } = answer.summary;
                        assert_eq!(flags, 0);
                        let error = f64::from(max) + f64::from(log_sum) - logsumexp;
                        assert!(error.abs() < 1e-6, "{name} {row}: {error}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn levels_agree_bit_for_bit_on_real_logits() {
    let logits = Samples::open("logits.safetensors");
    let mut topks = scratches();
    for name in ["head.f32", "tied.f16", "wide.bf16", "wide.f32"] {
        let tensor = logits.tensor(name);
        check(&mut topks, tensor.row(0), &tensor.widened(0), 100);
    }
}

#[test]
fn every_length_around_the_vector_width() {
    let mut topks = scratches();
    let mut random = Random(1);
    for n in 0..=200 {
        let values: Vec<f32> = (0..n).map(|_| random.normal() * 4.0).collect();
        check_all(&mut topks, &values, &[1, 7, n.max(1), n + 1, 100]);
    }
}

#[test]
fn lengths_around_group_boundaries() {
    let mut topks = scratches();
    let mut random = Random(2);
    for n in [4095, 4096, 4097, 4111, 4112, 8192, 8193, 50_257, 65_537] {
        let values: Vec<f32> = (0..n).map(|_| random.normal() * 3.0).collect();
        check_all(&mut topks, &values, &[1, 100, MAX_K]);
    }
}

#[test]
fn the_widest_vocabulary_and_beyond() {
    let mut topks = vec![TopK::new(), TopK::with_level(Level::Avx2)];
    let mut random = Random(3);
    for n in [262_144, 300_001, 1_100_000] {
        let values: Vec<f32> = (0..n).map(|_| random.normal() * 3.0).collect();
        check(&mut topks, Row::F32(&values), &values, MAX_K);
    }
}

#[test]
fn shapes_of_rows_that_break_selections() {
    let mut topks = scratches();
    let n = 20_000_usize;
    let mut random = Random(4);
    let line = |f: &dyn Fn(usize) -> f32| (0..n).map(f).collect::<Vec<f32>>();
    let mut rows = vec![
        line(&|_| 0.0),
        line(&|_| -3.5),
        line(&|_| f32::NEG_INFINITY),
        line(&|_| f32::INFINITY),
        line(&|_| f32::NAN),
        line(&|i| i as f32),
        line(&|i| -(i as f32)),
        line(&|i| (i / 500) as f32),
        line(&|i| -((i / 500) as f32)),
        line(&|i| if i % 2 == 0 { 0.0 } else { -0.0 }),
        line(&|i| if i % 3 == 0 { f32::NAN } else { (i % 50) as f32 }),
        line(&|i| if i < n - 70 { f32::NEG_INFINITY } else { i as f32 / 1e4 }),
        line(&|i| if i % 400 == 399 { f32::INFINITY } else { (i % 7) as f32 }),
        line(&|i| f32::from_bits(i as u32)),
        line(&|i| -f32::from_bits((n - i) as u32)),
        line(&|i| f32::from_bits(0x7f7f_ffff - (i % 1000) as u32)),
        line(&|i| -f32::from_bits(0x7f7f_ffff - (i % 1000) as u32)),
    ];
    // All the best in one place: few groups hold them all.
    rows.push((0..n).map(|i| random.normal() + if i < 1000 { 20.0 } else { 0.0 }).collect());
    // Few distinct values, so that the k-th is tied thousands of times.
    rows.push((0..n).map(|_| (random.normal() * 2.0).round()).collect());
    for row in &rows {
        check_all(&mut topks, row, &[1, 100, MAX_K]);
    }
}

#[test]
fn nan_at_every_place_of_a_short_row() {
    let mut topks = scratches();
    for n in [1, 15, 16, 17, 33, 70] {
        for place in 0..n {
            let mut row: Vec<f32> = (0..n).map(|i| (i * 7 % 13) as f32).collect();
            row[place] = if place % 2 == 0 { f32::NAN } else { -f32::NAN };
            check_all(&mut topks, &row, &[1, n]);
        }
    }
}

#[test]
fn rows_start_at_any_byte() {
    let mut topks = scratches();
    let mut random = Random(5);
    let values: Vec<f32> = (0..5_003).map(|_| random.normal()).collect();
    for (element, _) in ELEMENTS {
        let owned = Owned::of(element, &values);
        for shift in [0, 1, 2, 3, 5, 16, 31, 33] {
            let bytes = owned.shifted(shift);
            let row = Row::from_bytes(element, &bytes[shift..]).expect("whole entries");
            check(&mut topks, row, &owned.widened(), 100);
        }
    }
    assert!(Row::from_bytes(Element::F32, &[0; 7]).is_none());
    assert!(Row::from_bytes(Element::Bf16, &[0; 7]).is_none());
}

#[test]
fn scratch_remembers_nothing() {
    let mut random = Random(6);
    let mut used = TopK::new();
    for _ in 0..60 {
        let n = 1 + random.below(9_000);
        let spread = random.normal() * 20.0;
        let row: Vec<f32> = (0..n)
            .map(|_| match random.below(50) {
                0 => f32::NAN,
                1 => f32::NEG_INFINITY,
                _ => random.normal().mul_add(spread, spread * 3.0),
            })
            .collect();
        let k = 1 + random.below(MAX_K);
        let again = run(&mut used, Row::F32(&row), k);
        let fresh = run(&mut TopK::new(), Row::F32(&row), k);
        assert_eq!(again.indices, fresh.indices);
        assert_eq!(again.summary.log_sum.to_bits(), fresh.summary.log_sum.to_bits());
    }
}

#[test]
fn k_is_bounded_by_the_room_and_by_its_limit() {
    let row: Vec<f32> = (0..3000).map(|i| i as f32).collect();
    let mut topk = TopK::new();
    let (mut indices, mut values) = ([0; 2000], [0.0; 10]);
    let summary = topk.run(Row::F32(&row), 20, &mut indices, &mut values);
    assert_eq!((summary.count, summary.flags), (10, flags::FEWER_THAN_K));
    let mut values = [0.0; 2000];
    let summary = topk.run(Row::F32(&row), 2000, &mut indices, &mut values);
    assert_eq!((summary.count as usize, summary.flags), (MAX_K, flags::FEWER_THAN_K));
    let summary = topk.run(Row::F32(&row), 0, &mut indices, &mut values);
    assert_eq!((summary.count, summary.flags, summary.max), (0, 0, 2999.0));
}

#[test]
fn the_anchor_changes_nothing_but_the_last_bits() {
    let mut topks = scratches();
    let mut random = Random(7);
    let row: Vec<f32> = (0..10_000).map(|_| random.normal()).collect();
    for offset in [-1e4, -300.0, -60.0, -48.0, -40.0, 0.0, 44.0, 45.0, 48.0, 90.0, 300.0, 1e4] {
        let moved: Vec<f32> = row.iter().map(|x| x + offset).collect();
        check(&mut topks, Row::F32(&moved), &moved, 10);
    }
}

/// The normaliser by its definition, in plain f32 arithmetic with fused multiply-adds.
fn log_sum_by_definition(row: &[f32]) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let anchor = if (-48.0..=48.0).contains(&max) { 0.0 } else { max };
    let exp = |d: f32| {
        let d = if d > -86.0 { d } else { -86.0 };
        let power = d.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
        let n = power - 12_582_912.0;
        let r = n.mul_add(-std::f32::consts::LN_2, d);
        let p = [0.008_312_502, 0.041_890_334, 0.166_671_16, 0.499_992_3, 1.0, 1.0];
        let p = p.into_iter().reduce(|p: f32, c| p.mul_add(r, c)).expect("not empty");
        p * 2.0_f32.powi(n as i32)
    };
    let mut lanes = vec![0.0_f32; 4096];
    for (i, x) in row.iter().enumerate() {
        lanes[i % 4096] += exp(x - anchor);
    }
    while lanes.len() > 1 {
        let high = lanes.split_off(lanes.len() / 2);
        lanes.iter_mut().zip(high).for_each(|(low, high)| *low += high);
    }
    (f64::from(lanes[0]).ln() + (f64::from(anchor) - f64::from(max))) as f32
}

#[test]
fn the_normaliser_is_the_one_defined() {
    let mut random = Random(8);
    let mut topk = TopK::new();
    for n in [1, 5, 100, 4095, 4097, 30_522] {
        for offset in [0.0, 100.0, -100.0] {
            let row: Vec<f32> = (0..n).map(|_| random.normal().mul_add(4.0, offset)).collect();
            let got = run(&mut topk, Row::F32(&row), 1).summary.log_sum;
            let expected = log_sum_by_definition(&row);
            // The last step uses another logarithm, so its last bit may differ.
            assert!((got - expected).abs() <= got.abs() * f32::EPSILON, "{n} {got} {expected}");
        }
    }
}

fn any_entry() -> impl Strategy<Value = f32> {
    prop_oneof![
        20 => -30.0_f32..30.0,
        6 => (-4_i8..4).prop_map(f32::from),
        1 => Just(f32::NAN),
        1 => Just(f32::NEG_INFINITY),
        1 => prop_oneof![Just(0.0_f32), Just(-0.0), Just(1e-40), Just(f32::MIN)],
        1 => any::<u32>().prop_map(f32::from_bits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_row_at_any_level(row in prop::collection::vec(any_entry(), 0..700), k in 1_usize..900) {
        check_all(&mut scratches(), &row, &[k]);
    }

    #[test]
    fn any_bits_as_halves(bits in prop::collection::vec(any::<u16>(), 0..900), k in 1_usize..400) {
        let mut topks = scratches();
        let halves: Vec<f16> = bits.iter().map(|b| f16::from_bits(*b)).collect();
        let widened: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        check(&mut topks, Row::F16(&halves), &widened, k);
        let halves: Vec<bf16> = bits.iter().map(|b| bf16::from_bits(*b)).collect();
        let widened: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        check(&mut topks, Row::Bf16(&halves), &widened, k);
    }
}
