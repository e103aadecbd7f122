//! Listening sockets: bound first, so that ports are known and conflicts show before anything
//! starts; opened to peers only once shards stand behind them.

use crate::{http::HttpPlan, plan::Plan, security::Security};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen,
        socket_with, sockopt,
    },
};
use std::{
    fmt, fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::FileTypeExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Connections that the OS holds until a shard accepts them.
const BACKLOG: i32 = 4096;
/// The same for the page.
const HTTP_BACKLOG: i32 = 128;
/// How long an address in use is tried again. A node that was killed holds its sockets until the
/// kernel has torn down its rings, which is a moment after its end.
const RELEASE_MAX: Duration = Duration::from_secs(1);
/// Between two of these attempts.
const RELEASE_STEP: Duration = Duration::from_millis(10);

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// TCP, with its real port.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
    /// UDP for QUIC, with its real port.
    Quic(SocketAddr),
    /// TCP for the status page, with its real port.
    Http(SocketAddr),
}

impl Place {
    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("tcp", address) => address.parse().ok().map(Self::Tcp),
            ("unix", path) => Some(Self::Unix(path.into())),
            ("quic", address) => address.parse().ok().map(Self::Quic),
            ("http", address) => {
                let address = address.strip_prefix("http://")?.strip_suffix('/')?;
                address.parse().ok().map(Self::Http)
            }
            _ => None,
        }
    }
}

impl Place {
    /// True where peers have to speak TLS.
    pub(crate) fn is_secure(&self, security: &Security) -> bool {
        matches!(self, Self::Tcp(address) if security.is_secure(address))
    }

    /// As it is announced: `tls` in front of an address that speaks it.
    pub(crate) fn announced(&self, security: &Security) -> String {
        match self {
            Self::Tcp(address) if security.is_secure(address) => format!("tls {address}"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
            Self::Quic(address) => write!(f, "quic {address}"),
            Self::Http(address) => write!(f, "http http://{address}/"),
        }
    }
}

/// A listening socket and where it is bound.
pub(crate) type Bearing = (Place, OwnedFd);

/// All sockets of a node, bound. Unix sockets disappear from the file system with it, unless
/// another process has them as well.
#[derive(Debug)]
pub(crate) struct Bound {
    places: Vec<Place>,
    /// With the index of their place. TCP sockets are one per shard and address, so that the OS
    /// spreads connections; a Unix socket cannot be, and is shared.
    sockets: Vec<(usize, OwnedFd)>,
    shards: usize,
    given_away: bool,
}

/// Says which address cannot be had and what to do.
fn explain(place: &Place, error: Errno) -> String {
    let remedy = match error {
        Errno::ADDRINUSE => "; another process listens there: stop it, or choose another with ",
        Errno::ADDRNOTAVAIL => "; this host has no such address: choose another with ",
        Errno::ACCESS => "; this user may not: choose a port from 1024 on, or another path, with ",
        _ => "; choose another with ",
    };
    let flag = match place {
        Place::Tcp(_) => "--listen (port 0 takes a free one)",
        Place::Unix(_) => "--uds",
        Place::Quic(_) => "--quic (port 0 takes a free one)",
        Place::Http(_) => "--http (port 0 takes a free one, off none)",
    };
    format!("cannot listen on {place}: {}{remedy}{flag}", io::Error::from(error))
}

fn tcp(address: SocketAddr, shared_port: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared_port)?;
    // Accepted sockets inherit it: replies are coalesced by the shard, the OS need not wait for
    // more.
    sockopt::set_tcp_nodelay(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

fn bound_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)
}

/// Tries until the address is free, for a bounded time.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let deadline = Instant::now() + RELEASE_MAX;
    loop {
        match attempt() {
            Err(Errno::ADDRINUSE) if Instant::now() < deadline => thread::sleep(RELEASE_STEP),
            done => return done,
        }
    }
}

/// One socket per shard on the same port.
fn tcp_for_shards(address: SocketAddr, shards: usize) -> Result<(Place, Vec<OwnedFd>), String> {
    let attempt = || -> Result<(SocketAddr, Vec<OwnedFd>), Errno> {
        // The first binding is exclusive: sharing a port would also share it, silently, with
        // another node of this user.
        let alone = tcp(address, false)?;
        let real = bound_address(&alone)?;
        if shards == 1 {
            return Ok((real, vec![alone]));
        }
        drop(alone);
        let sockets = (0..shards).map(|_| tcp(real, true)).collect::<Result<_, _>>()?;
        Ok((real, sockets))
    };
    patiently(attempt)
        .map(|(real, sockets)| (Place::Tcp(real), sockets))
        .map_err(|error| explain(&Place::Tcp(address), error))
}

/// Removes a socket file that nobody listens on any more. Anything else at that path stays.
fn clear_stale(path: &Path) -> Result<(), Errno> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        fs::remove_file(path).map_err(|_| Errno::ACCESS)?;
    }
    Ok(())
}

fn unix(path: &Path) -> Result<OwnedFd, String> {
    let attempt = || -> Result<OwnedFd, Errno> {
        clear_stale(path)?;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    };
    patiently(attempt).map_err(|error| explain(&Place::Unix(path.to_owned()), error))
}

/// Takes the inherited sockets that serve a place that the plan names; port 0 stands for any.
fn claim(wanted: &Place, inherited: &mut Vec<Bearing>) -> Option<(Place, Vec<OwnedFd>)> {
    let fits = |place: &Place| match (wanted, place) {
        (Place::Tcp(wanted), Place::Tcp(have))
        | (Place::Quic(wanted), Place::Quic(have))
        | (Place::Http(wanted), Place::Http(have))
            if wanted.port() == 0 =>
        {
            wanted.ip() == have.ip()
        }
        _ => wanted == place,
    };
    let place = inherited.iter().map(|(place, _)| place).find(|place| fits(place))?.clone();
    let (taken, rest) = inherited.drain(..).partition(|(other, _)| *other == place);
    *inherited = rest;
    Some((place, Vec::into_iter(taken).map(|(_, socket)| socket).collect()))
}

fn quic(address: SocketAddr) -> Result<(Place, Vec<OwnedFd>), String> {
    let attempt = || -> Result<(Place, Vec<OwnedFd>), Errno> {
        let socket = dataplane_quic::bind_udp(address)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok((Place::Quic(bound_address(&socket)?), vec![socket]))
    };
    patiently(attempt).map_err(|error| explain(&Place::Quic(address), error))
}

/// The socket of the page. Where nobody named an address, what the process before had there will
/// do, and a free port instead of one that is taken.
fn http(plan: &HttpPlan, inherited: &mut Vec<Bearing>) -> Result<(Place, Vec<OwnedFd>), String> {
    let (place, any) = (Place::Http(plan.address), SocketAddr::new(plan.address.ip(), 0));
    let had = claim(&place, inherited)
        .or_else(|| plan.is_default.then(|| claim(&Place::Http(any), inherited)).flatten());
    if let Some(had) = had {
        return Ok(had);
    }
    let attempt = |address| -> Result<(Place, Vec<OwnedFd>), Errno> {
        let socket = tcp(address, false)?;
        // At once: two that only bind the same address both succeed, and the second to listen
        // fails. Whoever connects meanwhile waits.
        listen(&socket, HTTP_BACKLOG)?;
        Ok((Place::Http(bound_address(&socket)?), vec![socket]))
    };
    let bound = if plan.is_default {
        attempt(plan.address).or_else(|error| match error {
            Errno::ADDRINUSE => attempt(any),
            other => Err(other),
        })
    } else {
        patiently(|| attempt(plan.address))
    };
    bound.map_err(|error| explain(&place, error))
}

impl Bound {
    /// Binds everything the plan names, with inherited sockets where they fit. Inherited ones that
    /// the plan does not name are closed.
    ///
    /// # Errors
    /// The first address that cannot be had, with the way out.
    pub(crate) fn new(plan: &Plan, mut inherited: Vec<Bearing>) -> Result<Self, String> {
        let shards = plan.shard_cpus.len();
        let mut bound = Self { places: Vec::new(), sockets: Vec::new(), shards, given_away: false };
        for address in &plan.listen {
            let had = claim(&Place::Tcp(*address), &mut inherited);
            let (place, sockets) = had.map_or_else(|| tcp_for_shards(*address, shards), Ok)?;
            bound.add(place, sockets);
        }
        if let Some(path) = &plan.uds {
            let place = Place::Unix(path.clone());
            let sockets = match claim(&place, &mut inherited) {
                Some((_, sockets)) => sockets,
                None => vec![unix(path)?],
            };
            bound.add(place, sockets);
        }
        for address in &plan.quic {
            let had = claim(&Place::Quic(*address), &mut inherited);
            let (place, sockets) = had.map_or_else(|| quic(*address), Ok)?;
            bound.add(place, sockets);
        }
        if let Some(plan) = &plan.http {
            let (place, sockets) = http(plan, &mut inherited)?;
            bound.add(place, sockets);
        }
        Ok(bound)
    }

    fn add(&mut self, place: Place, sockets: Vec<OwnedFd>) {
        let at = self.places.len();
        self.places.push(place);
        self.sockets.extend(sockets.into_iter().map(|socket| (at, socket)));
    }

    /// Where, in the order of the plan.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Copies of the sockets of QUIC, each for a thread of its own.
    ///
    /// # Errors
    /// Too few descriptors.
    pub(crate) fn quic(&self) -> Result<Vec<(SocketAddr, OwnedFd)>, String> {
        let all = self.share().map_err(|error| format!("cannot serve quic: {error}"))?;
        let of_quic = |(place, socket)| match place {
            Place::Quic(address) => Some((address, socket)),
            Place::Tcp(_) | Place::Unix(_) | Place::Http(_) => None,
        };
        Ok(all.into_iter().filter_map(of_quic).collect())
    }

    /// A copy of the page's socket, which listens.
    ///
    /// # Errors
    /// Too few descriptors.
    pub(crate) fn http(&self) -> Result<Option<TcpListener>, String> {
        let of_http = |(at, _): &&(usize, OwnedFd)| matches!(self.places[*at], Place::Http(_));
        let Some((at, socket)) = self.sockets.iter().find(of_http) else { return Ok(None) };
        let place = &self.places[*at];
        let copy = socket.try_clone().map_err(|error| format!("{place}: {error}"))?;
        Ok(Some(copy.into()))
    }

    /// Opens the sockets of shards to peers; copies of them by shard. Each shard has one of each
    /// place, and each socket at least one shard.
    ///
    /// # Errors
    /// An address that was taken since it was bound, or too few descriptors.
    pub(crate) fn open(&self) -> Result<Vec<Vec<Bearing>>, String> {
        let mut by_shard: Vec<Vec<Bearing>> = (0..self.shards).map(|_| Vec::new()).collect();
        let is_other = |place: &Place| matches!(place, Place::Quic(_) | Place::Http(_));
        for (at, place) in self.places.iter().enumerate().filter(|(_, place)| !is_other(place)) {
            let of_place = self.sockets.iter().filter(|(index, _)| *index == at);
            let sockets: Vec<&OwnedFd> = of_place.map(|(_, socket)| socket).collect();
            for socket in &sockets {
                listen(socket, BACKLOG).map_err(|error| explain(place, error))?;
            }
            for turn in 0..sockets.len().max(self.shards) {
                let copy = sockets[turn % sockets.len()].try_clone();
                let copy = copy.map_err(|error| format!("{place}: {error}"))?;
                by_shard[turn % self.shards].push((place.clone(), copy));
            }
        }
        Ok(by_shard)
    }

    /// Copies of all sockets, for the process that takes over.
    ///
    /// # Errors
    /// The OS's: too few descriptors.
    pub(crate) fn share(&self) -> io::Result<Vec<Bearing>> {
        let copy =
            |(at, socket): &(usize, OwnedFd)| Ok((self.places[*at].clone(), socket.try_clone()?));
        self.sockets.iter().map(copy).collect()
    }

    /// Closes this end of all sockets: connections that nobody has accepted end, unless another
    /// process has the sockets as well.
    pub(crate) fn close(&mut self) {
        self.sockets.clear();
    }

    /// Another process serves the places from now on.
    pub(crate) fn give_away(mut self) {
        self.given_away = true;
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for place in self.places.iter().filter(|_| !self.given_away) {
            if let Place::Unix(path) = place {
                // Left behind, it would be cleared as stale by the next start.
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use std::net::TcpStream;

    fn plan(listen: &[&str], shards: u32) -> Plan {
        let listen = listen.iter().map(|text| (*text).to_owned()).collect();
        let http = Some("off".to_owned());
        let settings = Settings { listen, shards: Some(shards), http, ..Settings::default() };
        Plan::new(&settings, &[0], 0).expect("stands")
    }

    fn port(bound: &Bound) -> SocketAddr {
        match &bound.places()[0] {
            Place::Tcp(address) => *address,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn port_zero_becomes_a_real_port_that_all_shards_share() {
        let bound = Bound::new(&plan(&["127.0.0.1:0", "[::1]:0"], 3), Vec::new()).expect("binds");
        let address = port(&bound);
        assert_ne!(address.port(), 0);
        let sockets = bound.open().expect("opens");
        assert_eq!(sockets.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        TcpStream::connect(address).expect("open");
    }

    #[test]
    fn a_taken_port_is_named_with_the_way_out_even_by_a_sharing_node() {
        for shards in [1, 2] {
            let first = Bound::new(&plan(&["127.0.0.1:0"], shards), Vec::new()).expect("binds");
            let address = port(&first).to_string();
            let _sockets = first.open().expect("opens");
            for others in [1, 2] {
                let error = Bound::new(&plan(&[&address], others), Vec::new()).expect_err("taken");
                assert!(error.contains(&address) && error.contains("--listen"), "{error}");
            }
        }
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("butterfly-{}.sock", std::process::id()));
        let mut plan = plan(&[], 2);
        plan.listen.clear();
        plan.uds = Some(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "stale file");
        let first = Bound::new(&plan, Vec::new()).expect("replaces the stale file");
        let _sockets = first.open().expect("opens");
        assert!(Bound::new(&plan, Vec::new()).expect_err("in use").contains("--uds"));
        drop(first);
        assert!(!path.exists());
        fs::write(&path, b"precious").expect("writes");
        assert!(Bound::new(&plan, Vec::new()).is_err());
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
        fs::remove_file(&path).expect("removes");
    }

    #[test]
    fn a_successor_takes_the_sockets_that_its_plan_names_whatever_its_shards() {
        for (before, after) in [(1, 3), (3, 1), (2, 2)] {
            let first = Bound::new(&plan(&["127.0.0.1:0"], before), Vec::new()).expect("binds");
            let place = first.places()[0].clone();
            let _sockets = first.open().expect("opens");
            let second = plan(&["127.0.0.1:0", "[::1]:0"], after);
            let second = Bound::new(&second, first.share().expect("shares")).expect("inherits");
            assert_eq!(second.places()[0], place, "port 0 takes what the predecessor has");
            let by_shard = second.open().expect("opens");
            let inherited: usize = by_shard.iter().map(Vec::len).sum::<usize>() - after as usize;
            assert_eq!(inherited, before.max(after) as usize, "each in use, each shard served");
            drop(first);
            TcpStream::connect(port(&second)).expect("still open");
        }
    }

    #[test]
    fn a_successor_takes_the_sockets_of_quic_too() {
        let mut plan = plan(&["127.0.0.1:0"], 1);
        plan.quic = vec!["127.0.0.1:0".parse().expect("an address")];
        let first = Bound::new(&plan, Vec::new()).expect("binds");
        let second = Bound::new(&plan, first.share().expect("shares")).expect("inherits");
        assert_eq!(second.places(), first.places());
        let places: Vec<_> = first.places().iter().map(ToString::to_string).collect();
        let read: Option<Vec<_>> = places.iter().map(|text| Place::parse(text)).collect();
        assert_eq!(read.as_deref(), Some(first.places()), "as it is written to the successor");
        let ours = |bound: &Bound| bound.quic().expect("copies").remove(0).1;
        let (first, second) = (ours(&first), ours(&second));
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("open").st_ino;
        assert_eq!(inode(&first), inode(&second), "the very same");
    }

    /// A plan whose page is there, or anywhere where nobody says.
    fn shown(http: SocketAddr, is_default: bool) -> Plan {
        let mut plan = plan(&["127.0.0.1:0"], 1);
        plan.http = Some(HttpPlan { address: http, is_default, hosts: Vec::new() });
        plan
    }

    fn page(bound: &Bound) -> SocketAddr {
        match bound.places().last() {
            Some(Place::Http(address)) => *address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_that_nobody_placed_gives_way_and_one_that_was_placed_says_so() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let first = Bound::new(&shown(any, false), Vec::new()).expect("binds");
        let taken = page(&first);
        // Before the first one serves: bound alone, both would have it until they listen.
        let second = Bound::new(&shown(taken, true), Vec::new()).expect("gives way");
        assert_ne!(page(&second), taken);
        let error = Bound::new(&shown(taken, false), Vec::new()).expect_err("taken");
        assert!(error.contains(&taken.to_string()) && error.contains("--http"), "{error}");
        let listener = first.http().expect("copies").expect("there");
        TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
        // The shards' sockets are others.
        assert_eq!(first.open().expect("opens").iter().map(Vec::len).sum::<usize>(), 1);
    }

    #[test]
    fn a_successor_takes_the_page_where_the_one_before_had_it() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let first = Bound::new(&shown(any, false), Vec::new()).expect("binds");
        let taken = page(&first);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        for plan in [shown(taken, false), shown(any, false), shown(elsewhere, true)] {
            let second = Bound::new(&plan, first.share().expect("shares")).expect("inherits");
            assert_eq!(page(&second), taken);
        }
        let place = Place::Http(taken);
        assert_eq!(Place::parse(&place.to_string()), Some(place));
    }
}
