//! Logits from hidden rows against float64, and levels and batch sizes against each other.

use kernels::lmhead::{self, Weights};
use kernels::topk::TopK;
use kernels::{Level, Row};

use crate::reference::Random;
use crate::samples::{ELEMENTS, Owned, Samples};

#[test]
fn agrees_with_float64_on_a_real_projection() {
    let (head, rows) =
        (Samples::open("lm_head.safetensors"), Samples::open("lm_head_rows.safetensors"));
    let weight = head.tensor("weight");
    let bias = head.tensor("bias").f32s();
    let weights = Weights::new(weight.whole(), weight.columns, Some(&bias)).expect("shape");
    assert_eq!((weights.vocabulary(), weights.width()), (8192, 384));
    let features = rows.tensor("features");
    let mut logits = vec![0.0; features.rows * weights.vocabulary()];
    lmhead::logits(&features.f32s(), &weights, &mut logits).expect("shape");

    let (indices, values) = (rows.tensor("top100.indices"), rows.tensor("top100.values").f64s());
    let logsumexp = rows.tensor("logsumexp").f64s();
    let mut topk = TopK::new();
    for (row, logits) in logits.chunks(weights.vocabulary()).enumerate() {
        let (mut best, mut scores) = ([0; 100], [0.0; 100]);
        let summary = topk.run(Row::F32(logits), 100, &mut best, &mut scores);
        assert_eq!((summary.count, summary.flags), (100, 0));
        let exact = &values[row * 100..][..100];
        for (place, index) in indices.indices(row).iter().enumerate() {
            // Neighbours may change places where f32 cannot tell them apart; values may not move.
            assert!((f64::from(scores[place]) - exact[place]).abs() < 2e-5);
            assert!((f64::from(logits[*index as usize]) - exact[place]).abs() < 2e-5);
        }
        let error = f64::from(summary.max) + f64::from(summary.log_sum) - logsumexp[row];
        assert!(error.abs() < 5e-6, "{row}: {error}");
    }
}

/// The order that `lmhead.rs` documents, in plain Rust.
fn by_definition(rows: &[f32], matrix: &[f32], width: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = Vec::new();
    for row in rows.chunks(width) {
        for (column, weights) in matrix.chunks(width).enumerate() {
            let mut lanes = [0.0_f32; 16];
            for (place, (h, w)) in row.iter().zip(weights).enumerate() {
                lanes[place % 16] = h.mul_add(*w, lanes[place % 16]);
            }
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    lanes[lane] += lanes[lane + half];
                }
            }
            out.push(bias.map_or(lanes[0], |bias| lanes[0] + bias[column]));
        }
    }
    out
}

#[test]
fn every_level_shape_and_batch_gives_the_defined_bits() {
    let mut random = Random(21);
    for (count, vocabulary, width) in [
        (1, 1, 1),
        (1, 30, 16),
        (2, 13, 17),
        (3, 12, 31),
        (5, 25, 64),
        (7, 40, 15),
        (8, 24, 48),
        (9, 37, 100),
        (15, 11, 33),
        (20, 14, 130),
    ] {
        let mut some = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f32>>();
        let (rows, values, bias) =
            (some(count * width), some(vocabulary * width), some(vocabulary));
        for (element, _) in ELEMENTS {
            let owned = Owned::of(element, &values);
            let bytes = owned.shifted(3);
            let matrix = Row::from_bytes(element, &bytes[3..]).expect("whole entries");
            for bias in [None, Some(&bias[..])] {
                let expected = by_definition(&rows, &owned.widened(), width, bias);
                let expected: Vec<u32> = expected.iter().map(|x| x.to_bits()).collect();
                let weights = Weights::new(matrix, width, bias).expect("shape");
                for level in Level::ALL {
                    let mut out = vec![7.0; count * vocabulary];
                    lmhead::logits_at(level, &rows, &weights, &mut out).expect("shape");
                    let out: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                    assert_eq!(out, expected, "{level:?} {count} {vocabulary} {width}");
                }
            }
        }
    }
}

#[test]
fn parts_of_the_vocabulary_make_the_whole() {
    let mut random = Random(22);
    let mut some = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f32>>();
    let (row, matrix, bias) = (some(40), some(40 * 50), some(50));
    let weights = Weights::new(Row::F32(&matrix), 40, Some(&bias)).expect("shape");
    let mut whole = vec![0.0; 50];
    lmhead::logits(&row, &weights, &mut whole).expect("shape");
    let mut parts = vec![0.0; 50];
    for range in [0..17, 17..17, 17..50] {
        let part = weights.part(range.clone()).expect("in range");
        lmhead::logits(&row, &part, &mut parts[range]).expect("shape");
    }
    assert_eq!(whole, parts);
    assert!(weights.part(40..51).is_none());
    let reversed = std::ops::Range { start: 5, end: 4 };
    assert!(weights.part(reversed).is_none());
}

#[test]
fn wrong_shapes_are_refused() {
    let matrix = [0.5_f32; 12];
    assert!(Weights::new(Row::F32(&matrix), 0, None).is_none());
    assert!(Weights::new(Row::F32(&matrix), 5, None).is_none());
    assert!(Weights::new(Row::F32(&matrix), 4, Some(&[0.0; 2])).is_none());
    let weights = Weights::new(Row::F32(&matrix), 4, Some(&[0.0; 3])).expect("shape");
    assert!(lmhead::logits(&[1.0; 5], &weights, &mut [0.0; 3]).is_err());
    assert!(lmhead::logits(&[1.0; 8], &weights, &mut [0.0; 3]).is_err());
    assert!(lmhead::logits(&[1.0; 8], &weights, &mut [0.0; 6]).is_ok());
    assert!(lmhead::logits(&[], &weights, &mut []).is_ok());
}
