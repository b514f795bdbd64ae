//! The server under test, as its clients see it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};

use crate::token;

/// Where the server is, and what it takes to be let in.
pub struct Target {
    /// What to call it.
    pub name: String,
    /// Where it listens: on this machine.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// What it checks tokens with.
    pub secret: String,
    /// What it lets backends in with.
    pub api_key: String,
}

impl Target {
    /// The path of the Socket.IO endpoint, with the protocol's version.
    pub fn endpoint(&self) -> &'static str {
        "/socket.io/?EIO=4"
    }

    /// A token for user `id`.
    pub fn token(&self, id: u64) -> String {
        token::sign(&self.secret, id)
    }
}

/// The address of `http://127.0.0.1:PORT`. Load goes nowhere else.
pub fn loopback(url: &str) -> Result<SocketAddr> {
    let host = url
        .strip_prefix("http://")
        .map(|host| host.trim_end_matches('/'));
    let address = host.and_then(|host| host.parse::<SocketAddr>().ok());
    match address {
        Some(address) if address.ip() == Ipv4Addr::LOCALHOST => Ok(address),
        _ => bail!(
            "{url:?} is not http://127.0.0.1:PORT: this tool loads servers on its own machine only"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded() {
        assert_eq!(loopback("http://127.0.0.1:3000/").unwrap().port(), 3000);
        for url in [
            "http://10.0.0.1:3000",
            "http://example.com",
            "http://localhost:3000",
            "https://127.0.0.1:3000",
            "http://127.0.0.1:3000@example.com",
            "http://0.0.0.0:3000",
            "127.0.0.1:3000",
        ] {
            assert!(loopback(url).is_err(), "{url}");
        }
    }
}
