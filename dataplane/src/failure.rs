//! How a command ends when it does not end well: in words, and as an exit code.

use std::process::ExitCode;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It could not start: arguments, configuration, files, addresses, the host.
    Setup(String),
    /// It started and failed.
    Run(String),
}

impl Failure {
    /// A failure to start.
    pub(crate) fn setup(why: impl ToString) -> Self {
        Self::Setup(why.to_string())
    }

    /// A failure on the way.
    pub(crate) fn run(why: impl ToString) -> Self {
        Self::Run(why.to_string())
    }

    /// As the process says it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Setup(_) => 2,
            Self::Run(_) => 1,
        })
    }

    /// As a person reads it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Setup(text) | Self::Run(text) => text,
        }
    }
}
