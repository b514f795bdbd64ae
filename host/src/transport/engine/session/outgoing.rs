//! What goes out to the client of a session.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::{EndReason, Session, Transport};
use crate::{
    config::Parser,
    transport::engine::{
        forms::Forms,
        msgpack,
        outbox::{Flushed, Pushed},
        websocket::frame,
    },
};

/// What a session begins with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Greeting {
    sid: String,
    upgrades: &'static [&'static str],
    ping_interval: u64,
    ping_timeout: u64,
    max_payload: u64,
}

impl Session {
    /// Adds a packet to what goes out, in the form that the client takes. A volatile one is for clients that take it
    /// now.
    pub(crate) fn push(&self, packet: &Forms<'_>, is_volatile: bool) -> Pushed {
        self.outbox.push(
            packet.for_client(self.policy().parser, self.takes_deflated()),
            is_volatile,
        )
    }

    /// Sends an event, or ends a client that reads too slowly for it.
    pub(crate) fn send_event(self: &Arc<Self>, packet: &Forms<'_>) {
        let pushed = self.push(packet, false);
        self.has_pushed(pushed);
    }

    // What goes out.

    /// Sends what the protocol asks for. A client that reads no answers is ended.
    pub fn send(self: &Arc<Self>, packet: &str) {
        self.send_frame(frame::frame(frame::TEXT, packet.as_bytes()));
    }

    /// The same, for any frame.
    pub(crate) fn send_frame(self: &Arc<Self>, frame: Bytes) {
        let pushed = self.outbox.push_control(frame);
        self.has_pushed(pushed);
    }

    /// A packet of Socket.IO that the protocol asks for, of the kind with this digit.
    pub(super) fn control(&self, kind: &str, namespace: &str, json: &str) -> Bytes {
        match self.policy().parser {
            Parser::Json => {
                let packet = packet(kind, namespace, json);
                frame::frame(frame::TEXT, packet.as_bytes())
            }
            Parser::Msgpack => msgpack::control(kind, namespace, json),
        }
    }

    /// Writes what the protocol asks for and is in the outbox.
    pub(super) fn has_pushed(self: &Arc<Self>, pushed: Pushed) {
        match pushed {
            Pushed::Waiting => self.flush(),
            Pushed::Full => {
                tracing::debug!("a client ends that reads no answers");
                self.end(EndReason::TransportClose);
            }
            Pushed::Taken | Pushed::Skipped | Pushed::Closed => {}
        }
    }

    /// The packet that a session begins with.
    pub fn greeting(&self) -> String {
        let policy = self.policy();
        let greeting = Greeting {
            sid: self.sessions.id_of(self.id),
            upgrades: match self.transport() {
                Transport::Polling if policy.transports.websocket => &["websocket"],
                Transport::Polling | Transport::Upgrading | Transport::Websocket => &[],
            },
            ping_interval: policy.ping_interval.as_millis() as u64,
            ping_timeout: policy.ping_timeout.as_millis() as u64,
            max_payload: policy.max_payload as u64,
        };
        let json = serde_json::to_string(&greeting).expect("texts and numbers always serialise");
        format!("0{json}")
    }

    /// Gets what waits for the client on its way.
    pub fn flush(self: &Arc<Self>) {
        self.has_flushed(self.outbox.flush(self.wire.get()));
    }

    pub(super) fn has_flushed(self: &Arc<Self>, flushed: Flushed) {
        match flushed {
            Flushed::Done => {}
            Flushed::Held => {
                let sweep = &self.sessions.sweep;
                sweep.pause(Arc::downgrade(self), self.policy().introduction_pause);
            }
            Flushed::Blocked => {
                self.watch_writes();
                self.task.wake();
            }
            Flushed::Failed(error) => {
                tracing::debug!(%error, "a client cannot be written to");
                self.end(EndReason::TransportClose);
            }
        }
    }

    /// Lets out what was kept behind the answer to CONNECT.
    pub fn release(self: &Arc<Self>) {
        self.outbox.release();
        self.flush();
    }
}

/// A Socket.IO packet as an Engine.IO message.
fn packet(kind: &str, namespace: &str, json: &str) -> String {
    match namespace {
        "/" => ["4", kind, json].concat(),
        namespace => ["4", kind, namespace, ",", json].concat(),
    }
}
