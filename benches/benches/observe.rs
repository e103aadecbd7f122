//! What watching costs: the same load on two real nodes that differ by flags alone, in alternation.
//!
//! `cargo bench --bench observe -- [--test] [--seconds S] [--rounds N] [--json] [--program PATH]`
//!
//! Needs the program: `cargo build --release -p dataplane` first.

use benches::report::{Comparison, HEADING, conclude};
use blast::{Config, Op, Pace};
use client::Addr;
use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use wire::Operation;

/// A node that nobody watches, and what it is compared with.
const BARE: &[&str] = &["--trace-records", "0", "--http", "off"];
/// Pairs of nodes: a name, the flags of one and of the other.
const PAIRS: [(&str, &[&str], &[&str]); 3] = [
    ("traces", BARE, &["--trace-records", "16384", "--http", "off"]),
    ("page", BARE, &["--trace-records", "0", "--http", "127.0.0.1:0"]),
    ("both", BARE, &["--trace-records", "16384", "--http", "127.0.0.1:0"]),
];
/// Flags of every node.
const COMMON: [&str; 8] =
    ["--listen", "127.0.0.1:0", "--shards", "1", "--workers", "1", "--backend", "cpu"];
/// Loads: a name, operation, connections, requests under way on each.
const LOADS: [(&str, Op, u32, u32); 3] = [
    ("heartbeat-16x16", Op::Heartbeat, 16, 16),
    ("echo-16x16", Op::Work(Operation::Echo), 16, 16),
    ("echo-1x1", Op::Work(Operation::Echo), 1, 1),
];
/// How often the counters are scraped.
const SCRAPE: Duration = Duration::from_secs(1);

struct Options {
    seconds: f64,
    rounds: usize,
    json: bool,
    program: PathBuf,
}

impl Options {
    /// A smoke run with `--test`, and wherever cargo runs benches as tests (then without
    /// `--bench`).
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let smoke =
            arguments.iter().any(|a| a == "--test") || arguments.iter().all(|a| a != "--bench");
        let (seconds, rounds) = if smoke { (0.05, 1) } else { (3.0, 5) };
        let mut options = Self { seconds, rounds, json: false, program: beside()? };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--test" | "--bench" | "--quiet" => {}
                "--json" => options.json = true,
                "--seconds" => {
                    options.seconds = value()?.parse().map_err(|error| format!("{error}"))?;
                }
                "--rounds" => {
                    options.rounds = value()?.parse().map_err(|error| format!("{error}"))?;
                }
                "--program" => options.program = value()?.into(),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(options)
    }
}

/// The program of the same profile: this one lies in `deps` below it.
fn beside() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.ancestors().nth(2).ok_or("this program lies nowhere")?;
    Ok(folder.join("butterfly"))
}

/// A node, and who watches it.
struct Node {
    child: Child,
    addr: Addr,
    watched: Arc<AtomicBool>,
}

impl Node {
    fn start(options: &Options, flags: &[&str]) -> io::Result<Self> {
        let program = &options.program;
        let mut child = Command::new(program)
            .arg("serve")
            .args(COMMON)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                let hint = "build it first: cargo build --release -p dataplane";
                io::Error::other(format!("{}: {error}; {hint}", program.display()))
            })?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let (mut addr, mut page) = (None, None);
        for line in BufReader::new(out).lines() {
            let line = line?;
            if let Some(text) = line.strip_prefix("listening tcp ") {
                addr = text.parse::<Addr>().ok();
            } else if let Some((_, text)) = line.split_once("http://") {
                page = text.split(['/', ' ']).next().map(str::to_owned);
            }
            if line.starts_with("ready") {
                break;
            }
        }
        let addr = addr.ok_or_else(|| io::Error::other("the node did not become ready"))?;
        let watched = Arc::new(AtomicBool::new(true));
        if let Some(page) = page {
            let (scraped, heard) = (page.clone(), Arc::clone(&watched));
            thread::spawn(move || {
                while heard.load(Relaxed) {
                    // A node that ends has no more figures.
                    let _ = get(&scraped, "/metrics", &AtomicBool::new(true));
                    thread::sleep(SCRAPE);
                }
            });
            let heard = Arc::clone(&watched);
            thread::spawn(move || get(&page, "/events", &heard));
        }
        Ok(Self { child, addr, watched })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.watched.store(false, Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a page to its end, or for as long as somebody wants it.
fn get(host: &str, path: &str, wanted: &AtomicBool) -> io::Result<()> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(SCRAPE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut room = vec![0; 64 << 10];
    while wanted.load(Relaxed) {
        match stream.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Good answers a second, or microseconds of the median where one is asked for at a time.
fn measure(options: &Options, flags: &[&str], load: (Op, u32, u32)) -> io::Result<f64> {
    let node = Node::start(options, flags)?;
    let (op, connections, depth) = load;
    let mut config = Config::new(node.addr.clone(), op);
    (config.pace, config.connections, config.depth) = (Pace::Closed, connections, depth);
    config.duration = Duration::from_secs_f64(options.seconds);
    config.warmup = config.duration / 4;
    config.size = matches!(op, Op::Work(_)).then_some(64);
    let report = blast::run(config).map_err(|error| io::Error::other(error.to_string()))?;
    if report.errors > 0 || report.ok == 0 {
        let (ok, errors) = (report.ok, report.errors);
        return Err(io::Error::other(format!("{ok} good answers and {errors} errors")));
    }
    let alone = connections * depth == 1;
    Ok(if alone { report.latency_us.p50.unwrap_or(0.0) } else { report.rps / 1e3 })
}

fn run(options: &Options) -> io::Result<Vec<Comparison>> {
    println!("{HEADING}");
    let mut table = Vec::new();
    for (pair, one, other) in PAIRS {
        for (load, op, connections, depth) in LOADS {
            let unit = if connections * depth == 1 { "us" } else { "k/s" };
            let name = format!("{pair}: {load}");
            let mut line = Comparison { name, unit, floor: Vec::new(), ours: Vec::new() };
            for round in 0..options.rounds {
                // Who goes first changes, so that a machine that warms up favours nobody.
                let mut sides = [(one, &mut line.floor), (other, &mut line.ours)];
                if round % 2 == 1 {
                    sides.reverse();
                }
                for (flags, values) in sides {
                    values.push(measure(options, flags, (op, connections, depth))?);
                }
            }
            println!("{}", line.row());
            table.push(line);
        }
    }
    Ok(table)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = Options::parse(&arguments).map_err(io::Error::other).and_then(|options| {
        if !options.program.exists() && options.rounds == 1 {
            // A smoke run in a tree where only benches were built.
            println!("observe: no {}, nothing to compare", options.program.display());
            return Ok((Vec::new(), false));
        }
        Ok((run(&options)?, options.json))
    });
    conclude("observe", outcome)
}
