//! The session of a client in this process: what it is sent waits until it takes it.

use std::sync::Arc;

use bytes::Bytes;

use super::{EndReason, Session, Transport};
use crate::transport::engine::websocket::frame;

/// What the server has sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// A packet, without the digit that says so to Engine.IO.
    Packet(String),
    /// What is attached to the packet before.
    Attachment(Bytes),
    /// The transport ends.
    Close,
}

impl Session {
    /// From now on packets wait for [`Session::take_sent`]. As with a websocket, the client is always ready
    /// for more.
    pub(crate) fn keep_in_process(&self) {
        self.transport.store(Transport::Websocket);
        self.outbox.open_websocket();
    }

    /// What was sent since this was called last.
    pub(crate) fn take_sent(self: &Arc<Self>) -> Vec<Sent> {
        let packets = self.outbox.take();
        let frames = packets.iter().flat_map(frame::split);
        let sent: Vec<_> = frames
            .filter_map(|(kind, bytes)| sent(kind, bytes))
            .collect();
        if sent.iter().any(|sent| matches!(sent, Sent::Close)) {
            self.end_here(EndReason::TransportClose);
        }
        sent
    }

    /// Takes a packet of Socket.IO from the client, with what is attached.
    pub(crate) fn send_in_process(
        self: &Arc<Self>,
        packet: &str,
        attachments: Vec<Bytes>,
    ) -> Result<(), EndReason> {
        self.receive_message(packet)?;
        attachments
            .into_iter()
            .try_for_each(|attachment| self.receive_attachment(attachment))
    }
}

/// What a frame is about. Pings are none of the client's business.
fn sent(kind: frame::OpCode, bytes: Bytes) -> Option<Sent> {
    match kind {
        frame::TEXT => {
            let text = String::from_utf8_lossy(&bytes);
            let packet = text.strip_prefix('4')?;
            Some(Sent::Packet(packet.to_owned()))
        }
        frame::BINARY => Some(Sent::Attachment(bytes)),
        frame::CLOSE => Some(Sent::Close),
        _ => None,
    }
}
