//! Agents that land together: one message to all of them at a node, each copy at its own moment,
//! and beside it what a plain broadcast would have given the same agents.

use crate::{
    arrivals::{self, Arrivals, duration},
    failure::Failure,
    gather::{epoch_ns, random},
    say::grouped,
};
use client::{Addr, Client, Options, Report};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};
use wire::{
    mesh::{SelectBy, Strategy, Verb, message_id},
    payload::mesh::Gather,
};

/// Wanted share that is ready in time.
const DIAL: f32 = 0.99;
/// Longest time for all agents to register.
const ARRIVE_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for one message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(20);
/// Rows of the histograms, and characters of a bar.
const HISTOGRAM: (usize, usize) = (20, 34);

/// A message that an agent answered, by the clock that knows: nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// When it left the node.
    pub(crate) sent: u64,
    /// From then until the agent was READY.
    pub(crate) delay: u64,
    /// From then until the target moment.
    pub(crate) lead: u64,
}

/// Whoever runs the agents.
pub(crate) trait Fleet: Sized {
    /// Starts them; they register by themselves.
    fn start(addr: &Addr, agents: u32) -> Result<Self, Failure>;
    /// True where they ended before they were told to.
    fn has_ended(&self) -> bool;
    /// Ends them, and tells what truly happened.
    fn finish(self) -> Result<Vec<Answered>, Failure>;
}

/// What there is to show.
#[derive(Debug)]
pub(crate) struct Landing {
    /// Agents at the node.
    agents: u32,
    /// What the node says of the message.
    report: Report,
    /// READY around the moment, each copy at its own time.
    scheduled: Arrivals,
    /// READY around the same moment, had all copies left together with the first.
    broadcast: Arrivals,
}

/// Runs a fleet at a node and sends it messages; the last one is what is shown. With the `warmups`
/// before it the node learns how long each agent needs.
pub(crate) fn land<F: Fleet>(
    addr: &Addr,
    agents: u32,
    warmups: usize,
    tell: impl Fn(&str),
) -> Result<Landing, Failure> {
    tell(&format!("{} simulated agents register", grouped(agents.into())));
    let fleet = F::start(addr, agents)?;
    let mut client = Client::connect(addr, Options::default()).map_err(Failure::run)?;
    let here = wait_for(&mut client, &fleet, agents)?;
    for warmup in 1..=warmups {
        tell(&format!("message {warmup} of {warmups}: the node learns"));
        gather(&mut client)?;
    }
    tell("the message that counts");
    let report = gather(&mut client)?;
    let seen = fleet.finish()?;
    let (scheduled, broadcast) = compare(&seen);
    Ok(Landing { agents: here, report, scheduled, broadcast })
}

/// Waits until all agents are there.
fn wait_for<F: Fleet>(client: &mut Client, fleet: &F, agents: u32) -> Result<u32, Failure> {
    let give_up = Instant::now() + ARRIVE_WITHIN;
    loop {
        let active = client.map(None).map_err(Failure::run)?.global.active;
        if active >= agents {
            return Ok(active);
        }
        if fleet.has_ended() || Instant::now() > give_up {
            return Err(Failure::run(format!("{active} of {agents} agents registered")));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn gather(client: &mut Client) -> Result<Report, Failure> {
    let now = epoch_ns();
    let id = message_id(now, random());
    let ask = Gather {
        payload: b"land together".to_vec(),
        message_id: id,
        correlation_id: id,
        hlc: now & !0xFFFF,
        timeout_ns: MESSAGE_WITHIN.as_nanos() as u64,
        on_time: DIAL,
        select: SelectBy::All.code(),
        verb: Verb::Act.code(),
        priority: 1,
        strategy: Strategy::Parallel.code(),
        hold: true,
        ..Gather::default()
    };
    client.gather(&ask, |_| ()).map_err(Failure::run)
}

/// READY around the last message's moment: as it was, and as it would have been had every copy
/// left together with the first.
fn compare(seen: &[Answered]) -> (Arrivals, Arrivals) {
    let target = |one: &Answered| one.sent.saturating_add(one.lead);
    let last = seen.iter().map(target).max().unwrap_or(0);
    // Conversions of clocks may round.
    let of_last = || seen.iter().filter(|one| last - target(one) < 1_000_000);
    let earliest = of_last().map(|one| one.lead).max().unwrap_or(0);
    let around = |lead: u64, delay: u64| {
        let distance = i128::from(delay) - i128::from(lead);
        distance.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    };
    (
        Arrivals::from_offsets(of_last().map(|one| around(one.lead, one.delay))),
        Arrivals::from_offsets(of_last().map(|one| around(earliest, one.delay))),
    )
}

/// The histograms side by side, and the figures, for people.
pub(crate) fn as_text(landing: &Landing) -> String {
    let (rows, width) = HISTOGRAM;
    let parts =
        [("each at its own moment", &landing.scheduled), ("a plain broadcast", &landing.broadcast)];
    let report = &landing.report;
    let mut text = format!(
        "{} agents, one message, to be ready together at T\n\n{}\n\n\
         ready, from the first 1% to the last 1%: {} apart, by broadcast {}",
        grouped(landing.agents.into()),
        arrivals::draw(&parts, rows, width),
        apart(&landing.scheduled),
        apart(&landing.broadcast),
    );
    let shown =
        |q: f64| wire::mesh::quantile(&report.spread, q).map_or_else(|| "-".to_owned(), duration);
    let _ = write!(
        text,
        "\nacting, around T: p50 {}, p99 {}, max {}\n\
         ready in time {:.2}% of the sent (asked for: {:.0}%); coverage {:.2}%, {} skipped\n{}",
        shown(0.5),
        shown(0.99),
        shown(1.0),
        report.on_time * 100.0,
        DIAL * 100.0,
        report.coverage * 100.0,
        grouped(report.counts.skipped.into()),
        report.reason
    );
    text
}

fn apart(arrivals: &Arrivals) -> String {
    arrivals.spread(0.98).map_or_else(|| "-".to_owned(), duration)
}

/// The figures, for programs.
pub(crate) fn as_json(landing: &Landing) -> Value {
    let ms = |arrivals: &Arrivals| {
        let at = |q: f64| arrivals.quantile(q).map(|ns| ns as f64 / 1e6);
        json!({
            "count": arrivals.count(),
            "p01": at(0.01),
            "p50": at(0.5),
            "p99": at(0.99),
            "spread_98": arrivals.spread(0.98).map(|ns| ns as f64 / 1e6),
        })
    };
    json!({
        "agents": landing.agents,
        "ready_ms": { "scheduled": ms(&landing.scheduled), "broadcast": ms(&landing.broadcast) },
        "gather": crate::gather::as_json(&landing.report),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Agents that need 10 to 500 ms, each sent to that long and 1 ms before the moment.
    fn seen() -> Vec<Answered> {
        let earlier = Answered { sent: 0, delay: 7, lead: 5 };
        let one = |at: u64| {
            let delay = (10 + at * 490 / 99) * 1_000_000;
            let lead = delay + 1_000_000;
            Answered { sent: 10_000_000_000 - lead, delay, lead }
        };
        std::iter::once(earlier).chain((0..100).map(one)).collect()
    }

    #[test]
    fn the_same_agents_land_together_or_all_over() {
        let (scheduled, broadcast) = compare(&seen());
        assert_eq!((scheduled.count(), broadcast.count()), (100, 100), "the last message alone");
        assert_eq!(scheduled.spread(1.0), Some(0));
        assert_eq!(scheduled.quantile(0.5), Some(-1_000_000));
        assert_eq!(broadcast.spread(1.0), Some(490_000_000));
        assert_eq!(broadcast.quantile(1.0), Some(-1_000_000), "who needs longest is as before");
        let (none, _) = compare(&[]);
        assert_eq!(none.count(), 0);
    }

    #[test]
    fn both_are_drawn_over_one_axis() {
        let (scheduled, broadcast) = compare(&seen());
        let (rows, width) = HISTOGRAM;
        let parts = [("each at its own moment", &scheduled), ("a plain broadcast", &broadcast)];
        let text = arrivals::draw(&parts, rows, width);
        assert!(text.contains("each at its own moment") && text.contains("a plain broadcast"));
        let bars = text.lines().filter(|line| line.contains('#')).count();
        assert!(bars >= 8, "{text}");
    }
}
