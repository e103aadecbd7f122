//! `codec` and the weights: coded rows, bases, safetensors images.

use crate::bytes::{Input, aligned};
use codec::{
    Basis, Coding,
    basis::Parts,
    hidden,
    set::{self, SetBuf},
};
use kernels::Row;
use std::sync::LazyLock;
use wire::Dtype;
use worker::weights::Projection;

const WIDTH: usize = 24;

/// A basis with all its parts, small.
static BASIS: LazyLock<Basis> = LazyLock::new(|| {
    let unit = |at: usize| if at % WIDTH == at / WIDTH { 1.0 } else { 0.0 };
    let parts = Parts {
        mean: (0..WIDTH).map(|channel| channel as f32 / 8.0).collect(),
        scale: (0..WIDTH).map(|channel| if channel == 3 { 0.0 } else { 0.05 }).collect(),
        outliers: vec![5, 12, 19],
        rotation: (0..WIDTH * WIDTH).map(unit).collect(),
        spread: vec![1.0; WIDTH],
        rank: 7,
        rows: 3,
        tensor: "t".into(),
    };
    Basis::new(parts).expect("every part is as it must be")
});

fn codings() -> impl Iterator<Item = Coding> {
    (0..=u8::MAX).filter_map(Coding::from_code)
}

/// A coded set: what is accepted is a set, and can be coded again.
pub(crate) fn sets(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some(coding) = codings().filter(|coding| coding.is_set()).nth(input.byte().into()) else {
        return;
    };
    let (cols, k_max) = (input.word() % (1 << 20), usize::from(input.byte()) * 4);
    let mut to = SetBuf::new(k_max);
    if set::decode(coding, input.0, cols, k_max, &mut to).is_err() {
        return;
    }
    let held = to.as_set();
    assert!(held.indices.len() == held.values.len() && held.indices.len() <= k_max);
    assert!(held.indices.iter().all(|index| *index < cols));
    let worst = set::worst_len(coding, held.indices.len() as u32, cols);
    let mut out = vec![0; worst];
    let len = set::encode(coding, &held, cols, 0.0, &mut out, &mut set::Scratch::new(k_max));
    let len = len.expect("a set that was read has room in the worst case");
    let mut again = SetBuf::new(k_max);
    assert_eq!(set::decode(coding, &out[..len], cols, k_max, &mut again), Ok(()));
    assert_eq!(again.as_set().indices.len(), held.indices.len());
}

pub(crate) fn set_seeds() -> Vec<Vec<u8>> {
    let indices: Vec<u32> = (0..40).map(|at| at * 31 + 5).collect();
    let values: Vec<f32> = (0..40).map(|at| 9.0 - at as f32 / 7.0).collect();
    let held = set::Set { indices: &indices, values: &values, max: 9.0, log_sum: 2.5, flags: 0 };
    let mut seeds = Vec::new();
    for (number, coding) in codings().filter(|coding| coding.is_set()).enumerate() {
        let mut out = vec![0; set::worst_len(coding, 40, 1_300)];
        if let Ok(len) =
            set::encode(coding, &held, 1_300, 0.0, &mut out, &mut set::Scratch::new(40))
        {
            let head = [&[number as u8][..], &1_300_u32.to_le_bytes(), &[10]].concat();
            seeds.push([&head, &out[..len]].concat());
        }
    }
    seeds
}

/// A coded row of a hidden state, and any numbers coded and restored.
pub(crate) fn rows(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some(coding) = codings().filter(|coding| coding.is_hidden()).nth(input.byte().into())
    else {
        return;
    };
    let scratch = &mut hidden::Scratch::new(WIDTH);
    let mut out = [0.0; WIDTH];
    let _ = hidden::decode(coding, input.0, Some(&BASIS), &mut out, scratch);
    // Rows of the bytes themselves: any bits are numbers.
    let data = aligned(input.0.get(..WIDTH * 4).unwrap_or_default());
    let Some(row) = Row::from_bytes(kernels::Element::F32, &data) else { return };
    if row.len() != WIDTH {
        return;
    }
    let mut coded = vec![0; hidden::worst_len(coding, WIDTH as u32, Dtype::F32)];
    let made = hidden::encode(coding, row, Some(&BASIS), 0.05, &mut coded, scratch);
    if let Ok((len, _)) = made {
        let back = hidden::decode(coding, &coded[..len], Some(&BASIS), &mut out, scratch);
        assert_eq!(back, Ok(()), "what was coded can be restored");
    }
}

pub(crate) fn row_seeds() -> Vec<Vec<u8>> {
    let row: Vec<f32> = (0..WIDTH).map(|at| (at as f32 - 9.5) / 3.0).collect();
    let scratch = &mut hidden::Scratch::new(WIDTH);
    let mut seeds = Vec::new();
    for (number, coding) in codings().filter(|coding| coding.is_hidden()).enumerate() {
        let mut out = vec![0; hidden::worst_len(coding, WIDTH as u32, Dtype::F32)];
        let made = hidden::encode(coding, Row::F32(&row), Some(&BASIS), 0.05, &mut out, scratch);
        if let Ok((len, _)) = made {
            seeds.push([&[number as u8][..], &out[..len]].concat());
        }
        let bits = row.iter().flat_map(|value| value.to_le_bytes());
        seeds.push(std::iter::once(number as u8).chain(bits).collect());
    }
    seeds
}

/// A basis' file: what is accepted can be used at once.
pub(crate) fn basis(bytes: &[u8]) {
    let Ok(basis) = Basis::from_bytes(bytes) else { return };
    let width = basis.width();
    assert!(width > 0 && basis.as_bytes() == bytes);
    let scratch = &mut hidden::Scratch::new(width);
    let (row, mut back) = (vec![0.5; width], vec![0.0; width]);
    for coding in codings().filter(|coding| coding.is_hidden()) {
        let mut out = vec![0; hidden::worst_len(coding, width as u32, Dtype::F32)];
        let made = hidden::encode(coding, Row::F32(&row), Some(&basis), 0.05, &mut out, scratch);
        if let Ok((len, _)) = made {
            let read = hidden::decode(coding, &out[..len], Some(&basis), &mut back, scratch);
            assert_eq!(read, Ok(()));
        }
    }
}

pub(crate) fn basis_seeds() -> Vec<Vec<u8>> {
    let plain = Parts { mean: vec![0.0; 3], scale: vec![1.0; 3], ..Parts::default() };
    let plain = Basis::new(plain).map(|basis| basis.as_bytes().to_vec());
    let weights = b"{\"weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}";
    let mut image = (weights.len() as u64).to_le_bytes().to_vec();
    image.extend_from_slice(weights);
    image.resize(image.len() + 24, 0);
    plain.into_iter().chain([image]).collect()
}

/// A safetensors image as the weights of lm-head.
pub(crate) fn weights(bytes: &[u8]) {
    let bytes = aligned(bytes);
    if let Ok(read) = Projection::read(&bytes) {
        assert!(!format!("{read:?}").is_empty());
    }
}
