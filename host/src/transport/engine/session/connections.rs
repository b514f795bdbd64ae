//! The connections to namespaces that a session carries: asked for, let in or refused, ended.

use std::sync::Arc;

use super::{EndReason, Receiver, Session};
use crate::{
    error::ConnectError,
    transport::engine::{inbox::LetIn, outbox::Pushed, sessions::Task},
};

impl Session {
    // Connections to namespaces.

    /// The client is let into a namespace that it has asked for: from now on `receiver` takes what it
    /// sends there, and first what came meanwhile. False if it is gone, or has left.
    pub fn let_in(self: &Arc<Self>, namespace: &str, receiver: &Arc<dyn Receiver>) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut inbox = self.inbox.lock();
        loop {
            match inbox.let_in(namespace, receiver) {
                LetIn::Gone => return false,
                LetIn::Joined => return true,
                LetIn::Left => {
                    drop(inbox);
                    receiver.ended(EndReason::ClientDisconnect);
                    self.has_told_end(namespace);
                    return false;
                }
                LetIn::Behind(waiting) => {
                    drop(inbox);
                    let mut given = waiting.into_iter().map(|packet| packet.give(&**receiver));
                    if given.any(|given| given.is_err()) {
                        self.end(EndReason::ParseError);
                        return false;
                    }
                    inbox = self.inbox.lock();
                }
            }
        }
    }

    /// This decides about a client that asks for a namespace, now or when its former connection there has
    /// been told of its end.
    pub(super) fn admit(&self, namespace: &str, admission: Task) {
        let admission = self.inbox.lock().admit(namespace, admission);
        if let Some(admission) = admission {
            self.sessions.go_on_with(admission);
        }
    }

    /// The client is not let into a namespace that it has asked for, and is told why. What is temporary
    /// would end a stock client's tries for good, so there the transport closes and the client tries
    /// again, unless it has other connections on it.
    pub fn refuse(self: &Arc<Self>, namespace: &str, error: &ConnectError) {
        let is_alone = {
            let mut inbox = self.inbox.lock();
            inbox.refuse(namespace);
            inbox.is_empty()
        };
        if error.is_temporary && is_alone {
            tracing::debug!(namespace, "a client has to try again: {}", error.message);
            self.close();
            return;
        }
        let json = serde_json::to_string(error).expect("texts and JSON always serialise");
        self.send_frame(self.control("4", namespace, &json));
    }

    /// Answers the CONNECT of a client that is let in. [`Session::show_introduction`] comes next.
    pub fn introduce(&self, namespace: &str, json: &str) {
        self.outbox.push_control(self.control("0", namespace, json));
    }

    /// Sends the answer to CONNECT by itself, and what comes up next a little later: who waits for one
    /// message after the other could lose a second one that came along. Node's server writes the two
    /// apart.
    pub fn show_introduction(self: &Arc<Self>) {
        let flushed = self.outbox.flush_at_once(self.wire.get());
        self.has_flushed(flushed);
        self.outbox.hold(self.policy().introduction_pause);
    }

    /// The server ends the connection with this public id; false if it has ended already.
    pub fn end_connection(self: &Arc<Self>, namespace: &str, id: &str) -> bool {
        let ended = self.take_connection(namespace, id);
        ended.map(Ended::tell).is_some()
    }

    /// Ends the connection with this public id, without a word to anybody yet: whoever does may hold locks.
    /// None if it has ended already.
    pub(crate) fn take_connection(self: &Arc<Self>, namespace: &str, id: &str) -> Option<Ended> {
        let mut inbox = self.inbox.lock();
        let receiver = inbox.end(namespace, id)?;
        // Under the lock: the answer to a CONNECT that comes next stands behind it.
        let pushed = self.outbox.push_control(self.control("1", namespace, ""));
        Some(Ended {
            session: self.clone(),
            namespace: namespace.into(),
            receiver,
            pushed,
        })
    }

    /// A connection has been told of its end; the client may have asked for the next one.
    pub(super) fn has_told_end(self: &Arc<Self>, namespace: &str) {
        let admission = self.inbox.lock().has_ended(namespace);
        if let Some(admission) = admission {
            self.sessions.spawn(admission);
        }
    }
}

/// A connection that the server has ended, and that has not been told yet.
#[must_use]
pub(crate) struct Ended {
    session: Arc<Session>,
    namespace: Box<str>,
    receiver: Arc<dyn Receiver>,
    /// What became of the packet that tells the client.
    pushed: Pushed,
}

impl Ended {
    /// Tells the client and the connection. For one who holds no locks.
    pub(crate) fn tell(self) {
        self.session.has_pushed(self.pushed);
        self.receiver.ended(EndReason::ServerDisconnect);
        self.session.has_told_end(&self.namespace);
    }
}
