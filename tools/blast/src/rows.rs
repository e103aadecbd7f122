//! The rows that requests carry: from a safetensors file, or made up.

use crate::config::{BlastError, Config, Op, TensorRef};
use safetensors::tensor::{Dtype as FileDtype, Metadata};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};
use wire::{Dtype, Operation};

/// Bytes of distinct rows; each thread keeps a copy to send from. Rows beyond are not sent.
const BYTES_MAX: u64 = 32 << 20;
/// Distinct requests; each is judged against its own reference.
const REQUESTS_MAX: u64 = 1_024;
/// Distinct made-up requests.
const MADE_UP: u64 = 64;
/// Longest header of a safetensors file: the format's own bound.
const HEADER_MAX: u64 = 100_000_000;

/// Rows of equal width, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Element type.
    pub dtype: Dtype,
    /// Elements of a row.
    pub cols: u32,
    /// Whole rows, little-endian.
    pub data: Vec<u8>,
}

impl Rows {
    /// Bytes of a row.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.cols as usize * self.dtype.size()
    }

    /// The rows that this run sends, as few as show variety and fit the bounds.
    ///
    /// # Errors
    /// [`BlastError::Usage`] for a file that cannot be read, has no such tensor, or one of the
    /// wrong form.
    pub fn of(config: &Config, operation: Operation) -> Result<Self, BlastError> {
        match &config.tensor {
            Some(tensor) => {
                let told = |why| {
                    let TensorRef { file, name } = tensor;
                    BlastError::usage(format!("--tensor {}:{name}: {why}", file.display()))
                };
                Self::read(tensor, config.rows, operation).map_err(told)
            }
            None => Self::made_up(config, operation),
        }
    }

    fn read(tensor: &TensorRef, per_request: u32, operation: Operation) -> Result<Self, String> {
        let mut file = File::open(&tensor.file).map_err(|fault| fault.to_string())?;
        let file_len = file.metadata().map_err(|fault| fault.to_string())?.len();
        let (metadata, data_at) = header(&mut file, file_len)?;
        let Some(info) = metadata.info(&tensor.name) else {
            let mut names = metadata.offset_keys();
            names.truncate(20);
            return Err(format!("no such tensor; the file has {}", names.join(", ")));
        };
        let dtype = match info.dtype {
            FileDtype::F32 => Dtype::F32,
            FileDtype::F16 => Dtype::F16,
            FileDtype::BF16 => Dtype::Bf16,
            FileDtype::U8 if operation == Operation::Echo => Dtype::U8,
            other => return Err(format!("elements of {other:?}; rows are F32, F16 or BF16")),
        };
        let cols = *info.shape.last().ok_or("a single number, not rows")?;
        let row_len = (cols * dtype.size()) as u64;
        let bytes = info.data_offsets.1.saturating_sub(info.data_offsets.0) as u64;
        let cols = u32::try_from(cols).map_err(|_| "rows of over 4 billion elements".to_owned())?;
        if bytes == 0 || row_len == 0 {
            return Err("the tensor is empty".to_owned());
        }
        let request_len = row_len * u64::from(per_request);
        if request_len > bytes {
            return Err(format!("has {} rows, fewer than --rows {per_request}", bytes / row_len));
        }
        // Whole requests only, as many as the bounds allow, but one at least.
        let requests = (bytes / request_len).min(BYTES_MAX / request_len).clamp(1, REQUESTS_MAX);
        let len = usize::try_from(requests * request_len).map_err(|fault| fault.to_string())?;
        let mut data = vec![0; len];
        file.seek(SeekFrom::Start(data_at + info.data_offsets.0 as u64))
            .and_then(|_| file.read_exact(&mut data))
            .map_err(|fault| format!("the file is shorter than its header says: {fault}"))?;
        Ok(Self { dtype, cols, data })
    }

    /// Bell-shaped numbers, the same in every run.
    fn made_up(config: &Config, operation: Operation) -> Result<Self, BlastError> {
        let usual = match operation {
            Operation::Echo | Operation::Generate | Operation::Fetch => 64,
            Operation::TopK => 131_072 * 4,
            Operation::Int8 | Operation::LmHead | Operation::Hidden => 4_096 * 4,
        };
        let row_len = config.size.unwrap_or(usual);
        let dtype = if operation == Operation::Echo { Dtype::U8 } else { Dtype::F32 };
        if row_len == 0 || !(row_len as usize).is_multiple_of(dtype.size()) {
            return Err(BlastError::usage(format!(
                "--size must be a positive multiple of {}, the bytes of an element",
                dtype.size()
            )));
        }
        let request_len = u64::from(row_len) * u64::from(config.rows);
        if request_len > 1 << 30 {
            return Err(BlastError::usage("--size times --rows is over 1 GiB"));
        }
        let requests = (BYTES_MAX / request_len).clamp(1, MADE_UP);
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut uniform = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let elements = (requests * request_len) as usize / dtype.size();
        let data = match dtype {
            Dtype::U8 => (0..elements).map(|_| (uniform() >> 32) as u8).collect(),
            _ => (0..elements)
                .flat_map(|_| {
                    let four = uniform();
                    let sum: u64 = (0..4).map(|part| four >> (16 * part) & 0xFFFF).sum();
                    ((sum as f32 - 131_070.0) / 9_000.0).to_le_bytes()
                })
                .collect(),
        };
        Ok(Self { dtype, cols: row_len / dtype.size() as u32, data })
    }
}

impl Op {
    /// The numeric operation, where there is one.
    #[must_use]
    pub const fn operation(self) -> Option<Operation> {
        match self {
            Self::Work(operation) => Some(operation),
            Self::Ping | Self::Heartbeat => None,
        }
    }
}

/// The header of a safetensors file, and where its data begins.
fn header(file: &mut File, file_len: u64) -> Result<(Metadata, u64), String> {
    let mut len = [0; 8];
    file.read_exact(&mut len).map_err(|_| "not a safetensors file: too short".to_owned())?;
    let len = u64::from_le_bytes(len);
    if len > HEADER_MAX || len > file_len.saturating_sub(8) {
        return Err("not a safetensors file: its header would be longer than the file".to_owned());
    }
    let mut json = vec![0; len as usize];
    file.read_exact(&mut json).map_err(|fault| fault.to_string())?;
    let metadata = serde_json::from_slice(&json)
        .map_err(|fault| format!("not a safetensors file: {fault}"))?;
    Ok((metadata, 8 + len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn sample(name: &str) -> TensorRef {
        let file = format!("{}/../../wire/samples/demo.safetensors", env!("CARGO_MANIFEST_DIR"));
        TensorRef { file: file.into(), name: name.to_owned() }
    }

    fn config(op: Operation) -> Config {
        Config::new("127.0.0.1:1".parse().expect("an address"), Op::Work(op))
    }

    #[test]
    fn a_tensor_of_a_file_gives_whole_requests() {
        let rows = Rows::read(&sample("logits"), 3, Operation::TopK).expect("rows");
        assert_eq!((rows.dtype, rows.cols), (Dtype::F32, 30_522));
        assert_eq!(rows.data.len(), 6 * rows.row_len(), "two requests of three of the eight rows");
        let wide = Rows::read(&sample("wide"), 1, Operation::TopK).expect("rows");
        assert_eq!((wide.dtype, wide.cols), (Dtype::Bf16, 128_256));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let fault = |tensor: &TensorRef, rows| {
            Rows::read(tensor, rows, Operation::TopK).expect_err("a fault")
        };
        assert!(fault(&sample("nothing"), 1).contains("the file has"));
        assert!(fault(&sample("logits"), 9).contains("fewer than --rows 9"));
        let missing = TensorRef { file: "/nowhere/x".into(), name: "x".to_owned() };
        assert!(fault(&missing, 1).contains("No such file"));
        let source = TensorRef { file: file!().into(), name: "x".to_owned() };
        let here = TensorRef {
            file: format!("{}/src/rows.rs", env!("CARGO_MANIFEST_DIR")).into(),
            ..source
        };
        assert!(fault(&here, 1).contains("not a safetensors file"));
    }

    #[test]
    fn made_up_rows_are_finite_varied_and_of_the_size_asked_for() {
        let mut config = config(Operation::TopK);
        config.size = Some(400);
        let rows = Rows::of(&config, Operation::TopK).expect("rows");
        assert_eq!((rows.cols, rows.data.len()), (100, 64 * 400));
        let values = reference::widen(&rows.data, rows.dtype);
        assert!(values.iter().all(|value| value.abs() < 20.0));
        assert_ne!(values[..100], values[100..200]);
        config.size = Some(401);
        assert!(Rows::of(&config, Operation::TopK).is_err());
        assert_eq!(Rows::of(&config, Operation::Echo).expect("bytes").cols, 401);
    }
}
