//! The basis that hidden rows are coded with: read once into sealed shared memory, mapped by every
//! worker.

use codec::Basis;
use link::SharedFile;
use std::path::Path;

/// A basis as workers get it.
pub(crate) struct Loaded {
    /// Its name: what frames that are coded with it carry.
    pub(crate) id: String,
    /// The file.
    pub(crate) file: SharedFile,
}

/// Reads and checks a basis.
///
/// # Errors
/// A sentence with the file and what is wrong.
pub(crate) fn load(path: &Path) -> Result<Loaded, String> {
    let wrong = |what: String| format!("{} is no basis: {what}", path.display());
    let file = SharedFile::load(path).map_err(|error| wrong(error.to_string()))?;
    let basis = Basis::from_bytes(file.bytes()).map_err(|error| wrong(error.to_string()))?;
    Ok(Loaded { id: basis.id().to_string(), file })
}
