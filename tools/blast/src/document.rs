//! Reports as files: one JSON document for each kind, with a schema number, so that a page or a
//! comparison can be made later, and of runs that were made elsewhere.

use crate::{
    agents, compare::Comparison, origin::Origin, overload::Overload, report::Run, sweep::Sweep,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fs, io::Read, path::Path};

/// Schema of the documents that this program writes, and the latest that it reads.
pub const SCHEMA: u32 = 1;
/// Longest file: a run with all its stretches of time is some 300 KB.
const FILE_MAX: u64 = 64 << 20;

/// A report with where it comes from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Document {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// What was found.
    #[serde(flatten)]
    pub body: Body,
}

/// What was found.
#[expect(clippy::large_enum_variant, reason = "a program holds one, or a few dozen to compare")]
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Body {
    /// Of `blast run`.
    Run(Box<Run>),
    /// Of `blast overload`.
    Overload(Overload),
    /// Of `blast sweep`.
    Sweep(Sweep),
    /// Of `blast compare`.
    Compare(Comparison),
    /// Of `blast agents`.
    Agents(Box<agents::Report>),
}

impl Body {
    /// Name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Overload(_) => "overload",
            Self::Sweep(_) => "sweep",
            Self::Compare(_) => "compare",
            Self::Agents(_) => "agents",
        }
    }

    /// True where every request was answered or refused, and nothing was wrong or worse.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Run(run) => run.report.is_clean(),
            Self::Overload(overload) => overload.is_clean(),
            Self::Sweep(sweep) => sweep.is_clean(),
            Self::Compare(comparison) => !comparison.is_worse(),
            Self::Agents(report) => report.is_clean(),
        }
    }

    /// For people, in so many columns.
    #[must_use]
    pub fn text(&self, columns: u16) -> String {
        match self {
            Self::Run(run) => run.report.text(columns),
            Self::Overload(overload) => overload.text(columns),
            Self::Sweep(sweep) => sweep.text(columns),
            Self::Compare(comparison) => comparison.text(columns),
            Self::Agents(report) => report.to_string(),
        }
    }
}

impl Document {
    /// A document of this program.
    #[must_use]
    pub const fn new(origin: Origin, body: Body) -> Self {
        Self { schema: SCHEMA, origin, body }
    }

    /// As JSON, with a line end.
    ///
    /// # Errors
    /// Where a number cannot be written.
    pub fn json(&self) -> Result<String, String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|fault| fault.to_string())?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn open(path: &Path) -> Result<Self, String> {
        let at = |what: String| format!("{}: {what}", path.display());
        let file = fs::File::open(path).map_err(|fault| at(format!("cannot be read: {fault}")))?;
        let mut bytes = Vec::new();
        let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|fault| at(format!("cannot be read: {fault}")))?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(at(format!("over {} MiB, so no report", FILE_MAX >> 20)));
        }
        Self::read(&bytes).map_err(at)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        const WANTED: &str = "give a file that `blast ... --json FILE` wrote";
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|fault| format!("is no JSON ({fault}): {WANTED}"))?;
        let schema = value.get("schema").and_then(Value::as_u64);
        match (schema, value.get("kind").and_then(Value::as_str)) {
            (Some(1..), Some(_)) => {}
            _ if value.get("latency_us").is_some() && value.get("load").is_some() => {
                return Err("is of a blast before schema 1, which kept too little of a run: \
                            run it again"
                    .to_owned());
            }
            _ => return Err(format!("is no report of blast: {WANTED}")),
        }
        if let Some(later) = schema.filter(|schema| *schema > SCHEMA.into()) {
            return Err(format!(
                "has schema {later}, and this blast ({}) reads up to {SCHEMA}: use the blast that \
                 wrote it, or a later one",
                env!("CARGO_PKG_VERSION")
            ));
        }
        serde_json::from_value(value)
            .map_err(|fault| format!("is damaged, or not written by blast: {fault}"))
    }
}
