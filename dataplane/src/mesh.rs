//! The mesh of a node: the thread that runs it, its links to the shards and to the node above, what
//! it keeps.

mod keeper;
pub(crate) mod link;
mod parent;
pub(crate) mod store;
mod thread;

use crate::{plan::Plan, say};
use ::mesh::{
    SECOND,
    clock::OffsetFilter,
    node::{Config, Mesh, Now},
    plan,
    predict::Predictor,
};
use crossbeam_channel::{Sender, unbounded};
use keeper::Keeper;
use link::Links;
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
};
pub(crate) use thread::now as node_now;
use thread::{Published, Request, Seat, node_time};
use tokio::sync::oneshot;
use wire::{
    mesh::{Role, View, message_id},
    payload::mesh::MeshView,
};

/// How often the registry is written down.
const SNAPSHOT_EVERY: u64 = 60 * SECOND;

/// What an agent takes of the node's memory: its row, its prediction, its clock, its part of the
/// planner's lists.
pub(crate) const BYTES_PER_AGENT: u64 = ::mesh::limits::ROW_BYTES as u64
    + Predictor::ROW_BYTES as u64
    + size_of::<OffsetFilter>() as u64
    + 64;

/// The thread, once started.
#[derive(Debug)]
pub(crate) struct Running {
    /// The machine's counters.
    pub(crate) counters: Arc<Published>,
    stop: Arc<AtomicBool>,
    asker: Asker,
    thread: JoinHandle<()>,
}

/// How others ask the thread. It answers between two passes, so that an answer costs nobody's send
/// more than the making of it.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    requests: Sender<Request>,
    door: Arc<::link::door::Door>,
}

impl Asker {
    fn ask(&self, request: Request) {
        // A thread that has ended holds nothing, and drops what would be answered.
        let _ = self.requests.send(request);
        self.door.ring();
    }

    /// All of one view, or `None` where the thread has ended.
    pub(crate) async fn view(&self, view: View) -> Option<MeshView> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::View(view, reply));
        answer.await.ok()
    }
}

/// Numbers that differ from start to start.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn config(plan: &Plan) -> Result<Config, String> {
    let now = thread::now();
    let random = u128::from(random()) << 64 | u128::from(random());
    Ok(Config {
        node_id: message_id(now.epoch_ns, random),
        name: plan.mesh.name.clone(),
        role: if plan.mesh.parent.is_some() { Role::Sector } else { Role::Orchestrator },
        agents: plan.mesh.agents,
        targets: plan.mesh.agents,
        send_gap: plan::SEND_GAP,
        snapshot_every: if plan.mesh.state.is_some() { SNAPSHOT_EVERY } else { 0 },
        trust: plan.mesh.trust.load(now.epoch_ns)?,
        stopwatch: node_time,
        ..Config::default()
    })
}

/// Brings back what an earlier life of this node kept.
fn restore(mesh: &mut Mesh, now: Now, snapshot: Option<&[u8]>) {
    let Some(bytes) = snapshot else { return };
    if mesh.restore(now, bytes) {
        say::note(format!("mesh: {} agents known from before", mesh.registry().len()));
    } else {
        say::note(
            "mesh: the kept registry cannot be read, or is larger than --agents; starting anew",
        );
    }
}

/// Starts the thread.
///
/// # Errors
/// Why the state cannot be kept or a key not be read, or the OS's reason.
pub(crate) fn start(plan: &Plan, links: Links) -> Result<Running, String> {
    let (keeper, snapshot) = match &plan.mesh.state {
        None => (None, None),
        Some(dir) => {
            let (keeper, snapshot) = Keeper::open(dir, store::prove)?;
            (Some(keeper), snapshot)
        }
    };
    let mut mesh = Mesh::new(&config(plan)?, random());
    restore(&mut mesh, thread::now(), snapshot.as_deref());
    let door = links.door();
    let parent = match &plan.mesh.parent {
        None => None,
        Some(addr) => {
            let files = plan.security.tls.clone();
            Some(parent::keep(addr.clone(), files, Arc::clone(&door), node_time)?)
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (requests, asked) = unbounded();
    let counters = Arc::new(Published::default());
    let seat = Seat {
        mesh,
        links,
        parent,
        keeper,
        requests: asked,
        stop: Arc::clone(&stop),
        counters: Arc::clone(&counters),
    };
    let thread = Builder::new()
        .name("mesh".to_owned())
        .spawn(move || thread::run(seat))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(Running { counters, stop, asker: Asker { requests, door }, thread })
}

impl Running {
    /// Lets go of the state directory, for the process that takes over; returns once it is free.
    pub(crate) async fn release(&self) {
        let (done, told) = crossbeam_channel::bounded(1);
        self.asker.ask(Request::Release(done));
        // Ends also where the thread has ended.
        let _ = tokio::task::spawn_blocking(move || told.recv()).await;
    }

    /// Takes the state directory again: the other process did not come up.
    pub(crate) fn resume(&self) {
        self.asker.ask(Request::Resume);
    }

    /// For those who want to see the mesh.
    pub(crate) fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Ends the thread, which keeps the registry one last time.
    pub(crate) fn stop(self) {
        self.stop.store(true, Relaxed);
        self.asker.door.ring();
        // The panic of a mesh is shown by its thread; the node ends either way.
        let _ = self.thread.join();
    }
}
