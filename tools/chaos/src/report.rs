//! What is said of a run, to people and to programs.

use crate::{
    ledger::Account,
    run::{Outcome, Recovery},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// One line per fault of a plan.
pub(crate) fn plan(plan: &crate::plan::Plan) -> String {
    let names: Vec<&str> = plan.kinds.iter().map(|kind| kind.name()).collect();
    let mut text = format!("kinds: {}\n", names.join(" "));
    for fault in &plan.faults {
        let at = fault.at.as_secs_f64();
        text += &format!("  {at:7.3} s  {:<14} {:?}\n", fault.kind, fault.lasts);
    }
    text
}

fn milliseconds(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!(time.as_secs_f64() * 1e3))
}

/// An account as a JSON object.
pub(crate) fn account(account: &Account) -> Value {
    let quantile = |q| account.latency.value_at_quantile(q) as f64 / 1e3;
    json!({
        "sent": account.sent,
        "answered": account.answered,
        "refused": account.refused,
        "died": account.died,
        "lost": account.lost,
        "duplicated": account.duplicated,
        "foreign": account.foreign,
        "wrong": account.wrong,
        "unsent": account.unsent,
        "connections": account.connections,
        "left": account.left,
        "turned_away": account.turned_away,
        "stalled": account.stalled,
        "latency_ms": { "p50": quantile(0.5), "p99": quantile(0.99), "max": quantile(1.0) },
        "holds": account.holds(),
    })
}

/// A run as a JSON object.
pub(crate) fn json(seed: u64, outcome: &Outcome) -> Value {
    let kinds: Vec<&str> = outcome.plan.kinds.iter().map(|kind| kind.name()).collect();
    let happened: BTreeMap<&str, u64> =
        outcome.happened.iter().map(|(kind, count)| (kind.name(), *count)).collect();
    let recovery = |recovery: &Recovery| {
        json!({
            "kind": recovery.kind.name(),
            "first_ms": milliseconds(recovery.first),
            "full_ms": milliseconds(recovery.full),
        })
    };
    json!({
        "seed": seed,
        "kinds": kinds,
        "faults": happened,
        "requests": account(&outcome.account),
        "recoveries": outcome.recoveries.iter().map(recovery).collect::<Vec<_>>(),
        "restarts": outcome.restarts,
        "gathers": { "reported": outcome.gathers.0, "cut_off": outcome.gathers.1 },
        "node": outcome.counters,
        "troubles": outcome.troubles,
        "holds": outcome.holds(),
    })
}

/// The counts of an account, in words.
pub(crate) fn words(account: &Account) -> String {
    let list = |counts: &BTreeMap<&str, u64>| {
        let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    let quantile = |q| account.latency.value_at_quantile(q) as f64 / 1e3;
    format!(
        "requests sent {}: answered {}, refused {} ({}), connection died {}\n\
         lost {}, answered twice {}, another's {}, wrong {} ({})\n\
         not sent for want of a connection {}; connections {}, left when asked {}, stalled {}\n\
         latency from the planned time: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        account.sent,
        account.answered,
        account.refusals(),
        list(&account.refused),
        account.died,
        account.lost,
        account.duplicated,
        account.foreign,
        account.wrongs(),
        list(&account.wrong),
        account.unsent,
        account.connections,
        account.left,
        account.stalled,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    )
}

/// A run for people.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut text = words(&outcome.account);
    text += "\nfaults:";
    for (kind, count) in &outcome.happened {
        text += &format!(" {kind} {count},");
    }
    text += &format!(
        "\nnode started again {} times; gathers reported {}, cut off {}\n",
        outcome.restarts, outcome.gathers.0, outcome.gathers.1
    );
    for kind in crate::plan::Kind::ALL {
        let of = |time: fn(&Recovery) -> Option<Duration>| {
            let all = outcome.recoveries.iter().filter(|it| it.kind == kind);
            let mut times: Vec<Duration> = all.filter_map(time).collect();
            times.sort_unstable();
            times
        };
        let (first, full) = (of(|it| it.first), of(|it| it.full));
        if let (Some(worst_first), Some(worst_full)) = (first.last(), full.last()) {
            text += &format!(
                "after {kind}: first answer {:.0?}, worst {:.0?}; full rate {:.0?}, worst {:.0?}\n",
                first[first.len() / 2],
                worst_first,
                full[full.len() / 2],
                worst_full
            );
        }
    }
    for (name, count) in outcome.counters.iter().filter(|(_, count)| **count > 0) {
        text += &format!("{name} {count}\n");
    }
    for trouble in &outcome.troubles {
        text += &format!("TROUBLE: {trouble}\n");
    }
    text + if outcome.holds() { "holds" } else { "DOES NOT HOLD" }
}
