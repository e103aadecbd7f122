//! Fleets over io_uring against a small node on real sockets. Counts only: how long things take on
//! a busy machine says nothing.

use blast::agents::{
    self, Config, Report,
    config::{Behaviours, Capability},
};
use fleet::World;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::{HashMap, HashSet},
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind, frame,
    mesh::{BEAT_LEN, PerAgent, Template, Trinary, write_beat_reply},
    payload::{
        mesh::{Ack, AgentHeartbeat, AgentRegistered, AgentRegistration, Coordinate, Place},
        open,
    },
};

const MS: u64 = 1_000_000;

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the agents are asked, and what the node saw of them.
#[derive(Debug, Default)]
struct Book {
    /// Agents of all connections.
    handles: AtomicU32,
    /// Keeps every agent out.
    refuses: bool,
    /// From the registration to the target moment; `None` asks nothing.
    lead: Option<u64>,
    /// Time to live of what is asked, from the registration.
    ttl_ms: u32,
    ids: Mutex<HashSet<[u8; 16]>>,
    able: AtomicU32,
    beats: AtomicU32,
    acks: Mutex<Vec<Seen>>,
}

/// An answer.
#[derive(Clone, Debug)]
struct Seen {
    handle: u32,
    state: Option<Trinary>,
    detail: String,
    /// On the agent's clock: from the target moment to the act.
    late: i64,
    processing: u64,
}

impl Book {
    fn acks_by_handle(&self) -> HashMap<u32, Vec<Seen>> {
        let mut all: HashMap<u32, Vec<Seen>> = HashMap::new();
        for ack in self.acks.lock().expect("sound").iter() {
            all.entry(ack.handle).or_default().push(ack.clone());
        }
        all
    }
}

/// A node whose connections end with their peers.
fn node(book: &Arc<Book>) -> client::Addr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").into();
    let book = book.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let book = book.clone();
            thread::spawn(move || {
                stream.set_nodelay(true).expect("an option");
                let _ = serve(&stream, &book);
            });
        }
    });
    addr
}

fn serve(stream: &TcpStream, book: &Book) -> std::io::Result<()> {
    let (mut from, mut to) = (BufReader::new(stream), stream);
    let mut payload = client::Buffer::new();
    loop {
        let mut head = [0; HEADER_LEN];
        from.read_exact(&mut head)?;
        let header = *Header::peek(&head).expect("32 bytes");
        payload.resize(header.payload_len() as usize);
        from.read_exact(payload.as_mut_slice())?;
        let arrived = now();
        assert_eq!(header.checksum(), wire::check::crc16(payload.as_slice()));
        match header.kind().expect("a known kind") {
            Kind::AgentRegistration => {
                let asked = open::<AgentRegistration>(payload.as_slice()).expect("sound");
                let mut answer = AgentRegistered { heartbeat_s: 0.2, ..Default::default() };
                for agent in asked.agents.iter() {
                    let fault = if book.refuses { ErrorCode::Overloaded.code() } else { 0 };
                    assert!(book.ids.lock().expect("sound").insert(agent.agent_id), "ids differ");
                    book.able.fetch_add(agent.capabilities.len() as u32, Relaxed);
                    let handle = book.handles.fetch_add(1, Relaxed);
                    let place = Place { handle, generation: 3, fault, ..Place::default() };
                    answer.places.push(Place { agent_id: agent.agent_id, ..place });
                }
                answer.sent_ns = now();
                let mut bytes = Vec::new();
                frame::append(&mut bytes, &answer, header.message_id(), 0).expect("fits");
                coordinate(book, &answer.places, &mut bytes);
                to.write_all(&bytes)?;
            }
            Kind::AgentHeartbeat => {
                let beat = open::<AgentHeartbeat>(payload.as_slice()).expect("sound");
                book.beats.fetch_add(1, Relaxed);
                let mut bytes = [0; BEAT_LEN];
                let _ = write_beat_reply(&mut bytes, beat, header.message_id(), 0, arrived, now());
                to.write_all(&bytes)?;
            }
            Kind::Ack => {
                let ack = open::<Ack>(payload.as_slice()).expect("sound");
                book.acks.lock().expect("sound").push(Seen {
                    handle: ack.handle.to_native(),
                    state: Trinary::from_code(ack.state),
                    detail: ack.conflict_detail.to_string(),
                    late: ack.acted_ns.to_native() as i64 - ack.target_own_ns.to_native() as i64,
                    processing: ack.processing_ns.to_native(),
                });
            }
            other => panic!("agents do not send {other}"),
        }
    }
}

/// Asks every agent that was just registered.
fn coordinate(book: &Book, places: &[Place], out: &mut Vec<u8>) {
    let Some(lead) = book.lead else { return };
    let sent = now();
    let message = Coordinate {
        message_id: [9; 16],
        target_ns: sent + lead,
        ttl_ms: book.ttl_ms,
        created_ns: 1_000 * MS,
        hold: true,
        ..Coordinate::default()
    };
    let template = Template::new(&message, sent).expect("encodes");
    for place in places {
        let agent =
            PerAgent { handle: place.handle, generation: place.generation, ..Default::default() };
        let from = out.len();
        out.resize(from + template.frame_len(), 0);
        let len = template.write(&mut out[from..], 77, sent, &agent);
        assert_eq!(len, template.frame_len());
    }
}

/// Runs a fleet until `enough`, or for a minute.
fn run(
    book: &Arc<Book>,
    count: u32,
    change: impl FnOnce(&mut Config),
    enough: fn(&Book) -> bool,
) -> Report {
    let mut config = Config::new(node(book), count);
    config.duration = Some(Duration::from_secs(60));
    change(&mut config);
    let stop = Arc::new(AtomicBool::new(false));
    let (watched, ended) = (book.clone(), stop.clone());
    thread::spawn(move || {
        while !enough(&watched) {
            thread::sleep(Duration::from_millis(5));
        }
        ended.store(true, Relaxed);
    });
    agents::run(config, &stop).expect("a report")
}

#[test]
fn every_agent_registers_holds_acts_and_answers_once() {
    for (count, per_connection) in [(250, 100), (40, 1)] {
        let book = Arc::new(Book { lead: Some(400 * MS), ..Book::default() });
        let change = |config: &mut Config| {
            config.per_connection = per_connection;
            config.capabilities = vec![Capability { name: "see".to_owned(), share: 1.0 }];
        };
        let enough = |book: &Book| {
            let handles = book.handles.load(Relaxed) as usize;
            handles > 0
                && book.acks.lock().expect("sound").len() >= handles
                && book.beats.load(Relaxed) > 20
                && handles >= 40
        };
        let report = run(&book, count, change, enough);
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.registered, book.able.load(Relaxed)), (u64::from(count), count));
        let acks = book.acks_by_handle();
        assert_eq!(acks.len(), count as usize);
        for (handle, seen) in acks {
            assert_eq!(seen.len(), 1, "agent {handle}");
            assert_eq!(seen[0].state, Some(Trinary::Ready));
            assert!(seen[0].late >= 0, "agent {handle} was early on its own clock");
        }
        let all = &report.classes["all"];
        assert_eq!((all.orders, all.ready, all.conflicts), (count.into(), count.into(), 0));
        assert_eq!(report.counts["acks"], u64::from(count));
        assert!(report.counts["beat_answers"] > 0);
    }
}

#[test]
fn a_modelled_network_skews_clocks_and_the_truth_is_known_all_the_same() {
    let book = Arc::new(Book { lead: Some(1_500 * MS), ..Book::default() });
    let change = |config: &mut Config| {
        config.world = World::Datacentre;
        config.threads = Some(1);
    };
    let enough = |book: &Book| book.acks.lock().expect("sound").len() >= 120;
    let report = run(&book, 120, change, enough);
    assert!(report.is_clean(), "{report}");
    let all = &report.classes["all"];
    assert_eq!((all.orders, all.ready), (120, 120));
    assert!(all.on_time.expect("answers") > 0.9, "{report}");
    for (name, class) in report.classes.iter().filter(|(name, _)| **name != "all") {
        let oracle = class.oracle.as_ref().expect("a model");
        assert_eq!(oracle.dials.len(), 2, "class {name}");
    }
    let worked = book.acks.lock().expect("sound").iter().filter(|ack| ack.processing > MS).count();
    assert_eq!(worked, 120);
}

#[test]
fn misbehaviour_is_as_asked_for() {
    let book = Arc::new(Book { lead: Some(300 * MS), ..Book::default() });
    let change = |config: &mut Config| {
        config.behaviours = Behaviours { conflict: 1.0, twice: 1.0, ..Behaviours::default() };
    };
    let enough = |book: &Book| book.acks.lock().expect("sound").len() >= 120;
    let report = run(&book, 60, change, enough);
    assert_eq!(report.classes["all"].conflicts, 60);
    for (handle, seen) in book.acks_by_handle() {
        assert_eq!(seen.len(), 2, "agent {handle}");
        assert_eq!(seen[0].state, Some(Trinary::Conflict));
        assert!(!seen[0].detail.is_empty());
    }

    let book = Arc::new(Book { lead: Some(300 * MS), ..Book::default() });
    let change = |config: &mut Config| {
        config.behaviours = Behaviours { crash: 1.0, ..Behaviours::default() };
        config.per_connection = 1;
        config.duration = Some(Duration::from_secs(2));
    };
    let report = run(&book, 20, change, |_| false);
    assert_eq!(report.counts["agents_crashed"], 20);
    assert!(book.acks.lock().expect("sound").is_empty());

    let book = Arc::new(Book { lead: Some(300 * MS), ..Book::default() });
    let change = |config: &mut Config| {
        config.behaviours = Behaviours { vanish: 1.0, ..Behaviours::default() };
        config.duration = Some(Duration::from_secs(1));
    };
    let report = run(&book, 20, change, |_| false);
    assert_eq!(report.counts["agents_vanished"], 20);
    assert!(book.acks.lock().expect("sound").is_empty());
}

#[test]
fn meshmsg_06_nothing_is_done_after_its_time_to_live() {
    let book = Arc::new(Book { lead: Some(500 * MS), ttl_ms: 100, ..Book::default() });
    let change = |config: &mut Config| config.duration = Some(Duration::from_secs(2));
    let report = run(&book, 50, change, |_| false);
    assert_eq!(report.counts["orders_expired"], 50);
    assert!(book.acks.lock().expect("sound").is_empty());
}

#[test]
fn refusals_are_counted_and_make_the_run_unclean() {
    let book = Arc::new(Book { refuses: true, ..Book::default() });
    let change = |config: &mut Config| config.duration = Some(Duration::from_millis(100));
    let report = run(&book, 30, change, |_| false);
    assert!(!report.is_clean());
    assert_eq!((report.registered, report.counts["agents_refused"]), (0, 30));
    assert_eq!(report.counts[ErrorCode::Overloaded.name()], 30);
}

#[test]
fn planned_heartbeats_are_answered() {
    let book = Arc::new(Book::default());
    let change = |config: &mut Config| config.beats_per_second = Some(2_000.0);
    let report = run(&book, 200, change, |book| book.beats.load(Relaxed) > 1_000);
    assert!(report.is_clean(), "{report}");
    assert!(report.counts["beat_answers"] > 500, "{report}");
    assert!(report.beat_us.p50.is_some());
}

#[test]
fn a_node_that_is_not_there_is_no_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").into();
    drop(listener);
    let stop = Arc::new(AtomicBool::new(false));
    assert!(agents::run(Config::new(addr, 10), &stop).is_err());
}
