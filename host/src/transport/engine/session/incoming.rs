//! What comes in from the client of a session: packets of Engine.IO, the packets of Socket.IO in them, and who takes
//! those.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{EndReason, Session};
use crate::{
    config::Parser,
    transport::{
        engine::{
            inbox::{Kept, Received, Routed},
            msgpack,
            polling::payload,
        },
        head::{Kind, PacketHead},
    },
};

/// Takes what a client sends to one namespace, in the order in which it came.
pub trait Receiver: Send + Sync {
    /// The public id of the connection.
    fn id(&self) -> &str;

    /// An event: the array of its packet, what is attached, and the number of the ack where one is
    /// asked for.
    fn event(
        &self,
        array: &str,
        attachments: Vec<Bytes>,
        ack: Option<i64>,
    ) -> Result<(), Malformed>;

    /// An event with more attachments than the server takes.
    fn oversized(&self, array: &str, ack: Option<i64>) -> Result<(), Malformed>;

    /// The answer to the event of the server's with this number.
    fn acked(&self, id: Option<i64>, array: &str, attachments: Vec<Bytes>)
    -> Result<(), Malformed>;

    /// The connection has ended. It is the last that is told, and is told once.
    fn ended(&self, reason: EndReason);
}

/// What a client sent is no packet of the protocol: its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl From<Malformed> for EndReason {
    fn from(Malformed: Malformed) -> Self {
        Self::ParseError
    }
}

impl Session {
    // What comes in.

    /// Takes a text from the client: an Engine.IO packet.
    pub fn receive(self: &Arc<Self>, packet: &str) -> Result<(), EndReason> {
        if !self.is_open() {
            return Ok(());
        }
        let (kind, message) = match packet.split_at_checked(1) {
            Some(split) => split,
            None => return Err(EndReason::ParseError),
        };
        match kind {
            "4" => Ok(self.receive_text(message)?),
            "3" => {
                self.pinged.store(0, Ordering::Relaxed);
                Ok(())
            }
            "1" => Err(EndReason::TransportClose),
            "b" => match payload::decode_attachment(message) {
                Some(bytes) => self.receive_binary(bytes),
                None => Err(EndReason::ParseError),
            },
            // Only the server pings.
            "2" => Err(EndReason::TransportError),
            // They mean something in an upgrade only.
            "0" | "5" | "6" => Ok(()),
            _ => Err(EndReason::ParseError),
        }
    }

    /// Takes a text message from the client: a packet of Socket.IO, unless all of those are binary.
    pub(crate) fn receive_text(self: &Arc<Self>, packet: &str) -> Result<(), Malformed> {
        match self.policy().parser {
            Parser::Json => self.receive_message(packet),
            Parser::Msgpack => Err(Malformed),
        }
    }

    /// Takes a binary message from the client: an attachment of the packet before, or a whole packet.
    pub(crate) fn receive_binary(self: &Arc<Self>, bytes: Bytes) -> Result<(), EndReason> {
        if let Parser::Json = self.policy().parser {
            return self.receive_attachment(bytes);
        }
        let (packet, attachments) =
            msgpack::read(&bytes, self.policy().max_attachments).ok_or(Malformed)?;
        self.receive_message(&packet)?;
        attachments
            .into_iter()
            .try_for_each(|attachment| self.receive_attachment(attachment))
    }

    /// Takes an attachment of the packet before.
    pub(crate) fn receive_attachment(self: &Arc<Self>, attachment: Bytes) -> Result<(), EndReason> {
        if !self.is_open() {
            return Ok(());
        }
        let completed = self.inbox.lock().attach(attachment, self.policy())?;
        match completed {
            Some(completed) => Ok(completed.deliver(self)?),
            None => Ok(()),
        }
    }

    /// Takes a Socket.IO packet from the client.
    pub(crate) fn receive_message(self: &Arc<Self>, packet: &str) -> Result<(), Malformed> {
        if !self.is_open() {
            return Ok(());
        }
        let head = PacketHead::parse(packet).ok_or(Malformed)?;
        let routed = {
            let mut inbox = self.inbox.lock();
            if inbox.awaits_attachments() {
                return Err(Malformed);
            }
            match head.kind {
                Kind::Connect => {
                    let is_new = inbox.begin(head.namespace, self.policy())?;
                    drop(inbox);
                    let admission = self.sessions.ask(self, head.namespace, head.data)?;
                    if is_new {
                        self.admit(head.namespace, admission);
                    }
                    return Ok(());
                }
                Kind::Disconnect if !head.data.is_empty() => return Err(Malformed),
                Kind::Disconnect => {
                    let left = inbox.leave(head.namespace)?;
                    drop(inbox);
                    if let Some(receiver) = left {
                        receiver.ended(EndReason::ClientDisconnect);
                    }
                    return Ok(());
                }
                Kind::Event | Kind::Ack if head.attachments > 0 => {
                    return inbox.expect_attachments(&head, self.policy());
                }
                Kind::Event | Kind::Ack => inbox.route(head.namespace)?,
            }
        };
        let received = Received::of(&head)?;
        match routed {
            Routed::To(receiver) => received.give(&*receiver),
            Routed::Joining => self.deliver(head.namespace, received.into_owned()),
            Routed::Left => Ok(()),
        }
    }

    /// Hands a packet to who takes it, or has it wait.
    pub(in crate::transport::engine) fn deliver(
        &self,
        namespace: &str,
        packet: Kept,
    ) -> Result<(), Malformed> {
        let mut inbox = self.inbox.lock();
        let receiver = match inbox.route(namespace)? {
            Routed::To(receiver) => receiver,
            Routed::Joining => return inbox.keep(namespace, packet, self.policy()),
            Routed::Left => return Ok(()),
        };
        drop(inbox);
        packet.give(&*receiver)
    }
}
