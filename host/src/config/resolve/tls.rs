//! `[tls]`: which files belong together.

use std::path::PathBuf;
use std::time::Duration;

use super::{MORE_THAN_ZERO, Resolver};
use crate::config::file::{CertificateFile, Interval, Table, TlsFile};
use crate::config::{Certificate, Listen, Tls};

impl Resolver<'_> {
    /// There is TLS where a certificate is named.
    pub(super) fn tls(&mut self, file: TlsFile, listen: &Listen) -> Option<Tls> {
        let first = CertificateFile {
            certificate: file.certificate,
            key: file.key,
        };
        let has_more = file.min_version.is_some()
            || file.handshake_timeout.is_some()
            || file.redirect_from.is_some()
            || file.redirect_port.is_some()
            || file.hsts.is_some()
            || !file.certificates.is_empty();
        if first.certificate.is_none() && first.key.is_none() && !has_more {
            return None;
        }
        let mut certificates = Vec::new();
        certificates.extend(self.certificate("tls", first));
        for (index, Table(one)) in file.certificates.into_iter().enumerate() {
            let at = format!("tls.certificates.{index}");
            certificates.extend(self.certificate(&at, one));
        }
        let timeout = file.handshake_timeout;
        let handshake_timeout = timeout.map_or(Tls::HANDSHAKE_TIMEOUT, |Interval(time)| time);
        self.check(
            "tls.handshake_timeout",
            handshake_timeout >= Duration::from_millis(1),
            "must be 1ms or more",
        );
        let is_other = file
            .redirect_from
            .as_ref()
            .is_none_or(|from| from.port() == 0 || from != listen);
        self.check(
            "tls.redirect_from",
            is_other,
            "must be another address than listen, where TLS is spoken",
        );
        self.check(
            "tls.redirect_port",
            file.redirect_port != Some(0),
            MORE_THAN_ZERO,
        );
        Some(Tls {
            certificates,
            min_version: file.min_version.unwrap_or_default(),
            handshake_timeout,
            redirect_from: file.redirect_from,
            redirect_port: file.redirect_port,
            hsts: file.hsts.map(|Interval(time)| time),
        })
    }

    fn certificate(&mut self, at: &str, file: CertificateFile) -> Option<Certificate> {
        let certificate = self.file(at, "certificate", file.certificate);
        let key = self.file(at, "key", file.key);
        let (certificate, key) = (certificate?, key?);
        Some(Certificate { certificate, key })
    }

    fn file(&mut self, at: &str, name: &str, path: Option<PathBuf>) -> Option<PathBuf> {
        let path = self.required(at, name, path)?;
        self.path(&format!("{at}.{name}"), Some(path))
    }
}
