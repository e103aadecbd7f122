//! The basis that hidden rows are coded with: read once into sealed shared memory and mapped by
//! every worker; fetched, described and compared by commands.

mod command;
mod fetch;

pub(crate) use command::{describe, run};
pub(crate) use fetch::{Known, fetch, known};

use codec::basis::Basis;
use link::SharedFile;
use std::path::Path;

/// A basis as workers get it.
pub(crate) struct Loaded {
    /// Its name: what frames that are coded with it carry.
    pub(crate) id: String,
    /// The file.
    pub(crate) file: SharedFile,
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> String {
    format!("{} is no basis: {what}; `butterfly calibrate` makes one", path.display())
}

/// Reads and checks a basis for the workers.
///
/// # Errors
/// A sentence with the file and what is wrong.
pub(crate) fn load(path: &Path) -> Result<Loaded, String> {
    let file = SharedFile::load(path).map_err(|error| wrong(path, error))?;
    let basis = Basis::from_bytes(file.bytes()).map_err(|error| wrong(path, error))?;
    Ok(Loaded { id: basis.id().to_string(), file })
}

/// Reads and checks a basis for this process.
///
/// # Errors
/// A sentence with the file and what is wrong.
pub(crate) fn read(path: &Path) -> Result<Basis, String> {
    let bytes =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Basis::from_bytes(&bytes).map_err(|error| wrong(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_basis_is_said_with_the_file_and_the_way_out() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/samples");
        for name in ["README.md", "hidden.safetensors"] {
            let error = load(&samples.join(name)).map(|loaded| loaded.id).expect_err(name);
            assert!(error.contains(name) && error.contains("butterfly calibrate"), "{error}");
            assert_eq!(read(&samples.join(name)).expect_err(name), error);
        }
        assert!(read(Path::new("/nonexistent")).expect_err("missing").contains("/nonexistent"));
    }
}
