//! Where a client is: one notion of it for limits, pauses, trusted proxies, plugins and logs.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use http::HeaderMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{config::Network, shorten::shortened};

/// The header in which proxies name who they heard from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// How often it is said that the header cannot be read. Every request may bring one.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// How much of what cannot be read is shown.
const MAX_SHOWN_CHARS: usize = 100;

/// The part of an IPv6 address that names the network.
const NETWORK: u128 = !(u64::MAX as u128);

/// Where translators put IPv4 addresses (RFC 6052): `64:ff9b::/96`.
const TRANSLATED: u128 = 0x0064_ff9b << 96;

/// The address of a client. An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is
/// the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientAddress(IpAddr);

/// What a client cannot choose freely: its IPv4 address, or the network (/64) of its IPv6 address,
/// of which everybody gets a whole one. Limits and pauses count by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientAddress {
    /// What counts as one client.
    pub fn network(self) -> ClientNetwork {
        ClientNetwork(match self.0 {
            IpAddr::V6(address) => IpAddr::V6(network(address)),
            v4 => v4,
        })
    }

    /// The address, an IPv4 one as such.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

fn network(address: Ipv6Addr) -> Ipv6Addr {
    let bits = address.to_bits();
    if bits & !u128::from(u32::MAX) == TRANSLATED {
        // All of IPv4 is in one /64 there.
        return address;
    }
    Ipv6Addr::from_bits(bits & NETWORK)
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ClientNetwork {
    /// The address, or the first one of the network.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// The proxies in front of the server, which are believed.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    warned: Mutex<Option<Instant>>,
}

/// A client as proxies name it.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    address: ClientAddress,
    /// What stands where the next address should.
    unreadable: Option<String>,
}

impl TrustedProxies {
    /// The proxies of these networks.
    pub fn new(networks: Vec<Network>) -> Self {
        Self {
            networks,
            warned: Mutex::default(),
        }
    }

    /// The address of the client whose request came from `peer`: the peer's, or what trusted proxies
    /// say of it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let Named {
            address,
            unreadable,
        } = self.named(peer.into(), headers);
        if let Some(text) = unreadable
            && self.is_time_to_warn()
        {
            let text = shortened(&text, MAX_SHOWN_CHARS);
            tracing::warn!(
                proxy = %address,
                "X-Forwarded-For of a trusted proxy cannot be read, its address counts for its clients': {text:?}"
            );
        }
        address
    }

    /// Each proxy adds who it heard from at the end of `X-Forwarded-For`; the last one that is not
    /// itself a trusted proxy is the client. What stands before it, anybody could have written.
    fn named(&self, peer: ClientAddress, headers: &HeaderMap) -> Named {
        let mut address = peer;
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let texts = lines.map(|line| String::from_utf8_lossy(line.as_bytes()));
        for text in texts {
            // Lists may have empty elements, which mean nothing.
            let hops = text.rsplit(',').map(str::trim);
            for hop in hops.filter(|hop| !hop.is_empty()) {
                if !self.trusts(address) {
                    break;
                }
                match parse(hop) {
                    Some(named) => address = named,
                    None => {
                        return Named {
                            address,
                            unreadable: Some(hop.to_owned()),
                        };
                    }
                }
            }
        }
        Named {
            address,
            unreadable: None,
        }
    }

    /// Whether somebody at this address is a proxy of ours.
    pub(crate) fn trusts(&self, address: ClientAddress) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|network| network.contains(address.ip()))
    }

    fn is_time_to_warn(&self) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock();
        let is_time = warned.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
        if is_time {
            *warned = Some(now);
        }
        is_time
    }
}

/// An address as proxies write it: alone, with a port, in brackets, in quotes.
fn parse(hop: &str) -> Option<ClientAddress> {
    let quoted = hop.strip_prefix('"').and_then(|hop| hop.strip_suffix('"'));
    let hop = quoted.unwrap_or(hop).trim();
    let bracketed = || {
        let address = hop.strip_prefix('[')?.strip_suffix(']')?;
        address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = hop.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(ClientAddress::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_network_is_one_client_however_many_addresses_it_has() {
        for (one, other, same) in [
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("64:ff9b::10.0.0.1", "64:ff9b::10.0.0.2", false),
            ("::1", "::2", true),
        ] {
            let networks = [one, other].map(|text| address(text).network());
            assert_eq!(networks[0] == networks[1], same, "{one} {other}");
        }
    }

    #[test]
    fn an_ipv4_address_is_shown_as_one() {
        for (written, shown) in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
        ] {
            assert_eq!(address(written).to_string(), shown);
        }
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (hop, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7:51234", Some("203.0.113.7")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("\"[2001:db8::1]:443\"", Some("2001:db8::1")),
            ("\"203.0.113.7\"", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("[::ffff:203.0.113.7]:80", Some("203.0.113.7")),
            ("unknown", None),
            ("_hidden", None),
            ("203.0.113.7:", None),
            ("203.0.113.7:99999", None),
            ("[203.0.113.7]", None),
            ("[2001:db8::1", None),
            ("203.0.113", None),
            ("\"", None),
        ] {
            assert_eq!(parse(hop), expected.map(address), "{hop}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let proxies = TrustedProxies::new(networks.into());
        for (peer, lines, client, unreadable) in [
            ("1.1.1.1", &["2.2.2.2"][..], "1.1.1.1", None),
            ("1.1.1.1", &["garbage"], "1.1.1.1", None),
            ("10.0.0.1", &[], "10.0.0.1", None),
            ("10.0.0.1", &["2.2.2.2"], "2.2.2.2", None),
            ("::ffff:10.0.0.1", &["2.2.2.2:80"], "2.2.2.2", None),
            ("10.0.0.1", &["::ffff:10.0.0.2, 2.2.2.2"], "2.2.2.2", None),
            ("10.0.0.1", &["2.2.2.2, ::ffff:10.0.0.2"], "2.2.2.2", None),
            (
                "10.0.0.1",
                &["6.6.6.6, 2.2.2.2 , 10.0.0.2"],
                "2.2.2.2",
                None,
            ),
            (
                "10.0.0.1",
                &["6.6.6.6", "2.2.2.2", "10.0.0.2:1"],
                "2.2.2.2",
                None,
            ),
            (
                "10.0.0.1",
                &["6.6.6.6, 2.2.2.2, , 10.0.0.2,"],
                "2.2.2.2",
                None,
            ),
            ("fd00::1", &["[2001:db8::1]:443"], "2001:db8::1", None),
            ("10.0.0.1", &["10.0.0.3"], "10.0.0.3", None),
            ("10.0.0.1", &["garbage, 2.2.2.2"], "2.2.2.2", None),
            (
                "10.0.0.1",
                &["2.2.2.2, garbage"],
                "10.0.0.1",
                Some("garbage"),
            ),
            (
                "10.0.0.1",
                &["2.2.2.2", "unknown,10.0.0.2"],
                "10.0.0.2",
                Some("unknown"),
            ),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let named = Named {
                address: address(client),
                unreadable: unreadable.map(str::to_owned),
            };
            assert_eq!(
                proxies.named(address(peer), &headers),
                named,
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_warned_of_once_in_a_while() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(proxies.is_time_to_warn());
        assert!(!proxies.is_time_to_warn());
        *proxies.warned.lock() = Instant::now().checked_sub(WARNING_INTERVAL);
        assert!(proxies.is_time_to_warn());
    }
}
