//! A call for an event, from when it is let in until it is answered.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{answer::Answer, serial::Turn};
use crate::{
    capability::Written,
    connection::Identity,
    guest,
    message::Message,
    plugin::{Job, Lease, Spent},
    registry::Route,
};

/// A call for an event, which may run more than once.
pub struct Call {
    /// Who is to be answered.
    pub answer: Answer,
    /// Whom it is for.
    pub route: Arc<Route>,
    identity: Arc<Identity>,
    /// The event's message.
    pub message: Arc<guest::Message>,
    /// How often it has run and is not to be counted.
    pub conflicts: u32,
    /// What it has used of its time.
    pub spent: Spent,
    /// Its turn among calls with the same key.
    turn: Option<Turn>,
    /// Its turn among calls that kept conflicting.
    pub contended: Option<OwnedMutexGuard<()>>,
}

/// A call's turns among others.
pub type Turns = (Option<Turn>, Option<OwnedMutexGuard<()>>);

/// A call that has run, until it is answered.
pub struct Ended {
    /// The call.
    pub call: Call,
    /// What the guest wrote, for the log line of a failure.
    pub written: Option<Box<Written>>,
    /// Whether something of it has happened already.
    pub acted: bool,
    /// The instance that it ran on.
    pub lease: Option<Lease>,
}

impl Call {
    /// One that has not run yet.
    pub fn new(
        answer: Answer,
        route: Arc<Route>,
        identity: Arc<Identity>,
        message: Message,
    ) -> Self {
        Self {
            answer,
            route,
            identity,
            message: Arc::new(message.into()),
            conflicts: 0,
            spent: Spent::default(),
            turn: None,
            contended: None,
        }
    }

    /// It is its turn among calls with the same key.
    pub fn with_turn(self, turn: Turn) -> Self {
        Self {
            turn: Some(turn),
            ..self
        }
    }

    /// It has used so much by now.
    pub fn having(self, spent: Spent) -> Self {
        Self { spent, ..self }
    }

    /// What the plugin is called for.
    pub fn job(&self) -> Job {
        Job::Event {
            connection: self.answer.connection.clone(),
            identity: self.identity.clone(),
            event: self.answer.event.clone(),
            message: self.message.clone(),
        }
    }

    /// What the next call waits for.
    pub fn take_turn(&mut self) -> Turns {
        (self.turn.take(), self.contended.take())
    }

    /// It is its turn still.
    pub fn give_turn(&mut self, (turn, contended): Turns) {
        (self.turn, self.contended) = (turn, contended);
    }
}
