//! What is counted of all this. One writer, the thread that serves.

use dataplane_core::stats::{Counter, Source, Visit};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Page,
    Metrics,
    Life,
    Readiness,
    Overview,
    History,
    Events,
}

impl Route {
    pub(crate) const ALL: [Self; 7] = [
        Self::Page,
        Self::Metrics,
        Self::Life,
        Self::Readiness,
        Self::Overview,
        Self::History,
        Self::Events,
    ];

    /// Its path.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Metrics => "/metrics",
            Self::Life => "/healthz",
            Self::Readiness => "/readyz",
            Self::Overview => "/api/overview",
            Self::History => "/api/history",
            Self::Events => "/events",
        }
    }
}

/// Why nothing was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Neither GET nor HEAD.
    Method,
    /// Nothing is there.
    Path,
    /// A name that is not known here, or none.
    Host,
    /// A page from elsewhere asked.
    Site,
    /// Too many readers.
    Readers,
    /// Too many connections.
    Connections,
    /// No HTTP, or more of it than there is room for.
    Malformed,
    /// A head that took too long, or an idle connection.
    Slow,
}

impl Refused {
    pub(crate) const ALL: [Self; 8] = [
        Self::Method,
        Self::Path,
        Self::Host,
        Self::Site,
        Self::Readers,
        Self::Connections,
        Self::Malformed,
        Self::Slow,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Path => "path",
            Self::Host => "host",
            Self::Site => "site",
            Self::Readers => "readers",
            Self::Connections => "connections",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [Counter; Route::ALL.len()],
    refused: [Counter; Refused::ALL.len()],
    pub(crate) accepted: Counter,
    pub(crate) open: Counter,
    pub(crate) readers: Counter,
    /// Connections that were closed because their peers did not read.
    pub(crate) unread: Counter,
    pub(crate) metrics_rendered: Counter,
    pub(crate) overviews_rendered: Counter,
}

impl Counters {
    pub(crate) fn request(&self, route: Route) {
        self.requests[route as usize].add(1);
    }

    pub(crate) fn refuse(&self, why: Refused) {
        self.refused[why as usize].add(1);
    }
}

impl Source for Counters {
    fn visit(&self, visit: Visit<'_>) {
        for (route, counter) in Route::ALL.iter().zip(&self.requests) {
            visit("butterfly_web_requests_total", "path", route.path(), counter.get());
        }
        for (why, counter) in Refused::ALL.iter().zip(&self.refused) {
            visit("butterfly_web_refusals_total", "reason", why.name(), counter.get());
        }
        let rendered = "butterfly_web_renderings_total";
        visit(rendered, "what", "metrics", self.metrics_rendered.get());
        visit(rendered, "what", "overview", self.overviews_rendered.get());
        for (name, counter) in [
            ("butterfly_web_connections_total", &self.accepted),
            ("butterfly_web_connections_open", &self.open),
            ("butterfly_web_event_readers", &self.readers),
            ("butterfly_web_unread_closed_total", &self.unread),
        ] {
            visit(name, "", "", counter.get());
        }
    }
}
