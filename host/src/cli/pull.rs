//! `mixlab plugin pull`: a component from an OCI registry, by its digest, in the form of `wkg` and `oras`: an artifact whose
//! one layer is of the media type `application/wasm`.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header::WWW_AUTHENTICATE},
    tls::{RootCerts, TlsConfig},
};
use url::{Host, Url};

use super::{Failure, Global, control::trusted, output::print};
use crate::{config::Config, id, tls};

/// A registry that does not answer for so long is not waited for.
const TIMEOUT: Duration = Duration::from_secs(120);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const COMPONENT: &str = "application/wasm";

/// How large a manifest may be, and what gives out tokens may answer.
const MAX_JSON_BYTES: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct Pull {
    /// Which component: oci://HOST/NAME@sha256:DIGEST.
    from: Reference,
    /// The file to write, as [[plugins]] names it.
    file: PathBuf,
    /// The environment variable that holds USER:PASSWORD for the registry.
    #[arg(long, value_name = "VARIABLE")]
    credentials_env: Option<String>,
}

/// What a registry calls one content for good. A tag may be another content tomorrow, and is refused.
#[derive(Clone)]
struct Reference {
    registry: Url,
    name: String,
    digest: Digest,
}

/// `sha256:` and 64 digits.
#[derive(Clone, PartialEq, Eq)]
struct Digest(String);

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected oci://HOST/NAME@sha256:DIGEST";
        let rest = text.strip_prefix("oci://").ok_or(expected)?;
        let (place, digest) = rest.split_once('@').ok_or_else(|| {
            format!("{expected}: a tag or none at all may be another content tomorrow")
        })?;
        let digest: Digest = digest.parse()?;
        let (host, name) = place.split_once('/').ok_or(expected)?;
        let is_name = |name: &str| {
            let good = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            };
            name.split('/').all(|part| {
                !part.is_empty() && part != "." && part != ".." && part.bytes().all(good)
            })
        };
        if !is_name(name) {
            return Err(format!("{name:?} is no name of a registry's: {expected}"));
        }
        // Whoever listens on the way must not learn what is pulled, nor the credentials.
        let registry =
            Url::parse(&format!("https://{host}/")).map_err(|error| error.to_string())?;
        if !registry.username().is_empty() || registry.password().is_some() {
            return Err("credentials belong into the variable of --credentials-env".to_owned());
        }
        if host.contains(['?', '#', '\\']) {
            return Err(format!("{host:?} is no host: {expected}"));
        }
        let registry = match is_loopback(&registry) {
            true => Url::parse(&format!("http://{host}/")).map_err(|error| error.to_string())?,
            false => registry,
        };
        Ok(Self {
            registry,
            name: name.to_owned(),
            digest,
        })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let is_hex = digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match digits.len() == 64 && is_hex {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "{text:?} is no digest: expected sha256: and 64 digits"
            )),
        }
    }
}

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        let mut text = "sha256:".to_owned();
        for byte in Sha256::digest(bytes) {
            write!(text, "{byte:02x}").expect("a text takes more");
        }
        Self(text)
    }
}

/// As far as it is looked at.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
}

impl Pull {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let config = Config::load_if_there(&global.config, global.overrides());
        let max_bytes = config.map_err(Failure::bad_input)?.budget.file.bytes();
        let credentials = self.credentials_env.as_deref().map(|variable| {
            std::env::var(variable).map_err(|_| {
                Failure::from(format!("the environment variable {variable} is not set"))
            })
        });
        let mut registry = Registry::new(&self.from, credentials.transpose()?);
        let manifest = registry.get("manifests", &self.from.digest, MAX_JSON_BYTES)?;
        let layer = component(&manifest).map_err(Failure::from)?;
        if layer.size > max_bytes {
            return Err(Failure::from(format!(
                "the component has {} bytes, more than [budget] file ({max_bytes})",
                layer.size
            )));
        }
        let digest: Digest = layer.digest.parse().map_err(Failure::from)?;
        let component = registry.get("blobs", &digest, layer.size)?;
        put(&self.file, &component)
            .map_err(|error| Failure::from(format!("{}: {error}", self.file.display())))?;
        let bytes = component.len();
        Ok(print(|out| {
            writeln!(out, "wrote {}: {bytes} bytes", self.file.display())
        })?)
    }
}

/// The layer of a manifest that is the component.
fn component(manifest: &[u8]) -> Result<Layer, String> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| format!("the manifest is none: {error}"))?;
    let [layer] = <[Layer; 1]>::try_from(manifest.layers).map_err(|layers| {
        format!(
            "the artifact has {} layers and not one, the component",
            layers.len()
        )
    })?;
    match layer.media_type == COMPONENT {
        true => Ok(layer),
        false => Err(format!(
            "the artifact is of {:?} and not of {COMPONENT:?}",
            layer.media_type
        )),
    }
}

/// Puts the whole file there at once: a server may be looking.
fn put(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    // One that nobody can have put there.
    name.push(format!(".{}.part", id::random()));
    let part = file.with_file_name(name);
    let mut new = File::create_new(&part)?;
    let written = new.write_all(bytes).and_then(|()| fs::rename(&part, file));
    written.inspect_err(|_| {
        // What was not put in place is of no use.
        let _ = fs::remove_file(&part);
    })
}

/// One name of a registry.
struct Registry {
    agent: Agent,
    base: String,
    /// As HTTP's Basic has it.
    credentials: Option<String>,
    /// What was asked for, and is sent from then on.
    authorization: Option<String>,
    is_local: bool,
}

impl Registry {
    fn new(reference: &Reference, credentials: Option<String>) -> Self {
        let is_local = reference.registry.scheme() == "http";
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(tls::provider())
            .root_certs(RootCerts::new_with_certs(&trusted()));
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
    fn get(&mut self, kind: &str, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/{kind}/{}", self.base, digest.0);
        let failed = |reason: String| Failure::from(format!("{url}: {reason}"));
        let mut response = self.ask(&url).map_err(failed)?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorization = self.authorize(&response).map_err(failed)?;
            response = self.ask(&url).map_err(failed)?;
        }
        if response.status() != StatusCode::OK {
            return Err(failed(format!(
                "the registry answered with {}",
                response.status()
            )));
        }
        let bytes = body(&mut response, max_bytes).map_err(failed)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(failed("what came has another digest".to_owned())),
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
        let challenge = refused.headers().get(WWW_AUTHENTICATE);
        let challenge = challenge
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(self.credentials.clone());
        }
        let parameter = |name: &str| {
            let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let realm = parameter("realm").ok_or("the registry does not say who has tokens")?;
        let mut url = Url::parse(realm).map_err(|error| error.to_string())?;
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
        let mut response = request.call().map_err(|error| error.to_string())?;
        let answer = body(&mut response, MAX_JSON_BYTES)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let token = token.ok_or_else(|| format!("{realm} gave no token"))?;
        Ok(Some(format!("Bearer {token}")))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let read = |text: &str| text.parse::<Reference>();
        for (place, url) in [
            ("ghcr.io/a/b", "https://ghcr.io/"),
            ("localhost:5000/talk", "http://localhost:5000/"),
            ("127.0.0.1:5000/talk", "http://127.0.0.1:5000/"),
            ("[::1]:5000/talk", "http://[::1]:5000/"),
            (
                "localhost.example.com/talk",
                "https://localhost.example.com/",
            ),
        ] {
            let reference = read(&format!("oci://{place}@{digest}"));
            assert_eq!(
                reference.map(|it| it.registry.to_string()),
                Ok(url.to_owned())
            );
        }
        for text in [
            "ghcr.io/a/b".to_owned(),
            "oci://ghcr.io/a/b".to_owned(),
            "oci://ghcr.io/a/b:1.0".to_owned(),
            "oci://ghcr.io/a/b@sha256:00".to_owned(),
            "oci://ghcr.io/a/b@sha512:00".to_owned(),
            format!("oci://ghcr.io@{digest}"),
            format!("oci://ghcr.io/../a@{digest}"),
            format!("oci://ghcr.io/A@{digest}"),
            format!("oci:///a@{digest}"),
            format!("oci://user@ghcr.io/a@{digest}"),
            format!("oci://ghcr.io?x/a@{digest}"),
            format!("oci://ghcr.io#x/a@{digest}"),
            format!("oci://\\ghcr.io/a@{digest}"),
        ] {
            assert!(read(&text).is_err(), "{text}");
        }
    }
}
