//! `gather`, `agents`, `map`, `circuit`, `freeze`.

use super::keys::SignArgs;
use crate::units::Span;
use clap::Args;
use std::path::PathBuf;
use wire::mesh::{CircuitAction, Selection, SortBy, Strategy, Verb};

pub(super) const GATHER: &str = "\
Examples:
  butterfly gather --targets all --verb act --payload order.json
  butterfly gather --targets class=D --verb observe --window 500ms --on-time 0.999 --json
  butterfly gather --targets agents.txt --verb sync --at 2030-01-01T00:00:00Z --timeout 10s

Every target gets the message at its own moment, so that all are ready together. A file of targets
has an id or a name (S07-C04-A12) a line; what follows # is a remark.

Exit codes: 0 the decision is PROCEED, 3 it is another one, 1 failed on the way, 2 could not start";

/// Arguments of `gather`.
#[derive(Args, Debug)]
pub(crate) struct GatherArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// all, class=D, sector=7, cluster=7/4, capability=NAME, or a file of ids and names
    #[arg(long, default_value = "all", value_name = "WHOM")]
    pub(crate) targets: String,
    /// observe, orient, decide, act, record or sync
    #[arg(long, default_value = "act", value_parser = verb)]
    pub(crate) verb: Verb,
    /// File to send, - for standard input [default: nothing]
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
    /// When all should be ready: RFC 3339, or seconds since 1970 [default: as soon as they can be]
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<crate::gather::At>,
    /// How long after that moment answers count [default: the node's, from the targets' history]
    #[arg(long, value_name = "TIME")]
    pub(crate) window: Option<Span>,
    /// Wanted share of targets that are ready in time, 0.5 to 0.9999
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = dial)]
    pub(crate) on_time: f32,
    /// Share of ready answers that the decision needs [default: the node's]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) min_rate: Option<f32>,
    /// Longest time for all of it [default: the node's]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Span>,
    /// wave: level by level, parallel: all at once, priority: class by class
    #[arg(long, default_value = "parallel", value_parser = strategy)]
    pub(crate) strategy: Strategy,
    /// 0 background to 3 critical
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) priority: u8,
    /// Copies older than this are dropped [default: never]
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Span>,
    /// How complex the message is; 0 is the least
    #[arg(long, default_value_t = 0.0, value_parser = weight)]
    pub(crate) weight: f32,
    /// Who gives the order.
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    /// Let agents act when they are ready, instead of holding until the moment
    #[arg(long)]
    pub(crate) plain: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const AGENTS: &str = "\
Examples:
  butterfly agents
  butterfly agents --sort impedance --sector 7
  butterfly agents --capability summarise --limit 0 --json

Exit codes: 0 shown, 1 no answer, 2 bad arguments";

/// Arguments of `agents`.
#[derive(Args, Debug)]
pub(crate) struct AgentsArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// name, impedance, reliability or drift; the worst first
    #[arg(long, default_value = "name", value_parser = sort)]
    pub(crate) sort: SortBy,
    /// Only this sector
    #[arg(long, value_name = "N")]
    pub(crate) sector: Option<u16>,
    /// Only agents that can do this
    #[arg(long, value_name = "NAME")]
    pub(crate) capability: Option<String>,
    /// Most agents; 0 for all that the node shows
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const MAP: &str = "\
Examples:
  butterfly map
  butterfly map --sector 7 --clusters
  butterfly map --json

Exit codes: 0 shown, 1 no answer, 2 bad arguments";

/// Arguments of `map`.
#[derive(Args, Debug)]
pub(crate) struct MapArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// Only this sector
    #[arg(long, value_name = "N")]
    pub(crate) sector: Option<u16>,
    /// Show clusters too
    #[arg(long)]
    pub(crate) clusters: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const CIRCUIT: &str = "\
Examples:
  butterfly circuit open --scope sector=7 --reason 'power work in hall 2'
  butterfly circuit half-open --scope sector=7
  butterfly circuit close --scope sector=7

Nothing passes an open breaker, but a critical message the global one; a few probes pass a half-open
one.

Exit codes: 0 it holds, 1 failed, 2 bad arguments";

/// Arguments of `circuit`.
#[derive(Args, Debug)]
pub(crate) struct CircuitArgs {
    /// open, half-open or close
    #[arg(value_parser = action)]
    pub(crate) action: CircuitAction,
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// all, sector=7 or cluster=7/4
    #[arg(long, value_parser = scope)]
    pub(crate) scope: Selection,
    /// For people
    #[arg(long, default_value = "", value_parser = remark)]
    pub(crate) reason: String,
    /// Who gives the order.
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    /// Keep the signed order in a file, for `countersign`
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    pub(crate) save: Option<PathBuf>,
}

pub(super) const FREEZE: &str = "\
Examples:
  butterfly freeze --scope cluster=7/4 --preserve-state-to /var/lib/agents
  butterfly freeze --scope cluster=7/4 --thaw

Agents of the scope stop where they are and get no messages until they are thawed.

Exit codes: 0 it holds, 1 failed, 2 bad arguments";

/// Arguments of `freeze`.
#[derive(Args, Debug)]
pub(crate) struct FreezeArgs {
    /// The node: HOST:PORT, tls://HOST:PORT, quic://HOST:PORT or unix:///PATH
    #[arg(long, env = "BUTTERFLY_ADDR", default_value = crate::plan::DEFAULT_LISTEN)]
    pub(crate) addr: String,
    /// Certificates.
    #[command(flatten)]
    pub(crate) security: client::SecurityArgs,
    /// all, sector=7 or cluster=7/4
    #[arg(long, value_parser = scope)]
    pub(crate) scope: Selection,
    /// Let it go on
    #[arg(long)]
    pub(crate) thaw: bool,
    /// Where agents keep their state [default: where they are]
    #[arg(long, default_value = "", value_name = "WHERE", value_parser = remark)]
    pub(crate) preserve_state_to: String,
    /// Who gives the order.
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    /// Keep the signed order in a file, for `countersign`
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    pub(crate) save: Option<PathBuf>,
}

/// The member of a registry that a text names, or the members that there are.
macro_rules! member {
    ($name:ident, $registry:ty) => {
        fn $name(text: &str) -> Result<$registry, String> {
            // On the wire names have `_` where a command line has `-`.
            <$registry>::from_name(&text.replace('-', "_")).ok_or_else(|| {
                let names: Vec<String> =
                    <$registry>::ALL.iter().map(|one| one.name().replace('_', "-")).collect();
                format!("write one of {}", names.join(", "))
            })
        }
    };
}

member!(verb, Verb);
member!(strategy, Strategy);
member!(sort, SortBy);
member!(action, CircuitAction);

fn number(text: &str, least: f32, most: f32) -> Result<f32, String> {
    let value: Option<f32> = text.parse().ok();
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("write a number from {least} to {most}"))
}

fn dial(text: &str) -> Result<f32, String> {
    number(text, 0.5, 0.9999)
}

fn share(text: &str) -> Result<f32, String> {
    number(text, 0.0, 1.0)
}

fn weight(text: &str) -> Result<f32, String> {
    number(text, 0.0, 1e6)
}

fn remark(text: &str) -> Result<String, String> {
    let most = wire::mesh::DETAIL_LEN_MAX;
    if text.len() > most { Err(format!("at most {most} bytes")) } else { Ok(text.to_owned()) }
}

fn scope(text: &str) -> Result<Selection, String> {
    let part = match text {
        "global" => Ok(Selection::All),
        text => text.parse(),
    };
    match part {
        Ok(part @ (Selection::All | Selection::Sector(_) | Selection::Cluster { .. })) => Ok(part),
        _ => Err("write all, sector=7 or cluster=7/4".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn parse(line: &str) -> Result<Command, String> {
        let words = format!("butterfly {line}");
        Cli::try_parse_from(words.split_whitespace())
            .map(|cli| cli.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_of_a_gather_is_read() {
        let line = "gather --addr a:1 --targets class=D --verb decide --payload f --at 1700000000 \
                    --window 500ms --on-time 0.999 --min-rate 0.9 --timeout 5s --strategy wave \
                    --priority 3 --ttl 30s --weight 2.5 --plain --json";
        let Ok(Command::Gather(args)) = parse(line) else { panic!("parses") };
        assert_eq!((args.verb, args.strategy, args.priority), (Verb::Decide, Strategy::Wave, 3));
        assert_eq!((args.on_time, args.min_rate, args.weight), (0.999, Some(0.9), 2.5));
        assert!(args.plain && args.json && args.window.is_some() && args.at.is_some());
        let Ok(Command::Gather(args)) = parse("gather") else { panic!("parses") };
        assert_eq!((args.targets.as_str(), args.verb, args.on_time), ("all", Verb::Act, 0.99));
        assert!(!args.plain, "agents hold unless told otherwise");
        for bad in [
            "--verb sleep",
            "--on-time 1",
            "--on-time 0.4",
            "--on-time nan",
            "--min-rate 1.1",
            "--priority 4",
            "--weight -1",
            "--weight inf",
            "--timeout 5",
            "--at tomorrow",
            "--strategy fast",
        ] {
            assert!(parse(&format!("gather {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn meshmsg_17_18_orders_name_a_scope() {
        let Ok(Command::Circuit(args)) = parse("circuit half-open --scope cluster=7/4") else {
            panic!("parses")
        };
        assert_eq!(args.action, CircuitAction::HalfOpen);
        assert_eq!(args.scope, Selection::Cluster { sector: 7, cluster: 4 });
        let Ok(Command::Freeze(args)) = parse("freeze --scope global --thaw") else {
            panic!("parses")
        };
        assert!(args.thaw && args.scope == Selection::All);
        for bad in ["circuit open", "circuit shut --scope all", "freeze --scope class=D", "freeze"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn agents_and_the_map_are_asked_for() {
        let line = "agents --sort drift --sector 7 --capability x --limit 5 --json";
        let Ok(Command::Agents(args)) = parse(line) else { panic!("parses") };
        assert_eq!((args.sort, args.sector, args.limit), (SortBy::Drift, Some(7), 5));
        assert!(matches!(parse("map --clusters --sector 2"), Ok(Command::Map(_))));
        assert!(parse("agents --sort size").is_err());
    }
}
