//! [COMP-06], [COMP-07]: symmetric int8 of hidden rows.

use kernels::{Level, Row, flags, int8};
use proptest::prelude::*;

use crate::reference::{self, Random};
use crate::samples::{self, ELEMENTS, Owned, Samples};

fn check(row: Row<'_>, widened: &[f32]) {
    let (codes, scale, seen) = reference::int8(widened);
    for level in Level::ALL {
        let mut got = vec![99; widened.len()];
        let (got_scale, got_flags) = int8::quantize_at(level, row, &mut got);
        assert_eq!(got_scale.to_bits(), scale.to_bits(), "{level:?}");
        assert_eq!(got, codes, "{level:?} n {} scale {scale:e}", widened.len());
        assert_eq!(got_flags, seen, "{level:?}");
        let mut decoded = vec![9.0; widened.len()];
        int8::dequantize_at(level, &got, scale, &mut decoded);
        for (decoded, code) in decoded.iter().zip(&codes) {
            assert_eq!(decoded.to_bits(), (f32::from(*code) * scale).to_bits());
        }
    }
}

fn check_all(values: &[f32]) {
    for (element, _) in ELEMENTS {
        let owned = Owned::of(element, values);
        check(owned.row(), &owned.widened());
    }
}

#[test]
fn comp_06_agrees_with_torch_on_real_hidden_rows() {
    let (hidden, oracle) = (Samples::open("hidden.safetensors"), Samples::open("int8.safetensors"));
    for name in ["hidden.f16", "hidden.f32", "outlier.f32"] {
        let rows = hidden.tensor(name);
        let codes = oracle.tensor(&format!("{name}.codes"));
        let scales = oracle.tensor(&format!("{name}.scales")).f32s();
        assert_eq!((rows.rows, rows.columns), (codes.rows, codes.columns));
        for (row, scale) in scales.iter().enumerate() {
            for level in Level::ALL {
                let mut got = vec![0; rows.columns];
                let (got_scale, seen) = int8::quantize_at(level, rows.row(row), &mut got);
                assert_eq!((got_scale.to_bits(), seen), (scale.to_bits(), 0), "{name} {row}");
                assert_eq!(got, codes.codes(row), "{name} {row}");
            }
        }
    }
}

#[test]
fn comp_06_agrees_with_numpy_on_edges() {
    let edges = samples::json("int8_edges.json");
    let of = |name: &str| edges[name].as_array().expect("an array").clone();
    for ((row, scale), codes) in of("rows_bits").iter().zip(of("scales")).zip(of("codes")) {
        let row: Vec<f32> = row
            .as_array()
            .expect("a row")
            .iter()
            .map(|bits| bits.as_str().expect("bits").trim_start_matches("0x"))
            .map(|bits| f32::from_bits(u32::from_str_radix(bits, 16).expect("hexadecimal")))
            .collect();
        let codes: Vec<i64> =
            codes.as_array().expect("codes").iter().map(|c| c.as_i64().expect("a code")).collect();
        let mut got = vec![0; row.len()];
        let (got_scale, _) = int8::quantize(Row::F32(&row), &mut got);
        assert_eq!(f64::from(got_scale), scale.as_f64().expect("a scale"));
        assert_eq!(got.iter().map(|c| i64::from(*c)).collect::<Vec<_>>(), codes);
        check(Row::F32(&row), &row);
    }
}

#[test]
fn every_length_around_the_vector_width() {
    let mut random = Random(11);
    for n in 0..=200 {
        check_all(&(0..n).map(|_| random.normal()).collect::<Vec<f32>>());
    }
}

#[test]
fn unusual_entries_are_flagged_and_have_codes() {
    let (inf, nan, tiny) = (f32::INFINITY, f32::NAN, f32::from_bits(1));
    let rows: [(&[f32], u8); 11] = [
        (&[], flags::ZERO_ROW),
        (&[0.0, -0.0, 0.0], flags::ZERO_ROW),
        (&[nan], flags::NAN | flags::ZERO_ROW),
        (&[1.0, nan, -2.0, -nan], flags::NAN),
        (&[1.0, inf, -2.0, -inf], flags::INFINITY),
        (&[inf, -inf], flags::INFINITY | flags::ZERO_ROW),
        (&[inf, 0.0, -inf, nan], flags::INFINITY | flags::ZERO_ROW | flags::NAN),
        (&[tiny, -tiny], flags::DENORMAL_SCALE),
        (&[1e-38, -1e-38, 5e-39], flags::DENORMAL_SCALE),
        (&[tiny, inf], flags::DENORMAL_SCALE | flags::INFINITY),
        (&[f32::MAX, f32::MIN, 1.0], 0),
    ];
    for (row, seen) in rows {
        assert_eq!(int8::quantize(Row::F32(row), &mut vec![0; row.len()]).1, seen, "{row:?}");
        check(Row::F32(row), row);
        check_all(row);
    }
}

#[test]
fn subnormal_scales_clamp_what_they_cannot_hold() {
    // absmax 190 units and a scale of one unit: the quotient is 190.
    for units in 1..400 {
        let x = f32::from_bits(units);
        check_all(&[x, -x, f32::from_bits(units / 2), 0.0]);
    }
}

#[test]
fn nan_and_infinity_at_every_place() {
    for n in [1, 16, 17, 40] {
        for place in 0..n {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row: Vec<f32> = (0..n).map(|i| i as f32 - 5.0).collect();
                row[place] = bad;
                check_all(&row);
            }
        }
    }
}

#[test]
fn half_way_quotients_go_to_even() {
    // Scales that are powers of two make exact halves; others come close to them.
    for scale in [1.0_f32, 0.25, 3.0, 0.1, 7e-5, 1.0 / 3.0, 1e-30, 1e30] {
        let row: Vec<f32> = (-254..=254).map(|half| half as f32 * 0.5 * scale).collect();
        check_all(&row);
        let near: Vec<f32> = row.iter().flat_map(|x| [x.next_up(), x.next_down()]).collect();
        check_all(&near);
    }
}

#[test]
fn a_short_output_cuts_the_row() {
    let mut codes = [0; 2];
    let (scale, seen) = int8::quantize(Row::F32(&[1.0, -127.0, 5000.0]), &mut codes);
    assert_eq!((scale, seen, codes), (1.0, 0, [1, -127]));
}

#[test]
fn rows_start_at_any_byte() {
    let mut random = Random(12);
    let values: Vec<f32> = (0..777).map(|_| random.normal()).collect();
    for (element, _) in ELEMENTS {
        let owned = Owned::of(element, &values);
        for shift in [1, 2, 3, 16] {
            let bytes = owned.shifted(shift);
            let row = Row::from_bytes(element, &bytes[shift..]).expect("whole entries");
            check(row, &owned.widened());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_row_at_any_level(
        row in prop::collection::vec(-1.0_f32..1.0, 0..300),
        power in -149_i32..127,
    ) {
        let scale = 2.0_f32.powi(power);
        check_all(&row.iter().map(|x| x * scale).collect::<Vec<_>>());
    }

    #[test]
    fn any_bits_at_any_level(bits in prop::collection::vec(any::<u32>(), 0..100)) {
        check_all(&bits.iter().map(|b| f32::from_bits(*b)).collect::<Vec<_>>());
    }
}

/// Entries a few units in the last place around every middle between two codes: where a product by
/// the reciprocal and the quotient part ways.
#[test]
fn comp_06_middles_between_codes_are_divided() {
    let mut random = Random(9);
    for _ in 0..200 {
        let absmax = f32::from_bits(0x2000_0000 + random.below(0x4000_0000) as u32);
        let scale = absmax / 127.0;
        let mut row = vec![absmax];
        for code in 0..127_u8 {
            let middle = (f32::from(code) + 0.5) * scale;
            for ulps in -3..=3_i32 {
                let near = f32::from_bits(middle.to_bits().wrapping_add_signed(ulps));
                row.push(if near.abs() <= absmax { near } else { absmax });
                row.push(-row[row.len() - 1]);
            }
        }
        check(Row::F32(&row), &row);
    }
}
