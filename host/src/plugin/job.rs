//! What an instance is called for, and what it says.

use std::{borrow::Cow, sync::Arc};

use crate::{
    address::ClientAddress,
    connection::{Connection, Identity},
    guest::{Message, Outcome, Refusal, Rejection, Verdict, webhooks},
    store::Transaction,
};

/// What an instance is called for.
pub enum Job {
    /// `events.handle`.
    Event {
        /// Whose event it is.
        connection: Arc<Connection>,
        /// Who sent it.
        identity: Arc<Identity>,
        /// The event's name.
        event: Arc<str>,
        /// Its arguments.
        message: Arc<Message>,
        /// What filters have read and written for it, which the call goes on with.
        transaction: Option<Box<Transaction>>,
    },
    /// `webhooks.handle`.
    Webhook {
        /// What came.
        request: Arc<webhooks::Request>,
        /// Who sent it.
        client: ClientAddress,
    },
    /// `filters.filter`.
    Filter {
        /// Whose event it is.
        connection: Arc<Connection>,
        /// Who sent it.
        identity: Arc<Identity>,
        /// The event's name.
        event: Arc<str>,
        /// Its arguments.
        message: Arc<Message>,
        /// What earlier filters have read and written for it, which the call goes on with.
        transaction: Option<Box<Transaction>>,
    },
    /// `connections.on-connect`.
    Connect {
        /// The connection that asks to be let in.
        connection: Arc<Connection>,
        /// Its auth object as JSON, without the token.
        auth: String,
    },
    /// `connections.on-disconnect`.
    Disconnect {
        /// The connection that is gone.
        connection: Arc<Connection>,
        /// Socket.IO's word for the reason.
        reason: Cow<'static, str>,
    },
    /// `timer-handler.fire`.
    Timer(Arc<Firing>),
    /// `migrations.migrate`.
    Migrate {
        /// The version of what is stored.
        from: u32,
        /// Where the former batch said to go on.
        cursor: Option<String>,
        /// What former batches have read and written.
        transaction: Box<Transaction>,
    },
}

/// A timer that is due.
#[derive(Debug)]
pub struct Firing {
    /// Its name.
    pub name: String,
    /// JSON text.
    pub payload: String,
    /// When it was due, in milliseconds since 1970.
    pub due: u64,
    /// Which attempt it is, from 1.
    pub attempt: u32,
}

/// A kind of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// `events.handle`.
    Event,
    /// `filters.filter`.
    Filter,
    /// `webhooks.handle`.
    Webhook,
    /// `connections.on-connect`.
    Connect,
    /// `connections.on-disconnect`.
    Disconnect,
    /// `timer-handler.fire`.
    Timer,
    /// `migrations.migrate`.
    Migrate,
}

/// What the plugin said.
#[derive(Debug)]
pub enum Reply {
    /// To an event.
    Event(Result<Outcome, Rejection>),
    /// To a webhook.
    Webhook(Result<webhooks::Response, Rejection>),
    /// To another plugin's event.
    Filter(Result<Verdict, Rejection>),
    /// To a new connection.
    Connect(Result<(), Refusal>),
    /// To the end of one.
    Disconnect,
    /// To a timer.
    Timer(Result<(), Rejection>),
    /// To a batch of a migration: where to go on.
    Migrate(Result<Option<String>, Rejection>),
}

impl Reply {
    /// Whether what the call recorded is to happen.
    pub fn is_yes(&self) -> bool {
        match self {
            Self::Event(outcome) => outcome.is_ok(),
            Self::Filter(verdict) => verdict.is_ok(),
            // What is an error for the sender has not happened.
            Self::Webhook(answer) => answer.as_ref().is_ok_and(|answer| answer.status < 400),
            Self::Connect(answer) => answer.is_ok(),
            Self::Disconnect => true,
            Self::Timer(done) => done.is_ok(),
            Self::Migrate(done) => done.is_ok(),
        }
    }
}

impl Job {
    /// The address of the client that it is for; none if it is for no client.
    pub fn client(&self) -> Option<ClientAddress> {
        match self {
            Self::Event { connection, .. }
            | Self::Filter { connection, .. }
            | Self::Connect { connection, .. }
            | Self::Disconnect { connection, .. } => Some(connection.address),
            Self::Webhook { client, .. } => Some(*client),
            Self::Timer(_) | Self::Migrate { .. } => None,
        }
    }

    /// What kind of call it makes.
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Event { .. } => CallKind::Event,
            Self::Filter { .. } => CallKind::Filter,
            Self::Webhook { .. } => CallKind::Webhook,
            Self::Connect { .. } => CallKind::Connect,
            Self::Disconnect { .. } => CallKind::Disconnect,
            Self::Timer(_) => CallKind::Timer,
            Self::Migrate { .. } => CallKind::Migrate,
        }
    }
}
