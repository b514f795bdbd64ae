//! Web origins.

use std::fmt;
use std::str::FromStr;

use http::uri::Authority;
use serde::Deserialize;

/// A web origin, `scheme://host` or `scheme://host:port`, as browsers send it in the `Origin`
/// header: in lower case and without the scheme's own port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(String);

impl Origin {
    /// The origin as browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |reason: &str| format!("invalid origin {text:?}: {reason}");
        if text == "*" {
            return Err(r#"origin "*" cannot be allowed: connections carry credentials, and browsers refuse a wildcard then; list the origins, like "https://app.example.com""#.into());
        }
        let expected =
            r#"expected scheme://host or scheme://host:port, like "https://app.example.com""#;
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid(expected))?;
        if let Some(end) = rest.find(['/', '?', '#']) {
            let origin = &text[..scheme.len() + "://".len() + end];
            return Err(invalid(&format!(
                "an origin ends after host and port, like {origin:?}"
            )));
        }
        if text.contains('*') {
            return Err(invalid(
                "an origin is compared as a whole, patterns are not supported",
            ));
        }
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let authority: Authority = rest.parse().map_err(|_| invalid(expected))?;
        // A port that is not a number, as well as a user name, still passes as an authority.
        let bad_port = authority.port_u16().is_none() && authority.as_str() != authority.host();
        if !is_scheme || authority.host().is_empty() || bad_port || rest.contains('@') {
            return Err(invalid(expected));
        }

        let scheme = scheme.to_ascii_lowercase();
        let host = authority.host().to_ascii_lowercase();
        let own_port = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Ok(
            match authority.port_u16().filter(|port| Some(*port) != own_port) {
                Some(port) => Self(format!("{scheme}://{host}:{port}")),
                None => Self(format!("{scheme}://{host}")),
            },
        )
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_kept_as_browsers_send_it() {
        for (text, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com:443", "https://app.example.com"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:80", "http://localhost"),
            ("https://localhost:80", "https://localhost:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), sent);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_a_hint() {
        for (text, hint) in [
            ("app.example.com", "expected scheme://host"),
            ("null", "expected scheme://host"),
            ("", "expected scheme://host"),
            ("://x", "expected scheme://host"),
            ("https://", "expected scheme://host"),
            ("https://a b", "expected scheme://host"),
            ("https://host:port", "expected scheme://host"),
            ("https://host:", "expected scheme://host"),
            ("https://host:70000", "expected scheme://host"),
            ("https://me@host", "expected scheme://host"),
            ("https://me@host:80", "expected scheme://host"),
            (
                "https://app.example.com/",
                r#"ends after host and port, like "https://app.example.com""#,
            ),
            (
                "https://app.example.com:1/x?y",
                r#"like "https://app.example.com:1""#,
            ),
            ("https://*.example.com", "patterns are not supported"),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            assert!(
                error.starts_with(&format!("invalid origin {text:?}: ")) && error.contains(hint),
                "{error}"
            );
        }
        let wildcard = "*".parse::<Origin>().unwrap_err();
        assert!(
            wildcard.contains("browsers refuse a wildcard"),
            "{wildcard}"
        );
    }
}
