//! What a client says of itself when it asks for a namespace.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use crate::{
    auth::RequestToken, error::WireError, id, message::check_readable, settings::Settings,
};

/// The auth object of a CONNECT packet.
#[derive(Debug)]
pub(crate) struct AuthObject(IndexMap<String, Box<RawValue>>);

/// The connection that a client wants back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// Its private id.
    pub pid: String,
    /// The last event that the client has seen; none if it has seen no event.
    pub offset: Option<String>,
}

/// Why there is no auth object to be had.
#[derive(Debug)]
pub(crate) enum InvalidAuth {
    /// The packet is no CONNECT.
    Malformed,
    /// The client is told why.
    Unreadable(WireError),
}

impl AuthObject {
    /// Reads it; nothing at all is an empty one, and anything but an object is no CONNECT packet. What
    /// cannot be read is never taken for nothing: its client would be nobody without a word.
    pub(crate) fn parse(json: &str) -> Result<Self, InvalidAuth> {
        if json.is_empty() {
            return Ok(Self(IndexMap::new()));
        }
        let is_object = json.trim_ascii_start().starts_with('{')
            && serde_json::from_str::<&RawValue>(json).is_ok();
        if !is_object {
            return Err(InvalidAuth::Malformed);
        }
        let unreadable = |reason: String| {
            let reason = format!("the auth object cannot be read: {reason}");
            InvalidAuth::Unreadable(WireError::new("invalid_payload", reason))
        };
        check_readable(json).map_err(|error| unreadable(error.to_string()))?;
        let fields = serde_json::from_str(json);
        fields
            .map(Self)
            .map_err(|error| unreadable(error.to_string()))
    }

    /// Takes the token out of it, if that is the host's to check. What a client says here it says on purpose, so
    /// the token of the request by which its session began counts only where this has none.
    pub(crate) fn take_token(
        &mut self,
        of_request: Option<&RequestToken>,
        settings: &Settings,
    ) -> Result<Option<String>, WireError> {
        if settings.verifier.is_none() {
            return Ok(None);
        }
        if let Some(own) = self.take_own_token()? {
            return Ok(Some(own));
        }
        match of_request.filter(|_| settings.request_tokens.is_some()) {
            Some(RequestToken::One(token)) => Ok(Some(token.expose().to_owned())),
            Some(RequestToken::Unclear) => {
                let message = "the request has several tokens, or none that is a text";
                Err(WireError::new("unauthorized", message))
            }
            None => Ok(None),
        }
    }

    fn take_own_token(&mut self) -> Result<Option<String>, WireError> {
        let Some(token) = self.0.shift_remove("token") else {
            return Ok(None);
        };
        serde_json::from_str(token.get())
            .map_err(|_| WireError::new("unauthorized", "auth.token is not a text"))
    }

    /// Takes out what the client needs to come back. An application's own `pid` stays where it is: it
    /// looks different.
    pub(crate) fn take_resume(&mut self) -> Option<Resume> {
        let text =
            |field: &str| -> Option<String> { serde_json::from_str(self.0.get(field)?.get()).ok() };
        let pid = text("pid").filter(|pid| id::is_one(pid))?;
        let offset = text("offset");
        self.0.shift_remove("pid");
        self.0.shift_remove("offset");
        Some(Resume { pid, offset })
    }

    /// All that is left, as JSON, for plugins.
    pub(crate) fn into_json(self) -> String {
        serde_json::to_string(&self.0).expect("texts and JSON always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_is_an_auth_object() {
        for json in ["", "{}", "{ }", r#"{"a":[1e999]}"#] {
            assert!(AuthObject::parse(json).is_ok(), "{json}");
        }
        for json in ["[]", "{", "custom", "null", "1", "\"x\"", "{}x"] {
            let parsed = AuthObject::parse(json);
            assert!(matches!(parsed, Err(InvalidAuth::Malformed)), "{json}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for json in [
            r#"{"token":"good","nick":"hi \ud83d"}"#,
            r#"{"\ud83d":1}"#,
            &deep,
        ] {
            let parsed = AuthObject::parse(json);
            assert!(matches!(parsed, Err(InvalidAuth::Unreadable(_))), "{json}");
        }
    }

    #[test]
    fn a_token_is_a_text_or_nothing() {
        let token = |json: &str| AuthObject::parse(json).unwrap().take_own_token();
        assert_eq!(token(r#"{"token":"a"}"#).unwrap().unwrap(), "a");
        for json in ["", "{}", r#"{"token":null}"#] {
            assert_eq!(token(json).unwrap(), None, "{json}");
        }
        for json in [r#"{"token":1}"#, r#"{"token":["a"]}"#] {
            assert_eq!(token(json).unwrap_err().code, "unauthorized", "{json}");
        }
    }

    #[test]
    fn what_is_not_the_hosts_stays_as_it_was_written() {
        let pid = id::random();
        for (json, offset, rest) in [
            (
                format!(r#"{{"pid":"{pid}","offset":"o","a":1.10}}"#),
                Some("o"),
                r#"{"a":1.10}"#,
            ),
            (format!(r#"{{"pid":"{pid}"}}"#), None, "{}"),
            (format!(r#"{{"pid":"{pid}","offset":null}}"#), None, "{}"),
        ] {
            let mut auth = AuthObject::parse(&json).unwrap();
            let offset = offset.map(str::to_owned);
            assert_eq!(
                auth.take_resume(),
                Some(Resume {
                    pid: pid.clone(),
                    offset
                })
            );
            assert_eq!(auth.into_json(), rest);
        }
        for json in [
            r#"{"pid":7,"offset":"mine"}"#,
            r#"{"pid":"mine"}"#,
            r#"{"offset":1}"#,
        ] {
            let mut auth = AuthObject::parse(json).unwrap();
            assert_eq!(auth.take_resume(), None);
            assert_eq!(auth.into_json(), json);
        }
    }
}
