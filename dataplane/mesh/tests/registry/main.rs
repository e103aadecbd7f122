//! The registry, its clusters, its summaries and its map, as their users see them.

mod basics;
mod cost;
mod model;
mod random;
mod store;
mod summaries;

use mesh::registry::{AgentRef, Impedance, Link, Newcomer, Registry};
use mesh::{MS, SECOND, Time};
use wire::mesh::{AgentClass, AgentState};

/// An active agent with these durations.
fn impedance(latency: Time, processing: Time) -> Impedance {
    Impedance {
        latency,
        processing,
        queue: 0,
        reliability: 1.0,
        drift: 0.1,
        state: AgentState::Active,
        context: 7,
    }
}

fn id_of(number: u32) -> [u8; 16] {
    let mut id = [0xA5; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id
}

fn link_of(conn: u32) -> Link {
    Link { shard: (conn % 3) as u16, conn, life: 1 }
}

/// Registers an edge agent that takes `processing` on a connection of its own.
fn join(registry: &mut Registry, now: Time, number: u32, processing: Time) -> AgentRef {
    let newcomer = Newcomer {
        id: id_of(number),
        class: AgentClass::Edge,
        link: link_of(number),
        capabilities: &["route"],
        impedance: impedance(2 * MS, processing),
    };
    registry.register(now, &newcomer).unwrap().agent
}

/// A registry of `count` such agents at one second.
fn filled(count: u32) -> Registry {
    let mut registry = Registry::new(count, 1);
    for number in 0..count {
        join(&mut registry, SECOND, number, 3 * MS);
    }
    registry
}
