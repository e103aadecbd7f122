//! [COMP-04], [COMP-06]: what is kept, in numbers.

use kernels::fidelity::{self, Reconstruction};
use kernels::topk::TopK;
use kernels::{Row, int8};

use crate::samples::Samples;

fn close(a: f64, b: f64, within: f64) {
    assert!((a - b).abs() <= within, "{a} {b}");
}

#[test]
fn the_whole_row_loses_nothing() {
    let row = [1.0_f32, 0.0, -1.0, 2.5];
    let (mut indices, mut values) = ([0; 4], [0.0; 4]);
    let summary = TopK::new().run(Row::F32(&row), 4, &mut indices, &mut values);
    let kept = fidelity::topk(Row::F32(&row), &indices, &values, summary.max, summary.log_sum)
        .expect("valid");
    close(kept.retained_mass, 1.0, 1e-12);
    close(kept.kl_renormalised, 0.0, 1e-12);
    close(kept.kl_with_tail, 0.0, 1e-6);
}

#[test]
fn an_equal_row_of_four_of_which_two_are_kept() {
    // P = 1/4 each. R = 1/2 each of two: KL(R || P) = ln 2. The tail is uniform: KL(P || Q) = 0.
    let row = [3.0_f32; 4];
    let log_sum = 4.0_f32.ln();
    let kept = fidelity::topk(Row::F32(&row), &[0, 1], &[3.0; 2], 3.0, log_sum).expect("valid");
    close(kept.retained_mass, 0.5, 1e-12);
    close(kept.kl_renormalised, 2.0_f64.ln(), 1e-12);
    close(kept.kl_with_tail, 0.0, 1e-6);
}

#[test]
fn kl_by_hand() {
    // P = (8, 4, 2, 1, 1) / 16, the first two kept: the tail says 4/3/16 for each of three.
    let row = [8.0_f32, 4.0, 2.0, 1.0, 1.0].map(f32::ln);
    let log_sum = 16.0_f32.ln() - row[0];
    let kept = fidelity::topk(Row::F32(&row), &[0, 1], &row[..2], row[0], log_sum).expect("valid");
    close(kept.retained_mass, 0.75, 1e-7);
    close(kept.kl_renormalised, -(0.75_f64.ln()), 1e-6);
    let tail = 2.0 / 16.0 * 1.5_f64.ln() + 2.0 / 16.0 * 0.75_f64.ln();
    close(kept.kl_with_tail, tail, 1e-6);
}

#[test]
fn nonsense_is_refused() {
    let row = Row::F32(&[1.0, 2.0]);
    assert!(fidelity::topk(row, &[2], &[1.0], 2.0, 0.3).is_none());
    assert!(fidelity::topk(row, &[0, 1], &[1.0], 2.0, 0.3).is_none());
    assert!(fidelity::topk(row, &[], &[], 2.0, 0.3).is_none());
    assert!(fidelity::topk(row, &[0], &[1.0], f32::INFINITY, 0.3).is_none());
    let infinite = Row::F32(&[f32::INFINITY, 2.0]);
    assert!(fidelity::topk(infinite, &[1], &[2.0], 2.0, 0.3).is_none());
}

#[test]
fn comp_04_a_hundred_of_a_real_row_keep_most_of_the_mass() {
    let logits = Samples::open("logits.safetensors");
    let tensor = logits.tensor("head.f32");
    let mut topk = TopK::new();
    for row in 0..tensor.rows {
        let (mut indices, mut values) = ([0; 100], [0.0; 100]);
        let got = topk.run(tensor.row(row), 100, &mut indices, &mut values);
        let kept = fidelity::topk(tensor.row(row), &indices, &values, got.max, got.log_sum)
            .expect("valid");
        assert!(kept.retained_mass > 0.5 && kept.retained_mass < 1.0);
        close(kept.kl_renormalised, -kept.retained_mass.ln(), 1e-9);
        assert!(kept.kl_with_tail > 0.0);
    }
}

#[test]
fn comp_06_int8_of_real_rows_keeps_more_than_forty_decibels() {
    let hidden = Samples::open("hidden.safetensors");
    let tensor = hidden.tensor("hidden.f16");
    let mut kept = Reconstruction::new();
    for row in 0..tensor.rows {
        let mut codes = vec![0; tensor.columns];
        let mut decoded = vec![0.0; tensor.columns];
        let (scale, _) = int8::quantize(tensor.row(row), &mut codes);
        int8::dequantize(&codes, scale, &mut decoded);
        kept.add(&tensor.widened(row), &decoded);
    }
    assert!(kept.snr_db() > 40.0, "{}", kept.snr_db());
    // Computed by numpy in f64 from the committed codes and scales.
    close(kept.relative_error(), 0.008_608_273_9, 1e-8);
    close(kept.cosine_mean(), 0.999_967_026_6, 1e-9);
    close(kept.cosine_least(), 0.999_446_691_2, 1e-9);
    close(kept.error_largest(), 0.019_315_943_1, 1e-7);
    close(kept.snr_db(), -20.0 * kept.relative_error().log10(), 1e-9);
}

#[test]
fn errors_by_hand() {
    let mut kept = Reconstruction::new();
    assert_eq!((kept.relative_error(), kept.cosine_mean()), (0.0, 1.0));
    kept.add(&[3.0, 4.0, f32::NAN], &[3.0, 3.5, 9.0]);
    close(kept.relative_error(), 0.1, 1e-12);
    close(kept.snr_db(), 20.0, 1e-9);
    close(kept.error_largest(), 0.5, 0.0);
    close(kept.cosine_least(), 23.0 / (5.0 * 21.25_f64.sqrt()), 1e-12);
    kept.add(&[0.0], &[0.0]);
    close(kept.cosine_mean(), f64::midpoint(kept.cosine_least(), 1.0), 1e-12);
}
