//! `mixlab token`: make and check JSON Web Tokens signed with `JWT_SECRET`.

use std::{io::Read, sync::Arc, time::Duration};

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use super::{
    EXIT_BAD_INPUT, Failure, Global,
    output::{print, say},
};
use crate::{
    auth::{self, FetchKeys, Providers, TokenError, Verifier},
    config::{self, Config},
    http_client::HttpClient,
    tasks::Task,
    units,
    user::{TokenClaims, User, UserId, is_role},
};

#[derive(Subcommand)]
pub(super) enum Token {
    /// Print a token, and nothing else.
    Gen {
        /// The user's id.
        #[arg(long, value_parser = user_id)]
        user: UserId,
        /// The user's name.
        #[arg(long)]
        username: Option<String>,
        /// A role; may be given several times.
        #[arg(long = "role", value_name = "ROLE", value_parser = role)]
        roles: Vec<String>,
        /// How long the token is good.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = units::duration::parse)]
        expires: Duration,
    },
    /// Say whose a token is, or what is wrong with it.
    Check {
        /// The token; without it, or with -, it is read from standard input.
        token: Option<String>,
    },
}

impl Token {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = global.load_config()?;
        let secret = secret(&config)?;
        for doubt in config.auth.doubts() {
            say(format_args!("warning: {doubt}"));
        }
        match self {
            Self::Gen {
                user,
                username,
                roles,
                expires,
            } => {
                let user = User {
                    id: user,
                    username,
                    roles,
                    token: TokenClaims::default(),
                };
                let token = auth::sign(&user, secret.expose().as_bytes(), expires, &config.auth);
                print(|out| writeln!(out, "{token}"))?;
                Ok(())
            }
            Self::Check { token } => {
                let token = match token.filter(|token| token != "-") {
                    Some(token) => token,
                    None => {
                        let mut text = String::new();
                        std::io::stdin().read_to_string(&mut text)?;
                        text
                    }
                };
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let checking = verified(token.trim(), secret.expose().as_bytes(), &config.auth);
                let user = runtime.block_on(checking)?;
                let user = serde_json::to_string(&user)?;
                print(|out| writeln!(out, "{user}"))?;
                Ok(())
            }
        }
    }
}

/// Whose a token is. If its issuer publishes its keys, they are fetched.
async fn verified(token: &str, secret: &[u8], config: &config::Auth) -> Result<User, TokenError> {
    let client = HttpClient::on_this_runtime();
    let providers = Arc::new(Providers::new(&client, Arc::default()));
    let verifier = Verifier::new(secret, config, &providers, Arc::default());
    if let Some(key) = verifier.wait_for_key(token) {
        let (mut fetching, stop) = (FetchKeys(providers), CancellationToken::new());
        tokio::select! {
            () = fetching.run(&stop) => {}
            () = key => {}
        }
    }
    verifier.verify(token)
}

pub(super) fn user_id(text: &str) -> Result<UserId, String> {
    UserId::from_text(text)
        .ok_or_else(|| "a user id has 1 to 128 bytes and no control characters".into())
}

pub(super) fn role(text: &str) -> Result<String, String> {
    if !is_role(text) {
        return Err("a role has 1 to 256 bytes and no control characters".into());
    }
    Ok(text.to_owned())
}

fn secret(config: &Config) -> Result<&config::Secret, Failure> {
    config.auth.secret.as_ref().ok_or_else(|| Failure {
        code: EXIT_BAD_INPUT,
        reason: "JWT_SECRET is not set: tokens are signed with it".to_owned(),
    })
}
