//! The sockets of a namespace as socketioxide's adapter sees them. It finds them by their rooms; what
//! the host sends goes to whom it has found, as a [`Packet`](super::packet::Packet).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, Empty};
use serde::{Deserialize, Serialize};
use socketioxide_core::{
    Sid, Str, Uid, Value,
    adapter::{AckStreamItem, BroadcastIter, RemoteSocketData, SocketEmitter, errors::SocketError},
    packet,
    parser::Parse,
};
use socketioxide_parser_common::CommonParser;

use super::members::SharedMembers;
use crate::transport::engine::{Pushed, Session, frame};

/// The sockets of one namespace.
pub(super) struct Emitter {
    path: Str,
    server: Uid,
    members: Arc<SharedMembers>,
}

/// Acks are waited for by [`Asks`](super::ask::Asks), and never here.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub(super) enum NoAcks {}

impl Emitter {
    /// Those of `members`, in the namespace at `path`.
    pub(super) fn new(path: &str, members: Arc<SharedMembers>) -> Self {
        Self {
            path: Str::copy_from_slice(path),
            server: Uid::new(),
            members,
        }
    }

    fn sessions(&self, sockets: BroadcastIter<'_>) -> Vec<(Sid, Arc<Session>)> {
        let members = self.members.read();
        let session = |socket| Some((socket, members.session(socket)?.clone()));
        sockets.filter_map(session).collect()
    }

    fn send(&self, sockets: BroadcastIter<'_>, data: &Value, volatile: bool) -> Vec<SocketError> {
        let frames = frames(data);
        let mut errors = Vec::new();
        for (_, session) in self.sessions(sockets) {
            match session.outbox.push(&frames, volatile) {
                Pushed::Waiting => session.flush(),
                Pushed::Taken | Pushed::Skipped => {}
                Pushed::Full => errors.push(SocketError::InternalChannelFull),
                Pushed::Closed => errors.push(SocketError::Closed),
            }
        }
        errors
    }
}

/// A packet of socketioxide's as WebSocket frames.
fn frames(data: &Value) -> Bytes {
    let mut frames = Vec::new();
    match data {
        Value::Str(text, attachments) => {
            frame::push(&mut frames, frame::TEXT, &[b"4", text.as_bytes()].concat());
            for attachment in attachments.iter().flatten() {
                frame::push(&mut frames, frame::BINARY, attachment);
            }
        }
        Value::Bytes(bytes) => frame::push(&mut frames, frame::BINARY, bytes),
    }
    frames.into()
}

impl SocketEmitter for Emitter {
    type AckError = NoAcks;
    type AckStream = Empty<AckStreamItem<NoAcks>>;

    fn get_all_sids(&self, filter: impl Fn(&Sid) -> bool) -> Vec<Sid> {
        let members = self.members.read();
        let sockets = members.all().map(|(socket, _)| socket);
        sockets.filter(|socket| filter(socket)).copied().collect()
    }

    fn get_remote_sockets(&self, sockets: BroadcastIter<'_>) -> Vec<RemoteSocketData> {
        let remote = |id| RemoteSocketData {
            id,
            server_id: self.server,
            ns: self.path.clone(),
        };
        sockets.map(remote).collect()
    }

    fn send_many(&self, sockets: BroadcastIter<'_>, data: Value) -> Result<(), Vec<SocketError>> {
        let errors = self.send(sockets, &data, false);
        errors.is_empty().then_some(()).ok_or(errors)
    }

    fn send_many_volatile(&self, sockets: BroadcastIter<'_>, data: Value) {
        self.send(sockets, &data, true);
    }

    fn send_many_with_ack(
        &self,
        _: BroadcastIter<'_>,
        _: packet::Packet,
        _: Option<Duration>,
    ) -> (Self::AckStream, u32) {
        (stream::empty(), 0)
    }

    /// Connections are ended by their ids, and not by what the adapter knows.
    fn disconnect_many(&self, _: Vec<Sid>) -> Result<(), Vec<SocketError>> {
        Ok(())
    }

    fn path(&self) -> &Str {
        &self.path
    }

    fn parser(&self) -> impl Parse {
        CommonParser
    }

    fn server_id(&self) -> Uid {
        self.server
    }

    fn ack_timeout(&self) -> Duration {
        Duration::ZERO
    }
}
