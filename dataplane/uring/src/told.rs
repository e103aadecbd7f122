//! What happened, in the driver's own terms: owned and small, turned into an `Event` at the last moment.

use crate::buffers::Piece;
use dataplane_core::{driver::WorkerId, memory::SlotId};

/// An event without its borrowed bytes; connections by table index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Accepted(u32),
    /// Bytes of a stream.
    Stream(u32, Piece),
    /// A header of this length.
    Header(u32, u32),
    Stopped(u32),
    Filled(u32),
    Eof(u32),
    Sent(u32, u32),
    Failed(u32),
    Closed(u32),
    Completed(WorkerId, SlotId),
    WorkerUp(WorkerId, u32),
    WorkerDown(WorkerId),
    Drain,
}
