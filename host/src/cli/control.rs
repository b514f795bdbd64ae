//! How the command line finds a running server on this machine, and speaks to it.

use std::{
    fs, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::tls::{RootCerts, TlsConfig};

use super::{Failure, Global};
use crate::{config::KnownKey, private_file, server::Server, tls};

/// A server that does not answer for so long is not waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A file, readable by its owner only, that says where the server of a configuration is and with
/// what key to speak to it. It goes when the server stops.
pub(super) struct RunFile {
    path: PathBuf,
}

/// What the file says, and what a request needs.
#[derive(Serialize, Deserialize)]
pub(super) struct Control {
    address: SocketAddr,
    key: String,
    /// The id of its process.
    #[serde(default)]
    process: u64,
    /// How long it may take to answer.
    #[serde(skip, default = "patience")]
    patience: Duration,
    /// Whether it speaks TLS.
    #[serde(default)]
    is_secure: bool,
    /// The host and port that it was named by. Nobody but this machine is trusted without its certificate.
    #[serde(skip)]
    named: Option<String>,
}

impl RunFile {
    /// Writes the file for the server of a configuration.
    pub(super) fn write(config: &Path, server: &Server) -> io::Result<Self> {
        let path = run_file(config)?;
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let control = Control {
            address: server.address(),
            key: server.local_key().to_owned(),
            process: std::process::id().into(),
            patience: TIMEOUT,
            is_secure: server.is_secure(),
            named: None,
        };
        put(&path, &serde_json::to_vec(&control)?)?;
        Ok(Self { path })
    }
}

/// Writes a file that its owner only may read. Who looks at this moment finds the former one, or all of it.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(std::process::id().to_string());
    let written = private_file::create(&unfinished)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&unfinished, path));
    written.inspect_err(|_| {
        // A disk that is full is not to keep what is of no use.
        let _ = fs::remove_file(&unfinished);
    })
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // A file that stays behind names a port where nobody answers, which is said then.
        let _ = fs::remove_file(&self.path);
    }
}

fn patience() -> Duration {
    TIMEOUT
}

/// In the user's runtime folder, else in the cache folder; named after the configuration.
fn run_file(config: &Path) -> io::Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let folder = absolute("XDG_RUNTIME_DIR")
        .or_else(|| absolute("XDG_CACHE_HOME"))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "neither HOME nor XDG_RUNTIME_DIR is set",
            )
        })?;
    let config = fs::canonicalize(config)?;
    let hash = Sha256::digest(config.as_os_str().as_encoded_bytes());
    let name: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(folder.join("mixlab/run").join(format!("{name}.json")))
}

impl Control {
    /// Of the server that runs with this configuration: from its run file, or from `--listen`
    /// and `MIXLAB_API_KEY`.
    pub(super) fn find(global: &Global) -> Result<Self, Failure> {
        let written = Self::written(global);
        // Before the configuration is read: it may be the very thing that is broken.
        let written = match (written, &global.listen) {
            (Some(control), None) => return Ok(control),
            (written, _) => written,
        };
        let config = global.load_config()?;
        let mut admins = config.api.keys.iter().filter(|key| key.rights.admin());
        let is_good = |key: &&KnownKey| !key.has_expired(SystemTime::now());
        let all_rights = admins.find_map(|admin| {
            let mut good = admin.keys.iter().filter(is_good);
            good.find_map(|key| key.clear.as_ref())
        });
        let configured = config.listen.resolve().ok();
        let configured = configured.and_then(|addresses| addresses.first().copied());
        match (written, all_rights, configured) {
            (Some(control), _, address) if address == Some(control.address) => Ok(control),
            (_, Some(key), Some(address)) => Ok(Self {
                address,
                key: key.expose().to_owned(),
                process: 0,
                patience: TIMEOUT,
                is_secure: config.tls.is_some(),
                named: Some(config.listen.to_string()),
            }),
            _ => Err(Failure::from(format!(
                "no server is running with {}; for one elsewhere, give --listen and MIXLAB_API_KEY",
                global.config.display()
            ))),
        }
    }

    /// What the run file says.
    fn written(global: &Global) -> Option<Self> {
        let written = run_file(&global.config).and_then(fs::read).ok()?;
        serde_json::from_slice(&written).ok()
    }

    /// The id of the process that serves, by its run file.
    pub(super) fn process(global: &Global) -> Option<u64> {
        Some(Self::written(global)?.process)
    }

    /// The same, where an answer may take that much longer.
    pub(super) fn patient(self, longer: Duration) -> Self {
        Self {
            patience: self.patience + longer,
            ..self
        }
    }

    /// `GET` of a path; the JSON that came back.
    pub(super) fn get(&self, path: &str) -> Result<serde_json::Value, Failure> {
        self.answer(
            self.agent()
                .get(self.url(path))
                .header("authorization", self.bearer())
                .call(),
        )
    }

    /// `POST` to a path without a body; the JSON that came back.
    pub(super) fn post(&self, path: &str) -> Result<serde_json::Value, Failure> {
        let request = self
            .agent()
            .post(self.url(path))
            .header("authorization", self.bearer());
        self.answer(request.send_empty())
    }

    fn agent(&self) -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(self.patience))
            .http_status_as_error(false)
            // The server is on this machine or named by its address.
            .proxy(None)
            .tls_config(self.tls())
            .build();
        config.into()
    }

    fn tls(&self) -> TlsConfig {
        let config = TlsConfig::builder().unversioned_rustls_crypto_provider(tls::provider());
        match &self.named {
            // What is sent stays on this machine, and its key is good for one run of the server.
            None => config.disable_verification(true),
            Some(_) => config.root_certs(RootCerts::new_with_certs(&tls::trusted())),
        }
        .build()
    }

    fn url(&self, path: &str) -> String {
        let scheme = match self.is_secure {
            true => "https",
            false => "http",
        };
        if let (true, Some(named)) = (self.is_secure, &self.named) {
            return format!("{scheme}://{named}{path}");
        }
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{address}{path}")
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    fn answer(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<serde_json::Value, Failure> {
        let failed =
            |error: ureq::Error| format!("the server at {} does not answer: {error}", self.address);
        let mut response = response.map_err(failed)?;
        let body: serde_json::Value = response.body_mut().read_json().map_err(failed)?;
        if !response.status().is_success() {
            let reason = body["error"]["message"]
                .as_str()
                .unwrap_or("it does not say why");
            return Err(Failure::from(format!(
                "the server at {} refused: {reason}",
                self.address
            )));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, thread};

    use super::*;

    #[test]
    fn who_looks_while_the_file_is_written_finds_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let write = || put(&path, b"whole").unwrap();
        write();
        thread::scope(|scope| {
            let writing = scope.spawn(|| (0..1000).for_each(|_| write()));
            while !writing.is_finished() {
                assert_eq!(fs::read(&path).unwrap(), b"whole");
            }
        });
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_put_in_place_is_not_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::create_dir(&path).unwrap();
        assert!(put(&path, b"whole").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
