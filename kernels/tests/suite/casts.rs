//! [COMP-03], [COMP-08]: f32 to f16 and bf16, and back.

use half::{bf16, f16};
use kernels::{Level, Row, cast};
use proptest::prelude::*;

use crate::samples;

fn bits(value: &serde_json::Value) -> u32 {
    let text = value.as_str().expect("a bit pattern");
    u32::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
}

fn round(level: Level, from: &[f32]) -> (Vec<u16>, Vec<u16>) {
    let mut f16s = vec![f16::ZERO; from.len()];
    let mut bf16s = vec![bf16::ZERO; from.len()];
    cast::to_f16_at(level, from, &mut f16s);
    cast::to_bf16_at(level, from, &mut bf16s);
    (f16s.iter().map(|x| x.to_bits()).collect(), bf16s.iter().map(|x| x.to_bits()).collect())
}

#[test]
fn comp_03_rounds_like_torch() {
    let vectors = samples::json("casts.json");
    let vectors = vectors["vectors"].as_array().expect("vectors");
    let from: Vec<f32> = vectors.iter().map(|v| f32::from_bits(bits(&v["f32_bits"]))).collect();
    assert!(from.len() > 80);
    for level in Level::ALL {
        let (f16s, bf16s) = round(level, &from);
        for ((x, vector), (f16, bf16)) in from.iter().zip(vectors).zip(f16s.iter().zip(&bf16s)) {
            if x.is_nan() {
                assert_eq!((*f16, *bf16), (0x7e00, 0x7fc0));
            } else {
                assert_eq!(u32::from(*f16), bits(&vector["f16_bits"]), "{x}");
                assert_eq!(u32::from(*bf16), bits(&vector["bf16_bits"]), "{x}");
            }
        }
    }
}

#[test]
fn every_half_comes_back_from_f32() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let f16s: Vec<f16> = all.iter().map(|b| f16::from_bits(*b)).collect();
    let bf16s: Vec<bf16> = all.iter().map(|b| bf16::from_bits(*b)).collect();
    let mut wide = vec![0.0; all.len()];
    for level in Level::ALL {
        Row::F16(&f16s).widen(&mut wide);
        let (back, _) = round(level, &wide);
        for (half, back) in f16s.iter().zip(back) {
            assert_eq!(back, if half.is_nan() { 0x7e00 } else { half.to_bits() });
        }
        Row::Bf16(&bf16s).widen(&mut wide);
        let (_, back) = round(level, &wide);
        for (half, back) in bf16s.iter().zip(back) {
            assert_eq!(back, if half.is_nan() { 0x7fc0 } else { half.to_bits() });
        }
    }
}

#[test]
fn widening_is_exact_for_every_half() {
    let f16s: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let bf16s: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let mut wide = vec![0.0; f16s.len()];
    assert_eq!(Row::F16(&f16s).widen(&mut wide), wide.len());
    for (half, wide) in f16s.iter().zip(&wide) {
        assert!(half.is_nan() && wide.is_nan() || half.to_f32().to_bits() == wide.to_bits());
    }
    assert_eq!(Row::Bf16(&bf16s).widen(&mut wide), wide.len());
    for (half, wide) in bf16s.iter().zip(&wide) {
        assert!(half.is_nan() && wide.is_nan() || half.to_f32().to_bits() == wide.to_bits());
    }
}

proptest! {
    #[test]
    fn any_bits_round_like_the_half_crate(bits in prop::collection::vec(any::<u32>(), 0..80)) {
        let from: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
        for level in Level::ALL {
            let (f16s, bf16s) = round(level, &from);
            for (x, (f16, bf16)) in from.iter().zip(f16s.iter().zip(&bf16s)) {
                let nan = x.is_nan();
                prop_assert_eq!(*f16, if nan { 0x7e00 } else { f16::from_f32(*x).to_bits() });
                prop_assert_eq!(*bf16, if nan { 0x7fc0 } else { bf16::from_f32(*x).to_bits() });
            }
        }
    }
}
