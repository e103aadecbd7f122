//! Where a datagram came from and where it goes to, as the kernel writes it beside the bytes: a
//! socket address, and control messages (local address, congestion marks, length of joined
//! datagrams). Native byte order, 64-bit layouts.

use quinn_proto::{EcnCodepoint, Transmit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for an address of either family.
pub(super) const NAME_MAX: usize = size_of::<libc::sockaddr_in6>();
/// Room for all control messages that are asked for or sent.
pub(super) const CONTROL_MAX: usize = 128;

const HEAD: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = align_of::<libc::cmsghdr>();

const _: () = assert!(HEAD == 16 && ALIGN == 8, "control messages of 64-bit systems");

fn ints<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
pub(super) fn read_address(name: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(ints(name, 2)?);
    match i32::from(u16::from_ne_bytes(ints(name, 0)?)) {
        libc::AF_INET => Some((Ipv4Addr::from(ints::<4>(name, 4)?), port).into()),
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(ints(name, 4)?);
            let ip = Ipv6Addr::from(ints::<16>(name, 8)?);
            let scope = u32::from_ne_bytes(ints(name, 24)?);
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

/// Writes a `sockaddr_in` or `sockaddr_in6`; gives its length.
pub(super) fn write_address(address: SocketAddr, name: &mut [u8; NAME_MAX]) -> usize {
    name.fill(0);
    name[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[4..8].copy_from_slice(&SocketAddrV4::ip(&address).octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            name[4..8].copy_from_slice(&address.flowinfo().to_ne_bytes());
            name[8..24].copy_from_slice(&address.ip().octets());
            name[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            size_of::<libc::sockaddr_in6>()
        }
    }
}

/// What the kernel says of an arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The local address it was sent to.
    pub(super) to: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    /// Length of each datagram but the last, where several were joined.
    pub(super) each: Option<usize>,
}

/// Reads control messages; what is unknown or cut is passed over.
pub(super) fn read_control(mut bytes: &[u8]) -> Arrival {
    let mut arrival = Arrival::default();
    while let Some(len) = ints(bytes, 0).map(usize::from_ne_bytes)
        && let Some(level) = ints(bytes, 8).map(i32::from_ne_bytes)
        && let Some(kind) = ints(bytes, 12).map(i32::from_ne_bytes)
        && let Some(data) = bytes.get(HEAD..len)
    {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                arrival.to = ints::<4>(data, 8).map(|ip| Ipv4Addr::from(ip).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                arrival.to = ints::<16>(data, 0).map(|ip| Ipv6Addr::from(ip).into());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                arrival.ecn = data.first().and_then(|tos| EcnCodepoint::from_bits(tos & 3));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = ints(data, 0).map(i32::from_ne_bytes);
                arrival.ecn = class.and_then(|class| EcnCodepoint::from_bits(class as u8 & 3));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let each = ints(data, 0).map(i32::from_ne_bytes);
                arrival.each = each.and_then(|each| usize::try_from(each).ok()).filter(|n| *n > 0);
            }
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    arrival
}

/// Writes what a transmit asks for; gives the length.
pub(super) fn write_control(transmit: &Transmit, control: &mut [u8; CONTROL_MAX]) -> usize {
    control.fill(0);
    let mut at = 0;
    let mut put = |level: i32, kind: i32, data: &[u8]| {
        let message = &mut control[at..][..(HEAD + data.len()).next_multiple_of(ALIGN)];
        message[..8].copy_from_slice(&(HEAD + data.len()).to_ne_bytes());
        message[8..12].copy_from_slice(&level.to_ne_bytes());
        message[12..16].copy_from_slice(&kind.to_ne_bytes());
        message[HEAD..][..data.len()].copy_from_slice(data);
        at += message.len();
    };
    let ecn = transmit.ecn.map_or(0, |ecn| ecn as i32).to_ne_bytes();
    if transmit.destination.is_ipv4() {
        put(libc::IPPROTO_IP, libc::IP_TOS, &ecn);
    } else {
        put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &ecn);
    }
    if let Some(each) = transmit.segment_size.and_then(|each| u16::try_from(each).ok()) {
        put(libc::SOL_UDP, libc::UDP_SEGMENT, &each.to_ne_bytes());
    }
    match transmit.src_ip {
        Some(IpAddr::V4(ip)) => {
            let mut info = [0; size_of::<libc::in_pktinfo>()];
            info[4..8].copy_from_slice(&ip.octets());
            put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(ip)) => {
            let mut info = [0; size_of::<libc::in6_pktinfo>()];
            info[..16].copy_from_slice(&ip.octets());
            put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_survive() {
        for text in ["127.0.0.1:7171", "[::1]:7172", "[fe80::1%3]:9", "0.0.0.0:65535"] {
            let address = text.parse().expect("an address");
            let mut name = [0xAA; NAME_MAX];
            let len = write_address(address, &mut name);
            assert_eq!(read_address(&name[..len]), Some(address));
            assert_eq!(read_address(&name[..len / 2 - 1]), None);
        }
        assert_eq!(read_address(&[0; NAME_MAX]), None);
    }

    #[test]
    fn what_is_asked_of_a_send_is_what_an_arrival_would_say() {
        let mut control = [0; CONTROL_MAX];
        for (from, to) in [("10.0.0.1", "10.0.0.2:1"), ("fd00::1", "[fd00::2]:1")] {
            let src_ip = Some(from.parse().expect("an address"));
            let transmit = Transmit {
                destination: to.parse().expect("an address"),
                ecn: Some(EcnCodepoint::Ect0),
                size: 3000,
                segment_size: Some(1200),
                src_ip,
            };
            let len = write_control(&transmit, &mut control);
            let arrival = read_control(&control[..len]);
            assert_eq!(arrival.ecn, Some(EcnCodepoint::Ect0));
            // Only arrivals carry the joined length, and the address of a v4 arrival stands behind
            // the one that a send asks for.
            assert_eq!(arrival.each, None);
            if from.contains(':') {
                assert_eq!(arrival.to, src_ip);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_control(&bytes), read_address(&bytes));
        }

        #[test]
        fn short_and_wrong_lengths_end_the_list(len in 0..40_usize, rest in 0..40_usize) {
            let mut bytes = vec![0; 8 + rest];
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            prop_assert_eq!(read_control(&bytes).each, None);
        }
    }
}
