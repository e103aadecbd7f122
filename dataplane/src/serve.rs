//! `butterfly serve`: flags and file to one plan, then the node.

use crate::{check, cli::ServeArgs, control, failure::Failure, plan::Plan, settings::Settings};

/// Runs the command until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let file = match &args.config {
        None => Settings::default(),
        Some(path) => Settings::from_file(path).map_err(Failure::Setup)?,
    };
    let plan = Plan::for_host(&args.settings.clone().over(file)).map_err(Failure::setup)?;
    check::required(&plan).map_err(Failure::Setup)?;
    control::run(&plan)
}
