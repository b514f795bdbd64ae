//! `mixlab key`: make API keys of which `mixlab.toml` has the hash only.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Subcommand, builder::NonEmptyStringValueParser};
use serde::Serialize;

use super::{Failure, Format, output::print};
use crate::{
    config::{KeyHash, moment},
    grant::Grant,
    units::Rate,
};

/// So that a key is known for one wherever it is found.
const PREFIX: &str = "mixlab_";

/// Nobody guesses 256 bits, whatever is made of their hash.
const RANDOM_BYTES: usize = 32;

#[derive(Subcommand)]
pub(super) enum Key {
    /// Print a new key, which is not kept anywhere, and the lines for mixlab.toml.
    New {
        /// What the key is called in mixlab.toml and in the log.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// What its backend may do, as in mixlab.toml; may be given several times.
        #[arg(long = "right", value_name = "RIGHT", required = true)]
        rights: Vec<Grant>,
        /// When the key is good no more, like 2030-01-31T12:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = later)]
        until: Option<SystemTime>,
        /// How often its backend may ask, like 100/1s.
        #[arg(long, value_name = "RATE")]
        limit: Option<Rate>,
        /// How to print what was made.
        #[arg(long, default_value = "text")]
        format: Format,
    },
}

/// What was made, as JSON.
#[derive(Serialize)]
struct Made<'a> {
    key: &'a str,
    hash: String,
    /// The lines for `mixlab.toml`.
    toml: &'a str,
}

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self::New {
            name,
            rights,
            until,
            limit,
            format,
        } = self;
        let random: [u8; RANDOM_BYTES] = rand::random();
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let hash = KeyHash::of(key.as_bytes()).to_string();
        let toml = table(&name, &hash, &rights, until, limit);
        match format {
            Format::Json => {
                let made = Made {
                    key: &key,
                    hash,
                    toml: &toml,
                };
                let json = serde_json::to_string_pretty(&made)?;
                print(|out| writeln!(out, "{json}"))?;
            }
            Format::Text => print(|out| {
                writeln!(out, "# For the backend. It is not shown again:\n# {key}\n")?;
                writeln!(out, "# For mixlab.toml:\n{toml}")
            })?,
        }
        Ok(())
    }
}

/// A time that is not over.
fn later(text: &str) -> Result<SystemTime, String> {
    let time = moment::parse(text)?;
    match time > SystemTime::now() {
        true => Ok(time),
        false => Err("this time is over".to_owned()),
    }
}

/// The table of a key.
fn table(
    name: &str,
    hash: &str,
    rights: &[Grant],
    until: Option<SystemTime>,
    limit: Option<Rate>,
) -> String {
    let rights: Vec<_> = rights
        .iter()
        .map(|right| text(&right.to_string()))
        .collect();
    let mut lines = vec![
        "[[api.keys]]".to_owned(),
        format!("name = {}", text(name)),
        format!("key = {}", text(hash)),
    ];
    if let Some(until) = until {
        let until = humantime::format_rfc3339_seconds(until).to_string();
        lines.push(format!("until = {}", text(&until)));
    }
    lines.push(format!("rights = [{}]", rights.join(", ")));
    if let Some(limit) = limit {
        lines.push(format!("limit = {}", text(&limit.to_string())));
    }
    lines.join("\n")
}

/// A text of TOML. What JSON escapes, TOML escapes alike, but for one character that JSON does not.
fn text(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_printed_is_what_a_file_takes() {
        let name = "a \"key\"\n\u{7f}ü";
        let rights: Vec<Grant> = ["find", "room:*"].map(|text| text.parse().unwrap()).into();
        let until = moment::parse("2030-01-31T12:00:00Z").unwrap();
        let rate = "5/1s".parse().unwrap();
        let hash = KeyHash::of(b"key");
        let toml = table(name, &hash.to_string(), &rights, Some(until), Some(rate));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mixlab.toml");
        std::fs::write(&path, toml).unwrap();
        let config = Config::load_with(&path, Default::default(), []).unwrap();
        let [key] = &config.api.keys[..] else {
            panic!("{config:?}");
        };
        assert_eq!((&*key.name, key.limit), (name, Some(rate)));
        assert_eq!(key.rights, rights.into_iter().collect());
        let [known] = &key.keys[..] else {
            panic!("{key:?}");
        };
        assert_eq!((known.hash, known.until), (hash, Some(until)));
        assert!(!known.is_exposed && known.clear.is_none());
    }
}
