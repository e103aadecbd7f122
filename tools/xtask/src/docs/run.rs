//! The lines of one block, run in a scratch folder. What stays in the background ends with it.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Longest that one line may take.
const LINE_MAX: Duration = Duration::from_secs(60);
/// How often a running line is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Words of a failed line that are shown.
const SAID_LINES: usize = 6;

/// Samples under the names that documents use.
const SAMPLES: [(&str, &str); 4] = [
    ("demo.safetensors", "logits.safetensors"),
    ("demo.safetensors", "hidden.safetensors"),
    ("lm_head.safetensors", "head.safetensors"),
    ("lm_head_rows.safetensors", "rows-of-the-head.safetensors"),
];

/// A process in the background.
struct Background {
    child: Child,
    /// Where it listens, if it is a node.
    listens: Option<String>,
    /// Where it hands over.
    handover: Option<String>,
}

/// A folder of its own and what runs in it.
pub(crate) struct Scratch {
    folder: PathBuf,
    path: std::ffi::OsString,
    running: Vec<Background>,
    lines: u32,
}

impl Scratch {
    /// With the samples and a small file to send.
    pub(crate) fn new(root: &Path, programs: &Path) -> std::io::Result<Self> {
        let folder = own_folder()?;
        fs::create_dir(folder.join("wire"))?;
        let samples = root.join("wire/samples");
        for (from, to) in SAMPLES {
            std::os::unix::fs::symlink(samples.join(from), folder.join(to))?;
        }
        // Documents also name samples where they lie.
        std::os::unix::fs::symlink(&samples, folder.join("wire/samples"))?;
        std::os::unix::fs::symlink(root.join("deploy"), folder.join("deploy"))?;
        fs::write(folder.join("task.bin"), [7; 64])?;
        let paths = env::var_os("PATH").unwrap_or_default();
        let all = [programs.to_owned()].into_iter().chain(env::split_paths(&paths));
        let path = env::join_paths(all).map_err(std::io::Error::other)?;
        Ok(Self { folder, path, running: Vec::new(), lines: 0 })
    }

    /// Runs a line to its end, or until what stays in the background serves.
    ///
    /// # Errors
    /// What went wrong, with its last words.
    pub(crate) fn run(&mut self, line: &str, expected: i32) -> Result<(), String> {
        self.lines += 1;
        let said = self.folder.join(format!(".said-{}", self.lines));
        let awaited = stays(line);
        let handover = after(line, "--handover");
        if let Some(("ready", listens)) = &awaited {
            self.make_way(listens, handover.as_deref());
        }
        let mut child =
            self.start(line, &said).map_err(|error| format!("cannot start: {error}"))?;
        let deadline = Instant::now() + LINE_MAX;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return match status.code() {
                    Some(code) if code == expected && awaited.is_none() => Ok(()),
                    _ => Err(format!("{status}, {expected} expected\n{}", last_words(&said))),
                };
            }
            if let Some((word, listens)) = &awaited
                && fs::read_to_string(&said).is_ok_and(|text| text.contains(word))
            {
                let listens = (*word == "ready").then(|| listens.clone());
                self.running.push(Background { child, listens, handover });
                return Ok(());
            }
            if Instant::now() > deadline {
                end(&mut child, "KILL");
                let words = last_words(&said);
                return Err(format!("not done after {} s\n{words}", LINE_MAX.as_secs()));
            }
            thread::sleep(LOOK);
        }
    }

    fn start(&self, line: &str, said: &Path) -> std::io::Result<Child> {
        let out = fs::File::create(said)?;
        // `exec`, so that the shell is the program and hears its signals.
        let single = !line.contains(['|', ';', '&', '>', '(']);
        let line = if single { format!("exec {line}") } else { line.to_owned() };
        Command::new("sh")
            .args(["-c", &line])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
    }

    /// Ends nodes that listen where another is about to, but not one that hands over to it.
    fn make_way(&mut self, listens: &str, handover: Option<&str>) {
        for old in &mut self.running {
            let hands_over = handover.is_some() && old.handover.as_deref() == handover;
            if old.listens.as_deref() == Some(listens) && !hands_over {
                old.listens = None;
                end(&mut old.child, "TERM");
            }
        }
    }
}

impl Scratch {
    /// Ends what outlived its line: a node that took over from another has no parent any more, but
    /// works in this folder.
    fn end_orphans(&self) {
        let here = |process: &PathBuf| {
            fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == self.folder)
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes.map(|entry| entry.path()).filter(here) {
            let number = process.file_name().unwrap_or_default();
            let _ = Command::new("kill").args(["-s", "KILL"]).arg(number).status();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for running in &mut self.running {
            end(&mut running.child, "KILL");
        }
        self.end_orphans();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An empty folder that nobody else has. Process numbers do not tell runs apart: each run may have
/// its own space of them, and all share the folder for scratch.
fn own_folder() -> std::io::Result<PathBuf> {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let folder = env::temp_dir().join(format!("butterfly-docs-{now}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
}

/// What tells that a line which stays in the background has begun, and where it listens.
fn stays(line: &str) -> Option<(&'static str, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["butterfly", "serve", ..] => {
            let listens = after(line, "--listen");
            let port = listens.as_deref().and_then(|address| address.rsplit(':').next());
            Some(("ready", port.unwrap_or("7171").to_owned()))
        }
        ["blast", "agents", ..] if !line.contains("--duration") => {
            Some(("agents registered in", String::new()))
        }
        _ => None,
    }
}

/// The word behind a flag.
fn after(line: &str, flag: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].to_owned())
}

/// Sends a signal to the whole group and waits.
fn end(child: &mut Child, signal: &str) {
    // The shell's own `kill`: the program of that name takes a small group for a signal.
    let kill = format!("kill -s {signal} -- -{}", child.id());
    let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    let deadline = Instant::now() + LINE_MAX;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn last_words(said: &Path) -> String {
    let text = fs::read(said).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SAID_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_nodes_and_fleets_stay_in_the_background() {
        let place = |line| stays(line).map(|(_, place)| place);
        assert_eq!(place("butterfly serve").as_deref(), Some("7171"));
        assert_eq!(place("butterfly serve --listen [::1]:72").as_deref(), Some("72"));
        assert!(stays("blast agents --addr x").is_some());
        assert!(stays("blast agents --addr x --duration 2s").is_none());
        assert!(stays("butterfly status").is_none());
    }

    #[test]
    fn ops_two_runs_at_once_have_a_folder_each() {
        let new = || Scratch::new(&crate::root(), Path::new("/nowhere")).expect("a folder");
        let (mut one, two) = (new(), new());
        assert_ne!(one.folder, two.folder);
        drop(two);
        one.run("test -e logits.safetensors", 0).expect("what the other one left alone");
    }

    #[test]
    fn ops_a_line_that_fails_is_told_with_its_words_and_nothing_stays() {
        let mut scratch = Scratch::new(&crate::root(), Path::new("/nowhere")).expect("a folder");
        scratch.run("test -e logits.safetensors", 0).expect("samples are there");
        scratch.run("false", 1).expect("as announced");
        let why = scratch.run("echo words; exit 3", 0).expect_err("fails");
        assert!(why.contains("words") && why.contains('3'), "{why}");
        let folder = scratch.folder.clone();
        drop(scratch);
        assert!(!folder.exists());
    }
}
