//! Parts of the mesh that fell, and what the rest is spared (SEC-06, SEC-07, SEC-10).

use crate::rig::{Act, Rig, everybody};
use mesh::{
    MS, SECOND, Time,
    limits::{QUARANTINE_FOR, STRIKES, SURGE_FOR},
    node::Beat,
    predict::{Dial, Work},
};
use wire::mesh::{AgentClass, AgentState};

const EDGE: AgentClass = AgentClass::Edge;

/// A heartbeat of an agent, as it should be or not.
fn beat(rig: &mut Rig, agent: usize, reliability: f32) {
    let (peer, place) = (rig.agents[agent].peer, rig.agents[agent].place);
    let beat =
        Beat { handle: place.handle, generation: place.generation, reliability, ..Beat::default() };
    rig.call(0, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat, out));
}

/// Has these agents say what cannot be until they are taken from work.
fn strike(rig: &mut Rig, agents: &[usize]) {
    for agent in agents {
        (0..STRIKES).for_each(|_| beat(rig, *agent, f32::NAN));
        assert!(is_kept(rig, *agent));
    }
}

fn is_kept(rig: &Rig, agent: usize) -> bool {
    let handle = rig.agents[agent].place.handle;
    rig.nodes[0].registry().state(handle) == AgentState::Quarantined
}

fn kept(rig: &Rig, agents: &[usize]) -> usize {
    agents.iter().filter(|agent| is_kept(rig, **agent)).count()
}

#[test]
fn sec_06_the_rest_of_a_cluster_follows_most_of_it_for_a_while() {
    let mut rig = Rig::new(1, 100);
    let fallen = rig.add(0, 0..5, EDGE, Act::Ready(MS));
    let other = rig.add(0, 5..10, AgentClass::Gpu, Act::Ready(MS));
    strike(&mut rig, &fallen[..2]);
    assert_eq!(kept(&rig, &fallen), 2, "two of five are not most");
    strike(&mut rig, &fallen[2..3]);
    assert_eq!(kept(&rig, &fallen), 5);
    assert_eq!(kept(&rig, &other), 0);
    assert_eq!(rig.nodes[0].counters().isolated, 1);
    rig.ask(0, &everybody());
    rig.run(rig.now + 5 * SECOND);
    assert!(fallen.iter().all(|agent| rig.agents[*agent].got == 0));
    assert!(other.iter().all(|agent| rig.agents[*agent].got == 1));
    // It ends by itself.
    rig.run(rig.now + QUARANTINE_FOR);
    fallen.iter().for_each(|agent| beat(&mut rig, *agent, 1.0));
    assert_eq!(kept(&rig, &fallen), 0);
}

#[test]
fn sec_06_half_of_a_cluster_takes_nobody_with_it_and_neither_do_two_agents() {
    let mut rig = Rig::new(1, 100);
    let six = rig.add(0, 0..6, EDGE, Act::Ready(MS));
    strike(&mut rig, &six[..3]);
    assert_eq!(kept(&rig, &six), 3);
    let three = rig.add(0, 6..9, AgentClass::Gpu, Act::Ready(MS));
    strike(&mut rig, &three[..2]);
    assert_eq!(kept(&rig, &three), 2);
    assert_eq!(rig.nodes[0].counters().isolated, 0);
}

#[test]
fn sec_06_an_agent_that_calls_itself_quarantined_counts_for_itself_only() {
    let mut rig = Rig::new(1, 100);
    let four = rig.add(0, 0..4, EDGE, Act::Ready(MS));
    for agent in &four[..3] {
        let (peer, place) = (rig.agents[*agent].peer, rig.agents[*agent].place);
        let beat = Beat {
            handle: place.handle,
            generation: place.generation,
            reliability: 1.0,
            state: AgentState::Quarantined.code(),
            ..Beat::default()
        };
        rig.call(0, |mesh, now, out| mesh.heartbeat(now, peer, now.node, &beat, out));
    }
    strike(&mut rig, &four[..1]);
    assert!(!is_kept(&rig, four[3]));
}

#[test]
fn sec_07_the_rest_of_a_sector_follows_most_of_its_clusters() {
    let mut rig = Rig::new(1, 400);
    // A cluster of each class in sector 0, of which the third is large; the fourth is of sector 1.
    let first = rig.add(0, 0..5, AgentClass::Edge, Act::Ready(MS));
    let second = rig.add(0, 5..10, AgentClass::Gpu, Act::Ready(MS));
    let third = rig.add(0, 10..30, AgentClass::Human, Act::Ready(MS));
    let sector = |rig: &Rig, agent: usize| rig.agents[agent].place.sector;
    assert_eq!((sector(&rig, first[0]), sector(&rig, third[0])), (0, 0));
    strike(&mut rig, &first[..3]);
    assert_eq!((kept(&rig, &first), kept(&rig, &second), kept(&rig, &third)), (5, 0, 0));
    strike(&mut rig, &second[..3]);
    assert_eq!((kept(&rig, &second), kept(&rig, &third)), (5, 20));
    assert_eq!(rig.nodes[0].counters().isolated, 3, "two clusters and a sector");
    // Who comes anew is not of it.
    let late = rig.add(0, 30..31, AgentClass::Serverless, Act::Ready(MS));
    assert_eq!(kept(&rig, &late), 0);
}

/// 300 agents in sector 0 and 100 in sector 1, asked until they are known, within the time that
/// agents without heartbeats count as there; then every agent
/// that `lies` is slow all at once. The lead of an honest agent, and the state of sector 1's
/// timing while it lasts.
fn surge(lies: impl Fn(usize) -> bool) -> (Rig, Time, f64) {
    let mut rig = Rig::new(1, 400);
    let all = rig.add(0, 0..400, EDGE, Act::Ready(5 * MS));
    assert_eq!(rig.agents[399].place.sector, 1);
    let gather = |rig: &mut Rig, times: u32| {
        for _ in 0..times {
            rig.ask(0, &everybody());
            rig.run(rig.now + 400 * MS);
        }
    };
    gather(&mut rig, 45);
    for agent in all.into_iter().filter(|agent| lies(*agent)) {
        rig.agents[agent].act = Act::Ready(200 * MS);
    }
    gather(&mut rig, 5);
    let (dial, work) = (Dial::new(0.99).unwrap(), Work::default());
    let honest = rig.agents[1].place.handle;
    let lead = rig.nodes[0].predictor().forecast(honest, work, dial).lead;
    let held = held(&rig);
    (rig, lead, held)
}

fn held(rig: &Rig) -> f64 {
    let (mut held, now) = (f64::NAN, rig.clocks());
    rig.nodes[0].measure(now, &mut |name, _, sector, value| {
        if name == "butterfly_mesh_sector_timing_held" && sector == "1" {
            held = value;
        }
    });
    held
}

#[test]
fn sec_10_what_a_sector_says_that_changes_alone_counts_for_itself_only() {
    let (_, before, _) = surge(|_| false);
    let (mut together, spared, on) = surge(|agent| agent >= 300);
    assert_eq!((together.nodes[0].counters().surges, on), (1, 1.0));
    assert!(spared < before + before / 4, "{spared} after {before}");
    // The same lies spread over both sectors are told apart by agent only, and cost the others.
    let (apart, paid, off) = surge(|agent| agent % 4 == 0);
    assert_eq!((apart.nodes[0].counters().surges, off), (0, 0.0));
    assert!(paid > 2 * spared, "{paid} and {spared}");
    // It ends by itself, once they are known as what they are.
    together.run(together.now + SURGE_FOR + SECOND);
    assert!(held(&together) == 0.0);
}
