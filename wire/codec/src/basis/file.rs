//! A basis as a safetensors file. Written by hand, so that the same basis always has the same bytes
//! and so the same name.

use super::{BasisFault, Parts, WIDTH_MAX};
use safetensors::{Dtype, SafeTensors};
use std::fmt::Write as _;

/// Where data begins is a multiple of this in the file.
const ALIGN: usize = 64;

pub(super) fn write(parts: &Parts) -> Vec<u8> {
    let width = parts.mean.len();
    let mut header = String::from("{\"__metadata__\":{");
    let (rows, rank) = (parts.rows, parts.rank);
    let tensor: String = parts.tensor.chars().filter(|c| is_plain(*c)).collect();
    let _ = write!(header, "\"rank\":\"{rank}\",\"rows\":\"{rows}\",\"tensor\":\"{tensor}\"}}");
    let mut data = Vec::new();
    let mut put = |name: &str, dtype: &str, shape: &str, words: &mut dyn Iterator<Item = u32>| {
        let start = data.len();
        words.for_each(|word| data.extend(word.to_le_bytes()));
        let end = data.len();
        let _ = write!(
            header,
            ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\
             \"data_offsets\":[{start},{end}]}}"
        );
    };
    let floats = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let vector = width.to_string();
    put("mean", "F32", &vector, &mut floats(&parts.mean).into_iter());
    put("scale", "F32", &vector, &mut floats(&parts.scale).into_iter());
    let outliers = parts.outliers.len().to_string();
    put("outliers", "U32", &outliers, &mut parts.outliers.iter().copied());
    if !parts.rotation.is_empty() {
        let square = format!("{width},{width}");
        put("rotation", "F32", &square, &mut floats(&parts.rotation).into_iter());
        put("spread", "F32", &vector, &mut floats(&parts.spread).into_iter());
    }
    header.push('}');
    while !(8 + header.len()).is_multiple_of(ALIGN) {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// Characters that stand for themselves in JSON.
fn is_plain(c: char) -> bool {
    !c.is_control() && c != '"' && c != '\\'
}

pub(super) fn read(bytes: &[u8]) -> Result<Parts, BasisFault> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|_| BasisFault::File)?;
    let file = SafeTensors::deserialize(bytes).map_err(|_| BasisFault::File)?;
    let words = |name: &str, dtype: Dtype, shape: &[Option<usize>]| {
        let view = file.tensor(name).map_err(|_| BasisFault::Shape)?;
        let same = view.shape().len() == shape.len()
            && view.shape().iter().zip(shape).all(|(a, b)| b.is_none_or(|b| *a == b));
        let fits = view.shape().iter().all(|length| *length <= WIDTH_MAX);
        if view.dtype() != dtype || !same || !fits {
            return Err(BasisFault::Shape);
        }
        let (chunks, _) = view.data().as_chunks::<4>();
        Ok(chunks.iter().map(|word| u32::from_le_bytes(*word)).collect::<Vec<_>>())
    };
    let floats = |name: &str, shape: &[Option<usize>]| {
        let words = words(name, Dtype::F32, shape)?;
        Ok(words.into_iter().map(f32::from_bits).collect::<Vec<_>>())
    };
    let mean = floats("mean", &[None])?;
    let width = Some(mean.len());
    let (mut rotation, mut spread) = (Vec::new(), Vec::new());
    if file.tensor("rotation").is_ok() || file.tensor("spread").is_ok() {
        rotation = floats("rotation", &[width, width])?;
        spread = floats("spread", &[width])?;
    }
    let said = |key: &str| metadata.metadata().as_ref().and_then(|all| all.get(key));
    let number = |key: &str| match said(key) {
        Some(text) => text.parse::<u64>().map_err(|_| BasisFault::Number),
        None => Ok(0),
    };
    Ok(Parts {
        scale: floats("scale", &[width])?,
        outliers: words("outliers", Dtype::U32, &[None])?,
        rank: u32::try_from(number("rank")?).map_err(|_| BasisFault::Number)?,
        rows: number("rows")?,
        tensor: said("tensor").cloned().unwrap_or_default(),
        mean,
        rotation,
        spread,
    })
}
