//! Listening sockets: bound first, so that ports are known and conflicts show before anything
//! starts; opened to peers only once shards stand behind them.

use crate::plan::Plan;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen,
        socket_with, sockopt,
    },
};
use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{fs::FileTypeExt, net::UnixStream},
    },
    path::{Path, PathBuf},
};

/// Connections that the OS holds until a shard accepts them.
const BACKLOG: i32 = 4096;

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// TCP, with its real port.
    Tcp(SocketAddr),
    /// The same, under TLS.
    Tls(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Tls(address) => write!(f, "tls {address}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
        }
    }
}

/// All sockets of a node, bound. Unix sockets disappear from the file system with it.
#[derive(Debug)]
pub(crate) struct Bound {
    places: Vec<Place>,
    /// Sockets by shard. TCP sockets are one per shard and address, so that the OS spreads
    /// connections; a Unix socket cannot be, and is shared.
    sockets: Vec<Vec<OwnedFd>>,
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
        Place::Tcp(_) | Place::Tls(_) => "--listen (port 0 takes a free one)",
        Place::Unix(_) => "--uds",
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
    attempt()
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
    attempt().map_err(|error| explain(&Place::Unix(path.to_owned()), error))
}

impl Bound {
    /// Binds everything the plan names.
    ///
    /// # Errors
    /// The first address that cannot be had, with the way out.
    pub(crate) fn new(plan: &Plan) -> Result<Self, String> {
        let shards = plan.shard_cpus.len();
        let mut bound =
            Self { places: Vec::new(), sockets: (0..shards).map(|_| Vec::new()).collect() };
        for address in &plan.listen {
            let (place, sockets) = tcp_for_shards(*address, shards)?;
            let place = match place {
                Place::Tcp(address) if plan.security.is_secure(&address) => Place::Tls(address),
                other => other,
            };
            bound.places.push(place);
            for (of_shard, socket) in bound.sockets.iter_mut().zip(sockets) {
                of_shard.push(socket);
            }
        }
        if let Some(path) = &plan.uds {
            let socket = unix(path)?;
            bound.places.push(Place::Unix(path.clone()));
            for of_shard in &mut bound.sockets {
                of_shard.push(
                    socket.try_clone().map_err(|error| format!("{}: {error}", path.display()))?,
                );
            }
        }
        Ok(bound)
    }

    /// Where, in the order of the plan.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Opens all sockets to peers and hands them over, by shard, each with its place.
    ///
    /// # Errors
    /// An address that was taken since it was bound.
    pub(crate) fn open(&mut self) -> Result<Vec<Vec<(OwnedFd, Place)>>, String> {
        for of_shard in &self.sockets {
            for (socket, place) in of_shard.iter().zip(&self.places) {
                listen(socket, BACKLOG).map_err(|error| explain(place, error))?;
            }
        }
        let places = &self.places;
        let sockets = std::mem::take(&mut self.sockets);
        Ok(sockets
            .into_iter()
            .map(|of_shard| of_shard.into_iter().zip(places.iter().cloned()).collect())
            .collect())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for place in &self.places {
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
        let settings = Settings { listen, shards: Some(shards), ..Settings::default() };
        Plan::new(&settings, &[0], 0).expect("stands")
    }

    fn port(bound: &Bound) -> SocketAddr {
        match &bound.places()[0] {
            Place::Tcp(address) | Place::Tls(address) => *address,
            Place::Unix(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn port_zero_becomes_a_real_port_that_all_shards_share() {
        let mut bound = Bound::new(&plan(&["127.0.0.1:0", "[::1]:0"], 3)).expect("binds");
        let address = port(&bound);
        assert_ne!(address.port(), 0);
        let sockets = bound.open().expect("opens");
        assert_eq!(sockets.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        TcpStream::connect(address).expect("open");
    }

    #[test]
    fn a_taken_port_is_named_with_the_way_out_even_by_a_sharing_node() {
        for shards in [1, 2] {
            let mut first = Bound::new(&plan(&["127.0.0.1:0"], shards)).expect("binds");
            let address = port(&first).to_string();
            let _sockets = first.open().expect("opens");
            for others in [1, 2] {
                let error = Bound::new(&plan(&[&address], others)).expect_err("taken");
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
        let mut first = Bound::new(&plan).expect("replaces the stale file");
        let _sockets = first.open().expect("opens");
        assert!(Bound::new(&plan).expect_err("in use").contains("--uds"));
        drop(first);
        assert!(!path.exists());
        fs::write(&path, b"precious").expect("writes");
        assert!(Bound::new(&plan).is_err());
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
        fs::remove_file(&path).expect("removes");
    }
}
