//! The command line of the mesh's runs.

use super::{
    fault::{self, Faults},
    plan::{Bug, Plan},
    run::{run, smallest},
    world::World,
};
use clap::{Args, ValueEnum};
use fleet::{Mix, SECOND, World as Network};
use std::{process::ExitCode, time::Instant};

/// `--faults`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultsArg {
    /// None.
    None,
    /// A few kinds.
    Some,
    /// Every kind.
    All,
}

/// `--bug`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BugArg {
    /// Agents release 30 ms early once their connection was made again.
    ReleasesEarly,
    /// Copies for a cut connection are sent all the same.
    ForgetsToDrop,
}

/// Runs the mesh in virtual time.
#[derive(Clone, Debug, Args)]
pub struct MeshArgs {
    /// Agents.
    #[arg(long)]
    agents: Option<u32>,
    /// Minutes of virtual time that are measured.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Virtual time in seconds, in place of the minutes and the warm-up.
    #[arg(long)]
    seconds: Option<u64>,
    /// Minutes before measuring begins.
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// datacentre, wan, hostile or off.
    #[arg(long, value_parser = network, default_value = "wan")]
    network: Network,
    /// source, source-with-humans, uniform, or a class.
    #[arg(long, value_parser = mix, default_value = "source")]
    mix: Mix,
    /// Share on time that gathers ask for; several take turns.
    #[arg(long, value_delimiter = ',', default_value = "0.99")]
    dial: Vec<f32>,
    /// Nodes below the first.
    #[arg(long)]
    children: Option<u32>,
    /// Agents that share a connection.
    #[arg(long)]
    per_connection: Option<u32>,
    /// One seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Small meshes drawn from seeds A..B, B not included.
    #[arg(long, value_parser = crate::range)]
    seeds: Option<(u64, u64)>,
    /// One small mesh drawn from the seed.
    #[arg(long)]
    small: bool,
    /// How much goes wrong.
    #[arg(long, value_enum)]
    faults: Option<FaultsArg>,
    /// Only these faults of the seed's list, by number; `-` for none.
    #[arg(long, value_parser = keep)]
    keep: Option<Keep>,
    /// Every message goes through its wire encoding.
    #[arg(long)]
    bytes: bool,
    /// Puts an error in, to see it found and made small.
    #[arg(long, value_enum)]
    bug: Option<BugArg>,
    /// Every so manieth message is compared with the oracle; 0 for none.
    #[arg(long, default_value_t = 64)]
    oracle: u32,
    /// Runs the same so often and compares.
    #[arg(long, default_value_t = 1)]
    replays: u32,
    /// For machines.
    #[arg(long)]
    json: bool,
}

/// Numbers of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep(Vec<u32>);

fn keep(text: &str) -> Result<Keep, String> {
    if text == "-" {
        return Ok(Keep(Vec::new()));
    }
    let parse = |n: &str| n.parse().map_err(|_| format!("{n:?} is no number"));
    text.split(',').map(parse).collect::<Result<_, _>>().map(Keep)
}

fn network(name: &str) -> Result<Network, String> {
    Network::named(name).ok_or_else(|| format!("no network is called {name:?}"))
}

fn mix(name: &str) -> Result<Mix, String> {
    Mix::named(name).ok_or_else(|| format!("no mix is called {name:?}"))
}

impl MeshArgs {
    fn plan(&self, seed: u64) -> Plan {
        let small = self.small || self.seeds.is_some();
        let faults = match (self.faults, small) {
            (Some(FaultsArg::None), _) | (None, false) => Faults::None,
            (Some(FaultsArg::Some), _) | (None, true) => Faults::Some,
            (Some(FaultsArg::All), _) => Faults::All,
        };
        let warm_up = self.warm_up * 60 * SECOND;
        let duration = self.minutes * 60 * SECOND + warm_up;
        let mut plan = if small {
            Plan::small(seed, faults)
        } else {
            let mut plan = Plan::measure(seed, 30_000, duration, self.network, faults);
            plan.warm_up = warm_up;
            plan.mix = self.mix;
            plan.dials.clone_from(&self.dial);
            plan.oracle_every = self.oracle;
            plan
        };
        if let Some(seconds) = self.seconds {
            plan.duration = seconds * SECOND;
            plan.warm_up = plan.warm_up.min(plan.duration / 2);
        }
        plan.agents = self.agents.unwrap_or(plan.agents).max(1);
        plan.children = self.children.unwrap_or(plan.children).min(64);
        let per = self.per_connection.unwrap_or(plan.per_connection);
        plan.per_connection = per.clamp(1, wire::mesh::REGISTRATION_MAX as u32);
        plan.bytes = self.bytes;
        plan.bug = self.bug.map(|bug| match bug {
            BugArg::ReleasesEarly => Bug::ReleasesEarly,
            BugArg::ForgetsToDrop => Bug::ForgetsToDrop,
        });
        if let Some(Keep(numbers)) = &self.keep {
            plan.faults.retain(|fault| numbers.contains(&fault.number));
        }
        plan
    }

    /// Does what the command line says.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self.seeds {
            Some((from, to)) => self.run_seeds(from..to),
            None if self.small => self.run_seeds(self.seed..self.seed + 1),
            None => self.run_one(),
        }
    }

    fn run_seeds(&self, seeds: std::ops::Range<u64>) -> ExitCode {
        let began = Instant::now();
        let (mut events, mut virtual_ns, mut kinds) = (0, 0, [0_u64; fault::Kind::ALL.len()]);
        let count = seeds.end - seeds.start;
        for seed in seeds {
            let plan = self.plan(seed);
            plan.faults.iter().for_each(|fault| kinds[fault.kind as usize] += 1);
            match run(&plan) {
                Ok(summary) => {
                    if (1..self.replays).any(|_| run(&plan).as_ref() != Ok(&summary)) {
                        eprintln!("a replay of seed {seed} differs");
                        return ExitCode::FAILURE;
                    }
                    events += summary.totals.events;
                    virtual_ns += plan.duration;
                    if count == 1 {
                        println!("seed {seed}: hash {:016x}, {:?}", summary.hash, summary.totals);
                    }
                }
                Err(breach) => return show(&plan, breach),
            }
        }
        if self.replays > 1 {
            println!("{} replays of each, bit-identical", self.replays);
        }
        let took = began.elapsed().as_secs_f64();
        let faults: u64 = kinds.iter().sum();
        let reached = kinds.iter().filter(|count| **count > 0).count();
        println!(
            "{count} seeds, {:.0} virtual minutes, {events} events, {faults} faults of {reached} \
             kinds in {took:.1} s: every promise kept",
            virtual_ns as f64 / 60e9
        );
        ExitCode::SUCCESS
    }

    fn run_one(&self) -> ExitCode {
        let plan = self.plan(self.seed);
        let mut hash = None;
        for round in 0..self.replays.max(1) {
            let began = Instant::now();
            let mut world = World::new(plan.clone());
            if let Err(breach) = world.run() {
                return show(&plan, breach);
            }
            let took = began.elapsed().as_secs_f64();
            if *hash.get_or_insert(world.hash) != world.hash {
                eprintln!("replay {round} differs: {:016x}", world.hash);
                return ExitCode::FAILURE;
            }
            if round == 0 {
                print(&world, took, self.json);
            }
        }
        if self.replays > 1 {
            println!("{} replays, bit-identical", self.replays);
        }
        ExitCode::SUCCESS
    }
}

/// A failing plan, and the smallest that fails likewise.
fn show(plan: &Plan, breach: super::judge::Breach) -> ExitCode {
    eprintln!("{breach}");
    eprintln!("replay: {}", plan.command());
    let small = smallest(plan, breach);
    eprintln!(
        "smallest of {} runs: {} agents, {} s, {} faults",
        small.runs,
        small.plan.agents,
        small.plan.duration / SECOND,
        small.plan.faults.len()
    );
    for fault in &small.plan.faults {
        let at = fault.at(small.plan.duration) as f64 / SECOND as f64;
        eprintln!("  fault {}: {} at {at:.3} s", fault.number, fault.kind.name());
    }
    eprintln!("{}", small.breach);
    eprintln!("replay: {}", small.plan.command());
    ExitCode::FAILURE
}

fn print(world: &World, took: f64, json: bool) {
    if json {
        println!("{}", super::table::json(world, took));
    } else {
        print!("{}", super::table::text(world, took));
        if let Some(kib) = most_memory() {
            println!("{:.1} MiB of memory at most", kib as f64 / 1024.0);
        }
    }
}

/// The most memory that this process ever had, KiB, where the system tells.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
