//! [COMP-04]: coded top-k sets.

use codec::{Coding, Fault, Full, set};
use kernels::{Row, topk::TopK};
use proptest::prelude::*;
use set::{Scratch, Set, SetBuf};

const CODINGS: [Coding; 6] = [
    Coding::Plain,
    Coding::SetF16,
    Coding::SetBf16,
    Coding::SetU8,
    Coding::SetTiered,
    Coding::SetSteps,
];

/// Codes a set, reads it again and checks what every coding promises.
fn check(coding: Coding, set: &Set<'_>, cols: u32) -> SetBuf {
    let k = set.indices.len();
    let worst = set::worst_len(coding, k as u32, cols);
    let mut out = vec![0xEE; worst];
    let len = set::encode(coding, set, cols, 0.0, &mut out, &mut Scratch::new(k)).expect("room");
    let mut read = SetBuf::new(k);
    set::decode(coding, &out[..len], cols, k, &mut read).expect("a row");
    assert_eq!(
        (read.max.to_bits(), read.log_sum.to_bits()),
        (set.max.to_bits(), set.log_sum.to_bits())
    );
    assert_eq!(read.flags, set.flags);
    let mut sorted = (set.indices.to_vec(), read.indices.clone());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{coding}");
    let ordered = read.values.iter().zip(&read.indices);
    assert!(ordered.is_sorted_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1)), "{coding}");
    // One byte less, one more, and too small a room are noticed.
    let fault = set::decode(coding, &out[..len - 1], cols, k, &mut read.clone());
    assert_eq!(fault, Err(Fault::Length), "{coding}");
    out.push(0);
    assert!(set::decode(coding, &out[..=len], cols, k, &mut read.clone()).is_err());
    let short = set::encode(coding, set, cols, 0.0, &mut out[..len - 1], &mut Scratch::new(k));
    assert_eq!(short, Err(Full));
    read
}

/// The set of a row, by the kernel.
fn check_row(row: &[f32], k: usize) {
    let (mut indices, mut values) = (vec![0; k], vec![0.0; k]);
    let got = TopK::new().run(Row::F32(row), k, &mut indices, &mut values);
    let count = got.count as usize;
    let (indices, values) = (&indices[..count], &values[..count]);
    let set = Set { indices, values, max: got.max, log_sum: got.log_sum, flags: got.flags };
    for coding in CODINGS {
        let read = check(coding, &set, row.len() as u32);
        if coding == Coding::Plain {
            assert_eq!((&read.indices[..], &read.values[..]), (indices, values));
        }
        for (index, value) in read.indices.iter().zip(&read.values) {
            let exact = row[*index as usize];
            assert_eq!(value.is_finite(), exact.is_finite(), "{coding} {exact} {value}");
        }
    }
}

#[test]
fn rows_of_every_kind_come_back() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let rows: [&[f32]; 9] = [
        &[],
        &[nan, nan],
        &[1.0],
        &[-inf, -inf, -inf],
        &[1.0, -inf, 3.0, nan, 2.0],
        &[inf, 1.0, inf, -inf, 7e4],
        &[1e30, -1e30, 0.0, 1.0],
        &[0.0; 90],
        &[-0.0, 0.0, f32::MIN_POSITIVE, 1e-40],
    ];
    for row in rows {
        for k in [1, 2, 5, 100] {
            check_row(row, k);
        }
    }
}

#[test]
fn an_adaptive_set_is_the_shortest_that_reaches_its_mass() {
    // Probabilities 8, 4, 2, 1, 1 sixteenths.
    let row = [8.0_f32, 4.0, 2.0, 1.0, 1.0].map(f32::ln);
    let log_sum = 16.0_f32.ln() - row[0];
    let set = Set { indices: &[0, 1, 2, 3, 4], values: &row, max: row[0], log_sum, flags: 0 };
    for (mass, count) in [(0.0, 5), (0.4, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.9, 4), (1.0, 5)] {
        let mut out = [0; 200];
        let scratch = &mut Scratch::new(5);
        let len = set::encode(Coding::SetF16, &set, 5, mass, &mut out, scratch).expect("room");
        let mut read = SetBuf::new(5);
        set::decode(Coding::SetF16, &out[..len], 5, 5, &mut read).expect("a row");
        assert_eq!(read.indices.len(), count, "{mass}");
    }
}

#[test]
fn what_is_not_a_set_is_refused() {
    let mut out = [0; 200];
    let scratch = &mut Scratch::new(5);
    let set = |indices| Set { indices, values: &[3.0, 2.0], max: 3.0, log_sum: 0.5, flags: 0 };
    let mut encode =
        |coding, indices, cols| set::encode(coding, &set(indices), cols, 0.0, &mut out, scratch);
    assert!(encode(Coding::SetU8, &[0, 1], 2).is_ok());
    assert_eq!(encode(Coding::SetU8, &[1, 1], 2), Err(Full));
    assert_eq!(encode(Coding::SetU8, &[2, 1], 2), Err(Full));
    assert_eq!(encode(Coding::Rotated, &[0, 1], 2), Err(Full));
    assert_eq!(set::worst_len(Coding::Rotated, 5, 5), 0);
    let fault = set::decode(Coding::Pca, &[0; 20], 5, 5, &mut SetBuf::new(5));
    assert_eq!(fault, Err(Fault::Coding));
    let len = encode(Coding::SetU8, &[0, 1], 2).expect("room");
    let mut read = SetBuf::new(5);
    for (coding, cols, k) in [(Coding::SetU8, 1, 2), (Coding::SetU8, 2, 1)] {
        assert_eq!(set::decode(coding, &out[..len], cols, k, &mut read), Err(Fault::Bounds));
    }
    assert_eq!(set::decode(Coding::SetF16, &out[..len], 2, 2, &mut read), Err(Fault::Invalid));
}

fn row() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec(-20.0_f32..20.0, 0..300),
        prop::collection::vec((-40_i16..40).prop_map(|x| f32::from(x) / 4.0), 0..300),
        prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..100),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_row_comes_back(row in row(), k in 1_usize..150) {
        check_row(&row, k);
    }

    #[test]
    fn a_row_with_a_bit_flipped_is_a_row_or_refused(
        row in row(),
        k in 1_usize..60,
        bit in any::<prop::sample::Index>(),
    ) {
        let (mut indices, mut values) = (vec![0; k], vec![0.0; k]);
        let got = TopK::new().run(Row::F32(&row), k, &mut indices, &mut values);
        let count = got.count as usize;
        let (indices, values) = (&indices[..count], &values[..count]);
        let set = Set { indices, values, max: got.max, log_sum: got.log_sum, flags: got.flags };
        let cols = row.len() as u32;
        for coding in CODINGS {
            let mut out = vec![0; set::worst_len(coding, k as u32, cols)];
            let scratch = &mut Scratch::new(k);
            let len = set::encode(coding, &set, cols, 0.0, &mut out, scratch).expect("room");
            let bit = bit.index(8 * len);
            out[bit / 8] ^= 1 << (bit % 8);
            let mut read = SetBuf::new(k);
            if set::decode(coding, &out[..len], cols, k, &mut read).is_ok() {
                prop_assert!(read.indices.len() <= k);
                prop_assert!(read.indices.iter().all(|index| *index < cols));
                prop_assert!(read.values.iter().all(|value| !value.is_nan()));
                // What was read is a set again.
                let again = set::encode(coding, &read.as_set(), cols, 0.0, &mut out, scratch);
                prop_assert!(again.is_ok());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_row_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        kind in 0_u8..6,
        count in 0_u8..60,
        cols in 0_u32..5000,
    ) {
        // As they are, and with a head that is less likely to be refused at once.
        for guided in [false, true] {
            if guided && bytes.len() > 10 {
                bytes[0] = kind << 5;
                bytes[1] = count;
                bytes[2..6].copy_from_slice(&9.5_f32.to_le_bytes());
            }
            for coding in CODINGS {
                let mut read = SetBuf::new(64);
                if set::decode(coding, &bytes, cols, 64, &mut read).is_ok() {
                    prop_assert!(read.indices.len() <= 64);
                    prop_assert_eq!(read.values.len(), read.indices.len());
                    prop_assert!(read.indices.iter().all(|index| *index < cols));
                    prop_assert!(read.values.iter().all(|value| !value.is_nan()));
                }
            }
        }
    }
}
