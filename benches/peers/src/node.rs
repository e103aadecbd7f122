//! Butterfly: a node and its worker as processes, asked through the client library. Every frame's
//! CRC-16, archive and CRC-32C is checked on both sides, as always.

use crate::{floor::same, load::Caller, processes::Server};
use bytes::Bytes;
use client::{Limits, PoolOptions, Retry, aio::Pool};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use wire::{
    Dtype,
    payload::{Heartbeat, QueryRequest, TensorWork},
};

/// How the node is started, shown in the report: its defaults on one shard and one worker, but with
/// patience for what waits, as no other system here refuses load.
pub(crate) const ARGUMENTS: [&str; 9] = [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--shards",
    "1",
    "--workers",
    "1",
    "--queue-target",
    "10s",
];

/// Builds the node with the profile that this program was built with, and says where it is.
pub(crate) fn build() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    eprintln!("building the node");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--quiet", "--package", "dataplane"]).current_dir(&root);
    // This program's own build may have had a folder of its own.
    cargo.env_remove("CARGO_TARGET_DIR").args(["--target-dir", "target"]);
    let folder = if cfg!(debug_assertions) { "debug" } else { "release" };
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if !status.success() {
        return Err(format!("the node was not built: {status}"));
    }
    Ok(root.join("target").join(folder).join("butterfly"))
}

/// Starts a node.
pub(crate) fn start(program: &Path) -> Result<Server, String> {
    Server::start(Command::new(program).args(ARGUMENTS), "listening tcp ")
}

/// What a program says of its version.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// A pool of exactly so many connections, each with room for so many calls. Nothing is tried again:
/// a refusal ends a run instead of hiding in it.
pub(crate) fn pool(place: &str, connections: usize, depth: usize) -> Result<Pool, String> {
    let limits =
        Limits { least: connections, most: connections, in_flight: depth, ..Limits::DEFAULT };
    let retry = Retry { attempts: 1, ..Retry::DEFAULT };
    let options = PoolOptions { limits, retry, ..PoolOptions::default() };
    let addr = place.parse().map_err(|error| format!("{place}: {error}"))?;
    Pool::new(addr, options).map_err(|error| error.to_string())
}

/// Heartbeats: 32 bytes of header and 64 of archive, answered by the shard itself with its clock.
#[derive(Debug)]
pub(crate) struct Ping {
    pool: Pool,
    next: AtomicU64,
}

impl Ping {
    /// Over a pool, which others may share.
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, next: AtomicU64::new(1) }
    }
}

impl Caller for Ping {
    async fn call(&self) -> Result<(), String> {
        let sent_ns = self.next.fetch_add(1, Relaxed);
        let beat = Heartbeat { sent_ns, ..Heartbeat::default() };
        let answer = self.pool.ask(&beat).await.map_err(|error| error.to_string())?;
        let echo = answer.open::<Heartbeat>().map_err(|error| error.to_string())?;
        if echo.sent_ns == sent_ns && echo.replied_ns != 0 {
            return Ok(());
        }
        Err(format!("heartbeat {sent_ns} was answered as {}", echo.sent_ns))
    }
}

/// Rows that come back as they are, through a worker.
#[derive(Debug)]
pub(crate) struct Echo {
    pool: Pool,
    request: QueryRequest,
    body: Bytes,
}

impl Echo {
    /// Over a pool, which others may share.
    pub(crate) fn new(pool: Pool, body: Bytes) -> Self {
        let work = TensorWork::echo(Dtype::U8, 1, body.len() as u32);
        Self { pool, request: QueryRequest { work, ..QueryRequest::default() }, body }
    }
}

impl Caller for Echo {
    async fn call(&self) -> Result<(), String> {
        let answer = self.pool.request(&self.request, self.body.clone()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let response = answer.response().map_err(|error| error.to_string())?;
        same(response.echo.ok_or("an answer without an echo")?.data, &self.body)
    }
}
