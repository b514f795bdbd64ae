//! Grants: what a plugin, or a backend with an API key, is allowed to call.
//!
//! | written | allows |
//! |---|---|
//! | `payments` | broadcast a payment update |
//! | `notify`, `notify:USER` | notify every user, or those whose id matches |
//! | `user:ID`, `user:ID:EVENT` | emit any event, or those that match, to a user |
//! | `role:ROLE`, `role:ROLE:EVENT` | emit any event, or those that match, to a role |
//! | `clients` | ask how many clients are connected |
//! | `room:ROOM` | join, leave and emit to a room |
//! | `socket` | emit to single sockets by their ids |
//! | `namespace:/PATH` | serve a namespace, or those that match, and reach its clients from others; `/` needs none |
//! | `everyone` | emit to every socket of a namespace |
//! | `emit`, `emit:EVENT` | emit any event, or those that match |
//! | `ask`, `ask:EVENT` | emit any event, or those that match, and wait for the acks |
//! | `store`, `store:BUCKET`, `store:BUCKET:read` | remember: in a bucket of its own, in a shared one, or read that only |
//! | `timers` | be called at times of its own |
//! | `filter:EVENT` | see events of other plugins before they are handled, and decide what becomes of them |
//! | `history:TOPIC` | keep events in a topic, and read what was kept |
//! | `presence:ROOM` | have connections present in a room, and read who is |
//! | `webhook:unverified` | take webhooks of anybody |
//! | `http`, `http:URL` | send requests to every server of the internet, or to the URLs that match |
//! | `find` | learn which sockets there are, and whose |
//! | `disconnect` | end connections |
//! | `move` | have sockets of others join and leave rooms; for API keys only, plugins need `room` alone |
//! | `handshake` | read the query with which a client connected |
//! | `header:NAME` | read a header with which a client connected, or those that match |
//! | `revoke` | take tokens back; for API keys only |
//! | `claim:NAME` | read a claim of the token of a connection's user, or those that match |
//! | `inspect` | see how plugins and the server stand; for API keys only |
//! | `operate` | reload plugins, and roll them back; for API keys only |
//! | `admin` | both, and have the server leave or be followed by another process; for API keys only |
//!
//! `USER`, `ROLE`, `EVENT`, `ROOM`, `NAME`, `BUCKET` and `/PATH` are names in which `*` stands for any run of
//! characters.
//! `URL` is as in `https://api.example.com` (all of it) or `https://*.example.com:8443/v1/*`.

mod pattern;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

pub use pattern::Pattern;

use crate::{
    http_client::{Destination, InvalidPattern, UrlPattern},
    reserved::{self, PAYMENTS_ROOM, is_reserved},
    suggest,
};

/// One parsed grant, e.g. `room:booking:*`. Displays as it may be written again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Grant {
    /// `payments`
    Payments,
    /// `notify` or `notify:USER`
    Notify(Pattern),
    /// `user:ID` or `user:ID:EVENT`
    User {
        /// The users.
        user: Pattern,
        /// The events they may be sent.
        event: Pattern,
    },
    /// `role:ROLE` or `role:ROLE:EVENT`
    Role {
        /// The roles.
        role: Pattern,
        /// The events they may be sent.
        event: Pattern,
    },
    /// `clients`
    Clients,
    /// `room:ROOM`
    Room(Pattern),
    /// `namespace:/PATH`
    Namespace(Pattern),
    /// `socket`
    Socket,
    /// `everyone`
    Everyone,
    /// `emit` or `emit:EVENT`
    Emit(Pattern),
    /// `ask` or `ask:EVENT`
    Ask(Pattern),
    /// `store`
    Store,
    /// `store:BUCKET` or `store:BUCKET:read`
    Bucket {
        /// The buckets.
        name: Pattern,
        /// Nothing may be written to them.
        read_only: bool,
    },
    /// `timers`
    Timers,
    /// `filter:EVENT`
    Filter(Pattern),
    /// `history:TOPIC`
    History(Pattern),
    /// `presence:ROOM`
    Presence(Pattern),
    /// `webhook:unverified`
    UnverifiedWebhooks,
    /// `http` or `http:URL`
    Http(Option<UrlPattern>),
    /// `find`
    Find,
    /// `disconnect`
    Disconnect,
    /// `move`
    Move,
    /// `handshake`
    Handshake,
    /// `header:NAME`, in lower case
    Header(Pattern),
    /// `claim:NAME`
    Claim(Pattern),
    /// `revoke`
    Revoke,
    /// `inspect`
    Inspect,
    /// `operate`
    Operate,
    /// `admin`
    Admin,
}

/// All grants of one plugin or API key. Checks run for every call of a plugin: they walk the
/// list, which is short, and allocate nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Grants(Vec<Grant>);

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

/// Headers that say who a client is. A `*` does not cover them: whoever wants a plugin to have
/// tokens has to say so.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Grant {
    /// Whether it lets a plugin read what browsers send by themselves to say who a client is.
    pub fn is_of_credential(&self) -> bool {
        matches!(self, Self::Header(name) if CREDENTIALS.contains(&name.as_str()))
    }
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

impl Grants {
    /// Every right there is, for an API key without limits.
    pub fn all() -> Self {
        Self(vec![
            Grant::Payments,
            Grant::Notify(Pattern::any()),
            Grant::User {
                user: Pattern::any(),
                event: Pattern::any(),
            },
            Grant::Role {
                role: Pattern::any(),
                event: Pattern::any(),
            },
            Grant::Clients,
            Grant::Room(Pattern::any()),
            Grant::Namespace(Pattern::any()),
            Grant::Socket,
            Grant::Everyone,
            Grant::Emit(Pattern::any()),
            Grant::Ask(Pattern::any()),
            Grant::Store,
            Grant::Bucket {
                name: Pattern::any(),
                read_only: false,
            },
            Grant::Timers,
            Grant::Filter(Pattern::any()),
            Grant::History(Pattern::any()),
            Grant::Presence(Pattern::any()),
            Grant::UnverifiedWebhooks,
            Grant::Http(None),
            Grant::Find,
            Grant::Disconnect,
            Grant::Move,
            Grant::Handshake,
            Grant::Header(Pattern::any()),
            Grant::Claim(Pattern::any()),
            Grant::Revoke,
            Grant::Inspect,
            Grant::Operate,
            Grant::Admin,
        ])
    }

    /// The grants in the order they were written.
    pub fn iter(&self) -> std::slice::Iter<'_, Grant> {
        self.0.iter()
    }

    /// Whether payment updates may be broadcast.
    pub fn payments(&self) -> bool {
        self.0.contains(&Grant::Payments)
    }

    /// Whether this user may be notified.
    pub fn notify(&self, user_id: &str) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Notify(user) if user.matches(user_id)))
    }

    /// Whether some user may be notified.
    pub fn any_notify(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Notify(_)))
    }

    /// Whether this event may be emitted to this user. Without an event: whether every event may, which is
    /// what it takes to do anything else with the user's sockets.
    pub fn user(&self, user_id: &str, event: Option<&str>) -> bool {
        self.iter().any(
            |grant| matches!(grant, Grant::User { user, event: e } if user.matches(user_id) && covers(e, event)),
        )
    }

    /// Whether this event may be emitted to this role; without an event as of users.
    pub fn role(&self, role: &str, event: Option<&str>) -> bool {
        self.iter().any(
            |grant| matches!(grant, Grant::Role { role: r, event: e } if r.matches(role) && covers(e, event)),
        )
    }

    /// Whether some event may be broadcast to some role.
    pub fn any_role(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Role { .. }))
    }

    /// Whether this room may be joined, left and emitted to. Never one that the host keeps itself,
    /// whatever the patterns match.
    pub fn room(&self, room: &str) -> bool {
        !is_reserved(room)
            && self
                .iter()
                .any(|grant| matches!(grant, Grant::Room(pattern) if pattern.matches(room)))
    }

    /// Whether some room may be joined, left and emitted to.
    pub fn any_room(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Room(_)))
    }

    /// Whether this namespace, or all that match this pattern, may be served. Everybody may serve
    /// `/`. Only a star of the grant covers the star of a pattern, so that every name that the
    /// pattern matches is granted, too.
    pub fn namespace(&self, path: &str) -> bool {
        path == "/"
            || self
                .iter()
                .any(|grant| matches!(grant, Grant::Namespace(granted) if granted.matches(path)))
    }

    /// Whether single sockets may be reached by their ids.
    pub fn socket(&self) -> bool {
        self.0.contains(&Grant::Socket)
    }

    /// Whether every socket of a namespace may be emitted to at once.
    pub fn everyone(&self) -> bool {
        self.0.contains(&Grant::Everyone)
    }

    /// Whether this event may be emitted.
    pub fn emit(&self, event: &str) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Emit(pattern) if pattern.matches(event)))
    }

    /// Whether some event may be emitted.
    pub fn any_emit(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Emit(_)))
    }

    /// Whether this event may be emitted to wait for its acks.
    pub fn ask(&self, event: &str) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Ask(pattern) if pattern.matches(event)))
    }

    /// Whether some event may be emitted to wait for its acks.
    pub fn any_ask(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Ask(_)))
    }

    /// Whether something may be kept in a bucket of the plugin's own.
    pub fn store(&self) -> bool {
        self.0.contains(&Grant::Store)
    }

    /// Whether this shared bucket may be read, and written to if that is meant.
    pub fn bucket(&self, bucket: &str, to_write: bool) -> bool {
        self.iter().any(|grant| match grant {
            Grant::Bucket { name, read_only } => name.matches(bucket) && !(to_write && *read_only),
            _ => false,
        })
    }

    /// Whether something may be read from some bucket.
    pub fn any_store(&self) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Store | Grant::Bucket { .. }))
    }

    /// Whether something may be written to some bucket.
    pub fn any_store_to_write(&self) -> bool {
        self.iter().any(|grant| match grant {
            Grant::Store => true,
            Grant::Bucket { read_only, .. } => !read_only,
            _ => false,
        })
    }

    /// Whether timers may be set.
    pub fn timers(&self) -> bool {
        self.0.contains(&Grant::Timers)
    }

    /// Whether this event, or all that match this pattern, may be filtered. Only a star of the grant
    /// covers the star of a pattern.
    pub fn filter(&self, event: &str) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Filter(granted) if granted.matches(event)))
    }

    /// The events that may be filtered.
    pub fn filtered(&self) -> impl Iterator<Item = &Pattern> {
        self.iter().filter_map(|grant| match grant {
            Grant::Filter(events) => Some(events),
            _ => None,
        })
    }

    /// Whether events of this topic may be kept and read.
    pub fn history(&self, topic: &str) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::History(pattern) if pattern.matches(topic)))
    }

    /// Whether events of some topic may be kept and read.
    pub fn any_history(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::History(_)))
    }

    /// Whether connections may be present in this room, and it may be read who is. Never one that the
    /// host keeps itself.
    pub fn presence(&self, room: &str) -> bool {
        !is_reserved(room)
            && self
                .iter()
                .any(|grant| matches!(grant, Grant::Presence(pattern) if pattern.matches(room)))
    }

    /// Whether connections may be present in some room.
    pub fn any_presence(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Presence(_)))
    }

    /// Whether webhooks may be taken of which nobody checks who sends them.
    pub fn unverified_webhooks(&self) -> bool {
        self.0.contains(&Grant::UnverifiedWebhooks)
    }

    /// Whether a request may be sent to this URL.
    pub fn http(&self, url: &Destination) -> bool {
        let covers = |urls: &Option<UrlPattern>| urls.as_ref().is_none_or(|urls| urls.covers(url));
        self.iter()
            .any(|grant| matches!(grant, Grant::Http(urls) if covers(urls)))
    }

    /// Whether this URL is granted with its server named, and not with all of the internet.
    pub fn http_by_name(&self, url: &Destination) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Http(Some(urls)) if urls.covers(url)))
    }

    /// Whether a request may be sent to some URL.
    pub fn any_http(&self) -> bool {
        self.iter().any(|grant| matches!(grant, Grant::Http(_)))
    }

    /// Whether it may be asked which sockets there are.
    pub fn find(&self) -> bool {
        self.0.contains(&Grant::Find)
    }

    /// Whether connections may be ended.
    pub fn disconnect(&self) -> bool {
        self.0.contains(&Grant::Disconnect)
    }

    /// Whether sockets of others may be put into rooms and taken out of them.
    pub fn moves(&self) -> bool {
        self.0.contains(&Grant::Move)
    }

    /// Whether what clients say when they connect may be read.
    pub fn handshake(&self) -> bool {
        self.0.contains(&Grant::Handshake)
    }

    /// Whether this header, in lower case, may be read. One that says who a client is, only if its
    /// whole name is granted.
    pub fn header(&self, name: &str) -> bool {
        let is_credential = CREDENTIALS.contains(&name);
        let covers = |pattern: &Pattern| match is_credential {
            true => pattern.as_str() == name,
            false => pattern.matches(name),
        };
        self.iter()
            .any(|grant| matches!(grant, Grant::Header(pattern) if covers(pattern)))
    }

    /// Whether this claim may be read.
    pub fn claim(&self, name: &str) -> bool {
        self.iter()
            .any(|grant| matches!(grant, Grant::Claim(pattern) if pattern.matches(name)))
    }

    /// Whether the number of clients may be asked for.
    pub fn clients(&self) -> bool {
        self.0.contains(&Grant::Clients)
    }

    /// Whether tokens may be revoked.
    pub fn revoke(&self) -> bool {
        self.0.contains(&Grant::Revoke)
    }

    /// Whether it may be seen how plugins and the server stand.
    pub fn inspect(&self) -> bool {
        self.0.contains(&Grant::Inspect) || self.admin()
    }

    /// Whether plugins may be reloaded and rolled back.
    pub fn operate(&self) -> bool {
        self.0.contains(&Grant::Operate) || self.admin()
    }

    /// Whether the server may be told to leave, or to be followed by another process; it has the rights of
    /// `inspect` and `operate`, too.
    pub fn admin(&self) -> bool {
        self.0.contains(&Grant::Admin)
    }
}

/// Whether a pattern covers an event, or without one every event.
fn covers(pattern: &Pattern, event: Option<&str>) -> bool {
    match event {
        Some(event) => pattern.matches(event),
        None => pattern.is_any(),
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
