//! Servers as processes of their own, and the processor time of all that belong to them.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Longest wait for a server to say where it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// What followed the word that was waited for.
    pub(crate) place: String,
}

impl Server {
    /// Starts a program and waits for a line on its standard output that begins with `word`.
    pub(crate) fn start(command: &mut Command, word: &'static str) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{name} does not start: {error}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let (tell, told) = mpsc::channel();
        // Reads on, so that the pipe never fills up.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(place) = line.strip_prefix(word) {
                    let _ = tell.send(place.trim().to_owned());
                }
            }
        });
        let mut server = Self { child, place: String::new() };
        match told.recv_timeout(PATIENCE) {
            Ok(place) => server.place = place,
            Err(_) => return Err(format!("{name} never said `{word}`: {}", server.end())),
        }
        Ok(server)
    }

    /// This program again, as the server of a name.
    pub(crate) fn of_ours(name: &str, arguments: &[&str]) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        Self::start(Command::new(own).arg("serve").arg(name).args(arguments), "listening ")
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn end(&mut self) -> String {
        match self.child.try_wait() {
            Ok(Some(status)) => format!("it ended with {status}"),
            _ => "it is still running".into(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What workers it has end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds of processor time that these processes and their children have taken.
pub(crate) fn cpu_ns(processes: &[u32]) -> u64 {
    processes.iter().map(|id| one(*id)).sum()
}

fn one(id: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return 0 };
    let mut sum = 0;
    for thread in threads.flatten() {
        let word = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let own = word("schedstat");
        sum += own.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        sum += word("children").split_whitespace().flat_map(str::parse).map(one).sum::<u64>();
    }
    sum
}

/// Nanoseconds of processor time that this process has taken.
pub(crate) fn own_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_children_is_counted() {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 60";
        let server = Server::start(Command::new("sh").args(["-c", script]), "done").expect("sh");
        let child = cpu_ns(&[server.id()]);
        assert!(child > 0 && own_cpu_ns() > 0);
        assert!(cpu_ns(&[std::process::id()]) > child, "children belong to their parents");
        assert_eq!(cpu_ns(&[u32::MAX]), 0);
    }

    #[test]
    fn a_server_that_is_not_there_or_ends_is_named() {
        let absent = Server::start(&mut Command::new("/nonexistent/server"), "listening ");
        assert!(absent.err().is_some_and(|why| why.contains("/nonexistent/server")));
        let ended = Server::start(Command::new("sh").args(["-c", "exit 3"]), "listening ");
        assert!(ended.err().is_some_and(|why| why.contains("listening") && why.contains("sh")));
    }
}
