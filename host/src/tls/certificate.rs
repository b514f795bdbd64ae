//! One certificate with its key, as they are read from two files.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    Error, InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

use super::x509::Details;
use crate::config;

/// A certificate is about to expire when less than this part of its time is left. Whoever renews them
/// does so earlier: at a third.
const LAST_PART: u32 = 10;

/// The largest file that is read, in bytes: a chain of many certificates takes a hundredth of it.
const MAX_FILE: u64 = 1024 * 1024;

/// Who may read or change a key, but for its owner and who is in its group.
const OPEN_TO_OTHERS: u32 = 0o026;

/// A certificate that can be shown to clients.
pub(crate) struct Certificate {
    /// As it is shown.
    pub certified: Arc<CertifiedKey>,
    /// The names that it is for, in lower case, those with a `*` for their first part, too.
    pub names: Vec<String>,
    /// The addresses that it is for.
    pub addresses: Vec<IpAddr>,
    /// When it expires.
    pub not_after: SystemTime,
    not_before: SystemTime,
    files: config::Certificate,
    /// The permissions of the key.
    key_mode: u32,
}

/// Why a certificate cannot be shown to anybody.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is not to be had. It may be the next time.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Each file is good by itself.
    #[error(
        "{}: the key is not that of the first certificate in {}, which has to be the server's own",
        .key.display(),
        .certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl CertificateError {
    /// Whether the same files may be good at another time.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}

impl Certificate {
    /// Reads both files. It blocks.
    pub(super) fn read(
        files: &config::Certificate,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let (certificate, key) = (&files.certificate, &files.key);
        let chain = chain(certificate, &read(certificate)?)?;
        let key_mode = mode(key)?;
        let private_key = private_key(key, &read(key)?)?;
        let Details {
            names,
            addresses,
            not_before,
            not_after,
        } = Details::of(&chain[0])
            .map_err(|error| content(certificate, format!("it is no certificate: {error}")))?;
        let certified = CertifiedKey::from_der(chain, private_key, provider);
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::Mismatch {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            Error::InvalidCertificate(error) => content(certificate, format!("{error:?}")),
            error => content(key, error.to_string()),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            names,
            addresses,
            not_after,
            not_before,
            files: files.clone(),
            key_mode,
        })
    }

    /// What people know it by: its first name, or else its file.
    pub(crate) fn label(&self) -> String {
        let name = self.names.first().cloned();
        name.unwrap_or_else(|| self.files.certificate.display().to_string())
    }

    /// Why clients refuse it now, whoever they are.
    pub(super) fn fault(&self, now: SystemTime) -> Option<String> {
        let what = if self.not_after < now {
            let since = humantime::format_rfc3339_seconds(self.not_after);
            format!("expired at {since}")
        } else if now < self.not_before {
            let from = humantime::format_rfc3339_seconds(self.not_before);
            format!("is good from {from} on, and not yet")
        } else if self.names.is_empty() && self.addresses.is_empty() {
            "names no host (subjectAltName)".to_owned()
        } else {
            return None;
        };
        let path = self.files.certificate.display();
        Some(format!("{path}: the certificate {what}: clients refuse it"))
    }

    /// What is allowed and is likely a mistake, each in a sentence for the log.
    pub(super) fn doubts(&self, now: SystemTime) -> Vec<String> {
        let mut doubts = Vec::new();
        let lifetime = self.not_after.duration_since(self.not_before);
        let last_part = lifetime.unwrap_or_default() / LAST_PART;
        if let Ok(left) = self.not_after.duration_since(now)
            && left < last_part
        {
            doubts.push(format!(
                "{}: the certificate expires at {}, and has not been renewed",
                self.files.certificate.display(),
                humantime::format_rfc3339_seconds(self.not_after)
            ));
        }
        if self.key_mode & OPEN_TO_OTHERS != 0 {
            doubts.push(format!(
                "{}: other users of this machine may read or change the key (mode {:o}): `chmod 600` \
                 leaves it to its owner",
                self.files.key.display(),
                self.key_mode & 0o777
            ));
        }
        doubts
    }
}

fn content(path: &Path, reason: impl Into<String>) -> CertificateError {
    CertificateError::Content {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// Of a file that may hold a key, nothing is shown.
fn no_pem(path: &Path, error: &pem::Error) -> CertificateError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "its end is missing: it is written in part",
        _ => "it is not in PEM",
    };
    content(path, reason)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path = path.to_owned();
    |source| CertificateError::Unreadable { path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    // Before it is opened: a pipe would wait for somebody to write.
    let metadata = fs::metadata(path).map_err(unreadable(path))?;
    if !metadata.is_file() {
        return Err(content(path, "it is not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(content(path, "it is larger than any certificate or key"));
    }
    fs::read(path).map_err(unreadable(path))
}

fn mode(path: &Path) -> Result<u32, CertificateError> {
    let metadata = fs::metadata(path).map_err(unreadable(path))?;
    Ok(metadata.permissions().mode())
}

/// The server's own certificate, and those behind it that lead to one that clients know.
fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| no_pem(path, &error))?;
    match chain.is_empty() {
        true => Err(content(
            path,
            "it holds no certificate (-----BEGIN CERTIFICATE-----)",
        )),
        false => Ok(chain),
    }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let mut keys = PrivateKeyDer::pem_slice_iter(pem);
    let key = keys.next().transpose();
    let key = key.map_err(|error| no_pem(path, &error))?;
    key.ok_or_else(|| {
        let is_encrypted = pem
            .windows(ENCRYPTED.len())
            .any(|window| window == ENCRYPTED);
        content(
            path,
            match is_encrypted {
                true => "the key has a password: `openssl pkey` writes it without one",
                false => "it holds no private key (-----BEGIN PRIVATE KEY-----)",
            },
        )
    })
}

/// What an encrypted key begins with.
const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
