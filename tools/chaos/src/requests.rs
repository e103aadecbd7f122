//! The distinct requests that clients send, each with its right answer from the plain reference.

use blast::{
    BlastError, Config, Op,
    check::Expect,
    request::{Request, requests},
};
use client::Addr;
use std::sync::Arc;
use wire::Operation;

/// Requests of one kind: the operation, bytes of a row, rows, and the deadline that is asked for.
const MIX: [(Operation, u32, u32, u32); 8] = [
    (Operation::Echo, 512, 1, 0),
    (Operation::TopK, 2_048, 1, 0),
    (Operation::Int8, 1_024, 2, 0),
    (Operation::Echo, 64, 3, 0),
    (Operation::TopK, 1_024, 2, 0),
    // Beyond a small slot.
    (Operation::TopK, 16 << 10, 2, 0),
    (Operation::Echo, 24 << 10, 1, 0),
    // One that may be too late for its asker.
    (Operation::Int8, 2_048, 1, 250),
];
/// Different contents of each kind; answers to two of them cannot be taken for each other.
const CONTENTS: usize = 16;

/// Frames with message id 0, and in the same order what answers them.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) expects: Arc<[Expect]>,
}

impl Requests {
    /// All kinds in turn.
    ///
    /// # Errors
    /// None in practice: sizes are fixed.
    pub(crate) fn new() -> Result<Self, BlastError> {
        Self::of(&MIX)
    }

    /// Short ones only, for figures of latency.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn short() -> Result<Self, BlastError> {
        Self::of(&MIX[..5])
    }

    fn of(mix: &[(Operation, u32, u32, u32)]) -> Result<Self, BlastError> {
        // Nobody connects there: only the requests are wanted.
        let nowhere = Addr::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
        let kinds = mix.iter().map(|&(operation, size, rows, timeout_ms)| {
            let config = Config::new(nowhere.clone(), Op::Work(operation));
            requests(&Config { size: Some(size), rows, k: 32, timeout_ms, ..config })
        });
        let kinds: Vec<Vec<Request>> = kinds.collect::<Result<_, _>>()?;
        let mixed = (0..CONTENTS)
            .flat_map(|content| kinds.iter().filter_map(move |kind| kind.get(content).cloned()));
        let (frames, expects): (Vec<_>, Vec<_>) =
            mixed.map(|request| (request.frame, request.expect)).unzip();
        Ok(Self { frames, expects: expects.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_are_the_same() {
        let Requests { frames, expects } = Requests::new().expect("sound");
        assert_eq!((frames.len(), expects.len()), (MIX.len() * CONTENTS, frames.len()));
        for (at, frame) in frames.iter().enumerate() {
            assert!(frames[..at].iter().all(|earlier| earlier != frame));
        }
        assert_eq!(Requests::short().expect("sound").frames.len(), 5 * CONTENTS);
    }
}
