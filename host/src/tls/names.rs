//! Which certificate is for which host.

use std::{net::IpAddr, sync::Arc};

use ahash::{HashMap, HashSet};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::certificate::Certificate;

/// Certificates by the names that they are for.
#[derive(Debug)]
pub(crate) struct Names {
    /// Several of one name have keys of different kinds.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    addresses: HashSet<IpAddr>,
    /// For clients that name no host, or one that none is for.
    fallback: Arc<CertifiedKey>,
}

impl Names {
    /// The first of the certificates is for all others. There is one.
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::default();
        for certificate in certificates {
            for name in &certificate.names {
                let of_name = by_name.entry(name.clone()).or_default();
                of_name.push(certificate.certified.clone());
            }
        }
        let addresses = certificates.iter().flat_map(|one| &one.addresses);
        Self {
            by_name,
            addresses: addresses.copied().collect(),
            fallback: certificates[0].certified.clone(),
        }
    }

    /// Whether a certificate is for this host, as it is written in a URL.
    pub(crate) fn has(&self, host: &str) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match bare.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.of(host).is_some(),
        }
    }

    /// The certificates for a name: those that have it, else those for all names beside it.
    fn of(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let exact = self.by_name.get(&name);
        let found = exact.or_else(|| {
            let (_, domain) = name.split_once('.')?;
            self.by_name.get(&format!("*.{domain}"))
        });
        found.map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fallback = std::slice::from_ref(&self.fallback);
        let of_name = hello.server_name().and_then(|name| self.of(name));
        let candidates = of_name.unwrap_or(fallback);
        let schemes = hello.signature_schemes();
        let fits = |candidate: &&Arc<CertifiedKey>| candidate.key.choose_scheme(schemes).is_some();
        candidates.iter().find(fits).cloned()
    }
}
