//! `butterfly worker`: the process that computes, and what it shows of its sandbox.

use crate::{
    cli::WorkerArgs,
    say,
    settings::{Backend, Poll},
};
use std::process::ExitCode;
use worker::{
    Args, Choice,
    sandbox::trial::{self, Attempt, Verdict},
};

/// Exit code of an attempt that was refused with an error; one that ends the process shows in its
/// signal.
const EXIT_REFUSED: u8 = 10;

/// Serves a node, or tries the sandbox.
pub(crate) fn run(args: &WorkerArgs) -> ExitCode {
    if let Some(attempt) = args.attempt {
        return attempted(args, attempt);
    }
    let backend = match args.backend {
        Backend::Auto => Choice::Auto,
        Backend::Cpu => Choice::Cpu,
        Backend::Cuda => Choice::Cuda,
    };
    let poll = match args.poll {
        Poll::Latency => worker::Poll::Latency,
        Poll::Balanced => worker::Poll::Balanced,
        Poll::Frugal => worker::Poll::Frugal,
    };
    worker::run(&Args { backend, poll, device: args.device, sandbox: args.sandbox.mode() })
}

/// Says what holds, then how the attempt went.
fn attempted(args: &WorkerArgs, attempt: Attempt) -> ExitCode {
    let say_held = |held: &trial::Held| say::out(format!("{held}: {}", held.names()));
    let verdict = trial::run(args.sandbox.mode(), &args.only, attempt, &say_held);
    say::out(format!("{}: {verdict}", attempt.name()));
    match verdict {
        Verdict::Done => ExitCode::SUCCESS,
        Verdict::Refused(_) => ExitCode::from(EXIT_REFUSED),
        Verdict::Open(_) => ExitCode::FAILURE,
    }
}
