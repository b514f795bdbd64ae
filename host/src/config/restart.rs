//! Which changes cannot apply while the server runs.

use super::{
    Audit, Cluster, Config, Console, History, Log, Presence, Recovery, Runtime, Shutdown, Socket,
    Store, Telemetry, Tls, Web,
};

impl Config {
    /// The keys that differ in `new` and are read at the start only, in the order of the file.
    /// Everything else applies to the running server.
    pub fn restart_needed(&self, new: &Config) -> Vec<&'static str> {
        // Taken apart whole, so that nobody adds a key without deciding on which side it stands.
        let Config {
            listen,
            tls,
            log: Log { level, format },
            audit: Audit { path: audit_path },
            cors: _,
            socket:
                Socket {
                    path,
                    ping_interval,
                    ping_timeout,
                    connect_timeout,
                    max_payload,
                    parser,
                    allowed_transports,
                    cookie,
                    http_compression,
                    per_message_deflate,
                    max_attachments,
                    send_buffer,
                    send_buffer_bytes,
                    slow_client,
                    write_timeout,
                    request_timeout,
                    max_connections,
                    max_connections_per_address,
                    max_sessions,
                    max_sessions_per_address,
                    max_namespaces,
                    max_namespaces_per_address,
                    max_rooms,
                    queue: _,
                    queue_bytes: _,
                },
            web: Web { root, client },
            console: Console { enabled: console },
            runtime:
                Runtime {
                    threads,
                    tick,
                    cache,
                },
            auth: _,
            payments: _,
            api: _,
            admin,
            budget: _,
            limits: _,
            breaker: _,
            recovery:
                Recovery {
                    enabled,
                    max_age,
                    max_clients,
                    max_events,
                    max_bytes,
                },
            presence:
                Presence {
                    rooms,
                    users,
                    data,
                    bytes: presence_bytes,
                    grace,
                    batch,
                },
            history:
                History {
                    topics,
                    events,
                    topic_bytes,
                    bytes: history_bytes,
                    max_age: history_age,
                },
            store:
                Store {
                    on: store_on,
                    path: store_path,
                    durability,
                    commit_timeout,
                    bucket_keys,
                    bucket_bytes,
                    shared_bytes,
                    max_value,
                },
            cluster:
                Cluster {
                    url,
                    prefix,
                    max_entries,
                    queue_bytes: cluster_queue,
                    address,
                    secret,
                    unsigned,
                    accept,
                    on_loss,
                    serial,
                },
            shutdown: Shutdown { notice, drain },
            telemetry:
                Telemetry {
                    endpoint,
                    headers,
                    sample,
                    metrics,
                    interval,
                    resource,
                },
            reload: _,
            plugins: _,
        } = self;
        [
            ("listen", *listen != new.listen),
            ("tls", tls.is_some() != new.tls.is_some()),
            (
                "tls.handshake_timeout",
                differs(tls, &new.tls, |tls| &tls.handshake_timeout),
            ),
            (
                "tls.redirect_from",
                differs(tls, &new.tls, |tls| &tls.redirect_from),
            ),
            (
                "tls.redirect_port",
                differs(tls, &new.tls, |tls| &tls.redirect_port),
            ),
            ("tls.hsts", differs(tls, &new.tls, |tls| &tls.hsts)),
            ("log.level", *level != new.log.level),
            ("log.format", *format != new.log.format),
            ("audit.path", *audit_path != new.audit.path),
            ("socket.path", *path != new.socket.path),
            (
                "socket.ping_interval",
                *ping_interval != new.socket.ping_interval,
            ),
            (
                "socket.ping_timeout",
                *ping_timeout != new.socket.ping_timeout,
            ),
            (
                "socket.connect_timeout",
                *connect_timeout != new.socket.connect_timeout,
            ),
            ("socket.max_payload", *max_payload != new.socket.max_payload),
            ("socket.parser", *parser != new.socket.parser),
            (
                "socket.allowed_transports",
                *allowed_transports != new.socket.allowed_transports,
            ),
            ("socket.cookie", *cookie != new.socket.cookie),
            (
                "socket.http_compression",
                *http_compression != new.socket.http_compression,
            ),
            (
                "socket.per_message_deflate",
                *per_message_deflate != new.socket.per_message_deflate,
            ),
            (
                "socket.max_attachments",
                *max_attachments != new.socket.max_attachments,
            ),
            ("socket.send_buffer", *send_buffer != new.socket.send_buffer),
            (
                "socket.send_buffer_bytes",
                *send_buffer_bytes != new.socket.send_buffer_bytes,
            ),
            ("socket.slow_client", *slow_client != new.socket.slow_client),
            (
                "socket.write_timeout",
                *write_timeout != new.socket.write_timeout,
            ),
            (
                "socket.request_timeout",
                *request_timeout != new.socket.request_timeout,
            ),
            (
                "socket.max_connections",
                *max_connections != new.socket.max_connections,
            ),
            (
                "socket.max_connections_per_address",
                *max_connections_per_address != new.socket.max_connections_per_address,
            ),
            (
                "socket.max_sessions",
                *max_sessions != new.socket.max_sessions,
            ),
            (
                "socket.max_sessions_per_address",
                *max_sessions_per_address != new.socket.max_sessions_per_address,
            ),
            (
                "socket.max_namespaces",
                *max_namespaces != new.socket.max_namespaces,
            ),
            (
                "socket.max_namespaces_per_address",
                *max_namespaces_per_address != new.socket.max_namespaces_per_address,
            ),
            ("socket.max_rooms", *max_rooms != new.socket.max_rooms),
            ("admin", *admin != new.admin),
            ("web.root", *root != new.web.root),
            ("web.client", *client != new.web.client),
            ("console.enabled", *console != new.console.enabled),
            ("runtime.threads", *threads != new.runtime.threads),
            ("runtime.tick", *tick != new.runtime.tick),
            ("runtime.cache", *cache != new.runtime.cache),
            ("recovery.enabled", *enabled != new.recovery.enabled),
            ("recovery.max_age", *max_age != new.recovery.max_age),
            (
                "recovery.max_clients",
                *max_clients != new.recovery.max_clients,
            ),
            (
                "recovery.max_events",
                *max_events != new.recovery.max_events,
            ),
            ("recovery.max_bytes", *max_bytes != new.recovery.max_bytes),
            ("presence.rooms", *rooms != new.presence.rooms),
            ("presence.users", *users != new.presence.users),
            ("presence.data", *data != new.presence.data),
            ("presence.bytes", *presence_bytes != new.presence.bytes),
            ("presence.grace", *grace != new.presence.grace),
            ("presence.batch", *batch != new.presence.batch),
            ("history.topics", *topics != new.history.topics),
            ("history.events", *events != new.history.events),
            (
                "history.topic_bytes",
                *topic_bytes != new.history.topic_bytes,
            ),
            ("history.bytes", *history_bytes != new.history.bytes),
            ("history.max_age", *history_age != new.history.max_age),
            ("store.on", *store_on != new.store.on),
            ("store.path", *store_path != new.store.path),
            ("store.durability", *durability != new.store.durability),
            (
                "store.commit_timeout",
                *commit_timeout != new.store.commit_timeout,
            ),
            ("store.bucket_keys", *bucket_keys != new.store.bucket_keys),
            (
                "store.bucket_bytes",
                *bucket_bytes != new.store.bucket_bytes,
            ),
            (
                "store.shared_bytes",
                *shared_bytes != new.store.shared_bytes,
            ),
            ("store.max_value", *max_value != new.store.max_value),
            ("cluster.url", *url != new.cluster.url),
            ("cluster.prefix", *prefix != new.cluster.prefix),
            (
                "cluster.max_entries",
                *max_entries != new.cluster.max_entries,
            ),
            (
                "cluster.queue_bytes",
                *cluster_queue != new.cluster.queue_bytes,
            ),
            ("cluster.address", *address != new.cluster.address),
            ("cluster.secret", *secret != new.cluster.secret),
            ("cluster.unsigned", *unsigned != new.cluster.unsigned),
            ("cluster.accept", *accept != new.cluster.accept),
            ("cluster.on_loss", *on_loss != new.cluster.on_loss),
            ("cluster.serial", *serial != new.cluster.serial),
            ("shutdown.notice", *notice != new.shutdown.notice),
            ("shutdown.drain", *drain != new.shutdown.drain),
            ("telemetry.endpoint", *endpoint != new.telemetry.endpoint),
            ("telemetry.headers", *headers != new.telemetry.headers),
            ("telemetry.sample", *sample != new.telemetry.sample),
            ("telemetry.metrics", *metrics != new.telemetry.metrics),
            ("telemetry.interval", *interval != new.telemetry.interval),
            ("telemetry.resource", *resource != new.telemetry.resource),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect()
    }
}

impl Config {
    /// What is in force of `new` on a server that was started with this: all but the keys that need a restart.
    pub(crate) fn in_force(&self, new: &Config) -> Config {
        let Config {
            cors,
            socket: Socket {
                queue, queue_bytes, ..
            },
            tls,
            auth,
            payments,
            api,
            budget,
            limits,
            breaker,
            reload,
            plugins,
            ..
        } = new.clone();
        let tls = self.tls.clone().map(|started| match tls {
            Some(new) => Tls {
                certificates: new.certificates,
                min_version: new.min_version,
                ..started
            },
            None => started,
        });
        Config {
            cors,
            socket: Socket {
                queue,
                queue_bytes,
                ..self.socket.clone()
            },
            tls,
            auth,
            payments,
            api,
            budget,
            limits,
            breaker,
            reload,
            plugins,
            ..self.clone()
        }
    }
}

/// Whether a key of `[tls]` is another one. Where the section itself comes or goes, that is said.
fn differs<T: PartialEq>(tls: &Option<Tls>, new: &Option<Tls>, key: impl Fn(&Tls) -> &T) -> bool {
    let both = tls.as_ref().zip(new.as_ref());
    both.is_some_and(|(tls, new)| key(tls) != key(new))
}
