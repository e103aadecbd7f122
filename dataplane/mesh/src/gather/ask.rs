//! What a GATHER asks, checked: every field is within its limits or the whole is refused.

use super::{AHEAD_MAX, SLACK, TIMEOUT, TIMEOUT_MAX};
use crate::{
    Time, cascade,
    predict::Dial,
    trinary::{self, Bounds},
};
use wire::{
    ErrorCode,
    mesh::{
        AgentClass, CAPABILITIES_MAX, CAPABILITY_LEN_MAX, MESSAGE_MAX, PRIORITY_MAX, SelectBy,
        Strategy, TARGET_IDS_MAX, Verb,
    },
    payload::mesh::{ArchivedGather, Gather, PHASE_COMMIT, PHASE_PREPARE, PHASE_WHOLE},
};

/// The dial where nobody turns it.
pub(crate) const ON_TIME: f64 = 0.99;
/// The largest payload weight believed.
pub(crate) const WEIGHT_MAX: f32 = 16.0;

/// Whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Select {
    All,
    Class(AgentClass),
    Sector(u16),
    Cluster(u16, u16),
    Capability(String),
    Ids(Vec<[u8; 16]>),
}

/// Which part of a cascade is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Whole,
    Prepare,
    Commit,
}

/// A gather, as it will be carried out.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub payload: Vec<u8>,
    pub select: Select,
    pub requires: Vec<String>,
    pub message_id: [u8; 16],
    pub correlation_id: [u8; 16],
    pub causation_id: [u8; 16],
    pub source_agent_id: [u8; 16],
    /// The moment, node time.
    pub at: Option<Time>,
    pub window: Option<Time>,
    pub timeout: Time,
    /// Milliseconds; 0 for never.
    pub ttl_ms: u32,
    pub weight: f32,
    pub dial: Dial,
    /// READY over sent, where the operator said so.
    pub min_rate: Option<f32>,
    pub max_conflict: f32,
    pub max_transit: f32,
    pub verb: Verb,
    pub priority: u8,
    pub strategy: Strategy,
    pub hold: bool,
    pub phase: Phase,
    pub progress: bool,
}

/// Why a GATHER is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub code: ErrorCode,
    pub limit: u64,
    pub actual: u64,
}

impl Fault {
    pub(crate) const fn new(code: ErrorCode) -> Self {
        Self { code, limit: 0, actual: 0 }
    }

    fn over(code: ErrorCode, limit: usize, actual: usize) -> Self {
        Self { code, limit: limit as u64, actual: actual as u64 }
    }
}

const BAD: Fault = Fault::new(ErrorCode::BadRequest);

/// What the node adds to a question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub node: Time,
    pub epoch_ns: u64,
    /// Targets of one gather, at most.
    pub targets: u32,
    /// The moment that a parent named, on this node's clock.
    pub parent_at: Option<Time>,
    /// Message id where the asker gave none.
    pub message_id: [u8; 16],
}

/// A share between 0 and 1; 0 means the default.
fn rate(value: f32) -> Result<Option<f32>, Fault> {
    match value {
        0.0 => Ok(None),
        value if value > 0.0 && value <= 1.0 => Ok(Some(value)),
        _ => Err(BAD),
    }
}

fn duration(value: u64) -> Result<Option<Time>, Fault> {
    match value {
        0 => Ok(None),
        value if value <= TIMEOUT_MAX => Ok(Some(value)),
        value => Err(Fault { code: ErrorCode::BadRequest, limit: TIMEOUT_MAX, actual: value }),
    }
}

/// The wall moment on the node's clock. One that is past is a moment like others: everybody's lead
/// is too long for it, and the result says so.
fn moment(ask: &Gather, context: &Context) -> Result<Option<Time>, Fault> {
    if context.parent_at.is_some() {
        return Ok(context.parent_at);
    }
    if ask.at_epoch_ns == 0 {
        return Ok(None);
    }
    let at = i128::from(context.node) + i128::from(ask.at_epoch_ns) - i128::from(context.epoch_ns);
    let at = u64::try_from(at.max(0)).map_err(|_| BAD)?;
    let ahead = at.saturating_sub(context.node);
    if ahead > AHEAD_MAX {
        return Err(Fault { code: ErrorCode::BadRequest, limit: AHEAD_MAX, actual: ahead });
    }
    Ok(Some(at))
}

fn select(ask: &Gather, targets: u32) -> Result<Select, Fault> {
    let by = SelectBy::from_code(ask.select).ok_or(BAD)?;
    let most = TARGET_IDS_MAX.min(targets as usize);
    if ask.ids.len() > most {
        return Err(Fault::over(ErrorCode::TooManyTargets, most, ask.ids.len()));
    }
    Ok(match by {
        SelectBy::All => Select::All,
        SelectBy::Class => Select::Class(AgentClass::from_code(ask.class).ok_or(BAD)?),
        SelectBy::Sector => Select::Sector(ask.sector),
        SelectBy::Cluster => Select::Cluster(ask.sector, ask.cluster),
        SelectBy::Capability => Select::Capability(word(ask.capability.as_str())?),
        SelectBy::Ids => Select::Ids(ask.ids.clone()),
    })
}

fn word(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.len() > CAPABILITY_LEN_MAX {
        return Err(Fault::over(ErrorCode::BadRequest, CAPABILITY_LEN_MAX, text.len()));
    }
    Ok(text.to_owned())
}

impl Order {
    /// Checks a question.
    pub(crate) fn new(ask: &Gather, context: &Context) -> Result<Self, Fault> {
        if ask.payload.len() > MESSAGE_MAX {
            let len = ask.payload.len();
            return Err(Fault::over(ErrorCode::TooManyTargets, MESSAGE_MAX, len));
        }
        if ask.requires_capabilities.len() > CAPABILITIES_MAX {
            let many = ask.requires_capabilities.len();
            return Err(Fault::over(ErrorCode::BadRequest, CAPABILITIES_MAX, many));
        }
        let requires = ask.requires_capabilities.iter().map(|text| word(text.as_str()));
        let on_time = if ask.on_time == 0.0 { ON_TIME } else { to_share(ask.on_time) };
        if !(0.0..=WEIGHT_MAX).contains(&ask.payload_weight) || ask.priority > PRIORITY_MAX {
            return Err(BAD);
        }
        let phase = match ask.phase {
            PHASE_WHOLE => Phase::Whole,
            PHASE_PREPARE => Phase::Prepare,
            PHASE_COMMIT => Phase::Commit,
            _ => return Err(BAD),
        };
        let at = moment(ask, context)?;
        let window = duration(ask.window_ns)?;
        let own = |id: [u8; 16]| if id == [0; 16] { context.message_id } else { id };
        Ok(Self {
            payload: ask.payload.clone(),
            select: select(ask, context.targets)?,
            requires: requires.collect::<Result<_, _>>()?,
            message_id: own(ask.message_id),
            correlation_id: own(ask.correlation_id),
            causation_id: ask.causation_id,
            source_agent_id: ask.source_agent_id,
            at,
            window,
            timeout: duration(ask.timeout_ns)?.unwrap_or_else(|| timeout(context.node, at, window)),
            ttl_ms: ask.ttl_ms,
            weight: ask.payload_weight,
            dial: Dial::new(on_time).ok_or(BAD)?,
            min_rate: rate(ask.min_rate)?,
            max_conflict: rate(ask.max_conflict)?.unwrap_or(trinary::MAX_CONFLICT),
            max_transit: rate(ask.max_transit)?.unwrap_or(trinary::MAX_TRANSIT),
            verb: Verb::from_code(ask.verb).ok_or(BAD)?,
            priority: ask.priority,
            strategy: Strategy::from_code(ask.strategy).ok_or(BAD)?,
            hold: ask.hold,
            phase,
            progress: ask.progress,
        })
    }

    /// What the decision takes, for a phase that needs `rate` where the operator said nothing.
    pub(crate) fn bounds(&self, rate: f32) -> Bounds {
        Bounds {
            min_ready: self.min_rate.unwrap_or(rate),
            max_conflict: self.max_conflict,
            max_transit: self.max_transit,
        }
    }

    /// The window that the strategy gives where the operator gave none: with the parallel strategy
    /// (CASCADE-05) another one than the general (SCATTER-01).
    pub(crate) fn window_least(&self) -> Time {
        match (self.window, self.strategy) {
            (Some(window), _) => window,
            (None, Strategy::Parallel) => cascade::PARALLEL_WINDOW,
            (None, Strategy::Wave | Strategy::Priority) => super::WINDOW,
        }
    }
}

/// The share that a float stands for: 0.99_f32 is meant as 0.99, not as 0.990000009.
fn to_share(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
}

/// The timeout of a call that names none: the general one, or longer where its moment or window
/// reaches beyond.
fn timeout(now: Time, at: Option<Time>, window: Option<Time>) -> Time {
    let ahead = at.map_or(0, |at| at.saturating_sub(now));
    if at.is_none() && window.is_none() {
        return TIMEOUT;
    }
    let window = window.unwrap_or(super::WINDOW);
    TIMEOUT.max(ahead + window + SLACK).min(2 * TIMEOUT_MAX + SLACK)
}

/// A GATHER out of a frame that was checked as an archive.
pub(crate) fn decode(ask: &ArchivedGather) -> Gather {
    Gather {
        payload: ask.payload.to_vec(),
        ids: ask.ids.to_vec(),
        requires_capabilities: ask.requires_capabilities.iter().map(|it| (&**it).into()).collect(),
        capability: (&*ask.capability).into(),
        signatures: crate::node::signatures(&ask.signatures),
        message_id: ask.message_id,
        correlation_id: ask.correlation_id,
        causation_id: ask.causation_id,
        source_agent_id: ask.source_agent_id,
        hlc: ask.hlc.to_native(),
        at_epoch_ns: ask.at_epoch_ns.to_native(),
        at_node_ns: ask.at_node_ns.to_native(),
        window_ns: ask.window_ns.to_native(),
        timeout_ns: ask.timeout_ns.to_native(),
        ttl_ms: ask.ttl_ms.to_native(),
        payload_weight: ask.payload_weight.to_native(),
        on_time: ask.on_time.to_native(),
        min_rate: ask.min_rate.to_native(),
        max_conflict: ask.max_conflict.to_native(),
        max_transit: ask.max_transit.to_native(),
        sector: ask.sector.to_native(),
        cluster: ask.cluster.to_native(),
        class: ask.class,
        select: ask.select,
        verb: ask.verb,
        priority: ask.priority,
        strategy: ask.strategy,
        hold: ask.hold,
        phase: ask.phase,
        progress: ask.progress,
        ..Gather::default()
    }
}
