//! `butterfly handover`: starts the node that takes over, and waits until it serves. What a
//! supervisor calls for an upgrade: it returns when it is done, and says whether it was.

use crate::{cli::ServeArgs, failure::Failure, handover, say, serve};
use std::{
    env, fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for the new node: what it gives its workers, and what the old one gives it.
const SERVES_MAX: Duration = Duration::from_secs(180);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the command.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let plan = serve::plan(args)?;
    let Some(door) = plan.handover.as_deref() else {
        return Err(Failure::setup("name the socket of the running node with --handover PATH"));
    };
    let Some(before) = handover::holder(door) else {
        let path = door.display();
        return Err(Failure::setup(format!(
            "no node runs at --handover {path}: start the first one with `butterfly serve`"
        )));
    };
    let mut child = start()?;
    until_it_serves(&mut child, door)?;
    say::out(format!("process {} took over from process {before}", child.id()));
    Ok(())
}

/// This very program with `serve` in place of `handover`.
fn start() -> Result<Child, Failure> {
    let program = env::current_exe().map_err(Failure::setup)?;
    Command::new(program)
        .arg0("butterfly")
        .arg("serve")
        .args(env::args_os().skip(2))
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::setup(format!("the new node cannot be started: {error}")))
}

/// It serves once the door is its own: the last thing that it does.
fn until_it_serves(child: &mut Child, door: &Path) -> Result<(), Failure> {
    let inode = || fs::metadata(door).map(|meta| meta.ino()).ok();
    let mut seen = inode();
    let deadline = Instant::now() + SERVES_MAX;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().map_err(Failure::run)? {
            return Err(Failure::run(format!(
                "the new node did not come up ({status}); the one that runs serves on"
            )));
        }
        // Each look would wake the node that runs, so only a door that changed is tried.
        let now = inode();
        if now != seen {
            match handover::holder(door) {
                Some(holder) if holder == child.id() => return Ok(()),
                Some(_) => seen = now,
                None => {}
            }
        }
        thread::sleep(LOOK);
    }
    let id = child.id();
    Err(Failure::run(format!("the new node, process {id}, does not serve yet; look at its words")))
}
