//! What the program says to somebody who does not know it: where to begin, and the commands by what
//! they are for.

use super::{Cli, Command};
use clap::{CommandFactory as _, FromArgMatches as _};
use std::fmt::Write as _;

/// Commands by purpose; hidden ones are in none.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["demo", "serve", "handover", "config", "check"]),
    ("Tensors", &["compress", "decompress", "calibrate", "basis"]),
    ("Look", &["status", "top", "why", "agents", "map"]),
    ("Agents and orders", &["gather", "freeze", "circuit", "countersign"]),
    ("Keys, and this shell", &["ca", "key", "completions", "man"]),
];

const BEGIN: &str = "\
Where to begin:
  butterfly demo                 see it work: a node, its workers, real tensors, 2,000 agents
  butterfly serve                a node on 127.0.0.1:7171
  butterfly compress --help      send it a tensor; `blast run` and `blast agents` put load on it
  butterfly status, or top       look at it";

const END: &str = "\
Every command has --help with examples. --addr can be said once, as BUTTERFLY_ADDR.

Exit codes:
  0  done
  1  it ran and failed; the last line says why
  2  it could not start: usage, configuration, address in use, missing file, host not suitable
  3  gather only: the decision is not PROCEED";

const TEMPLATE: &str = "\
{name} {version}: {about-with-newline}
{usage-heading} {usage}

{after-help}

Options:
{options}";

/// The command line as it is.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let text = format!("{BEGIN}\n{}\n{END}", groups(&command));
    command.help_template(TEMPLATE).after_help(text)
}

/// What the arguments of this process ask for; ends the process where they ask for nothing that
/// there is.
pub(crate) fn parse() -> Command {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command
}

fn groups(command: &clap::Command) -> String {
    let mut text = String::new();
    for (purpose, names) in GROUPS {
        let _ = write!(text, "\n{purpose}:\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name:<12} {about}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_one_group_and_says_what_it_does() {
        let command = command();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let visible: BTreeSet<&str> = command
            .get_subcommands()
            .filter(|it| !it.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), visible);
        assert_eq!(grouped.len(), visible.len(), "none twice");
        let help = command.clone().render_help().to_string();
        for it in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            let about = it.get_about().expect("an about").to_string();
            assert!(help.contains(it.get_name()), "{help}");
            let first: String = about.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
            assert!(help.contains(&first), "{first} in {help}");
        }
        assert!(help.find("butterfly demo") < help.find("butterfly serve"), "in this order");
        assert!(help.contains("Exit codes") && help.contains("Options:"), "{help}");
    }

    #[test]
    fn every_address_can_come_from_the_environment() {
        for it in command().get_subcommands() {
            let Some(addr) = it.get_arguments().find(|arg| arg.get_id() == "addr") else {
                continue;
            };
            let env = addr.get_env().map(|env| env.to_string_lossy().into_owned());
            assert_eq!(env.as_deref(), Some("BUTTERFLY_ADDR"), "{}", it.get_name());
        }
        assert_eq!(seen, 10);
    }
}
