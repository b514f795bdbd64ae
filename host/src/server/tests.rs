//! What a configuration can say is what the server can do.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use proptest::{collection::vec, prelude::*, sample::select};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{interval, sleep},
};

use super::{
    core::{Around, Core},
    *,
};
use crate::{
    config::{self, Overrides},
    store::Store,
    transport::Bounds,
    units::{self, Rate, Size},
};

/// A key of the shipped `mixlab.toml`, as `section.key`, with what kind of value it takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Count,
    Duration,
    Size,
    Rate,
}

impl Kind {
    /// Of what stands in the file.
    fn of(value: &str) -> Option<Self> {
        let text = value.trim_matches('"');
        if value.parse::<u64>().is_ok() {
            Some(Self::Count)
        } else if units::duration::parse(text).is_ok() {
            Some(Self::Duration)
        } else if text.parse::<Rate>().is_ok() {
            Some(Self::Rate)
        } else {
            text.parse::<Size>().ok().map(|_| Self::Size)
        }
    }
}

fn keys() -> Vec<Key> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in include_str!("../../../mixlab.toml").lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.trim_start_matches('#').split_once(" = ")
            && section != "plugins"
            && let Some(kind) = Kind::of(value)
        {
            let name = format!("{section}.{key}");
            keys.push(Key { name, kind });
        }
    }
    keys
}

#[test]
fn all_kinds_of_keys_are_found() {
    let keys = keys();
    for (name, kind) in [
        ("socket.queue", Kind::Count),
        ("socket.ping_timeout", Kind::Duration),
        ("budget.memory", Kind::Size),
        ("limits.connections", Kind::Rate),
    ] {
        let name = name.to_owned();
        assert!(keys.contains(&Key { name, kind }), "{keys:?}");
    }
}

/// Whole numbers of any size, small ones above all.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..10, 0_u64..100_000, any::<u64>(), Just(u64::MAX >> 1)]
}

fn with_unit(units: &'static [&'static str]) -> impl Strategy<Value = String> {
    (number(), select(units)).prop_map(|(number, unit)| format!("{number}{unit}"))
}

fn duration() -> impl Strategy<Value = String> {
    with_unit(&["ns", "us", "ms", "s", "m", "h", "days", "y"])
}

fn value(kind: Kind) -> BoxedStrategy<String> {
    let quoted = |text: String| format!("{text:?}");
    match kind {
        Kind::Count => number().prop_map(|number| number.to_string()).boxed(),
        Kind::Duration => duration().prop_map(quoted).boxed(),
        Kind::Size => with_unit(&["", "B", "kB", "MiB", "GB", "TiB", "PB", "EiB"])
            .prop_map(quoted)
            .boxed(),
        Kind::Rate => (number(), duration())
            .prop_map(move |(count, interval)| quoted(format!("{count}/{interval}")))
            .boxed(),
    }
}

/// Some keys with values that may be far off.
fn written(count: Range<usize>) -> impl Strategy<Value = BTreeMap<Key, String>> {
    let entry = select(keys()).prop_flat_map(|key| (Just(key.clone()), value(key.kind)));
    vec(entry, count).prop_map(|entries| entries.into_iter().collect())
}

/// The configuration, if it is accepted.
fn load(written: &BTreeMap<Key, String>) -> Option<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixlab.toml");
    let line = |(key, value): (&Key, &String)| format!("{} = {value}\n", key.name);
    std::fs::write(&path, written.iter().map(line).collect::<String>()).unwrap();
    Config::load_with(&path, Overrides::default(), []).ok()
}

/// Makes everything that a server makes of it, except what waits for plugins and clients: those
/// parts are made here, as they make them.
async fn build(config: &Config) {
    let around = Around {
        store: Store::new(config::Store::in_memory()),
        ..Around::alone(config).unwrap()
    };
    let core = Core::new(config, None, secret(config), around);
    let sessions = core.namespaces.sessions();
    let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
    if sessions.begin(address, None).is_ok() {
        // It schedules what every session has.
        sessions.close();
    }
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bounds = Bounds::new(
        &config.socket,
        core.dispatcher.settings.clone(),
        core.dispatcher.metrics.refused_connections(),
    );
    Listener::new(tcp, bounds, None);
    Directory::new(core.dispatcher, core.namespaces, &config.socket);

    Semaphore::new(config.budget.instances);
    Semaphore::new(config.budget.asks());
    Semaphore::new(config.budget.requests());
    interval(config.socket.ping_interval);
    for time in [
        config.socket.ping_interval + config.socket.ping_timeout,
        config.socket.connect_timeout,
        config.socket.write_timeout,
        config.socket.request_timeout,
        config.auth.leeway,
        config.budget.cpu,
        config.budget.wall,
        config.budget.compile,
        config.breaker.pause,
        config.breaker.max_pause * 2,
        config.recovery.max_age,
        config.reload.debounce,
        config.reload.drain,
    ] {
        drop(sleep(time));
        let _ends = std::time::Instant::now() + time;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_a_configuration_can_say_the_server_can_do(written in written(1..6)) {
        if let Some(config) = load(&written).filter(|config| config.runtime.threads <= 16) {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(build(&config));
        }
    }
}
