//! One node after the other at the same address, under load: how many requests fail.

use crate::{
    client::{Field, Target, TimeLine},
    ledger::Account,
    node::Node,
    requests::Requests,
    run::{GRACE, finish, start_clients},
    stage::{Ground, setup},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Clients over TCP and over the Unix socket, each.
const CLIENTS: usize = 3;
/// Longest wait for the end of a node that was succeeded.
const END_MAX: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) account: Account,
    /// From the start of a successor until it serves.
    pub(crate) takes: Vec<Duration>,
    pub(crate) troubles: Vec<String>,
}

/// Runs `count` handovers under a steady load.
///
/// # Errors
/// Why it could not start.
pub(crate) fn run(count: u32, pause: Duration, rate: f64) -> Result<Outcome, String> {
    let ground = Ground::new().map_err(|error| error.to_string())?;
    let setup = setup(&ground, &[])?;
    let door = ground.folder.join("door");
    let mut node = Node::start(&setup, Some(&door))?;
    let field = Arc::new(Field {
        requests: Requests::new().map_err(|error| error.to_string())?,
        rate: rate / (2 * CLIENTS) as f64,
        grace: GRACE,
        line: TimeLine::new(Duration::from_secs(1)),
        stop: AtomicBool::new(false),
    });
    let tcp: Target = Arc::new(Mutex::new(node.tcp.into()));
    let unix: Target = Arc::new(Mutex::new(client::Addr::Unix(setup.uds.clone())));
    let targets: Vec<Target> =
        (0..2 * CLIENTS).map(|n| Arc::clone(if n % 2 == 0 { &tcp } else { &unix })).collect();
    let clients = start_clients(&targets, &field);
    let (mut takes, mut troubles) = (Vec::new(), Vec::new());
    for _ in 0..count {
        thread::sleep(pause);
        let began = Instant::now();
        let next = Node::start(&setup, Some(&door))?;
        takes.push(began.elapsed());
        if next.tcp != node.tcp {
            troubles.push(format!("the successor serves at {}, not at {}", next.tcp, node.tcp));
        }
        match node.wait(END_MAX) {
            Some(status) if status.success() => {}
            other => troubles.push(format!("the node before ended with {other:?}")),
        }
        node = next;
    }
    thread::sleep(pause);
    field.stop.store(true, Relaxed);
    Ok(Outcome { account: finish(clients), takes, troubles })
}

impl Outcome {
    /// Not one request failed, in whatever way.
    pub(crate) fn holds(&self) -> bool {
        let account = &self.account;
        // A deadline that passes on a busy machine is the asker's own.
        let late = account.refused.get("deadline_exceeded").copied().unwrap_or(0);
        let failed = account.died + account.refusals() - late + account.turned_away.len() as u64;
        account.holds() && failed == 0 && account.answered > 0 && self.troubles.is_empty()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = crate::report::words(&self.account);
        text += &format!("\n{} handovers, each took {:.0?}\n", self.takes.len(), self.takes);
        for trouble in &self.troubles {
            text += &format!("TROUBLE: {trouble}\n");
        }
        text + if self.holds() { "holds" } else { "DOES NOT HOLD" }
    }

    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "handovers": self.takes.len(),
            "requests": crate::report::account(&self.account),
            "troubles": self.troubles,
            "holds": self.holds(),
        })
    }
}
