//! What can be said of a line without running it: the command is there, and so are its flags.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Programs of this tree, whose words are asked for.
const OURS: [&str; 2] = ["butterfly", "blast"];

/// Knows the programs' words; each is asked once.
pub(crate) struct Checker {
    root: PathBuf,
    programs: PathBuf,
    help: RefCell<BTreeMap<String, Result<String, String>>>,
}

impl Checker {
    pub(crate) fn new(root: &Path, programs: &Path) -> Self {
        Self { root: root.to_owned(), programs: programs.to_owned(), help: RefCell::default() }
    }

    /// Holds each command of the line against what is there.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn check(&self, line: &str) -> Result<(), String> {
        for part in line.split(['|', ';', '&', '(', ')']) {
            let mut words = part.split_whitespace().peekable();
            // Variables and `sudo` before the command.
            while words.peek().is_some_and(|word| {
                ["sudo", "exec", "env", "then", "do"].contains(word) || is_assignment(word)
            }) {
                words.next();
            }
            let words: Vec<&str> = words.collect();
            let Some(first) = words.first() else { continue };
            if *first == "cargo" {
                self.cargo(&words[1..])?;
            } else if let Some(at) = words.iter().position(|word| OURS.contains(word)) {
                // Also behind `taskset -c 0` and the like, but not in a file's name.
                self.ours(&words[at..])?;
            }
        }
        Ok(())
    }

    /// `butterfly COMMAND [ACTION] --flag`: the deepest command that answers, and its flags.
    fn ours(&self, words: &[&str]) -> Result<(), String> {
        let names = words[1..].iter().take_while(|word| is_name(word)).take(2).copied();
        let mut command = words[0].to_owned();
        let mut help = self.help(&command)?;
        for name in names {
            if !help.contains("<COMMAND>") {
                break;
            }
            let deeper = format!("{command} {name}");
            help = self.help(&deeper)?;
            command = deeper;
        }
        let flags = words[1..].iter().filter(|word| word.starts_with("--") && word.len() > 2);
        for flag in flags.map(|flag| flag.split('=').next().unwrap_or(flag)) {
            let known = ["--help", "--version"].contains(&flag)
                || help.split([' ', '\n', ',', '[', '=', ']']).any(|word| word == flag);
            if !known {
                return Err(format!("`{command} --help` does not know {flag}"));
            }
        }
        Ok(())
    }

    fn help(&self, command: &str) -> Result<String, String> {
        let mut help = self.help.borrow_mut();
        help.entry(command.to_owned()).or_insert_with(|| self.ask(command)).clone()
    }

    fn ask(&self, command: &str) -> Result<String, String> {
        let mut words = command.split(' ');
        let program = self.programs.join(words.next().unwrap_or_default());
        let output = Command::new(&program).args(words).arg("--help").output();
        let output = output.map_err(|error| {
            format!("{}: {error}; build it: cargo build -p dataplane -p blast", program.display())
        })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("`{command}` is no command"))
        }
    }

    /// Packages, examples, benches and steps by their names.
    fn cargo(&self, words: &[&str]) -> Result<(), String> {
        let after = |flags: &[&str]| {
            words.windows(2).find(|pair| flags.contains(&pair[0])).map(|pair| pair[1])
        };
        let manifests = self.manifests();
        let named = |kind: &str, name: &str| {
            let exists = manifests.iter().any(|(folder, text)| {
                folder.join(kind).join(format!("{name}.rs")).is_file()
                    || folder.join(kind).join(name).is_dir()
                    || text.contains(&format!("name = \"{name}\""))
            });
            if exists { Ok(()) } else { Err(format!("nothing here is called `{name}`")) }
        };
        if let Some(name) = after(&["-p", "--package"]) {
            named("no-folder", name)?;
        }
        if let Some(name) = after(&["--example"]) {
            named("examples", name)?;
        }
        if let Some(name) = after(&["--bench"]) {
            named("benches", name)?;
        }
        if let Some(name) = after(&["--test"]) {
            named("tests", name)?;
        }
        if let Some(path) = after(&["--manifest-path"])
            && !self.root.join(path).is_file()
        {
            return Err(format!("there is no {path}"));
        }
        if let Some(at) = words.iter().position(|word| *word == "xtask") {
            let name = words.get(at + 1).copied().unwrap_or("help");
            if !crate::HELP.lines().any(|line| line.trim_start().split(' ').next() == Some(name)) {
                return Err(format!("`cargo xtask {name}` is no command"));
            }
        }
        Ok(())
    }

    fn manifests(&self) -> Vec<(PathBuf, String)> {
        let root = fs::read_to_string(self.root.join("Cargo.toml")).unwrap_or_default();
        let members = root.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
        let folders = members.unwrap_or_default().split('"').skip(1).step_by(2);
        let read = |folder: &str| {
            let folder = self.root.join(folder);
            let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            (folder, text)
        };
        folders.map(read).collect()
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    })
}

/// A command's name, not a path, a flag or a number.
fn is_name(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checker that was told what the programs say.
    fn checker() -> Checker {
        let checker = Checker::new(&crate::root(), Path::new("/nowhere"));
        let words = [
            ("butterfly", "Usage: butterfly <COMMAND>\n  serve  Run"),
            ("butterfly serve", "Options:\n  --listen <ADDR>\n  --insecure[=<BOOL>]"),
            ("butterfly ca", "Usage: butterfly ca <COMMAND>\n  init"),
            ("butterfly ca init", "Options:\n  --dir <DIR>"),
        ];
        for (command, help) in words {
            checker.help.borrow_mut().insert(command.to_owned(), Ok(help.to_owned()));
        }
        checker
    }

    #[test]
    fn ops_commands_and_flags_are_held_against_the_programs_words() {
        let checker = checker();
        for fine in [
            "butterfly serve --listen 127.0.0.1:0 --insecure=true",
            "RUST_LOG=x sudo butterfly serve",
            "taskset -c 0 butterfly ca init --dir pki",
            "apt install ./butterfly_1.deb",
            "cargo bench -p kernels -- topk",
            "cargo xtask tidy",
            "cargo test -p dataplane --test node",
            "cargo run --manifest-path benches/peers/Cargo.toml",
            "cargo run --release -p dataplane-quic --example measure",
        ] {
            checker.check(fine).unwrap_or_else(|why| panic!("{fine}: {why}"));
        }
        for wrong in [
            "butterfly serve --lisen 127.0.0.1:0",
            "butterfly ca init --die pki",
            "true && butterfly serve --what",
            "cargo bench -p kernel",
            "cargo xtask tydi",
            "cargo run --example mesure",
            "cargo test -p dataplane --test nod",
            "cargo run --manifest-path benches/peer/Cargo.toml",
        ] {
            assert!(checker.check(wrong).is_err(), "{wrong}");
        }
    }
}
