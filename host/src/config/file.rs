//! What was written: file and environment together, in the shape of the file.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use figment::error::{Actual, Kind};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::environment::Environment;
use super::locate::Document;
use super::problem::{Fault, Problems};
use super::sections::{admin::AdminFile, budget::BudgetFile, telemetry::TelemetryFile};
use super::{
    Audit, Auth, Breaker, Cluster, Console, Cors, Filter, History, Limits, Listen, Log, OnExcess,
    OnFailure, Payments, Presence, Recovery, Reload, Runtime, Scheme, Secret, Shutdown, Socket,
    Store, TlsVersion, Web, moment,
};
use crate::grant::Grants;
use crate::units::{Rate, Size, duration};

/// The file. No key is required here: what is missing is found by [`super::resolve`], so that
/// reading can go on behind any single mistake.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub listen: Listen,
    pub tls: Table<TlsFile>,
    pub log: Table<Log>,
    pub audit: Table<Audit>,
    pub auth: Table<Auth>,
    pub payments: Table<Payments>,
    pub cors: Table<Cors>,
    pub socket: Table<Socket>,
    pub api: Table<ApiFile>,
    pub admin: Table<AdminFile>,
    pub web: Table<Web>,
    pub console: Table<Console>,
    pub runtime: Table<Runtime>,
    pub budget: Table<BudgetFile>,
    pub limits: Table<Limits>,
    pub breaker: Table<Breaker>,
    pub recovery: Table<Recovery>,
    pub presence: Table<Presence>,
    pub history: Table<History>,
    pub store: Table<Store>,
    pub cluster: Table<Cluster>,
    pub shutdown: Table<Shutdown>,
    pub telemetry: Table<TelemetryFile>,
    pub reload: Table<Reload>,
    pub plugins: Vec<Table<PluginFile>>,
}

/// `[tls]`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsFile {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub certificates: Vec<Table<CertificateFile>>,
    pub min_version: Option<TlsVersion>,
    pub handshake_timeout: Option<Interval>,
    pub redirect_from: Option<Listen>,
    pub redirect_port: Option<u16>,
    pub hsts: Option<Interval>,
}

/// An element of `tls.certificates`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CertificateFile {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// `[api]`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApiFile {
    pub keys: Vec<Table<KeyFile>>,
    pub max_body: Option<Size>,
}

/// An element of `api.keys`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KeyFile {
    pub name: Option<String>,
    pub key: Option<Secret>,
    pub key_env: Option<String>,
    #[serde(deserialize_with = "moment::deserialize_some")]
    #[schemars(with = "Option<String>")]
    pub until: Option<SystemTime>,
    pub former_keys: Vec<Table<FormerKeyFile>>,
    pub rights: Option<Grants>,
    pub limit: Option<Rate>,
    pub in_flight: Option<usize>,
}

/// An element of `former_keys` of one of these
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FormerKeyFile {
    pub key: Option<Secret>,
    pub key_env: Option<String>,
    #[serde(deserialize_with = "moment::deserialize_some")]
    #[schemars(with = "Option<String>")]
    pub until: Option<SystemTime>,
}

/// `[[plugins]]`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PluginFile {
    #[schemars(regex(pattern = "^[a-z0-9-]{1,64}$"))]
    pub name: Option<String>,
    pub path: Option<PathBuf>,
    pub credentials_env: Option<String>,
    pub signed_by: Option<String>,
    pub source: Option<PathBuf>,
    pub build: Option<String>,
    pub enabled: Option<bool>,
    pub grants: Grants,
    pub guards: Vec<String>,
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub config: Dict,
    pub http: BTreeMap<String, Table<HttpFile>>,
    pub budget: Table<BudgetFile>,
    pub on_failure: OnFailure,
    pub on_excess: Option<OnExcess>,
    pub shared_limits: bool,
    pub filter: Table<Filter>,
    pub webhook: Table<WebhookFile>,
}

/// `plugins.webhook`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebhookFile {
    pub verify: Option<Scheme>,
    pub secret_env: Option<OneOrMore>,
    pub max_age: Option<Interval>,
    pub remember: Option<Interval>,
    pub max_body: Option<Size>,
    pub limit: Option<Rate>,
}

/// A time as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Interval(#[serde(deserialize_with = "duration::deserialize")] pub Duration);

/// A text, or a list of some.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// An entry of `plugins.http`, by a pattern of URLs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpFile {
    pub header: BTreeMap<String, Secret>,
    pub private: bool,
}

impl ConfigFile {
    /// Reads what was written. Each mistake becomes a problem and counts as not written.
    pub(super) fn read(
        document: &Document,
        environment: &Environment,
        problems: &mut Problems,
    ) -> Self {
        let layers = Figment::new()
            .merge(Layer {
                name: "file",
                values: document.values(),
            })
            .merge(Layer {
                name: "environment",
                values: environment.values(),
            });
        let mut written: Value = layers.extract().expect("any value can be taken as such");
        // serde stops at the first mistake it meets, which is the first in the alphabet.
        loop {
            let error = match written.deserialize::<ConfigFile>() {
                Ok(file) => return file,
                Err(error) => error,
            };
            if let Some(text) = text_taken_for_more(&error, environment) {
                replace(&mut written, &error.path, Some(text.into()));
                continue;
            }
            let fixed = replace(&mut written, &error.path, None);
            problems.add(error.path, Fault::of(error.kind));
            if !fixed {
                return ConfigFile::default();
            }
        }
    }
}

/// The text of a variable whose value was taken for a number or the like, although a string is
/// wanted: `MIXLAB_AUTH__AUDIENCE=42`.
fn text_taken_for_more<'a>(
    error: &figment::Error,
    environment: &'a Environment,
) -> Option<&'a str> {
    match &error.kind {
        Kind::InvalidType(Actual::Str(_), _) => None,
        Kind::InvalidType(_, wanted) if wanted == "a string" || wanted == "path string" => {
            environment
                .setting(&error.path)
                .filter(|variable| variable.path == error.path)
                .map(|variable| variable.text.as_str())
        }
        _ => None,
    }
}

/// Replaces or takes out the value at the path; in a list, the whole list is taken out, since the
/// elements behind would change their index. Returns whether anything was there.
fn replace(value: &mut Value, path: &[String], new: Option<Value>) -> bool {
    let (Value::Dict(_, dict), [step, rest @ ..]) = (value, path) else {
        return false;
    };
    let inner_is_done = match dict.get_mut(step) {
        None => return false,
        Some(Value::Array(_, elements)) => match rest {
            [index, rest @ ..] => index
                .parse::<usize>()
                .ok()
                .and_then(|index| elements.get_mut(index))
                .is_some_and(|element| replace(element, rest, new.clone())),
            [] => false,
        },
        Some(inner) => replace(inner, rest, new.clone()),
    };
    if !inner_is_done {
        match new {
            Some(new) => dict.insert(step.clone(), new),
            None => dict.remove(step),
        };
    }
    true
}

/// One source of values for figment, which lays one over the other.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// A TOML table. serde alone would also take a list for it, its elements for the keys in order.
#[derive(Default)]
pub(super) struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TableVisitor(PhantomData))
    }
}

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = Table<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Table)
    }
}
