//! A small server in the place of a node: the page, its JSON, and the stream, under the policy that
//! forbids everything but the page's own style and script.

use overview::{Check, Overview, Point};
use sha2::{Digest, Sha256};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};
use web::{Counters, Hosts, Later, Limits, Node, Running, exposition::Series};

/// What it answers, and who reads the stream.
#[derive(Debug, Default)]
struct State {
    overview: String,
    history: String,
    streams: Vec<TcpStream>,
    /// Streams that were ever asked for.
    opened: usize,
    /// Streams are answered with 503.
    refusing: bool,
}

/// The server. It lives as long as the test process.
#[derive(Debug)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    at: SocketAddr,
}

impl Server {
    /// Serves the page with this overview.
    pub(crate) fn start(overview: &Overview, history: &[Point]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let history = serde_json::to_string(history).expect("JSON");
        let state = State { overview: json(overview), history, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || answer(stream, &state));
            }
        });
        Self { state, at }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// A new overview, for who reads the stream and for who asks.
    pub(crate) fn publish(&self, overview: &Overview) {
        self.publish_text(json(overview));
    }

    /// The same with any text in the place of JSON.
    pub(crate) fn publish_text(&self, text: String) {
        let mut state = self.state();
        state.overview = text;
        let event = event(&state.overview);
        state.streams.retain_mut(|stream| stream.write_all(event.as_bytes()).is_ok());
    }

    /// Ends all streams; new ones are refused if `refusing`.
    pub(crate) fn cut(&self, refusing: bool) {
        let mut state = self.state();
        state.refusing = refusing;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// New streams are served again.
    pub(crate) fn mend(&self) {
        self.state().refusing = false;
    }

    /// Streams that were asked for so far.
    pub(crate) fn opened(&self) -> usize {
        self.state().opened
    }

    /// Streams whose reader is still there.
    pub(crate) fn readers(&self) -> usize {
        let mut state = self.state();
        state.streams.retain_mut(|stream| {
            // A reader that is gone has closed its side: there is an end to be read.
            let _ = stream.set_nonblocking(true);
            let here = !matches!(stream.read(&mut [0; 16]), Ok(0));
            let _ = stream.set_nonblocking(false);
            here
        });
        state.streams.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node behind the server of this package.
#[derive(Debug)]
pub(crate) struct Played(Overview);

impl Played {
    /// The server, and where it is.
    pub(crate) fn start(overview: &Overview) -> (Running, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let node = Arc::new(Self(overview.clone()));
        let counters = Arc::new(Counters::default());
        let hosts = Hosts::new(Vec::new());
        let running = web::start(listener, node, hosts, Limits::default(), counters);
        (running.expect("a thread"), format!("http://{at}/"))
    }
}

impl Node for Played {
    fn point(&self) -> Point {
        Point { at_ms: self.0.at_ms, rates: self.0.now }
    }

    fn overview(&self) -> Later<Overview> {
        let overview = self.0.clone();
        Box::pin(async { overview })
    }

    fn life(&self) -> Later<Vec<Check>> {
        Box::pin(async { Vec::new() })
    }

    fn readiness(&self) -> Vec<Check> {
        Vec::new()
    }

    fn metrics(&self) -> Series {
        Series::default()
    }
}

fn json(overview: &Overview) -> String {
    serde_json::to_string(overview).expect("JSON")
}

fn event(data: &str) -> String {
    format!("event: overview\ndata: {data}\n\n")
}

/// One request of a connection, which then ends unless it is a stream.
fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(path) = request(&stream) else { return };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = match path.as_str() {
        "/" => page(),
        "/api/overview" => whole("200 OK", "application/json", "", &state.overview),
        "/api/history" => whole("200 OK", "application/json", "", &state.history),
        "/events" => {
            state.opened += 1;
            if state.refusing {
                whole("503 Service Unavailable", "text/plain", "", "full")
            } else {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                            Cache-Control: no-store\r\nConnection: close\r\n\r\n";
                let text = format!("{head}retry: 1000\n\n{}", event(&state.overview));
                if stream.write_all(text.as_bytes()).is_ok() {
                    state.streams.push(stream);
                }
                return;
            }
        }
        _ => whole("404 Not Found", "text/plain", "", "not here"),
    };
    drop(state);
    let _ = stream.write_all(reply.as_bytes());
}

/// The path of a GET, its headers read and left aside.
fn request(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    first.strip_prefix("GET ")?.split(' ').next().map(str::to_owned)
}

fn whole(status: &str, kind: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
         X-Content-Type-Options: nosniff\r\n{headers}Connection: close\r\n\r\n{body}"
    )
}

/// The page under the strictest policy that it can live with.
fn page() -> String {
    let html = web::page::html();
    let policy = format!(
        "Content-Security-Policy: default-src 'none'; style-src '{}'; script-src '{}'; \
         img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
        hash(&html, "style"),
        hash(&html, "script")
    );
    whole("200 OK", "text/html", &policy, &html)
}

/// The hash of what stands between the tags, as a policy names it.
fn hash(html: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inside = html.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    let digest = Sha256::digest(inside.expect("the tag").0);
    format!("sha256-{}", base64(&digest))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
