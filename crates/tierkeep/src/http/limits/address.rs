//! Addresses: owns which address a request counts for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Peer(pub(in crate::http) SocketAddr);

/// The address in one element of `X-Forwarded-For`: an address, or one with a port.
pub(super) fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    Some(address.ok()?.to_canonical())
}

/// The network that counts as one caller: an IPv4 address, or the /64 of an IPv6 address.
pub(in crate::http) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
    }
}
