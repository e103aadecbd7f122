//! What the mesh of a node is going to be.

use super::{PlanError, bounded, refuse};
use crate::{
    host,
    settings::{Role, Settings},
    trust::TrustPlan,
};
use std::path::PathBuf;

/// The mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MeshPlan {
    /// Room of the registry.
    pub(crate) agents: u32,
    /// Room of each shard's send schedule.
    pub(crate) pending_sends: u32,
    /// The node above.
    pub(crate) parent: Option<client::Addr>,
    /// The name others see.
    pub(crate) name: String,
    /// Where the registry is kept.
    pub(crate) state: Option<PathBuf>,
    /// Whose orders count.
    pub(crate) trust: TrustPlan,
}

impl MeshPlan {
    pub(super) fn from_settings(settings: &Settings, open: bool) -> Result<Self, PlanError> {
        let parent = match &settings.parent {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|error| refuse("parent", text, format!("{error}")))?)
            }
        };
        match (settings.role, &settings.parent) {
            (Some(Role::Sector), None) => {
                let remedy = "a sector needs a node above it: name it with --parent";
                return Err(refuse("role", "sector", remedy));
            }
            (Some(Role::Orchestrator), Some(parent)) => {
                let remedy = "an orchestrator has nothing above it: leave --parent or --role out";
                return Err(refuse("parent", parent, remedy));
            }
            _ => {}
        }
        let name = settings.name.clone().unwrap_or_else(host::default_name);
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(refuse("name", name, "write 1 to 64 bytes of printable text"));
        }
        Ok(Self {
            agents: bounded("agents", settings.agents, 32_768, 1..=2_000_000)?,
            pending_sends: bounded(
                "pending_sends",
                settings.pending_sends,
                65_536,
                1..=10_000_000,
            )?,
            parent,
            name,
            state: settings.state.clone(),
            trust: TrustPlan::new(settings, open)
                .map_err(|(key, remedy)| refuse(key, "true", remedy))?,
        })
    }
}
