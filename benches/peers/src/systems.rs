//! The systems side by side: what they are called, how they are started, how they are asked.

#[cfg(feature = "zmq")]
use crate::zeromq;
use crate::{
    floor, grpc,
    load::{Caller, Plan, Tally, drive},
    nats::{self, Nats},
    node,
    processes::{Server, cpu_ns, own_cpu_ns},
};
use bytes::Bytes;
use clap::ValueEnum;
use std::{cell::Cell, collections::HashMap, path::Path, sync::Arc};

/// A system, or one way to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum System {
    /// Bytes over plain tokio.
    Floor,
    /// tonic, a request a message.
    GrpcUnary,
    /// tonic, one bidirectional stream a connection.
    GrpcStream,
    /// ZeroMQ, DEALER to ROUTER.
    Zmq,
    /// NATS request and reply.
    Nats,
    /// Butterfly's heartbeat, answered by the node itself.
    Ping,
    /// Butterfly's echo, through a worker.
    Echo,
}

impl System {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 7] = [
        Self::Floor,
        Self::GrpcUnary,
        Self::GrpcStream,
        Self::Zmq,
        Self::Ping,
        Self::Nats,
        Self::Echo,
    ];

    /// For tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "tokio",
            Self::GrpcUnary => "gRPC, unary",
            Self::GrpcStream => "gRPC, stream",
            Self::Zmq => "ZeroMQ",
            Self::Nats => "NATS",
            Self::Ping => "Butterfly, heartbeat",
            Self::Echo => "Butterfly, echo",
        }
    }

    /// What a message does on its way, for the report.
    pub(crate) const fn way(self) -> &'static str {
        match self {
            Self::Floor => "length and bytes, echoed by the process that reads them; the floor",
            Self::GrpcUnary => "tonic: HTTP/2 and protobuf, a request and its headers per message",
            Self::GrpcStream => "tonic: the same, one stream per connection",
            Self::Zmq => "libzmq: DEALER to ROUTER, echoed by the process that reads it",
            Self::Nats => {
                "nats-server: through the broker to a responder, and back: two more processes' hops"
            }
            Self::Ping => {
                "header, CRC-16 and checked archive both ways, answered by the node; 96 bytes, no \
                 other length"
            }
            Self::Echo => {
                "the same, then over shared memory to a boxed worker process and back; CRC-32C end \
                 to end from 4 KiB; deadlines, turns and limits"
            }
        }
    }

    /// True if it can carry a body of this length.
    pub(crate) const fn carries(self, len: usize) -> bool {
        !matches!(self, Self::Ping) || len == 96
    }

    /// True for ours.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::Ping | Self::Echo)
    }

    /// True where another process is asked behind the one that listens.
    pub(crate) const fn has_hop(self) -> bool {
        matches!(self, Self::Nats | Self::Echo)
    }
}

/// A run, and the processor time that it took on both sides.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tally: Tally,
    /// Seconds, of the client and of all servers together.
    pub(crate) cpu_s: f64,
}

/// Where a system listens, and what belongs to it.
#[derive(Clone, Debug)]
struct Place {
    address: String,
    processes: Vec<u32>,
}

/// Everything that runs.
pub(crate) struct Servers {
    places: HashMap<System, Place>,
    /// What is not there, and why.
    pub(crate) absent: Vec<(System, String)>,
    _running: Vec<Server>,
    _nats: Option<Nats>,
    #[cfg(feature = "zmq")]
    context: zmq::Context,
}

impl Servers {
    /// Starts what can be started.
    pub(crate) fn start(node: &Path, scratch: &Path, only: &[System]) -> Result<Self, String> {
        let mut servers = Self {
            places: HashMap::new(),
            absent: Vec::new(),
            _running: Vec::new(),
            _nats: None,
            #[cfg(feature = "zmq")]
            context: zmq::Context::new(),
        };
        let wants = |systems: &[System]| systems.iter().any(|system| only.contains(system));
        let ours =
            [(&[System::Floor][..], "floor"), (&[System::GrpcUnary, System::GrpcStream], "grpc")];
        for (systems, name) in ours {
            if wants(systems) {
                let server = Server::of_ours(name, &[])?;
                servers.add(systems, server);
            }
        }
        if wants(&[System::Ping, System::Echo]) {
            servers.add(&[System::Ping, System::Echo], node::start(node)?);
        }
        if wants(&[System::Zmq]) {
            if cfg!(feature = "zmq") {
                servers.add(&[System::Zmq], Server::of_ours("zmq", &[])?);
            } else {
                servers.absent.push((System::Zmq, "built without the feature `zmq`".into()));
            }
        }
        if wants(&[System::Nats]) {
            match nats::found().and_then(|_| Nats::start(scratch)) {
                Ok(nats) => {
                    let (address, processes) = (nats.place.clone(), nats.ids());
                    servers.places.insert(System::Nats, Place { address, processes });
                    servers._nats = Some(nats);
                }
                Err(why) => servers.absent.push((System::Nats, why)),
            }
        }
        Ok(servers)
    }

    fn add(&mut self, systems: &[System], server: Server) {
        let place = Place { address: server.place.clone(), processes: vec![server.id()] };
        for system in systems {
            self.places.insert(*system, place.clone());
        }
        self._running.push(server);
    }

    /// True if it runs.
    pub(crate) fn has(&self, system: System) -> bool {
        self.places.contains_key(&system)
    }

    /// Where the node listens, and its process.
    pub(crate) fn node(&self) -> Option<(&str, u32)> {
        let place = self.places.get(&System::Echo)?;
        Some((place.address.as_str(), *place.processes.first()?))
    }

    /// Runs a plan against a system over so many connections.
    pub(crate) async fn run(
        &self,
        system: System,
        connections: usize,
        plan: Plan,
        body: &Bytes,
    ) -> Result<Run, String> {
        let place = self.places.get(&system).ok_or("it does not run")?;
        let address = place.address.as_str();
        let ids = &place.processes;
        match system {
            System::Floor => {
                let lines = each(connections, || floor::Line::connect(address, body.clone()));
                measured(lines.await?, plan, ids).await
            }
            System::GrpcUnary => {
                let lines = each(connections, || grpc::Unary::connect(address, body.clone()));
                measured(lines.await?, plan, ids).await
            }
            System::GrpcStream => {
                let lines =
                    each(connections, || grpc::Bidirectional::connect(address, body.clone()));
                measured(lines.await?, plan, ids).await
            }
            System::Nats => {
                let lines = each(connections, || nats::Line::connect(address, body.clone()));
                measured(lines.await?, plan, ids).await
            }
            #[cfg(feature = "zmq")]
            System::Zmq => {
                let connect =
                    || async { zeromq::Line::connect(&self.context, address, body.clone()) };
                measured(each(connections, connect).await?, plan, ids).await
            }
            #[cfg(not(feature = "zmq"))]
            System::Zmq => Err("built without the feature `zmq`".into()),
            System::Ping => {
                let pool = node::pool(address, connections, plan.depth)?;
                let lines = each(connections, || async { Ok(node::Ping::new(pool.clone())) });
                measured(lines.await?, plan, ids).await
            }
            System::Echo => {
                let pool = node::pool(address, connections, plan.depth)?;
                let line = || async { Ok(node::Echo::new(pool.clone(), body.clone())) };
                measured(each(connections, line).await?, plan, ids).await
            }
        }
    }
}

async fn each<C, F>(count: usize, connect: impl Fn() -> F) -> Result<Vec<Arc<C>>, String>
where
    F: Future<Output = Result<C, String>>,
{
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(Arc::new(connect().await?));
    }
    Ok(lines)
}

/// Drives the callers and counts what the client and these servers took meanwhile.
pub(crate) async fn measured<C: Caller>(
    callers: Vec<Arc<C>>,
    plan: Plan,
    servers: &[u32],
) -> Result<Run, String> {
    let total = || cpu_ns(servers) + own_cpu_ns();
    let before = Cell::new(0);
    let tally = drive(callers, plan, || before.set(total())).await?;
    let cpu_s = total().saturating_sub(before.get()) as f64 / 1e9;
    Ok(Run { tally, cpu_s })
}
