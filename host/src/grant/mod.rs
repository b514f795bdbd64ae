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
mod rights;
mod text;

use serde::Deserialize;

pub(crate) use self::text::NAMES;
pub use self::{pattern::Pattern, rights::Grants, text::GrantError};
use crate::http_client::UrlPattern;

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

/// Headers that say who a client is. A `*` does not cover them: whoever wants a plugin to have
/// tokens has to say so.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Grant {
    /// Whether it lets a plugin read what browsers send by themselves to say who a client is.
    pub fn is_of_credential(&self) -> bool {
        matches!(self, Self::Header(name) if CREDENTIALS.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests;
