//! Peers choose names, reasons and ids: on the page they are text and nothing else.

use crate::{fixture, later, open, publish};
use overview::{Check, Copies, Overview, Refusal, Worker};
use serde_json::json;

/// Markup, a script, an attribute's end, a shell's substitution, a reversal of direction, length.
const STRINGS: [&str; 6] = [
    "<img src=x onerror=\"window.owned=1\">",
    "</script><script>window.owned=1</script>",
    "\"><svg onload=window.owned=1>",
    "$(reboot); `reboot`\n",
    "\u{202e}abc\u{0}\u{7}",
    "__proto__",
];

/// A node that says this wherever it says a string.
fn saying(text: &str) -> Overview {
    let mut node = fixture::rich(300, 4);
    let text = || text.to_owned();
    let of = &mut node.node;
    for place in [
        &mut of.name,
        &mut of.version,
        &mut of.not_ready_because,
        &mut of.backend,
        &mut of.backend_reason,
        &mut of.security,
        &mut node.bar.of,
        &mut node.mesh.mode,
    ] {
        *place = text();
    }
    of.ready = false;
    of.fallbacks = vec![text()];
    of.facts.insert(text(), text());
    of.facts.insert("listen".to_owned(), text());
    node.batches.by_reason.insert(text(), 7);
    node.mesh.by_state.insert(text(), 7);
    node.mesh.kpi.insert(text(), 0.5);
    node.refusals.insert(text(), 7);
    node.copies.insert(text(), Copies { count: 1, bytes: 1 });
    node.sectors[0].node = text();
    node.gathers[0].id = text();
    node.gathers[0].decision = text();
    node.gathers[0].reason = text();
    node.recent_refusals = vec![Refusal { at_ms: node.at_ms, reason: text(), request: text() }];
    let check = Check { name: text(), holds: false, detail: text() };
    let worker = Worker { id: text(), backend: text(), checks: vec![check], ..Worker::default() };
    node.workers = vec![worker];
    node
}

#[test]
fn hostile_strings_stay_text() {
    let mut node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    let markup =
        "document.querySelectorAll('img, script, iframe, object, [onload], [onerror]').length";
    let before = tab.eval(markup);
    for text in STRINGS {
        let at_ms = node.at_ms;
        node = later(&Overview { at_ms, ..saying(text) });
        publish(&server, &tab, &node);
        assert_eq!(tab.eval(markup), before, "{text}");
        assert_eq!(tab.eval("window.owned === undefined"), true, "{text}");
        let shown = text.replace(|c: char| c.is_control() || c == '\u{202e}', "\u{fffd}");
        for place in ["#name", "#notices", "#facts", "#workers", "#gather .reason"] {
            assert!(tab.text_of(place).contains(&shown), "{text} in {place}");
        }
        // Nothing that a shell could obey is offered to be copied into one.
        let copied = tab
            .eval("[...document.querySelectorAll('[data-copy]')].map(node => node.dataset.copy)");
        let bad = copied.as_array().expect("commands").iter().any(|command| {
            command.as_str().expect("text").contains(['$', '`', '<', '"', '\n', '\u{202e}'])
        });
        assert!(!bad, "{copied}");
    }
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[test]
fn endless_lists_are_cut() {
    let mut node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    let long = "x".repeat(100_000);
    node = later(&node);
    node.node.name = long.clone();
    node.node.fallbacks = (0..5_000).map(|n| format!("fallback {n}")).collect();
    node.node.facts = (0..5_000).map(|n| (format!("fact {n}"), long[..50].to_owned())).collect();
    node.batches.by_reason = (0..5_000).map(|n| (format!("reason {n}"), n)).collect();
    node.refusals = (0..5_000).map(|n| (format!("reason {n}"), n)).collect();
    let worker = |n| Worker { id: format!("worker-{n}"), ..Worker::default() };
    node.workers = (0..5_000).map(worker).collect();
    node.gathers[0].arrivals = (0..5_000).map(|n| (f64::from(n) - 2_500.0, 1)).collect();
    publish(&server, &tab, &node);
    let nodes = tab.eval("document.querySelectorAll('*').length").as_u64().expect("a count");
    assert!(nodes < 8_000, "{nodes}");
    assert!(tab.text_of("#name").chars().count() <= 201);
}

#[test]
fn what_is_no_overview_does_not_end_the_page() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    // Not JSON at all: the stream is given up, and opened again.
    server.publish_text("{".to_owned());
    tab.until("document.documentElement.dataset.link === 'lost'");
    let mut next = later(&node);
    publish(&server, &tab, &next);
    // JSON of another shape: what is missing is empty, what is no number is 0.
    for part in ["node", "now", "bar", "batches", "workers", "mesh", "sectors", "gathers", "copies"]
    {
        for wrong in [json!(null), json!(7), json!("text"), json!([null, 7]), json!({"x": [1]})] {
            next = later(&next);
            let mut said = serde_json::to_value(&next).expect("JSON");
            said[part] = wrong;
            server.publish_text(said.to_string());
            crate::drawn(&tab, &next);
        }
    }
    // And of what is within a part.
    next = later(&next);
    let mut said = serde_json::to_value(&next).expect("JSON");
    said["gathers"][0]["arrivals"] = json!([null, 7, "text", {"x": 1}]);
    server.publish_text(said.to_string());
    crate::drawn(&tab, &next);
    next = later(&next);
    publish(&server, &tab, &next);
    assert_eq!(tab.text_of("#name"), node.node.name);
    assert_eq!(tab.text_of("#state"), "Ready");
}
