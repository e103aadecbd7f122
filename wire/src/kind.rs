//! Closed registries: message kinds, compression codes, error codes.

/// Defines a closed enum with explicit codes, `from_code`, `code` and a stable lower-case `name`.
macro_rules! registry {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident : $repr:ty {
            $($(#[$doc:meta])* $variant:ident = $code:expr, $text:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr($repr)]
        $vis enum $name { $($(#[$doc])* $variant = $code,)* }

        impl $name {
            /// Every member, in code order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The member with this code, if the registry has it.
            #[must_use]
            #[inline]
            pub const fn from_code(code: $repr) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The code on the wire.
            #[must_use]
            #[inline]
            pub const fn code(self) -> $repr { self as $repr }

            /// A stable lower-case name for metrics and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The member of this name, in capitals or not.
            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.name().eq_ignore_ascii_case(text))
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use registry;

registry! {
    /// Message types (TYPES-01..12; 0x01xx are the mesh's, MESHMSG-14..18). Ranges 0x02xx
    /// (federation) and 0x03xx (exchange) are reserved.
    pub enum Kind: u16 {
        /// A client asks for work: text for a model, or a tensor operation.
        QueryRequest = 0x0001, "query_request";
        /// The answer, or one chunk of it.
        QueryResponse = 0x0002, "query_response";
        /// A worker host announces itself.
        WorkerRegistration = 0x0003, "worker_registration";
        /// Liveness and clock exchange; empty payload is a ping.
        Heartbeat = 0x0004, "heartbeat";
        /// Epidemic state exchange.
        GossipStateUpdate = 0x0005, "gossip_state_update";
        /// A proposal in a debate.
        DebateProposal = 0x0006, "debate_proposal";
        /// A critique of a proposal.
        DebateCritique = 0x0007, "debate_critique";
        /// A vote on answers.
        ConsensusVote = 0x0008, "consensus_vote";
        /// Asks a verifier.
        VerificationRequest = 0x0009, "verification_request";
        /// A verifier's verdict.
        VerificationResponse = 0x000A, "verification_response";
        /// A refusal or failure, with its reason.
        ErrorReport = 0x000B, "error_report";
        /// Metrics; an empty payload asks for them.
        MetricsUpdate = 0x000C, "metrics_update";
        /// Asks for the lives of requests.
        TraceQuery = 0x000D, "trace_query";
        /// The answer.
        TraceReport = 0x000E, "trace_report";
        /// Agents announce themselves.
        AgentRegistration = 0x0101, "agent_registration";
        /// The answer: a place for each.
        AgentRegistered = 0x0102, "agent_registered";
        /// An agent's impedance, and the clock exchange.
        AgentHeartbeat = 0x0103, "agent_heartbeat";
        /// A message to be READY for at a given moment.
        Coordinate = 0x0104, "coordinate";
        /// What an agent made of it.
        Ack = 0x0105, "ack";
        /// An order to a breaker.
        Circuit = 0x0106, "circuit";
        /// Stops a part of the mesh, or lets it go on.
        Freeze = 0x0107, "freeze";
        /// Asks for a scatter-gather operation.
        Gather = 0x0108, "gather";
        /// Its progress and its result.
        GatherReport = 0x0109, "gather_report";
        /// Asks for agents or the map.
        MeshQuery = 0x010A, "mesh_query";
        /// The answer.
        MeshView = 0x010B, "mesh_view";
        /// A node joins the one above it.
        NodeJoin = 0x010C, "node_join";
        /// The clusters of a node below.
        MeshSummary = 0x010D, "mesh_summary";
    }
}

registry! {
    /// How the payload is carried (WIRE-08).
    pub enum Compression: u16 {
        /// As it is.
        None = 0, "none";
        /// A Zstandard frame.
        Zstd = 1, "zstd";
        /// An LZ4 frame.
        Lz4 = 2, "lz4";
    }
}

registry! {
    /// Why a request was refused or failed; carried by ERROR_REPORT.
    pub enum ErrorCode: u16 {
        /// The first four bytes are not `BUTT`. The connection closes.
        BadMagic = 1, "bad_magic";
        /// A protocol version this node does not speak. The connection closes.
        UnsupportedVersion = 2, "unsupported_version";
        /// A message type outside the registry. The payload is skipped.
        UnknownType = 3, "unknown_type";
        /// A type of the registry that this node does not serve. The payload is skipped.
        UnservedType = 4, "unserved_type";
        /// A compression code outside the registry. The payload is skipped.
        UnknownCompression = 5, "unknown_compression";
        /// The payload's CRC-16 does not match the header.
        BadChecksum = 6, "bad_checksum";
        /// The payload's inner CRC-32C does not match.
        BadCheck = 7, "bad_check";
        /// payload_length is over the node's limit. The connection closes.
        PayloadTooLong = 8, "payload_too_long";
        /// The archive is truncated, points outside itself or has an invalid value.
        BadArchive = 9, "bad_archive";
        /// The compressed payload cannot be restored, or would exceed the limit.
        BadCompression = 10, "bad_compression";
        /// Fields are each valid but do not fit together (shape against bytes, for example).
        BadRequest = 11, "bad_request";
        /// k is 0 or over the limit.
        BadK = 12, "bad_k";
        /// The vocabulary (columns) is 0 or over the limit.
        BadShape = 13, "bad_shape";
        /// The reply would not fit into the reply area of a slot.
        ReplyTooLong = 14, "reply_too_long";
        /// No worker of this node serves that operation.
        NoCapableWorker = 15, "no_capable_worker";
        /// timeout_ms passed before the work was done.
        DeadlineExceeded = 16, "deadline_exceeded";
        /// Too many requests are under way; try again after the hint.
        Overloaded = 17, "overloaded";
        /// The request outlived every worker that tried it.
        WorkerFailed = 18, "worker_failed";
        /// The node is draining and takes no new work.
        Draining = 19, "draining";
        /// The node has no room for another connection. The connection closes.
        TooManyConnections = 20, "too_many_connections";
        /// The peer was too slow to send or to read. The connection closes.
        PeerTooSlow = 21, "peer_too_slow";
        /// No basis, or another one than the request names. The one that is there can be fetched.
        UnknownBasis = 22, "unknown_basis";
        /// Another connection holds this agent's id.
        NameTaken = 23, "name_taken";
        /// The registry, or the connection, has no room for another agent.
        MeshFull = 24, "mesh_full";
        /// The handle is not (any more) an agent of this connection.
        StaleAgent = 25, "stale_agent";
        /// More targets, or a longer message, than the mesh takes.
        TooManyTargets = 26, "too_many_targets";
        /// The peer's roles do not allow this.
        Forbidden = 27, "forbidden";
        /// The peer is over a limit of its own; try again after the hint.
        RateLimited = 28, "rate_limited";
        /// The asker took the request back. From a client: takes the request of that id back.
        Cancelled = 29, "cancelled";
        /// A request of the same sender and id is under way, or was answered; an order was
        /// signed under a stamp that its key used before.
        Duplicate = 30, "duplicate";
        /// A second operator must sign this order before it is obeyed.
        Unconfirmed = 31, "unconfirmed";
    }
}

impl Kind {
    /// True for the messages of the mesh.
    #[must_use]
    #[inline]
    pub const fn is_mesh(self) -> bool {
        self.code() >> 8 == 0x01
    }
}

impl ErrorCode {
    /// True where the stream cannot be trusted after this error, so that the connection must close.
    #[must_use]
    pub const fn closes(self) -> bool {
        matches!(
            self,
            Self::BadMagic
                | Self::UnsupportedVersion
                | Self::PayloadTooLong
                | Self::TooManyConnections
                | Self::PeerTooSlow
        )
    }

    /// True where the same request may succeed later or elsewhere.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::BadChecksum
                | Self::BadCheck
                | Self::Overloaded
                | Self::WorkerFailed
                | Self::Draining
                | Self::TooManyConnections
                | Self::MeshFull
                | Self::RateLimited
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn types_01_to_12_codes_run_from_one_and_come_back() {
        let codes: Vec<u16> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes, (0x0001..=0x000E).chain(0x0101..=0x010D).collect::<Vec<_>>());
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(*kind));
        }
        assert!(Kind::from_code(0).is_none() && Kind::from_code(0x000F).is_none());
    }

    #[test]
    fn every_name_is_one_of_its_own() {
        let names: HashSet<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        assert_eq!(ErrorCode::Overloaded.to_string(), "overloaded");
        let sentences: HashSet<&str> =
            ErrorCode::ALL.iter().map(|code| crate::error::sentence(*code)).collect();
        assert_eq!(sentences.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn wire_08_compressions_are_none_zstd_lz4() {
        let codes: Vec<u16> = Compression::ALL.iter().map(|it| it.code()).collect();
        assert_eq!(codes, [0, 1, 2]);
        assert_eq!(Compression::from_code(1), Some(Compression::Zstd));
        assert_eq!(Compression::from_code(3), None);
    }
}
