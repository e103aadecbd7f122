//! [COMP-06], [COMP-07]: coded hidden states.

use codec::basis::{Basis, BasisFault, Parts};
use codec::{BasisId, Coding, Fault, fit::Fit, hidden};
use kernels::{Element, Row, lmhead, rotation};
use proptest::prelude::*;
use wire::{Dtype, flags};

const CODINGS: [Coding; 5] =
    [Coding::Int8Channel, Coding::Int8Group, Coding::Int8Centred, Coding::Rotated, Coding::Pca];

/// A small basis with everything: the rotation turns neighbouring channels by a right-angled
/// triangle of sides 3, 4 and 5.
fn basis(width: usize) -> Basis {
    let mut rotation = vec![0.0; width * width];
    for channel in 0..width {
        let partner = channel ^ 1;
        if partner < width {
            rotation[channel * width + channel] = 0.8;
            rotation[channel * width + partner] = if channel < partner { 0.6 } else { -0.6 };
        } else {
            rotation[channel * width + channel] = 1.0;
        }
    }
    Basis::new(Parts {
        mean: (0..width).map(|channel| channel as f32 / 8.0).collect(),
        scale: (0..width).map(|channel| if channel == 3 { 0.0 } else { 0.05 }).collect(),
        outliers: (0..width as u32).filter(|channel| channel % 7 == 5).collect(),
        rotation,
        spread: vec![1.0; width],
        rank: 1 + width as u32 / 2,
        rows: 3,
        tensor: "t".into(),
    })
    .expect("a basis")
}

fn coded(coding: Coding, row: &[f32], basis: &Basis) -> (Vec<u8>, u8) {
    let worst = hidden::worst_len(coding, row.len() as u32, Dtype::F32);
    let mut out = vec![0xEE; worst];
    let scratch = &mut hidden::Scratch::new(1);
    let basis = Some(basis);
    let (len, seen) =
        hidden::encode(coding, Row::F32(row), basis, 0.125, &mut out, scratch).expect("room");
    let short = hidden::encode(coding, Row::F32(row), basis, 0.125, &mut out[..len - 1], scratch);
    assert_eq!(short, Err(Fault::Room), "{coding}");
    hidden::encode(coding, Row::F32(row), basis, 0.125, &mut out, scratch).expect("room");
    out.truncate(len);
    (out, seen)
}

fn restored(coding: Coding, bytes: &[u8], width: usize, basis: &Basis) -> Result<Vec<f32>, Fault> {
    let mut out = vec![7.0; width];
    let scratch = &mut hidden::Scratch::default();
    hidden::decode(coding, bytes, Some(basis), &mut out, scratch).map(|()| out)
}

#[test]
fn rows_come_back_within_their_steps() {
    for width in [1, 2, 15, 16, 33, 100] {
        let basis = basis(width);
        let row: Vec<f32> =
            (0..width).map(|i| (i as f32 / 8.0) + ((i * 37 % 19) as f32 - 9.0) / 4.0).collect();
        let far = row.iter().zip(&basis.parts().mean).map(|(x, m)| (x - m).abs());
        let far = far.fold(0.0, f32::max);
        for (coding, step) in [
            (Coding::Int8Channel, 0.05),
            (Coding::Int8Group, 15.0 / 127.0),
            (Coding::Int8Centred, far / 127.0),
            (Coding::Rotated, 0.125 * far),
        ] {
            let (bytes, seen) = coded(coding, &row, &basis);
            assert_eq!(seen, 0);
            let back = restored(coding, &bytes, width, &basis).expect("a row");
            for (channel, (x, y)) in row.iter().zip(back).enumerate() {
                // A scale of 0 keeps the mean alone.
                let dead = coding == Coding::Int8Channel && channel == 3;
                assert!(dead || (x - y).abs() <= 0.71 * step + 1e-3, "{coding} {width} {x} {y}");
            }
            let fault = restored(coding, &bytes[..bytes.len() - 1], width, &basis);
            assert!(coding == Coding::Rotated || fault == Err(Fault::Length), "{coding}");
            let long = [&bytes[..], &[1, 2, 3, 4, 5]].concat();
            assert_eq!(restored(coding, &long, width, &basis), Err(Fault::Length), "{coding}");
        }
    }
}

#[test]
fn odd_rows_have_flags_and_rotated_carries_them_as_they_are() {
    let basis = basis(16);
    let mut row = [0.5_f32; 16];
    row[2] = f32::NAN;
    row[9] = f32::INFINITY;
    for coding in CODINGS {
        let (bytes, seen) = coded(coding, &row, &basis);
        assert_eq!(seen & (flags::NAN | flags::NON_FINITE), flags::NAN | flags::NON_FINITE);
        let back = restored(coding, &bytes, 16, &basis).expect("a row");
        if coding == Coding::Rotated {
            assert!(back[2].is_nan() && back[9] == f32::INFINITY && back[0] == 0.5);
        } else {
            assert!(back.iter().all(|x| x.is_finite()), "{coding}");
        }
    }
    // An entry that is more steps away from the mean than a code can say.
    row[2..].copy_from_slice(&basis.parts().mean[2..]);
    row[..2].copy_from_slice(&[1e4, 0.0]);
    let scratch = &mut hidden::Scratch::default();
    for (quality, whole) in [(0.125, false), (1e-5, true)] {
        let mut out = [0; 100];
        let encoded = hidden::encode(
            Coding::Rotated,
            Row::F32(&row),
            Some(&basis),
            quality,
            &mut out,
            scratch,
        );
        let (len, _) = encoded.expect("room");
        let back = restored(Coding::Rotated, &out[..len], 16, &basis).expect("a row");
        assert_eq!(back == row, whole);
    }
    let cut = hidden::pack(&[0, 32_767], 1.0, 0.1, &self::basis(2), &mut [0; 50]);
    assert_eq!(cut, Err(Fault::Bounds));
    // The mean itself: nothing is left to code.
    let (bytes, seen) = coded(Coding::Rotated, &basis.parts().mean, &basis);
    assert_eq!(seen, flags::ZERO);
    assert!(bytes.len() < 12, "{}", bytes.len());
    assert_eq!(restored(Coding::Rotated, &bytes, 16, &basis).expect("a row"), basis.parts().mean);
}

/// What a device does is the first half of coding, and what it leaves to the host the second.
#[test]
fn rows_that_were_projected_elsewhere_have_the_same_bytes() {
    let basis = basis(33);
    let parts = basis.parts();
    let tame: Vec<f32> = (0..33).map(|i| ((i * 7) % 11) as f32 / 4.0).collect();
    let mut odd = tame.clone();
    odd[4] = f32::NAN;
    let noise: Vec<f32> = (0..33).map(|i| f32::from_bits(0x7F00_0000 - i * 0x00F1_2345)).collect();
    for row in [&tame, &odd, &noise, &parts.mean] {
        for (coding, count) in [(Coding::Rotated, 33), (Coding::Pca, parts.rank as usize)] {
            let (expected, expected_flags) = coded(coding, row, &basis);
            let mut centred = vec![0.0; 33];
            let (rms, flags) = rotation::center(Row::F32(row), Some(&parts.mean), &mut centred);
            let mut components = vec![0.0; count];
            let matrix = Row::F32(&parts.rotation[..count * 33]);
            let weights = lmhead::Weights::new(matrix, 33, None).expect("whole rows");
            lmhead::logits(&centred, &weights, &mut components).expect("room");
            let projected = hidden::Projected { components: &components, rms, flags };
            let (scratch, mut out) = (&mut hidden::Scratch::default(), vec![0; 200]);
            let mut finish = |projected: &hidden::Projected<'_>| {
                let element = Element::F32;
                hidden::encode_projected(
                    coding, projected, element, &basis, 0.125, &mut out, scratch,
                )
            };
            let short = hidden::Projected { components: &components[1..], ..projected };
            assert_eq!(finish(&short), Err(Fault::Length));
            let written = finish(&projected).expect("a basis and room");
            let (len, flags) = written.unwrap_or_else(|| {
                (hidden::carry(Row::F32(row), &mut out, scratch).expect("room"), flags)
            });
            assert_eq!((&out[..len], flags), (&expected[..], expected_flags), "{coding}");
        }
    }
}

#[test]
fn outliers_keep_their_size_without_costing_the_others() {
    let basis = basis(16);
    let mut row = basis.parts().mean.clone();
    row.iter_mut().enumerate().for_each(|(i, x)| *x += (i % 3) as f32 * 0.1);
    row[5] += 3000.0;
    let (bytes, _) = coded(Coding::Int8Centred, &row, &basis);
    let back = restored(Coding::Int8Centred, &bytes, 16, &basis).expect("a row");
    assert!((back[5] - row[5]).abs() <= 1.0);
    assert!(row.iter().zip(&back).all(|(x, y)| x == &row[5] || (x - y).abs() < 1e-3));
}

#[test]
fn a_basis_is_needed_and_must_fit() {
    let (scratch, mut out) = (&mut hidden::Scratch::default(), [0; 100]);
    let row = [1.0; 16];
    let plain = Parts { mean: vec![0.0; 16], scale: vec![1.0; 16], ..Parts::default() };
    let plain = Basis::new(plain).expect("a basis");
    let (other, mut back) = (basis(15), [0.0; 16]);
    for coding in CODINGS {
        for (basis, enough) in [
            (None, coding == Coding::Int8Group),
            (Some(&other), coding == Coding::Int8Group),
            (Some(&plain), !matches!(coding, Coding::Rotated | Coding::Pca)),
        ] {
            let got = hidden::encode(coding, Row::F32(&row), basis, 0.1, &mut out, scratch);
            assert_eq!(got.is_ok(), enough, "{coding}");
            assert!(enough || got == Err(Fault::Basis));
            let got = hidden::decode(coding, &[0; 9], basis, &mut back, scratch);
            assert_eq!(got == Err(Fault::Basis), !enough, "{coding}");
        }
    }
    let got = hidden::encode(Coding::SetF16, Row::F32(&row), None, 0.1, &mut out, scratch);
    assert_eq!(got, Err(Fault::Coding));
    assert_eq!(hidden::worst_len(Coding::SetF16, 16, Dtype::F32), 0);
}

#[test]
fn a_basis_is_its_file() {
    let basis = basis(9);
    let read = Basis::from_bytes(basis.as_bytes()).expect("a basis");
    assert_eq!(read, basis);
    assert_eq!((read.id(), read.id().to_string().len()), (BasisId::of(basis.as_bytes()), 64));
    assert!(read.id().to_string().starts_with(&read.id().short()) && read.id().short().len() == 16);
    assert_eq!(BasisId::of(b"abc").short(), "ba7816bf8f01cfea");
    // Any shorter file is refused, and any wrong number.
    for len in 0..basis.as_bytes().len() {
        assert!(Basis::from_bytes(&basis.as_bytes()[..len]).is_err());
    }
    let broken: [fn(&mut Parts); 8] = [
        |p| p.mean[0] = f32::NAN,
        |p| p.scale[1] = -1.0,
        |p| p.spread[2] = f32::INFINITY,
        |p| p.rotation[3] = 1.5,
        |p| p.outliers = vec![3, 3],
        |p| p.outliers = vec![9],
        |p| p.rank = 10,
        |p| p.spread.clear(),
    ];
    for (at, breaks) in broken.iter().enumerate() {
        let mut parts = basis.parts().clone();
        breaks(&mut parts);
        let fault = if at < 6 { BasisFault::Number } else { BasisFault::Shape };
        assert_eq!(Basis::new(parts), Err(fault), "{at}");
    }
    assert_eq!(Basis::new(Parts::default()), Err(BasisFault::Shape));
}

#[test]
fn learning_finds_what_was_put_in() {
    // Two channels move together, one apart, one never, and one is far out.
    let mut fit = Fit::new(5, "made").expect("a width");
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    for row in 0..3000 {
        let (a, b) = (random(), random());
        let far = if row % 300 == 0 { 1000.0 } else { 0.0 };
        assert!(fit.add(Row::F32(&[a + 1.0, a, b / 4.0, 7.0, far])));
    }
    assert!(!fit.add(Row::F32(&[f32::NAN, 0.0, 0.0, 0.0, 0.0])) && !fit.add(Row::F32(&[0.0])));
    assert_eq!(fit.rows(), 3000);
    let mut told = Vec::new();
    let basis = fit.finish(true, 2, |done| told.push(done)).expect("a basis");
    assert!(told.is_sorted() && told.last() == Some(&1.0));
    let parts = basis.parts();
    assert!((parts.mean[0] - 1.0).abs() < 0.02 && parts.mean[3] == 7.0);
    assert_eq!((parts.scale[3], &parts.outliers[..]), (0.0, &[4][..]));
    assert!(parts.spread.is_sorted_by(|a, b| a >= b));
    for (a, row) in parts.rotation.chunks(5).enumerate() {
        for (b, other) in parts.rotation.chunks(5).enumerate() {
            let product: f32 = row.iter().zip(other).map(|(x, y)| x * y).sum();
            assert!((product - f32::from(a == b)).abs() < 1e-5);
        }
        let largest = row.iter().fold(0.0_f32, |top, x| if x.abs() > top.abs() { *x } else { top });
        assert!(largest > 0.0);
    }
    let fault = Fit::new(5, "").expect("a width").finish(false, 0, |_| {});
    assert_eq!(fault, Err(BasisFault::Number));
    assert!(Fit::new(0, "").is_err() && Fit::new(16_385, "").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_row_comes_back_or_is_flagged(
        bits in prop::collection::vec(any::<u32>(), 24),
        power in 0_i32..3,
    ) {
        let row: Vec<f32> = match power {
            0 => bits.iter().map(|bits| f32::from_bits(*bits)).collect(),
            power => {
                let scale = 50.0_f32.powi(power);
                bits.iter().map(|x| (*x as f32 / 4e9 - 0.5) * scale).collect()
            }
        };
        let basis = basis(24);
        for coding in CODINGS {
            let (bytes, seen) = coded(coding, &row, &basis);
            prop_assert!(bytes.len() <= hidden::worst_len(coding, 24, Dtype::F32));
            let back = restored(coding, &bytes, 24, &basis).expect("a row");
            let odd = row.iter().any(|x| !x.is_finite());
            prop_assert!(!odd || seen != 0 || coding == Coding::Pca);
            if coding == Coding::Rotated && power == 1 {
                let error = row.iter().zip(&back).map(|(x, y)| (x - y).powi(2)).sum::<f32>();
                let size = row.iter().map(|x| x.powi(2)).sum::<f32>() + 600.0;
                prop_assert!(error <= 0.01 * size, "{error} {size}");
            }
        }
    }

    #[test]
    fn a_row_with_a_bit_flipped_is_a_row_or_refused(
        row in prop::collection::vec(-9.0_f32..9.0, 24),
        bit in any::<prop::sample::Index>(),
    ) {
        let basis = basis(24);
        for coding in CODINGS {
            let (mut bytes, _) = coded(coding, &row, &basis);
            let bit = bit.index(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = restored(coding, &bytes, 24, &basis);
        }
    }

    #[test]
    fn any_bytes_are_a_row_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..160),
        form in 0_u8..5,
    ) {
        let basis = basis(24);
        for guided in [false, true] {
            if guided && bytes.len() > 4 {
                bytes[0] = form;
                bytes[3] = 0x3F;
            }
            for coding in CODINGS {
                let _ = restored(coding, &bytes, 24, &basis);
            }
            let _ = Basis::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_basis_with_any_byte_changed_is_another_or_refused(
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let basis = basis(6);
        let mut file = basis.as_bytes().to_vec();
        let at = at.index(file.len());
        file[at] = to;
        if let Ok(other) = Basis::from_bytes(&file) {
            prop_assert_eq!(other.id() == basis.id(), file == basis.as_bytes());
        }
    }
}
