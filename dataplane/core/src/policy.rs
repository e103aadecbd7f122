//! What peers may do: which messages each role may send, and what a role or a name is allowed. Pure
//! tables; [`crate::identity`] keeps the accounts and `gate` asks both.

use crate::{driver::Time, limits::MS};
use std::collections::BTreeMap;
use wire::{Kind, Role, Roles};

const SECOND: Time = 1_000 * MS;

/// Who may send a message of this type (W79). Types that no node serves are everybody's: whoever
/// sends one is told that it is not served.
#[must_use]
pub const fn senders(kind: Kind) -> Roles {
    const CLIENT: Roles = Roles::of(Role::Client);
    const WORKER_HOST: Roles = Roles::of(Role::WorkerHost);
    const AGENT: Roles = Roles::of(Role::Agent);
    const NODE: Roles = Roles::of(Role::Node);
    const OPERATOR: Roles = Roles::of(Role::Operator);
    match kind {
        Kind::QueryRequest => CLIENT,
        Kind::WorkerRegistration => WORKER_HOST,
        Kind::MetricsUpdate | Kind::ErrorReport | Kind::TraceQuery => CLIENT.with(Role::Operator),
        Kind::AgentRegistration | Kind::Ack => AGENT,
        // A node below beats like an agent.
        Kind::AgentHeartbeat => AGENT.with(Role::Node),
        Kind::NodeJoin | Kind::MeshSummary | Kind::GatherReport => NODE,
        Kind::Gather | Kind::Circuit | Kind::Freeze | Kind::MeshQuery => OPERATOR,
        Kind::Heartbeat
        | Kind::QueryResponse
        | Kind::GossipStateUpdate
        | Kind::DebateProposal
        | Kind::DebateCritique
        | Kind::ConsensusVote
        | Kind::VerificationRequest
        | Kind::VerificationResponse
        | Kind::TraceReport
        | Kind::AgentRegistered
        | Kind::Coordinate
        | Kind::MeshView => Roles::ALL,
    }
}

/// Whether a busy node does without such messages from who sends far more than usual (SEC-09).
/// Registrations, beats, answers and orders hold the mesh together: they go through.
#[must_use]
pub const fn is_low(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::QueryRequest
            | Kind::Heartbeat
            | Kind::MetricsUpdate
            | Kind::TraceQuery
            | Kind::MeshQuery
    )
}

/// What one identity is allowed, over all its connections to all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Connections at a time.
    pub connections: u32,
    /// Frames in a second, on the average; a quarter of a second's worth may come at once.
    pub requests_per_second: u32,
    /// Requests under way: from their header until their answer has left its slot.
    pub requests: u32,
    /// Payload bytes, as carried, of the requests under way.
    pub bytes: u64,
    /// Operations that may be asked for (bit = operation code).
    pub operations: u32,
    /// A connection on which nothing has moved for so long is closed; 0 for never.
    pub idle: Time,
}

impl Allowance {
    /// Everything, for ever.
    pub const UNLIMITED: Self = Self {
        connections: u32::MAX,
        requests_per_second: u32::MAX,
        requests: u32::MAX,
        bytes: u64::MAX,
        operations: u32::MAX,
        idle: 0,
    };

    /// Unlimited but for idleness, which is each role's own: agents and nodes beat every five
    /// seconds, so a minute of silence is twelve beats missed.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        let idle = match role {
            Role::Client | Role::WorkerHost => 300 * SECOND,
            Role::Agent | Role::Node => 60 * SECOND,
            Role::Operator => 3_600 * SECOND,
        };
        Self { idle, ..Self::UNLIMITED }
    }

    /// What somebody is allowed who is both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let idle = if self.idle == 0 || other.idle == 0 { 0 } else { self.idle.max(other.idle) };
        Self {
            connections: self.connections.max(other.connections),
            requests_per_second: self.requests_per_second.max(other.requests_per_second),
            requests: self.requests.max(other.requests),
            bytes: self.bytes.max(other.bytes),
            operations: self.operations | other.operations,
            idle,
        }
    }
}

/// What an operator has said about a role or a name; the rest is as it would be anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of an allowance")]
pub struct Terms {
    pub connections: Option<u32>,
    pub requests_per_second: Option<u32>,
    pub requests: Option<u32>,
    pub bytes: Option<u64>,
    pub operations: Option<u32>,
    pub idle: Option<Time>,
}

impl Terms {
    /// These terms, and `base` where they say nothing.
    #[must_use]
    pub fn over(self, base: Allowance) -> Allowance {
        Allowance {
            connections: self.connections.unwrap_or(base.connections),
            requests_per_second: self.requests_per_second.unwrap_or(base.requests_per_second),
            requests: self.requests.unwrap_or(base.requests),
            bytes: self.bytes.unwrap_or(base.bytes),
            operations: self.operations.unwrap_or(base.operations),
            idle: self.idle.unwrap_or(base.idle),
        }
    }
}

/// What a node allows whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Everybody who connects without proving who it is.
    pub local: Allowance,
    /// By role, in the order of the codes.
    pub roles: [Allowance; Role::ALL.len()],
    /// By name.
    pub peers: BTreeMap<String, Terms>,
}

impl Default for Policy {
    fn default() -> Self {
        let mut roles = [Allowance::UNLIMITED; Role::ALL.len()];
        for role in Role::ALL {
            roles[*role as usize] = Allowance::of(*role);
        }
        Self { local: Allowance::UNLIMITED, roles, peers: BTreeMap::new() }
    }
}

impl Policy {
    /// What `name` is allowed in these roles: the most that any of them is, then what was said
    /// about the name itself. Whoever has no role may do nothing, on one connection.
    #[must_use]
    pub fn allowance(&self, name: &str, roles: Roles) -> Allowance {
        let each = roles.iter().map(|role| self.roles[role as usize]);
        let nobody =
            Allowance { connections: 1, operations: 0, idle: 60 * SECOND, ..Allowance::UNLIMITED };
        let base = each.reduce(Allowance::or).unwrap_or(nobody);
        self.peers.get(name).copied().unwrap_or_default().over(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = include_str!("../../../wire/FORMAT.md");

    /// The table of W79 as it stands in the format: each role, and all that it may send besides
    /// HEARTBEAT.
    fn documented() -> Vec<(Role, Vec<Kind>)> {
        let table = FORMAT.split("### Roles of peers").nth(1).expect("the table");
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
        rows.map_while(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let role = Role::from_name(cells.next()?)?;
            let kinds = cells.next()?.split(", ").map(|name| Kind::from_name(name).expect(name));
            Some((role, kinds.collect()))
        })
        .collect()
    }

    /// Types that a node never takes in, whoever sends them.
    const UNSERVED: [Kind; 11] = [
        Kind::QueryResponse,
        Kind::GossipStateUpdate,
        Kind::DebateProposal,
        Kind::DebateCritique,
        Kind::ConsensusVote,
        Kind::VerificationRequest,
        Kind::VerificationResponse,
        Kind::TraceReport,
        Kind::AgentRegistered,
        Kind::Coordinate,
        Kind::MeshView,
    ];

    #[test]
    fn each_role_may_send_its_own_messages_and_no_others() {
        let documented = documented();
        let roles: Vec<Role> = documented.iter().map(|(role, _)| *role).collect();
        assert_eq!(roles, Role::ALL);
        for (role, may) in documented {
            for kind in Kind::ALL {
                let everybodys = *kind == Kind::Heartbeat || UNSERVED.contains(kind);
                let expected = everybodys || may.contains(kind);
                assert_eq!(senders(*kind).has(role), expected, "{role} sends {kind}");
            }
        }
        assert!(Kind::ALL.iter().all(|kind| !senders(*kind).meets(Roles::NONE)));
    }

    #[test]
    fn several_roles_are_allowed_what_any_is_and_a_name_what_was_said_of_it() {
        let mut policy = Policy::default();
        policy.roles[Role::Client as usize].connections = 3;
        policy.roles[Role::Agent as usize].connections = 7;
        let terms = Terms { bytes: Some(5), ..Terms::default() };
        policy.peers.insert("ann".to_owned(), terms);
        let both = Roles::of(Role::Client).with(Role::Agent);
        let ann = policy.allowance("ann", both);
        assert_eq!((ann.connections, ann.bytes, ann.idle), (7, 5, 300 * SECOND));
        let bob = policy.allowance("bob", Roles::of(Role::Client));
        assert_eq!((bob.connections, bob.bytes), (3, u64::MAX));
        assert_eq!(policy.allowance("eve", Roles::NONE).operations, 0);
        let never = Allowance { idle: 0, ..Allowance::UNLIMITED };
        assert_eq!(never.or(Allowance::of(Role::Agent)).idle, 0, "never is the longest of all");
    }
}
