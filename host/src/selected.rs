//! Sockets of a namespace, as plugins and backends select them.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    broadcast::Broadcast,
    cluster::{Change, Elsewhere, Unheard, Want},
    connection::Connection,
    grant::Grants,
    id,
    message::Message,
    transport::{Adapter, Delivery, Selection},
    user::{UserId, is_role, role_room},
};

/// Sockets of one namespace. Who they are is seen when they are looked up.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The namespace, if it is another than that of the connection whose call it is.
    pub namespace: Option<String>,
    /// Which ones.
    pub selection: Selection,
}

/// Sockets of one namespace as somebody names them who may not be allowed to reach them.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Those in at least one of these rooms.
    pub rooms: Vec<String>,
    /// And those of these users.
    pub users: Vec<String>,
    /// And those of users with one of these roles.
    pub roles: Vec<String>,
    /// And those with one of these public ids; everybody if nobody is named.
    pub sockets: Vec<String>,
    /// But not those in one of these rooms, or with one of these public ids.
    pub except: Vec<String>,
}

/// Why sockets are not selected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// This grant is missing.
    #[error("the grant {0:?} is missing")]
    NotGranted(String),
    /// A name is none.
    #[error("{0}")]
    Invalid(String),
}

impl Named {
    /// Whether it is everybody, but for some.
    pub(crate) fn is_everyone(&self) -> bool {
        let Self {
            rooms,
            users,
            roles,
            sockets,
            except: _,
        } = self;
        [rooms, users, roles, sockets]
            .into_iter()
            .all(Vec::is_empty)
    }

    /// The sockets, if the grants cover all who are named: to emit an `event` to them, or to do anything
    /// else with them.
    pub(crate) fn granted(
        self,
        grants: &Grants,
        event: Option<&str>,
    ) -> Result<Selection, Unreachable> {
        if self.is_everyone() && !grants.everyone() {
            return Err(Unreachable::NotGranted("everyone".to_owned()));
        }
        if !self.sockets.is_empty() && !grants.socket() {
            return Err(Unreachable::NotGranted("socket".to_owned()));
        }
        // Whoever sees who is left knows who is not.
        if event.is_none()
            && let Some(room) = self.except.iter().find(|room| !is_known(room, grants))
        {
            return Err(Unreachable::NotGranted(format!("room:{room}")));
        }
        if let Some(room) = self.rooms.iter().find(|room| !grants.room(room)) {
            return Err(Unreachable::NotGranted(format!("room:{room}")));
        }
        let of = |event: Option<&str>| event.map(|event| format!(":{event}")).unwrap_or_default();
        let mut rooms = self.rooms;
        for user in &self.users {
            if !grants.user(user, event) {
                let grant = format!("user:{user}{}", of(event));
                return Err(Unreachable::NotGranted(grant));
            }
            let invalid = || Unreachable::Invalid(format!("users: {user:?} is no user id"));
            rooms.push(UserId::from_text(user).ok_or_else(invalid)?.room());
        }
        for role in &self.roles {
            if !grants.role(role, event) {
                let grant = format!("role:{role}{}", of(event));
                return Err(Unreachable::NotGranted(grant));
            }
            if !is_role(role) {
                return Err(Unreachable::Invalid(format!("roles: {role:?} is no role")));
            }
            rooms.push(role_room(role));
        }
        Ok(Selection {
            rooms,
            sockets: self.sockets,
            except: self.except,
            except_socket: None,
        })
    }
}

/// Whether these grants name a room, one of a user or a role, or what could be the id of a socket.
fn is_known(room: &str, grants: &Grants) -> bool {
    grants.room(room)
        || grants.socket() && id::is_one(room)
        || room
            .strip_prefix("user:")
            .is_some_and(|user| grants.user(user, None))
        || room
            .strip_prefix("role:")
            .is_some_and(|role| grants.role(role, None))
}

impl Selected {
    /// What `act` makes of their namespace; none if that is not open. `connection` is the one whose call
    /// it is.
    pub fn at<T>(
        &self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
        act: impl FnOnce(&Adapter) -> T,
    ) -> Option<T> {
        match &self.namespace {
            Some(path) => broadcast.namespace(path).map(|adapter| act(&adapter)),
            None => connection.map(|connection| act(connection.adapter())),
        }
    }

    /// Emits an event to them.
    pub fn emit(
        self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let to = self.portable(connection, broadcast);
        match (&to.namespace, connection) {
            (Some(path), _) => broadcast.emit(None, path, to.selection, event, message, volatile),
            (None, Some(connection)) => {
                let adapter = connection.adapter();
                let (path, to) = (adapter.namespace(), to.selection);
                broadcast.emit(Some(adapter), path, to, event, message, volatile)
            }
            (None, None) => Delivery::default(),
        }
    }

    /// Changes them.
    pub(crate) fn change(
        self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
        change: Change,
    ) {
        let to = self.portable(connection, broadcast);
        if let Some(path) = to.path(connection) {
            broadcast.change(path, to.selection.clone(), change);
        }
    }

    /// The same, for other servers as well: they know a connection by its public id.
    fn portable(mut self, connection: Option<&Connection>, broadcast: &Broadcast) -> Self {
        if broadcast.is_clustered()
            && self.selection.except_socket.take().is_some()
            && let Some(sender) = connection
        {
            self.selection.except.push(sender.id.clone());
        }
        self
    }

    /// Those of them that other servers of a cluster have, as far as these answer by `until`; no more than so
    /// many bytes. Who is named and found is not looked for any further.
    pub(crate) async fn elsewhere(
        &self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
        want: Want,
        until: Instant,
        max_bytes: usize,
    ) -> Result<Elsewhere, Unheard> {
        let (Some(others), Some(path)) = (broadcast.others(), self.path(connection)) else {
            return Ok(Elsewhere::new());
        };
        let here = || self.count(connection, broadcast);
        let most = self.selection.most().map(|most| most - most.min(here()));
        if most == Some(0) {
            return Ok(Elsewhere::new());
        }
        let to = self.clone().portable(connection, broadcast).selection;
        others.find(path, &to, want, most, until, max_bytes).await
    }

    /// How many these are.
    pub(crate) async fn count_elsewhere(
        &self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
        until: Instant,
    ) -> Result<usize, Unheard> {
        let (Some(others), Some(path)) = (broadcast.others(), self.path(connection)) else {
            return Ok(0);
        };
        let to = self.clone().portable(connection, broadcast).selection;
        others.count(path, &to, until).await
    }

    /// Their namespace's path; `connection` is the one whose call it is.
    pub(crate) fn path<'a>(&'a self, connection: Option<&'a Connection>) -> Option<&'a str> {
        self.namespace
            .as_deref()
            .or(connection.map(Connection::namespace))
    }

    /// How many of them are here.
    pub fn count(&self, connection: Option<&Connection>, broadcast: &Broadcast) -> usize {
        let count = |adapter: &Adapter| adapter.count(&self.selection);
        self.at(connection, broadcast, count).unwrap_or_default()
    }

    /// The connections that those of them are of that are here.
    pub fn connections(
        &self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
    ) -> Vec<Arc<Connection>> {
        let found = self.at(connection, broadcast, |adapter| {
            let sockets = adapter.selected(&self.selection);
            broadcast.connections().of(&sockets, adapter.namespace())
        });
        found.unwrap_or_default()
    }
}
