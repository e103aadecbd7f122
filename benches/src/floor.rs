//! The floor: the least that io_uring must do to move the same bytes, with no protocol on top.
//!
//! It does nothing that a real server would not also have to do, and everything that makes one
//! fast: one ring, one issuer, deferred task work, registered sockets, multishot receives into
//! provided buffers, one send for all that leaves on a connection in one turn, sent from where it
//! was received, busy polling throughout. It reads no header, keeps no limit, checks nothing and
//! knows no second thread.

mod bulk;
mod client;
mod echo;
mod pool;
mod ring;

pub use bulk::BulkFloor;
pub use client::{Load, Measured, Timing, drive};
pub use echo::EchoFloor;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SHORT: Timing =
        Timing { warmup: Duration::from_millis(1), measured: Duration::from_millis(5) };

    #[test]
    fn the_echo_returns_the_same_bytes() {
        // Longer than one provided buffer, so that a burst comes back in several pieces.
        let burst: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
        let load =
            Load { connections: 3, burst: &burst, messages: 10, reply: burst.len(), window: 1 };
        let server = EchoFloor::start(load.connections, burst.len()).unwrap();
        let measured = drive(server.address(), &load, SHORT).unwrap();
        assert_eq!(server.finish().unwrap() % burst.len() as u64, 0);
        assert_eq!(measured.first, burst);
        assert!(measured.messages >= 10);
    }

    #[test]
    fn the_bulk_floor_acknowledges_every_row() {
        let row = vec![7_u8; 32 + 512 * 1024];
        let load = Load { connections: 2, burst: &row, messages: 1, reply: 32, window: 4 };
        let server = BulkFloor::start(load.connections, row.len() - 32).unwrap();
        let measured = drive(server.address(), &load, SHORT).unwrap();
        assert!(server.finish().unwrap() >= measured.messages);
        assert_eq!(measured.first.len(), 32);
        assert!(measured.messages >= 1);
    }
}
