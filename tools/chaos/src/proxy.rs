//! A proxy on loopback that stands for the network: one thread, every connection a pair of pipes
//! with the weather that is set at the moment.

use crate::netem::{Pipe, Weather};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The longest sleep: how late a change of the weather may be noticed.
const SLEEP_MAX: Duration = Duration::from_millis(5);
/// Read at once.
const READ: usize = 64 << 10;
/// Connecting to a node that was just stopped must not hold up the others for long.
const CONNECT: Duration = Duration::from_millis(500);

/// What is set from outside.
#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    /// Which weather it is, counted, and how it is on the way to the node and from it.
    weather: Mutex<(u64, [Weather; 2])>,
    /// The last weather that the thread has seen.
    seen: AtomicU64,
    /// Counts up to cut all connections.
    cuts: AtomicU64,
    stop: AtomicBool,
}

/// The running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    place: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one on a free port of 127.0.0.1.
    pub(crate) fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let place = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            weather: Mutex::default(),
            seen: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            run(&listener, &seen, seed);
        })?;
        Ok(Self { shared, place, thread: Some(thread) })
    }

    /// Where clients connect.
    pub(crate) const fn place(&self) -> SocketAddr {
        self.place
    }

    /// Where new connections are led to.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Sets the weather towards the node and from it; it holds for every byte from now on.
    pub(crate) fn set(&self, there: Weather, back: Weather) {
        let number = {
            let mut weather = self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner);
            *weather = (weather.0 + 1, [there, back]);
            weather.0
        };
        while self.shared.seen.load(Relaxed) < number {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Cuts every connection at once, with what is on its way.
    pub(crate) fn cut(&self) {
        self.shared.cuts.fetch_add(1, Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One way of one connection.
#[derive(Debug)]
struct Way {
    pipe: Pipe,
    /// The reading side has ended.
    eof: bool,
    /// And the writing side was told.
    finished: bool,
}

/// A client's connection and the node's, and what is between.
#[derive(Debug)]
struct Pair {
    /// Client, node.
    ends: [TcpStream; 2],
    /// To the node, from the node.
    ways: [Way; 2],
}

impl Pair {
    fn new(client: TcpStream, upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let node = TcpStream::connect_timeout(&upstream, CONNECT)?;
        for end in [&client, &node] {
            end.set_nonblocking(true)?;
            end.set_nodelay(true)?;
        }
        let way = |seed| Way { pipe: Pipe::new(seed), eof: false, finished: false };
        Ok(Self { ends: [client, node], ways: [way(seed), way(seed ^ 1)] })
    }

    /// Moves what can be moved. False when the connection is over.
    fn turn(&mut self, now: Instant, weather: &[Weather; 2], buffer: &mut [u8]) -> bool {
        for (at, way) in self.ways.iter_mut().enumerate() {
            let (from, to) = (&self.ends[at], &self.ends[1 - at]);
            if !way.turn(now, &weather[at], (from, to), buffer) {
                return false;
            }
        }
        !self.ways.iter().all(|way| way.finished)
    }
}

impl Way {
    fn turn(
        &mut self,
        now: Instant,
        weather: &Weather,
        (mut from, mut to): (&TcpStream, &TcpStream),
        buffer: &mut [u8],
    ) -> bool {
        while !self.eof && self.pipe.room() >= buffer.len() {
            match from.read(buffer) {
                Ok(0) => self.eof = true,
                Ok(len) => self.pipe.push(now, weather, &buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        let mut broken = false;
        loop {
            let moved = self.pipe.pull(now, weather, |bytes| match to.write(bytes) {
                Ok(len) => len,
                Err(error) => {
                    broken = error.kind() != io::ErrorKind::WouldBlock;
                    0
                }
            });
            if broken {
                return false;
            }
            if moved == 0 {
                break;
            }
        }
        if self.eof && self.pipe.is_empty() && !self.finished {
            self.finished = true;
            // A peer that is gone already needs no word.
            let _ = to.shutdown(Shutdown::Write);
        }
        true
    }
}

fn run(listener: &TcpListener, shared: &Shared, seed: u64) {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut buffer = vec![0; READ];
    let (mut cuts, mut count) = (0, seed);
    while !shared.stop.load(Relaxed) {
        if cuts != shared.cuts.load(Relaxed) {
            cuts = shared.cuts.load(Relaxed);
            pairs.clear();
        }
        while let Ok((client, _)) = listener.accept() {
            let upstream = *shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
            count += 2;
            // Without a node behind it the connection ends, as a refused one would.
            pairs.extend(Pair::new(client, upstream, count));
        }
        let (number, weather) = *shared.weather.lock().unwrap_or_else(PoisonError::into_inner);
        shared.seen.store(number, Relaxed);
        let now = Instant::now();
        pairs.retain_mut(|pair| pair.turn(now, &weather, &mut buffer));
        rest(listener, &pairs, &weather);
    }
}

/// Sleeps until a socket has something, or something on its way is due.
fn rest(listener: &TcpListener, pairs: &[Pair], weather: &[Weather; 2]) {
    let now = Instant::now();
    let mut due = now + SLEEP_MAX;
    let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
    for pair in pairs {
        for (at, way) in pair.ways.iter().enumerate() {
            let next = way.pipe.next_due(now, &weather[at]);
            match next {
                // Due, and yet held: the socket takes no more.
                Some(next) if next <= now => {
                    fds.push(PollFd::new(&pair.ends[1 - at], PollFlags::OUT));
                }
                Some(next) => due = due.min(next),
                None => {}
            }
            if !way.eof && way.pipe.room() >= READ {
                fds.push(PollFd::new(&pair.ends[at], PollFlags::IN));
            }
        }
    }
    let left = due.saturating_duration_since(now);
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
    // An interrupted sleep is a short one.
    let _ = poll(&mut fds, Some(&limit));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Proxy, TcpStream, TcpStream) {
        let node = TcpListener::bind("127.0.0.1:0").expect("binds");
        let proxy = Proxy::start(node.local_addr().expect("bound"), 1).expect("starts");
        let client = TcpStream::connect(proxy.place()).expect("connects");
        let (server, _) = node.accept().expect("led on");
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(60))).expect("a bound");
        }
        (proxy, client, server)
    }

    #[test]
    fn bytes_go_both_ways_piece_by_piece_and_ends_are_told() {
        let (proxy, mut client, mut server) = pair();
        proxy.set(Weather { piece: 1, ..Weather::default() }, Weather::default());
        client.write_all(b"question").expect("sends");
        client.shutdown(Shutdown::Write).expect("ends");
        let mut asked = String::new();
        server.read_to_string(&mut asked).expect("whole, with its end");
        server.write_all(b"answer").expect("sends");
        drop(server);
        let mut said = String::new();
        client.read_to_string(&mut said).expect("whole, with its end");
        assert_eq!((asked.as_str(), said.as_str()), ("question", "answer"));
    }

    #[test]
    fn a_cut_ends_both_sides() {
        let (proxy, mut client, mut server) = pair();
        proxy.cut();
        let over = |end: &mut TcpStream| matches!(end.read(&mut [0; 8]), Ok(0) | Err(_));
        assert!(over(&mut client) && over(&mut server));
    }

    #[test]
    fn one_way_may_stand_still() {
        let (proxy, mut client, mut server) = pair();
        proxy.set(Weather { stalled: true, ..Weather::default() }, Weather::default());
        client.write_all(b"?").expect("sends");
        server.write_all(b"!").expect("sends");
        assert_eq!(client.read(&mut [0; 8]).expect("the other way moves"), 1);
        server.set_nonblocking(true).expect("set");
        assert!(server.read(&mut [0; 8]).is_err());
        proxy.set(Weather::default(), Weather::default());
        server.set_nonblocking(false).expect("set");
        assert_eq!(server.read(&mut [0; 8]).expect("moves again"), 1);
    }
}
