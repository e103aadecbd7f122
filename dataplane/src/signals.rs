//! The signals that a node listens to.

use crate::{failure::Failure, plan::Plan};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal of a file that grew over its limit, which would end the process where a failed write
/// is enough.
const FILE_TOO_LARGE: i32 = 25;

/// The signals that a node listens to: two end it, one has it read its certificates again, and one
/// must not end it.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Of a node with certificates: others keep to the OS's habit.
    pub(crate) hangup: Option<Signal>,
    /// Only to be caught: the write that caused it fails.
    _file_too_large: Signal,
}

impl Signals {
    pub(crate) fn new(plan: &Plan) -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::setup);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: plan.security.tls.as_ref().map(|_| listen(SignalKind::hangup())).transpose()?,
            _file_too_large: listen(SignalKind::from_raw(FILE_TOO_LARGE))?,
        })
    }

    /// The name of the next one that ends the node.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
