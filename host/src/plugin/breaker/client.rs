//! Who counts as one client.

use std::net::{IpAddr, Ipv6Addr};

/// What a client cannot choose freely: its IPv4 address, or the network of its IPv6 address, of
/// which everybody gets a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

/// The part of an IPv6 address that names the network.
const NETWORK: u128 = !(u64::MAX as u128);

impl Client {
    /// The client at an address.
    pub fn at(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
            v4 => v4,
        })
    }

    /// One of the lowest 62 bits. Clients may share one.
    pub fn sign(self) -> u64 {
        let bits = match self.0 {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        1 << (bits % 61)
    }
}
