//! [COMP-06], [COMP-07]: int8 with learned numbers, centring and steps, against their formulas.

use half::f16;
use kernels::int8::{centred, channel, group};
use kernels::{Level, Row, flags, rotation};
use proptest::prelude::*;

use crate::reference;
use crate::samples::{ELEMENTS, Owned};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn seen(t: &[f32]) -> u8 {
    let nan = if t.iter().any(|t| t.is_nan()) { flags::NAN } else { 0 };
    nan | if t.iter().any(|t| t.is_infinite()) { flags::INFINITY } else { 0 }
}

fn code(t: f32, scale: f32) -> i8 {
    if scale == 0.0 || !scale.is_finite() || t.is_nan() {
        0
    } else {
        (t / scale).round_ties_even().clamp(-127.0, 127.0) as i8
    }
}

/// One row against the formulas, at every level and in every format.
fn check(row: &[f32], mean: &[f32], scale: &[f32], masked: &[u32]) {
    for (element, _) in ELEMENTS {
        let owned = Owned::of(element, row);
        let wide = owned.widened();
        let t: Vec<f32> = wide.iter().zip(mean).map(|(x, mean)| x - mean).collect();
        for level in Level::ALL {
            check_channel(level, owned.row(), &t, mean, scale);
            check_centred(level, owned.row(), &t, mean, masked);
            check_group(level, owned.row(), &wide);
            check_center(level, owned.row(), &t, mean);
        }
    }
}

fn check_channel(level: Level, row: Row<'_>, t: &[f32], mean: &[f32], scale: &[f32]) {
    let mut codes = vec![99; t.len()];
    let got = channel::quantize_at(level, row, Some(mean), scale, &mut codes);
    let expected: Vec<i8> = t.iter().zip(scale).map(|(t, scale)| code(*t, *scale)).collect();
    assert_eq!((got, &codes), (seen(t), &expected), "{level:?}");
    let mut out = vec![0.0; t.len()];
    channel::restore_at(level, &codes, Some(mean), scale, &mut out);
    for ((out, code), (scale, mean)) in out.iter().zip(&codes).zip(scale.iter().zip(mean)) {
        let expected = f32::from(*code).mul_add(*scale, *mean);
        assert!(out.to_bits() == expected.to_bits() || (out.is_nan() && expected.is_nan()));
    }
}

fn check_centred(level: Level, row: Row<'_>, t: &[f32], mean: &[f32], masked: &[u32]) {
    let mut expected = t.to_vec();
    for channel in masked {
        if let Some(t) = expected.get_mut(*channel as usize) {
            *t = 0.0;
        }
    }
    let (codes, scale, seen) = reference::int8(&expected);
    let center = centred::Center { mean: Some(mean), masked };
    let (mut got, mut scratch) = (vec![99; t.len()], vec![9.0; t.len()]);
    let answer = centred::quantize_at(level, row, center, &mut scratch, &mut got);
    assert_eq!((answer.0.to_bits(), answer.1, &got), (scale.to_bits(), seen, &codes), "{level:?}");
    let mut out = vec![0.0; t.len()];
    centred::restore_at(level, &codes, scale, Some(mean), &mut out);
    let restored =
        codes.iter().zip(mean).map(|(code, mean)| f32::from(*code).mul_add(scale, *mean));
    assert_eq!(bits(&out), bits(&restored.collect::<Vec<_>>()));
}

fn check_group(level: Level, row: Row<'_>, wide: &[f32]) {
    let groups = wide.len().div_ceil(group::GROUP);
    let (mut codes, mut scales) = (vec![99; wide.len()], vec![f16::NAN; groups]);
    let got = group::quantize_at(level, row, &mut codes, &mut scales);
    assert_eq!(got, seen(wide), "{level:?}");
    let mut out = vec![0.0; wide.len()];
    group::restore_at(level, &codes, &scales, &mut out);
    for (at, x) in wide.iter().enumerate() {
        let members = wide.chunks(group::GROUP).nth(at / group::GROUP).expect("a group");
        let absmax = members.iter().filter(|x| x.is_finite()).fold(0.0_f32, |a, x| a.max(x.abs()));
        let scale = f16::from_f32(absmax / 127.0).min(f16::MAX);
        assert_eq!(scales[at / group::GROUP].to_bits(), scale.to_bits(), "{level:?}");
        assert_eq!(codes[at], code(*x, scale.to_f32()), "{level:?} {x} {scale}");
        assert_eq!(out[at].to_bits(), (f32::from(codes[at]) * scale.to_f32()).to_bits());
    }
}

fn check_center(level: Level, row: Row<'_>, t: &[f32], mean: &[f32]) {
    let mut out = vec![7.0; t.len()];
    rotation::subtract_at(level, row, Some(mean), &mut out);
    assert!(
        out.iter().zip(t).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
    );
    let clean: Vec<f32> = t.iter().map(|t| if t.is_finite() { *t } else { 0.0 }).collect();
    let (rms, got) = rotation::center_at(level, row, Some(mean), &mut out);
    assert_eq!(bits(&out), bits(&clean));
    let mut lanes = [0.0_f32; 16];
    clean.iter().enumerate().for_each(|(i, t)| lanes[i % 16] = t.mul_add(*t, lanes[i % 16]));
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|lane| lanes[lane] += lanes[lane + half]);
    }
    let expected = if t.is_empty() { 0.0 } else { (lanes[0] / t.len() as f32).sqrt() };
    assert_eq!((rms.to_bits(), got), (expected.to_bits(), seen(t)), "{level:?}");
    for step in [rms * 0.125, 0.0, f32::MIN_POSITIVE, f32::INFINITY, 3.0] {
        let mut codes = vec![9; t.len()];
        rotation::steps_at(level, t, step, &mut codes);
        for (t, code) in t.iter().zip(&codes) {
            let quotient = (t / step).round_ties_even().clamp(-32767.0, 32767.0);
            let expected = if step == 0.0 || quotient.is_nan() { 0 } else { quotient as i16 };
            assert_eq!(*code, expected, "{level:?} {t} {step}");
        }
        rotation::unstep(&codes, step, &mut out);
    }
}

#[test]
fn unusual_channels_have_codes() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let row = [1.0, -2.0, inf, -inf, nan, 0.0, 3.0, inf, nan, 1e30, -1e-40];
    let mean = [0.5, 0.0, 0.0, 1.0, 0.0, 0.0, inf, 0.0, 0.0, -1e30, 0.0];
    let scale = [0.0, 0.01, 0.1, 0.1, 0.1, 1.0, 1.0, 0.0, 0.0, 1e-38, inf];
    check(&row, &mean, &scale, &[2, 3, 4, 400]);
    let got = channel::quantize(Row::F32(&row), None, &scale, &mut [0; 11]);
    assert_eq!(got, flags::NAN | flags::INFINITY);
}

#[test]
fn absent_means_are_zero_and_short_outputs_cut() {
    let row: Vec<f32> = (0..70).map(|i| i as f32 - 30.5).collect();
    let (zeros, scale) = (vec![0.0; 70], vec![0.25; 70]);
    let (mut with, mut without) = ([0_i8; 70], [0_i8; 70]);
    channel::quantize(Row::F32(&row), Some(&zeros), &scale, &mut with);
    channel::quantize(Row::F32(&row), None, &scale, &mut without);
    assert_eq!(with, without);
    let mut t = [0.0; 70];
    let center = centred::Center::default();
    let plain = centred::quantize(Row::F32(&row), center, &mut t, &mut with);
    let zero = centred::Center { mean: Some(&zeros), masked: &[] };
    assert_eq!(centred::quantize(Row::F32(&row), zero, &mut t, &mut without), plain);
    assert_eq!(with, without);
    assert_eq!(rotation::center(Row::F32(&row), None, &mut t[..3]).0, (2612.75_f32 / 3.0).sqrt());
    assert_eq!(group::quantize(Row::F32(&row), &mut with, &mut [f16::ZERO; 1]), 0);
    assert_eq!(rotation::center(Row::F32(&[]), None, &mut t), (0.0, 0));
}

fn numbers(from: impl Strategy<Value = f32> + Clone) -> impl Strategy<Value = [Vec<f32>; 3]> {
    (0_usize..140).prop_flat_map(move |length| {
        let one = || prop::collection::vec(from.clone(), length);
        [one(), one(), one()]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_row(
        parts in numbers(-9.0_f32..9.0),
        power in -140_i32..100,
        masked in prop::collection::vec(0_u32..150, 0..5),
    ) {
        let [mut row, mean, mut scale] = parts;
        row.iter_mut().for_each(|x| *x *= 2.0_f32.powi(power));
        scale.iter_mut().for_each(|x| *x = x.abs() * 2.0_f32.powi(power - 5));
        check(&row, &mean, &scale, &masked);
    }

    #[test]
    fn any_bits(parts in numbers(any::<u32>().prop_map(f32::from_bits))) {
        let [row, mean, scale] = parts;
        check(&row, &mean, &scale, &[0, 5]);
    }
}
