//! What a person may set, from flags and from a TOML file: one struct, so that the two can never
//! drift apart. Nothing is checked or defaulted here; `plan` does that once for both.

mod keys;

use crate::{
    identity::Section,
    units::{Bytes, Span},
};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// How a shard waits.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Poll {
    /// Spin always: the lowest latency, a whole core per shard.
    Latency,
    /// Spin for a moment where that has paid lately, then sleep.
    Balanced,
    /// Sleep as soon as there is nothing to do.
    Frugal,
}

/// Where workers compute.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// The best that is present; what was chosen and why is reported.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device, or refuse to start.
    Cuda,
}

/// How much of the worker's sandbox is asked for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerSandbox {
    /// As much as the kernel offers; what is missing is reported.
    Auto,
    /// None.
    Off,
    /// All of it, or refuse to start.
    Require,
}

/// What a node is in a tree of nodes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Nothing above it.
    Orchestrator,
    /// Coordinates its own agents for a parent, and goes on alone while that is away.
    Sector,
}

impl Poll {
    /// As in flags and files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Balanced => "balanced",
            Self::Frugal => "frugal",
        }
    }
}

impl WorkerSandbox {
    /// As in flags and files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Require => "require",
        }
    }

    /// The worker's own word for it.
    pub(crate) const fn mode(self) -> worker::sandbox::Mode {
        match self {
            Self::Auto => worker::sandbox::Mode::Auto,
            Self::Off => worker::sandbox::Mode::Off,
            Self::Require => worker::sandbox::Mode::Require,
        }
    }
}

impl Backend {
    /// As in flags and files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Everything that `serve` can be told. A flag wins over the file; the file's keys are the flags'
/// long names with `_` for `-`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// TCP address to listen on; repeat for more. Port 0 takes a free one [default: 127.0.0.1:7171]
    #[arg(long, value_name = "ADDR", help_heading = "Where")]
    pub(crate) listen: Vec<String>,
    /// Unix socket to listen on as well
    #[arg(long, value_name = "PATH", help_heading = "Where")]
    pub(crate) uds: Option<PathBuf>,
    /// UDP address to serve QUIC on as well; repeat for more. Needs the three TLS files
    #[arg(long, value_name = "ADDR", help_heading = "Where")]
    pub(crate) quic: Vec<String>,
    /// Authorities to trust, PEM. With certificate and key, every TCP address speaks TLS 1.3 and
    /// takes only peers with a certificate of theirs
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// This node's certificate, PEM; it needs the role `node`
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Keep loopback addresses plain beside TLS [default: true without certificates, false with]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, help_heading = "Where")]
    pub(crate) plain_loopback: Option<bool>,
    /// Unix socket on which the next process takes over: it gets the listening sockets from the one
    /// that runs, which then answers what it has and ends
    #[arg(long, value_name = "PATH", help_heading = "Where")]
    pub(crate) handover: Option<PathBuf>,
    /// Allow plaintext on addresses other than loopback: anyone on the way can read and change it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, help_heading = "Where")]
    pub(crate) insecure: Option<bool>,

    /// Address of the status page, of metrics and checks over HTTP; `off` for none [default:
    /// 127.0.0.1:7180, or a free port where that is taken]
    #[arg(long, value_name = "ADDR", help_heading = "What it shows")]
    pub(crate) http: Option<String>,
    /// Allow --http beyond loopback: whoever reaches it sees everything it shows, in plaintext;
    /// there is nothing to change
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, help_heading = "What it shows")]
    pub(crate) http_open: Option<bool>,
    /// Name by which browsers may ask, beside addresses and localhost; repeat for more
    #[arg(long, value_name = "NAME", help_heading = "What it shows")]
    pub(crate) http_host: Vec<String>,

    /// Shards: pinned cores that serve connections [default: a quarter of the cores, at least 1]
    #[arg(long, value_name = "N", help_heading = "Cores")]
    pub(crate) shards: Option<u32>,
    /// Worker processes that compute [default: one per GPU; without one, the other cores, 1 to 8]
    #[arg(long, value_name = "N", help_heading = "Cores")]
    pub(crate) workers: Option<u32>,
    /// Where workers compute [default: auto]
    #[arg(long, value_name = "WHERE", help_heading = "Cores")]
    pub(crate) backend: Option<Backend>,
    /// What workers give up before their first request: files, network, other programs, all system
    /// calls but those that computing takes [default: auto]
    #[arg(long, value_name = "MODE", help_heading = "Cores")]
    pub(crate) worker_sandbox: Option<WorkerSandbox>,
    /// How shards wait [default: balanced]
    #[arg(long, value_name = "MODE", help_heading = "Cores")]
    pub(crate) poll: Option<Poll>,
    /// safetensors file with `weight` [vocabulary, width] and, if there, `bias`: enables lm-head
    #[arg(long, value_name = "FILE", help_heading = "Cores")]
    pub(crate) lm_head: Option<PathBuf>,
    /// Basis made by `butterfly calibrate`: enables the codings of hidden rows that need one
    #[arg(long, value_name = "FILE", help_heading = "Cores")]
    pub(crate) basis: Option<PathBuf>,

    /// Largest payload of one message [default: 2052KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) max_payload: Option<Bytes>,
    /// Connections over all shards [default: 4096]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) max_connections: Option<u32>,
    /// Requests under way per connection [default: 512]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) max_in_flight: Option<u32>,
    /// Slots per shard for small requests [default: 2048]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) small_slots: Option<u32>,
    /// Slots per shard for requests up to max-payload [default: 48]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) bulk_slots: Option<u32>,
    /// Receive buffers per shard, a power of two [default: 512]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) recv_buffers: Option<u32>,
    /// Size of a receive buffer [default: 16KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) recv_buffer: Option<Bytes>,

    /// Names that the node can know at a time [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Identities")]
    pub(crate) max_identities: Option<u32>,
    /// Frames a second of one client, before what the file says of its name [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Identities")]
    pub(crate) client_rate: Option<u32>,
    /// Clients on whose connection nothing moves for so long are disconnected; 0s: never [default:
    /// 300s]
    #[arg(long, value_name = "TIME", help_heading = "Identities")]
    pub(crate) idle_timeout: Option<Span>,
    /// What roles and names are allowed; only in the file.
    #[arg(skip)]
    pub(crate) identity: Section,

    /// Agents that this node's registry has room for [default: 32768]
    #[arg(long, value_name = "N", help_heading = "Mesh")]
    pub(crate) agents: Option<u32>,
    /// Sends that may wait for their moment, per shard [default: 65536]
    #[arg(long, value_name = "N", help_heading = "Mesh")]
    pub(crate) pending_sends: Option<u32>,
    /// The node above this one: HOST:PORT, tls://HOST:PORT or unix:///PATH. This node then
    /// coordinates for it
    #[arg(long, value_name = "ADDR", help_heading = "Mesh")]
    pub(crate) parent: Option<String>,
    /// What this node is in a tree of nodes [default: sector with a parent, else orchestrator]
    #[arg(long, value_name = "ROLE", help_heading = "Mesh")]
    pub(crate) role: Option<Role>,
    /// Name of this node in the reports of others [default: the host's name and the process number]
    #[arg(long, value_name = "NAME", help_heading = "Mesh")]
    pub(crate) name: Option<String>,
    /// Directory for the registry's snapshot and history; without it a restart forgets them
    #[arg(long, value_name = "DIR", help_heading = "Mesh")]
    pub(crate) state: Option<PathBuf>,

    /// Requests whose lives each shard remembers for `butterfly why`, a power of two; 0: none
    /// [default: 16384]
    #[arg(long, value_name = "N", help_heading = "Traces")]
    pub(crate) trace_records: Option<u32>,
    /// Collector that takes a sample of them as OpenTelemetry traces, by OTLP over HTTP with JSON
    #[arg(long, value_name = "URL", help_heading = "Traces")]
    pub(crate) otlp: Option<String>,
    /// Share of the requests that go there, 0 to 1 [default: 0.001]
    #[arg(long, value_name = "SHARE", help_heading = "Traces")]
    pub(crate) otlp_sample: Option<f64>,

    /// Public keys of operators: a directory of .pub files, or one such file; repeat for more.
    /// Orders from elsewhere than this machine then need a signature by one of them
    #[arg(long, value_name = "PATH", help_heading = "Trust")]
    pub(crate) operator_keys: Vec<PathBuf>,
    /// Orders from this machine need a signature too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, help_heading = "Trust")]
    pub(crate) require_signed_orders: Option<bool>,
    /// Orders to freeze or cut off the whole mesh need the signatures of two operators
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, help_heading = "Trust")]
    pub(crate) two_person: Option<bool>,
    /// This node's key, made by `butterfly key new`: signs what it sends to agents and nodes below
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub(crate) node_key: Option<PathBuf>,
    /// Answers of agents that registered a key count only with a signature
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, help_heading = "Trust")]
    pub(crate) signed_acks: Option<bool>,

    /// Requests in a batch at most [default: 32]
    #[arg(long, value_name = "N", help_heading = "Batches and time")]
    pub(crate) batch_size: Option<u32>,
    /// Longest that a request waits for company while all workers are busy [default: 10ms]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) batch_wait: Option<Span>,
    /// Longest that a request of the highest priority waits for a worker; what would wait longer is
    /// refused at once [default: 50ms]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) queue_target: Option<Span>,
    /// A worker that holds work and makes no progress for this long is replaced [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) worker_timeout: Option<Span>,
    /// A worker that keeps one request for this long is replaced, whatever it says [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) worker_patience: Option<Span>,
    /// How often each worker is pinged, asked questions with known answers, and measured
    /// [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) health_every: Option<Span>,
    /// A peer that stalls inside a frame, or does not read, for this long is disconnected [default:
    /// 10s]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) peer_timeout: Option<Span>,
    /// How long a drain waits for work under way [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Batches and time")]
    pub(crate) drain_timeout: Option<Span>,

    /// Program that is started as worker in place of this one: for fault injection
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub(crate) worker_program: Option<PathBuf>,
}

impl Settings {
    /// These settings where they say something, the file's elsewhere.
    #[must_use]
    pub(crate) fn over(self, file: Self) -> Self {
        Self {
            listen: if self.listen.is_empty() { file.listen } else { self.listen },
            uds: self.uds.or(file.uds),
            quic: if self.quic.is_empty() { file.quic } else { self.quic },
            tls_ca: self.tls_ca.or(file.tls_ca),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            plain_loopback: self.plain_loopback.or(file.plain_loopback),
            handover: self.handover.or(file.handover),
            insecure: self.insecure.or(file.insecure),
            http: self.http.or(file.http),
            http_open: self.http_open.or(file.http_open),
            http_host: if self.http_host.is_empty() { file.http_host } else { self.http_host },
            shards: self.shards.or(file.shards),
            workers: self.workers.or(file.workers),
            backend: self.backend.or(file.backend),
            worker_sandbox: self.worker_sandbox.or(file.worker_sandbox),
            poll: self.poll.or(file.poll),
            lm_head: self.lm_head.or(file.lm_head),
            basis: self.basis.or(file.basis),
            max_payload: self.max_payload.or(file.max_payload),
            max_connections: self.max_connections.or(file.max_connections),
            max_in_flight: self.max_in_flight.or(file.max_in_flight),
            small_slots: self.small_slots.or(file.small_slots),
            bulk_slots: self.bulk_slots.or(file.bulk_slots),
            recv_buffers: self.recv_buffers.or(file.recv_buffers),
            recv_buffer: self.recv_buffer.or(file.recv_buffer),
            max_identities: self.max_identities.or(file.max_identities),
            client_rate: self.client_rate.or(file.client_rate),
            idle_timeout: self.idle_timeout.or(file.idle_timeout),
            identity: file.identity,
            agents: self.agents.or(file.agents),
            pending_sends: self.pending_sends.or(file.pending_sends),
            parent: self.parent.or(file.parent),
            role: self.role.or(file.role),
            name: self.name.or(file.name),
            state: self.state.or(file.state),
            trace_records: self.trace_records.or(file.trace_records),
            otlp: self.otlp.or(file.otlp),
            otlp_sample: self.otlp_sample.or(file.otlp_sample),
            operator_keys: if self.operator_keys.is_empty() {
                file.operator_keys
            } else {
                self.operator_keys
            },
            require_signed_orders: self.require_signed_orders.or(file.require_signed_orders),
            two_person: self.two_person.or(file.two_person),
            node_key: self.node_key.or(file.node_key),
            signed_acks: self.signed_acks.or(file.signed_acks),
            batch_size: self.batch_size.or(file.batch_size),
            batch_wait: self.batch_wait.or(file.batch_wait),
            queue_target: self.queue_target.or(file.queue_target),
            worker_timeout: self.worker_timeout.or(file.worker_timeout),
            worker_patience: self.worker_patience.or(file.worker_patience),
            health_every: self.health_every.or(file.health_every),
            peer_timeout: self.peer_timeout.or(file.peer_timeout),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            worker_program: self.worker_program.or(file.worker_program),
        }
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// A sentence with the file, the place and what was expected there.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("cannot read the configuration {}: {error}", path.display())
        })?;
        toml::from_str(&text).map_err(|error| {
            let what = keys::explain(&error);
            format!("the configuration {} is malformed: {what}", path.display())
                .trim_end()
                .to_owned()
        })
    }
}
