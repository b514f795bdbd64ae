//! `[cluster]`

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use http::Uri;

use crate::config::{Secret, choice::choice};
use crate::{redis_access::Servers, units::Size};

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The Redis that the servers have in common; none for a server on its own.
    pub url: Option<RedisUrl>,
    /// The key of the stream, and what other keys and channels begin with.
    pub prefix: String,
    /// How many entries of the stream are kept, at least 1.
    pub max_entries: usize,
    /// How much may wait to be sent while Redis is away.
    pub queue_bytes: Size,
    /// Where other servers reach this one, to pass on what clients send to sessions that it has.
    pub address: Option<ServerAddress>,
    /// What servers sign with for each other.
    pub secret: Option<Secret>,
    /// What becomes of what is not signed, where there is a secret.
    pub unsigned: Unsigned,
    /// Which programs that are no servers are heard.
    pub accept: Vec<Accept>,
    /// What becomes of what is sent while Redis is away.
    pub on_loss: OnLoss,
    /// Among whom calls with a common key run one after the other.
    pub serial: Serial,
}

/// Programs that are no servers and send events by a form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// `@socket.io/redis-emitter`.
    RedisEmitter,
    /// python-socketio's managers, from 5.14 on.
    PythonSocketio,
}

/// `cluster.on_loss`: what becomes of what is sent while Redis is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum OnLoss {
    /// The clients of this server get it at once, those of others when Redis is back.
    #[default]
    Local,
    /// All clients get it when Redis is back.
    Hold,
}

impl TryFrom<String> for OnLoss {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "policy",
            &text,
            &[("local", Self::Local), ("hold", Self::Hold)],
        )
    }
}

/// `cluster.serial`: among whom calls with a common key run one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum Serial {
    /// Those of each server.
    #[default]
    Server,
    /// Those of all servers.
    Cluster,
}

impl TryFrom<String> for Serial {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "policy",
            &text,
            &[("server", Self::Server), ("cluster", Self::Cluster)],
        )
    }
}

/// `cluster.unsigned`: what becomes of what is not signed, where there is a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum Unsigned {
    /// It is passed over.
    #[default]
    Refuse,
    /// It counts like what is signed: Node's servers sign nothing.
    Accept,
}

impl TryFrom<String> for Unsigned {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "policy",
            &text,
            &[("refuse", Self::Refuse), ("accept", Self::Accept)],
        )
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "socket.io".to_owned(),
            max_entries: 10_000,
            queue_bytes: Size::mib(64),
            address: None,
            secret: None,
            unsigned: Unsigned::default(),
            accept: Vec::new(),
            on_loss: OnLoss::default(),
            serial: Serial::default(),
        }
    }
}

/// `cluster.address`: the scheme, host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServerAddress(Box<str>);

impl ServerAddress {
    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let uri = text.parse::<Uri>().ok();
        let is_address = uri.is_some_and(|uri| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            matches!(uri.scheme_str(), Some("http" | "https"))
                && !authority.contains('@')
                && uri.path_and_query().is_none_or(|path| path == "/")
        });
        match is_address {
            true => Ok(Self(text.trim_end_matches('/').into())),
            false => Err(format!(
                "invalid address {text:?}: expected one like \"http://10.0.0.5:3000\""
            )),
        }
    }
}

/// `cluster.url`: where a Redis is and, as a rule, its password. Its `Debug` shows nothing of it.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct RedisUrl {
    text: String,
    servers: Servers,
}

impl RedisUrl {
    /// What it names.
    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }
}

impl TryFrom<String> for RedisUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let servers = Servers::parse(&text).map_err(|invalid| invalid.to_string())?;
        Ok(Self { text, servers })
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
