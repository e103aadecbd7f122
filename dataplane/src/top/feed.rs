//! What the node says, asked for once a second by a thread of its own.

use crate::status::allowed;
use client::{Agent, ClientError, Cluster, Pool};
use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use overview::{Overview, fill};
use std::{
    thread,
    time::{Duration, Instant},
};
use wire::payload::mesh::MeshQuery;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take before the node counts as lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What is looked at besides the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Want {
    /// The agents of this sector.
    pub(super) agents_of: Option<u16>,
}

/// What there was to see at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) overview: Overview,
    pub(super) clusters: Vec<Cluster>,
    /// A sector and its agents, where they were wanted.
    pub(super) agents: Option<(u16, Vec<Agent>)>,
}

/// Starts to ask; `tell` takes what comes of it and says whether anybody listens still. A new want
/// is asked for at once.
pub(super) fn start(
    pool: Pool,
    tell: impl Fn(Result<Seen, String>) -> bool + Send + 'static,
) -> Sender<Want> {
    let (wants, wanted) = unbounded();
    thread::spawn(move || {
        let (mut want, mut asks_mesh) = (Want::default(), true);
        loop {
            let next = Instant::now() + EVERY;
            let seen = look(&pool, want, &mut asks_mesh);
            if !tell(seen.map_err(|why| why.to_string())) {
                return;
            }
            match wanted.recv_deadline(next) {
                Ok(other) => want = wanted.try_iter().last().unwrap_or(other),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    wants
}

/// Who may not ask about the mesh asks once: a node ends the connection of one that goes on.
fn look(node: &Pool, want: Want, asks_mesh: &mut bool) -> Result<Seen, ClientError> {
    let metrics = node.metrics()?;
    let map = if *asks_mesh { allowed(node.map(None))? } else { None };
    *asks_mesh = map.is_some();
    let gathers = if *asks_mesh { allowed(node.gathers())? } else { None };
    let rows = gathers.map(|gathers| gathers.rows).unwrap_or_default();
    let overview = fill::overview(&metrics, map.as_ref(), &rows);
    let agents = match want.agents_of.filter(|_| *asks_mesh) {
        None => None,
        Some(sector) => {
            let query = MeshQuery { sector, ..MeshQuery::default() };
            allowed(node.agents(&query))?.map(|listing| (sector, listing.agents))
        }
    };
    Ok(Seen { overview, clusters: map.map(|map| map.clusters).unwrap_or_default(), agents })
}
