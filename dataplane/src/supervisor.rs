//! What this process tells the supervisor above it (systemd, or whoever speaks its protocol): lines
//! in a datagram to the socket that `NOTIFY_SOCKET` names. Without one, nothing is said.
//!
//! The keep-alive is earned: it is sent only when the control thread has turned and every shard has
//! answered since the last one. A process that was succeeded says nothing any more, because its
//! words would count for its successor.

use crate::{say, shards::Shards};
use rustix::net::SendFlags;
use std::{
    cell::Cell,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    rc::Rc,
    time::Duration,
};
use tokio::time::sleep;

/// The variable that names the socket; workers do not get it.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";
/// Microseconds of silence after which the supervisor ends the service.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// Between two keep-alives where nobody says how often. A process that takes over is not told,
/// although its service is watched.
const BEAT: Duration = Duration::from_secs(5);
/// Shortest and longest time between two.
const BEAT_BOUNDS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60));
/// Longest that a message may wait for a supervisor that does not read.
const SEND_MAX: Duration = Duration::from_secs(2);

/// The line to the supervisor.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    beat: Duration,
    silent: Cell<bool>,
}

impl Supervisor {
    /// As the environment says. A socket that cannot be reached is no reason not to serve.
    pub(crate) fn of_environment() -> Rc<Self> {
        let watchdog = std::env::var(WATCHDOG).ok();
        let socket = std::env::var_os(SOCKET).and_then(|name| {
            let reached = connect(&name);
            reached
                .inspect_err(|error| {
                    say::note(format!("{SOCKET}={}: {error}; not supervised", name.display()));
                })
                .ok()
        });
        Rc::new(Self::new(socket, beat(watchdog.as_deref())))
    }

    const fn new(socket: Option<UnixDatagram>, beat: Duration) -> Self {
        Self { socket, beat, silent: Cell::new(false) }
    }

    /// What the node does, for people.
    pub(crate) fn status(&self, what: &str) {
        self.tell(&format!("STATUS={}", one_line(what)));
    }

    /// The node serves. Where it took over, it is the service's process from now on.
    pub(crate) fn ready(&self, took_over: bool, what: &str) {
        let main =
            if took_over { format!("MAINPID={}\n", std::process::id()) } else { String::new() };
        self.tell(&format!("{main}READY=1\nSTATUS={}", one_line(what)));
    }

    /// The node has read its certificates again, since this moment of the monotonic clock.
    pub(crate) fn reloaded(&self, begun: rustix::time::Timespec) {
        let begun_us = begun.tv_sec * 1_000_000 + begun.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={begun_us}"));
        self.tell("READY=1");
    }

    /// The node ends.
    pub(crate) fn stopping(&self, what: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(what)));
    }

    /// Another process speaks for the service from now on.
    pub(crate) fn hush(&self) {
        self.silent.set(true);
    }

    fn line(&self) -> Option<&UnixDatagram> {
        self.socket.as_ref().filter(|_| !self.silent.get())
    }

    /// It lives. Where there is no room for that, nobody reads it, and nobody waits here.
    fn beats(&self) {
        if let Some(socket) = self.line() {
            let _ = rustix::net::send(socket, b"WATCHDOG=1", SendFlags::DONTWAIT);
        }
    }

    fn tell(&self, lines: &str) {
        let Some(socket) = self.line() else { return };
        if let Err(error) = socket.send(lines.as_bytes()) {
            say::note(format!("the supervisor does not listen: {error}"));
        }
    }

    /// Keep-alives until the runtime ends: one for each round in which every shard has answered.
    pub(crate) async fn keep_alive(self: Rc<Self>, shards: Shards) {
        if self.socket.is_none() {
            return;
        }
        let mut answers = shards.call();
        let mut missing = shards.0.len();
        loop {
            sleep(self.beat).await;
            missing -= answers.try_iter().count().min(missing);
            if missing == 0 {
                self.beats();
                answers = shards.call();
                missing = shards.0.len();
            }
        }
    }
}

/// A path, or a name in the kernel's own space behind `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor a name that begins with @")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_MAX))?;
    Ok(socket)
}

/// A quarter of the supervisor's patience.
fn beat(watchdog: Option<&str>) -> Duration {
    let patience = watchdog.and_then(|text| text.parse().ok()).map(Duration::from_micros);
    patience.map_or(BEAT, |patience| patience / 4).clamp(BEAT_BOUNDS.0, BEAT_BOUNDS.1)
}

/// A line of its own stays one.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_uring::Commands;

    /// A supervisor's end and the node's.
    fn line() -> (UnixDatagram, Rc<Supervisor>) {
        let (theirs, ours) = UnixDatagram::pair().expect("a pair");
        theirs.set_nonblocking(true).expect("a switch");
        (theirs, Rc::new(Supervisor::new(Some(ours), BEAT_BOUNDS.0)))
    }

    fn heard(at: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 512];
        let got = at.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..got]).into_owned())
    }

    #[test]
    fn ops_messages_are_those_of_the_protocol() {
        let (theirs, node) = line();
        node.ready(false, "serving\nMAINPID=1");
        assert_eq!(heard(&theirs).as_deref(), Some("READY=1\nSTATUS=serving MAINPID=1"));
        node.ready(true, "serving");
        let own = format!("MAINPID={}\nREADY=1\nSTATUS=serving", std::process::id());
        assert_eq!(heard(&theirs), Some(own));
        node.stopping("draining");
        assert_eq!(heard(&theirs).as_deref(), Some("STOPPING=1\nSTATUS=draining"));
        node.hush();
        node.stopping("of a process that was succeeded");
        assert_eq!(heard(&theirs), None);
    }

    #[test]
    fn ops_sockets_have_paths_or_names_and_beats_are_bounded() {
        for name in ["", "notify", "vsock:2:1234"] {
            assert!(connect(OsStr::new(name)).is_err(), "{name}");
        }
        let name = format!("@butterfly-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name[1..]).expect("a name");
        let theirs = UnixDatagram::bind_addr(&address).expect("binds");
        connect(OsStr::new(&name)).expect("reaches").send(b"READY=1").expect("sends");
        assert_eq!(heard(&theirs).as_deref(), Some("READY=1"));
        assert_eq!(beat(Some("20000000")), Duration::from_secs(5));
        assert_eq!([beat(None), beat(Some("soon"))], [BEAT; 2]);
        assert_eq!([beat(Some("0")), beat(Some("1"))], [BEAT_BOUNDS.0; 2]);
        assert_eq!(beat(Some(&u64::MAX.to_string())), BEAT_BOUNDS.1);
    }

    /// What the supervisor heard of keep-alives in twenty rounds, of two shards of which so many
    /// turn.
    fn alive(turning: usize) -> usize {
        let (theirs, node) = line();
        let (commanders, commands): (Vec<_>, Vec<_>) =
            (0..2).map(|_| Commands::new(8).expect("a door")).unzip();
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).expect("io_uring");
        runtime.block_on(async {
            tokio_uring::spawn(node.keep_alive(Shards(commanders)));
            for _ in 0..20 {
                commands.iter().take(turning).for_each(|shard| while shard.answer_one() {});
                sleep(BEAT_BOUNDS.0).await;
            }
        });
        std::iter::from_fn(|| heard(&theirs)).filter(|line| line == "WATCHDOG=1").count()
    }

    #[test]
    fn ops_a_supervisor_that_does_not_read_holds_up_no_keep_alive() {
        let (theirs, node) = line();
        let socket = node.line().expect("a line");
        socket.set_nonblocking(true).expect("a switch");
        let waiting = std::iter::from_fn(|| socket.send(b"STATUS=more").ok()).count();
        // From here on, whatever waits for room waits for ever.
        socket.set_nonblocking(false).expect("a switch");
        node.beats();
        let read = std::iter::from_fn(|| heard(&theirs)).count();
        assert_eq!(read, waiting, "the one that found no room is gone");
        node.beats();
        assert_eq!(heard(&theirs).as_deref(), Some("WATCHDOG=1"));
    }

    #[test]
    fn ops_a_shard_that_does_not_turn_gets_no_keep_alive() {
        assert!(alive(2) > 1, "alive");
        assert_eq!(alive(1), 0, "one hangs");
    }
}
