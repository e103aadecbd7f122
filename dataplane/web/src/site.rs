//! What is at which path, and who may see it.

use crate::{
    Hosts, Limits, Node,
    answer::{self, Content, media, sentence, whole},
    counters::{Counters, Refused, Route},
    csp,
    events::{self, Events, Feed, Seats},
    exposition,
    fresh::Fresh,
    history::History,
    page,
};
use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, ETAG, HOST, HeaderMap,
        HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
    },
};
use overview::Check;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{cell::RefCell, rc::Rc, sync::Arc};
use tokio::sync::watch;

/// The page, ready to be sent.
#[derive(Debug)]
struct Page {
    html: Bytes,
    tag: HeaderValue,
    policy: HeaderValue,
}

/// Whether all is well, and why not.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    ok: bool,
    checks: &'a [Check],
}

/// Everything behind the paths.
pub(crate) struct Site {
    node: Arc<dyn Node>,
    limits: Limits,
    hosts: Hosts,
    page: Page,
    counters: Arc<Counters>,
    history: RefCell<History>,
    metrics: Fresh<Bytes>,
    overview: Fresh<Bytes>,
    life: Fresh<(bool, Bytes)>,
    past: Fresh<Bytes>,
    seats: Rc<Seats>,
    events: watch::Sender<Bytes>,
    leaving: watch::Receiver<bool>,
}

/// A text of ours as the value of a header.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

impl Page {
    fn new(html: String) -> Self {
        let hash = Sha256::digest(&html);
        let tag: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let (tag, policy) = (header(&format!("\"{tag}\"")), header(&csp::policy(&html)));
        Self { html: html.into(), tag, policy }
    }

    fn answer(&self, asked: &HeaderMap) -> Response<Content> {
        let has_it = asked.get_all(IF_NONE_MATCH).iter().any(|tag| tag == self.tag);
        let mut response = if has_it {
            whole(StatusCode::NOT_MODIFIED, media::HTML, Bytes::new())
        } else {
            whole(StatusCode::OK, media::HTML, self.html.clone())
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, self.tag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

fn verdict(checks: &[Check]) -> (bool, Bytes) {
    let ok = checks.iter().all(|check| check.holds);
    (ok, serde_json::to_vec(&Verdict { ok, checks }).unwrap_or_default().into())
}

const fn status_of(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

impl Site {
    pub(crate) fn new(
        node: Arc<dyn Node>,
        limits: Limits,
        hosts: Hosts,
        counters: Arc<Counters>,
        leaving: watch::Receiver<bool>,
    ) -> Rc<Self> {
        Rc::new(Self {
            node,
            limits,
            hosts,
            page: Page::new(page::html()),
            history: RefCell::new(History::new(limits.points)),
            metrics: Fresh::new(limits.metrics_age),
            overview: Fresh::new(limits.overview_age),
            life: Fresh::new(limits.metrics_age),
            past: Fresh::new(limits.metrics_age),
            seats: Seats::new(limits.readers, Arc::clone(&counters)),
            events: watch::Sender::default(),
            counters,
            leaving,
        })
    }

    /// What is to be done each beat: a point for the curves, and an event where somebody looks.
    pub(crate) async fn beat(&self) {
        self.history.borrow_mut().push(self.node.point());
        if !self.seats.is_empty() {
            let event = events::overview(&self.overview().await);
            let _ = self.events.send(event);
        }
    }

    /// The answer to a request.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Content> {
        let refused = self.refused(&request);
        let mut response = match refused {
            Ok(route) => {
                self.counters.request(route);
                self.show(route, &request).await
            }
            Err(refused) => {
                let (why, response) = *refused;
                self.counters.refuse(why);
                response
            }
        };
        let policy = self.page.policy.clone();
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        response
    }

    /// What is asked for, or why it is not shown.
    fn refused<B>(&self, request: &Request<B>) -> Result<Route, Box<(Refused, Response<Content>)>> {
        let (headers, uri) = (request.headers(), request.uri());
        let mut said = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or(""));
        let (Some(host), None) = (said.next(), said.next()) else {
            let text = "one Host header is needed";
            return Err(Box::new((Refused::Host, sentence(StatusCode::BAD_REQUEST, text))));
        };
        // A request can also be made out to a whole address.
        let made_out = uri.authority().is_none_or(|whole| self.hosts.allow(whole.as_str()));
        if !self.hosts.allow(host) || !made_out {
            let text = "this name is not known here: ask by address, or start the node with \
                        --http-host NAME";
            return Err(Box::new((Refused::Host, sentence(StatusCode::FORBIDDEN, text))));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "all there is to do here is to look: GET or HEAD";
            let mut response = sentence(StatusCode::METHOD_NOT_ALLOWED, text);
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            // Whatever else it sends is not waited for.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            return Err(Box::new((Refused::Method, response)));
        }
        let route = Route::ALL.into_iter().find(|route| route.path() == uri.path());
        let Some(route) = route else {
            let paths = Route::ALL.map(Route::path).join(" ");
            let text = format!("nothing is here; there are {paths}");
            return Err(Box::new((Refused::Path, sentence(StatusCode::NOT_FOUND, &text))));
        };
        let is_foreign = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
        if is_foreign && route != Route::Page {
            let text = "pages from elsewhere are shown nothing";
            return Err(Box::new((Refused::Site, sentence(StatusCode::FORBIDDEN, text))));
        }
        Ok(route)
    }

    async fn show<B>(&self, route: Route, request: &Request<B>) -> Response<Content> {
        match route {
            Route::Page => self.page.answer(request.headers()),
            Route::Metrics => whole(StatusCode::OK, media::METRICS, self.metrics().await),
            Route::Life => {
                let node = &self.node;
                let (ok, json) = self.life.get(async { verdict(&node.life().await) }).await;
                whole(status_of(ok), media::JSON, json)
            }
            Route::Readiness => {
                let (ok, json) = verdict(&self.node.readiness());
                whole(status_of(ok), media::JSON, json)
            }
            Route::Overview => whole(StatusCode::OK, media::JSON, self.overview().await),
            Route::History => {
                let json = self.past.get(async { self.history.borrow().json().into() }).await;
                whole(StatusCode::OK, media::JSON, json)
            }
            Route::Events if request.method() == Method::HEAD => {
                answer::of(StatusCode::OK, media::EVENTS, Content::Whole(None))
            }
            Route::Events => self.stream(),
        }
    }

    fn stream(&self) -> Response<Content> {
        let feed = Feed {
            events: self.events.subscribe(),
            leaving: self.leaving.clone(),
            heartbeat: self.limits.heartbeat,
        };
        match Events::new(&self.seats, feed) {
            Some(events) => answer::of(StatusCode::OK, media::EVENTS, Content::Events(events)),
            None => {
                self.counters.refuse(Refused::Readers);
                let text = format!("{} readers are all that is served", self.limits.readers);
                let mut response = sentence(StatusCode::SERVICE_UNAVAILABLE, &text);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
                response
            }
        }
    }

    async fn metrics(&self) -> Bytes {
        let render = async {
            self.counters.metrics_rendered.add(1);
            Bytes::from(exposition::render(&self.node.metrics()))
        };
        self.metrics.get(render).await
    }

    async fn overview(&self) -> Bytes {
        let render = async {
            self.counters.overviews_rendered.add(1);
            let overview = self.node.overview().await;
            Bytes::from(serde_json::to_vec(&overview).unwrap_or_default())
        };
        self.overview.get(render).await
    }
}
