//! Slots are shared between identities, however many connections each has.

mod rig;

use dataplane_core::{Geometry, limits::MS};
use rig::Rig;
use sim::{
    Plan,
    plan::{Network, tiny},
    request::Message,
    rng::Rng,
    script::Step,
};
use wire::{Role, Roles};

/// Requests of each identity.
const EACH: u64 = 1_200;

/// A world of greedy identities, and how many connections each has.
struct Greedy {
    rig: Rig,
    /// Clients by identity.
    clients: Vec<Vec<usize>>,
}

impl Greedy {
    /// Drawn from a seed: two to six identities, each with a share of requests for ever so many
    /// connections, of which it sends all at once.
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xFA_1235);
        let many = rng.range(2, 6) as usize;
        let mut plan = Plan::quiet(seed);
        let small_slots = rng.range(2 * many as u64, 40) as u32;
        plan.geometry = Geometry { small_slots, chunks: 64, ..tiny() };
        plan.limits.connections = 256;
        // Shares are of slots: nobody is to be refused for the time that all of this takes.
        plan.limits.queue_target = 100_000 * MS;
        plan.limits.batch_max = rng.pick(&[1, 4, 16]);
        plan.workers = rng.range(1, 3) as u16;
        plan.service_max = rng.pick(&[100_000, MS, 4 * MS]);
        if rng.chance(50) {
            let effect_max = 2_000;
            plan.network = Network { effect_max, delay_max: 2_000, ..plan.network };
        }
        plan.names = (0..many).map(|n| (format!("name-{n}"), Roles::of(Role::Client))).collect();
        plan.places = 1 + many as u32;
        let mut rig = Rig::new(plan);
        let connections: Vec<u64> = (0..many).map(|_| rng.pick(&[1, 2, 7, 40])).collect();
        let mut clients = vec![Vec::new(); many];
        // Numbers go round the names: who has enough connections gets clients that do nothing.
        for round in 0..connections.iter().copied().max().unwrap_or(0) {
            for (identity, most) in connections.iter().enumerate() {
                let idle = round >= *most;
                let base = (identity as u64 + 1) << 48 | round << 32;
                let count = if idle { 0 } else { EACH / most };
                let echoes = (0..count).map(|n| Step::Send(Message::echo(&mut rng, base + n, 64)));
                let client = rig.client(echoes.collect());
                if !idle {
                    clients[identity].push(client);
                }
            }
        }
        Self { rig, clients }
    }

    /// Answers by identity.
    fn answers(&self) -> Vec<usize> {
        let of = |clients: &Vec<usize>| {
            clients.iter().map(|client| self.rig.world.clients[*client].answers.len()).sum()
        };
        self.clients.iter().map(of).collect()
    }
}

#[test]
fn greedy_identities_get_equal_shares_whatever_their_connections() {
    for seed in 0..60 {
        let mut greedy = Greedy::new(seed);
        let clients = greedy.clients.clone();
        // Until one has two thirds of its answers, all of them have something waiting.
        greedy.rig.until(|world| {
            clients.iter().any(|clients| {
                let mine = clients.iter().map(|client| world.clients[*client].answers.len());
                mine.sum::<usize>() as u64 >= EACH * 2 / 3
            })
        });
        let answers = greedy.answers();
        let (total, least) = (answers.iter().sum::<usize>(), answers.iter().min());
        let share = *least.expect("two at least") as f64 / total as f64;
        let fair = 1.0 / answers.len() as f64;
        let connections: Vec<usize> = clients.iter().map(Vec::len).collect();
        assert!(
            share >= fair - 0.05,
            "seed {seed}: {connections:?} connections, {answers:?} answers, least {share:.3}"
        );
        greedy.rig.finish();
    }
}

#[test]
fn one_connection_is_answered_at_once_beside_a_thousand_requests_of_another() {
    let mut plan = Plan::quiet(3);
    plan.geometry = Geometry { small_slots: 8, chunks: 64, ..tiny() };
    plan.limits.connections = 128;
    plan.service_max = MS;
    plan.names = ["ann", "bob"].map(|name| (name.to_owned(), Roles::of(Role::Client))).into();
    plan.places = 3;
    let mut rig = Rig::new(plan);
    let mut rng = Rng::new(5);
    let mut bob = None;
    for n in 0..50 {
        let echoes = (0..20).map(|id| Step::Send(Message::echo(&mut rng, n << 32 | id, 64)));
        rig.client(echoes.collect());
        let idle = rig.client(vec![]);
        bob.get_or_insert(idle);
    }
    let bob = bob.expect("there are fifty");
    rig.until(|world| world.stats.replies.get() >= 100);
    rig.steps(bob, vec![Step::Send(Message::echo(&mut rng, 1 << 60, 64))]);
    rig.until(|world| !world.clients[bob].answers.is_empty());
    let before = rig.world.stats.replies.get();
    assert!(before < 140, "answered after {before} of a thousand");
    rig.finish();
}
