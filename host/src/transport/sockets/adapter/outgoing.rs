//! What a namespace sends its sockets: emits, broadcasts, questions and acks, each encoded once.

use std::{iter::Sum, sync::Arc, time::Duration};

use futures_util::Stream as Answers;
use tokio::{runtime::Handle, task::yield_now};

use super::{
    super::{ask::Answer, packet::Packet, selection::Selection},
    Adapter,
};
use crate::{
    cluster::EntryId,
    message::Message,
    recovery::{Journal, Log, NO_PLACE, Stream},
    transport::{
        engine::{Pushed, Session},
        key::{SessionKey, SocketKey},
    },
};

/// So many clients are written to by whoever sends; the others by tasks, so many in a row.
const WRITTEN_AT_ONCE: usize = 64;

/// How far an emit got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Sockets whose send buffer took the packet.
    pub delivered: usize,
    /// Sockets whose send buffer was full.
    pub dropped: usize,
}

impl Sum for Delivery {
    fn sum<I: Iterator<Item = Self>>(deliveries: I) -> Self {
        deliveries.fold(Self::default(), |sum, delivery| Self {
            delivered: sum.delivered + delivery.delivered,
            dropped: sum.dropped + delivery.dropped,
        })
    }
}

impl Adapter {
    /// Emits an event to one connection: to its socket, or where there is a stream to the socket
    /// that it has by now.
    pub fn emit(
        &self,
        socket: SocketKey,
        session: &Arc<Session>,
        stream: Option<&Stream>,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let encode = |place: Option<&str>| Packet::event(self.namespace(), event, message, place);
        let (Some(journal), Some(stream)) = (&self.journal, stream) else {
            let pushed = session.push(&encode(None).forms(), volatile);
            return self.finish(event, pushed, session);
        };
        let push = |here: SessionKey, packet: &Packet| {
            if here == socket.session {
                return (session.push(&packet.forms(), volatile), None);
            }
            match self.member(here) {
                Some(session) => (session.push(&packet.forms(), volatile), Some(session)),
                None => (Pushed::Closed, None),
            }
        };
        match journal.emit(stream, volatile, |place| encode(Some(place)), push) {
            Some((pushed, moved)) => self.finish(event, pushed, moved.as_ref().unwrap_or(session)),
            None => Delivery::default(),
        }
    }

    /// Emits an event to every socket of a selection; it is encoded once. In a cluster it was read in an
    /// `entry` of the stream.
    pub(crate) fn broadcast(
        &self,
        entry: Option<EntryId>,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        // Held until it is in all outboxes.
        let mut log = self.journal.as_ref().map(Journal::broadcasts);
        let recipients = self.members(&self.sockets(&to));
        let is_waited_for = |log: &Log| entry.is_some() || log.is_waited_for();
        let is_kept = !volatile && log.as_deref().is_some_and(is_waited_for);
        if recipients.is_empty() && !is_kept {
            return Delivery::default();
        }
        let event_of =
            |message, place: Option<&str>| Packet::event(self.namespace(), event, message, place);
        let is_ahead = self.journal.as_ref().is_some_and(Journal::is_ahead);
        let without_place = is_ahead.then(|| event_of(message.clone(), Some(NO_PLACE)));
        let encode = |place: Option<&str>| event_of(message, place);
        let packet = match &mut log {
            Some(log) if volatile => log.pass(entry, |place| encode(Some(place))),
            Some(log) => log.push(entry, to, |place| encode(Some(place))),
            None => encode(None),
        };
        let packet = without_place.unwrap_or(packet);
        self.push(event, &packet, recipients, volatile, move || drop(log))
    }

    /// Emits an event while the cluster's Redis is away. It has no place that anybody could come back to: it
    /// will have one when it is in the stream.
    pub(crate) fn broadcast_alone(
        &self,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) {
        // Held until it is in all outboxes.
        let log = self.journal.as_ref().map(Journal::broadcasts);
        let recipients = self.members(&self.sockets(&to));
        let place = log.as_ref().map(|_| NO_PLACE);
        let packet = Packet::event(self.namespace(), event, message, place);
        self.push(event, &packet, recipients, volatile, move || drop(log));
    }

    /// Puts a packet into outboxes, then `unlock`s the log, and writes.
    fn push(
        &self,
        event: &str,
        packet: &Packet,
        recipients: Vec<(SessionKey, Arc<Session>)>,
        volatile: bool,
        unlock: impl FnOnce(),
    ) -> Delivery {
        let forms = packet.forms();
        let pushed: Vec<_> = recipients
            .iter()
            .map(|(_, session)| session.push(&forms, volatile))
            .collect();
        unlock();
        let sessions = recipients.iter().map(|(_, session)| session);
        let delivery = self.account(event, pushed.iter().copied().zip(sessions));
        let waiting = recipients.into_iter().zip(pushed);
        let waiting = waiting.filter(|(_, pushed)| *pushed == Pushed::Waiting);
        write(waiting.map(|((_, session), _)| session).collect());
        delivery
    }

    /// Emits an event to sockets, for their acks: an item of the stream for each that is still there.
    ///
    /// They are not logged for clients that come back: as in Node, there would be nobody left who
    /// waits for the ack.
    pub fn ask(
        &self,
        sockets: &[SessionKey],
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> impl Answers<Item = Answer> + Send + use<> {
        let recipients = self.members(sockets);
        let asked = recipients.iter().map(|(socket, _)| *socket).collect();
        let (id, answers) = self.asks.open(asked, timeout);
        let packet = Packet::question(self.namespace(), id, event, message);
        let forms = packet.forms();
        for (_, session) in &recipients {
            let pushed = session.push(&forms, false);
            self.finish(event, pushed, session);
        }
        answers
    }

    /// A client has answered what it was asked with this number.
    pub fn answered(&self, socket: SocketKey, id: i64, message: Message) {
        self.asks.answer(id, (socket.session, Ok(message)));
    }

    /// Answers an event that asked for an ack.
    pub fn ack(&self, session: &Arc<Session>, id: i64, message: Message) {
        let packet = Packet::ack(self.namespace(), id, message);
        let pushed = session.push(&packet.forms(), false);
        self.finish("(ack)", pushed, session);
    }

    /// Writes a packet that was pushed, and counts what became of it.
    fn finish(&self, event: &str, pushed: Pushed, session: &Arc<Session>) -> Delivery {
        if pushed == Pushed::Waiting {
            session.flush();
        }
        self.account(event, [(pushed, session)])
    }

    /// Counts what became of a packet. A client that is gone is no loss: nobody was there to
    /// receive.
    fn account<'a>(
        &self,
        event: &str,
        pushed: impl IntoIterator<Item = (Pushed, &'a Arc<Session>)>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        for (pushed, session) in pushed {
            match pushed {
                Pushed::Taken | Pushed::Waiting => delivery.delivered += 1,
                Pushed::Full => {
                    delivery.dropped += 1;
                    self.dropped.count(session);
                }
                Pushed::Skipped | Pushed::Closed => {}
            }
        }
        if delivery.dropped > 0 {
            tracing::warn!(
                namespace = self.namespace(),
                event,
                dropped = delivery.dropped,
                "clients that read too slowly missed an event: their send buffers are full"
            );
        }
        delivery
    }
}

/// Writes to many clients without keeping the sender, or others on its thread, from their own work for
/// long. What is sent to the last of them meanwhile leaves with what waits for them.
fn write(mut waiting: Vec<Arc<Session>>) {
    if waiting.len() > WRITTEN_AT_ONCE
        && let Ok(runtime) = Handle::try_current()
    {
        let mut others = waiting.split_off(WRITTEN_AT_ONCE);
        let part = others.len().div_ceil(runtime.metrics().num_workers());
        while !others.is_empty() {
            let part = others.split_off(others.len().saturating_sub(part));
            runtime.spawn(write_in_turns(part));
        }
    }
    waiting.iter().for_each(|session| session.flush());
}

async fn write_in_turns(waiting: Vec<Arc<Session>>) {
    for some in waiting.chunks(WRITTEN_AT_ONCE) {
        some.iter().for_each(|session| session.flush());
        yield_now().await;
    }
}
