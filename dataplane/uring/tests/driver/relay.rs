//! Speaks TLS for clients that do not: plain bytes at one port, a driver under TLS behind it, and
//! rustls in between. Ends and resets are passed on as what they are.

use dataplane_core::driver::Caller;
use dataplane_uring::Gate;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, OnceLock},
    thread,
    time::SystemTime,
};
use tls::{
    Acceptor, Files, Identity,
    ca::{self, Authority, Request},
};
use wire::{Role, Roles};

/// Plain bytes that a relay holds for a client that does not read.
const HELD_MAX: usize = 64 << 10;
/// Identity number of the relay's client.
pub(crate) const ANN: u32 = 7;

/// A node and two clients of one authority, made once for all tests.
pub(crate) struct Party {
    pub(crate) node: Files,
    pub(crate) ann: Files,
    pub(crate) eve: Files,
}

pub(crate) fn party() -> &'static Party {
    static PARTY: OnceLock<Party> = OnceLock::new();
    PARTY.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("butterfly-relay-{}", std::process::id()));
        let now = SystemTime::now();
        let authority = Authority::create(&folder, "test", now, true).unwrap();
        let issue = |name: &str, role: Role| {
            let identity = Identity::new(name, Roles::of(role)).unwrap();
            let request = Request { identity, hosts: Vec::new(), life: ca::LIFE };
            authority.issue(&request, now, true).unwrap()
        };
        Party {
            node: issue("node", Role::Node),
            ann: issue("ann", Role::Client),
            eve: issue("eve", Role::Client),
        }
    })
}

/// Lets Ann in, and nobody else.
pub(crate) fn gate() -> Gate {
    let acceptor = Acceptor::new(party().node.clone()).unwrap();
    Gate::new(acceptor, Arc::new(identify))
}

fn identify(identity: &Identity) -> Option<Caller> {
    (identity.name() == "ann").then(|| Caller { identity: ANN, roles: identity.roles() })
}

/// A rustls client's side of a connection to the node.
pub(crate) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("node").unwrap()).unwrap()
}

/// Starts a relay in front of a driver; it lives as long as the process.
pub(crate) fn start(driver: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || run(&listener, driver));
    address
}

fn run(listener: &TcpListener, driver: SocketAddr) {
    let config = tls::client_config(&party().ann).unwrap();
    let mut pairs: Vec<Pair> = Vec::new();
    loop {
        while let Ok((plain, _)) = listener.accept() {
            // Where the driver has no room, the client is to see the end.
            if let Ok(secure) = TcpStream::connect(driver) {
                pairs.push(Pair::new(plain, secure, client(&config)));
            }
        }
        pairs.retain_mut(|pair| pair.step().is_some());
        wait(listener, &pairs);
    }
}

fn wait(listener: &TcpListener, pairs: &[Pair]) {
    let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
    for pair in pairs {
        let (plain, secure) = pair.interest();
        fds.push(PollFd::new(&pair.plain, plain));
        fds.push(PollFd::new(&pair.secure, secure));
    }
    let limit = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let _ = poll(&mut fds, Some(&limit));
}

struct Pair {
    plain: TcpStream,
    secure: TcpStream,
    session: ClientConnection,
    /// For the client.
    held: Vec<u8>,
    up_ended: bool,
    up_shut: bool,
    down_ended: bool,
    down_shut: bool,
}

fn reset(socket: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

impl Pair {
    fn new(plain: TcpStream, secure: TcpStream, session: ClientConnection) -> Self {
        for socket in [&plain, &secure] {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        Self {
            plain,
            secure,
            session,
            held: Vec::new(),
            up_ended: false,
            up_shut: false,
            down_ended: false,
            down_shut: false,
        }
    }

    fn interest(&self) -> (PollFlags, PollFlags) {
        let (mut plain, mut secure) = (PollFlags::empty(), PollFlags::empty());
        plain.set(PollFlags::IN, !self.up_ended && !self.session.wants_write());
        plain.set(PollFlags::OUT, !self.held.is_empty());
        secure.set(PollFlags::IN, !self.down_ended && self.held.len() < HELD_MAX);
        secure.set(PollFlags::OUT, self.session.wants_write());
        (plain, secure)
    }

    /// Moves what can be moved; `None` once there is nothing more to do.
    fn step(&mut self) -> Option<()> {
        self.up()?;
        self.down()?;
        (!(self.up_shut && self.down_shut)).then_some(())
    }

    /// A side is of no more use: the other learns of it as a reset.
    fn gone(&self) -> Option<()> {
        reset(&self.plain);
        reset(&self.secure);
        None
    }

    fn up(&mut self) -> Option<()> {
        let mut bytes = [0; 8 << 10];
        while !self.up_ended && !self.session.wants_write() && !self.session.is_handshaking() {
            match self.plain.read(&mut bytes) {
                Ok(0) => {
                    self.session.send_close_notify();
                    self.up_ended = true;
                }
                Ok(len) => self.session.writer().write_all(&bytes[..len]).unwrap(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.gone(),
            }
            self.flush()?;
        }
        self.flush()?;
        if self.up_ended && !self.up_shut && !self.session.wants_write() {
            self.up_shut = true;
            let _ = self.secure.shutdown(Shutdown::Write);
        }
        Some(())
    }

    fn flush(&mut self) -> Option<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.secure) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.gone(),
            }
        }
        Some(())
    }

    fn down(&mut self) -> Option<()> {
        while !self.down_ended && self.held.len() < HELD_MAX {
            match self.session.read_tls(&mut self.secure) {
                Ok(0) => self.down_ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.gone(),
            }
            let Ok(state) = self.session.process_new_packets() else { return self.gone() };
            let (here, ended) = (state.plaintext_bytes_to_read(), state.peer_has_closed());
            let at = self.held.len();
            self.held.resize(at + here, 0);
            self.session.reader().read_exact(&mut self.held[at..]).unwrap();
            self.down_ended |= ended;
        }
        while !self.held.is_empty() {
            match self.plain.write(&self.held) {
                Ok(len) => drop(self.held.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(_) => return self.gone(),
            }
        }
        if self.down_ended && !self.down_shut {
            self.down_shut = true;
            let _ = self.plain.shutdown(Shutdown::Write);
        }
        Some(())
    }
}
