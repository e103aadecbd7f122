//! A shard of a mesh over the real driver: volleys over sockets, sleep and waking, and what a
//! scheduled send costs in memory and system calls.

use crate::{rig::connect, steady::taken};
use dataplane_core::{
    Limits, NodeStats, Shard, Stats,
    driver::{ConnId, Driver, Time},
    memory::Geometry,
    mesh_port::{Down, MeshEnd, Up, port},
    schedule::{ScheduledSend, Volley, VolleyReport},
    turn,
};
use dataplane_uring::{
    Bell, Command, Commander, Commands, Config, PlainMemory, Policy, UringDriver, Workers,
    listen_tcp,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
};
use wire::{
    HEADER_LEN, Header, Kind,
    mesh::{BEAT_LEN, PerAgent, Template},
    payload::mesh::{AgentHeartbeat, Coordinate},
};

const GEOMETRY: Geometry = Geometry {
    small_slots: 64,
    small_request: 1 << 10,
    small_reply: 1 << 10,
    bulk_slots: 4,
    bulk_request: 64 << 10,
    bulk_reply: 4 << 10,
    chunks: 64,
    chunk_len: 16 << 10,
};

/// A shard with its driver, on whichever thread made it.
struct Node {
    shard: Shard,
    memory: PlainMemory,
    driver: UringDriver,
    stats: Arc<Stats>,
    address: SocketAddr,
    _commander: Commander,
}

/// The mesh's side.
struct Mesh {
    end: MeshEnd,
    shard: Arc<Bell>,
    own: Arc<Bell>,
}

fn start(policy: Policy) -> (Node, Mesh) {
    let listener = TcpListener::from(listen_tcp(([127, 0, 0, 1], 0).into(), 256).unwrap());
    let address = listener.local_addr().unwrap();
    let memory = PlainMemory::new(GEOMETRY).unwrap();
    let (commander, commands) = Commands::new(4).unwrap();
    let config = Config { accepted: 128, policy, ..Config::default() };
    let mut driver = UringDriver::new(&config, memory.places(), Workers::none(), commands).unwrap();
    commander.send(Command::Listen(listener.into())).unwrap();
    let (port, end) = port(4_096, 256);
    let (shard_bell, own) = (Arc::new(Bell::new().unwrap()), Arc::new(Bell::new().unwrap()));
    driver.join_mesh(Arc::clone(&shard_bell), Arc::clone(&own));
    let stats = Stats::new();
    let node = NodeStats::new(vec![Arc::clone(&stats)], 0);
    let limits = Limits { connections: 64, ..Limits::default() };
    let shard = Shard::new(limits, GEOMETRY, 0, Arc::clone(&stats), node).with_mesh(port, 100_000);
    let node = Node { shard, memory, driver, stats, address, _commander: commander };
    (node, Mesh { end, shard: shard_bell, own })
}

impl Node {
    /// Turns until `done`.
    fn run(&mut self, done: impl Fn(&Stats) -> bool) {
        for _ in 0..20_000_000 {
            if done(&self.stats) {
                return;
            }
            turn(&mut self.shard, &mut self.memory, &mut self.driver);
        }
        panic!("not done: {:?}", self.driver.counters());
    }
}

impl Mesh {
    fn push(&mut self, down: Down) {
        self.end.push(down).unwrap();
        self.shard.ring();
    }

    /// The next thing that comes up, slept for.
    fn next(&mut self) -> Up {
        loop {
            let seen = self.own.pushed();
            if let Some(up) = self.end.pop() {
                return up;
            }
            if self.own.park(seen) {
                let door = self.own.door();
                let mut fds = [rustix::event::PollFd::new(&**door, rustix::event::PollFlags::IN)];
                let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
                let woken = rustix::event::poll(&mut fds, Some(&limit)).unwrap();
                assert_eq!(woken, 1, "nothing came");
                door.silence();
            }
            self.own.unpark();
        }
    }

    fn report(&mut self) -> VolleyReport {
        loop {
            if let Up::VolleyDone(report) = self.next() {
                return *report;
            }
        }
    }
}

fn template() -> Template {
    Template::new(&Coordinate { payload: vec![1; 40], ..Coordinate::default() }, 0).unwrap()
}

fn volley(number: u32, sends: Vec<ScheduledSend>) -> Down {
    let volley = Volley::new(number, 0, template(), Time::MAX, 1, sends);
    Down::Volley(Box::new(volley))
}

fn send(at: Time, conn: u32, handle: u32) -> ScheduledSend {
    let agent = PerAgent { handle, generation: 1, lead_us: 1, expected_us: 2, confidence: 0.9 };
    ScheduledSend { at, conn: ConnId(conn), life: 1, agent }
}

/// Message ids and `sent_ns` of the next frames.
fn read(client: &mut TcpStream, frames: usize) -> Vec<(u64, u64)> {
    #[repr(align(16))]
    struct Aligned([u8; 1_024]);
    let mut bytes = Aligned([0; 1_024]);
    let len = template().frame_len();
    (0..frames)
        .map(|_| {
            client.read_exact(&mut bytes.0[..len]).unwrap();
            let header = *Header::peek(&bytes.0).unwrap();
            assert_eq!(header.kind(), Ok(Kind::Coordinate));
            let payload = &bytes.0[HEADER_LEN..len];
            assert_eq!(header.checksum(), wire::check::crc16(payload));
            let read = wire::payload::open::<Coordinate>(payload).unwrap();
            (header.message_id(), read.sent_ns.to_native())
        })
        .collect()
}

/// The connections' indices, by the beats that they send: the handle is the client's number.
fn introduce(mesh: &mut Mesh, clients: &mut [TcpStream]) -> Vec<u32> {
    let mut conns = vec![0; clients.len()];
    for (number, client) in clients.iter_mut().enumerate() {
        let mut frame = Vec::new();
        let beat = AgentHeartbeat { handle: number as u32, ..AgentHeartbeat::default() };
        wire::frame::append(&mut frame, &beat, number as u64, 0).unwrap();
        assert_eq!(frame.len(), BEAT_LEN);
        client.write_all(&frame).unwrap();
        let Up::Frame { conn, life: 1, kind: Kind::AgentHeartbeat, message_id, .. } = mesh.next()
        else {
            panic!("a beat")
        };
        assert_eq!(message_id, number as u64);
        conns[number] = conn.0;
        let mut answer = [0; BEAT_LEN];
        client.read_exact(&mut answer).unwrap();
    }
    conns
}

/// A shard that sleeps whenever it can, on a thread of its own, and the mesh on this one.
#[test]
fn sched_08_a_volley_over_sockets_arrives_whole_and_in_order() {
    const AGENTS: u32 = 5_000;
    const CLIENTS: usize = 8;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, tells) = mpsc::channel();
    let seen = Arc::clone(&stop);
    let shard = thread::spawn(move || {
        let (mut node, mesh) = start(Policy::Balanced { spin_ns: 1_000 });
        told.send((mesh, node.address, node.driver.now())).unwrap();
        while !seen.load(Relaxed) {
            turn(&mut node.shard, &mut node.memory, &mut node.driver);
        }
        node.driver.counters().waits
    });
    let (mut mesh, address, _) = tells.recv().unwrap();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect();
    let conns = introduce(&mut mesh, &mut clients);
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64;
    // Long enough for the shard to fall asleep before.
    let start = now + 30_000_000;
    let at = |n: u32| start + u64::from(n / 16) * 20_000;
    let sends = (0..AGENTS).map(|n| send(at(n), conns[n as usize % CLIENTS], n)).collect();
    mesh.push(volley(1, sends));
    for (number, client) in clients.iter_mut().enumerate() {
        let frames = read(client, AGENTS as usize / CLIENTS);
        for (turn, (id, sent_ns)) in frames.into_iter().enumerate() {
            let n = (turn * CLIENTS + number) as u32;
            assert_eq!(id, 1 << 32 | u64::from(n));
            assert!(sent_ns >= at(n), "{n} left {} ns early", at(n) - sent_ns);
        }
    }
    let report = mesh.report();
    assert_eq!((report.number, report.sent), (1, AGENTS));
    // The end of a connection is told as well.
    drop(clients.remove(0));
    let Up::Gone { conn, life: 1 } = mesh.next() else { panic!("an end") };
    assert_eq!(conn.0, conns[0]);
    stop.store(true, Relaxed);
    mesh.push(Down::Close { conn: ConnId(0), life: 99 });
    assert!(shard.join().unwrap() > 0, "it slept");
}

#[test]
fn rate_04_scheduled_sends_take_no_memory_and_few_system_calls() {
    const CLIENTS: u32 = 16;
    const PER_ROUND: u32 = 1_024;
    const ROUNDS: u32 = 30;
    let (mut node, mut mesh) = start(Policy::Latency);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(node.address)).collect();
    node.run(|stats| stats.open.get() == u64::from(CLIENTS));
    let len = template().frame_len();
    let mut room = vec![0; len * (PER_ROUND / CLIENTS) as usize];
    let mut round = |node: &mut Node, mesh: &mut Mesh, number: u32| {
        let now = node.driver.now() + 200_000;
        // 64 moments, at each of them one frame for every connection.
        let at = |n: u32| now + u64::from(n / CLIENTS) * 5_000;
        let sends = (0..PER_ROUND).map(|n| send(at(n), n % CLIENTS, n)).collect();
        mesh.push(volley(number, sends));
        let before = taken();
        let (fired, out) = (node.stats.schedule_fired.get(), node.stats.bytes_out.get());
        node.run(|stats| stats.schedule_fired.get() == fired + u64::from(PER_ROUND));
        node.run(|stats| stats.bytes_out.get() == out + u64::from(PER_ROUND) * len as u64);
        let taken = taken() - before;
        for client in &mut clients {
            client.read_exact(&mut room).unwrap();
        }
        taken
    };
    (0..3).for_each(|number| _ = round(&mut node, &mut mesh, number));
    let calls = node.driver.counters().syscalls();
    let taken: u64 = (3..ROUNDS).map(|number| round(&mut node, &mut mesh, number)).sum();
    assert_eq!(taken, 0, "memory taken by scheduled sends");
    let calls = node.driver.counters().syscalls() - calls;
    let messages = u64::from((ROUNDS - 3) * PER_ROUND);
    assert!(calls * 4 <= messages, "{calls} system calls for {messages} messages");
    // Every report comes up in the end.
    node.run(|stats| stats.schedule_pending.get() == 0);
    (0..3).for_each(|_| _ = turn(&mut node.shard, &mut node.memory, &mut node.driver));
    let reports = std::iter::from_fn(|| mesh.end.pop());
    assert_eq!(reports.filter(|up| matches!(up, Up::VolleyDone(_))).count() as u32, ROUNDS);
}
