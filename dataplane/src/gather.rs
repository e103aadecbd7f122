//! `butterfly gather`: one message to many agents, each at its own moment, and what came of it.

mod at;
mod show;
mod targets;

pub(crate) use at::At;
pub(crate) use show::as_json;

use crate::{cli::GatherArgs, failure::Failure, progress, reach::Reach, say, trust};
use client::Report;
use std::{
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::{IsTerminal as _, Read},
    path::Path,
    time::{Duration, SystemTime},
};
use targets::Targets;
use wire::{
    mesh::{Decision, MESSAGE_MAX, message_id},
    payload::mesh::Gather,
};

/// Ends the process where the gather ran and its decision is another one than PROCEED.
pub(crate) const EXIT_OTHER: u8 = 3;

/// Runs the command.
pub(crate) fn run(args: &GatherArgs) -> Result<Decision, Failure> {
    let reach = Reach::new(&args.addr, &args.security)?;
    let targets = Targets::read(&args.targets)?;
    let payload = match &args.payload {
        None => Vec::new(),
        Some(path) => payload(path)?,
    };
    let mut client = reach.connect().map_err(Failure::run)?;
    let mut ask = question(args, payload, epoch_ns());
    targets.choose(&mut client, &mut ask)?;
    trust::sign(&mut ask, &args.sign)?;
    let bar = progress::answers(args.json);
    let report = client.gather(&ask, |report| {
        bar.set_length(report.counts.scheduled.into());
        bar.set_position(answered(report));
    });
    bar.finish_and_clear();
    let report = report.map_err(Failure::run)?;
    if args.json {
        say::out(format!("{:#}", as_json(&report)));
    } else {
        say::out(show::as_text(&report, std::io::stdout().is_terminal()));
    }
    Ok(report.decision)
}

fn answered(report: &Report) -> u64 {
    u64::from(report.counts.ready) + u64::from(report.counts.conflicts)
}

/// All of the GATHER but whom it is for.
fn question(args: &GatherArgs, payload: Vec<u8>, now: u64) -> Gather {
    let id = message_id(now, random());
    Gather {
        payload,
        message_id: id,
        correlation_id: id,
        // The stamp of this moment: this program has made none before (W60).
        hlc: now & !0xFFFF,
        at_epoch_ns: args.at.map_or(0, |at| at.0),
        window_ns: args.window.map_or(0, |window| nanoseconds(window.0)),
        timeout_ns: args.timeout.map_or(0, |timeout| nanoseconds(timeout.0)),
        ttl_ms: args.ttl.map_or(0, |ttl| milliseconds(ttl.0)),
        payload_weight: args.weight,
        on_time: args.on_time,
        min_rate: args.min_rate.unwrap_or(0.0),
        verb: args.verb.code(),
        priority: args.priority,
        strategy: args.strategy.code(),
        hold: !args.plain,
        progress: std::io::stderr().is_terminal() && !args.json,
        ..Gather::default()
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded up: 0 would mean for ever.
fn milliseconds(span: Duration) -> u32 {
    u32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Enough to tell ids of one millisecond apart; nothing secret.
pub(crate) fn random() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn epoch_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanoseconds)
}

/// A message's bytes, from a file or standard input.
fn payload(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let cannot = |error| Failure::setup(format!("--payload {name}: {error}"));
    let mut bytes = Vec::new();
    let most = MESSAGE_MAX as u64;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    };
    read.map_err(cannot)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(Failure::setup(format!(
            "--payload {name}: longer than the {MESSAGE_MAX} bytes that a message carries; send a \
             reference to it instead"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Cli, Command},
        folder::Folder,
    };
    use clap::Parser as _;

    fn args(line: &str) -> GatherArgs {
        let words = format!("butterfly gather {line}");
        match Cli::try_parse_from(words.split_whitespace()).expect("parses").command {
            Command::Gather(args) => *args,
            _ => panic!("a gather"),
        }
    }

    #[test]
    fn meshmsg_01_to_13_flags_become_fields() {
        let line = "--at 1700000000.5 --window 500ms --timeout 5s --ttl 1500us --on-time 0.999 \
                    --priority 3 --plain";
        let ask = question(&args(line), vec![7], 1_600_000_000_000_000_000);
        assert_eq!(ask.at_epoch_ns, 1_700_000_000_500_000_000);
        assert_eq!((ask.window_ns, ask.timeout_ns, ask.ttl_ms), (500_000_000, 5_000_000_000, 2));
        assert_eq!((ask.on_time, ask.min_rate, ask.priority, ask.hold), (0.999, 0.0, 3, false));
        assert_eq!((ask.payload.as_slice(), ask.message_id), (&[7][..], ask.correlation_id));
        let again = question(&args(line), vec![7], 1_600_000_000_000_000_000);
        assert_ne!(ask.message_id, again.message_id, "each has its own id");
        assert_eq!(ask.message_id[..6], again.message_id[..6], "of the same moment");
        assert_eq!(ask.hlc & 0xFFFF, 0);
        assert!(question(&args(""), Vec::new(), 1).hold);
    }

    #[test]
    fn a_payload_is_read_and_bounded() {
        let folder = Folder::new("gather-payload");
        let path = folder.0.join("body");
        std::fs::write(&path, vec![1; MESSAGE_MAX]).expect("written");
        assert_eq!(payload(&path).expect("fits").len(), MESSAGE_MAX);
        std::fs::write(&path, vec![1; MESSAGE_MAX + 1]).expect("written");
        assert!(matches!(payload(&path), Err(Failure::Setup(text)) if text.contains("16384")));
        assert!(payload(&folder.0.join("absent")).is_err());
    }
}
