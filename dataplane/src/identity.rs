//! What a node allows whom, as an operator writes it: `[identity.ROLE]` tables for the roles,
//! `[identity.local]` for everybody who connects without proving who it is, and `[[identity.peer]]`
//! for single names.

use crate::{
    plan::{PlanError, refuse},
    settings::Settings,
    units::{Bytes, Span},
};
use dataplane_core::{
    Policy,
    identity::{IDENTITIES_MAX, NAME_MAX},
    policy::{Allowance, Terms},
};
use serde::Deserialize;
use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};
use wire::{Operation, Role};

/// Names that a node can know at a time unless told otherwise.
const IDENTITIES: u32 = 1_024;
/// Longest idleness that can be written down; beyond, it is for ever.
const IDLE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The bounds of one role or name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bounds {
    /// Whose; only in `[[identity.peer]]`.
    name: Option<String>,
    max_connections: Option<u32>,
    requests_per_second: Option<u32>,
    requests_in_flight: Option<u32>,
    bytes_in_flight: Option<Bytes>,
    operations: Option<Vec<String>>,
    idle_timeout: Option<Span>,
}

/// The whole section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Section {
    local: Bounds,
    client: Bounds,
    worker_host: Bounds,
    agent: Bounds,
    node: Bounds,
    operator: Bounds,
    peer: Vec<Bounds>,
}

/// Whom a node knows and what it allows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdentityPlan {
    /// What it allows whom.
    pub(crate) policy: Policy,
    /// Places in the table of identities, the local one among them.
    pub(crate) places: u32,
}

impl IdentityPlan {
    /// Checks the section as a whole. `max_payload` is the longest request that the node takes.
    ///
    /// # Errors
    /// The first value that cannot stand, with the way out.
    pub(crate) fn new(settings: &Settings, max_payload: u32) -> Result<Self, PlanError> {
        let section = &settings.identity;
        let read = |place: &str, bounds: &Bounds| {
            let terms = bounds.terms(place, max_payload)?;
            match &bounds.name {
                None => Ok(terms),
                Some(name) => {
                    let remedy = "names stand in [[identity.peer]]; a role has none";
                    Err(refuse(format!("{place}.name"), name, remedy))
                }
            }
        };
        let mut policy = Policy::default();
        policy.local = read("identity.local", &section.local)?.over(policy.local);
        let roles = [
            &section.client,
            &section.worker_host,
            &section.agent,
            &section.node,
            &section.operator,
        ];
        for (role, bounds) in Role::ALL.iter().zip(roles) {
            let terms = read(&format!("identity.{role}"), bounds)?;
            policy.roles[*role as usize] = terms.over(Allowance::of(*role));
        }
        let flags = Bounds {
            requests_per_second: settings.client_rate,
            idle_timeout: settings.idle_timeout,
            ..Bounds::default()
        };
        let client = &mut policy.roles[Role::Client as usize];
        *client = flags.terms("client", max_payload)?.over(*client);
        policy.peers = peers(&section.peer, max_payload)?;
        let most = IDENTITIES_MAX - 1;
        let names = settings.max_identities.unwrap_or(IDENTITIES);
        let names = within("max_identities", names, 1..=most)?;
        if policy.peers.len() as u32 > names {
            let remedy = format!("{} are named in [[identity.peer]] alone", policy.peers.len());
            return Err(refuse("max_identities", names, remedy));
        }
        Ok(Self { policy, places: names + 1 })
    }
}

/// The terms of each name.
fn peers(all: &[Bounds], max_payload: u32) -> Result<BTreeMap<String, Terms>, PlanError> {
    let mut peers = BTreeMap::new();
    for bounds in all {
        let name = bounds.name.clone().unwrap_or_default();
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            let remedy = format!("write a name of 1 to {NAME_MAX} bytes of printable text");
            return Err(refuse("identity.peer.name", name, remedy));
        }
        let terms = bounds.terms(&format!("identity.peer {name:?}"), max_payload)?;
        if peers.insert(name.clone(), terms).is_some() {
            return Err(refuse("identity.peer.name", name, "it stands there twice; join the two"));
        }
    }
    Ok(peers)
}

/// A number within its bounds.
fn within(
    key: impl Into<String>,
    value: u32,
    bounds: RangeInclusive<u32>,
) -> Result<u32, PlanError> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(refuse(key, value, format!("write a number from {} to {}", bounds.start(), bounds.end())))
}

impl Bounds {
    fn terms(&self, place: &str, max_payload: u32) -> Result<Terms, PlanError> {
        let number = |key: &str, value: Option<u32>, most: u32| {
            value.map(|value| within(format!("{place}.{key}"), value, 1..=most)).transpose()
        };
        Ok(Terms {
            connections: number("max_connections", self.max_connections, 1_000_000)?,
            requests_per_second: number(
                "requests_per_second",
                self.requests_per_second,
                10_000_000,
            )?,
            requests: number("requests_in_flight", self.requests_in_flight, 1_000_000)?,
            bytes: self.bytes(place, max_payload)?,
            operations: self.operations(place)?,
            idle: self.idle(place)?,
        })
    }

    fn bytes(&self, place: &str, max_payload: u32) -> Result<Option<u64>, PlanError> {
        match self.bytes_in_flight {
            Some(bytes) if bytes.0 < u64::from(max_payload) => {
                let least = Bytes(max_payload.into());
                let remedy = format!(
                    "write {least} (max_payload) or more, or no request of that \
                                      length could ever pass"
                );
                Err(refuse(format!("{place}.bytes_in_flight"), bytes, remedy))
            }
            bytes => Ok(bytes.map(|bytes| bytes.0)),
        }
    }

    fn operations(&self, place: &str) -> Result<Option<u32>, PlanError> {
        let Some(names) = &self.operations else { return Ok(None) };
        let bits = names.iter().try_fold(0, |bits, name| {
            let known = Operation::from_name(name);
            known.map(|operation| bits | 1 << operation.code()).ok_or_else(|| {
                let all: Vec<&str> = Operation::ALL.iter().map(|it| it.name()).collect();
                let remedy = format!("the operations are {}", all.join(", "));
                refuse(format!("{place}.operations"), name, remedy)
            })
        })?;
        Ok(Some(bits))
    }

    fn idle(&self, place: &str) -> Result<Option<u64>, PlanError> {
        let Some(Span(idle)) = self.idle_timeout else { return Ok(None) };
        let stands = idle.is_zero() || (Duration::from_secs(1)..=IDLE_MAX).contains(&idle);
        if !stands {
            let remedy = "write 0s for never, or a time from 1s to 30 days";
            return Err(refuse(format!("{place}.idle_timeout"), format!("{idle:?}"), remedy));
        }
        Ok(Some(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_core::Identities;
    use wire::Roles;

    fn plan(text: &str) -> Result<IdentityPlan, String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        IdentityPlan::new(&settings, 1 << 20).map_err(|error| error.to_string())
    }

    #[test]
    fn roles_names_and_who_is_local_are_told_apart() {
        let plan = plan(
            "client_rate = 500\nmax_identities = 9\n\
             [identity.local]\nmax_connections = 7\n\
             [identity.client]\nbytes_in_flight = \"4MiB\"\nidle_timeout = \"0s\"\n\
             [identity.worker-host]\nmax_connections = 2\n\
             [[identity.peer]]\nname = \"ann\"\nrequests_per_second = 5\n\
             operations = [\"echo\", \"lm-head\"]\n",
        )
        .expect("stands");
        assert_eq!((plan.places, plan.policy.local.connections), (10, 7));
        let bob = plan.policy.allowance("bob", Roles::of(Role::Client));
        assert_eq!((bob.requests_per_second, bob.bytes, bob.idle), (500, 4 << 20, 0));
        let ann = plan.policy.allowance("ann", Roles::of(Role::Client));
        assert_eq!((ann.requests_per_second, ann.bytes), (5, 4 << 20));
        assert_eq!(ann.operations, 1 << Operation::Echo.code() | 1 << Operation::LmHead.code());
        assert_eq!(plan.policy.allowance("x", Roles::of(Role::WorkerHost)).connections, 2);
        assert_eq!(plan.policy.local.requests_per_second, u32::MAX, "flags are about clients");
    }

    #[test]
    fn bounds_hold_over_all_shards() {
        let plan = plan("[identity.client]\nmax_connections = 5\nrequests_in_flight = 7");
        let IdentityPlan { policy, places } = plan.expect("stands");
        let table = Identities::new(policy, places);
        let ann = table.identify("ann", Roles::of(Role::Client)).expect("a place");
        let shard = || {
            for _ in 0..20_000 {
                if table.connect(ann).is_ok() {
                    assert!(table.load(ann).0 <= 5);
                    table.disconnect(ann);
                }
                if table.take(ann, 3) == Ok(true) {
                    table.give(ann.place(), 3);
                }
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(shard))));
        assert_eq!(table.load(ann), (0, 0, 0), "all was given back");
    }

    #[test]
    fn nothing_said_is_no_limit() {
        let plan = plan("").expect("stands");
        assert_eq!(plan.policy, Policy::default());
    }

    #[test]
    fn what_cannot_stand_is_named_with_the_way_out() {
        for (text, expected) in [
            ("[identity.client]\nmax_conections = 1", "max_conections"),
            ("[identity.clients]\nmax_connections = 1", "clients"),
            ("[identity.client]\nname = \"ann\"", "identity.client.name = ann: names stand in"),
            ("[identity.client]\nmax_connections = 0", "identity.client.max_connections = 0"),
            ("client_rate = 0", "client.requests_per_second = 0: write a number from 1"),
            ("[identity.agent]\nbytes_in_flight = 5", "identity.agent.bytes_in_flight = 5 B: "),
            ("[identity.local]\noperations = [\"eco\"]", "the operations are generate, echo"),
            ("[identity.node]\nidle_timeout = \"2ms\"", "identity.node.idle_timeout = 2ms: "),
            ("[[identity.peer]]\nmax_connections = 1", "identity.peer.name = : write a name"),
            (
                "[[identity.peer]]\nname = \"ann\"\n[[identity.peer]]\nname = \"ann\"",
                "identity.peer.name = ann: it stands there twice",
            ),
            (
                "[[identity.peer]]\nname = \"ann\"\nrequests_in_flight = 0",
                "identity.peer \"ann\".requests_in_flight = 0",
            ),
            ("max_identities = 0", "max_identities = 0: write a number from 1 to 65535"),
        ] {
            let error = plan(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
