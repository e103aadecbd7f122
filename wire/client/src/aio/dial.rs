//! From a name and a port to a connection: all addresses of the name, IPv6 first.

use crate::policy::race::Race;
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
};

/// A TCP connection to whichever address of the name answers first.
pub(crate) async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    race(lookup_host((host, port)).await?, TcpStream::connect).await.and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

/// A QUIC connection, likewise. With `early` it may be one whose handshake is still under way, and
/// the news of its end.
pub(crate) async fn quic(
    host: &str,
    port: u16,
    config: &quinn::ClientConfig,
    early: bool,
) -> io::Result<(quinn::Connection, Option<quinn::ZeroRttAccepted>)> {
    let dial = |address| shake(address, host.to_owned(), config.clone(), early);
    race(lookup_host((host, port)).await?, dial).await
}

async fn shake(
    address: SocketAddr,
    host: String,
    config: quinn::ClientConfig,
    early: bool,
) -> io::Result<(quinn::Connection, Option<quinn::ZeroRttAccepted>)> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = quinn::Endpoint::client(local)?;
    let mut connecting = endpoint.connect_with(config, address, &host).map_err(io::Error::other)?;
    if early {
        connecting = match connecting.into_0rtt() {
            Ok((connection, accepted)) => return Ok((connection, Some(accepted))),
            Err(connecting) => connecting,
        };
    }
    let connection = connecting.await.map_err(|fault| match fault {
        quinn::ConnectionError::TimedOut => io::ErrorKind::TimedOut.into(),
        other => io::Error::other(other),
    })?;
    Ok((connection, None))
}

/// Carries out a [`Race`].
pub(crate) async fn race<T, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    dial: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut race = Race::new(addresses, Instant::now());
    let mut running = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        while let Some(address) = race.start(Instant::now()) {
            running.spawn(dial(address));
        }
        if race.is_lost() {
            return Err(last);
        }
        let wake = race.wake();
        let next = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into());
        tokio::select! {
            Some(done) = running.join_next() => match done.map_err(io::Error::other) {
                Ok(Ok(won)) => return Ok(won),
                Ok(Err(fault)) | Err(fault) => {
                    last = fault;
                    race.failed(Instant::now());
                }
            },
            () = next, if wake.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Which of these addresses is connected to.
    fn winner(addresses: Vec<SocketAddr>) -> io::Result<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(race(addresses, TcpStream::connect))?.peer_addr()
    }

    #[test]
    fn trans_08_ipv6_where_there_is_any_and_ipv4_where_not() {
        let four = TcpListener::bind("127.0.0.1:0").expect("IPv4");
        let place = four.local_addr().expect("an address");
        let refused: SocketAddr = (Ipv6Addr::LOCALHOST, place.port()).into();
        assert_eq!(winner(vec![refused, place]).expect("IPv4 answers"), place);
        // A host without IPv6 has shown what there is to show.
        if let Ok(six) = TcpListener::bind("[::1]:0") {
            let wanted = six.local_addr().expect("an address");
            assert_eq!(winner(vec![place, wanted]).expect("IPv6 answers"), wanted);
        }
        drop(four);
        assert!(winner(vec![place]).is_err() && winner(vec![]).is_err());
    }
}
