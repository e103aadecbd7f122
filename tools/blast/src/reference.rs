//! The plainest way to the right answer: sort everything, sum in double precision. Shares no code
//! with the kernels that it judges.

use half::{bf16, f16};
use wire::Dtype;

/// Rows as f32, which every element type widens to exactly. Bytes have no numbers in them.
#[must_use]
pub fn widen(data: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => {
            let halves = data.as_chunks().0.iter();
            halves.map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
        }
        Dtype::Bf16 => {
            let halves = data.as_chunks().0.iter();
            halves.map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()
        }
        Dtype::U8 => Vec::new(),
    }
}

/// What `value` becomes when it is returned as `dtype`, widened again.
#[must_use]
pub fn rounded(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::Bf16 => bf16::from_f32(value).to_f32(),
        Dtype::F32 | Dtype::U8 => value,
    }
}

/// The right answer to a top-k of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// Columns: by value, largest first, then by index, lowest first. NaN is never among them.
    pub indices: Vec<u32>,
    /// Their values.
    pub values: Vec<f32>,
    /// The largest value of the row; -inf where nothing is valid.
    pub max: f32,
    /// ln of the sum of exp(x - max) over all valid values.
    pub log_sum: f64,
}

/// Top-k by sorting.
#[must_use]
pub fn top_k(row: &[f32], k: usize) -> TopK {
    let mut order: Vec<u32> =
        (0..row.len() as u32).filter(|index| !row[*index as usize].is_nan()).collect();
    // Stable, so that equal values (and the two zeros are equal) stay in order of index.
    order.sort_by(|a, b| {
        let (a, b) = (row[*a as usize], row[*b as usize]);
        b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal)
    });
    let max = order.first().map_or(f32::NEG_INFINITY, |index| row[*index as usize]);
    let sum: f64 =
        order.iter().map(|index| (f64::from(row[*index as usize]) - f64::from(max)).exp()).sum();
    order.truncate(k);
    let values = order.iter().map(|index| row[*index as usize]).collect();
    TopK { indices: order, values, max, log_sum: sum.ln() }
}

/// The right answer to int8 of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8 {
    /// Largest magnitude / 127.
    pub scale: f32,
    /// x / scale, rounded half to even.
    pub codes: Vec<i8>,
}

/// Symmetric int8 by the formula. `None` for rows that it does not define: not finite, or so small
/// that the scale vanishes.
#[must_use]
pub fn int8(row: &[f32]) -> Option<Int8> {
    let absmax = row.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    let scale = absmax / 127.0;
    if row.iter().any(|value| !value.is_finite()) || (scale == 0.0 && absmax > 0.0) {
        return None;
    }
    let code = |value: &f32| match scale {
        0.0 => 0,
        scale => (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8,
    };
    Some(Int8 { scale, codes: row.iter().map(code).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn samples(file: &str) -> Vec<u8> {
        let path = format!("{}/../../wire/samples/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("a sample")
    }

    fn numbers<const N: usize, T>(data: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
    }

    #[test]
    fn comp_top_k_agrees_with_an_independent_oracle() {
        let (logits, answers) = (samples("logits.safetensors"), samples("topk.safetensors"));
        let logits = SafeTensors::deserialize(&logits).expect("logits");
        let answers = SafeTensors::deserialize(&answers).expect("answers");
        for (rows, set, dtype) in [
            ("head.f32", "head.f32", Dtype::F32),
            ("tied.f16", "tied.f16", Dtype::F16),
            ("wide.bf16", "wide_bf16.bf16", Dtype::Bf16),
        ] {
            let tensor = logits.tensor(rows).expect(rows);
            let cols = tensor.shape()[1];
            let values = widen(tensor.data(), dtype);
            let indices = answers.tensor(&format!("{set}.k100.indices")).expect(set);
            let indices = numbers(indices.data(), u32::from_le_bytes);
            let sums = answers.tensor(&format!("{set}.logsumexp")).expect(set);
            let sums = numbers(sums.data(), f64::from_le_bytes);
            for (row, values) in values.chunks_exact(cols).enumerate() {
                let top = top_k(values, 100);
                assert_eq!(top.indices, indices[row * 100..][..100], "{rows} {row}");
                let sum = f64::from(top.max) + top.log_sum;
                assert!((sum - sums[row]).abs() < 1e-9, "{rows} {row}: {sum} {}", sums[row]);
            }
        }
    }

    #[test]
    fn comp_int8_agrees_with_an_independent_oracle() {
        let (hidden, answers) = (samples("hidden.safetensors"), samples("int8.safetensors"));
        let hidden = SafeTensors::deserialize(&hidden).expect("hidden");
        let answers = SafeTensors::deserialize(&answers).expect("answers");
        for (name, dtype) in
            [("hidden.f16", Dtype::F16), ("hidden.f32", Dtype::F32), ("outlier.f32", Dtype::F32)]
        {
            let tensor = hidden.tensor(name).expect(name);
            let values = widen(tensor.data(), dtype);
            let codes = answers.tensor(&format!("{name}.codes")).expect(name);
            let codes = numbers(codes.data(), i8::from_le_bytes);
            let scales = answers.tensor(&format!("{name}.scales")).expect(name);
            let scales = numbers(scales.data(), f32::from_le_bytes);
            for (row, values) in values.chunks_exact(384).enumerate() {
                let block = int8(values).expect("finite");
                assert_eq!(block.scale.to_bits(), scales[row].to_bits(), "{name} {row}");
                assert_eq!(block.codes, codes[row * 384..][..384], "{name} {row}");
            }
        }
    }

    #[test]
    fn odd_rows_have_defined_answers() {
        let top = top_k(&[f32::NAN, -0.0, 0.0, f32::NEG_INFINITY], 9);
        assert_eq!(top.indices, [1, 2, 3]);
        assert_eq!(top_k(&[f32::NAN], 1).indices, [0_u32; 0]);
        assert_eq!(int8(&[0.0, -0.0]), Some(Int8 { scale: 0.0, codes: vec![0, 0] }));
        assert_eq!(int8(&[1.0, f32::INFINITY]), None);
        assert_eq!(int8(&[f32::from_bits(1)]), None);
    }
}
