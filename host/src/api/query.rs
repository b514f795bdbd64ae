//! What the query of a list says: which list, and which page of it.

use percent_encoding::percent_decode_str;

use super::{
    cursor,
    whom::{Whom, invalid},
};
use crate::{
    error::WireError,
    listing::{Of, Page, RoomKind},
};

/// How many rows a page has if it is not said.
const LIMIT: usize = 100;

/// How many it may have.
const MAX_LIMIT: usize = 1000;

/// A query, parameter by parameter. What a list has no use for is refused.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// Those of whom; everybody if nobody is named.
    pub whom: Whom,
    /// Which kinds of rooms; those of the application if none is named.
    pub kinds: Vec<RoomKind>,
    pub prefix: String,
    /// Whether with what plugins keep.
    pub data: bool,
    limit: Option<usize>,
    cursor: Option<String>,
    /// What the list is made of.
    list: Vec<(String, String)>,
}

impl Query {
    /// Reads a query that may have these parameters, and `limit` and `cursor` if it is of a list.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, WireError> {
        if percent_decode_str(query).decode_utf8().is_err() {
            return Err(invalid("the query is not UTF-8"));
        }
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                let known = known.join(", ");
                return Err(invalid(format!(
                    "the query has a parameter that is not known here; known: {known}"
                )));
            }
            read.take(&name, value.into_owned())?;
        }
        read.whom.everyone = read.whom.named.is_everyone();
        Ok(read)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), WireError> {
        let named = &mut self.whom.named;
        let twice = || invalid(format!("{name}: it is there twice"));
        if !matches!(name, "limit" | "cursor" | "data") {
            self.list.push((name.to_owned(), value.clone()));
        }
        match name {
            "room" => named.rooms.push(value),
            "user" => named.users.push(value),
            "role" => named.roles.push(value),
            "socket" => named.sockets.push(value),
            "except" => named.except.push(value),
            "namespace" if self.whom.namespace.is_some() => return Err(twice()),
            "namespace" => self.whom.namespace = Some(value),
            "prefix" if !self.prefix.is_empty() => return Err(twice()),
            "prefix" => self.prefix = value,
            "kind" => {
                let mut all = RoomKind::ALL.into_iter();
                let kind = all.find(|kind| kind.name() == value);
                let names = RoomKind::ALL.map(RoomKind::name).join(", ");
                let unknown = || invalid(format!("kind: expected one of {names}"));
                self.kinds.push(kind.ok_or_else(unknown)?);
            }
            "data" => {
                let no_word = |_| invalid("data: expected true or false");
                self.data = value.parse().map_err(no_word)?;
            }
            "limit" if self.limit.is_some() => return Err(twice()),
            "limit" => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
                let no_limit = || invalid(format!("limit: expected 1 to {MAX_LIMIT}"));
                self.limit = Some(limit.ok_or_else(no_limit)?);
            }
            "cursor" if self.cursor.is_some() => return Err(twice()),
            _ => self.cursor = Some(value),
        }
        Ok(())
    }

    /// The page that is wanted of this.
    pub(super) fn page(&self, of: Of) -> Result<Page, WireError> {
        let list = self.list(&of);
        let read = |cursor: &String| cursor::read(&list, cursor);
        Ok(Page {
            of,
            after: self.cursor.as_ref().map(read).transpose()?,
            limit: self.limit.unwrap_or(LIMIT),
        })
    }

    /// What goes on behind this key of it.
    pub(super) fn next(&self, of: &Of, key: &str) -> String {
        cursor::write(&self.list(of), key)
    }

    fn list(&self, of: &Of) -> String {
        let of = match of {
            Of::Sockets { .. } => "sockets",
            Of::Users => "users",
            Of::Rooms(_) => "rooms",
        };
        let mut parameters = self.list.clone();
        parameters.sort_unstable();
        format!("{of} {parameters:?}")
    }
}
