//! `butterfly demo`: a node and its workers on loopback, bundled real tensors through real sockets,
//! and what came out.

mod coded;
mod fidelity;
mod fleet;
mod mesh;
mod node;
mod show;

use crate::{cli::DemoArgs, failure::Failure, say, units::Bytes};
use blast::{Config, Op, Pace, Report, TensorRef};
use client::{Addr, Client, Options};
use fidelity::Kept;
use node::Node;
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    os::fd::AsRawFd as _,
    path::PathBuf,
    time::Duration,
};
use wire::{Dtype, Operation};

/// Real logits, an emulated wide vocabulary, real hidden states: `wire/samples/README.md` says
/// where from.
static SAMPLES: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/samples/demo.safetensors"));

/// Entries kept of each row of logits.
const K: u32 = 100;
/// Agents of the mesh as the last part, and messages from which the node learns before the one that
/// is shown. Each takes about a second: the slowest agents need that long.
const LAST_PART: (u32, usize) = (2_000, 8);
/// The same messages where the mesh is all there is to show.
const MESH_WARMUPS: usize = 20;
/// Load before anything counts, per operation.
const WARMUP: Duration = Duration::from_millis(200);

/// One thing to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    /// As the table says it.
    pub(crate) title: &'static str,
    op: Op,
    /// Bundled tensor; nothing for pings.
    tensor: Option<&'static str>,
    rows: u32,
    connections: u32,
    depth: u32,
}

const ACTS: [Act; 5] = [
    Act { title: "ping", op: Op::Ping, tensor: None, rows: 1, connections: 8, depth: 16 },
    Act {
        title: "echo",
        op: Op::Work(Operation::Echo),
        tensor: Some("hidden"),
        rows: 1,
        connections: 8,
        depth: 8,
    },
    Act {
        title: "top-100 of 30,522",
        op: Op::Work(Operation::TopK),
        tensor: Some("logits"),
        rows: 1,
        connections: 4,
        depth: 4,
    },
    Act {
        title: "top-100 of 128,256",
        op: Op::Work(Operation::TopK),
        tensor: Some("wide"),
        rows: 1,
        connections: 4,
        depth: 2,
    },
    Act {
        title: "int8 of 16 x 384",
        op: Op::Work(Operation::Int8),
        tensor: Some("hidden"),
        rows: 16,
        connections: 4,
        depth: 4,
    },
];

/// What one act gave.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) act: Act,
    pub(crate) report: Report,
    /// Nothing for pings.
    pub(crate) kept: Option<Kept>,
}

/// The bundled file under a name that other code can open: it lives in memory as long as this does.
struct Bundle {
    file: File,
}

impl Bundle {
    fn new() -> std::io::Result<Self> {
        let mut file = File::from(memfd_create("butterfly-samples", MemfdFlags::CLOEXEC)?);
        file.write_all(SAMPLES)?;
        Ok(Self { file })
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

fn load(act: &Act, addr: &Addr, bundle: &Bundle, seconds: f64) -> Config {
    let tensor = act.tensor.map(|name| TensorRef { file: bundle.path(), name: name.to_owned() });
    Config {
        pace: Pace::Closed,
        connections: act.connections,
        depth: act.depth,
        tensor,
        rows: act.rows,
        k: K,
        values: Dtype::F16,
        duration: Duration::from_secs_f64(seconds),
        warmup: WARMUP,
        ..Config::new(addr.clone(), act.op)
    }
}

/// Says what happens while it happens, for people only.
fn tell(args: &DemoArgs, line: &str) {
    if !args.json && std::io::stderr().is_terminal() {
        say::note(line);
    }
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    if !(args.seconds >= 0.5 && args.seconds <= 600.0) {
        return Err(Failure::setup("--seconds: write a number from 0.5 to 600"));
    }
    if args.mesh {
        return only_mesh(args);
    }
    let bundle = Bundle::new().map_err(Failure::setup)?;
    tell(args, "starting a node and its workers on a free loopback port");
    let node = Node::start()?;
    let addr = node.addr().clone();
    tell(args, &format!("listening on {addr}"));
    let seconds = args.seconds / ACTS.len() as f64;
    let mut scenes = Vec::new();
    for act in ACTS {
        tell(args, &format!("{} for {seconds:.1} s", act.title));
        let report = blast::run(load(&act, &addr, &bundle, seconds)).map_err(Failure::run)?;
        let kept = match act.tensor {
            None => None,
            Some(name) => {
                let mut client =
                    Client::connect(&addr, Options::default()).map_err(Failure::run)?;
                Some(fidelity::measure(&mut client, &bundle.path(), name, act.op, act.rows)?)
            }
        };
        scenes.push(Scene { act, report, kept });
    }
    let mut client = Client::connect(&addr, Options::default()).map_err(Failure::run)?;
    let coded = coded::measure(&mut client, &bundle.path())?;
    let metrics = client.metrics().map_err(Failure::run)?;
    drop(client);
    let landing = land(args, &node, LAST_PART)?;
    tell(args, "draining");
    node.end()?;
    let facts = crate::status::facts(&metrics);
    if args.json {
        let mut value = show::as_json(&scenes, &coded, &facts);
        value["mesh"] = mesh::as_json(&landing);
        say::out(format!("{value:#}"));
    } else {
        say::out(show::as_text(&scenes, &coded, &facts));
        say::out(format!("\n{}", mesh::as_text(&landing)));
    }
    let unclean = scenes.iter().find(|scene| !scene.report.is_clean() || scene.report.ok == 0);
    match unclean {
        None => Ok(()),
        Some(Scene { act, report, .. }) => Err(Failure::run(format!(
            "{}: {} ok, {} errors, {} lost",
            act.title, report.ok, report.errors, report.lost
        ))),
    }
}

/// Agents that land together at a node.
fn land(
    args: &DemoArgs,
    node: &Node,
    (agents, warmups): (u32, usize),
) -> Result<mesh::Landing, Failure> {
    mesh::land::<fleet::Crowd>(node.addr(), agents, warmups, |line| tell(args, line))
}

/// The part of the mesh by itself.
fn only_mesh(args: &DemoArgs) -> Result<(), Failure> {
    tell(args, "starting a node on a free loopback port");
    let node = Node::start()?;
    let landing = land(args, &node, (args.agents, MESH_WARMUPS))?;
    tell(args, "draining");
    node.end()?;
    if args.json {
        say::out(format!("{:#}", mesh::as_json(&landing)));
    } else {
        say::out(mesh::as_text(&landing));
    }
    Ok(())
}

/// How much was sent and how much came back, for people.
pub(crate) fn bytes(count: f64) -> String {
    Bytes(count as u64).to_string()
}
