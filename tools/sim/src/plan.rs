//! What a run consists of, all of it drawn from the seed. Each seed leaves some faults out (swarm
//! testing): a world in which everything goes wrong at once hides the bugs that need something to
//! go right first.

use crate::rng::Rng;
use dataplane_core::{
    Geometry, Limits, Policy,
    driver::Time,
    limits::MS,
    policy::{Allowance, Terms},
};
use wire::{Operation, Role, Roles};

/// How the network behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Longest piece in which bytes arrive.
    pub piece_max: u64,
    /// Longest delay of a piece, nanoseconds.
    pub delay_max: Time,
    /// Bytes the node's OS keeps for a connection.
    pub window_up: usize,
    /// Bytes under way to a client and not yet read by it.
    pub window_down: usize,
    /// Percentage of sends of which the OS takes only a part.
    pub partial_sends: u32,
    /// Longest delay between an order and its effect, nanoseconds.
    pub effect_max: Time,
}

/// What goes wrong. Percentages, unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Connections that the client resets at some point.
    pub resets: u32,
    /// Connections that end inside a frame.
    pub cuts: u32,
    /// Connections whose client reads slowly.
    pub slow_readers: u32,
    /// Messages that are malformed in a way the connection survives.
    pub malformed: u32,
    /// Connections that end with something the stream does not survive.
    pub fatal: u32,
    /// Requests with a deadline.
    pub deadlines: u32,
    /// Batches during which the worker crashes.
    pub crashes: u32,
    /// Batches before which the worker stalls.
    pub stalls: u32,
    /// Completions beside which a wrong one is pushed.
    pub lies: u32,
    /// Requests of which the worker states an impossible outcome.
    pub bad_outcomes: u32,
    /// Messages after which some request is taken back.
    pub cancels: u32,
    /// Messages that repeat the last echo.
    pub retries: u32,
    /// Whether there are more clients than the node takes.
    pub crowd: bool,
    /// When the node is told to drain, if it is.
    pub drain_at: Option<Time>,
}

/// What clients ask for: weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Pings.
    pub pings: u32,
    /// Heartbeats with a payload.
    pub heartbeats: u32,
    /// Requests for metrics.
    pub metrics: u32,
    /// Small echoes.
    pub echoes: u32,
    /// Echoes up to the largest payload.
    pub bulk: u32,
    /// Top-k and int8.
    pub tensors: u32,
    /// Of all requests, those carried compressed (percentage).
    pub compressed: u32,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// The shard's memory.
    pub geometry: Geometry,
    /// The shard's limits.
    pub limits: Limits,
    /// Worker processes.
    pub workers: u16,
    /// Clients.
    pub clients: usize,
    /// Messages of a client, at most.
    pub messages: u64,
    /// Longest service time of a batch, nanoseconds.
    pub service_max: Time,
    /// And what every request of it takes besides.
    pub service_each: Time,
    /// Longest pause of a client between messages, nanoseconds.
    pub pause_max: Time,
    /// The network.
    pub network: Network,
    /// What goes wrong.
    pub faults: Faults,
    /// What is asked for.
    pub mix: Mix,
    /// What the node allows whom.
    pub policy: Policy,
    /// Places in its table of identities.
    pub places: u32,
    /// Who the clients are, by number and round again: name and roles. Where nobody is named, all
    /// are local.
    pub names: Vec<(String, Roles)>,
}

/// Operations that simulated workers serve.
pub const OPERATIONS: u32 =
    1 << Operation::Echo as u32 | 1 << Operation::TopK as u32 | 1 << Operation::Int8 as u32;

/// Two small slots, one bulk slot, three chunks: everything has to wait for something.
#[must_use]
pub const fn tiny() -> Geometry {
    Geometry {
        small_slots: 2,
        small_request: 1_024,
        small_reply: 1_024,
        bulk_slots: 1,
        bulk_request: 16_384,
        bulk_reply: 20_480,
        chunks: 3,
        chunk_len: 16_384,
    }
}

/// Room for whatever the simulated clients ask for.
#[must_use]
pub const fn roomy() -> Geometry {
    Geometry {
        small_slots: 64,
        small_request: 2_048,
        small_reply: 4_096,
        bulk_slots: 16,
        bulk_request: 65_536,
        bulk_reply: 81_920,
        chunks: 64,
        chunk_len: 16_384,
    }
}

fn limits() -> Limits {
    Limits { connections: 16, operations: OPERATIONS, ..Limits::default() }
}

impl Plan {
    /// A world without faults in which everything takes next to no time: the ground for scripted
    /// scenarios.
    #[must_use]
    pub fn quiet(seed: u64) -> Self {
        Self {
            seed,
            geometry: roomy(),
            limits: limits(),
            workers: 1,
            clients: 0,
            messages: 0,
            service_max: 0,
            service_each: 0,
            pause_max: 0,
            network: Network {
                piece_max: u64::MAX,
                delay_max: 0,
                window_up: 1 << 20,
                window_down: 1 << 20,
                partial_sends: 0,
                effect_max: 0,
            },
            faults: Faults::default(),
            mix: Mix {
                pings: 1,
                heartbeats: 1,
                metrics: 0,
                echoes: 4,
                bulk: 1,
                tensors: 1,
                compressed: 0,
            },
            policy: Policy::default(),
            places: 1,
            names: Vec::new(),
        }
    }

    /// Who a client is; `None` for local.
    #[must_use]
    pub fn name(&self, client: usize) -> Option<&(String, Roles)> {
        (!self.names.is_empty()).then(|| &self.names[client % self.names.len()])
    }

    /// What a client is allowed.
    #[must_use]
    pub fn allowance(&self, client: usize) -> Allowance {
        match self.name(client) {
            Some((name, roles)) => self.policy.allowance(name, *roles),
            None => self.policy.local,
        }
    }

    /// The world of this seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0B0E_7EE5);
        let mut plan = Self::quiet(seed);
        plan.geometry = match rng.below(4) {
            0 => tiny(),
            // Whatever is to be sent waits for the one chunk; all figures of a node do not fit.
            2 => Geometry { chunks: 1, ..tiny() },
            1 => Geometry { bulk_slots: 2, small_slots: 5, chunks: 5, ..tiny() },
            _ => roomy(),
        };
        if rng.chance(30) {
            // The longest requests have answers that do not fit.
            plan.geometry.bulk_reply = plan.geometry.bulk_request / 2;
        }
        plan.workers = rng.range(1, 3) as u16;
        plan.clients = rng.range(1, 6) as usize;
        plan.messages = rng.pick(&[4, 12, 40]);
        plan.service_max = rng.pick(&[0, 50_000, MS, 8 * MS]);
        plan.pause_max = rng.pick(&[0, 10_000, MS, 20 * MS]);
        plan.limits = draw_limits(&mut rng);
        plan.network = draw_network(&mut rng);
        plan.mix = draw_mix(&mut rng);
        plan.faults = draw_faults(&mut rng);
        if rng.chance(60) {
            draw_identities(&mut rng, &mut plan);
        }
        if plan.faults.crowd {
            plan.limits.connections = (plan.clients as u32 / 2).max(1);
        }
        plan
    }
}

/// Up to four names, the last of which may find no place, with roles and bounds of all sorts.
fn draw_identities(rng: &mut Rng, plan: &mut Plan) {
    let names = rng.range(1, 4) as usize;
    for n in 0..names {
        let roles = match rng.below(4) {
            0 => Roles::of(rng.pick(Role::ALL)),
            1 => Role::ALL.iter().copied().filter(|_| rng.chance(40)).collect(),
            // Most of them have something to ask for.
            _ => Roles::of(Role::Client),
        };
        plan.names.push((format!("name-{n}"), roles));
    }
    plan.places = 1 + rng.range((names as u64 - 1).max(1), names as u64) as u32;
    for (name, _) in &plan.names {
        let mut some = |of: &[u32]| rng.chance(30).then(|| rng.pick(of));
        let terms = Terms {
            connections: some(&[1, 2]),
            requests_per_second: some(&[20, 1_000]),
            requests: some(&[1, 3]),
            bytes: some(&[3_000, 70_000]).map(u64::from),
            operations: some(&[0, 1 << Operation::Echo as u32, u32::MAX]),
            // Beyond any pause of a client.
            idle: some(&[400]).map(|ms| Time::from(ms) * MS),
        };
        plan.policy.peers.insert(name.clone(), terms);
    }
}

fn draw_limits(rng: &mut Rng) -> Limits {
    Limits {
        requests_per_connection: rng.pick(&[1, 3, 1_024]),
        unsent_per_connection: rng.pick(&[1_000, 40_000, 4 << 20]),
        batch_max: rng.pick(&[1, 2, 5, 32]),
        batch_wait: rng.pick(&[0, 100_000, 2 * MS, 10 * MS]),
        batch_bytes: rng.pick(&[3_000, 16 << 20]),
        queue_target: rng.pick(&[MS, 5 * MS, 50 * MS]),
        ..limits()
    }
}

fn draw_network(rng: &mut Rng) -> Network {
    Network {
        piece_max: rng.pick(&[1, 7, 64, 1_500, 16_384, 1 << 20]),
        delay_max: rng.pick(&[0, 1_000, 100_000, 3 * MS]),
        window_up: rng.pick(&[512, 8_192, 1 << 20]),
        window_down: rng.pick(&[512, 8_192, 1 << 20]),
        partial_sends: rng.pick(&[0, 20, 80]),
        effect_max: rng.pick(&[0, 20_000, MS]),
    }
}

fn draw_mix(rng: &mut Rng) -> Mix {
    let mut weight = |most: u64| if rng.chance(70) { rng.range(1, most) as u32 } else { 0 };
    let mut mix = Mix {
        pings: weight(6),
        heartbeats: weight(4),
        metrics: weight(1),
        echoes: weight(10),
        bulk: weight(5),
        tensors: weight(6),
        compressed: weight(40),
    };
    if mix.pings + mix.heartbeats + mix.metrics + mix.echoes + mix.bulk + mix.tensors == 0 {
        mix.echoes = 1;
    }
    mix
}

fn draw_faults(rng: &mut Rng) -> Faults {
    if rng.chance(20) {
        return Faults::default();
    }
    let mut percent = |most: u64| if rng.chance(40) { rng.range(1, most) as u32 } else { 0 };
    Faults {
        resets: percent(40),
        cuts: percent(30),
        slow_readers: percent(60),
        malformed: percent(30),
        fatal: percent(40),
        deadlines: percent(60),
        crashes: percent(25),
        stalls: percent(30),
        lies: percent(40),
        bad_outcomes: percent(10),
        cancels: percent(30),
        retries: percent(30),
        crowd: percent(100) > 70,
        drain_at: (percent(100) > 40).then(|| rng.range(0, 20 * MS)),
    }
}
