//! The cookie by which a balancer that is sticky finds the server of a client that polls.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;

use super::CookieName;
use crate::units::duration;

/// `socket.cookie`: a name, or a table with more. The defaults are those of Node's `cookie`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct AffinityCookie {
    name: CookieName,
    /// All that stands behind the value: `; Path=/; HttpOnly; SameSite=Lax`.
    attributes: String,
}

impl AffinityCookie {
    /// What a client is to send back from now on, as `Set-Cookie` has it. An id has letters, digits and `-_.` only.
    pub(crate) fn header(&self, id: &str) -> HeaderValue {
        let Self { name, attributes } = self;
        let cookie = format!("{}={id}{attributes}", name.as_str());
        HeaderValue::try_from(cookie).expect("its parts were checked")
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a name or a table like { name = \"io\" }"
)]
enum Written {
    Name(CookieName),
    Table(Attributes),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    name: CookieName,
    max_age: Option<Lifetime>,
    domain: Option<String>,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "yes")]
    http_only: bool,
    #[serde(default)]
    secure: bool,
    #[serde(default)]
    same_site: SameSite,
}

#[derive(Deserialize)]
struct Lifetime(#[serde(deserialize_with = "duration::deserialize")] Duration);

#[derive(Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SameSite {
    Strict,
    #[default]
    Lax,
    None,
}

fn root() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}

/// Whether it may be the value of an attribute (RFC 6265, section 4.1.1).
fn is_value(text: &str) -> bool {
    let is_visible = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b';';
    !text.is_empty() && text.bytes().all(is_visible)
}

impl TryFrom<Written> for AffinityCookie {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Attributes {
            name,
            max_age,
            domain,
            path,
            http_only,
            secure,
            same_site,
        } = match written {
            Written::Table(attributes) => attributes,
            Written::Name(name) => Attributes {
                name,
                max_age: None,
                domain: None,
                path: root(),
                http_only: true,
                secure: false,
                same_site: SameSite::default(),
            },
        };
        if !domain.as_deref().is_none_or(is_value) {
            return Err("domain is no domain of a cookie".to_owned());
        }
        if !path.starts_with('/') || !is_value(&path) {
            return Err("path is no path of a cookie: one like \"/\"".to_owned());
        }
        if same_site == SameSite::None && !secure {
            return Err(
                "browsers take a cookie with same_site = \"none\" only with secure = true"
                    .to_owned(),
            );
        }
        // In the order of Node's server.
        let mut attributes = String::new();
        if let Some(Lifetime(max_age)) = max_age {
            attributes += &format!("; Max-Age={}", max_age.as_secs());
        }
        if let Some(domain) = domain {
            attributes += &format!("; Domain={domain}");
        }
        attributes += &format!("; Path={path}");
        if http_only {
            attributes += "; HttpOnly";
        }
        if secure {
            attributes += "; Secure";
        }
        attributes += match same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        };
        Ok(Self { name, attributes })
    }
}
