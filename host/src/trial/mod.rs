//! Plugins on trial: the real components in the real host code, with clients in this process, a clock that
//! stands still, a store that is forgotten and no network. What `mixlab call` and `mixlab test` are made of.

pub(crate) mod cases;
mod client;
mod lines;
pub(crate) mod replay;

use std::{path::Path, sync::Arc, time::Duration};

pub(crate) use self::{
    client::{Client, Joined, Received, Sender},
    lines::{Line, Lines},
};
use crate::{
    auth, clock,
    config::{self, Config, Secret},
    grant::Grants,
    http_client::Canned,
    plugin::{Engine, Witness},
    server::{Headless, Outside, Restless, StartError},
};

/// A token is good for longer than any trial takes.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Plugins on trial.
pub(crate) struct Trial {
    pub server: Headless,
    /// What other servers answer.
    pub http: Arc<Canned>,
    /// What the calls have used and recorded.
    pub witness: Arc<Witness>,
    auth: config::Auth,
    secret: Arc<str>,
}

/// Why plugins cannot be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// The server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A plugin is not loaded.
    #[error("{plugin}: {reason}")]
    Refused {
        /// Its name.
        plugin: String,
        /// As `mixlab check` says it.
        reason: String,
    },
    /// A client says who it is, and nobody would ask.
    #[error(
        "a client has a user or roles, and `[auth] enabled = false` in mixlab.toml has no users"
    )]
    NoUsers,
    /// There may be no more clients.
    #[error("`[socket]` and `[limits]` in mixlab.toml let no more clients in")]
    NoMoreClients,
    /// It was loaded, and is not there any more.
    #[error("the plugin does not serve")]
    Gone,
    /// Something goes on without an end.
    #[error(transparent)]
    Restless(#[from] Restless),
}

impl Trial {
    /// Loads the plugins of `config`, and has the clock stand still at these milliseconds since 1970.
    pub(crate) async fn start(
        mut config: Config,
        engine: Arc<Engine>,
        at: u64,
    ) -> Result<Self, TrialError> {
        clock::hold(at);
        let secret: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        config.auth.secret = Some(Secret::new(&*secret));
        // The clock stands still: nothing comes later than something else.
        config.presence.batch = Duration::ZERO;
        // Nobody comes back, and nothing is added to events for those who might.
        config.recovery.enabled = false;
        let (http, witness): (Arc<Canned>, Arc<Witness>) = Default::default();
        let outside = Outside {
            engine,
            http: http.clone(),
            witness: witness.clone(),
        };
        let server = Headless::start(&config, outside).await?;
        let refused = server.status.plugins.iter().find_map(|plugin| {
            let reason = plugin.refusal.as_ref().or(plugin.waiting.as_ref())?;
            Some(TrialError::Refused {
                plugin: plugin.name.clone(),
                reason: reason.clone(),
            })
        });
        match refused {
            Some(refused) => {
                server.close().await;
                Err(refused)
            }
            None => Ok(Self {
                server,
                http,
                witness,
                auth: config.auth,
                secret,
            }),
        }
    }

    /// Connects a client, and waits for all that follows. Whether it was let in is for it to say.
    pub(crate) async fn connect(&self, sender: &Sender) -> Result<Client, TrialError> {
        let token = match &sender.user {
            None => None,
            Some(_) if !self.auth.enabled => return Err(TrialError::NoUsers),
            Some(user) => {
                let secret = self.secret.as_bytes();
                Some(auth::sign(user, secret, TOKEN_LIFETIME, &self.auth))
            }
        };
        let session = self.server.begin_session();
        let session = session.ok_or(TrialError::NoMoreClients)?;
        let client = Client::new(session, sender);
        client.ask(token, sender.auth.clone());
        self.rest().await?;
        Ok(client)
    }

    /// Waits until nothing is under way.
    pub(crate) async fn rest(&self) -> Result<(), TrialError> {
        Ok(self.server.rest().await?)
    }
}

/// The plugin of this file as `mixlab.toml` has it; none if it is not there.
fn plugin_of(config: &Config, file: &Path) -> Option<config::Plugin> {
    let file = std::fs::canonicalize(file).ok()?;
    let is_its = |plugin: &&config::Plugin| {
        std::fs::canonicalize(&plugin.path).is_ok_and(|path| path == file)
    };
    let mut its = config.plugins.iter().filter(is_its);
    let found = its.clone().find(|plugin| plugin.enabled);
    found.or_else(|| its.next()).cloned()
}

/// The plugin of this file as `mixlab.toml` has it, with these `grants` as well. One that is not there is
/// granted everything, unless somebody says what.
pub(crate) fn plugin_with(config: &Config, file: &Path, grants: Grants) -> config::Plugin {
    match plugin_of(config, file) {
        Some(plugin) => config::Plugin {
            enabled: true,
            grants: plugin.grants.iter().chain(grants.iter()).cloned().collect(),
            ..plugin
        },
        None => {
            let says_nothing = grants.iter().next().is_none();
            let grants = if says_nothing { Grants::all() } else { grants };
            config::Plugin::new(
                name_of(file),
                file.to_owned(),
                grants,
                config.budget.clone(),
            )
        }
    }
}

/// A name for the plugin of a file.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let named: String = stem
        .chars()
        .map(|character| match character.to_ascii_lowercase() {
            character @ ('a'..='z' | '0'..='9') => character,
            _ => '-',
        })
        .take(64)
        .collect();
    match named.is_empty() {
        true => "plugin".to_owned(),
        false => named,
    }
}
