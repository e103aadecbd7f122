//! Which files and ports are left to a worker (Landlock): none, or those of a driver.

use super::Kind;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, RestrictSelfAttr, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest set of rights that is asked for; of an older kernel's, all are taken.
const NEWEST: ABI = ABI::V7;

/// Read by a CUDA driver at its own times.
const DRIVER_READS: [&str; 9] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/local",
    "/usr/share",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",
    "/sys",
];

/// Written by a CUDA driver. Devices are named one by one, so that no disk is among them.
const DRIVER_WRITES: [&str; 8] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
    "/dev/nvidia-caps",
    "/dev/shm",
    "/dev/null",
    "/dev/zero",
];
/// Devices that are numbered, `/dev/nvidia0` and on.
const DEVICES_MAX: u16 = 64;

/// Leaves this thread, and on kernels that can do so every thread, nothing but what `kind` needs.
pub(super) fn restrict(kind: Kind) -> Result<(), String> {
    let status = ruleset(kind).map_err(|error| error.to_string())?;
    match status {
        RulesetStatus::NotEnforced => Err("Landlock is not in this kernel".to_owned()),
        // An older kernel knows fewer rights; those it knows are taken.
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn ruleset(kind: Kind) -> Result<RulesetStatus, landlock::RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let ruleset = match kind {
        Kind::Cpu => ruleset,
        Kind::Cuda => {
            let numbered = (0..DEVICES_MAX).map(|number| format!("/dev/nvidia{number}"));
            let writes = DRIVER_WRITES.iter().map(ToString::to_string).chain(numbered);
            ruleset
                .all_threads(true)?
                .add_rules(path_beneath_rules(DRIVER_READS, AccessFs::from_read(NEWEST)))?
                .add_rules(path_beneath_rules(writes, AccessFs::from_all(NEWEST)))?
        }
    };
    Ok(ruleset.restrict_self()?.ruleset)
}
