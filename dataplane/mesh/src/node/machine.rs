//! The machine's parts, and what time alone makes it do.

use super::{
    Config, Effect, Effects, Kpi, MeshCounters, Now, Peer, Punctuality, Record, intake::Books,
    recovery::Recovery, surges::Surges, suspects::Suspects, trust::Guard,
};
use crate::{
    SECOND, Time,
    child::{Children, up::Up},
    clock::OffsetFilter,
    gather::{ENDED, Run, past::Past, tally::Tally, targets::Targets},
    hlc::Hlc,
    plan::Scratch,
    predict::Predictor,
    registry::{Place, Registry, Skipped, Swept},
    summary::{SectorSummary, Summaries},
};
use std::collections::VecDeque;
use wire::{
    Payload, frame,
    mesh::{AgentState, Mode, Role, Standing, message_id},
};

/// Between two passes over all agents.
const SWEEP_EVERY: Time = SECOND;
/// Sectors that figures show one by one.
const SECTORS_SHOWN: usize = 256;

/// The machine.
#[derive(Debug)]
pub struct Mesh {
    pub(super) config: Config,
    pub(super) hlc: Hlc,
    random: Random,
    pub(super) registry: Registry,
    pub(super) predictor: Predictor,
    /// Each agent's clock against the node's, by handle.
    pub(super) clocks: Vec<OffsetFilter>,
    pub(super) books: Books,
    pub(super) guard: Guard,
    pub(super) suspects: Suspects,
    pub(super) surges: Surges,
    pub(super) runs: Vec<Run>,
    /// Memory of gathers that ended.
    pub(super) spare: Vec<(Targets, Tally)>,
    /// Ids of the last gathers that ended.
    pub(super) ended: VecDeque<[u8; 16]>,
    pub(super) past: Past,
    pub(super) children: Children,
    pub(super) up: Option<Up>,
    pub(super) summaries: Summaries,
    pub(super) counters: MeshCounters,
    pub(super) kpi: Kpi,
    recovery: Recovery,
    pub(super) punctuality: Punctuality,
    pub(super) scratch: Scratch,
    pub(super) chosen: Vec<u32>,
    pub(super) skipped: Vec<Skipped>,
    swept: Swept,
    /// Agents with a spike at the last sweep (FAIL-03).
    spiked: u64,
    /// How agents stood at the last sweep (BAR-01).
    standings: [u32; Standing::ALL.len()],
    sweep_at: Time,
    snapshot_at: Time,
    numbers: u32,
    frames: u64,
}

/// A sequence of numbers that nobody can guess who does not know the seed's 64 bits: ids need to be
/// distinct, not secret.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// `SplitMix64` (Steele, Lea, Flood 2014).
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Mesh {
    /// A node that knows nobody. `seed` makes ids and the keys of hashes.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        let mut random = Random(seed);
        let registry = Registry::new(config.agents, random.next());
        let sectors = registry.clusters().sectors();
        Self {
            predictor: Predictor::new(registry.capacity()),
            clocks: vec![OffsetFilter::new(); registry.capacity() as usize],
            children: Children::new(sectors),
            registry,
            config: config.clone(),
            hlc: Hlc::new(),
            random,
            books: Books::default(),
            guard: Guard::new(&config.trust),
            suspects: Suspects::default(),
            surges: Surges::new(sectors),
            runs: Vec::new(),
            spare: Vec::new(),
            ended: VecDeque::with_capacity(ENDED),
            past: Past::default(),
            up: None,
            summaries: Summaries::new(),
            counters: MeshCounters::default(),
            kpi: Kpi::default(),
            recovery: Recovery::default(),
            punctuality: Punctuality::default(),
            scratch: Scratch::default(),
            chosen: Vec::new(),
            skipped: Vec::new(),
            swept: Swept::default(),
            spiked: 0,
            standings: Default::default(),
            sweep_at: 0,
            snapshot_at: 0,
            numbers: 0,
            frames: 0,
        }
    }

    /// Takes the registry of an earlier life of this node: names, histories, and who was there,
    /// all of them offline until they come back. False: the bytes are no registry; nothing changed.
    pub fn restore(&mut self, now: Now, bytes: &[u8]) -> bool {
        let seed = self.random.next();
        let Ok(registry) = Registry::restore(self.config.agents, seed, now.node, bytes) else {
            return false;
        };
        self.registry = registry;
        for handle in self.registry.iter() {
            self.predictor.join(handle, self.registry.class(handle));
        }
        self.resume_quarantines(now);
        true
    }

    /// Does what is due. Call at [`Self::next_wakeup`], or any time.
    pub fn advance(&mut self, now: Now, out: &mut Effects) {
        if now.node >= self.sweep_at {
            self.sweep(now, out);
        }
        self.tend_parent(now, out);
        self.tend_runs(now, out);
        let every = self.config.snapshot_every;
        if every > 0 && now.node >= self.snapshot_at {
            if self.snapshot_at > 0 && !self.registry.is_empty() {
                out.push(Effect::Persist(Record::Registry(self.registry.snapshot(now.node))));
            }
            self.snapshot_at = now.node.saturating_add(every);
        }
    }

    /// When [`Self::advance`] has something to do next.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let runs = self.runs.iter().map(Run::due);
        let up = self.up.iter().map(Up::due);
        let snapshot = (self.config.snapshot_every > 0).then_some(self.snapshot_at);
        runs.chain(up).chain(snapshot).chain([self.sweep_at]).min()
    }

    fn sweep(&mut self, now: Now, out: &mut Effects) {
        self.sweep_at = now.node.saturating_add(SWEEP_EVERY);
        self.registry.sweep(now.node, &mut self.swept);
        self.counters.silent += self.swept.silent.len() as u64;
        self.counters.moved += self.swept.moved.len() as u64;
        let active = self.registry.count(AgentState::Active);
        let registry = &self.registry;
        self.spiked = registry.iter().filter(|handle| registry.spiked(*handle)).count() as u64;
        self.standings = registry.standings(now.node);
        self.kpi.active(now.node, active, self.registry.len());
        self.sum_up(now);
        self.release(now);
        self.sweep_children(now, out);
    }

    /// Sums clusters and sectors up where that is due.
    pub(super) fn sum_up(&mut self, now: Now) {
        if self.summaries.refresh(now.node, &self.registry) {
            let decided = self.recovery.look(now.node, &self.summaries);
            self.kpi.recovered(now.node, decided.in_time, decided.all);
        }
    }

    /// How it is set up.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The agents.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Clusters and sectors as last summed up.
    #[must_use]
    pub const fn summaries(&self) -> &Summaries {
        &self.summaries
    }

    /// What is known of their delays.
    #[must_use]
    pub const fn predictor(&self) -> &Predictor {
        &self.predictor
    }

    /// An agent's clock against the node's.
    #[must_use]
    pub fn clock(&self, handle: u32) -> Option<&OffsetFilter> {
        self.clocks.get(handle as usize)
    }

    /// Reads what a heartbeat or an answer of this agent will change, and changes nothing: who
    /// knows which agents come next has their rows in the processor's cache by then. The number
    /// means nothing.
    #[must_use]
    pub fn touch(&self, handle: u32) -> u64 {
        let clock = self.clocks.get(handle as usize).and_then(OffsetFilter::rtt_min);
        let experience = u64::from(self.predictor.experience(handle));
        let row =
            |run: &Run| run.targets.find(handle).map_or(0, |at| run.targets.rows()[at].send_at);
        let rows = self.runs.iter().map(row).fold(0, |sum, at| sum ^ at);
        self.registry.touch(handle) ^ clock.unwrap_or(0) ^ experience ^ rows
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &MeshCounters {
        &self.counters
    }

    /// The indicators.
    #[must_use]
    pub const fn kpi(&self) -> &Kpi {
        &self.kpi
    }

    /// How punctual agents were.
    #[must_use]
    pub const fn punctuality(&self) -> &Punctuality {
        &self.punctuality
    }

    /// Gathers under way.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.runs.len()
    }

    /// Shows what is counted.
    pub fn visit(&self, visit: super::Visit<'_>) {
        self.counters.visit(visit);
        self.punctuality.visit(visit);
        for state in AgentState::ALL {
            let n = u64::from(self.registry.count(*state));
            visit("butterfly_mesh_agents", "state", state.name(), n);
        }
        for (standing, n) in Standing::ALL.iter().zip(self.standings) {
            visit("butterfly_mesh_standing_agents", "standing", standing.name(), n.into());
        }
        visit("butterfly_mesh_spiked_agents", "", "", self.spiked);
        visit("butterfly_mesh_gathers_running", "", "", self.runs.len() as u64);
        let children = self.children.iter().filter(|(_, child)| child.peer.is_some()).count();
        visit("butterfly_mesh_children", "", "", children as u64);
        let joined = self.up.as_ref().is_some_and(|up| up.joined.is_some());
        visit("butterfly_mesh_parent", "", "", u64::from(joined));
        for it in self.shown_sectors() {
            let number = it.sector.to_string();
            visit("butterfly_mesh_sector_agents", "sector", &number, it.agents.into());
            visit("butterfly_mesh_sector_active", "sector", &number, it.active.into());
        }
    }

    /// Shows what is measured.
    pub fn measure(&self, now: Now, measure: super::Measure<'_>) {
        self.kpi.measure(now.node, measure);
        for it in self.shown_sectors() {
            let number = it.sector.to_string();
            if let Some(ms) = it.mean {
                let seconds = f64::from(ms) / 1e3;
                measure("butterfly_mesh_sector_impedance_seconds", "sector", &number, seconds);
            }
            let held = f64::from(u8::from(self.surges.is_held(now.node, it.sector)));
            measure("butterfly_mesh_sector_timing_held", "sector", &number, held);
        }
    }

    /// This node's own sectors, as many as figures have room for: never one per agent.
    fn shown_sectors(&self) -> impl Iterator<Item = &SectorSummary> {
        self.summaries.sectors().iter().map(|it| &it.summary).take(SECTORS_SHOWN)
    }

    /// How this mesh is run now (CONS-01).
    pub(super) fn mode(&self) -> Mode {
        let is_joined = || self.up.as_ref().is_some_and(|up| up.joined.is_some());
        if self.registry.gate(Place::Global).is_some_and(|gate| gate.frozen) {
            Mode::Frozen
        } else if self.registry.is_partly_frozen() {
            Mode::PartlyFrozen
        } else if self.config.role == Role::Sector && !is_joined() {
            Mode::Alone
        } else {
            Mode::Normal
        }
    }

    /// A time-ordered id.
    pub(super) fn fresh_id(&mut self, now: Now) -> [u8; 16] {
        let random = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        message_id(now.epoch_ns, random)
    }

    /// A number for a gather or a volley.
    pub(super) const fn number(&mut self) -> u32 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }

    /// Sends a payload under the id of what it answers.
    pub(super) fn send<T: Payload>(
        &mut self,
        now: Now,
        to: Peer,
        id: u64,
        payload: &T,
        out: &mut Effects,
    ) {
        let mut frame = Vec::new();
        // Only payloads of 2 GiB fail, and none here is near it.
        if frame::append(&mut frame, payload, id, now.epoch_ns).is_ok() {
            out.push(Effect::Send { to, frame });
        }
    }

    /// Sends a payload that answers nothing, under an id of its own.
    pub(super) fn tell<T: Payload>(&mut self, now: Now, to: Peer, payload: &T, out: &mut Effects) {
        self.frames += 1;
        self.send(now, to, self.frames, payload, out);
    }

    /// Takes the stamp of a message in.
    pub(super) fn stamp(&mut self, now: Now, hlc: u64) {
        if !self.hlc.merge(hlc, now.epoch_ns) {
            self.counters.bad_stamps += 1;
        }
    }
}
