//! What the driver did, in plain numbers. Copied out, never read back.

/// Counters of one driver since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// `io_uring_enter` calls, those that failed included.
    pub enters: u64,
    /// Of these, calls that were allowed to wait.
    pub waits: u64,
    /// Submission entries given to the kernel.
    pub submitted: u64,
    /// Completion entries taken from the kernel.
    pub completions: u64,
    /// Times the kernel asked for room in the completion queue before it took more.
    pub throttled: u64,
    /// Doorbells rung for sleeping workers and a sleeping mesh, one system call each.
    pub doorbells: u64,
    /// `sched_yield` calls of the idle loop.
    pub yields: u64,
    /// All other system calls after start: descriptors installed and closed, socket options.
    pub other_calls: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Connections turned away because the table of direct descriptors was full.
    pub refused: u64,
    /// Times an accept failed for another reason.
    pub accept_faults: u64,
    /// Connected sockets installed by the caller.
    pub adopted: u64,
    /// Connections closed, all of their operations ended.
    pub closed: u64,
    /// Deliveries of the stream into provided buffers.
    pub receives: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// Headers and payload stretches received straight to their place.
    pub fills: u64,
    /// Bytes of these: what reached a slot without a copy in user space.
    pub filled_bytes: u64,
    /// Fills that the kernel ended early and the driver continued.
    pub short_fills: u64,
    /// Sends that ended.
    pub sends: u64,
    /// Bytes the kernel took from them.
    pub sent_bytes: u64,
    /// Sends that took fewer bytes than ordered.
    pub short_sends: u64,
    /// Provided buffers given back to the kernel.
    pub recycled: u64,
    /// Streams that ended because no provided buffer was free.
    pub no_buffers: u64,
    /// Streams started, restarts included.
    pub arms: u64,
    /// Cancellations that met an operation on the move and were sent again.
    pub cancel_retries: u64,
    /// Deliveries of which the shard used a part only; the rest was kept.
    pub kept: u64,
    /// Deliveries of zero bytes: ends of a peer's stream.
    pub ends: u64,
    /// Completions of an earlier life of their table entry, dropped.
    pub stale: u64,
    /// TLS handshakes completed by peers that may come in.
    pub handshakes: u64,
    /// Handshakes that failed, or whose peer left.
    pub handshakes_failed: u64,
    /// Handshakes that took too long.
    pub handshakes_slow: u64,
    /// Connections that had to wait in line for their handshake.
    pub handshakes_in_line: u64,
    /// Proven peers that may not come in.
    pub identities_refused: u64,
    /// Records opened.
    pub tls_opened: u64,
    /// Bytes of records that straddled buffers, copied to put them together.
    pub tls_gathered_bytes: u64,
    /// Plain bytes copied to where a fill wanted them.
    pub tls_poured_bytes: u64,
    /// Connections ended because of a record.
    pub tls_faults: u64,
    /// Connections whose stream ended without the peer's word for it.
    pub tls_cut_off: u64,
    /// Times a connection had to wait for an output buffer.
    pub tls_output_waits: u64,
    /// Parked sleeps that were announced and then not slept because work had come.
    pub parks_avoided: u64,
}

impl DriverCounters {
    /// Every system call the driver made after start. Reading the clock is none: the vDSO answers
    /// it.
    #[must_use]
    pub const fn syscalls(&self) -> u64 {
        self.enters + self.doorbells + self.yields + self.other_calls
    }
}
