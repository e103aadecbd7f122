//! Makes the faults of a plan happen.

use crate::{
    liar::{Lie, NAME},
    netem::Weather,
    node::strike,
    plan::{Fault, Kind},
    stage::Stage,
};
use rustix::process::{Pid, Signal};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Half a period of a worker that runs half of the time.
const DUTY: Duration = Duration::from_millis(5);
/// How long a worker may take to be replaced, the node's back-off included.
const REPLACED_MAX: Duration = Duration::from_secs(20);

/// Does one fault, and undoes it. False where there was nothing to strike at.
pub(crate) fn inflict(stage: &Stage, fault: &Fault) -> bool {
    match fault.kind {
        Kind::WorkerKill => on_worker(stage, fault, |worker| strike(worker, Signal::KILL)),
        Kind::WorkerStop => on_worker(stage, fault, |worker| {
            strike(worker, Signal::STOP);
            thread::sleep(fault.lasts);
            strike(worker, Signal::CONT);
        }),
        // Nobody lets it go on: the node must find out.
        Kind::WorkerHang => on_worker(stage, fault, |worker| strike(worker, Signal::STOP)),
        Kind::WorkerSlow => on_worker(stage, fault, |worker| {
            let end = Instant::now() + fault.lasts;
            while Instant::now() < end {
                strike(worker, Signal::STOP);
                thread::sleep(DUTY);
                strike(worker, Signal::CONT);
                thread::sleep(DUTY);
            }
        }),
        Kind::WorkerLies => lies(stage, fault),
        Kind::NodeKill => {
            stage.kill_node();
            true
        }
        Kind::NodeStop => {
            let pid = stage.node().pid();
            strike(pid, Signal::STOP);
            thread::sleep(fault.lasts);
            strike(pid, Signal::CONT);
            true
        }
        Kind::Descriptors => descriptors(stage, fault),
        Kind::DiskFull => {
            stage.ground.fill_disk();
            thread::sleep(fault.lasts);
            stage.ground.free_disk();
            true
        }
        Kind::DiskReadOnly => read_only(stage, fault),
        _ => {
            link(stage, fault);
            true
        }
    }
}

/// The worker that the fault's dice choose.
fn victim(stage: &Stage, fault: &Fault) -> Option<Pid> {
    let workers = stage.node().workers();
    workers.get(fault.dice as usize % workers.len().max(1)).copied()
}

fn on_worker(stage: &Stage, fault: &Fault, act: impl FnOnce(Pid)) -> bool {
    victim(stage, fault).map(act).is_some()
}

/// One worker dies, and its successors lie until the time is over.
fn lies(stage: &Stage, fault: &Fault) -> bool {
    let lie = Lie::ALL[(fault.dice >> 8) as usize % Lie::ALL.len()];
    let told = stage.ground.set_lie(Some(lie)).is_ok();
    let struck = on_worker(stage, fault, |worker| strike(worker, Signal::KILL));
    thread::sleep(fault.lasts);
    let _ = stage.ground.set_lie(None);
    // A liar that was not found out, because nothing was asked of it, must not outlive the fault.
    for worker in stage.node().workers() {
        if is_liar(worker) {
            strike(worker, Signal::KILL);
        }
    }
    told && struck
}

/// A liar goes by its name.
fn is_liar(worker: Pid) -> bool {
    let name = std::fs::read(format!("/proc/{worker}/comm"));
    name.is_ok_and(|name| name.starts_with(NAME.to_bytes()))
}

/// No descriptor more for the node while a worker dies: its successor cannot be started before the
/// limit is lifted.
fn descriptors(stage: &Stage, fault: &Fault) -> bool {
    let node = stage.node();
    let now = node.descriptors() as u64;
    node.limit_descriptors(Some(now.saturating_sub(1)));
    let workers = node.workers();
    if let Some(worker) = workers.get(fault.dice as usize % workers.len().max(1)) {
        strike(*worker, Signal::KILL);
    }
    let pid = node.pid();
    drop(node);
    thread::sleep(fault.lasts);
    let node = stage.node();
    if node.pid() == pid {
        node.limit_descriptors(None);
    }
    true
}

/// A disk that something has open cannot be protected: the node is started again on one that is.
fn read_only(stage: &Stage, fault: &Fault) -> bool {
    let mut protected = false;
    stage.restart_node(|| protected = stage.ground.write_protect(true));
    thread::sleep(fault.lasts);
    if protected && !stage.ground.write_protect(false) {
        stage.trouble("the disk cannot be made writable again".to_owned());
    }
    protected
}

fn link(stage: &Stage, fault: &Fault) {
    let fair = Weather::default();
    let ms = |n: u64| Duration::from_millis(n);
    let draw = |from: u64, to: u64| from + (fault.dice >> 8) % (to - from);
    let (there, back) = match fault.kind {
        Kind::LinkCut => return stage.proxy.cut(),
        Kind::LinkDelay => {
            let weather = Weather { delay: ms(draw(1, 80)), jitter: ms(draw(0, 40)), ..fair };
            (weather, weather)
        }
        Kind::LinkStall => {
            let weather = Weather { stalled: true, ..fair };
            (weather, weather)
        }
        Kind::LinkOneWay => {
            let weather = Weather { stalled: true, ..fair };
            if fault.dice & 1 == 0 { (weather, fair) } else { (fair, weather) }
        }
        Kind::LinkSlow => {
            let weather = Weather { bandwidth: draw(50_000, 2_000_000), ..fair };
            (weather, weather)
        }
        _ => {
            let weather = Weather { piece: draw(1, 4) as usize, ..fair };
            (weather, weather)
        }
    };
    stage.proxy.set(there, back);
    thread::sleep(fault.lasts);
    stage.proxy.set(fair, fair);
}

/// Waits until every worker serves and the state is kept again: after the last fault nothing may
/// stay broken. Says what does.
pub(crate) fn until_whole(stage: &Stage, workers: u64) -> Result<(), String> {
    let deadline = Instant::now() + REPLACED_MAX;
    loop {
        let metrics = stage.node().metrics();
        let count = |name: &str| metrics.as_ref().and_then(|it| it.total(name));
        let (ready, works) =
            (count("butterfly_workers_ready"), count("butterfly_mesh_state_works"));
        if ready == Some(workers) && works == Some(1) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "{REPLACED_MAX:?} after the last fault: {ready:?} of {workers} workers serve, \
                 state kept: {works:?}"
            ));
        }
        thread::sleep(Duration::from_millis(50));
    }
}
