//! Everything at once in any order: whatever comes, each target has one outcome, sums hold, every
//! gather ends, and memory is bounded.

use crate::rig::{Act, Rig};
use mesh::{
    MS, SECOND, Time,
    node::{AckView, Beat, Peer, VolleyReport},
};
use proptest::prelude::*;
use wire::{
    mesh::AgentClass,
    payload::mesh::{Circuit, Freeze, Gather},
};

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(Time),
    Ask {
        id: u8,
        strategy: u8,
        ahead: u64,
        timeout: Time,
        select: u8,
        ttl: u32,
    },
    /// An answer made up: gather, handle, generation, connection, state, times.
    Answer {
        id: u8,
        handle: u32,
        generation: u32,
        agent: usize,
        state: u8,
        times: u64,
    },
    Beat {
        handle: u32,
        generation: u32,
        agent: usize,
        times: u64,
        ms: f32,
    },
    Gone {
        agent: usize,
    },
    Back {
        agent: usize,
    },
    Circuit {
        action: u8,
        scope: u8,
        sector: u16,
    },
    Freeze {
        thaw: bool,
        scope: u8,
    },
    Volley {
        number: u32,
        shard: u16,
        count: u32,
    },
    Part {
        child: usize,
    },
    Join {
        child: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![Just(0), Just(u64::MAX), 0..20 * SECOND, any::<u64>()];
    let more = times.clone();
    let ahead = prop_oneof![Just(0), 0..3 * SECOND];
    let timeout = prop_oneof![Just(0), MS..4 * SECOND];
    let ttl = prop_oneof![Just(0), 1_u32..2_000];
    let ask = (0_u8..8, 0_u8..4, ahead, timeout, 0_u8..5, ttl);
    let answer = (0_u8..8, 0_u32..70, 0_u32..4, 0_usize..60, any::<u8>(), times);
    let beat = (0_u32..70, 0_u32..4, 0_usize..60, more, any::<f32>());
    prop_oneof![
        6 => (0..800 * MS).prop_map(Step::Pass),
        4 => ask.prop_map(|(id, strategy, ahead, timeout, select, ttl)| {
            Step::Ask { id, strategy, ahead, timeout, select, ttl }
        }),
        6 => answer.prop_map(|(id, handle, generation, agent, state, times)| {
            Step::Answer { id, handle, generation, agent, state, times }
        }),
        2 => beat.prop_map(|(handle, generation, agent, times, ms)| {
            Step::Beat { handle, generation, agent, times, ms }
        }),
        2 => (0_usize..60).prop_map(|agent| Step::Gone { agent }),
        2 => (0_usize..60).prop_map(|agent| Step::Back { agent }),
        1 => (0_u8..4, 0_u8..4, 0_u16..4)
            .prop_map(|(action, scope, sector)| Step::Circuit { action, scope, sector }),
        1 => (any::<bool>(), 0_u8..4).prop_map(|(thaw, scope)| Step::Freeze { thaw, scope }),
        1 => (0_u32..20, 0_u16..3, any::<u32>())
            .prop_map(|(number, shard, count)| Step::Volley { number, shard, count }),
        1 => (1_usize..3).prop_map(|child| Step::Part { child }),
        1 => (1_usize..3).prop_map(|child| Step::Join { child }),
    ]
}

const ACTS: [Act; 8] = [
    Act::Ready(5 * MS),
    Act::Ready(700 * MS),
    Act::Conflict,
    Act::Transit,
    Act::TransitThenReady(20 * MS),
    Act::Thrice(5 * MS),
    Act::Fickle(5 * MS),
    Act::Dies,
];

fn world(refuse: usize) -> Rig {
    let mut rig = Rig::new(3, 64);
    for number in 0..60 {
        let class = AgentClass::ALL[number as usize % 6];
        let act = if number % 9 == 8 { Act::Silent } else { ACTS[number as usize % 8] };
        rig.add(number as usize % 3, number..number + 1, class, act);
    }
    rig.refuse = refuse;
    rig
}

/// Something made up, on the connection of an agent.
fn lie(rig: &mut Rig, step: Step) {
    match step {
        Step::Answer { id, handle, generation, agent, state, times } => {
            let (node, peer) = (rig.agents[agent].node, rig.agents[agent].peer);
            let ack = AckView {
                message_id: [id + 1; 16],
                handle,
                generation,
                state,
                hlc: times,
                origin_ns: times / 2,
                received_ns: times,
                ready_ns: times.wrapping_mul(3),
                acted_ns: times ^ 0xFFFF,
                sent_ns: times.saturating_add(9),
                processing_ns: times,
                conflict_detail: "made up",
                ..AckView::default()
            };
            rig.call(node, |mesh, now, out| mesh.ack(now, peer, now.node, &ack, out));
        }
        Step::Beat { handle, generation, agent, times, ms } => {
            let (node, peer) = (rig.agents[agent].node, rig.agents[agent].peer);
            let beat = Beat {
                handle,
                generation,
                hlc: times,
                origin_ns: times,
                received_ns: times / 3,
                sent_ns: times / 2,
                latency_ms: ms,
                processing_ms: -ms,
                drift: ms,
                reliability: ms,
                state: handle as u8,
                ..Beat::default()
            };
            rig.call(node, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat, out));
        }
        _ => unreachable!("only lies come here"),
    }
}

fn apply(rig: &mut Rig, step: Step, asked: &mut Vec<Peer>) {
    match step {
        Step::Pass(time) => rig.run(rig.now + time),
        Step::Ask { id, strategy, ahead, timeout, select, ttl } => {
            let at_epoch_ns = if ahead == 0 { 0 } else { rig.clocks().epoch_ns + ahead - SECOND };
            let ask = Gather {
                message_id: [id + 1; 16],
                strategy,
                at_epoch_ns,
                timeout_ns: timeout,
                select,
                class: id % 6,
                capability: "act".into(),
                ttl_ms: ttl,
                progress: id % 2 == 0,
                ..crate::rig::everybody()
            };
            asked.push(rig.ask(usize::from(id % 3 == 2), &ask));
        }
        Step::Answer { .. } | Step::Beat { .. } => lie(rig, step),
        Step::Gone { agent } => {
            let (node, peer) = (rig.agents[agent].node, rig.agents[agent].peer);
            rig.call(node, |mesh, now, out| mesh.gone(now, peer, out));
        }
        Step::Back { agent } => {
            let (node, peer) = (rig.agents[agent].node, rig.peer());
            let class = AgentClass::ALL[agent % 6];
            let place = rig.register(node, peer, vec![Rig::record(agent as u32, class)])[0];
            if place.fault == 0 {
                (rig.agents[agent].peer, rig.agents[agent].place) = (peer, place);
            }
        }
        Step::Circuit { action, scope, sector } => {
            let (peer, order) =
                (rig.peer(), Circuit { action, scope, sector, ..Circuit::default() });
            rig.call(0, |mesh, now, out| mesh.circuit(now, peer, &order, out));
        }
        Step::Freeze { thaw, scope } => {
            let (peer, order) = (rig.peer(), Freeze { thaw, scope, ..Freeze::default() });
            rig.call(0, |mesh, now, out| mesh.freeze(now, peer, &order, out));
        }
        Step::Volley { number, shard, count } => {
            let report = VolleyReport {
                number,
                shard,
                sent: count,
                expired: count / 2,
                gone: count,
                refused: 3,
                fire_error: vec![(u64::from(count), u64::from(count))],
            };
            rig.call(0, |mesh, now, out| mesh.volley_done(now, &report, out));
        }
        Step::Part { child } => rig.try_part(child),
        Step::Join { child } => {
            if !rig.is_joined(child) {
                rig.join(child, 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn scatter_04_x_13_each_target_has_one_outcome_whatever_happens(
        refuse in 0_usize..3,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut rig = world(refuse);
        let mut asked = Vec::new();
        for step in steps {
            apply(&mut rig, step, &mut asked);
            for mesh in &rig.nodes {
                prop_assert!(mesh.running() <= mesh.config().gathers, "bounded");
                prop_assert!(mesh.registry().len() <= mesh.registry().capacity());
            }
        }
        // Longer than any timeout that was asked for.
        rig.run(rig.now + 60 * SECOND);
        for mesh in &rig.nodes {
            prop_assert_eq!(mesh.running(), 0, "every gather ends");
            let counters = mesh.counters();
            prop_assert!(counters.decisions.iter().sum::<u64>() <= counters.gathers);
        }
        // `reports` checks the sums of each. One result for each question, or one refusal.
        let reports = rig.reports();
        let refusals = rig.refusals();
        for peer in asked {
            let results = reports.iter().filter(|it| it.is_final && it.to == peer).count();
            let refused = refusals.iter().filter(|(to, _)| *to == peer).count();
            prop_assert_eq!(results + refused, 1, "{:?}", peer);
        }
    }

    #[test]
    fn scatter_06_the_same_inputs_give_the_same_effects(
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let (mut one, mut two) = (world(0), world(0));
        for step in steps {
            apply(&mut one, step, &mut Vec::new());
            apply(&mut two, step, &mut Vec::new());
        }
        prop_assert_eq!(one.inbox, two.inbox);
        prop_assert_eq!(one.records, two.records);
    }
}
