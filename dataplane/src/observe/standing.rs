//! How far the life of a node is.

use overview::Check;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Parts of a life, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Workers do not answer yet.
    Starting,
    /// It takes what comes.
    Serving,
    /// It answers what it has and takes nothing new.
    Draining,
    /// Another process serves in its place.
    Succeeded,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Draining, Self::Succeeded];

    const fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting: workers do not answer yet",
            Self::Serving => "serving",
            Self::Draining => "draining: nothing new is taken",
            Self::Succeeded => "another process serves in its place",
        }
    }
}

/// The phase, set by the control thread and read by others.
#[derive(Debug, Default)]
pub(crate) struct Standing(AtomicU8);

impl Standing {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }

    /// Whether work is taken here. A probe that still meets the process before asks for the
    /// address, and that is served.
    pub(crate) fn check(&self) -> Check {
        let phase = Phase::ALL[usize::from(self.0.load(Relaxed))];
        Check {
            name: "serving".to_owned(),
            holds: matches!(phase, Phase::Serving | Phase::Succeeded),
            detail: phase.words().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_or_is_served_for_is_ready() {
        let standing = Standing::default();
        assert!(standing.check().detail.starts_with("starting"));
        for phase in Phase::ALL {
            standing.set(phase);
            let check = standing.check();
            assert_eq!(check.holds, phase == Phase::Serving || phase == Phase::Succeeded);
            assert_eq!(check.detail, phase.words());
        }
    }
}
