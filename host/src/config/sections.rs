//! The sections of the configuration and their defaults.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    AffinityCookie, AllowedTransports, ApiKey, Budget, Compression, CookieName, Network, Origin,
    Parser, Secret, TokenHeader,
};
pub use crate::access::Access;
use crate::grant::Grants;
use crate::http_client::{Destination, UrlPattern};
use crate::oci::{NotPulled, Reference};
use crate::suggest;
use crate::units::{Rate, Size, duration};

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe lines that are written.
    pub level: LogLevel,
    /// How lines are written.
    pub format: LogFormat,
}

/// `log.level`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum LogLevel {
    /// What the host failed to do.
    Error,
    /// And what plugins did wrong.
    Warn,
    /// And what happened to the server and its plugins.
    #[default]
    Info,
    /// And what clients did wrong.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// The level as it is written, e.g. `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let levels = [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ];
        levels
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "unknown level {text:?}{}",
                    suggest::hint(text, &levels.map(LogLevel::as_str))
                )
            })
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!(
                "unknown format {text:?}{}",
                suggest::hint(&text, &["text", "json"])
            )),
        }
    }
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `JWT_SECRET`, never in the file: files are committed and copied.
    #[serde(skip)]
    pub secret: Option<Secret>,
    /// Whether tokens are checked. If not, they are the plugins' business, and all connections are
    /// anonymous.
    pub enabled: bool,
    /// Whether a connection without a token is accepted.
    pub anonymous: bool,
    /// Whether a token without an expiry is refused.
    pub require_exp: bool,
    /// The cookie that holds a token where a client's auth object has none.
    pub cookie: Option<CookieName>,
    /// The header that does; it goes before the cookie.
    pub header: Option<TokenHeader>,
    /// How long after its expiry a token is still good, for clocks that differ.
    #[serde(deserialize_with = "duration::deserialize")]
    pub leeway: Duration,
    /// Whether a connection ends when the token of its user is good no more.
    pub expire_connections: bool,
    /// How long before the expiry its client is told.
    #[serde(deserialize_with = "duration::deserialize")]
    pub expiry_warning: Duration,
    /// The claims that may hold the user's id; the first that is there counts.
    pub id_claims: Vec<String>,
    /// The claims that may hold the user's name; the first that is there counts.
    pub username_claims: Vec<String>,
    /// The claims that may hold a role or a list of roles; all count.
    pub role_claims: Vec<String>,
    /// The issuer that tokens must name, if any.
    pub issuer: Option<String>,
    /// The audience that tokens must name, if any.
    pub audience: Option<String>,
    /// Secrets that were `JWT_SECRET` before.
    pub former_secrets: Vec<FormerSecret>,
    /// Others whose tokens are taken.
    pub issuers: Vec<Issuer>,
}

/// An element of `auth.former_secrets`: one that tokens may still be signed with.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormerSecret {
    /// The environment variable that holds it.
    pub env: String,
    /// When it is good no more.
    #[serde(default, deserialize_with = "some_moment")]
    #[schemars(with = "Option<String>")]
    pub until: Option<SystemTime>,
    /// What stands there.
    #[serde(skip, default = "no_secret")]
    pub secret: Secret,
}

/// An element of `auth.issuers`: somebody who signs tokens with keys of their own.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What their tokens name as issuer.
    pub issuer: String,
    /// Tokens must name one of these audiences.
    pub audiences: Vec<String>,
    /// The algorithms by which their tokens may be signed.
    #[schemars(with = "Vec<super::schema::AlgorithmName>")]
    pub algorithms: Vec<Algorithm>,
    /// The file with their keys, a JWK Set; or
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// where they publish them.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// For how long keys are taken that cannot be fetched again.
    #[serde(default = "a_day", deserialize_with = "duration::deserialize")]
    pub jwks_outage: Duration,
    /// What stands before the ids of their users.
    #[serde(default)]
    pub id_prefix: String,
    /// As `auth.id_claims`, which it is if nothing is said.
    #[serde(default)]
    pub id_claims: Option<Vec<String>>,
    /// As `auth.username_claims`.
    #[serde(default)]
    pub username_claims: Option<Vec<String>>,
    /// As `auth.role_claims`.
    #[serde(default)]
    pub role_claims: Option<Vec<String>>,
    /// What the file holds; of symmetric keys, that is secret.
    #[serde(skip, default = "no_secret")]
    pub keys: Secret,
    /// What `jwks_url` says.
    #[serde(skip)]
    pub(crate) provider: Option<Destination>,
}

fn a_day() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn no_secret() -> Secret {
    Secret::new("")
}

pub(super) fn some_moment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_moment(&text).map(Some).map_err(D::Error::custom)
}

/// A time like `2030-01-31T12:00:00Z`.
pub(crate) fn parse_moment(text: &str) -> Result<SystemTime, String> {
    let invalid = |_| format!("{text:?} is no time like 2030-01-31T12:00:00Z");
    humantime::parse_rfc3339(text).map_err(invalid)
}

impl Default for Auth {
    fn default() -> Self {
        let claims = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Self {
            secret: None,
            enabled: true,
            anonymous: true,
            require_exp: true,
            cookie: None,
            header: None,
            leeway: Duration::from_secs(5),
            expire_connections: true,
            expiry_warning: Duration::from_secs(60),
            id_claims: claims(&["sub", "id", "userId"]),
            username_claims: claims(&["username", "name"]),
            role_claims: claims(&["role", "roles"]),
            issuer: None,
            audience: None,
            former_secrets: Vec::new(),
            issuers: Vec::new(),
        }
    }
}

impl Auth {
    /// Whether tokens are signed with a secret that is made for this run: somebody tries the server
    /// out.
    pub fn is_for_trying_out(&self) -> bool {
        self.enabled && self.secret.is_none() && self.issuers.is_empty()
    }

    /// Whether tokens are looked for in the requests by which sessions begin.
    pub(crate) fn reads_requests(&self) -> bool {
        self.cookie.is_some() || self.header.is_some()
    }
}

/// `[payments]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Payments {
    /// Who may subscribe to payment updates.
    pub subscribe: Access,
}

impl Default for Payments {
    fn default() -> Self {
        Self {
            subscribe: Access::Authenticated,
        }
    }
}

/// `[cors]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Sites whose pages may connect, beside pages from the server itself.
    pub allowed_origins: Vec<Origin>,
    /// Whether connections from pages of other sites are refused.
    pub check_origins: bool,
}

/// `[socket]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// The path of the Socket.IO endpoint.
    pub path: String,
    /// How often the server asks a client whether it is still there.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ping_interval: Duration,
    /// How long it waits for the answer.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ping_timeout: Duration,
    /// How long a client may take to join a namespace.
    #[serde(deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// The largest message from a client.
    pub max_payload: Size,
    /// How packets are written, for all clients.
    pub parser: Parser,
    /// Over which transports clients may come.
    pub allowed_transports: AllowedTransports,
    /// What a balancer that is sticky may know a client that polls by.
    pub cookie: Option<AffinityCookie>,
    /// From which size on answers to polls are compressed.
    pub http_compression: Compression,
    /// From which size on messages to and from websockets are compressed.
    pub per_message_deflate: Compression,
    /// How many attachments an event may have, from clients and to them.
    pub max_attachments: usize,
    /// How many packets may wait for a client that reads slowly, at least 1.
    pub send_buffer: usize,
    /// How many bytes may wait for it; one packet always may.
    pub send_buffer_bytes: Size,
    /// What becomes of a client when one more would have to wait.
    pub slow_client: SlowClient,
    /// How long one write to a client may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub write_timeout: Duration,
    /// How long a request may take to come in full, its head and its body each.
    #[serde(deserialize_with = "duration::deserialize")]
    pub request_timeout: Duration,
    /// How many TCP connections there may be, at least 1.
    pub max_connections: usize,
    /// How many of them may be no websockets and of one client address; none: a quarter of all, and 64 at
    /// least.
    pub max_connections_per_address: Option<usize>,
    /// How many sessions there may be, at least 1; none: as many as `max_connections`.
    pub max_sessions: Option<usize>,
    /// How many sessions one client address may have; none: a quarter of all, and 8 at least.
    pub max_sessions_per_address: Option<usize>,
    /// How many namespaces may be open when one more is asked for that matches a pattern.
    pub max_namespaces: usize,
    /// How many rooms plugins may put one connection into.
    pub max_rooms: usize,
    /// How many events of one socket may wait while an earlier one is handled, at least 1.
    pub queue: usize,
    /// How many bytes they may take; one event always may wait.
    pub queue_bytes: Size,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            path: "/socket.io".into(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            max_payload: Size::new(1_000_000),
            parser: Parser::default(),
            allowed_transports: AllowedTransports::default(),
            cookie: None,
            http_compression: Compression::OFF,
            per_message_deflate: Compression::OFF,
            max_attachments: 10,
            send_buffer: 16_384,
            send_buffer_bytes: Size::mib(16),
            slow_client: SlowClient::default(),
            write_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(75),
            max_connections: 100_000,
            max_connections_per_address: None,
            max_sessions: None,
            max_sessions_per_address: None,
            max_namespaces: 1_000,
            max_rooms: 1_000,
            queue: 8_192,
            queue_bytes: Size::mib(16),
        }
    }
}

/// So many sessions may any client address have, unless the configuration says otherwise, however few
/// there are.
const LEAST_SHARE: usize = 8;

/// And so many connections: a browser opens several for a page and more for each that polls.
const LEAST_SHARE_OF_CONNECTIONS: usize = 64;

impl Socket {
    /// Whether it may be the path of a Socket.IO endpoint: one like `/socket.io`, without a slash at its
    /// end.
    pub(crate) fn is_path(path: &str) -> bool {
        path.starts_with('/')
            && path.len() > 1
            && !path.ends_with('/')
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
    }

    /// How many connections one client address may have that are no websockets.
    pub fn max_connections_per_address(&self) -> usize {
        let share = self.max_connections_per_address;
        share.unwrap_or((self.max_connections / 4).max(LEAST_SHARE_OF_CONNECTIONS))
    }

    /// How many sessions one client address may have, at least 1.
    pub fn max_sessions_per_address(&self) -> usize {
        let share = self.max_sessions_per_address;
        share.unwrap_or((self.max_sessions() / 4).max(LEAST_SHARE))
    }

    /// How many sessions there may be.
    pub fn max_sessions(&self) -> usize {
        self.max_sessions.unwrap_or(self.max_connections)
    }
}

/// `[api]`
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// The keys of the file and, if set, `MIXLAB_API_KEY` with all rights. No two are the same.
    pub keys: Vec<ApiKey>,
    /// The largest body of a request.
    pub max_body: Size,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            max_body: Size::new(1_000_000),
        }
    }
}

/// `[web]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// The folder of static files, if some are served.
    pub root: Option<PathBuf>,
    /// The folder of the stock client's bundle, if it is served.
    pub client: Option<PathBuf>,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Threads for plugin calls that take long, at least 1.
    pub threads: usize,
    /// How often a running plugin is looked at; CPU budgets are counted in ticks.
    #[serde(deserialize_with = "duration::deserialize")]
    pub tick: Duration,
    /// The folder for compiled code: as configured, else `mixlab` in the user's cache folder.
    /// None if there is no such folder either; nothing is cached then, since code from a folder
    /// that others can write to must not be run.
    pub cache: Option<PathBuf>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            threads: 2,
            tick: Duration::from_millis(1),
            cache: None,
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How often one connection may send events, all events together.
    pub socket: Option<Rate>,
    /// How often one user may, over all connections.
    pub user: Option<Rate>,
    /// How often one IP address may.
    pub ip: Option<Rate>,
    /// How often one IP address may connect.
    pub connections: Option<Rate>,
    /// Whether all servers of a cluster count the events of users and addresses together.
    pub shared: bool,
    /// What becomes of events over a limit.
    pub on_excess: OnExcess,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

/// `[breaker]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// So many failed calls in a row pause a plugin; 0 never does.
    pub failures: u32,
    /// How long the first pause is. Each further one is twice as long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub pause: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 20,
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(60),
        }
    }
}

/// `plugins.on_failure`: what becomes of a plugin that keeps failing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum OnFailure {
    /// It is paused, and tried again after the pause.
    #[default]
    Reject,
    /// It is switched off until its file or its configuration changes.
    Disable,
}

impl TryFrom<String> for OnFailure {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "reject" => Ok(OnFailure::Reject),
            "disable" => Ok(OnFailure::Disable),
            _ => Err(format!(
                "unknown policy {text:?}{}",
                suggest::hint(&text, &["reject", "disable"])
            )),
        }
    }
}

/// `plugins.filter`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// What becomes of an event when the plugin fails to filter it.
    pub on_failure: FilterFailure,
}

/// `plugins.filter.on_failure`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum FilterFailure {
    /// It is refused.
    #[default]
    Reject,
    /// It goes on as if the plugin had not been there.
    Allow,
}

impl TryFrom<String> for FilterFailure {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "reject" => Ok(FilterFailure::Reject),
            "allow" => Ok(FilterFailure::Allow),
            _ => Err(format!(
                "unknown policy {text:?}{}",
                suggest::hint(&text, &["reject", "allow"])
            )),
        }
    }
}

/// `plugins.webhook`
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// How it is known who sends; none if anybody may.
    pub verification: Option<Verification>,
    /// The largest body.
    pub max_body: Size,
    /// How many one address may send.
    pub limit: Rate,
}

/// How it is known who sends a webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// How it is signed.
    pub scheme: Scheme,
    /// With one of these. If there is none, nobody's webhooks are taken.
    pub secrets: Vec<Secret>,
    /// The environment variables that should hold some more, and are not set.
    pub missing: Vec<String>,
    /// How long ago.
    pub max_age: Duration,
    /// How long it is remembered which deliveries came.
    pub remember: Duration,
}

/// `plugins.webhook.verify`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum Scheme {
    /// Standard Webhooks.
    Standard,
    /// GitHub's.
    Github,
    /// Stripe's.
    Stripe,
}

impl TryFrom<String> for Scheme {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "standard" => Ok(Scheme::Standard),
            "github" => Ok(Scheme::Github),
            "stripe" => Ok(Scheme::Stripe),
            _ => Err(format!(
                "unknown scheme {text:?}{}",
                suggest::hint(&text, &["standard", "github", "stripe"])
            )),
        }
    }
}

impl Webhook {
    /// How old a signature may be, unless the file says otherwise.
    pub const MAX_AGE: Duration = Duration::from_secs(5 * 60);

    /// How long deliveries are remembered, unless the file says otherwise: as long as senders try again.
    pub const REMEMBER: Duration = Duration::from_secs(3 * 24 * 60 * 60);
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            verification: None,
            max_body: Size::mib(1),
            limit: Rate::new(1000, Duration::from_secs(60)).expect("it is a rate"),
        }
    }
}

/// `on_excess`: what becomes of an event over a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum OnExcess {
    /// The client is told.
    #[default]
    Answer,
    /// It is counted, and the client told only if it asked for an ack.
    Drop,
}

impl TryFrom<String> for OnExcess {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "answer" => Ok(OnExcess::Answer),
            "drop" => Ok(OnExcess::Drop),
            _ => Err(format!(
                "unknown policy {text:?}{}",
                suggest::hint(&text, &["answer", "drop"])
            )),
        }
    }
}

/// `socket.slow_client`: what becomes of a client whose send buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum SlowClient {
    /// It is disconnected, and learns by that that it missed something.
    #[default]
    Disconnect,
    /// It does not get the packet.
    Drop,
}

impl TryFrom<String> for SlowClient {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "disconnect" => Ok(SlowClient::Disconnect),
            "drop" => Ok(SlowClient::Drop),
            _ => Err(format!(
                "unknown policy {text:?}{}",
                suggest::hint(&text, &["disconnect", "drop"])
            )),
        }
    }
}

/// `[recovery]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// Whether a client that comes back gets what it missed.
    pub enabled: bool,
    /// How long it may be away.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
    /// How many connections that dropped are kept, of all namespaces together, at least 1.
    pub max_clients: usize,
    /// How many broadcasts of a namespace are kept, at least 1.
    pub max_events: usize,
    /// How much memory they may take, of all namespaces together, and again what is sent to single
    /// connections.
    pub max_bytes: Size,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            enabled: true,
            max_age: Duration::from_secs(120),
            max_clients: 20_000,
            max_events: 10_000,
            max_bytes: Size::mib(32),
        }
    }
}

/// `[presence]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// How many rooms may have somebody present, at least 1.
    pub rooms: usize,
    /// How many may be present in one of them, at least 1.
    pub users: usize,
    /// How much data there may be of each.
    pub data: Size,
    /// How much memory all of them may take.
    pub bytes: Size,
    /// How long a connection that dropped counts as away; if none is said, as long as it may come back.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub grace: Option<Duration>,
    /// How long changes are collected.
    #[serde(deserialize_with = "duration::deserialize")]
    pub batch: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            users: 10_000,
            data: Size::kib(1),
            bytes: Size::mib(64),
            grace: None,
            batch: Duration::from_millis(200),
        }
    }
}

/// `[history]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// How many topics there may be, at least 1.
    pub topics: usize,
    /// How many events of a topic are kept, at least 1.
    pub events: usize,
    /// How much memory these may take.
    pub topic_bytes: Size,
    /// How much memory all of them may take.
    pub bytes: Size,
    /// How long they are kept.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self {
            topics: 10_000,
            events: 100,
            topic_bytes: Size::mib(1),
            bytes: Size::mib(64),
            max_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Where it is; none as long as that follows from `[cluster]`.
    pub on: Option<StoreOn>,
    /// The file.
    pub path: PathBuf,
    /// What is on the disk when a client is told that its event was handled.
    pub durability: Durability,
    /// How long a commit waits for the disk before whoever waits for it is told that nobody knows what becomes
    /// of it.
    #[serde(deserialize_with = "duration::deserialize")]
    pub commit_timeout: Duration,
    /// How many keys a bucket may have, at least 1.
    pub bucket_keys: usize,
    /// How much its keys and values may take.
    pub bucket_bytes: Size,
    /// How much all buckets that plugins share may take together, with what keeping them costs.
    pub shared_bytes: Size,
    /// The largest value.
    pub max_value: Size,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            on: None,
            path: "data/store.redb".into(),
            durability: Durability::default(),
            commit_timeout: Duration::from_secs(10),
            bucket_keys: 1_000_000,
            bucket_bytes: Size::mib(256),
            shared_bytes: Size::mib(1024),
            max_value: Size::mib(1),
        }
    }
}

impl Store {
    /// One that nothing is left of.
    pub fn in_memory() -> Self {
        Self {
            on: Some(StoreOn::Disk),
            durability: Durability::Memory,
            ..Self::default()
        }
    }

    /// Whether it is in the Redis of the cluster.
    pub fn is_in_redis(&self) -> bool {
        self.on == Some(StoreOn::Redis)
    }
}

/// `store.on`: where the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum StoreOn {
    /// In a file of this server alone.
    Disk,
    /// In the Redis of `[cluster]`, for all of its servers.
    Redis,
}

impl TryFrom<String> for StoreOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "disk" => Ok(Self::Disk),
            "redis" => Ok(Self::Redis),
            _ => Err(format!(
                "unknown store {text:?}{}",
                suggest::hint(&text, &["disk", "redis"])
            )),
        }
    }
}

/// `store.durability`: what is on the disk when a client is told that its event was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Durability {
    /// All that the event wrote.
    #[default]
    Commit,
    /// All that was written until so long ago.
    Interval(Duration),
    /// Nothing, ever.
    Memory,
    /// The same, and nobody waits for anything: for plugins on trial, and not to be configured.
    Trial,
}

impl TryFrom<String> for Durability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let interval = text.strip_prefix("interval:");
        match (text.as_str(), interval) {
            ("commit", _) => Ok(Durability::Commit),
            ("memory", _) => Ok(Durability::Memory),
            (_, Some(interval)) => {
                let interval = duration::parse(interval).map_err(|error| error.to_string())?;
                let range = Duration::from_millis(1)..=Duration::from_secs(60);
                if !range.contains(&interval) {
                    return Err(format!(
                        "{text:?} is not between interval:1ms and interval:1m"
                    ));
                }
                Ok(Durability::Interval(interval))
            }
            _ => Err(format!(
                "unknown durability {text:?}{}",
                suggest::hint(&text, &["commit", "interval:100ms", "memory"])
            )),
        }
    }
}

/// `[reload]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// How long a file must be left alone before it is read.
    #[serde(deserialize_with = "duration::deserialize")]
    pub debounce: Duration,
    /// How long calls under way may go on in a plugin that was replaced.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(100),
            drain: Duration::from_secs(30),
        }
    }
}

/// `[[plugins]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Unique, `[a-z0-9-]{1,64}`.
    pub name: String,
    /// The component, a `.wasm` file, or the script.
    pub path: PathBuf,
    /// Where that file is fetched from while it is not there, if it is.
    pub pulled_from: Option<PulledFrom>,
    /// The folder that it is built from, if known.
    pub source: Option<PathBuf>,
    /// The line of a shell that builds it there, if the folder does not say it by itself.
    pub build: Option<String>,
    /// Whether it is loaded.
    pub enabled: bool,
    /// What it may call.
    pub grants: Grants,
    /// The namespaces, as names and patterns, that nobody enters whom it was not asked about.
    pub guards: Vec<String>,
    /// What is said of some of the URLs that it sends requests to, the narrower behind the wider.
    pub http: Vec<HttpRule>,
    /// Its `config` table as the text of a JSON object.
    pub config: String,
    /// What one call may use up.
    pub budget: Budget,
    /// What becomes of it when it keeps failing.
    pub on_failure: OnFailure,
    /// What becomes of its events over a limit, if not what `[limits]` says.
    pub on_excess: Option<OnExcess>,
    /// Whether all servers of a cluster count its events together.
    pub shared_limits: bool,
    /// As a filter of events of others.
    pub filter: Filter,
    /// Whose webhooks it takes.
    pub webhook: Webhook,
}

impl Plugin {
    /// One of which nothing more is said.
    pub(crate) fn new(name: String, path: PathBuf, grants: Grants, budget: Budget) -> Self {
        Self {
            name,
            path,
            pulled_from: None,
            source: None,
            build: None,
            enabled: true,
            grants,
            guards: Vec::new(),
            http: Vec::new(),
            config: "{}".to_owned(),
            budget,
            on_failure: OnFailure::default(),
            on_excess: None,
            shared_limits: false,
            filter: Filter::default(),
            webhook: Webhook::default(),
        }
    }

    /// Fetches its file from where it comes from; how many bytes it has. Nothing is done for one that comes from
    /// nowhere. It blocks.
    pub(crate) fn pull(&self) -> Result<usize, NotPulled> {
        let Some(PulledFrom {
            reference,
            credentials,
        }) = &self.pulled_from
        else {
            return Ok(0);
        };
        let credentials = credentials.as_ref().map(Secret::expose);
        reference.pull(&self.path, self.budget.file, credentials)
    }
}

/// A component in an OCI registry.
#[derive(Clone, Debug, PartialEq)]
pub struct PulledFrom {
    /// Which one.
    pub reference: Reference,
    /// `USER:PASSWORD` for the registry, if it wants to know who asks.
    pub credentials: Option<Secret>,
}

/// An entry of `plugins.http`: what is said of requests to some URLs.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    /// The URLs.
    pub urls: UrlPattern,
    /// Headers that the host puts in. Their values are marked as sensitive: nothing shows them.
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Whether their names may stand for addresses of this machine and its networks.
    pub private: bool,
}
