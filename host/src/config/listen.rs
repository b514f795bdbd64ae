//! The address to listen on.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::Deserialize;

/// A host, as a name or an IP address, and a port: `127.0.0.1:3000`, `localhost:3000`,
/// `[::1]:3000`. Port 0 leaves the choice to the system.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen {
    host: String,
    port: u16,
}

impl Listen {
    /// The addresses it stands for, asking the system's resolver for a name; blocks while it
    /// does. Bind to these and judge these: a name may mean another address the next time.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    /// The name or address without the port, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Default for Listen {
    /// This machine only, so that a server without a secret can be tried.
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 3000,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                host: address.ip().to_string(),
                port: address.port(),
            });
        }
        if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
            return Err(format!(
                "invalid address {text:?}: write an IPv6 address in brackets, like \"[{text}]:3000\""
            ));
        }
        match text.rsplit_once(':') {
            Some(("", port)) if port.parse::<u16>().is_ok() => Err(format!(
                "invalid address {text:?}: say \"0.0.0.0:{port}\" for all IPv4 interfaces"
            )),
            Some((host, port)) if is_name(host) => match port.parse() {
                Ok(port) => Ok(Self {
                    host: host.into(),
                    port,
                }),
                Err(_) => Err(format!("invalid address {text:?}: {port:?} is no port")),
            },
            _ => Err(format!(
                "invalid address {text:?}: expected host:port, like \"127.0.0.1:3000\""
            )),
        }
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        // All digits and dots: an IPv4 address that is none.
        && host.chars().any(|c| c.is_ascii_alphabetic())
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in [
            "127.0.0.1:3000",
            "0.0.0.0:0",
            "[::1]:3000",
            "localhost:3000",
            "my-host.example.com:80",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        let local = "127.0.0.1:80".parse::<Listen>().unwrap().resolve().unwrap();
        assert_eq!(local, ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(Listen::default().to_string(), "127.0.0.1:3000");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_hint() {
        for (text, hint) in [
            ("3000", "expected host:port"),
            ("localhost", "expected host:port"),
            (":3000", "say \"0.0.0.0:3000\""),
            ("::1", "in brackets, like \"[::1]:3000\""),
            ("localhost:http", "\"http\" is no port"),
            ("localhost:70000", "\"70000\" is no port"),
            ("300.0.0.1:80", "expected host:port"),
            ("http://localhost:80", "expected host:port"),
            ("", "expected host:port"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(
                error.starts_with(&format!("invalid address {text:?}: ")) && error.contains(hint),
                "{error}"
            );
        }
    }
}
