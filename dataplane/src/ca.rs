//! `butterfly ca`: an authority of one's own, from the command line.

use crate::{
    cli::{CaAction, CaArgs, InitArgs, IssueArgs, RotateArgs, ShowArgs},
    failure::Failure,
    say, table,
};
use serde_json::json;
use std::{
    path::Path,
    time::{Duration, SystemTime},
};
use tls::{
    Error, Identity,
    ca::{self, Authority, Leaf, Request},
};

const DAY: u64 = 24 * 60 * 60;

/// Runs the command.
pub(crate) fn run(args: &CaArgs) -> Result<(), Failure> {
    let now = SystemTime::now();
    match &args.action {
        CaAction::Init(args) => init(args, now),
        CaAction::Issue(args) => issue(args, now),
        CaAction::Rotate(args) => rotate(args, now),
        CaAction::Show(args) => show(args, now),
    }
    .map_err(|error| match error {
        Error::Making(_) => Failure::run(error),
        _ => Failure::setup(error),
    })
}

fn init(args: &InitArgs, now: SystemTime) -> Result<(), Error> {
    Authority::create(&args.dir, &args.name, now, args.force)?;
    say::out(format!("made {}", args.dir.join("ca.pem").display()));
    Ok(())
}

fn issue(args: &IssueArgs, now: SystemTime) -> Result<(), Error> {
    let roles = args.role.iter().map(|name| tls::role(name)).collect::<Result<_, _>>()?;
    let request = Request {
        identity: Identity::new(&args.name, roles)?,
        hosts: args.host.clone(),
        life: args.life.map_or(ca::LIFE, |span| span.0),
    };
    let files = Authority::open(&args.dir)?.issue(&request, now, args.force)?;
    say::out(format!("issued {} and {}", files.cert.display(), files.key.display()));
    Ok(())
}

fn rotate(args: &RotateArgs, now: SystemTime) -> Result<(), Error> {
    let renewed = Authority::open(&args.dir)?.rotate(now, args.all)?;
    for leaf in &renewed {
        say::out(format!("renewed {}", leaf.identity.name()));
    }
    say::out(format!("{} renewed", say::count(renewed.len() as u64, "certificate")));
    Ok(())
}

fn show(args: &ShowArgs, now: SystemTime) -> Result<(), Error> {
    let until = ca::authority_until(&args.dir)?;
    let issued = ca::issued(&args.dir)?;
    if args.json {
        say::out(format!("{:#}", as_json(until, &issued, now)));
    } else {
        say::out(as_text(&args.dir, until, &issued, now));
    }
    Ok(())
}

/// What is to be done about a certificate.
fn state(leaf: &Leaf, now: SystemTime) -> &'static str {
    match () {
        () if now > leaf.until => "expired",
        () if leaf.is_past_half(now) => "renew",
        () => "fresh",
    }
}

fn roles(leaf: &Leaf) -> Vec<&'static str> {
    leaf.identity.roles().iter().map(wire::Role::name).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn as_json(until: SystemTime, issued: &[Leaf], now: SystemTime) -> serde_json::Value {
    let certificates: Vec<_> = issued
        .iter()
        .map(|leaf| {
            json!({
                "name": leaf.identity.name(),
                "roles": roles(leaf),
                "hosts": leaf.hosts,
                "from": seconds(leaf.from),
                "until": seconds(leaf.until),
                "state": state(leaf, now),
            })
        })
        .collect();
    json!({ "authority": { "until": seconds(until) }, "certificates": certificates })
}

/// `in 12 days`, `3 days ago`.
fn away(time: SystemTime, now: SystemTime) -> String {
    match time.duration_since(now) {
        Ok(left) => format!("in {}", say::count(left.as_secs() / DAY, "day")),
        Err(gone) => format!("{} ago", say::count(gone.duration().as_secs() / DAY, "day")),
    }
}

fn as_text(folder: &Path, until: SystemTime, issued: &[Leaf], now: SystemTime) -> String {
    let mut rows = vec![["name", "roles", "hosts", "expires", "state"].map(str::to_owned)];
    let authority = folder.join("ca.pem").display().to_string();
    rows.push([authority, "authority".into(), String::new(), away(until, now), String::new()]);
    for leaf in issued {
        rows.push([
            leaf.identity.name().to_owned(),
            roles(leaf).join(", "),
            leaf.hosts.join(", "),
            away(leaf.until, now),
            state(leaf, now).to_owned(),
        ]);
    }
    table::plain(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_say_what_is_to_be_done() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        let leaf = Leaf {
            identity: "butterfly:ann?role=client,agent".parse().expect("valid"),
            hosts: Vec::new(),
            from,
            until: from + Duration::from_secs(30 * DAY),
        };
        let after = |days: u64| from + Duration::from_secs(days * DAY);
        let states = [14, 15, 30, 31].map(|days| state(&leaf, after(days)));
        assert_eq!(states, ["fresh", "renew", "renew", "expired"]);
        assert_eq!(away(leaf.until, after(18)), "in 12 days");
        assert_eq!(away(leaf.until, after(31)), "1 day ago");
        let report = as_json(after(90), &[leaf], after(1));
        assert_eq!(report["certificates"][0]["roles"], json!(["client", "agent"]));
    }
}
