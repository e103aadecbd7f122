//! Words of the life of a request, as TRACE_QUERY and TRACE_REPORT say them.

use crate::kind::registry;

registry! {
    /// How a request ended.
    pub enum End: u8 {
        /// With an answer.
        Answered = 0, "answered";
        /// With an ERROR_REPORT.
        Refused = 1, "refused";
        /// Its connection was gone before.
        Gone = 2, "gone";
        /// With the answer to the request that it repeats.
        Repeated = 3, "repeated";
    }
}

registry! {
    /// Which requests are asked about.
    pub enum Select: u8 {
        /// Those of a message id.
        Message = 0, "message";
        /// Those of a query id.
        Query = 1, "query";
        /// The last ones.
        Last = 2, "last";
        /// The slowest of those that are remembered.
        Slowest = 3, "slowest";
        /// The last ones that were refused.
        Refused = 4, "refused";
    }
}

/// `connection` of a TRACE_QUERY: every one.
pub const EVERY_CONNECTION: u32 = u32::MAX;
/// `shard` of a TRACE_QUERY: every one.
pub const EVERY_SHARD: u16 = u16::MAX;
/// Most requests of one TRACE_REPORT.
pub const TRACES_MAX: u16 = 64;
/// Most bytes of a TRACE_QUERY.
pub const TRACE_QUERY_MAX: usize = 512;
/// What never happened, among the times of a trace.
pub const NEVER: u64 = u64::MAX;
