//! What the listener counts. Written by its thread, read by others.

use dataplane_core::stats::{Source, Visit};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection or a stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many connections as allowed.
    Connections,
    /// As many handshakes as allowed.
    Handshakes,
    /// The node is ending.
    Draining,
    /// The handshake failed: no certificate, one of another authority, an expired one.
    Handshake,
    /// The handshake took too long.
    Slow,
    /// The certificate names nobody who may come in.
    Identity,
    /// As many streams as allowed in all, or no socket for one more.
    Streams,
    /// No shard had room for the stream.
    Shards,
}

impl Refusal {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Handshakes,
        Self::Draining,
        Self::Handshake,
        Self::Slow,
        Self::Identity,
        Self::Streams,
        Self::Shards,
    ];

    /// As in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::Draining => "draining",
            Self::Handshake => "handshake",
            Self::Slow => "slow",
            Self::Identity => "identity",
            Self::Streams => "streams",
            Self::Shards => "shards",
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident: $name:literal $(, $label:literal = $value:literal)?;)+) => {
        /// Counters and gauges of one listener.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $field: Count,)+
            refused: [Count; Refusal::ALL.len()],
        }

        impl Source for Counters {
            fn visit(&self, visit: Visit<'_>) {
                $(
                    let (label, value) = (counters!(@ $($label)?), counters!(@ $($value)?));
                    visit($name, label, value, self.$field.get());
                )+
                for reason in Refusal::ALL {
                    let value = self.refused(reason);
                    visit("butterfly_quic_refused_total", "reason", reason.name(), value);
                }
            }
        }
    };
    (@) => { "" };
    (@ $text:literal) => { $text };
}

counters! {
    /// Connections whose handshake was confirmed.
    connections: "butterfly_quic_connections_total";
    /// Connections there are now, those in their handshake with them.
    connections_open: "butterfly_quic_connections";
    /// Streams that were given to a shard.
    streams: "butterfly_quic_streams_total";
    /// Streams there are now.
    streams_open: "butterfly_quic_streams";
    /// Datagrams received.
    datagrams_in: "butterfly_quic_datagrams_total", "way" = "in";
    /// Datagrams sent.
    datagrams_out: "butterfly_quic_datagrams_total", "way" = "out";
    /// Their bytes.
    bytes_in: "butterfly_quic_bytes_total", "way" = "in";
    /// Their bytes.
    bytes_out: "butterfly_quic_bytes_total", "way" = "out";
    /// Bytes copied from the receive buffer into a datagram of its own.
    copied_datagrams: "butterfly_quic_copied_bytes_total", "stage" = "datagram";
    /// Bytes copied into the socket of a shard; the shard's receive copies them once more.
    copied_to_shard: "butterfly_quic_copied_bytes_total", "stage" = "to-shard";
    /// Bytes copied out of the socket of a shard, which the shard's send had copied in.
    copied_from_shard: "butterfly_quic_copied_bytes_total", "stage" = "from-shard";
    /// Bytes copied from there into what a connection keeps until it is acknowledged.
    copied_to_send: "butterfly_quic_copied_bytes_total", "stage" = "to-send";
    /// Peers that were asked to show that they receive at their address.
    retries: "butterfly_quic_retries_total";
    /// Connections whose first flight carried data that was accepted (0-RTT).
    early: "butterfly_quic_early_total", "what" = "accepted";
    /// Streams held because a frame may not come before the handshake is confirmed.
    early_held: "butterfly_quic_early_total", "what" = "held";
    /// Answers outside of connections that found no room.
    answers_dropped: "butterfly_quic_answers_dropped_total";
    /// Calls of the kernel.
    calls: "butterfly_quic_syscalls_total";
    /// Sends that the OS refused; the peer asks again for what is missing.
    send_faults: "butterfly_quic_send_faults_total";
    /// Receives that found no buffer, or more than one holds.
    receive_faults: "butterfly_quic_receive_faults_total";
}

impl Counters {
    pub(crate) fn refuse(&self, reason: Refusal) {
        self.refused[reason as usize].add(1);
    }

    /// How many were refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].get()
    }
}

/// A number that one thread writes and any reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// As it stands.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        // One writer: no other addition can come between.
        self.0.store(self.get().wrapping_add(more), Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}
