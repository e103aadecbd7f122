//! Why a driver cannot be set up, each with what to do about it.

use std::{fmt, io};

/// The step of the set-up that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `io_uring_setup`.
    Ring,
    /// The table of direct descriptors.
    Table,
    /// The provided buffers.
    Buffers,
    /// A listening socket.
    Listener,
    /// A doorbell.
    Doorbell,
    /// The sizes asked for.
    Sizes,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "setting up io_uring",
            Self::Table => "registering the table of direct descriptors",
            Self::Buffers => "registering the receive buffers",
            Self::Listener => "preparing a listening socket",
            Self::Doorbell => "creating a doorbell",
            Self::Sizes => "checking the configured sizes",
        })
    }
}

/// A driver that could not be set up.
#[derive(Debug)]
pub struct SetupError {
    step: Step,
    remedy: String,
    source: io::Error,
}

impl SetupError {
    pub(crate) fn new(step: Step, remedy: impl Into<String>, source: io::Error) -> Self {
        Self { step, remedy: remedy.into(), source }
    }

    /// Where it failed.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// What a person can do about it; empty where nothing general can be said.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
