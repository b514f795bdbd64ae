//! What applies to connections and requests and may change while the server runs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    access::Access,
    address::TrustedProxies,
    admission::{Limit, RateLimits},
    auth::{Providers, RequestTokens, Verifier},
    config::{self, ApiKey, Config, OnExcess},
    connection::lane,
    guest::Scope,
    origins::Origins,
    revocation::Revocations,
};

/// A snapshot of those parts of the configuration that apply at once.
pub struct Settings {
    /// Checks tokens; none if they are the plugins' business.
    pub verifier: Option<Verifier>,
    /// Where requests may have tokens; none: nowhere.
    pub(crate) request_tokens: Option<RequestTokens>,
    /// How tokens are made while somebody tries the server out; none if others make them.
    pub(crate) trying_out: Option<config::Auth>,
    /// Whether a client may connect without a token.
    pub anonymous: bool,
    /// When connections end with the tokens of their users; none if they do not.
    pub expiry: Option<Expiry>,
    /// Who may subscribe to payments.
    pub payments: Access,
    /// The sites whose pages may connect.
    pub(crate) origins: Origins,
    /// How many events of one connection may wait.
    pub queue: lane::Capacity,
    /// Backends that may call the API.
    pub(crate) api_keys: Vec<ApiCaller>,
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// Limits of all events together, whatever plugins allow.
    pub limits: Arc<[Arc<Limit>]>,
    /// Whether all servers of a cluster count together by these.
    pub shares_limits: bool,
    /// The limit of new connections from one address.
    pub connections: Option<Arc<Limit>>,
    /// What becomes of events over a limit.
    pub excess: Excess,
    /// Proxies that are believed.
    pub trusted_proxies: TrustedProxies,
}

/// A backend that may call the API.
pub(crate) struct ApiCaller {
    /// By which key, and what it may do.
    pub key: ApiKey,
    /// How often.
    pub limit: Option<Arc<Limit>>,
}

/// How connections end with the tokens of their users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// How long before the expiry a client is told.
    pub warning: Duration,
    /// How long after it the connection ends.
    pub leeway: Duration,
}

/// The current snapshot; a reload publishes a new one.
pub(crate) type Current = Arc<ArcSwap<Settings>>;

/// What becomes of events over a limit, by the plugin that they are for.
pub struct Excess {
    unless_said: OnExcess,
    of_plugins: HashMap<String, OnExcess>,
}

impl Excess {
    fn new(unless_said: OnExcess, plugins: &[config::Plugin]) -> Self {
        let said = |plugin: &config::Plugin| Some((plugin.name.clone(), plugin.on_excess?));
        Self {
            unless_said,
            of_plugins: plugins.iter().filter_map(said).collect(),
        }
    }

    /// What becomes of one of a plugin, or of nobody: what the configuration says of the plugin, else what
    /// the event's contract `declared`, else what the configuration says of all.
    pub fn of(&self, plugin: &str, declared: Option<OnExcess>) -> OnExcess {
        let said = self.of_plugins.get(plugin).copied();
        said.or(declared).unwrap_or(self.unless_said)
    }
}

impl ApiCaller {
    fn new(key: &ApiKey, limits: &RateLimits) -> Self {
        let limit = |rate| limits.of_api_key(&key.name, rate);
        Self {
            key: key.clone(),
            limit: key.limit.map(limit),
        }
    }
}

impl Settings {
    /// From a configuration; `secret` is what tokens are signed with.
    pub(crate) fn new(
        config: &Config,
        secret: &[u8],
        limits: &RateLimits,
        providers: &Providers,
        revocations: &Arc<Revocations>,
    ) -> Self {
        let config::Limits {
            socket,
            user,
            ip,
            connections,
            shared,
            on_excess,
            trusted_proxies,
        } = &config.limits;
        let of_all = [
            (Scope::Socket, socket),
            (Scope::User, user),
            (Scope::Ip, ip),
        ];
        let of_all = of_all
            .into_iter()
            .filter_map(|(scope, rate)| Some((scope, (*rate)?)));
        Self {
            verifier: config
                .auth
                .enabled
                .then(|| Verifier::new(secret, &config.auth, providers, revocations.clone())),
            request_tokens: RequestTokens::new(&config.auth),
            trying_out: (config.auth.is_for_trying_out()).then(|| config.auth.clone()),
            anonymous: config.auth.anonymous,
            expiry: (config.auth.enabled && config.auth.expire_connections).then_some(Expiry {
                warning: config.auth.expiry_warning,
                leeway: config.auth.leeway,
            }),
            payments: config.payments.subscribe.clone(),
            origins: Origins::new(&config.cors, config.auth.reads_requests()),
            queue: lane::Capacity {
                events: config.socket.queue,
                bytes: config.socket.queue_bytes.as_usize(),
            },
            api_keys: config
                .api
                .keys
                .iter()
                .map(|key| ApiCaller::new(key, limits))
                .collect(),
            max_body: config.api.max_body.as_usize(),
            limits: of_all
                .map(|(scope, rate)| limits.of_host("events", scope, rate))
                .collect(),
            shares_limits: *shared,
            connections: connections.map(|rate| limits.of_host("connections", Scope::Ip, rate)),
            excess: Excess::new(*on_excess, &config.plugins),
            trusted_proxies: TrustedProxies::new(trusted_proxies.clone()),
        }
    }
}
