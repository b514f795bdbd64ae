//! `[tls]`: HTTPS, and what it is made of.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Listen, choice::choice};

/// `[tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// What clients are shown, by the names in them. There is at least one: the first is for clients that
    /// name no host, or one that none is for.
    pub certificates: Vec<Certificate>,
    /// The oldest version of the protocol that is spoken.
    pub min_version: TlsVersion,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Where requests without TLS are sent here from.
    pub redirect_from: Option<Listen>,
    /// The port that they are sent to; none if it is that of `listen`.
    pub redirect_port: Option<u16>,
    /// For how long browsers are told to come by HTTPS only.
    pub hsts: Option<Duration>,
}

impl Tls {
    /// How long a handshake may take, unless the file says otherwise.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
}

/// The files of one certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate itself, and behind it those that signed it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `tls.min_version`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[schemars(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[schemars(rename = "1.3")]
    Tls13,
}

impl TryFrom<String> for TlsVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let "1.0" | "1.1" = &*text {
            return Err(format!(
                "TLS {text} is not spoken: it is broken (RFC 8996); the oldest is \"1.2\""
            ));
        }
        choice(
            "version",
            &text,
            &[("1.2", Self::Tls12), ("1.3", Self::Tls13)],
        )
    }
}
