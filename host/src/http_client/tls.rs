//! TLS for requests, with the certificates that this machine trusts.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::task::spawn_blocking;

/// The configuration of all connections, with what the system trusts right now: `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` say where that is, if it is not where it usually is.
pub(crate) async fn config() -> ClientConfig {
    let reading = spawn_blocking(trusted);
    let roots = reading.await.unwrap_or_else(|error| {
        tracing::error!("the certificates that this machine trusts were not read: {error}");
        RootCertStore::empty()
    });
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn trusted() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("some certificates that this machine trusts cannot be read: {error}");
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::error!(
            "this machine trusts no certificate, so no plugin can send a request over https: install the \
             system's (ca-certificates), or name a file in SSL_CERT_FILE"
        );
    }
    roots
}
