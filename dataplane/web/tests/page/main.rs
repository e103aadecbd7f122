//! The page in a real browser: what it shows of a node, and that it stays whole whatever the node
//! says. Where there is no Chromium these say so and pass; BUTTERFLY_NEED_CHROMIUM makes them fail.

mod chromium;
mod fixture;
mod hostile;
mod lives;
mod reach;
mod server;
mod shows;

use chromium::{Chromium, Tab};
use overview::{Overview, Point};
use server::Server;
use std::sync::{Arc, OnceLock};

/// One browser for all tests, each in tabs and a profile of its own. It ends with this process.
fn browser() -> Option<Arc<Chromium>> {
    static BROWSER: OnceLock<Option<Arc<Chromium>>> = OnceLock::new();
    BROWSER.get_or_init(Chromium::start).clone()
}

/// A node that says this, and the page of it once it has drawn that.
fn open(overview: &Overview, history: &[Point]) -> Option<(Server, Tab)> {
    let browser = browser()?;
    let server = Server::start(overview, history);
    let tab = browser.open(&server.address());
    drawn(&tab, overview);
    // The past comes by itself, after the present.
    tab.until(&format!("page.history.length > {} && !page.awaited", history.len()));
    Some((server, tab))
}

/// Waits until the page has drawn this overview, and lives on.
fn drawn(tab: &Tab, overview: &Overview) {
    let at = overview.at_ms;
    tab.until(&format!(
        "document.documentElement.dataset.drawn === '{at}' && \
         document.documentElement.dataset.link === 'live'"
    ));
}

/// The same node a second later.
fn later(overview: &Overview) -> Overview {
    let mut next = overview.clone();
    next.at_ms += 1_000;
    next
}

/// A second later; when it is drawn.
fn publish(server: &Server, tab: &Tab, overview: &Overview) {
    server.publish(overview);
    drawn(tab, overview);
}
