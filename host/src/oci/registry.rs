//! One name of a registry, as the OCI distribution specification has it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use ureq::{
    Agent, Body, ResponseExt,
    http::{Response, StatusCode, Uri, header::WWW_AUTHENTICATE},
    tls::{RootCerts, TlsConfig},
};
use url::Url;

use super::{COMPONENT, Digest, MANIFEST, MAX_JSON_BYTES, Reference, is_loopback};
use crate::tls;

/// A registry that does not answer for so long is not waited for.
const TIMEOUT: Duration = Duration::from_secs(120);

/// One name of a registry.
pub(super) struct Registry {
    agent: Agent,
    base: String,
    /// As HTTP's Basic has it.
    credentials: Option<String>,
    /// What was asked for, and is sent from then on.
    authorization: Option<String>,
    is_local: bool,
}

impl Registry {
    /// Who has this, asked with these credentials if it wants to know who asks.
    pub(super) fn new(reference: &Reference, credentials: Option<&str>) -> Self {
        let is_local = reference.registry.scheme() == "http";
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(tls::provider())
            .root_certs(RootCerts::new_with_certs(&tls::trusted()));
        // Blobs may be elsewhere, where nobody is told the credentials.
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .https_only(!is_local)
            .max_redirects(3)
            .tls_config(tls.build())
            .build();
        Self {
            agent: config.into(),
            base: format!("{}v2/{}", reference.registry, reference.name),
            credentials: credentials.map(|text| format!("Basic {}", BASE64_STANDARD.encode(text))),
            authorization: None,
            is_local,
        }
    }

    /// What has this digest, and nothing else.
    pub(super) fn get(
        &mut self,
        kind: &str,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<Vec<u8>, String> {
        let url = format!("{}/{kind}/{}", self.base, digest.0);
        let failed = |reason: String| format!("{url}: {reason}");
        let found = self.fetch(&url, max_bytes).map_err(failed)?;
        let bytes = found.map_err(|status| failed(not_found(status)))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(failed("what came has another digest".to_owned())),
        }
    }

    /// The manifest that has this tag, if one has. It may be another one tomorrow.
    pub(super) fn tagged(&mut self, tag: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
        let url = format!("{}/manifests/{tag}", self.base);
        let failed = |reason: String| format!("{url}: {reason}");
        match self.fetch(&url, max_bytes).map_err(failed)? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StatusCode::NOT_FOUND) => Ok(None),
            Err(status) => Err(failed(not_found(status))),
        }
    }

    /// What is there, or the status that is answered instead.
    fn fetch(&mut self, url: &str, max_bytes: u64) -> Result<Result<Vec<u8>, StatusCode>, String> {
        let mut response = self.ask(url)?;
        // Where the registry has sent on to, nobody is told the credentials, nor where tokens are had for them.
        let is_registry = response.get_uri().authority()
            == url.parse::<Uri>().ok().as_ref().and_then(Uri::authority);
        let is_asked = response.status() == StatusCode::UNAUTHORIZED && is_registry;
        if is_asked && self.authorization.is_none() {
            self.authorization = self.authorize(&response)?;
            response = self.ask(url)?;
        }
        match response.status() {
            StatusCode::OK => body(&mut response, max_bytes).map(Ok),
            status => Ok(Err(status)),
        }
    }

    fn ask(&self, url: &str) -> Result<Response<Body>, String> {
        let mut request = self
            .agent
            .get(url)
            .header("accept", format!("{MANIFEST}, {COMPONENT}"));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request.call().map_err(|error| error.to_string())
    }

    /// What the registry wants to see: the credentials, or a token that another service has for them.
    fn authorize(&self, refused: &Response<Body>) -> Result<Option<String>, String> {
        let challenges = refused.headers().get_all(WWW_AUTHENTICATE).iter();
        // There may be others beside it, of which nothing is known here.
        let mut bearer = challenges.filter_map(|it| parameters("bearer", it.to_str().ok()?));
        let Some(parameters) = bearer.next() else {
            return Ok(self.credentials.clone());
        };
        let parameter = |name: &str| {
            let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let realm = parameter("realm").ok_or("the registry does not say who has tokens")?;
        let failed = |reason: String| format!("no token came from {realm}: {reason}");
        let mut url = Url::parse(realm).map_err(|error| failed(error.to_string()))?;
        if url.scheme() != "https" && !(self.is_local && is_loopback(&url)) {
            return Err(format!("tokens are not fetched from {realm}, without TLS"));
        }
        for name in ["service", "scope"] {
            if let Some(value) = parameter(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let mut request = self.agent.get(url.as_str());
        if let Some(credentials) = &self.credentials {
            request = request.header("authorization", credentials);
        }
        let response = request.call();
        let mut response = response.map_err(|error| failed(error.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(failed(format!("it answers with {}", response.status())));
        }
        let answer = body(&mut response, MAX_JSON_BYTES).map_err(failed)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let token = token.ok_or_else(|| failed("none is in its answer".to_owned()))?;
        Ok(Some(format!("Bearer {token}")))
    }
}

fn not_found(status: StatusCode) -> String {
    format!("the registry answered with {status}")
}

/// What stands behind a scheme in a list of challenges.
fn parameters<'a>(scheme: &str, challenges: &'a str) -> Option<&'a str> {
    let lower = challenges.to_ascii_lowercase();
    let mut found = lower.match_indices(scheme).map(|(at, _)| at);
    let at = found.find(|at| {
        let before = lower[..*at].trim_end();
        before.is_empty() || before.ends_with(',')
    })?;
    challenges[at + scheme.len()..].strip_prefix(' ')
}

fn body(response: &mut Response<Body>, max_bytes: u64) -> Result<Vec<u8>, String> {
    // One byte more is one too many.
    let body = response
        .body_mut()
        .with_config()
        .limit(max_bytes + 1)
        .read_to_vec();
    let bytes = body.map_err(|error| error.to_string())?;
    match bytes.len() as u64 > max_bytes {
        true => Err(format!(
            "it is larger than the {max_bytes} bytes that it may have"
        )),
        false => Ok(bytes),
    }
}
