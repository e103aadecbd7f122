//! What the page shows is what the node says.

use crate::{
    chromium::Look,
    drawn, fixture, later, open, publish,
    server::{Played, Server},
};
use overview::{Bar, Overview};
use serde_json::{Value, json};

/// Texts of all nodes that this selects.
fn texts(tab: &crate::chromium::Tab, selector: &str) -> Vec<String> {
    let found = tab.eval(&format!(
        "[...document.querySelectorAll({selector:?})].map(node => node.innerText.trim())"
    ));
    serde_json::from_value(found).expect("texts")
}

#[test]
fn bar_01_standings_lie_from_ready_to_offline_each_with_colour_pattern_and_word() {
    let Some((_server, tab)) = open(&fixture::rich(30_000, 24), &[]) else { return };
    let parts = tab.eval(
        "[...document.querySelectorAll('#bar .part')].map(node => { \
           const style = getComputedStyle(node); \
           return { name: node.classList[1], top: node.getBoundingClientRect().top, \
                    colour: style.backgroundColor, pattern: style.backgroundImage }; })",
    );
    let parts = parts.as_array().expect("parts").clone();
    let names: Vec<_> = parts.iter().map(|part| part["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["ready", "trusted", "busy", "unknown", "offline"]);
    let tops: Vec<_> = parts.iter().map(|part| part["top"].as_f64().expect("a place")).collect();
    assert!(tops.is_sorted(), "{tops:?}");
    // Red, green and blue of the colour, or of the first one of its pattern.
    let colour = |part: &Value| {
        let (flat, pattern) = (part["colour"].as_str().unwrap(), part["pattern"].as_str().unwrap());
        let text = if flat == "rgba(0, 0, 0, 0)" { pattern } else { flat };
        let inside =
            text.split("rgb(").nth(1).expect("a colour").split(')').next().expect("an end");
        let values: Vec<i32> = inside.split(", ").map(|value| value.parse().unwrap()).collect();
        (values[0], values[1], values[2])
    };
    let (r, g, b) = colour(&parts[0]);
    assert!(g > r + 40 && g > b, "ready is green: {r} {g} {b}");
    assert_eq!(colour(&parts[1]), (255, 255, 255), "trusted is white");
    let (r, g, b) = colour(&parts[2]);
    assert!(r > g + 100 && r > b + 100, "busy is red: {r} {g} {b}");
    let (r, g, b) = colour(&parts[3]);
    assert!(r > 200 && g > 150 && b < 100, "unknown is yellow: {r} {g} {b}");
    let (r, g, b) = colour(&parts[4]);
    assert!(r.max(g).max(b) - r.min(g).min(b) < 30, "offline is grey: {r} {g} {b}");
    let mut patterns: Vec<_> = parts.iter().map(|part| part["pattern"].to_string()).collect();
    patterns.sort();
    patterns.dedup();
    assert_eq!(patterns.len(), 5, "{patterns:?}");
    let words = texts(&tab, "#bar-table tbody th");
    assert_eq!(words, ["Ready", "Trusted", "Busy", "Unknown", "Offline"]);
}

#[test]
fn bar_02_sections_sum_to_a_hundred_with_count_and_tooltip_and_follow_the_node() {
    let node = fixture::rich(30_000, 24);
    let Some((server, tab)) = open(&node, &[]) else { return };
    let shares = |tab: &crate::chromium::Tab| -> Vec<f64> {
        let cells = texts(tab, "#bar-table tbody td:nth-child(2)");
        cells.iter().map(|cell| cell.trim_end_matches('%').parse().expect("a share")).collect()
    };
    assert!((shares(&tab).iter().sum::<f64>() - 100.0).abs() < 1e-9);
    let counts = texts(&tab, "#bar-table tbody td:nth-child(3)");
    assert_eq!(counts, ["16,906", "5,000", "7,500", "402", "192"]);
    tab.point_at("#bar .busy");
    tab.until("!document.querySelector('#tip').hidden");
    assert_eq!(tab.text_of("#tip"), "Busy: 7,500, 25.0%. At work.");
    let mut next = later(&node);
    next.bar = Bar::new("workers", [1, 1, 1, 0, 0]);
    publish(&server, &tab, &next);
    assert_eq!(shares(&tab), [33.4, 33.3, 33.3, 0.0, 0.0]);
    assert_eq!(tab.text_of(".figure").trim(), "3 workers");
    let shown = tab.eval("document.querySelectorAll('#bar .part:not([hidden])').length");
    assert_eq!(shown, 3);
}

#[test]
fn figures_are_those_of_the_node() {
    let node = fixture::rich(30_000, 24);
    let Some((_server, tab)) = open(&node, &fixture::history()) else { return };
    let now = texts(&tab, "#now dd");
    let queries = node.now.queries_per_s.round() as u64;
    assert_eq!(now[0].replace(',', ""), queries.to_string());
    assert_eq!(now[2], format!("{:.0} \u{b5}s", node.now.p50_ms * 1e3));
    assert_eq!(now[4], format!("{:.2} ms", node.now.p99_ms));
    assert_eq!(texts(&tab, "#batches tbody td:last-child")[1], "402,771 \u{b7} 23.5%");
    assert_eq!(texts(&tab, "#refusals-table tbody td"), ["4,102", "871", "96", "12"]);
    assert_eq!(texts(&tab, "#copies tbody tr:last-child td"), ["9,204,112", "38.1 GB"]);
    assert_eq!(texts(&tab, "#kpi tbody td:last-child")[0], "97.1%");
    let workers = texts(&tab, "#workers .pill");
    assert_eq!(workers, ["Healthy", "Healthy", "Healthy", "1 failed", "Healthy", "Down"]);
    assert!(tab.text_of("#notices").contains("4 KiB pages in place of huge ones"));
    assert_eq!(tab.text_of("#recent-table code"), "butterfly why 4711@1.0");
    // Each tile says its sector's numbers; sector 7 is under 95% and looks so.
    let seventh = "document.querySelectorAll('.tile')[7]";
    let said = tab.text(&format!("{seventh}.getAttribute('aria-label')"));
    assert_eq!(said, "Sector 7: 918 agents, 80.0% active, impedance 2.17 ms");
    assert_eq!(tab.eval(&format!("{seventh}.classList.contains('weak')")), true);
    // Curves: ten minutes with a gap, so two stretches of each line.
    let moves =
        tab.eval("document.querySelector('.curve.p50').getAttribute('d').split('M').length - 1");
    assert_eq!(moves, 2);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[test]
fn gathers_show_when_answers_came_on_both_sides_of_the_moment() {
    let node = fixture::rich(30_000, 24);
    let Some((_server, tab)) = open(&node, &[]) else { return };
    let said = tab.text("document.querySelector('.hist').getAttribute('aria-label')");
    let gather = &node.gathers[0];
    assert!(said.contains("29,442 by the moment, 311 after it"), "{said}");
    assert_eq!((gather.in_time, gather.late), (29_442, 311));
    let bars = tab.eval("document.querySelectorAll('.hist .before, .hist .after').length");
    assert!((10..=50).contains(&bars.as_u64().unwrap()), "{bars}");
    // An older one, chosen in the table, takes its place, and stays when others come.
    tab.eval("document.querySelectorAll('#gathers-table tbody button')[3].click()");
    assert!(tab.text_of("#gather .trio").contains("29,148"));
}

#[test]
fn workers_open_to_their_checks() {
    let Some((_server, tab)) = open(&fixture::rich(300, 4), &[]) else { return };
    assert_eq!(tab.eval("document.querySelector('.checks').checkVisibility()"), false);
    tab.eval("document.querySelectorAll('#workers summary')[3].focus()");
    tab.press("Enter");
    tab.until("document.querySelectorAll('#workers details')[3].open");
    let checks = tab.text("document.querySelectorAll('#workers .checks')[3].innerText");
    assert!(checks.contains("\u{2717} fails"), "{checks}");
    assert!(checks.contains("latency: 81 ms, 50 ms allowed"), "{checks}");
}

#[test]
fn a_node_where_nothing_was_yet_teaches_what_to_do() {
    let node = fixture::empty();
    let Some((_server, tab)) = open(&node, &[]) else { return };
    assert_eq!(tab.text_of("#state"), "Not ready");
    assert!(tab.text_of("#notices").contains("no worker answers yet"));
    let said = texts(&tab, ".empty:not([hidden]) code");
    let starts = ["butterfly check", "blast run", "blast agents", "butterfly gather"];
    for (said, start) in said.iter().zip(starts) {
        assert!(said.starts_with(start), "{said}");
    }
    assert_eq!(said.len(), starts.len());
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[test]
fn insecure_nodes_and_frozen_meshes_say_so_above_all() {
    let mut node = fixture::rich(300, 4);
    node.node.insecure = true;
    node.mesh.mode = "frozen".to_owned();
    let Some((_server, tab)) = open(&node, &[]) else { return };
    let said = texts(&tab, "#notices p");
    assert!(said[0].starts_with("Insecure Plaintext beyond this host"), "{said:?}");
    assert_eq!(said[1], "Mesh The mesh is frozen.");
}

#[test]
fn a_hundred_times_the_agents_cost_no_node_more() {
    let Some((server, tab)) = open(&fixture::rich(3_000, 256), &fixture::history()) else { return };
    let nodes = |tab: &crate::chromium::Tab| {
        tab.eval("document.querySelectorAll('*').length").as_u64().expect("a count")
    };
    let few = nodes(&tab);
    publish(&server, &tab, &later(&fixture::rich(300_000, 256)));
    assert_eq!(nodes(&tab), few);
    assert!(few < 3_000, "{few}");
    assert_eq!(tab.eval("document.querySelectorAll('.tile').length"), 256);
    // More sectors than a map can show are counted, and left out of it.
    let mut more = later(&later(&fixture::rich(30_000, 1_000)));
    publish(&server, &tab, &more);
    assert_eq!(tab.eval("document.querySelectorAll('.tile').length"), 256);
    assert_eq!(tab.text_of("#sectors-count"), "1,000, the first 256 shown");
    // What is gone, goes.
    more = later(&more);
    more.sectors.truncate(2);
    publish(&server, &tab, &more);
    assert_eq!(tab.eval("document.querySelectorAll('.tile').length"), 2);
}

#[test]
fn only_what_changed_is_written() {
    let node = fixture::rich(30_000, 256);
    let Some((server, tab)) = open(&node, &fixture::history()) else { return };
    tab.eval(
        "(() => { window.written = []; window.heard = page.heard; \
           new MutationObserver(all => written.push(...all.map(one => one.target.nodeName))) \
             .observe(document.body, {subtree: true, childList: true, attributes: true, \
                                      characterData: true}); })()",
    );
    let again = |overview: &Overview, came: &str| {
        server.publish(overview);
        tab.until(&format!("{came} && !page.awaited"));
        tab.eval("written.splice(0)")
    };
    assert_eq!(again(&node, "page.heard > heard"), json!([]));
    let mut next = node.clone();
    next.bar = Bar::new("agents", [16_905, 5_000, 7_501, 402, 192]);
    let written = again(&next, "page.latest.bar.parts[0].count === 16905");
    assert!((1..20).contains(&written.as_array().unwrap().len()), "{written}");
}

#[test]
fn it_fits_from_a_phone_to_a_wall() {
    let Some((_server, tab)) = open(&fixture::rich(30_000, 24), &fixture::history()) else {
        return;
    };
    for width in [320, 360, 720, 1_140, 1_280, 1_920, 2_560, 3_840] {
        tab.look(&Look { width, ..Look::default() });
        tab.until(&format!("innerWidth === {width}"));
        let wide = tab.eval("document.documentElement.scrollWidth").as_u64().expect("a width");
        assert!(wide <= u64::from(width), "{wide} at {width}");
    }
}

#[test]
fn the_server_of_a_node_serves_it_as_it_is() {
    let Some(browser) = crate::browser() else { return };
    let node = fixture::rich(30_000, 24);
    let (running, address) = Played::start(&node);
    let tab = browser.open(&address);
    drawn(&tab, &node);
    assert_eq!(tab.text_of("#name"), node.node.name);
    assert_eq!(tab.complaints(), Vec::<String>::new());
    drop(running);
}

#[test]
fn nothing_but_the_page_is_asked_for_before_it_is_drawn() {
    let Some(browser) = crate::browser() else { return };
    let node = fixture::empty();
    let server = Server::start(&node, &[]);
    let tab = browser.open(&server.address());
    drawn(&tab, &node);
    let asked = tab.eval(
        "performance.getEntriesByType('resource').map(one => new URL(one.name).pathname).sort()",
    );
    let allowed = ["/api/history", "/api/overview", "/events"];
    let asked: Vec<String> = serde_json::from_value(asked).expect("paths");
    assert!(asked.iter().all(|path| allowed.contains(&path.as_str())), "{asked:?}");
}
