//! `butterfly serve`: flags and file to one plan, then the node.

use crate::{check, cli::ServeArgs, control, failure::Failure, plan::Plan, settings::Settings};

/// Runs the command until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let plan = plan(args)?;
    check::required(&plan).map_err(Failure::Setup)?;
    control::run(&plan)
}

/// Flags and file as one checked plan.
///
/// # Errors
/// The first thing that is wrong with them.
pub(crate) fn plan(args: &ServeArgs) -> Result<Plan, Failure> {
    let file = match &args.config {
        None => Settings::default(),
        Some(path) => Settings::from_file(path).map_err(Failure::Setup)?,
    };
    Plan::for_host(&args.settings.clone().over(file)).map_err(Failure::setup)
}
