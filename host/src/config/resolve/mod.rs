//! From what was written to what it means: checks that concern several keys, paths, secrets.

mod admin;
mod api;
mod auth;
mod http;
mod plugin;
mod telemetry;
mod tls;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::Environment;
use super::file::{ConfigFile, Table};
use super::locate::Document;
use super::problem::{Problems, key};
use super::{
    Audit, Breaker, Budget, Cluster, Config, HOW_TO_MAKE_ONE, History, MIN_JWT_SECRET_BYTES,
    Presence, Recovery, RedisUrl, Runtime, Secret, Socket, Store, StoreOn, Web,
};
use crate::units::{Size, duration};

/// Resolves what was written in the file of this folder. Where something is wrong, a problem is
/// added and what is returned is of no use.
pub(super) fn resolve(
    file: ConfigFile,
    folder: &Path,
    document: &Document,
    environment: &Environment,
    problems: &mut Problems,
) -> Config {
    let mut resolver = Resolver {
        folder,
        document,
        environment,
        problems,
    };
    resolver.check_origins(&file);
    let runtime = resolver.runtime(file.runtime.0);
    let budget = file.budget.0.over(&Budget::default());
    resolver.check_budget("budget", &file.budget.0, &budget, &runtime);
    Config {
        tls: resolver.tls(file.tls.0, &file.listen),
        listen: file.listen,
        log: file.log.0,
        audit: Audit {
            path: resolver.path("audit.path", file.audit.0.path),
        },
        auth: resolver.auth(file.auth.0),
        payments: file.payments.0,
        cors: file.cors.0,
        socket: resolver.socket(file.socket.0),
        api: resolver.api(file.api.0),
        admin: resolver.admin(file.admin.0),
        web: Web {
            root: resolver.path("web.root", file.web.0.root),
            client: resolver.path("web.client", file.web.0.client),
        },
        console: file.console.0,
        plugins: resolver.plugins(file.plugins, &budget, &runtime),
        runtime,
        budget,
        limits: file.limits.0,
        breaker: resolver.breaker(file.breaker.0),
        presence: resolver.presence(file.presence.0),
        history: resolver.history(file.history.0),
        recovery: resolver.recovery(file.recovery.0),
        store: resolver.store(file.store.0, &file.cluster.0),
        cluster: resolver.cluster(file.cluster.0),
        shutdown: file.shutdown.0,
        telemetry: resolver.telemetry(file.telemetry.0),
        reload: file.reload.0,
    }
}

struct Resolver<'a> {
    folder: &'a Path,
    document: &'a Document,
    environment: &'a Environment,
    problems: &'a mut Problems,
}

impl Resolver<'_> {
    /// A page of any site could connect as its visitor, if the host or a plugin takes for who a client is what its
    /// browser sends by itself, or what a proxy makes of that.
    fn check_origins(&mut self, file: &ConfigFile) {
        if file.cors.0.check_origins {
            return;
        }
        let auth = &file.auth.0;
        for (at, is_read) in [
            ("auth.cookie", auth.cookie.is_some()),
            ("auth.header", auth.header.is_some()),
        ] {
            let message = "pages of any site could connect as their visitors: set [cors] check_origins = true, \
                           so that only pages of this server and of allowed_origins can";
            self.check(at, !is_read, message);
        }
        let needs_token = auth.enabled && !auth.anonymous;
        if needs_token && !auth.reads_requests() {
            return;
        }
        for (index, Table(plugin)) in file.plugins.iter().enumerate() {
            for (grant_index, grant) in plugin.grants.iter().enumerate() {
                let message = format!(
                    "pages of any site could connect as their visitors with \"{grant}\": set [cors] \
                     check_origins = true, so that only pages of this server and of allowed_origins can"
                );
                let at = format!("plugins.{index}.grants.{grant_index}");
                self.check(&at, !grant.is_of_credential(), &message);
            }
        }
    }

    fn socket(&mut self, socket: Socket) -> Socket {
        let message = format!(
            "invalid path {:?}: expected one like \"/socket.io\", without a slash at its end",
            socket.path
        );
        self.check("socket.path", Socket::is_path(&socket.path), &message);
        for (name, duration) in [
            ("socket.ping_interval", socket.ping_interval),
            ("socket.ping_timeout", socket.ping_timeout),
            ("socket.connect_timeout", socket.connect_timeout),
            ("socket.write_timeout", socket.write_timeout),
            ("socket.request_timeout", socket.request_timeout),
        ] {
            // The protocol counts in milliseconds.
            self.check(
                name,
                duration >= Duration::from_millis(1),
                "must be 1ms or more",
            );
        }
        self.check(
            "socket.ping_timeout",
            socket.ping_interval + socket.ping_timeout <= LONGEST_TIMER,
            "must not be more than 24days together with ping_interval: no browser waits for longer",
        );
        self.check(
            "socket.max_payload",
            socket.max_payload.bytes() > 0,
            MORE_THAN_ZERO,
        );
        self.check_count("socket.send_buffer", socket.send_buffer, 1..=MANY);
        self.check_count("socket.max_connections", socket.max_connections, 1..=MANY);
        for (name, count) in [
            (
                "socket.max_connections_per_address",
                socket.max_connections_per_address,
            ),
            ("socket.max_sessions", socket.max_sessions),
            (
                "socket.max_sessions_per_address",
                socket.max_sessions_per_address,
            ),
            (
                "socket.max_namespaces_per_address",
                socket.max_namespaces_per_address,
            ),
        ] {
            self.check_count(name, count.unwrap_or(1), 1..=MANY);
        }
        self.check_count("socket.max_namespaces", socket.max_namespaces, 0..=MANY);
        self.check_count("socket.max_rooms", socket.max_rooms, 1..=MANY);
        self.check_count("socket.queue", socket.queue, 1..=MANY);
        socket
    }

    fn recovery(&mut self, recovery: Recovery) -> Recovery {
        self.check_count("recovery.max_clients", recovery.max_clients, 1..=MANY);
        self.check_count("recovery.max_events", recovery.max_events, 1..=MANY);
        recovery
    }

    fn presence(&mut self, presence: Presence) -> Presence {
        self.check_count("presence.rooms", presence.rooms, 1..=MANY);
        self.check_count("presence.users", presence.users, 1..=MANY);
        let is_soon = presence.batch <= LONGEST_BATCH;
        self.check("presence.batch", is_soon, "must not be more than 1m");
        presence
    }

    fn history(&mut self, history: History) -> History {
        self.check_count("history.topics", history.topics, 1..=MANY);
        self.check_count("history.events", history.events, 1..=MANY);
        history
    }

    fn store(&mut self, mut store: Store, cluster: &Cluster) -> Store {
        let is_shared = cluster.url.is_some();
        self.check(
            "store.on",
            is_shared || !store.is_in_redis(),
            "the Redis is that of [cluster] url, which is not set",
        );
        if is_shared {
            // That each server has data of its own has to be said.
            store.on.get_or_insert(StoreOn::Redis);
        }
        self.check(
            "store.path",
            !store.path.as_os_str().is_empty(),
            "must not be empty",
        );
        store.path = self.folder.join(store.path);
        self.check(
            "store.commit_timeout",
            store.commit_timeout >= Duration::from_millis(1),
            "must be 1ms or more",
        );
        self.check_count("store.bucket_keys", store.bucket_keys, 1..=MANY);
        let keeps_something = store.bucket_bytes.bytes() > 0;
        self.check("store.bucket_bytes", keeps_something, MORE_THAN_ZERO);
        let keeps_something = store.shared_bytes.bytes() > 0;
        self.check("store.shared_bytes", keeps_something, MORE_THAN_ZERO);
        let largest = Size::mib(64);
        let is_fit = store.max_value.bytes() > 0 && store.max_value <= largest;
        self.check("store.max_value", is_fit, "must be 1 to 64MiB");
        store
    }

    fn cluster(&mut self, cluster: Cluster) -> Cluster {
        let is_named = !cluster.prefix.is_empty();
        self.check("cluster.prefix", is_named, "must not be empty");
        let fits = |url: &RedisUrl| url.servers().takes_prefix(&cluster.prefix);
        self.check(
            "cluster.prefix",
            cluster.url.as_ref().is_none_or(fits),
            "has braces by which a Redis Cluster would have the keys in several places: use none, or one pair",
        );
        self.check_count("cluster.max_entries", cluster.max_entries, 1..=MANY);
        let keeps_something = cluster.queue_bytes.bytes() > 0;
        self.check("cluster.queue_bytes", keeps_something, MORE_THAN_ZERO);
        let is_clustered = cluster.url.is_some();
        let is_alone = "is for a cluster: set url as well";
        self.check(
            "cluster.address",
            cluster.address.is_none() || is_clustered,
            is_alone,
        );
        self.check(
            "cluster.address",
            cluster.address.is_none() || cluster.secret.is_some(),
            "needs a secret as well, so that no client can pretend to be a server",
        );
        let is_short = |secret: &Secret| secret.is_short_for_hs256();
        let message = format!("has less than {MIN_JWT_SECRET_BYTES} bytes: {HOW_TO_MAKE_ONE}");
        let is_long = !cluster.secret.as_ref().is_some_and(is_short);
        self.check("cluster.secret", is_long, &message);
        cluster
    }

    fn runtime(&mut self, mut runtime: Runtime) -> Runtime {
        self.check_count("runtime.threads", runtime.threads, 1..=MAX_THREADS);
        // A plugin has the server's own threads to itself for up to two ticks.
        let message = format!(
            "must be {} to {}",
            duration::display(*TICKS.start()),
            duration::display(*TICKS.end())
        );
        self.check("runtime.tick", TICKS.contains(&runtime.tick), &message);
        runtime.cache = match self.path("runtime.cache", runtime.cache) {
            Some(folder) => Some(folder),
            None => user_cache(self.environment).map(|folder| folder.join("mixlab")),
        };
        runtime
    }

    fn breaker(&mut self, breaker: Breaker) -> Breaker {
        self.check("breaker.pause", !breaker.pause.is_zero(), MORE_THAN_ZERO);
        self.check(
            "breaker.max_pause",
            breaker.pause <= breaker.max_pause,
            "must not be less than pause",
        );
        breaker
    }

    /// A path relative to the folder of the file.
    fn path(&mut self, at: &str, path: Option<PathBuf>) -> Option<PathBuf> {
        let path = path?;
        self.check(at, !path.as_os_str().is_empty(), "must not be empty");
        Some(self.folder.join(path))
    }

    fn required<T>(&mut self, at: &str, name: &str, value: Option<T>) -> Option<T> {
        // A value of a wrong type is missing here, too, and has its problem already.
        if value.is_none() && !self.problems.has(&key(&format!("{at}.{name}"))) {
            self.problems
                .invalid(key(at), format!("missing key {name:?}"));
        }
        value
    }

    fn check_count(&mut self, at: &str, count: usize, allowed: RangeInclusive<usize>) {
        self.check(at, count >= *allowed.start(), MORE_THAN_ZERO);
        let message = format!("must not be more than {}", allowed.end());
        self.check(at, count <= *allowed.end(), &message);
    }

    fn check(&mut self, at: &str, is_good: bool, message: &str) {
        if !is_good {
            self.problems.invalid(key(at), message);
        }
    }
}

const MORE_THAN_ZERO: &str = "must be more than 0";

/// A room that hears of changes later has no use for them.
const LONGEST_BATCH: Duration = Duration::from_secs(60);

/// More than there can be of anything in one process.
const MANY: usize = 1_000_000_000;

/// A machine has no use for more, and may not be able to start them.
const MAX_THREADS: usize = 1_024;

/// How often a plugin may be looked at: not so often that the looking is what costs, and not so rarely
/// that it holds others up.
const TICKS: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(100);

/// What browsers' timers take: they count milliseconds in 31 bits, and end at once beyond.
const LONGEST_TIMER: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// The cache folder of the user, by the XDG Base Directory Specification, which wants relative
/// paths ignored.
fn user_cache(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name| {
        environment
            .get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}
