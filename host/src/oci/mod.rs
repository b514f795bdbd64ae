//! Components from OCI registries, by their digests, in the form of `wkg` and `oras`: an artifact whose one layer is of
//! the media type `application/wasm`.

mod kept;
mod registry;
mod signature;

use std::{
    fmt::{self, Write as _},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::{Host, Url};

pub(crate) use self::{
    kept::{doubt, touch},
    signature::Signer,
};
use self::{registry::Registry, signature::Annotations};
use crate::{id, units::Size};

/// How a reference begins, in `mixlab.toml` and on the command line.
pub(crate) const SCHEME: &str = "oci://";

/// How a digest begins.
const DIGEST: &str = "sha256:";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const COMPONENT: &str = "application/wasm";

/// How large a manifest may be, and what gives out tokens may answer.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// What a registry calls one content for good. A tag may be another content tomorrow, and is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: Url,
    name: String,
    digest: Digest,
}

/// `sha256:` and 64 digits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Digest(String);

/// Why a component did not come.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPulled(String);

impl From<String> for NotPulled {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl Reference {
    /// The file of its component among those that were pulled into this folder. One that somebody must have signed has
    /// another file: what is there was checked.
    pub(crate) fn file(&self, folder: &Path, signed_by: Option<&Signer>) -> PathBuf {
        let digits = self.digest.digits();
        folder.join(match signed_by {
            None => format!("{digits}.wasm"),
            Some(signer) => format!("{digits}.{}.wasm", signer.fingerprint()),
        })
    }

    /// Pulls into the file of a folder where such files are kept, and makes room there for others to come.
    pub(crate) fn keep(
        &self,
        file: &Path,
        max_bytes: Size,
        credentials: Option<&str>,
        signed_by: Option<&Signer>,
    ) -> Result<usize, NotPulled> {
        let bytes = self.pull(file, max_bytes, credentials, signed_by)?;
        if let Some(folder) = file.parent()
            && let Err(error) = kept::make_room(folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "the folder is not cleaned up");
        }
        Ok(bytes)
    }

    /// Puts its component, of at most so many bytes, into a file, by the credentials `USER:PASSWORD`; how many bytes it
    /// has. It blocks, for minutes if the registry does.
    pub(crate) fn pull(
        &self,
        file: &Path,
        max_bytes: Size,
        credentials: Option<&str>,
        signed_by: Option<&Signer>,
    ) -> Result<usize, NotPulled> {
        let mut registry = Registry::new(self, credentials);
        let manifest = registry.get("manifests", &self.digest, MAX_JSON_BYTES)?;
        if let Some(signer) = signed_by {
            signer.check(&mut registry, &self.digest)?;
        }
        let layer = component(&manifest)?;
        if layer.size > max_bytes.bytes() {
            return Err(NotPulled(format!(
                "the component has {} bytes, more than [budget] file ({})",
                layer.size,
                max_bytes.bytes()
            )));
        }
        let digest: Digest = layer.digest.parse()?;
        let component = registry.get("blobs", &digest, layer.size)?;
        put(file, &component).map_err(|error| NotPulled(format!("{}: {error}", file.display())))?;
        Ok(component.len())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            name,
            digest,
        } = self;
        let place = registry.as_str().split_once("//").map_or("", |(_, it)| it);
        write!(f, "{SCHEME}{place}{name}@{}", digest.0)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected oci://HOST/NAME@sha256:DIGEST";
        let rest = text.strip_prefix(SCHEME).ok_or(expected)?;
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
            return Err(
                "credentials belong into an environment variable: credentials_env names it"
                    .to_owned(),
            );
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
        let digits = text.strip_prefix(DIGEST).unwrap_or_default();
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
        let mut text = DIGEST.to_owned();
        for byte in Sha256::digest(bytes) {
            write!(text, "{byte:02x}").expect("a text takes more");
        }
        Self(text)
    }

    fn digits(&self) -> &str {
        self.0.trim_start_matches(DIGEST)
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
    annotations: Option<Annotations>,
}

impl Manifest {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("the manifest is none: {error}"))
    }
}

/// The layer of a manifest that is the component.
fn component(manifest: &[u8]) -> Result<Layer, String> {
    let Manifest { layers } = Manifest::read(manifest)?;
    let [layer] = <[Layer; 1]>::try_from(layers).map_err(|layers| {
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

/// Puts the whole file there at once: a server may be looking. Others may read it, and not write to it.
fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    // One that nobody can have put there.
    name.push(format!(".{}{}", id::random(), kept::UNFINISHED));
    let part = file.with_file_name(name);
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o644);
    let mut new = options.open(&part)?;
    let written = new.write_all(bytes);
    // It is asked for no more once it is there: after a loss of power it is whole, or not there.
    let written = written.and_then(|()| new.sync_all());
    let written = written.and_then(|()| fs::rename(&part, file));
    written.inspect_err(|_| {
        // What was not put in place is of no use.
        let _ = fs::remove_file(&part);
    })
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
