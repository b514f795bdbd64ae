//! `[[plugins]]`: one plugin, what it may do and use up.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Budget, Filter, OnExcess, Secret, Webhook, choice::choice};
use crate::grant::Grants;
use crate::http_client::UrlPattern;
use crate::oci::{NotPulled, Reference, Signer};

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
            signed_by,
        }) = &self.pulled_from
        else {
            return Ok(0);
        };
        let credentials = credentials.as_ref().map(Secret::expose);
        let max_bytes = self.budget.file;
        reference.keep(&self.path, max_bytes, credentials, signed_by.as_ref())
    }
}

/// A component in an OCI registry.
#[derive(Clone, Debug, PartialEq)]
pub struct PulledFrom {
    /// Which one.
    pub reference: Reference,
    /// `USER:PASSWORD` for the registry, if it wants to know who asks.
    pub credentials: Option<Secret>,
    /// Who must have signed it, if anybody must.
    pub signed_by: Option<Signer>,
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
        choice(
            "policy",
            &text,
            &[("reject", Self::Reject), ("disable", Self::Disable)],
        )
    }
}
