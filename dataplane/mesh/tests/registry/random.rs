//! Random joins, leaves, moves, silences and selections against the model.

use std::collections::{BTreeMap, BTreeSet};

use mesh::limits::CLUSTER_AGENTS;
use mesh::registry::{By, Impedance, Newcomer, Place, Registry, Selection, Swept};
use mesh::{MS, SECOND, Time};
use proptest::prelude::*;
use wire::mesh::{AgentClass, AgentState};

use super::model::Model;
use super::{id_of, impedance, link_of};

const CAPABILITIES: [&[&str]; 4] = [&[], &["llm"], &["llm", "gpu"], &["gpu", "route", "gpu"]];

#[derive(Clone, Debug)]
enum Step {
    Register { id: u32, class: usize, link: u32, capabilities: usize, told: Impedance },
    Beat { id: u32, told: Impedance },
    Unlink { link: u32 },
    Remove { id: u32 },
    Quarantine { id: u32, on: bool },
    Freeze { sector: bool, on: bool },
    Pass { time: Time },
    Select { by: usize, required: usize },
}

fn told() -> impl Strategy<Value = Impedance> {
    let speed = prop::sample::select(vec![1, 8, 15, 40, 90, 300, 2000_u64]);
    let state = prop::sample::select(vec![0, 0, 0, 0, 0, 0, 1, 2_u8]);
    (speed.clone(), speed, 0..9_u32, state).prop_map(|(latency, processing, queue, state)| {
        let state = AgentState::from_code(state).unwrap();
        Impedance { queue, state, ..impedance(latency * MS, processing * MS) }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..120_u32, 0..6_usize, 0..9_u32, 0..4_usize, told()).prop_map(
            |(id, class, link, capabilities, told)| Step::Register {
                id,
                // Most agents stay what they are.
                class: if class < 5 { id as usize % 6 } else { class },
                link,
                capabilities,
                told,
            }
        ),
        12 => (0..120_u32, told()).prop_map(|(id, told)| Step::Beat { id, told }),
        1 => (0..9_u32).prop_map(|link| Step::Unlink { link }),
        2 => (0..120_u32).prop_map(|id| Step::Remove { id }),
        2 => (0..120_u32, any::<bool>()).prop_map(|(id, on)| Step::Quarantine { id, on }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(sector, on)| Step::Freeze { sector, on }),
        4 => (0..90_u64).prop_map(|time| Step::Pass { time: time * SECOND }),
        3 => (0..5_usize, 0..3_usize).prop_map(|(by, required)| Step::Select { by, required }),
    ]
}

struct World {
    now: Time,
    registry: Registry,
    model: Model,
    frozen: BTreeMap<bool, bool>,
}

impl World {
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (now, registry, model) = (self.now, &mut self.registry, &mut self.model);
        match step {
            Step::Register { id, class, link, capabilities, told } => {
                let class = AgentClass::ALL[*class];
                let capabilities = CAPABILITIES[*capabilities];
                let newcomer = Newcomer {
                    id: id_of(*id),
                    class,
                    link: link_of(*link),
                    capabilities,
                    impedance: *told,
                };
                let before = registry.by_id(&id_of(*id));
                let joined = registry.register(now, &newcomer);
                let expected = model.register(now, *id, class, *link, capabilities, told);
                prop_assert_eq!(joined.map(|it| it.resumed), expected);
                if let (Ok(joined), Some(before)) = (joined, before) {
                    prop_assert!(registry.get(before).is_err(), "an earlier life is stale");
                    prop_assert!(!joined.resumed || joined.agent.handle == before.handle);
                }
            }
            Step::Beat { id, told } => {
                let taken = registry.by_id(&id_of(*id)).map(|it| registry.heartbeat(now, it, told));
                prop_assert_eq!(
                    taken.is_some_and(|it| it.is_ok()),
                    model.heartbeat(now, *id, told)
                );
            }
            Step::Unlink { link } => {
                let mut gone = Vec::new();
                registry.unlink(now, link_of(*link), &mut gone);
                let gone: Vec<_> = gone.iter().map(|it| *registry.id(*it)).collect();
                let expected: Vec<_> =
                    model.unlink(now, *link).iter().map(|it| id_of(*it)).collect();
                prop_assert_eq!(gone, expected);
            }
            Step::Remove { id } => {
                let removed = registry.by_id(&id_of(*id)).map(|it| registry.remove(now, it));
                prop_assert_eq!(removed, model.agents.remove(id).map(|_| Ok(())));
            }
            Step::Quarantine { id, on } => {
                if let Some(agent) = registry.by_id(&id_of(*id)) {
                    registry.quarantine(now, agent.handle, *on);
                }
                model.quarantine(*id, *on);
            }
            Step::Freeze { sector, on } => {
                let place = if *sector {
                    Place::Sector(0)
                } else {
                    Place::Cluster { sector: 0, cluster: 1 }
                };
                prop_assert!(registry.set_frozen(place, *on));
                self.frozen.insert(*sector, *on);
            }
            Step::Pass { time } => {
                self.now += time;
                let mut swept = Swept::default();
                registry.sweep(self.now, &mut swept);
                prop_assert_eq!(swept.silent.len(), model.sweep(self.now));
            }
            Step::Select { by, required } => self.select(*by, CAPABILITIES[*required])?,
        }
        Ok(())
    }

    /// Everybody the selection names is chosen or skipped with the model's reason, once.
    fn select(&mut self, by: usize, requires: &[&str]) -> Result<(), TestCaseError> {
        let ids: Vec<_> = [3, 9, 3, 500, 40].map(id_of).to_vec();
        let by = [
            By::All,
            By::Class(AgentClass::Gpu),
            By::Cluster { sector: 0, cluster: 1 },
            By::Capability("gpu"),
            By::Ids(&ids),
        ][by];
        let (mut chosen, mut skipped) = (Vec::new(), Vec::new());
        let selection = Selection { by, priority: 1, requires };
        self.registry.select(&selection, &mut chosen, &mut skipped);
        let mut seen = BTreeSet::new();
        let mut unknown = 0;
        let outcomes = chosen.iter().map(|it| (*it, None));
        for (target, reason) in
            outcomes.chain(skipped.iter().map(|it| (it.target, Some(it.reason))))
        {
            if reason == Some(wire::mesh::SkipReason::Unknown) {
                unknown += 1;
                continue;
            }
            prop_assert!(seen.insert(target), "twice");
            let number = u32::from_be_bytes(self.registry.id(target)[..4].try_into().unwrap());
            let on = |sector| self.frozen.get(&sector).is_some_and(|it| *it);
            let seat = self.registry.seat(target);
            let frozen = on(true) && seat.sector() == 0 || on(false) && seat.cluster == 1;
            prop_assert_eq!(reason, self.model.admits(number, frozen, requires));
        }
        let named = |(id, agent): &(&u32, &super::model::Agent)| match by {
            By::Class(class) => agent.class == class,
            By::Capability(text) => agent.capabilities.contains(&text),
            By::Ids(_) => [3, 9, 40].contains(*id),
            By::Cluster { .. } => {
                let agent = self.registry.by_id(&id_of(**id)).unwrap();
                self.registry.seat(agent.handle).cluster == 1
            }
            _ => true,
        };
        let known = self.model.agents.iter().filter(named).count();
        prop_assert_eq!(seen.len(), known);
        let strangers = ids.iter().filter(|id| self.registry.by_id(id).is_none()).count();
        let strangers = if matches!(by, By::Ids(_)) { strangers } else { 0 };
        prop_assert_eq!(unknown, strangers);
        Ok(())
    }

    /// The registry says what the model says, and everybody sits in exactly one place.
    fn check(&self) -> Result<(), TestCaseError> {
        let (registry, model) = (&self.registry, &self.model);
        prop_assert_eq!(registry.len() as usize, model.agents.len());
        let mut counts = BTreeMap::new();
        for (id, agent) in &model.agents {
            let found = registry.by_id(&id_of(*id));
            prop_assert!(found.is_some());
            let row = registry.row(self.now, found.unwrap().handle).unwrap();
            *counts.entry(agent.state).or_insert(0) += 1;
            prop_assert_eq!((row.class, row.state), (agent.class, agent.state));
            prop_assert_eq!(row.link, agent.link.map(|(link, _)| link_of(link)));
            prop_assert_eq!(row.heartbeat, agent.heartbeat);
            prop_assert!((f64::from(row.score) - agent.score).abs() < 1e-3);
            let texts: BTreeSet<&str> = row.capabilities.iter().map(String::as_str).collect();
            prop_assert_eq!(texts, agent.capabilities.iter().copied().collect());
            prop_assert_eq!(registry.by_name(&row.name.to_string()), found);
        }
        let held = model.agents.values().flat_map(|it| it.capabilities.iter().copied());
        prop_assert!(registry.capabilities().eq(held.collect::<BTreeSet<_>>()));
        for state in AgentState::ALL {
            prop_assert_eq!(registry.count(*state), counts.get(state).copied().unwrap_or(0));
        }
        for link in 0..9 {
            let on: Vec<_> = registry.of_link(link_of(link)).map(|it| *registry.id(it)).collect();
            let expected: Vec<_> = model.on_link(link).iter().map(|it| id_of(*it)).collect();
            prop_assert_eq!(usize::from(registry.on_link(link_of(link))), on.len());
            prop_assert_eq!(on, expected);
        }
        self.check_seats()
    }

    fn check_seats(&self) -> Result<(), TestCaseError> {
        let registry = &self.registry;
        let clusters = registry.clusters();
        let mut seated = BTreeSet::new();
        for cluster in 0..clusters.count() {
            let members: Vec<u32> = clusters.members(cluster).collect();
            prop_assert_eq!(members.len(), clusters.taken(cluster));
            prop_assert!(members.len() <= CLUSTER_AGENTS);
            for handle in &members {
                prop_assert!(seated.insert(*handle), "in two clusters");
                prop_assert_eq!(registry.seat(*handle).cluster, cluster);
                prop_assert_eq!(clusters.at(registry.seat(*handle)), Some(*handle));
            }
            let active = |handle: &u32| registry.state(*handle) == AgentState::Active;
            let lead = clusters.lead(cluster);
            prop_assert_eq!(lead.is_some(), members.iter().any(active));
            prop_assert!(lead.is_none_or(|lead| active(&lead) && members.contains(&lead)));
        }
        prop_assert!(seated.into_iter().eq(registry.iter()));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn hier_09_hier_10_clust_01_imped_02_random_lives_agree_with_a_plain_model(
        steps in prop::collection::vec(step(), 1..250),
        capacity in prop::sample::select(vec![60_u32, 90, 600]),
    ) {
        let mut world = World {
            now: 1000 * SECOND,
            registry: Registry::new(capacity, 5),
            model: Model { capacity: capacity as usize, ..Model::default() },
            frozen: BTreeMap::new(),
        };
        for step in &steps {
            world.step(step)?;
            world.check()?;
        }
    }
}
