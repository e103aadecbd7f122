//! One validated [`Plan`], built before anything is opened. Every default and every bound of the
//! node stands here.

mod mesh;

pub(crate) use mesh::MeshPlan;

use crate::{
    host,
    http::HttpPlan,
    identity::IdentityPlan,
    security::Security,
    settings::{Backend, Poll, Settings, WorkerSandbox},
    traces::TracePlan,
    units::Bytes,
};
use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

/// Where `serve` listens unless told otherwise.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:7171";

/// Payload room of a small slot: a one-token query, a ping, a hidden row of 1,024 f16 with its
/// root.
const SMALL_REQUEST: u32 = 4 << 10;
/// Reply room of a small slot: a top-k set of k = 1,024 does not fit and goes to a bulk slot.
const SMALL_REPLY: u32 = 4 << 10;
/// Room behind the largest request, so that an echo of it with its header still fits.
const REPLY_ROOM: u32 = 4 << 10;
/// Egress chunks per shard and their size: what leaves for one connection in one turn is coalesced
/// here.
const CHUNKS: u32 = 512;
const CHUNK_LEN: u32 = 16 << 10;
/// Longest batch that a shard's state machine holds.
const BATCH_CAP: u32 = dataplane_core::limits::BATCH_CAP as u32;

/// A value outside its bounds, said in one sentence with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlanError {
    key: String,
    value: String,
    remedy: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.remedy)
    }
}

/// The refusal of a value.
pub(crate) fn refuse(
    key: impl Into<String>,
    value: impl fmt::Display,
    remedy: impl Into<String>,
) -> PlanError {
    PlanError { key: key.into(), value: value.to_string(), remedy: remedy.into() }
}

/// Every bound of a running node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest payload of one message, bytes, a multiple of 64.
    pub(crate) max_payload: u32,
    /// Connections of one shard.
    pub(crate) connections: u32,
    /// Requests under way of one connection.
    pub(crate) in_flight: u32,
    /// Small slots of one shard.
    pub(crate) small_slots: u32,
    /// Bulk slots of one shard.
    pub(crate) bulk_slots: u32,
    /// Receive buffers of one shard, a power of two.
    pub(crate) recv_buffers: u32,
    /// Bytes of a receive buffer.
    pub(crate) recv_buffer: u32,
    /// Requests of one batch.
    pub(crate) batch_size: u32,
    /// Longest wait for company.
    pub(crate) batch_wait: Duration,
    /// Longest wait for a worker.
    pub(crate) queue_target: Duration,
    /// Longest silence of a worker with work.
    pub(crate) worker_timeout: Duration,
    /// Longest that a worker may keep one request.
    pub(crate) worker_patience: Duration,
    /// From one check of a worker's health to the next.
    pub(crate) health_every: Duration,
    /// Longest stall of a peer inside a frame or before reading.
    pub(crate) peer_timeout: Duration,
    /// Longest drain.
    pub(crate) drain_timeout: Duration,
}

/// What a node is going to be. Immutable; everything else is derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// TCP addresses, in the order given.
    pub(crate) listen: Vec<SocketAddr>,
    /// Unix socket.
    pub(crate) uds: Option<PathBuf>,
    /// UDP addresses of QUIC, in the order given.
    pub(crate) quic: Vec<SocketAddr>,
    /// Who can listen in.
    pub(crate) security: Security,
    /// What it shows over HTTP, if anything.
    pub(crate) http: Option<HttpPlan>,
    /// Where the next process takes over.
    pub(crate) handover: Option<PathBuf>,
    /// CPU of every shard, as the OS numbers them.
    pub(crate) shard_cpus: Vec<usize>,
    /// Worker processes.
    pub(crate) workers: u32,
    /// CUDA devices that they share; 0 where none is used.
    pub(crate) devices: u16,
    /// Their program; `None` for this one.
    pub(crate) worker_program: Option<PathBuf>,
    /// Where they compute.
    pub(crate) backend: Backend,
    /// What they give up.
    pub(crate) worker_sandbox: WorkerSandbox,
    /// How shards wait.
    pub(crate) poll: Poll,
    /// Weights for lm-head.
    pub(crate) lm_head: Option<PathBuf>,
    /// Basis for the codings of hidden rows.
    pub(crate) basis: Option<PathBuf>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// Agents.
    pub(crate) mesh: MeshPlan,
    /// Whom it knows.
    pub(crate) identity: IdentityPlan,
    /// What it remembers of requests.
    pub(crate) trace: TracePlan,
}

/// A number within its bounds, or the refusal that names them.
pub(crate) fn bounded(
    key: &'static str,
    value: Option<u32>,
    default: u32,
    bounds: std::ops::RangeInclusive<u32>,
) -> Result<u32, PlanError> {
    let value = value.unwrap_or(default);
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(refuse(key, value, format!("write a number from {} to {}", bounds.start(), bounds.end())))
}

/// A size within its bounds.
fn sized(
    key: &'static str,
    value: Option<Bytes>,
    default: u32,
    bounds: std::ops::RangeInclusive<u32>,
) -> Result<u32, PlanError> {
    let value = value.unwrap_or_else(|| Bytes(default.into()));
    match u32::try_from(value.0) {
        Ok(bytes) if bounds.contains(&bytes) => Ok(bytes),
        _ => Err(refuse(
            key,
            value,
            format!(
                "write a size from {} to {}",
                Bytes(u64::from(*bounds.start())),
                Bytes(u64::from(*bounds.end()))
            ),
        )),
    }
}

/// A time within its bounds.
fn timed(
    key: &'static str,
    value: Option<crate::units::Span>,
    default: Duration,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Result<Duration, PlanError> {
    let value = value.map_or(default, |span| span.0);
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(refuse(
        key,
        format!("{value:?}"),
        format!("write a time from {:?} to {:?}", bounds.start(), bounds.end()),
    ))
}

fn addresses(settings: &Settings) -> Result<Vec<SocketAddr>, PlanError> {
    let mut texts = settings.listen.clone();
    if texts.is_empty() && settings.uds.is_none() {
        texts.push(DEFAULT_LISTEN.to_owned());
    }
    resolved("listen", &texts)
}

/// The addresses that these texts name, each once.
pub(crate) fn resolved(key: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, PlanError> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for text in texts {
        let resolved = text.to_socket_addrs().map_err(|error| {
            refuse(
                key,
                text,
                format!("{error}; write an address with its port, as 127.0.0.1:7171 or [::1]:7171"),
            )
        })?;
        for address in resolved {
            if !found.contains(&address) || address.port() == 0 {
                found.push(address);
            }
        }
    }
    if found.len() > 16 {
        return Err(refuse(key, found.len(), "name at most 16 addresses"));
    }
    Ok(found)
}

/// Room of one shard for its part of `connections`. The OS spreads them by a hash, so the parts
/// differ by chance: six standard deviations more than the mean make an overflow unheard of.
pub(crate) fn spread(connections: u32, shards: u32) -> u32 {
    let mean = connections.div_ceil(shards);
    if shards == 1 { mean } else { mean + 6 * mean.isqrt() }
}

impl Limits {
    /// Every node accepts payloads of this length.
    pub(crate) const PAYLOAD_MIN: u64 = 16 << 10;

    fn from_settings(settings: &Settings, shards: u32) -> Result<Self, PlanError> {
        let ms = Duration::from_millis;
        let max_payload = sized(
            "max_payload",
            settings.max_payload,
            // Two rows of 262,144 f32, and room for their root.
            (2 << 20) + (4 << 10),
            (Self::PAYLOAD_MIN as u32)..=(256 << 20),
        )?
        .next_multiple_of(64);
        let connections =
            bounded("max_connections", settings.max_connections, 4096, 1..=1_000_000)?;
        let recv_buffers = bounded("recv_buffers", settings.recv_buffers, 512, 16..=32_768)?;
        if !recv_buffers.is_power_of_two() {
            let remedy = format!("take a power of two, as {}", recv_buffers.next_power_of_two());
            return Err(refuse("recv_buffers", recv_buffers, remedy));
        }
        Ok(Self {
            max_payload,
            connections: spread(connections, shards),
            in_flight: bounded("max_in_flight", settings.max_in_flight, 512, 1..=65_536)?,
            small_slots: bounded("small_slots", settings.small_slots, 2048, 1..=65_536)?,
            bulk_slots: bounded("bulk_slots", settings.bulk_slots, 48, 2..=4096)?,
            recv_buffers,
            recv_buffer: sized(
                "recv_buffer",
                settings.recv_buffer,
                16 << 10,
                (1 << 10)..=(1 << 20),
            )?
            .next_multiple_of(64),
            batch_size: bounded("batch_size", settings.batch_size, 32, 1..=BATCH_CAP)?,
            batch_wait: timed("batch_wait", settings.batch_wait, ms(10), ms(0)..=ms(10_000))?,
            queue_target: timed("queue_target", settings.queue_target, ms(50), ms(1)..=ms(60_000))?,
            worker_timeout: timed(
                "worker_timeout",
                settings.worker_timeout,
                ms(5_000),
                ms(100)..=ms(600_000),
            )?,
            worker_patience: timed(
                "worker_patience",
                settings.worker_patience,
                ms(60_000),
                ms(1_000)..=ms(3_600_000),
            )?,
            health_every: timed(
                "health_every",
                settings.health_every,
                ms(5_000),
                ms(250)..=ms(3_600_000),
            )?,
            peer_timeout: timed(
                "peer_timeout",
                settings.peer_timeout,
                ms(10_000),
                ms(100)..=ms(3_600_000),
            )?,
            drain_timeout: timed(
                "drain_timeout",
                settings.drain_timeout,
                ms(10_000),
                ms(0)..=ms(3_600_000),
            )?,
        })
    }
}

impl Plan {
    /// Checks and completes what a person said. Nothing is opened here.
    ///
    /// # Errors
    /// The first value that cannot stand, with the way out.
    pub(crate) fn new(
        settings: &Settings,
        cpus: &[usize],
        devices: u16,
    ) -> Result<Self, PlanError> {
        let cores = u32::try_from(cpus.len()).unwrap_or(u32::MAX).max(1);
        let shards = bounded("shards", settings.shards, (cores / 4).max(1), 1..=64)?;
        let backend = settings.backend.unwrap_or(Backend::Auto);
        let devices = if backend == Backend::Cpu { 0 } else { devices };
        // A GPU is kept busy by one worker, which also has a core's time for what it does not do.
        let workers = match devices {
            0 => cores.saturating_sub(shards).clamp(1, 8),
            devices => u32::from(devices).min(64),
        };
        let workers = bounded("workers", settings.workers, workers, 1..=64)?;
        let limits = Limits::from_settings(settings, shards)?;
        let listen = addresses(settings)?;
        let public = listen.iter().any(|address| !address.ip().is_loopback());
        // Under TLS whoever comes from elsewhere has a name.
        let open = public && settings.tls_cert.is_none();
        let mesh = MeshPlan::from_settings(settings, open)?;
        let security = Security::from_settings(settings, &listen, mesh.parent.as_ref())?;
        let quic = resolved("quic", &settings.quic)?;
        security.check_quic(&quic)?;
        // More shards than cores is legal (tests do it); they then share cores in turn.
        let shard_cpus = (0..shards as usize)
            .map(|shard| cpus.get(shard % cpus.len().max(1)).copied().unwrap_or(0))
            .collect();
        Ok(Self {
            listen,
            uds: settings.uds.clone(),
            quic,
            security,
            http: HttpPlan::new(settings)?,
            handover: settings.handover.clone(),
            shard_cpus,
            workers,
            devices,
            worker_program: settings.worker_program.clone(),
            backend,
            worker_sandbox: settings.worker_sandbox.unwrap_or(WorkerSandbox::Auto),
            poll: settings.poll.unwrap_or(Poll::Balanced),
            lm_head: settings.lm_head.clone(),
            basis: settings.basis.clone(),
            mesh,
            trace: TracePlan::from_settings(settings)?,
            identity: IdentityPlan::new(settings, limits.max_payload)?,
            limits,
        })
    }

    /// For this process on this host.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn for_host(settings: &Settings) -> Result<Self, PlanError> {
        // Asking loads the driver into this process, but opens no device; where nobody wants a
        // device, it is not asked.
        let devices = match settings.backend {
            Some(Backend::Cpu) => 0,
            _ => worker::cuda::devices().map_or(0, |devices| devices.len()),
        };
        Self::new(settings, &host::cpus(), u16::try_from(devices).unwrap_or(u16::MAX))
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> u32 {
        u32::try_from(self.shard_cpus.len()).unwrap_or(u32::MAX)
    }

    /// Sizes of one shard's memory.
    pub(crate) fn geometry(&self) -> dataplane_core::memory::Geometry {
        dataplane_core::memory::Geometry {
            small_slots: self.limits.small_slots,
            small_request: SMALL_REQUEST,
            small_reply: SMALL_REPLY,
            bulk_slots: self.limits.bulk_slots,
            bulk_request: self.limits.max_payload,
            bulk_reply: self.limits.max_payload + REPLY_ROOM,
            chunks: CHUNKS,
            chunk_len: CHUNK_LEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;
    use proptest::prelude::*;

    fn plan(settings: &Settings) -> Result<Plan, PlanError> {
        Plan::new(settings, &[0, 1, 2, 3, 4, 5, 6, 7], 0)
    }

    #[test]
    fn defaults_follow_the_cores() {
        let plan = plan(&Settings::default()).expect("defaults stand");
        assert_eq!(plan.shard_cpus, [0, 1]);
        assert_eq!(plan.workers, 6);
        assert_eq!(plan.listen, [SocketAddr::from(([127, 0, 0, 1], 7171))]);
        let one = Plan::new(&Settings::default(), &[5], 0).expect("defaults stand");
        assert_eq!((one.shard_cpus, one.workers), (vec![5], 1));
        // The widest row that an operation takes fits, twice.
        let widest = u64::from(wire::work::COLS_MAX) * 4;
        assert!(u64::from(plan.limits.max_payload) > 2 * widest);
        assert_eq!((plan.limits.batch_size, plan.limits.batch_wait.as_millis()), (32, 10));
    }

    #[test]
    fn each_gpu_has_one_worker_unless_told_otherwise() {
        let cpus = [0, 1, 2, 3, 4, 5, 6, 7];
        let plan = |settings: Settings| Plan::new(&settings, &cpus, 2).expect("stands");
        let auto = plan(Settings::default());
        assert_eq!((auto.workers, auto.devices), (2, 2));
        let more = plan(Settings { workers: Some(5), ..Settings::default() });
        assert_eq!((more.workers, more.devices), (5, 2));
        let cpu = plan(Settings { backend: Some(Backend::Cpu), ..Settings::default() });
        assert_eq!((cpu.workers, cpu.devices), (6, 0));
    }

    #[test]
    fn a_refusal_names_key_value_and_remedy() {
        let zero = Settings { shards: Some(0), ..Settings::default() };
        assert_eq!(
            plan(&zero).expect_err("no shards").to_string(),
            "shards = 0: write a number from 1 to 64"
        );
        let odd = Settings { recv_buffers: Some(500), ..Settings::default() };
        assert!(plan(&odd).expect_err("not a power").to_string().contains("512"));
        let long =
            Settings { batch_wait: Some(Span(Duration::from_secs(60))), ..Settings::default() };
        assert!(plan(&long).expect_err("too long").to_string().starts_with("batch_wait = 60s"));
        let huge = Settings { max_payload: Some(Bytes(u64::MAX)), ..Settings::default() };
        assert!(plan(&huge).expect_err("too large").to_string().starts_with("max_payload = "));
        let name = Settings { listen: vec!["7171".to_owned()], ..Settings::default() };
        assert!(plan(&name).expect_err("no host").to_string().starts_with("listen = 7171"));
    }

    #[test]
    fn plaintext_stays_on_loopback_unless_told() {
        let mut open = Settings { listen: vec!["0.0.0.0:0".to_owned()], ..Settings::default() };
        assert!(plan(&open).expect_err("open to all").to_string().contains("--insecure"));
        open.insecure = Some(true);
        assert!(plan(&open).expect("accepted").security.insecure);
        let both = Settings {
            listen: vec!["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()],
            ..Settings::default()
        };
        assert_eq!(plan(&both).expect("loopback").listen.len(), 2);
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: Settings = toml::from_str(
            "shards = 3\nworkers = 2\nmax_payload = \"1MiB\"\nbatch_wait = \"2ms\"\n\
             poll = \"frugal\"",
        )
        .expect("valid");
        let flags = Settings { shards: Some(1), ..Settings::default() };
        let plan = plan(&flags.over(file)).expect("stands");
        assert_eq!((plan.shards(), plan.workers, plan.poll), (1, 2, Poll::Frugal));
        assert_eq!(plan.limits.max_payload, 1 << 20);
        assert_eq!(plan.limits.batch_wait, Duration::from_millis(2));
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_shows_it() {
        let error = toml::from_str::<Settings>("sharts = 3").expect_err("unknown key").to_string();
        assert!(error.contains("sharts") && error.contains("shards"), "{error}");
        let error = toml::from_str::<Settings>("batch_wait = 10").expect_err("no unit").to_string();
        assert!(error.contains("10ms"), "{error}");
    }

    /// Keys of a configuration, and values of every kind that TOML has.
    fn line() -> impl Strategy<Value = String> {
        let keys = [
            "listen",
            "uds",
            "insecure",
            "http",
            "http_open",
            "http_host",
            "shards",
            "workers",
            "backend",
            "worker_sandbox",
            "poll",
            "max_payload",
            "max_connections",
            "max_in_flight",
            "small_slots",
            "bulk_slots",
            "recv_buffers",
            "recv_buffer",
            "agents",
            "pending_sends",
            "parent",
            "role",
            "name",
            "batch_size",
            "batch_wait",
            "worker_timeout",
            "health_every",
            "peer_timeout",
            "drain_timeout",
            "other",
        ];
        let words =
            ["auto", "cpu", "off", "sector", "latency", "127.0.0.1:0", "[::1]:7", "unix:///x"];
        let value = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            (0_i64..70_000).prop_map(|number| number.to_string()),
            any::<bool>().prop_map(|flag| flag.to_string()),
            (any::<u64>(), "(B|KiB|MiB|GiB|ns|us|ms|s|m|h|)")
                .prop_map(|(n, unit)| { format!("\"{n}{unit}\"") }),
            (0_u64..5_000, "(KiB|MiB|us|ms|s)").prop_map(|(n, unit)| format!("\"{n}{unit}\"")),
            prop::sample::select(words.to_vec()).prop_map(|word| format!("\"{word}\"")),
            prop::sample::select(words.to_vec()).prop_map(|word| format!("[\"{word}\"]")),
            "[ -~]{0,12}",
        ];
        (prop::sample::select(keys.to_vec()), value)
            .prop_map(|(key, value)| format!("{key} = {value}"))
    }

    proptest! {
        /// Any text is a plan within its bounds, or a refusal that says something.
        #[test]
        fn sec_no_configuration_makes_the_plan_panic(
            lines in prop::collection::vec(line(), 0..6),
            cores in 0_usize..5,
        ) {
            let settings = match toml::from_str::<Settings>(&lines.join("\n")) {
                Ok(settings) => settings,
                Err(error) => {
                    prop_assert!(!error.to_string().is_empty());
                    return Ok(());
                }
            };
            let cpus: Vec<usize> = (0..cores).collect();
            match Plan::new(&settings, &cpus, 0) {
                Ok(plan) => {
                    prop_assert!((1..=64).contains(&plan.shards()));
                    prop_assert!((1..=64).contains(&plan.workers));
                    let layout = crate::memory::layout(&plan);
                    // Too much for this machine is said; nothing overflows on the way.
                    prop_assert!(layout.bytes().is_ok() || crate::memory::sum(&plan).is_err());
                }
                Err(refusal) => prop_assert!(refusal.to_string().contains(" = ")),
            }
        }
    }
}
