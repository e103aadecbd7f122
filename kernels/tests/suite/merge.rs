//! Mixtures of top-k sets against the exact mixture of the full rows.

use kernels::merge::{Merge, MergeError, Merged, Source};
use kernels::topk::TopK;
use kernels::{Row, probability};
use proptest::prelude::*;

use crate::samples::Samples;

/// A set of a row, owned.
struct Set {
    indices: Vec<u32>,
    values: Vec<f32>,
    max: f32,
    log_sum: f32,
}

impl Set {
    fn of(row: &[f32], k: usize) -> Self {
        let (mut indices, mut values) = (vec![0; k], vec![0.0; k]);
        let got = TopK::new().run(Row::F32(row), k, &mut indices, &mut values);
        indices.truncate(got.count as usize);
        values.truncate(got.count as usize);
        Self { indices, values, max: got.max, log_sum: got.log_sum }
    }

    fn source(&self, weight: f32) -> Source<'_> {
        let (indices, values) = (&self.indices, &self.values);
        Source { weight, indices, values, max: self.max, log_sum: self.log_sum }
    }
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().fold(f64::NEG_INFINITY, |top, x| top.max(f64::from(*x)));
    let sum: f64 = row.iter().map(|x| (f64::from(*x) - top).exp()).sum();
    row.iter().map(|x| (f64::from(*x) - top).exp() / sum).collect()
}

/// The exact mixture.
fn mixture(rows: &[(Vec<f32>, f32)]) -> Vec<f64> {
    let total: f64 = rows.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let mut mixed = vec![0.0; rows[0].0.len()];
    for (row, weight) in rows {
        for (mixed, p) in mixed.iter_mut().zip(softmax(row)) {
            *mixed += f64::from(*weight) / total * p;
        }
    }
    mixed
}

/// Everything that a merge promises, against the truth.
fn check(merged: &Merged<'_>, exact: &[f64], k: usize) {
    // A normaliser is rounded to f32.
    let slack = 2e-6;
    assert!(merged.entries.len() <= k);
    let mut inside = 0.0;
    let mut estimates = 0.0;
    for entry in merged.entries {
        let p = exact[entry.index as usize];
        let (low, high) = (f64::from(entry.low), f64::from(entry.high));
        assert!(low <= p + slack && p <= high + slack, "{entry:?} {p}");
        let estimate = probability::exp(f64::from(entry.log_probability));
        assert!(low <= estimate + slack && estimate <= high + slack, "{entry:?} {estimate}");
        inside += p;
        estimates += estimate;
    }
    assert!(merged.entries.is_sorted_by(|a, b| {
        a.log_probability > b.log_probability
            || (a.log_probability == b.log_probability && a.index < b.index)
    }));
    assert!(estimates <= 1.0 + slack);
    let tail = merged.tail;
    assert!(tail.low <= 1.0 - inside + slack && 1.0 - inside <= tail.high + slack, "{tail:?}");
    assert!((tail.estimate - (1.0 - estimates)).abs() <= slack);
    for (index, p) in exact.iter().enumerate() {
        if merged.entries.iter().all(|entry| entry.index as usize != index) {
            assert!(*p <= merged.others + slack, "{p} {}", merged.others);
        }
    }
}

#[test]
fn by_hand() {
    // (8, 4, 2, 1, 1) / 16 and (1, 1, 2, 4, 8) / 16, two kept of each, weights 4 and 1.
    let rows = [[8.0_f32, 4.0, 2.0, 1.0, 1.0], [1.0, 1.0, 2.0, 4.0, 8.0]].map(|p| p.map(f32::ln));
    let sets = rows.map(|row| Set::of(&row, 2));
    let mut merge = Merge::new();
    let merged = merge.run(&[sets[0].source(4.0), sets[1].source(1.0)], 5, 3).expect("sets");
    // Each tail is 1/4, and an absent index has at most 1/4, in the middle 1/8: two of them make up
    // the tail.
    let expected = [(0, 0.4, 0.425, 0.45), (1, 0.2, 0.225, 0.25), (4, 0.1, 0.2, 0.3)];
    for (entry, (index, low, p, high)) in merged.entries.iter().zip(expected) {
        assert_eq!(entry.index, index);
        let estimate = entry.log_probability.exp();
        for (got, expected) in [(entry.low, low), (estimate, p), (entry.high, high)] {
            assert!((got - expected).abs() < 1e-6, "{entry:?}");
        }
    }
    // Index 3, which is left out: 1/4 of the second, up to 1/4 of the first.
    assert!((merged.others - 0.25).abs() < 1e-6, "{}", merged.others);
    assert!((merged.tail.estimate - 0.15).abs() < 1e-6, "{:?}", merged.tail);
    assert!((merged.tail.high - 0.3).abs() < 1e-6 && merged.tail.low < 1e-6);
    assert_eq!(merged.sources, 2);
}

#[test]
fn one_whole_row_is_itself() {
    let row = [3.0_f32, -1.0, 2.5, f32::NEG_INFINITY, 0.0];
    let set = Set::of(&row, 5);
    let mut merge = Merge::new();
    let merged = merge.run(&[set.source(0.1)], 5, 5).expect("a set");
    for (entry, (index, p)) in
        merged.entries.iter().zip([0, 2, 4, 1, 3].map(|i| (i, softmax(&row)[i])))
    {
        assert_eq!(entry.index as usize, index);
        assert!(entry.low <= entry.high && entry.high <= entry.low.next_up());
        assert!((f64::from(entry.high) - p).abs() < 1e-6);
    }
    assert!(merged.tail.high < 1e-6 && merged.others < 1e-6);
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let set = Set::of(&[1.0, 2.0, 3.0], 2);
    let mut merge = Merge::new();
    let mut fault = |source: Source<'_>, columns| merge.run(&[source], columns, 2).map(|_| ());
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(fault(set.source(weight), 3), Err(MergeError::Weight));
    }
    assert_eq!(fault(set.source(1.0), 2), Err(MergeError::Index));
    assert_eq!(fault(Source { indices: &[1, 1], ..set.source(1.0) }, 3), Err(MergeError::Index));
    assert_eq!(fault(Source { indices: &[1], ..set.source(1.0) }, 3), Err(MergeError::Values));
    for (max, log_sum) in [(f32::NAN, 1.0), (3.0, f32::NAN), (2.9, 1.0)] {
        let odd = Source { max, log_sum, ..set.source(1.0) };
        assert_eq!(fault(odd, 3), Err(MergeError::Values));
    }
    assert_eq!(merge.run(&[], 3, 2).map(|_| ()), Err(MergeError::Nothing));
    let empty = Set::of(&[f32::NAN; 3], 2);
    assert_eq!(merge.run(&[empty.source(1.0)], 3, 2).map(|_| ()), Err(MergeError::Nothing));
    let merged = merge.run(&[empty.source(1.0), set.source(1.0)], 3, 2).expect("one set");
    assert_eq!((merged.sources, merged.entries.len()), (1, 2));
}

#[test]
fn real_rows_merge_within_their_bounds() {
    let logits = Samples::open("logits.safetensors");
    let tensor = logits.tensor("head.f32");
    let rows: Vec<(Vec<f32>, f32)> =
        (0..4).map(|row| (tensor.widened(row), 1.0 + row as f32)).collect();
    let sets: Vec<Set> = rows.iter().map(|(row, _)| Set::of(row, 100)).collect();
    let sources: Vec<_> = sets.iter().zip(&rows).map(|(set, (_, w))| set.source(*w)).collect();
    let mut merge = Merge::new();
    let merged = merge.run(&sources, tensor.columns as u32, 100).expect("sets");
    let exact = mixture(&rows);
    check(&merged, &exact, 100);
    // The bounds are of use: what is not known is a small part.
    let unknown: f32 = merged.entries.iter().map(|entry| entry.high - entry.low).sum();
    assert!(unknown < 0.1, "{unknown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bounds_hold_for_any_rows(
        (rows, k) in (1_usize..60, 1_usize..6).prop_flat_map(|(columns, sources)| {
            let row = prop::collection::vec(-8.0_f32..8.0, columns);
            (prop::collection::vec((row, 0.01_f32..5.0), sources), 1..=columns)
        }),
        keep in 1_usize..80,
    ) {
        let sets: Vec<Set> = rows.iter().map(|(row, _)| Set::of(row, k)).collect();
        let sources: Vec<_> = sets.iter().zip(&rows).map(|(set, (_, w))| set.source(*w)).collect();
        let mut merge = Merge::new();
        let merged = merge.run(&sources, rows[0].0.len() as u32, keep).expect("sets");
        check(&merged, &mixture(&rows), keep);
    }

    #[test]
    fn anything_is_merged_or_refused(
        parts in prop::collection::vec((any::<u32>(), any::<u32>()), 0..20),
        max in any::<u32>(), log_sum in any::<u32>(), weight in any::<u32>(), columns in 0_u32..9,
    ) {
        let indices: Vec<u32> = parts.iter().map(|(index, _)| index % 8).collect();
        let values: Vec<f32> = parts.iter().map(|(_, value)| f32::from_bits(*value)).collect();
        let [max, log_sum, weight] = [max, log_sum, weight].map(f32::from_bits);
        let source = Source { weight, indices: &indices, values: &values, max, log_sum };
        let _ = Merge::new().run(&[source, source], columns, 5);
    }
}
