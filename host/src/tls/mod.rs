//! TLS for clients: which certificate they are shown, and by which rules they are spoken to.
//!
//! All of it is one immutable [`Identity`], read from files; the reload task publishes another when they
//! change. A connection keeps what it began with.

mod certificate;
mod names;
mod x509;

use std::{io, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use tokio::task::spawn_blocking;

pub use self::certificate::CertificateError;
use self::{certificate::Certificate, names::Names};
use crate::config::{self, TlsVersion};

/// The one protocol that is spoken within. HTTP/2 is absent on purpose: see ARCHITECTURE.md.
const PROTOCOL: &[u8] = b"http/1.1";

/// What clients are shown, as the files were when they were read.
pub(crate) struct Identity {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// Finds certificates by names.
    pub names: Arc<Names>,
    certificates: Vec<Certificate>,
    min_version: TlsVersion,
}

/// The current identity; a reload publishes a new one.
pub(crate) type Current = Arc<ArcSwap<Identity>>;

impl Identity {
    /// Reads the files.
    pub(crate) async fn read(tls: config::Tls) -> Result<Self, CertificateError> {
        let path = tls.certificates[0].certificate.clone();
        let reading = spawn_blocking(move || Self::read_now(&tls)).await;
        reading.unwrap_or_else(|error| {
            let source = io::Error::other(error);
            Err(CertificateError::Unreadable { path, source })
        })
    }

    fn read_now(tls: &config::Tls) -> Result<Self, CertificateError> {
        let provider = provider();
        let certificates = tls.certificates.iter();
        let certificates = certificates
            .map(|files| Certificate::read(files, &provider))
            .collect::<Result<Vec<_>, _>>()?;
        let names = Arc::new(Names::new(&certificates));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls.min_version))
            .expect("the provider has the usual versions")
            .with_no_client_auth()
            .with_cert_resolver(names.clone());
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Clients that come back all at once need no new signatures, however many they are.
        match ring::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!("clients that come back cannot resume: {error}"),
        }
        Ok(Self {
            config: Arc::new(config),
            names,
            certificates,
            min_version: tls.min_version,
        })
    }

    /// Whether clients would see no difference.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // Of two keys, one fits.
        self.min_version == other.min_version && self.chains().eq(other.chains())
    }

    fn chains(&self) -> impl Iterator<Item = &[CertificateDer<'static>]> {
        let certificates = self.certificates.iter();
        certificates.map(|certificate| &*certificate.certified.cert)
    }

    /// Logs what is allowed and is likely a mistake.
    pub(crate) fn warn_of_doubts(&self) {
        let (faults, doubts) = self.doubts();
        for doubt in faults.iter().chain(&doubts) {
            tracing::warn!("{doubt}");
        }
    }

    /// Why clients refuse some certificates, and what else is allowed and is likely a mistake, each in a
    /// sentence. A server serves all the same: some client may not look.
    pub(crate) fn doubts(&self) -> (Vec<String>, Vec<String>) {
        let now = SystemTime::now();
        let faults = self.certificates.iter().filter_map(|one| one.fault(now));
        let doubts = self.certificates.iter().flat_map(|one| one.doubts(now));
        (faults.collect(), doubts.collect())
    }

    /// The certificates, the one of clients that name nobody first.
    pub(crate) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

/// The certificates that this machine trusts, for requests of the host's own.
pub(crate) fn trusted() -> Vec<ureq::tls::Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found
        .iter()
        .map(|certificate| ureq::tls::Certificate::from_der(certificate).to_owned())
        .collect()
}

/// The cryptography of the server and of the command line.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Both versions, the newer one first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::Tls12 => &VERSIONS,
        TlsVersion::Tls13 => &VERSIONS[..1],
    }
}
