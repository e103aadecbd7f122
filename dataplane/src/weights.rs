//! The lm-head weights: read once into sealed shared memory, mapped by every worker.

use crate::{say, tensors::TensorFile, units::Bytes};
use indicatif::{ProgressBar, ProgressStyle};
use link::SharedFile;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

/// Bytes read at a time.
const STEP: usize = 4 << 20;
/// Files from this size on show their progress: smaller ones are there before a person looks.
const SHOWN_FROM: u64 = 256 << 20;

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Checks that a file holds what lm-head needs, before any of it is read.
///
/// # Errors
/// A sentence with the file, the tensor and what is wrong.
fn check(path: &Path) -> Result<(), String> {
    let file = TensorFile::open(path).map_err(|error| error.to_string())?;
    let wrong = |what: String| format!("{} cannot serve lm-head: {what}", path.display());
    let weight = file.rows("weight").map_err(|error| wrong(error.to_string()))?;
    if weight.shape.len() != 2 {
        return Err(wrong(format!(
            "`weight` has {} axes; [vocabulary, width] is needed",
            weight.shape.len()
        )));
    }
    if weight.rows > u64::from(wire::work::COLS_MAX) {
        return Err(wrong(format!(
            "a vocabulary of {} is over the limit of {}",
            weight.rows,
            wire::work::COLS_MAX
        )));
    }
    match file.rows("bias") {
        Ok(bias) if bias.shape.len() != 1 || u64::from(bias.cols) != weight.rows => {
            Err(wrong(format!("`bias` has not one entry per row of `weight` ({})", weight.rows)))
        }
        Err(error) if file.has("bias") => Err(wrong(error.to_string())),
        _ => Ok(()),
    }
}

/// Reads the file through io_uring into memory that nobody can change any more.
///
/// # Errors
/// As [`check`], or the OS's reason.
pub(crate) async fn load(path: &Path) -> Result<SharedFile, String> {
    check(path)?;
    read(path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

async fn read(path: &Path) -> io::Result<SharedFile> {
    let length = path.metadata()?.len();
    let file = tokio_uring::fs::File::open(path).await?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(memfd_create("butterfly-weights", flags)?);
    let bar = progress(path, length);
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    loop {
        let (read, filled) = file.read_at(buffer, at).await;
        buffer = filled;
        let read = read?;
        if read == 0 {
            break;
        }
        memory.write_all(&buffer[..read])?;
        at += read as u64;
        bar.set_position(at);
    }
    bar.finish_and_clear();
    file.close().await?;
    if at != length {
        return Err(io::Error::other(format!(
            "it changed while it was read ({length} to {at} bytes)"
        )));
    }
    fcntl_add_seals(&memory, SEALS)?;
    SharedFile::attach(memory.into())
}

fn progress(path: &Path, length: u64) -> ProgressBar {
    if length < SHOWN_FROM {
        return ProgressBar::hidden();
    }
    say::note(format!("reading {} ({})", path.display(), Bytes(length)));
    let bar = ProgressBar::new(length);
    let template = "{bar:40} {percent:>3}% {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples").join(name)
    }

    #[test]
    fn what_cannot_serve_is_said_by_name() {
        assert_eq!(check(&sample("lm_head.safetensors")), Ok(()));
        let error = check(&sample("hidden.safetensors")).expect_err("no weights");
        assert!(error.contains("`weight`") && error.contains("hidden.f16"), "{error}");
        assert!(check(&sample("README.md")).is_err());
        assert!(check(Path::new("/nonexistent")).expect_err("missing").contains("/nonexistent"));
    }

    #[test]
    fn loaded_weights_are_the_file() {
        let path = sample("lm_head.safetensors");
        let load = async { load(&path).await };
        let shared = tokio_uring::start(load).expect("loads");
        assert!(shared.bytes() == std::fs::read(&path).expect("sample"));
    }
}
