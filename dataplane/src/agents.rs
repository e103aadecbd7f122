//! `butterfly agents`: who is there, where, and how each fares.

use crate::{
    arrivals::duration, cli::AgentsArgs, failure::Failure, reach::Reach, say, say::grouped, table,
};
use client::{Agent, Listing};
use serde_json::{Value, json};
use wire::{
    mesh::{CAPABILITY_LEN_MAX, id_text},
    payload::{
        Text,
        mesh::{EVERY_SECTOR, MeshQuery},
    },
};

/// Runs the command.
pub(crate) fn run(args: &AgentsArgs) -> Result<(), Failure> {
    let reach = Reach::new(&args.addr, &args.security)?;
    let capability = args.capability.clone().unwrap_or_default();
    if capability.len() > CAPABILITY_LEN_MAX {
        return Err(Failure::setup(format!("--capability: at most {CAPABILITY_LEN_MAX} bytes")));
    }
    let query = MeshQuery {
        capability: Text::from(capability),
        limit: args.limit,
        sector: args.sector.unwrap_or(EVERY_SECTOR),
        sort: args.sort.code(),
        ..MeshQuery::default()
    };
    let listing = reach.ask(|node| node.agents(&query))?;
    if args.json {
        say::out(format!("{:#}", as_json(&listing)));
    } else {
        say::out(as_text(&listing));
    }
    Ok(())
}

/// A float as it was meant, six digits behind the point.
pub(crate) fn real(value: f32) -> Value {
    json!((f64::from(value) * 1e6).round() / 1e6)
}

fn as_json(listing: &Listing) -> Value {
    let agent = |agent: &Agent| {
        json!({
            "name": agent.name,
            "id": id_text(&agent.agent_id),
            "class": agent.class.name(),
            "state": agent.state.name(),
            "impedance_ms": real(agent.impedance),
            "latency_ms": real(agent.latency_ms),
            "processing_ms": real(agent.processing_ms),
            "queue_depth": agent.queue_depth,
            "reliability": real(agent.reliability),
            "drift": real(agent.drift),
            "context_hash": format!("{:016x}", agent.context_hash),
            "silent_ms": agent.silent_ns / 1_000_000,
            "capabilities": agent.capabilities,
        })
    };
    let agents: Vec<Value> = listing.agents.iter().map(agent).collect();
    let global = &listing.global;
    json!({ "agents": agents, "count": global.count, "active": global.active })
}

fn as_text(listing: &Listing) -> String {
    let heads = [
        "agent",
        "class",
        "state",
        "impedance",
        "one way",
        "processing",
        "queue",
        "reliability",
        "drift",
        "silent",
        "can",
    ];
    let row = |agent: &Agent| {
        [
            agent.name.clone(),
            agent.class.name().to_owned(),
            agent.state.name().to_owned(),
            format!("{:.1} ms", agent.impedance),
            format!("{:.1} ms", agent.latency_ms),
            format!("{:.1} ms", agent.processing_ms),
            grouped(agent.queue_depth.into()),
            format!("{:.2}%", agent.reliability * 100.0),
            format!("{:.2}", agent.drift),
            duration(agent.silent_ns),
            agent.capabilities.join(", "),
        ]
    };
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(listing.agents.iter().map(row));
    let global = &listing.global;
    format!(
        "{}\n\n{} shown of {}, {} active",
        table::plain(&rows),
        grouped(listing.agents.len() as u64),
        say::count(global.count, "agent"),
        grouped(global.active.into())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Global;
    use wire::mesh::{AgentClass, AgentState};

    fn listing() -> Listing {
        let agent = Agent {
            name: "S07-C04-A12".to_owned(),
            agent_id: *b"0123456789abcdef",
            class: AgentClass::Gpu,
            state: AgentState::Degraded,
            capabilities: vec!["gpu".to_owned(), "summarise".to_owned()],
            impedance: 262.5,
            latency_ms: 2.5,
            processing_ms: 200.0,
            queue_depth: 3,
            reliability: 0.99,
            drift: 0.25,
            context_hash: 0xAB,
            silent_ns: 1_500_000_000,
        };
        let global = Global { count: 30_000, active: 29_999, ..Global::default() };
        Listing { agents: vec![agent], global }
    }

    #[test]
    fn an_agent_is_one_row_and_one_object() {
        let text = as_text(&listing());
        for part in ["S07-C04-A12", "degraded", "262.5 ms", "99.00%", "1.5 s", "29,999 active"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let value = as_json(&listing());
        let agent = &value["agents"][0];
        assert_eq!((&agent["class"], &agent["reliability"]), (&json!("D"), &json!(0.99)));
        assert_eq!(agent["id"], "30313233-3435-3637-3839-616263646566");
        assert_eq!(
            (&agent["capabilities"][1], &value["count"]),
            (&json!("summarise"), &json!(30_000))
        );
    }
}
