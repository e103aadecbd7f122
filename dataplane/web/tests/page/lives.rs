//! A page that is left open for days: streams that end, windows that are hidden, pauses.

use crate::{drawn, fixture, later, open, publish};

pub(crate) const FRAMES: &str =
    "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))";

#[test]
fn a_lost_stream_is_said_and_found_again() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    server.cut(true);
    tab.until("document.documentElement.dataset.link === 'lost'");
    let said = tab.text_of("#link");
    assert!(said.starts_with("Connection lost since "), "{said}");
    assert_eq!(tab.text_of("#said"), "Connection lost");
    let grey = tab.text("getComputedStyle(document.querySelector('main')).filter");
    assert_eq!(grey, "grayscale(1)");
    assert_eq!(tab.text_of("#name"), node.node.name, "what was known stays");
    // It goes on trying while it is refused, and does not ask to be reloaded.
    let opened = server.opened();
    while server.opened() < opened + 2 {
        tab.eval(FRAMES);
    }
    assert_eq!(tab.text_of("#link"), said, "since when does not move");
    server.mend();
    let next = later(&node);
    server.publish(&next);
    drawn(&tab, &next);
    assert_eq!(tab.text_of("#said"), "Connected again");
    assert!(tab.text_of("#link").starts_with("Live, "));
}

#[test]
fn a_hidden_page_lets_the_stream_go_and_takes_it_up_again() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    tab.until("page.source.readyState === EventSource.OPEN");
    assert_eq!(server.readers(), 1);
    let hide = |hidden: bool| {
        tab.eval(&format!(
            "(() => {{ Object.defineProperty(document, 'hidden', {{value: {hidden}, \
             configurable: true}}); document.dispatchEvent(new Event('visibilitychange')); }})()"
        ));
    };
    hide(true);
    while server.readers() > 0 {
        tab.eval(FRAMES);
    }
    assert_eq!(tab.text("document.documentElement.dataset.link"), "live", "nothing was lost");
    let opened = server.opened();
    hide(false);
    let next = later(&node);
    server.publish(&next);
    drawn(&tab, &next);
    assert_eq!(server.opened(), opened + 1);
}

#[test]
fn a_pause_holds_what_is_shown_and_misses_nothing() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    tab.until("page.source.readyState === EventSource.OPEN");
    tab.press("p");
    assert_eq!(tab.text("document.documentElement.dataset.link"), "paused");
    assert_eq!(tab.text_of("#pause"), "Go on");
    let mut next = node.clone();
    for name in ["one", "two"] {
        next = later(&next);
        name.clone_into(&mut next.node.name);
        server.publish(&next);
    }
    tab.until("page.latest.node.name === 'two'");
    tab.eval(FRAMES);
    assert_eq!(tab.text_of("#name"), node.node.name);
    // A stream that is lost and found again meanwhile: it is paused as before, at the same moment.
    let paused = tab.text_of("#link");
    server.cut(false);
    next = later(&next);
    tab.until("document.documentElement.dataset.link === 'lost'");
    server.publish(&next);
    tab.until(&format!("page.latest.at_ms === {}", next.at_ms));
    assert_eq!(tab.text("document.documentElement.dataset.link"), "paused");
    assert_eq!(tab.text_of("#link"), paused);
    tab.press("p");
    drawn(&tab, &next);
    assert_eq!(tab.text_of("#name"), "two");
    assert_eq!(tab.eval("page.history.length"), 4);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_curves() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &fixture::history()) else { return };
    let mut next = node;
    next.at_ms -= 3_600_000;
    publish(&server, &tab, &next);
    let newest = tab.eval("page.history.at(-1).at_ms").as_u64();
    assert_eq!((newest, tab.eval("page.history.length").as_u64()), (Some(next.at_ms), Some(1)));
}

#[test]
fn events_are_drawn_once_a_frame_however_many_come() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &[]) else { return };
    tab.eval(
        "(async () => { while (page.awaited) await new Promise(requestAnimationFrame); \
           window.frames_asked = 0; const ask = window.requestAnimationFrame.bind(window); \
           window.requestAnimationFrame = use => { frames_asked += 1; return ask(use); }; \
           for (let at = 0; at < 100; at += 1) take(JSON.parse(JSON.stringify(page.latest))); })()",
    );
    assert_eq!(tab.eval("frames_asked"), 1);
    publish(&server, &tab, &later(&node));
}

#[test]
fn curves_keep_ten_minutes_and_no_more() {
    let node = fixture::rich(300, 4);
    let Some((server, tab)) = open(&node, &fixture::history()) else { return };
    tab.until("page.history.length === 570");
    let mut next = node;
    next.at_ms += 300_000;
    publish(&server, &tab, &next);
    let oldest = tab.eval("page.latest.at_ms - page.history[0].at_ms").as_u64().expect("an age");
    assert!((299_000..600_000).contains(&oldest), "{oldest}");
    // 299 of the history, the overview that the page began with, and this one.
    assert_eq!(tab.eval("page.history.length"), 301);
}
