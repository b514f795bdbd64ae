//! How a session ends, and why.

use std::{sync::Arc, time::Duration};

use super::{Life, Session, Transport};
use crate::transport::engine::{
    polling::payload,
    sweep::Due,
    websocket::frame::{self, CloseCode},
};

/// How long a session that its client has ended is known for a last poll.
const LAST_POLL: Duration = Duration::from_millis(100);

/// Why a connection has ended, in Socket.IO's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client has closed its transport, or it broke.
    TransportClose,
    /// The client's requests contradict each other.
    TransportError,
    /// The client sent what is no packet.
    ParseError,
    /// The client did not answer a ping, or takes nothing.
    PingTimeout,
    /// The client has left the namespace.
    ClientDisconnect,
    /// The server has ended the connection.
    ServerDisconnect,
    /// The server stops.
    ServerShutdown,
}

impl EndReason {
    /// As `socket.on("disconnect", reason)` has it in Node.
    pub fn text(self) -> &'static str {
        match self {
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::ParseError => "parse error",
            Self::PingTimeout => "ping timeout",
            Self::ClientDisconnect => "client namespace disconnect",
            Self::ServerDisconnect => "server namespace disconnect",
            Self::ServerShutdown => "server shutting down",
        }
    }

    /// Whether it is the transport that ended, and not somebody who wanted the connection to.
    pub fn may_come_back(self) -> bool {
        !matches!(self, Self::ClientDisconnect | Self::ServerDisconnect)
    }
}

impl Session {
    // Its end.

    /// Ends it when the client has got what is on its way. Nothing that it sends is taken any more.
    pub fn close(self: &Arc<Self>) {
        if self
            .life
            .compare_exchange(Life::Open, Life::Closing)
            .is_err()
        {
            return;
        }
        let last = match self.transport() {
            Transport::Websocket => frame::close(None),
            Transport::Polling | Transport::Upgrading => frame::frame(frame::TEXT, b"1"),
        };
        self.outbox.push_last(last);
        self.schedule(Due::Close);
        self.flush();
        self.task.wake();
    }

    /// The client ends it by a request. A poll that waits goes back, and so does one that comes soon:
    /// what was sent at once over two connections may come in any order.
    pub(crate) fn close_by_client(self: &Arc<Self>) {
        if self
            .life
            .compare_exchange(Life::Open, Life::Closing)
            .is_ok()
        {
            self.tell_end(EndReason::TransportClose);
            self.outbox
                .push_last(frame::frame(frame::TEXT, payload::NOTHING.as_bytes()));
            self.flush();
            let sweep = &self.sessions.sweep;
            sweep.schedule(Arc::downgrade(self), LAST_POLL, Due::Close);
        }
    }

    /// Sends back the poll that waits.
    pub(crate) fn send_back_poll(self: &Arc<Self>) {
        if !self.outbox.is_waiting() {
            self.send(payload::NOTHING);
        }
    }

    /// Ends it with a reason for the client: what waits goes out first.
    pub fn close_with(self: &Arc<Self>, code: Option<CloseCode>, reason: EndReason) {
        if self
            .life
            .compare_exchange(Life::Open, Life::Closing)
            .is_ok()
        {
            self.outbox.push_last(frame::close(code));
            self.flush();
            self.end_here(reason);
        }
    }

    /// Ends it. Whoever does may hold locks that its connections need, so they are told a moment later.
    pub fn end(self: &Arc<Self>, reason: EndReason) {
        if self.become_ended(reason) {
            let session = self.clone();
            self.sessions.spawn(async move { session.tell_end(reason) });
        }
    }

    /// Ends it, for one who holds no locks.
    pub fn end_here(self: &Arc<Self>, reason: EndReason) {
        if self.become_ended(reason) {
            self.tell_end(reason);
        }
    }

    /// True for the first who ends it.
    pub(super) fn become_ended(&self, reason: EndReason) -> bool {
        let former = self.life.swap(Life::Ended);
        if former == Life::Ended {
            return false;
        }
        self.sessions.remove(self);
        if former == Life::Open {
            self.part(reason);
        }
        self.task.wake();
        self.posts.end();
        true
    }

    /// The last word to a client that is ended out of turn. The poll of one that is to come back is
    /// refused: clients in other languages take the end of a session by the server for its will, and
    /// stay away.
    fn part(&self, reason: EndReason) {
        match self.transport() {
            Transport::Websocket if !self.outbox.is_waiting() => {
                self.outbox.push_last(frame::close(None));
                self.outbox.flush(self.wire.get());
            }
            Transport::Polling | Transport::Upgrading
                if reason == EndReason::TransportError && !self.outbox.is_waiting() =>
            {
                self.outbox.push_last(frame::frame(frame::TEXT, b"1"));
                self.outbox.flush(None);
            }
            Transport::Websocket | Transport::Polling | Transport::Upgrading => self.outbox.close(),
        }
    }

    pub(super) fn tell_end(&self, reason: EndReason) {
        let receivers = self.inbox.lock().clear();
        for receiver in receivers {
            receiver.ended(reason);
        }
    }
}
