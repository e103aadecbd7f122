//! `butterfly config`: a configuration file with every setting, each commented out with its words
//! and its default. Written from the flags themselves, so that it cannot drift from them.

use crate::{
    cli::{Cli, ConfigArgs},
    failure::Failure,
    say,
};
use clap::{Arg, ArgAction, CommandFactory as _};
use std::fmt::Write as _;

const HEAD: &str = "\
# Every setting of `butterfly serve`. A line with # in front of a name is its default or an example;
# take the # away to set it. Flags on the command line win over this file.
";

/// What only the file can say.
const IDENTITIES: &str = "\
# --- What roles and names are allowed ---

# A role (client, worker-host, agent, node, operator), or `local` for whoever proves nothing.
# [identity.client]
# max_connections = 8
# requests_per_second = 1000
# requests_in_flight = 64
# bytes_in_flight = \"64MiB\"
# operations = [\"topk\", \"int8\"]
# idle_timeout = \"300s\"

# A name. More of these for more names.
# [[identity.peer]]
# name = \"ann\"
# requests_per_second = 100
";
/// Columns of the words.
const COLUMNS: usize = 96;

/// Runs the command.
pub(crate) fn run(_: &ConfigArgs) -> Result<(), Failure> {
    say::out(text().trim_end());
    Ok(())
}

/// The whole file.
pub(crate) fn text() -> String {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").expect("a command of ours");
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for arg in serve.get_arguments().filter(|arg| is_setting(arg)) {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            let _ = writeln!(text, "\n# --- {} ---", heading.unwrap_or("General"));
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        wrap(&help, &mut text);
        let _ = writeln!(text, "# {} = {}", key(arg), example(arg, &help));
    }
    text.push('\n');
    text + IDENTITIES
}

/// All that has a heading; `--config` and `--help` have none.
fn is_setting(arg: &Arg) -> bool {
    arg.get_help_heading().is_some() && !arg.is_hide_set()
}

fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

/// The default where the words name one, else something of the right shape.
fn example(arg: &Arg, help: &str) -> String {
    let default = help.split_once("[default:").map(|(_, rest)| rest.trim());
    let default = default.and_then(|rest| rest.split([']', ' ', ',', ';']).next());
    let names = arg.get_value_names().and_then(|names| names.first());
    let what = names.map_or("", |name| name.as_str());
    let choices = arg.get_possible_values();
    let is_word = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
    let value = match what {
        "BOOL" => return default.filter(|text| *text == "true").unwrap_or("false").to_owned(),
        "N" => {
            let number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
            return default.filter(number).unwrap_or("1").to_owned();
        }
        _ if !choices.is_empty() => {
            let known = |text: &&str| choices.iter().any(|choice| choice.get_name() == *text);
            default.filter(known).unwrap_or_else(|| choices[0].get_name())
        }
        "SHARE" => return default.filter(is_word).unwrap_or("0.5").to_owned(),
        "SIZE" => default.filter(is_word).unwrap_or("64KiB"),
        "TIME" => default.filter(is_word).unwrap_or("10s"),
        "ADDR" => default.filter(is_word).unwrap_or("127.0.0.1:7171"),
        "NAME" => "node-1",
        _ => "/path",
    };
    match arg.get_action() {
        ArgAction::Append => format!("[\"{value}\"]"),
        _ => format!("\"{value}\""),
    }
}

/// Words behind `# `, in lines of bounded width.
fn wrap(words: &str, into: &mut String) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let len = word.chars().count();
        if column == 0 || column + 1 + len > COLUMNS {
            into.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        into.push(' ');
        into.push_str(word);
        column += 1 + len;
    }
    into.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// The file with every example in force.
    fn in_force() -> String {
        let is_example = |line: &&str| {
            let name = line.split([' ', '=']).next().unwrap_or_default();
            let is_key = line.contains(" = ")
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            is_key || line.starts_with("[identity") || line.starts_with("[[identity")
        };
        let text = text();
        let lines = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_example);
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn ops_every_setting_is_in_the_file_and_every_example_reads() {
        let text = in_force();
        toml::from_str::<Settings>(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").expect("ours");
        let keys: Vec<String> = serve.get_arguments().filter(|a| is_setting(a)).map(key).collect();
        assert!(keys.len() > 40, "{}", keys.len());
        // What is said of identities stands in tables of its own.
        let settings = || text.lines().take_while(|line| !line.starts_with('['));
        for key in keys {
            let line = format!("{key} = ");
            assert_eq!(settings().filter(|it| it.starts_with(&line)).count(), 1, "{key}");
        }
        // As it stands it says nothing: all is comment.
        let whole: Settings = toml::from_str(&super::text()).expect("reads");
        assert!(whole.listen.is_empty() && whole.shards.is_none());
    }

    #[test]
    fn ops_defaults_are_those_of_the_words() {
        let text = text();
        for line in [
            "# listen = [\"127.0.0.1:7171\"]",
            "# batch_wait = \"10ms\"",
            "# max_payload = \"2052KiB\"",
            "# poll = \"balanced\"",
            "# agents = 32768",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')));
        assert!(text.lines().all(|line| line.chars().count() <= 100));
    }
}
