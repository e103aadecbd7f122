//! The command line of `blast agents`.

use super::config::{Behaviours, Capability, Config, Proof};
use crate::config::BlastError;
use clap::Args;
use client::Addr;
use fleet::{Mix, World};
use sign::PublicKey;
use std::{path::PathBuf, str::FromStr, time::Duration};

const EXAMPLES: &str = "\
Examples:
  30,000 agents of 300 hosts, until Ctrl-C:
    blast agents --addr 127.0.0.1:7171 --count 30000 --hosts 300
  The same with a connection each, over a modelled wide-area network, for ten minutes:
    blast agents --addr 127.0.0.1:7171 --per-connection 1 --network wan --duration 10m
  How soon are heartbeats answered at 100,000 a second?
    blast agents --addr 127.0.0.1:7171 --count 30000 --beats-per-second 100000 --duration 30s
  A tenth lies about times and queues, one in a hundred messages meets a conflict:
    blast agents --addr 127.0.0.1:7171 --count 3000 --liars 0.1 --conflict-rate 0.01 --json -

Agents know only their own clocks; this program knows all of them, and reports what truly happened.

Exit status: 0 all registered and nothing broke, 1 agents refused, connections lost or answers \
that make no sense, 2 wrong usage or no connection.";

/// Options of `blast agents`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct AgentsArgs {
    /// The node
    #[arg(long, value_name = "ADDR", help = crate::cli::ADDR_HELP)]
    pub addr: Addr,
    /// Certificates.
    #[command(flatten)]
    pub security: client::SecurityArgs,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    pub count: u32,
    /// Hosts, each with one connection for all of its agents [default: one per 100 agents]
    #[arg(long, value_name = "N", conflicts_with = "per_connection")]
    pub hosts: Option<u32>,
    /// Agents on each connection, 1 to 256
    #[arg(long, value_name = "N")]
    pub per_connection: Option<u32>,
    /// Model of links and clocks: off, datacentre, wan, hostile. Service times and queues belong
    /// to it too, off has none
    #[arg(long, value_name = "NAME", default_value = "off", value_parser = world)]
    pub network: World,
    /// Classes: source (the specification's shares), source-with-humans, uniform, or one of A to F
    #[arg(long, value_name = "MIX", default_value = "source", value_parser = mix)]
    pub mix: Mix,
    /// All that is drawn comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// What agents can do; may be repeated. NAME=SHARE for a share of them
    #[arg(long, value_name = "NAME[=SHARE]")]
    pub capability: Vec<Capability>,
    /// Share of messages answered with CONFLICT
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub conflict_rate: f64,
    /// Share of messages on which the agent ends without an answer
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub crash_rate: f64,
    /// Share of agents that report false times and queues
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub liars: f64,
    /// Share of agents that answer twice
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub twice: f64,
    /// Share of agents that fall silent at their first message
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub vanish: f64,
    /// Agents take up only messages that the node signed, by the key that it names when they
    /// register
    #[arg(long)]
    pub verify: bool,
    /// The same by this key: a .pub file of `butterfly key new`
    #[arg(long, value_name = "FILE")]
    pub node_key: Option<PathBuf>,
    /// Agents register with keys, and sign their answers where the node asks for it
    #[arg(long)]
    pub keys: bool,
    /// Heartbeats per second of all agents together, planned ahead: latency counts from the plan
    #[arg(long, value_name = "R", visible_alias = "rate")]
    pub beats_per_second: Option<f64>,
    /// How long they stay after the last one registered: 30s, 10m [default: until Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = crate::cli::duration)]
    pub duration: Option<Duration>,
    /// Threads, each with a ring of its own [default: 2, or as many as the connections need]
    #[arg(long, value_name = "T")]
    pub threads: Option<u32>,
    /// Where the report goes.
    #[command(flatten)]
    pub out: crate::cli::OutArgs,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

impl AgentsArgs {
    /// The run that these options describe, checked as a whole.
    ///
    /// # Errors
    /// [`BlastError::Usage`].
    pub fn config(&self) -> Result<Config, BlastError> {
        let per_connection = match (self.hosts, self.per_connection) {
            (Some(0), _) => return Err(BlastError::usage("--hosts must be at least 1")),
            (Some(hosts), _) => self.count.div_ceil(hosts),
            (None, Some(agents)) => agents,
            (None, None) => 100,
        };
        let node_key = self.node_key.as_deref().map(PublicKey::read).transpose();
        let node_key =
            node_key.map_err(|fault| BlastError::usage(format!("--node-key {fault}")))?;
        let config = Config {
            security: self.security.load(&self.addr).map_err(BlastError::usage)?,
            per_connection,
            world: self.network,
            mix: self.mix,
            seed: self.seed,
            capabilities: self.capability.clone(),
            behaviours: Behaviours {
                conflict: self.conflict_rate,
                crash: self.crash_rate,
                liars: self.liars,
                twice: self.twice,
                vanish: self.vanish,
            },
            proof: Proof { verify: self.verify || node_key.is_some(), node_key, sign: self.keys },
            beats_per_second: self.beats_per_second,
            duration: self.duration,
            threads: self.threads,
            progress: !self.quiet,
            ..Config::new(self.addr.clone(), self.count)
        };
        config.check()?;
        Ok(config)
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, share)) = text.split_once('=') else {
            return Ok(Self { name: text.to_owned(), share: 1.0 });
        };
        let share = share.parse().map_err(|_| format!("`{share}` is no share, like 0.1"))?;
        Ok(Self { name: name.to_owned(), share })
    }
}

fn world(name: &str) -> Result<World, String> {
    World::named(name)
        .ok_or_else(|| format!("`{name}` is none of off, datacentre, wan and hostile"))
}

fn mix(name: &str) -> Result<Mix, String> {
    Mix::named(name).ok_or_else(|| {
        format!("`{name}` is none of source, source-with-humans, uniform, A, B, C, D, E and F")
    })
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use fleet::{Mix, World};
    use wire::mesh::AgentClass;

    fn parse(line: &str) -> Result<Box<super::AgentsArgs>, clap::Error> {
        let words = ["blast", "agents"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Agents(args) => args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn every_option_reaches_the_run() {
        let line = "--addr h:1 --count 900 --hosts 9 --network wan --mix D --seed 5 \
                    --capability see --capability gpu=0.25 --conflict-rate 0.1 --crash-rate 0.2 \
                    --liars 0.3 --twice 0.4 --vanish 0.5 --rate 1000 --duration 1m --threads 3 \
                    --json - --quiet";
        let args = parse(line).expect("a run");
        let config = args.config().expect("sound");
        assert_eq!((config.count, config.per_connection, config.connections()), (900, 100, 9));
        assert_eq!((config.world, config.mix), (World::Wan, Mix::Only(AgentClass::Gpu)));
        assert_eq!((config.seed, config.threads, config.progress), (5, Some(3), false));
        let rates = config.behaviours;
        assert_eq!((rates.conflict, rates.crash, rates.liars), (0.1, 0.2, 0.3));
        assert_eq!((rates.twice, rates.vanish), (0.4, 0.5));
        assert_eq!(config.beats_per_second, Some(1_000.0));
        let shares: Vec<_> =
            config.capabilities.iter().map(|one| (one.name.as_str(), one.share)).collect();
        assert_eq!(shares, [("see", 1.0), ("gpu", 0.25)]);
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for line in [
            "",
            "--addr h:1 --hosts 3 --per-connection 1",
            "--addr h:1 --network lan",
            "--addr h:1 --mix Z",
            "--addr h:1 --capability x=much",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let two_hosts = parse("--addr h:1 --count 30000 --hosts 2").expect("parses");
        assert!(two_hosts.config().is_err(), "15,000 agents on a connection");
        assert!(parse("--addr h:1 --hosts 0").expect("parses").config().is_err());
    }
}
