//! What a plugin or a backend may do, by all that it is granted.

use serde::Deserialize;

use super::{CREDENTIALS, Grant, Pattern};
use crate::{
    http_client::{Destination, UrlPattern},
    reserved::is_reserved,
};

/// All grants of one plugin or API key. Checks run for every call of a plugin: they walk the
/// list, which is short, and allocate nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Grants(Vec<Grant>);

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

    /// Whether one of them is such a grant.
    fn any(&self, is_such: impl Fn(&Grant) -> bool) -> bool {
        self.0.iter().any(is_such)
    }

    /// Whether this very grant is among them.
    fn has(&self, grant: Grant) -> bool {
        self.0.contains(&grant)
    }

    /// Whether payment updates may be broadcast.
    pub fn payments(&self) -> bool {
        self.has(Grant::Payments)
    }

    /// Whether this user may be notified.
    pub fn notify(&self, user_id: &str) -> bool {
        self.any(|grant| matches!(grant, Grant::Notify(user) if user.matches(user_id)))
    }

    /// Whether some user may be notified.
    pub fn any_notify(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Notify(_)))
    }

    /// Whether this event may be emitted to this user. Without an event: whether every event may, which is
    /// what it takes to do anything else with the user's sockets.
    pub fn user(&self, user_id: &str, event: Option<&str>) -> bool {
        self.any(
            |grant| matches!(grant, Grant::User { user, event: e } if user.matches(user_id) && covers(e, event)),
        )
    }

    /// Whether this event may be emitted to this role; without an event as of users.
    pub fn role(&self, role: &str, event: Option<&str>) -> bool {
        self.any(
            |grant| matches!(grant, Grant::Role { role: r, event: e } if r.matches(role) && covers(e, event)),
        )
    }

    /// Whether some event may be broadcast to some role.
    pub fn any_role(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Role { .. }))
    }

    /// Whether this room may be joined, left and emitted to. Never one that the host keeps itself,
    /// whatever the patterns match.
    pub fn room(&self, room: &str) -> bool {
        !is_reserved(room)
            && self.any(|grant| matches!(grant, Grant::Room(pattern) if pattern.matches(room)))
    }

    /// Whether some room may be joined, left and emitted to.
    pub fn any_room(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Room(_)))
    }

    /// Whether this namespace, or all that match this pattern, may be served. Everybody may serve
    /// `/`. Only a star of the grant covers the star of a pattern, so that every name that the
    /// pattern matches is granted, too.
    pub fn namespace(&self, path: &str) -> bool {
        path == "/"
            || self.any(|grant| matches!(grant, Grant::Namespace(granted) if granted.matches(path)))
    }

    /// Whether single sockets may be reached by their ids.
    pub fn socket(&self) -> bool {
        self.has(Grant::Socket)
    }

    /// Whether every socket of a namespace may be emitted to at once.
    pub fn everyone(&self) -> bool {
        self.has(Grant::Everyone)
    }

    /// Whether this event may be emitted.
    pub fn emit(&self, event: &str) -> bool {
        self.any(|grant| matches!(grant, Grant::Emit(pattern) if pattern.matches(event)))
    }

    /// Whether some event may be emitted.
    pub fn any_emit(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Emit(_)))
    }

    /// Whether this event may be emitted to wait for its acks.
    pub fn ask(&self, event: &str) -> bool {
        self.any(|grant| matches!(grant, Grant::Ask(pattern) if pattern.matches(event)))
    }

    /// Whether some event may be emitted to wait for its acks.
    pub fn any_ask(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Ask(_)))
    }

    /// Whether something may be kept in a bucket of the plugin's own.
    pub fn store(&self) -> bool {
        self.has(Grant::Store)
    }

    /// Whether this shared bucket may be read, and written to if that is meant.
    pub fn bucket(&self, bucket: &str, to_write: bool) -> bool {
        self.any(|grant| match grant {
            Grant::Bucket { name, read_only } => name.matches(bucket) && !(to_write && *read_only),
            _ => false,
        })
    }

    /// Whether something may be read from some bucket.
    pub fn any_store(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Store | Grant::Bucket { .. }))
    }

    /// Whether something may be written to some bucket.
    pub fn any_store_to_write(&self) -> bool {
        self.any(|grant| match grant {
            Grant::Store => true,
            Grant::Bucket { read_only, .. } => !read_only,
            _ => false,
        })
    }

    /// Whether timers may be set.
    pub fn timers(&self) -> bool {
        self.has(Grant::Timers)
    }

    /// Whether this event, or all that match this pattern, may be filtered. Only a star of the grant
    /// covers the star of a pattern.
    pub fn filter(&self, event: &str) -> bool {
        self.any(|grant| matches!(grant, Grant::Filter(granted) if granted.matches(event)))
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
        self.any(|grant| matches!(grant, Grant::History(pattern) if pattern.matches(topic)))
    }

    /// Whether events of some topic may be kept and read.
    pub fn any_history(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::History(_)))
    }

    /// Whether connections may be present in this room, and it may be read who is. Never one that the
    /// host keeps itself.
    pub fn presence(&self, room: &str) -> bool {
        !is_reserved(room)
            && self.any(|grant| matches!(grant, Grant::Presence(pattern) if pattern.matches(room)))
    }

    /// Whether connections may be present in some room.
    pub fn any_presence(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Presence(_)))
    }

    /// Whether webhooks may be taken of which nobody checks who sends them.
    pub fn unverified_webhooks(&self) -> bool {
        self.has(Grant::UnverifiedWebhooks)
    }

    /// Whether a request may be sent to this URL.
    pub fn http(&self, url: &Destination) -> bool {
        let covers = |urls: &Option<UrlPattern>| urls.as_ref().is_none_or(|urls| urls.covers(url));
        self.any(|grant| matches!(grant, Grant::Http(urls) if covers(urls)))
    }

    /// Whether this URL is granted with its server named, and not with all of the internet.
    pub fn http_by_name(&self, url: &Destination) -> bool {
        self.any(|grant| matches!(grant, Grant::Http(Some(urls)) if urls.covers(url)))
    }

    /// Whether a request may be sent to some URL.
    pub fn any_http(&self) -> bool {
        self.any(|grant| matches!(grant, Grant::Http(_)))
    }

    /// Whether it may be asked which sockets there are.
    pub fn find(&self) -> bool {
        self.has(Grant::Find)
    }

    /// Whether connections may be ended.
    pub fn disconnect(&self) -> bool {
        self.has(Grant::Disconnect)
    }

    /// Whether sockets of others may be put into rooms and taken out of them.
    pub fn moves(&self) -> bool {
        self.has(Grant::Move)
    }

    /// Whether what clients say when they connect may be read.
    pub fn handshake(&self) -> bool {
        self.has(Grant::Handshake)
    }

    /// Whether this header, in lower case, may be read. One that says who a client is, only if its
    /// whole name is granted.
    pub fn header(&self, name: &str) -> bool {
        let is_credential = CREDENTIALS.contains(&name);
        let covers = |pattern: &Pattern| match is_credential {
            true => pattern.as_str() == name,
            false => pattern.matches(name),
        };
        self.any(|grant| matches!(grant, Grant::Header(pattern) if covers(pattern)))
    }

    /// Whether this claim may be read.
    pub fn claim(&self, name: &str) -> bool {
        self.any(|grant| matches!(grant, Grant::Claim(pattern) if pattern.matches(name)))
    }

    /// Whether the number of clients may be asked for.
    pub fn clients(&self) -> bool {
        self.has(Grant::Clients)
    }

    /// Whether tokens may be revoked.
    pub fn revoke(&self) -> bool {
        self.has(Grant::Revoke)
    }

    /// Whether it may be seen how plugins and the server stand.
    pub fn inspect(&self) -> bool {
        self.has(Grant::Inspect) || self.admin()
    }

    /// Whether plugins may be reloaded and rolled back.
    pub fn operate(&self) -> bool {
        self.has(Grant::Operate) || self.admin()
    }

    /// Whether the server may be told to leave, or to be followed by another process; it has the rights of
    /// `inspect` and `operate`, too.
    pub fn admin(&self) -> bool {
        self.has(Grant::Admin)
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

/// Whether a pattern covers an event, or without one every event.
fn covers(pattern: &Pattern, event: Option<&str>) -> bool {
    match event {
        Some(event) => pattern.matches(event),
        None => pattern.is_any(),
    }
}
