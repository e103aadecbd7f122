//! A node under TLS as an operator meets it: its own authority, peers with and without
//! certificates, and certificates replaced while requests go on.

use crate::rig::{Folder, Node, PATIENCE, request, run, words};
use client::{Client, Options};
use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tls::{
    Files, Identity,
    ca::{self, Authority, Leaf, Request},
};
use wire::{Dtype, HEADER_LEN, Header, Kind, Role, Roles, payload::TensorWork};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// `butterfly ca` with these arguments, which must succeed.
fn authority(folder: &Path, action: &str, args: &[&str]) -> String {
    let dir = folder.to_str().expect("text");
    let output = run(&[&["ca", action, "--dir", dir], args].concat());
    assert!(output.status.success(), "{args:?}: {}", words(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A node under TLS, its counters behind a plain Unix socket, and a client's certificate.
struct Secure {
    folder: Folder,
    node: Node,
}

impl Secure {
    fn start(args: &[&str]) -> Self {
        let folder = Folder::new();
        let pki = folder.file("pki");
        authority(&pki, "init", &[]);
        authority(&pki, "issue", &["--name", "node-1", "--role", "node"]);
        authority(&pki, "issue", &["--name", "ann", "--role", "client,operator"]);
        let file = |name: &str| pki.join(name).to_str().expect("text").to_owned();
        let socket = folder.file("node.sock").to_str().expect("text").to_owned();
        let (ca, cert, key) = (file("ca.pem"), file("node-1.pem"), file("node-1.key"));
        let flags = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key, "--uds", &socket];
        let mut all = flags.to_vec();
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        let node = Node::start(&all);
        Self { folder, node }
    }

    fn pki(&self) -> std::path::PathBuf {
        self.folder.file("pki")
    }

    fn config(&self, name: &str) -> Arc<ClientConfig> {
        tls::client_config(&Files::of(&self.pki(), name)).expect("certificates")
    }

    fn port(&self) -> u16 {
        let (kind, place) = self.node.places[0].split_once(' ').expect("kind and place");
        assert_eq!(kind, "tls");
        place.rsplit_once(':').expect("a port").1.parse().expect("a number")
    }

    fn total(&self, name: &str) -> u64 {
        let last = self.node.places.len() - 1;
        let mut client =
            Client::connect(&self.node.addr_of(last), Options::default()).expect("connects");
        client.metrics().expect("figures").total(name).unwrap_or(0)
    }

    fn await_total(&self, name: &str, least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.total(name) < least {
            assert!(Instant::now() < deadline, "{name} stays under {least}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A connection to the node, by the node's name.
fn connect(config: &Arc<ClientConfig>, port: u16) -> Stream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    socket.set_nodelay(true).expect("no delay");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let name = ServerName::try_from("node-1").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
    StreamOwned::new(session, socket)
}

/// Sends a request and reads its answer; what went wrong, otherwise.
fn ask(stream: &mut Stream, id: u64) -> Result<(), String> {
    let rows = [7; 4 * 64 * 4];
    let say = |error: std::io::Error| error.to_string();
    stream.write_all(&request(id, TensorWork::echo(Dtype::F32, 4, 64), &rows)).map_err(say)?;
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).map_err(say)?;
    let header = Header::peek(&head).ok_or("no header")?;
    let mut payload = vec![0; header.payload_len() as usize];
    stream.read_exact(&mut payload).map_err(say)?;
    let is_answer = header.kind() == Ok(Kind::QueryResponse) && header.message_id() == id;
    if is_answer { Ok(()) } else { Err(format!("{header:?}")) }
}

#[test]
fn sec_03_a_node_serves_those_with_a_certificate_of_its_authority_and_nobody_else() {
    let secure = Secure::start(&["--listen", "0.0.0.0:0"]);
    let mut ann = connect(&secure.config("ann"), secure.port());
    (0..10).for_each(|id| ask(&mut ann, id).expect("an answer"));
    // A row that goes to the bulk lane.
    let rows = vec![3; 1 << 20];
    ann.write_all(&request(99, TensorWork::echo(Dtype::F32, 1, 1 << 18), &rows)).expect("sends");
    let mut head = [0; HEADER_LEN];
    ann.read_exact(&mut head).expect("an answer");
    let len = Header::peek(&head).expect("a header").payload_len() as usize;
    let mut payload = vec![0; len];
    ann.read_exact(&mut payload).expect("all of it");
    assert!(len > rows.len() && payload.windows(64).any(|part| part == [3; 64]));

    let mut plain = TcpStream::connect(("127.0.0.1", secure.port())).expect("connects");
    plain.write_all(zerocopy::IntoBytes::as_bytes(&wire::frame::ping(1, 0))).expect("sends");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.first().is_none_or(|kind| *kind == 21), "an alert at most: {answer:?}");

    let other = Folder::new();
    authority(&other.file("pki"), "init", &[]);
    authority(&other.file("pki"), "issue", &["--name", "ann", "--role", "client"]);
    let stranger =
        Files { ca: secure.pki().join("ca.pem"), ..Files::of(&other.file("pki"), "ann") };
    let stranger = tls::client_config(&stranger).expect("certificates");
    ask(&mut connect(&stranger, secure.port()), 1).expect_err("another authority");

    secure.await_total("butterfly_tls_handshakes_failed_total", 2);
    assert_eq!(secure.total("butterfly_tls_handshakes_total"), 1);
    assert_eq!(secure.total("butterfly_insecure"), 0);
    assert!(secure.total("butterfly_tls_poured_bytes_total") > 0);
    let until = secure.total("butterfly_certificate_expiry_timestamp_seconds");
    let days = (until - seconds(SystemTime::now())) / 86_400;
    assert!((29..=30).contains(&days), "{days} days");
}

#[test]
fn trans_03_plaintext_beyond_loopback_needs_a_word_and_shows() {
    let refused = run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused).contains("--tls-cert"), "{}", words(&refused));
    let node = Node::start(&["--listen", "0.0.0.0:0", "--insecure"]);
    let port = node.places[0].rsplit_once(':').expect("a port").1.to_owned();
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let mut client = Client::connect(&address, Options::default()).expect("connects");
    let metrics = client.metrics().expect("figures");
    assert_eq!(metrics.total("butterfly_insecure"), Some(1));
    assert_eq!(metrics.fact("security"), Some("plaintext, insecure"));
}

#[test]
fn loopback_can_stay_plain_beside_tls() {
    let secure = Secure::start(&["--plain-loopback", "--listen", "127.0.0.1:0"]);
    secure.node.raw().lives();
    assert!(secure.node.places[0].starts_with("tcp "));
}

#[test]
fn certificates_that_do_not_fit_are_refused_before_listening() {
    let folder = Folder::new();
    let pki = folder.file("pki");
    authority(&pki, "init", &[]);
    authority(&pki, "issue", &["--name", "ann", "--role", "client"]);
    let file = |name: &str| pki.join(name).to_str().expect("text").to_owned();
    let (ca, cert, key) = (file("ca.pem"), file("ann.pem"), file("ann.key"));
    for (cert, key, says) in [
        (&cert, &key, "--role node"),
        (&key, &key, "certificate"),
        (&"/nowhere.pem".to_owned(), &key, "/nowhere.pem"),
    ] {
        let output = run(&["serve", "--tls-ca", &ca, "--tls-cert", cert, "--tls-key", key]);
        assert_eq!(output.status.code(), Some(2));
        assert!(words(&output).contains(says), "{}", words(&output));
    }
}

#[test]
fn sec_03_a_node_joins_the_one_above_under_tls() {
    let above = Secure::start(&[]);
    let pki = above.pki();
    authority(&pki, "issue", &["--name", "node-2", "--role", "node", "--host", "127.0.0.1"]);
    // The one above is called by its address, which its certificate has to carry.
    let renew = ["--name", "node-1", "--role", "node", "--host", "127.0.0.1", "--force"];
    authority(&pki, "issue", &renew);
    above.node.signal(Signal::HUP);
    above.await_total("butterfly_certificate_reloads_total", 1);
    let file = |name: &str| pki.join(name).to_str().expect("text").to_owned();
    let (ca, cert, key) = (file("ca.pem"), file("node-2.pem"), file("node-2.key"));
    let parent = format!("tls://127.0.0.1:{}", above.port());
    let socket = above.folder.file("below.sock").to_str().expect("text").to_owned();
    let files = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let below = Node::start(&[&files[..], &["--uds", &socket, "--parent", &parent]].concat());
    below.await_note("joined the node above");
    assert_eq!(above.total("butterfly_tls_handshakes_total"), 1);
}

/// Rotation: a hundred new certificates for the node, while requests go on over connections that
/// stay and over new ones. None may fail.
#[test]
fn sec_03_a_hundred_reloads_under_load_fail_no_request() {
    const RELOADS: u64 = 100;
    let secure = Secure::start(&[]);
    let (config, port) = (secure.config("ann"), secure.port());
    let stop = AtomicBool::new(false);
    let (asked, connected) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = connect(&config, port);
                let mut id = 0;
                while !stop.load(Relaxed) {
                    id += 1;
                    ask(&mut stream, id).expect("a connection that stays");
                    asked.fetch_add(1, Relaxed);
                }
            });
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    ask(&mut connect(&config, port), 1).expect("a new connection");
                    connected.fetch_add(1, Relaxed);
                }
            });
        }
        let authority = Authority::open(&secure.pki()).expect("the authority");
        for reload in 1..=RELOADS {
            let renewed = authority.rotate(SystemTime::now(), true).expect("rotates");
            assert_eq!(renewed.len(), 2);
            secure.node.signal(Signal::HUP);
            secure.await_total("butterfly_certificate_reloads_total", reload);
        }
        // The last certificate is used as well.
        let before = connected.load(Relaxed);
        while connected.load(Relaxed) < before + 5 {
            thread::yield_now();
        }
        stop.store(true, Relaxed);
    });
    assert!(asked.into_inner() > RELOADS && connected.into_inner() > RELOADS / 10);
    assert_eq!(secure.total("butterfly_tls_handshakes_failed_total"), 0);
    assert_eq!(secure.total("butterfly_certificate_reload_failures_total"), 0);
}

/// Certificates end at the next handshake and not before: what is open goes on, whoever comes with
/// one that has expired is refused, on either side, and new files are all that it takes.
#[test]
fn sec_03_certificates_that_expire_under_load_end_at_the_handshake() {
    let secure = Secure::start(&[]);
    let (ann, port) = (secure.config("ann"), secure.port());
    let authority = Authority::open(&secure.pki()).expect("the authority");
    let issue = |name: &str, role, life| {
        let identity = Identity::new(name, Roles::of(role)).expect("a name");
        let request = Request { identity, hosts: Vec::new(), life };
        authority.issue(&request, SystemTime::now(), true).expect("issues")
    };
    let brief = issue("bob", Role::Client, Duration::from_secs(8));
    let bob = secure.config("bob");
    let load = Load::start(connect(&bob, port));

    load.goes_on();
    await_expiry(&brief);
    load.goes_on();
    ask(&mut connect(&bob, port), 1).expect_err("bob's certificate has expired");
    secure.await_total("butterfly_tls_handshakes_failed_total", 1);
    ask(&mut connect(&ann, port), 1).expect("ann's has not");

    let brief = issue("node-1", Role::Node, Duration::from_secs(1));
    secure.node.signal(Signal::HUP);
    secure.await_total("butterfly_certificate_reloads_total", 1);
    await_expiry(&brief);
    let refused = ask(&mut connect(&ann, port), 1).expect_err("the node's has expired");
    assert!(refused.contains("certificate expired"), "{refused}");
    load.goes_on();

    issue("bob", Role::Client, ca::LIFE);
    let renewed = issue("node-1", Role::Node, ca::LIFE);
    secure.node.signal(Signal::HUP);
    secure.await_total("butterfly_certificate_expiry_timestamp_seconds", seconds(until(&renewed)));
    for config in [&ann, &secure.config("bob")] {
        ask(&mut connect(config, port), 1).expect("a new connection");
    }
    load.goes_on();
    load.finish();
}

/// Requests one after the other over a connection that stays.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Load {
    fn start(mut stream: Stream) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let id = count.load(Relaxed) + 1;
                ask(&mut stream, id).expect("a connection that stays");
                count.store(id, Relaxed);
            }
        });
        Self { stop, asked, thread }
    }

    /// Waits for answers to requests that are sent from now on.
    fn goes_on(&self) {
        let before = self.asked.load(Relaxed);
        while self.asked.load(Relaxed) < before + 10 {
            assert!(!self.thread.is_finished(), "a request failed on the open connection");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(self) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("no request failed");
    }
}

fn until(files: &Files) -> SystemTime {
    Leaf::read(&files.cert).expect("a certificate").until
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Waits until nobody can take this certificate any more.
fn await_expiry(files: &Files) {
    let end = until(files) + Duration::from_secs(2);
    while let Ok(left) = end.duration_since(SystemTime::now()) {
        thread::sleep(left.max(Duration::from_millis(1)));
    }
}

#[test]
fn a_bad_certificate_is_reported_and_the_one_in_use_stays() {
    let secure = Secure::start(&[]);
    let cert = secure.pki().join("node-1.pem");
    fs::write(&cert, "no certificate").expect("writes");
    secure.node.signal(Signal::HUP);
    let note = secure.node.await_note("certificates: ");
    assert!(note.contains("node-1.pem") && note.contains("stay in use"), "{note}");
    ask(&mut connect(&secure.config("ann"), secure.port()), 1).expect("an answer");
    // A change of the files is noticed without a signal.
    authority(&secure.pki(), "issue", &["--name", "node-1", "--role", "node", "--force"]);
    secure.await_total("butterfly_certificate_reloads_total", 1);
}

#[test]
fn sec_01_the_authority_shows_what_it_issued_and_rotates_it() {
    let folder = Folder::new();
    let pki = folder.file("pki");
    authority(&pki, "init", &[]);
    authority(&pki, "issue", &["--name", "n", "--role", "node", "--host", "n.example,192.0.2.1"]);
    let report: serde_json::Value =
        serde_json::from_str(&authority(&pki, "show", &["--json"])).expect("json");
    let first = &report["certificates"][0];
    assert_eq!(first["name"], "n");
    assert_eq!(first["hosts"], serde_json::json!(["n.example", "192.0.2.1"]));
    assert_eq!(first["state"], "fresh");
    assert!(authority(&pki, "rotate", &[]).contains("0 certificates renewed"));
    assert!(authority(&pki, "rotate", &["--all"]).contains("renewed n\n1 certificate renewed"));
    assert!(authority(&pki, "show", &[]).contains("fresh"));
    let dir = pki.to_str().expect("text");
    for (args, says) in [
        (&["--name", "n", "--role", "node"][..], "--force"),
        (&["--name", "a b", "--role", "node"], "name"),
        (&["--name", "m", "--role", "king"], "king"),
        (&["--name", "m", "--role", "node", "--host", "x y"], "x y"),
    ] {
        let output = run(&[&["ca", "issue", "--dir", dir], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(words(&output).contains(says), "{}", words(&output));
    }
}
