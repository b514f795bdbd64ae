//! How a grant is written: parsed, and displayed as it may be written again.

use std::{fmt, str::FromStr};

use super::{Grant, Pattern};
use crate::{
    http_client::InvalidPattern,
    reserved::{self, PAYMENTS_ROOM},
    suggest,
};

/// What grants are called.
pub(crate) const NAMES: &[&str] = &[
    "payments",
    "notify",
    "user",
    "role",
    "clients",
    "room",
    "namespace",
    "socket",
    "everyone",
    "emit",
    "ask",
    "store",
    "timers",
    "filter",
    "history",
    "presence",
    "webhook",
    "http",
    "find",
    "disconnect",
    "move",
    "handshake",
    "header",
    "claim",
    "revoke",
    "inspect",
    "operate",
    "admin",
];

/// A grant that is not written as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No grant has this name.
    #[error("unknown grant {text:?}{hint}")]
    Unknown {
        /// As it was written.
        text: String,
        /// What was probably meant, or what there is.
        hint: String,
    },
    /// The part after the name is wrong, missing or too much.
    #[error("invalid grant {text:?}: {reason}")]
    Invalid {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        if !NAMES.contains(&name) {
            return Err(unknown(text, name, parameter));
        }
        let grant = match (name, parameter) {
            (_, Some("")) => Err("nothing stands after the colon".to_owned()),
            ("payments", None) => Ok(Grant::Payments),
            ("clients", None) => Ok(Grant::Clients),
            ("socket", None) => Ok(Grant::Socket),
            ("everyone", None) => Ok(Grant::Everyone),
            ("store", None) => Ok(Grant::Store),
            ("store", Some(bucket)) => bucket_grant(bucket),
            ("timers", None) => Ok(Grant::Timers),
            ("find", None) => Ok(Grant::Find),
            ("disconnect", None) => Ok(Grant::Disconnect),
            ("move", None) => Ok(Grant::Move),
            ("handshake", None) => Ok(Grant::Handshake),
            ("revoke", None) => Ok(Grant::Revoke),
            ("inspect", None) => Ok(Grant::Inspect),
            ("operate", None) => Ok(Grant::Operate),
            ("admin", None) => Ok(Grant::Admin),
            ("notify", user) => Ok(Grant::Notify(user.map_or_else(Pattern::any, Pattern::new))),
            ("emit", event) => Ok(Grant::Emit(event.map_or_else(Pattern::any, Pattern::new))),
            ("ask", event) => Ok(Grant::Ask(event.map_or_else(Pattern::any, Pattern::new))),
            ("filter", Some(event)) => Ok(Grant::Filter(Pattern::new(event))),
            ("webhook", Some("unverified")) => Ok(Grant::UnverifiedWebhooks),
            ("webhook", _) => Err("expected webhook:unverified".to_owned()),
            ("filter", None) => Err("say which events, like \"filter:booking:*\"".to_owned()),
            ("http", None) => Ok(Grant::Http(None)),
            ("http", Some(url)) => url
                .parse()
                .map(|pattern| Grant::Http(Some(pattern)))
                .map_err(|error: InvalidPattern| error.to_string()),
            ("user", Some(whom)) => {
                whom_and_event("user:ID", whom).map(|(user, event)| Grant::User { user, event })
            }
            ("role", Some(whom)) => {
                whom_and_event("role:ROLE", whom).map(|(role, event)| Grant::Role { role, event })
            }
            ("room", Some(room)) => room_pattern(room).map(Grant::Room),
            ("presence", Some(room)) => room_pattern(room).map(Grant::Presence),
            ("history", Some(topic)) => Ok(Grant::History(Pattern::new(topic))),
            ("header", Some(name)) => header_grant(name),
            ("claim", Some(name)) => Ok(Grant::Claim(Pattern::new(name))),
            ("namespace", Some(path)) if path.starts_with('/') => {
                Ok(Grant::Namespace(Pattern::new(path)))
            }
            ("namespace", _) => Err("say which namespace, like \"namespace:/staff\"".to_owned()),
            ("header", None) => Err("say which header, like \"header:user-agent\"".to_owned()),
            (_, None) => Err(format!("say which {name}, like \"{name}:staff\"")),
            (_, Some(_)) => Err(format!("{name} takes no parameter")),
        };
        grant.map_err(|reason| GrantError::Invalid {
            text: text.into(),
            reason,
        })
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let parameter = |pattern: &Pattern| match pattern.as_str() {
            "*" => String::new(),
            text => format!(":{text}"),
        };
        match self {
            Grant::Payments => f.write_str("payments"),
            Grant::Notify(user) => write!(f, "notify{}", parameter(user)),
            Grant::User { user, event } => write!(f, "user:{user}{}", parameter(event)),
            Grant::Role { role, event } => write!(f, "role:{role}{}", parameter(event)),
            Grant::Clients => f.write_str("clients"),
            Grant::Room(room) => write!(f, "room:{room}"),
            Grant::Namespace(path) => write!(f, "namespace:{path}"),
            Grant::Socket => f.write_str("socket"),
            Grant::Everyone => f.write_str("everyone"),
            Grant::Emit(event) => write!(f, "emit{}", parameter(event)),
            Grant::Ask(event) => write!(f, "ask{}", parameter(event)),
            Grant::Store => f.write_str("store"),
            Grant::Bucket { name, read_only } => {
                write!(f, "store:{name}{}", if *read_only { ":read" } else { "" })
            }
            Grant::Timers => f.write_str("timers"),
            Grant::Filter(event) => write!(f, "filter:{event}"),
            Grant::History(topic) => write!(f, "history:{topic}"),
            Grant::Presence(room) => write!(f, "presence:{room}"),
            Grant::UnverifiedWebhooks => f.write_str("webhook:unverified"),
            Grant::Http(None) => f.write_str("http"),
            Grant::Http(Some(urls)) => write!(f, "http:{urls}"),
            Grant::Find => f.write_str("find"),
            Grant::Disconnect => f.write_str("disconnect"),
            Grant::Move => f.write_str("move"),
            Grant::Handshake => f.write_str("handshake"),
            Grant::Header(name) => write!(f, "header:{name}"),
            Grant::Claim(name) => write!(f, "claim:{name}"),
            Grant::Revoke => f.write_str("revoke"),
            Grant::Inspect => f.write_str("inspect"),
            Grant::Operate => f.write_str("operate"),
            Grant::Admin => f.write_str("admin"),
        }
    }
}

fn unknown(text: &str, name: &str, parameter: Option<&str>) -> GrantError {
    // The suggestion is the whole grant, so that it can be copied.
    let hint = match (suggest::nearest(name.trim(), NAMES), parameter) {
        (Some(near), Some(parameter)) => format!(" (did you mean \"{near}:{parameter}\"?)"),
        _ => suggest::hint(name.trim(), NAMES),
    };
    GrantError::Unknown {
        text: text.into(),
        hint,
    }
}

/// Whom a grant written as `form` is about, and which events.
fn whom_and_event(form: &str, parameter: &str) -> Result<(Pattern, Pattern), String> {
    // A name ends at the first colon, an event may hold some.
    let (whom, event) = parameter.split_once(':').unwrap_or((parameter, "*"));
    if whom.is_empty() || event.is_empty() {
        return Err(format!("expected {form} or {form}:EVENT"));
    }
    Ok((Pattern::new(whom), Pattern::new(event)))
}

fn room_pattern(parameter: &str) -> Result<Pattern, String> {
    if parameter == PAYMENTS_ROOM {
        return Err(format!(
            "the room {PAYMENTS_ROOM:?} is the host's; use \"payments\" to send to it"
        ));
    }
    let room = Pattern::new(parameter);
    if let Some(reserved) = reserved::PREFIXES
        .iter()
        .find(|reserved| room.literal_prefix().starts_with(**reserved))
    {
        // Such a room is called as the grant that was meant.
        return Err(format!(
            "rooms that begin with {reserved:?} are the host's; use {parameter:?}"
        ));
    }
    Ok(room)
}

fn bucket_grant(parameter: &str) -> Result<Grant, String> {
    let (name, read_only) = match parameter.split_once(':') {
        None => (parameter, false),
        Some((name, "read")) => (name, true),
        Some(_) => return Err("expected store, store:BUCKET or store:BUCKET:read".into()),
    };
    if name.is_empty() {
        return Err("expected store, store:BUCKET or store:BUCKET:read".into());
    }
    Ok(Grant::Bucket {
        name: Pattern::new(name),
        read_only,
    })
}

fn header_grant(parameter: &str) -> Result<Grant, String> {
    // Every character of a pattern may stand in a name, the star too.
    match http::HeaderName::try_from(parameter) {
        Ok(name) => Ok(Grant::Header(Pattern::new(name.as_str()))),
        Err(_) => Err(format!("{parameter:?} is no name of a header")),
    }
}
