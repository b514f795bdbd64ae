//! The URL of a Redis, of the sentinels of one, or of the nodes of a Redis Cluster.

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsMode,
    sentinel::SentinelNodeConnectionInfo,
};

use super::slot;
use crate::suggest;

/// What a URL names.
#[derive(Clone)]
pub(crate) enum Servers {
    /// A Redis.
    One(Box<ConnectionInfo>),
    /// The master of this name, of which the sentinels know.
    Watched {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        /// How to connect to the master.
        node: Box<SentinelNodeConnectionInfo>,
    },
    /// Some nodes of a Redis Cluster.
    Clustered(Vec<ConnectionInfo>),
}

/// Why a text is none. It never shows the text, which may hold a password.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("not the URL of a Redis: {0}")]
pub(crate) struct Invalid(String);

/// What URLs begin with.
const SCHEMES: [&str; 11] = [
    "redis",
    "rediss",
    "valkey",
    "valkeys",
    "unix",
    "redis+unix",
    "valkey+unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
];

/// Where sentinels listen.
const SENTINEL_PORT: u16 = 26379;

impl Servers {
    /// Reads a URL.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            Invalid("expected one like \"redis://:PASSWORD@127.0.0.1:6379\"".to_owned())
        })?;
        match scheme {
            "redis+sentinel" => Self::watched("redis", rest),
            "rediss+sentinel" => Self::watched("rediss", rest),
            "redis+cluster" => Self::clustered("redis", rest),
            "rediss+cluster" => Self::clustered("rediss", rest),
            "redis-sentinel" | "sentinel" => Err(Invalid(
                "sentinels are written redis+sentinel://HOST,HOST/MASTER".to_owned(),
            )),
            "redis-cluster" => Err(Invalid(
                "a Redis Cluster is written redis+cluster://HOST,HOST".to_owned(),
            )),
            scheme if SCHEMES.contains(&scheme) => Self::one(text, rest),
            scheme => Err(Invalid(format!(
                "unknown scheme {scheme:?}{}",
                suggest::hint(scheme, &SCHEMES)
            ))),
        }
    }

    /// What the keys of MixLab's servers begin with behind this prefix: in a Redis Cluster all of them are where the
    /// stream is.
    pub(crate) fn own_prefix(&self, prefix: &str) -> String {
        match self {
            Self::Clustered(_) if slot::tag(prefix).is_none() => format!("{{{prefix}}}"),
            _ => prefix.to_owned(),
        }
    }

    /// Whether it is a Redis Cluster.
    pub(crate) fn is_clustered(&self) -> bool {
        matches!(self, Self::Clustered(_))
    }

    /// Whether all keys can be in one slot behind this prefix.
    pub(crate) fn takes_prefix(&self, prefix: &str) -> bool {
        let own = self.own_prefix(prefix);
        !self.is_clustered() || slot::of(&own) == slot::of(prefix)
    }

    fn one(text: &str, rest: &str) -> Result<Self, Invalid> {
        let (hosts, _) = split_hosts(rest);
        if hosts.contains(',') {
            return Err(Invalid(
                "several servers are redis+cluster://HOST,HOST or redis+sentinel://HOST,HOST/MASTER"
                    .to_owned(),
            ));
        }
        Ok(Self::One(Box::new(info(text)?)))
    }

    fn watched(scheme: &str, rest: &str) -> Result<Self, Invalid> {
        let (hosts, path) = split_hosts(rest);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut path = path.trim_start_matches('/').split('/');
        let master = path.next().filter(|name| !name.is_empty()).ok_or_else(|| {
            Invalid(
                "the name of the master is missing: redis+sentinel://HOST,HOST/MASTER".to_owned(),
            )
        })?;
        let database = path.next().unwrap_or("0");
        let (user, hosts) = split_user(hosts);
        let mut sentinel_user = ("", "");
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sentinel_user", user)) => sentinel_user.0 = user,
                Some(("sentinel_password", password)) => sentinel_user.1 = password,
                _ => {
                    return Err(Invalid(
                        "behind ? there is sentinel_user and sentinel_password".to_owned(),
                    ));
                }
            }
        }
        let sentinel_user = match sentinel_user {
            ("", "") => String::new(),
            (user, password) => format!("{user}:{password}@"),
        };
        let sentinel = |host| {
            let host = with_port(host, SENTINEL_PORT);
            info(&format!("{scheme}://{sentinel_user}{host}"))
        };
        let sentinels = hosts.split(',').map(sentinel).collect::<Result<_, _>>()?;
        let master_info = info(&format!("{scheme}://{user}localhost/{database}"))?;
        let mut node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(master_info.redis_settings().clone());
        if let ConnectionAddr::TcpTls { .. } = master_info.addr() {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        Ok(Self::Watched {
            sentinels,
            master: master.to_owned(),
            node: Box::new(node),
        })
    }

    fn clustered(scheme: &str, rest: &str) -> Result<Self, Invalid> {
        let (hosts, path) = split_hosts(rest);
        if !matches!(path, "" | "/") {
            return Err(Invalid(
                "a Redis Cluster has one database, and nothing stands behind its hosts".to_owned(),
            ));
        }
        let (user, hosts) = split_user(hosts);
        let node = |host| info(&format!("{scheme}://{user}{host}"));
        let nodes = hosts.split(',').map(node).collect::<Result<_, _>>()?;
        Ok(Self::Clustered(nodes))
    }
}

fn info(text: &str) -> Result<ConnectionInfo, Invalid> {
    let invalid = |_| Invalid("expected one like \"redis://:PASSWORD@127.0.0.1:6379\"".to_owned());
    text.into_connection_info().map_err(invalid)
}

/// The hosts, with who connects to them, and what stands behind them.
fn split_hosts(rest: &str) -> (&str, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest.split_at(end)
}

/// Who connects, up to the @, and to what.
fn split_user(hosts: &str) -> (&str, &str) {
    hosts.split_at(hosts.rfind('@').map_or(0, |at| at + 1))
}

fn with_port(host: &str, port: u16) -> String {
    let (_, behind) = host.rsplit_once(']').unwrap_or(("", host));
    match behind.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(nodes: &[ConnectionInfo]) -> Vec<String> {
        nodes.iter().map(|node| node.addr().to_string()).collect()
    }

    #[test]
    fn one_redis_is_written_as_everywhere() {
        for (text, address) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("redis://user:pass@host:7000/2", "host:7000"),
            ("rediss://host", "host:6379"),
            ("valkey://host", "host:6379"),
            ("unix:///run/redis.sock", "/run/redis.sock"),
            (
                "redis+unix:///run/redis.sock?db=1&pass=p",
                "/run/redis.sock",
            ),
        ] {
            let Ok(Servers::One(server)) = Servers::parse(text) else {
                panic!("{text}");
            };
            assert_eq!(server.addr().to_string(), address);
        }
    }

    #[test]
    fn sentinels_and_nodes_are_written_one_after_the_other() {
        let text = "rediss+sentinel://me:p%40ss@a,b:1,[::1]/main/3?sentinel_password=s";
        let Ok(Servers::Watched {
            sentinels, master, ..
        }) = Servers::parse(text)
        else {
            panic!("{text}");
        };
        assert_eq!(addresses(&sentinels), ["a:26379", "b:1", "::1:26379"]);
        assert_eq!(master, "main");
        assert_eq!(sentinels[0].redis_settings().password(), Some("s"));

        let text = "redis+cluster://:p@a:7000,b:7001,c";
        let Ok(Servers::Clustered(nodes)) = Servers::parse(text) else {
            panic!("{text}");
        };
        assert_eq!(addresses(&nodes), ["a:7000", "b:7001", "c:6379"]);
        assert_eq!(nodes[2].redis_settings().password(), Some("p"));
    }

    #[test]
    fn what_is_not_understood_is_refused_without_its_password() {
        for (text, says) in [
            ("127.0.0.1:6379", "expected one like"),
            ("http://secret@host", "unknown scheme"),
            ("redis://:secret@a,b", "several servers"),
            ("redis-cluster://:secret@a", "redis+cluster://HOST,HOST"),
            (
                "redis-sentinel://:secret@a",
                "redis+sentinel://HOST,HOST/MASTER",
            ),
            ("redis+sentinel://:secret@a,b", "name of the master"),
            ("redis+sentinel://:secret@a/main?other=1", "behind ?"),
            ("redis+cluster://:secret@a/1", "one database"),
            ("redis+cluster://:secret@a:99999", "expected one like"),
            ("redis+cluster://", "expected one like"),
        ] {
            let error = Servers::parse(text).err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{text}"));
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn all_keys_of_a_redis_cluster_are_in_one_slot() {
        let clustered = Servers::parse("redis+cluster://a").unwrap();
        for (prefix, own) in [("socket.io", "{socket.io}"), ("a{b}c", "a{b}c")] {
            assert_eq!(clustered.own_prefix(prefix), own);
            assert!(clustered.takes_prefix(prefix));
        }
        assert!(!clustered.takes_prefix("a}b"));
        let one = Servers::parse("redis://a").unwrap();
        assert_eq!(one.own_prefix("socket.io"), "socket.io");
    }
}
