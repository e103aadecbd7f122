//! What an agent costs in memory (IMPED-13). Nothing is asserted about time.

use mesh::limits::{FLEET_AGENTS, ROW_BYTES};
use mesh::profile::Ring;
use mesh::registry::Registry;

use super::filled;

#[test]
fn imped_13_an_agent_takes_at_most_256_bytes_and_all_of_them_at_the_start() {
    let empty = Registry::new(FLEET_AGENTS, 1).bytes_per_agent();
    assert!(empty <= ROW_BYTES, "{empty} bytes");
    assert_eq!(filled(FLEET_AGENTS).bytes_per_agent(), empty);
    let larger = Registry::new(1_000_000, 1).bytes_per_agent();
    assert!(larger <= ROW_BYTES, "{larger} bytes");
}

#[test]
fn prof_01_two_rings_take_at_most_450_bytes() {
    assert!(2 * size_of::<Ring>() <= 450, "{} bytes", 2 * size_of::<Ring>());
}
