//! Signatures of components as cosign makes them: an artifact beside the one that is signed, under a tag made of its
//! digest. What is signed is a text that names the digest.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;
use webpki::{Error, RawPublicKeyEntity};

use super::{Digest, Layer, MAX_JSON_BYTES, Manifest, registry::Registry};
use crate::tls;

/// What is signed.
const SIGNED: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of a layer that is its signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What a text that is signed says of itself.
const TYPE: &str = "cosign container image signature";

/// An artifact has no more signatures than this; each is a request to the registry.
const MAX_SIGNATURES: usize = 32;

/// The public key of whose signature a component must have: ECDSA, Ed25519 or RSA.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer(SubjectPublicKeyInfoDer<'static>);

impl Signer {
    /// Whether the holder of the key has signed what has this digest; if not, why it is not taken for that.
    pub(super) fn check(&self, registry: &mut Registry, digest: &Digest) -> Result<(), String> {
        let tag = digest.0.replace(':', "-") + ".sig";
        let Some(manifest) = registry.tagged(&tag, MAX_JSON_BYTES)? else {
            return Err(format!("nobody has signed it: there is no {tag}"));
        };
        let Manifest { layers } = Manifest::read(&manifest)?;
        if layers.len() > MAX_SIGNATURES {
            return Err(format!("{tag} has more than {MAX_SIGNATURES} signatures"));
        }
        for layer in layers {
            let Some(signature) = signature(&layer) else {
                continue;
            };
            let signed = registry.get("blobs", &layer.digest.parse()?, MAX_JSON_BYTES)?;
            if self.has_signed(&signed, &signature) && is_about(&signed, digest) {
                return Ok(());
            }
        }
        Err(format!("no signature of {tag} is by the key of signed_by"))
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = RawPublicKeyEntity::try_from(&self.0);
        let algorithms = tls::provider().signature_verification_algorithms;
        // Those for another kind of key say no.
        key.is_ok_and(|key| {
            let mut all = algorithms.all.iter();
            all.any(|it| key.verify_signature(*it, message, signature).is_ok())
        })
    }

    /// What tells its components from those that nobody, or somebody else, must have signed.
    pub(super) fn fingerprint(&self) -> String {
        Digest::of(&self.0).digits().to_owned()
    }
}

/// Whether anything could be signed by a key that is taken: an algorithm for it says what is wrong with the signature,
/// and not with the key.
fn is_of_known_kind(key: &SubjectPublicKeyInfoDer<'_>) -> Result<bool, Error> {
    let key = RawPublicKeyEntity::try_from(key)?;
    let algorithms = tls::provider().signature_verification_algorithms;
    Ok(algorithms.all.iter().any(|algorithm| {
        let error = key.verify_signature(*algorithm, &[], &[]).err();
        !matches!(
            error,
            Some(Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_))
        )
    }))
}

/// The signature of a layer, if it is one.
fn signature(layer: &Layer) -> Option<Vec<u8>> {
    let text = layer.annotations.as_ref()?.get(SIGNATURE);
    let text = text.filter(|_| layer.media_type == SIGNED)?;
    BASE64_STANDARD.decode(text).ok()
}

/// Whether a text that is signed is about what has this digest.
fn is_about(signed: &[u8], digest: &Digest) -> bool {
    let signed = serde_json::from_slice::<Signed>(signed);
    signed
        .is_ok_and(|Signed { critical }| critical.kind == TYPE && critical.image.digest == digest.0)
}

#[derive(Deserialize)]
struct Signed {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

pub(super) type Annotations = BTreeMap<String, String>;

impl FromStr for Signer {
    type Err = &'static str;

    /// As PEM, or what is between its first and its last line.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a public key, as PEM: -----BEGIN PUBLIC KEY-----";
        let key = match text.contains("-----BEGIN") {
            true => {
                let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes());
                let key = keys.next().and_then(Result::ok).ok_or(expected)?;
                // Whether one of them will do, or all must have signed, is not for the host to guess.
                if keys.next().is_some() {
                    return Err("it has more than one key");
                }
                key
            }
            false => BASE64_STANDARD
                .decode(text.trim())
                .map_err(|_| expected)?
                .into(),
        };
        match is_of_known_kind(&key) {
            Ok(true) => Ok(Self(key)),
            Ok(false) => {
                Err("the key is of no kind that is known: ECDSA with P-256 or P-384, Ed25519, RSA")
            }
            Err(_) => Err(expected),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.fingerprint())
    }
}
