//! The page for everybody: by keyboard, by ear, in the dark, where colours are told apart badly.

use crate::{
    chromium::{Look, Tab},
    fixture, later,
    lives::FRAMES,
    open, publish,
};
use serde_json::{Value, json};

/// WCAG 2: contrast of text, and of what is no text but has a meaning.
const TEXT_MIN: f64 = 4.5;
const SIGN_MIN: f64 = 3.0;

/// What falls short in what is seen now, and how much was looked at.
fn faint(tab: &Tab) -> (u64, Vec<Value>) {
    let judge = include_str!("contrast.js");
    // A comment opens the file; a function follows.
    let at = judge.find("(textMin").expect("a function");
    let found = tab.eval(&format!("({})({TEXT_MIN}, {SIGN_MIN})", &judge[at..]));
    let short = found["short"].as_array().expect("a list").clone();
    (found["seen"].as_u64().expect("a count"), short)
}

#[test]
fn text_and_signs_stand_out_in_both_themes() {
    let mut node = fixture::rich(30_000, 24);
    node.node.insecure = true;
    let Some((server, tab)) = open(&node, &fixture::history()) else { return };
    let nothing = Vec::<Value>::new();
    for dark in [false, true] {
        tab.look(&Look { dark, ..Look::default() });
        tab.until(&format!("matchMedia('(prefers-color-scheme: dark)').matches === {dark}"));
        let (seen, short) = faint(&tab);
        assert_eq!(short, nothing, "dark: {dark}");
        assert!(seen > 300, "{seen}");
        tab.eval("document.querySelector('#helping').showModal()");
        assert_eq!(faint(&tab).1, nothing, "help, dark: {dark}");
        tab.press("Escape");
    }
    let mut empty = fixture::empty();
    empty.at_ms = node.at_ms + 1_000;
    publish(&server, &tab, &empty);
    assert_eq!(faint(&tab).1, nothing, "empty");
    publish(&server, &tab, &later(&empty));
    server.cut(true);
    tab.until("document.documentElement.dataset.link === 'lost'");
    assert_eq!(faint(&tab).1, nothing, "lost");
}

#[test]
fn the_theme_is_turned_and_remembered() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    let back = |tab: &Tab| tab.text("getComputedStyle(document.documentElement).backgroundColor");
    assert_eq!(tab.text_of("#theme"), "Theme: system");
    let system = back(&tab);
    tab.press("t");
    assert_eq!((tab.text_of("#theme").as_str(), back(&tab)), ("Theme: light", system.clone()));
    tab.press("t");
    assert_eq!(tab.text_of("#theme"), "Theme: dark");
    let dark = back(&tab);
    assert_ne!(dark, system);
    tab.go("about:blank#elsewhere");
    tab.go(&server.address());
    crate::drawn(&tab, &node);
    assert_eq!((tab.text_of("#theme").as_str(), back(&tab)), ("Theme: dark", dark));
    tab.press("t");
    assert_eq!((tab.text_of("#theme").as_str(), back(&tab)), ("Theme: system", system));
}

#[test]
fn everything_is_reached_by_keys() {
    let Some((_server, tab)) = open(&fixture::rich(30_000, 24), &fixture::history()) else {
        return;
    };
    tab.press("?");
    tab.until("document.querySelector('#helping').open");
    tab.press("t");
    assert_eq!(tab.text_of("#theme"), "Theme: system", "keys belong to the help while it is open");
    tab.press("Escape");
    tab.until("!document.querySelector('#helping').open");
    // The map: one stop for Tab, arrows inside, no way out of its ends.
    assert_eq!(tab.eval("document.querySelectorAll('.tile[tabindex=\"0\"]').length"), 1);
    tab.eval("document.querySelector('.tile[tabindex=\"0\"]').focus()");
    let focus = |tab: &Tab| {
        let columns = "getComputedStyle(document.querySelector('#tiles')) \
                       .gridTemplateColumns.split(' ').length";
        let at = "[...document.querySelectorAll('.tile')].indexOf(document.activeElement)";
        (tab.eval(at).as_u64().expect("a tile"), tab.eval(columns).as_u64().expect("columns"))
    };
    tab.press("ArrowRight");
    let (at, columns) = focus(&tab);
    assert_eq!(at, 1);
    tab.press("ArrowDown");
    assert_eq!(focus(&tab).0, 1 + columns);
    assert!(tab.text_of("#sector").contains("Sector"));
    tab.press("End");
    tab.press("ArrowRight");
    assert_eq!(focus(&tab).0, 23);
    // A curve: the crosshair by arrows, its values said.
    tab.eval("document.querySelectorAll('.plot')[1].focus()");
    let said = |tab: &Tab| {
        tab.text("document.querySelectorAll('.plot')[1].getAttribute('aria-valuetext')")
    };
    let now = said(&tab);
    tab.press("ArrowLeft");
    let before = said(&tab);
    assert_ne!(now, before);
    assert!(before.contains("p50 ") && before.contains("p99 "), "{before}");
    assert_eq!(
        tab.eval("document.querySelectorAll('.plot')[1].getAttribute('aria-valuenow')"),
        "-1"
    );
    assert_eq!(
        tab.eval("document.querySelectorAll('.hair')[1].getAttribute('visibility')"),
        "visible"
    );
    // An explanation opens by focus, also where that has to scroll, and closes by Escape.
    tab.eval("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})");
    tab.eval(FRAMES);
    let above = "document.querySelector('#now .term').getBoundingClientRect().bottom < 0";
    assert_eq!(tab.eval(above), true);
    tab.eval("document.querySelector('#now .term').focus()");
    tab.eval(FRAMES);
    let apart = "(() => { const at = id => document.querySelector(id).getBoundingClientRect(); \
                 return at('#tip').top - at('#now .term').bottom; })()";
    assert_eq!(tab.eval("document.querySelector('#tip').hidden"), false);
    assert_eq!(tab.eval(apart), 6.0, "beside what it explains");
    tab.press("Escape");
    assert_eq!(tab.eval("document.querySelector('#tip').hidden"), true);
}

#[test]
fn the_accessibility_tree_has_landmarks_headings_and_names() {
    let Some((_server, tab)) = open(&fixture::rich(30_000, 24), &fixture::history()) else {
        return;
    };
    tab.ask("Accessibility.enable", &json!({}));
    let tree = tab.ask("Accessibility.getFullAXTree", &json!({}));
    let nodes: Vec<(String, String)> = tree["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter(|node| node["ignored"] != true)
        .map(|node| {
            let text = |of: &str| node[of]["value"].as_str().unwrap_or_default().to_owned();
            (text("role"), text("name"))
        })
        .collect();
    let of = |role: &str| nodes.iter().filter(|(is, _)| is == role).collect::<Vec<_>>();
    for landmark in ["banner", "main", "contentinfo"] {
        assert_eq!(of(landmark).len(), 1, "{landmark}");
    }
    assert!(of("heading").len() >= 12, "{:?}", of("heading"));
    assert_eq!(of("slider").len(), 2);
    assert_eq!(of("option").len(), 24);
    assert!(of("table").len() >= 6);
    let named = [
        "button", "heading", "image", "link", "listbox", "option", "region", "slider", "status",
        "table",
    ];
    let nameless: Vec<_> = nodes
        .iter()
        .filter(|(role, name)| {
            named.contains(&role.as_str()) && role != "status" && name.is_empty()
        })
        .collect();
    assert!(nameless.is_empty(), "{nameless:?}");
}

#[test]
fn only_changes_of_state_are_said_aloud() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    let live = tab.eval(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')] \
           .map(node => node.id)",
    );
    assert_eq!(live, json!(["said"]));
    let before = tab.text_of("#said");
    let mut next = later(&node);
    next.now.queries_per_s += 1_000.0;
    publish(&server, &tab, &next);
    assert_eq!(tab.text_of("#said"), before);
    next = later(&next);
    next.node.ready = false;
    "draining".clone_into(&mut next.node.not_ready_because);
    publish(&server, &tab, &next);
    assert_eq!(tab.text_of("#said"), "The node is not ready");
}

#[test]
fn without_scripts_it_says_what_to_use_instead() {
    let Some((server, tab)) = open(&fixture::empty(), &[]) else { return };
    tab.ask("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    tab.ask("Page.navigate", &json!({"url": server.address()}));
    tab.ask("Accessibility.enable", &json!({}));
    let says = || {
        let tree = tab.ask("Accessibility.getFullAXTree", &json!({})).to_string();
        tree.contains("This page draws itself with JavaScript") && tree.contains("butterfly top")
    };
    assert!((0..1_000).any(|_| says()));
}

#[test]
fn print_is_on_white_and_without_buttons() {
    let Some((_server, tab)) = open(&fixture::rich(300, 4), &[]) else { return };
    let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
    tab.ask("Emulation.setEmulatedMedia", &json!({"media": "print", "features": features}));
    tab.until("matchMedia('print').matches");
    let card = tab.text("getComputedStyle(document.querySelector('.card')).backgroundColor");
    assert_eq!(card, "rgb(255, 255, 255)");
    assert_eq!(tab.eval("document.querySelector('.tools').checkVisibility()"), false);
}
