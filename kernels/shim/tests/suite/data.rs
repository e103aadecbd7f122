//! Rows to try kernels on: random, adversarial, and real.

use half::{bf16, f16};
use kernels::{Element, Row};
use safetensors::{Dtype, SafeTensors};

pub(crate) const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

/// xorshift64*: the same rows everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// In 0..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 16_777_216.0
    }

    /// Bell-shaped enough, mean 0, variance 1.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    pub(crate) fn normals(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.normal() * scale).collect()
    }
}

/// Elements of one format, rounded to nearest even by the `half` crate.
#[derive(Clone)]
pub(crate) struct Rounded {
    pub(crate) element: Element,
    pub(crate) bytes: Vec<u8>,
}

impl Rounded {
    pub(crate) fn of(element: Element, values: &[f32]) -> Self {
        let bytes = match element {
            Element::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Element::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Element::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        };
        Self { element, bytes }
    }

    pub(crate) fn row(&self) -> Row<'_> {
        Row::from_bytes(self.element, &self.bytes).expect("whole entries")
    }

    pub(crate) fn widened(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.row().len()];
        self.row().widen(&mut out);
        out
    }
}

/// Names and rows of `cols` values that are hard on a selection, a sum or a scale.
pub(crate) fn adversarial(cols: usize) -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random::new(cols as u64);
    let normal = random.normals(cols, 3.0);
    let with = |every: usize, value: f32| -> Vec<f32> {
        let mut row = normal.clone();
        row.iter_mut().skip(every / 2).step_by(every).for_each(|x| *x = value);
        row
    };
    let of = |make: &dyn Fn(usize) -> f32| (0..cols).map(make).collect::<Vec<f32>>();
    let n = cols as f32;
    vec![
        ("equal", vec![1.5; cols]),
        ("zero", vec![0.0; cols]),
        ("signed zeros", of(&|i| if i % 2 == 0 { -0.0 } else { 0.0 })),
        ("ascending", of(&|i| i as f32 / n * 40.0 - 20.0)),
        ("descending", of(&|i| 20.0 - i as f32 / n * 40.0)),
        ("four values", of(&|i| (i * 7919 % 4) as f32)),
        ("ties at the top", of(&|i| if i % 3 == 0 { 9.0 } else { normal[i].min(8.5) })),
        ("one outlier", with(cols.max(1), 3e4)),
        ("outliers", with(97, -6e4)),
        ("far above 0", of(&|i| normal[i] + 300.0)),
        ("far below 0", of(&|i| normal[i] - 300.0)),
        ("just inside", of(&|i| normal[i].min(40.0) + if i == 0 { 48.0 } else { 0.0 })),
        ("NaN here and there", with(11, f32::NAN)),
        ("all NaN", vec![f32::NAN; cols]),
        ("+inf", with(cols.max(2) / 2 + 1, f32::INFINITY)),
        ("-inf mostly", of(&|i| if i % 61 == 3 { normal[i] } else { f32::NEG_INFINITY })),
        ("all -inf", vec![f32::NEG_INFINITY; cols]),
        ("inf, NaN and zeros", of(&|i| [f32::NEG_INFINITY, f32::NAN, -0.0, 0.0][i % 4])),
        (
            "denormals",
            of(&|i| f32::from_bits((i as u32).wrapping_mul(2_654_435_761) & 0x807f_ffff)),
        ),
        ("few denormals", of(&|i| if i % 7 == 0 { 1e-44 } else { 0.0 })),
        ("any bits", of(&|i| f32::from_bits((i as u32 + 77).wrapping_mul(2_654_435_761)))),
        ("huge", with(5, 3.0e38)),
    ]
}

/// A matrix of a sample file, its rows in their own format.
pub(crate) struct Matrix {
    pub(crate) rows: Vec<Rounded>,
    pub(crate) cols: usize,
}

/// Up to `limit` rows of a tensor in `wire/samples/`.
pub(crate) fn sample(file: &str, name: &str, limit: usize) -> Matrix {
    let path = format!("{}/../../wire/samples/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("sample file");
    let all = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = all.tensor(name).expect("tensor");
    let element = match view.dtype() {
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        other => panic!("{other} is not a row format"),
    };
    let cols = view.shape()[1];
    let rows = view.data().chunks_exact(cols * element.size()).take(limit);
    Matrix { rows: rows.map(|row| Rounded { element, bytes: row.to_vec() }).collect(), cols }
}
