//! Where a report goes.

use crate::config::BlastError;
use clap::Args;
use std::path::{Path, PathBuf};

/// Options of everything that makes a report.
#[derive(Args, Clone, Debug, Default)]
pub struct OutArgs {
    /// Write the report as JSON to a file, or to standard output for -
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as a page to a file, or to standard output for -
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl OutArgs {
    /// Finds out before a long run what would be found out after it.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn check(&self) -> Result<(), BlastError> {
        if self.json.is_some() && self.json == self.html {
            let path = self.json.as_deref().unwrap_or_else(|| Path::new("-")).display();
            return Err(BlastError::usage(format!("--json and --html would both go to {path}")));
        }
        for (option, path) in [("--json", &self.json), ("--html", &self.html)] {
            let Some(path) = path.as_deref().filter(|path| *path != Path::new("-")) else {
                continue;
            };
            let folder = match path.parent() {
                Some(folder) if folder != Path::new("") => folder,
                _ => Path::new("."),
            };
            if path.is_dir() || !folder.is_dir() {
                return Err(BlastError::usage(format!(
                    "{option} {}: name a file in a folder that is there",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// True where standard output is taken by one of them.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        [&self.json, &self.html].into_iter().flatten().any(|path| path == Path::new("-"))
    }
}
