//! What a client sends on its way to the connections: which namespaces the client is in, and packets
//! whose attachments are still to come.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    session::{Malformed, Receiver, Session},
    sessions::{Policy, Task},
};
use crate::transport::head::{Kind, PacketHead};

/// So many namespaces of a client are known that it is not in any more: those that it left last.
const MAX_LEFT: usize = 64;

/// Of a namespace with a longer name it is not known that a client has left it, in bytes.
const MAX_LEFT_NAME: usize = 1024;

/// So many namespaces may a client ask for at once.
const MAX_JOINING: usize = 256;

/// So many attachments may a packet have for its sender to be told that they are too many.
const MAX_COUNTED: usize = 1_000;

/// The namespaces of one client, and the packet that is coming in parts.
#[derive(Default)]
pub(super) struct Inbox {
    slots: Vec<Slot>,
    left: Vec<Box<str>>,
    partial: Option<Box<Partial>>,
    /// The client is gone. Who would still let it in, or was about to hear it ask, comes too late.
    is_over: bool,
}

/// A namespace that a client is in, or wants to be.
struct Slot {
    namespace: Box<str>,
    state: SlotState,
}

/// ```text
/// (none)  => Joining (the client asks for the namespace)
/// Joining => Joined (it is let in) | (none) (it is not) | Ending (it has left meanwhile)
/// Joined  => Ending (the server ends the connection) | (none) (the client does)
/// Ending  => (none) (the connection has been told) | Joining (and the client has asked again)
/// ```
enum SlotState {
    /// It is being decided; what comes meanwhile waits, the client's own end of it, too.
    Joining(Waiting),
    /// Its events have somebody who takes them.
    Joined(Arc<dyn Receiver>),
    /// The connection is being told of its end, in another thread than the client's. If the client asks
    /// again, that waits: the next connection must find nothing of this one.
    Ending(Option<Box<Again>>),
}

/// A client that asks for a namespace again.
#[derive(Default)]
struct Again {
    waiting: Waiting,
    /// Decides about it; none as long as what it says of itself is being read.
    admission: Option<Task>,
}

#[derive(Default)]
struct Waiting {
    packets: VecDeque<Kept>,
    bytes: usize,
    /// The client leaves when they have been handed over.
    leaves: bool,
}

/// How a client that is let in goes on.
pub(super) enum LetIn {
    /// These packets of its go first. Then it is to be asked again.
    Behind(VecDeque<Kept>),
    /// Its packets go to the connection from now on.
    Joined,
    /// It has left meanwhile: the connection ends.
    Left,
    /// It is gone, and the connection was never there.
    Gone,
}

/// Where a packet for a namespace goes.
pub(super) enum Routed {
    /// To a connection.
    To(Arc<dyn Receiver>),
    /// Nowhere yet: it has to wait.
    Joining,
    /// Nowhere any more: the connection has ended, and the client may not know yet.
    Left,
}

/// An event or an ack from a client.
#[derive(Debug)]
pub(super) struct Received<'a> {
    what: What,
    array: &'a str,
    attachments: Vec<Bytes>,
}

/// The same, without the bytes that it was read from.
#[derive(Debug)]
pub(super) struct Kept {
    what: What,
    array: Box<str>,
    attachments: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Event(Option<i64>),
    /// With more attachments than the server takes.
    Oversized(Option<i64>),
    /// One that names no event is read, and of no use.
    Ack(Option<i64>),
}

/// A packet whose attachments are still to come.
struct Partial {
    namespace: Box<str>,
    packet: Kept,
    missing: usize,
    bytes: usize,
}

/// A packet that has all its attachments.
pub(super) struct Completed {
    namespace: Box<str>,
    packet: Kept,
}

impl Inbox {
    /// Whether the next message has to be an attachment.
    pub(super) fn awaits_attachments(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether the client is in no namespace, and asks for none.
    pub(super) fn is_empty(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.all(|slot| matches!(slot.state, SlotState::Ending(None)))
    }

    /// The client asks for a namespace. False if it has done so before, or is gone: a stock client that
    /// is told to connect twice sends two of these, and has one connection. [`Inbox::admit`] comes next.
    pub(super) fn begin(&mut self, namespace: &str, policy: &Policy) -> Result<bool, Malformed> {
        if self.is_over {
            return Ok(false);
        }
        self.left.retain(|left| **left != *namespace);
        if let Some(slot) = self.slot(namespace) {
            if let SlotState::Ending(again @ None) = &mut slot.state {
                *again = Some(Box::default());
                return Ok(true);
            }
            if let Some(waiting) = slot.waiting() {
                waiting.leaves = false;
            }
            return Ok(false);
        }
        let joining = |slot: &&Slot| matches!(slot.state, SlotState::Joining(_));
        let is_full = self.slots.iter().filter(joining).count() >= MAX_JOINING
            || self.slots.len() >= policy.max_namespaces;
        if is_full {
            return Err(Malformed);
        }
        // Most clients use one namespace.
        self.slots.reserve_exact(1);
        self.slots.push(Slot {
            namespace: namespace.into(),
            state: SlotState::Joining(Waiting::default()),
        });
        Ok(true)
    }

    /// This decides about a client that asks for a namespace: returned if it may, and else kept until the
    /// former connection has been told of its end.
    pub(super) fn admit(&mut self, namespace: &str, admission: Task) -> Option<Task> {
        match self.slot(namespace).map(|slot| &mut slot.state) {
            Some(SlotState::Ending(Some(again))) => {
                again.admission = Some(admission);
                None
            }
            _ => Some(admission),
        }
    }

    /// A connection to a namespace has been told of its end. Returns what decides about its client, if that
    /// has asked again.
    pub(super) fn has_ended(&mut self, namespace: &str) -> Option<Task> {
        let is_it = |slot: &Slot| {
            *slot.namespace == *namespace && matches!(slot.state, SlotState::Ending(_))
        };
        let index = self.slots.iter().position(is_it)?;
        let slot = &mut self.slots[index];
        let SlotState::Ending(Some(again)) = &mut slot.state else {
            self.slots.swap_remove(index);
            return None;
        };
        let Again { waiting, admission } = std::mem::take(&mut **again);
        slot.state = SlotState::Joining(waiting);
        admission
    }

    /// The client is let in. If it has left, [`Inbox::has_ended`] comes next.
    pub(super) fn let_in(&mut self, namespace: &str, receiver: &Arc<dyn Receiver>) -> LetIn {
        let Some(slot) = self.slot(namespace) else {
            return LetIn::Gone;
        };
        let SlotState::Joining(waiting) = &mut slot.state else {
            return LetIn::Gone;
        };
        waiting.bytes = 0;
        let packets = std::mem::take(&mut waiting.packets);
        if !packets.is_empty() {
            return LetIn::Behind(packets);
        }
        if waiting.leaves {
            slot.state = SlotState::Ending(None);
            self.note_left(namespace);
            return LetIn::Left;
        }
        slot.state = SlotState::Joined(receiver.clone());
        LetIn::Joined
    }

    /// The client is not let in, or not any more.
    pub(super) fn refuse(&mut self, namespace: &str) {
        let is_refused = |slot: &Slot| {
            *slot.namespace == *namespace && matches!(slot.state, SlotState::Joining(_))
        };
        if let Some(index) = self.slots.iter().position(is_refused) {
            self.slots.swap_remove(index);
            self.note_left(namespace);
        }
    }

    /// The client leaves a namespace. Returns who is to be told before anything else of the client is
    /// received; none if that has to wait.
    pub(super) fn leave(
        &mut self,
        namespace: &str,
    ) -> Result<Option<Arc<dyn Receiver>>, Malformed> {
        self.route(namespace)?;
        let Some(index) = self.index(namespace) else {
            return Ok(None);
        };
        if let SlotState::Joined(receiver) = &self.slots[index].state {
            let receiver = receiver.clone();
            self.slots.swap_remove(index);
            self.note_left(namespace);
            return Ok(Some(receiver));
        }
        if let Some(waiting) = self.slots[index].waiting() {
            waiting.leaves = true;
        }
        Ok(None)
    }

    /// The server ends the connection with this public id. Returns who is to be told, after which
    /// [`Inbox::has_ended`] comes; none if the connection is not there.
    pub(super) fn end(&mut self, namespace: &str, id: &str) -> Option<Arc<dyn Receiver>> {
        let slot = self.slot(namespace)?;
        let SlotState::Joined(receiver) = &slot.state else {
            return None;
        };
        // The client may have a new one.
        if receiver.id() != id {
            return None;
        }
        let receiver = receiver.clone();
        slot.state = SlotState::Ending(None);
        self.note_left(namespace);
        Some(receiver)
    }

    /// The client is gone. Returns who is to be told.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Arc<dyn Receiver>> + use<> {
        self.is_over = true;
        self.partial = None;
        self.left = Vec::new();
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().filter_map(|slot| match slot.state {
            SlotState::Joined(receiver) => Some(receiver),
            SlotState::Joining(_) | SlotState::Ending(_) => None,
        })
    }

    /// Where a packet for a namespace goes. The client must be in it, or have been: one for a namespace
    /// that it has never asked for ends its session, as in Node.
    pub(super) fn route(&self, namespace: &str) -> Result<Routed, Malformed> {
        let slot = self.slots.iter().find(|slot| *slot.namespace == *namespace);
        match slot.map(|slot| &slot.state) {
            Some(SlotState::Joined(receiver)) => Ok(Routed::To(receiver.clone())),
            Some(SlotState::Ending(None)) => Ok(Routed::Left),
            Some(SlotState::Joining(waiting)) => Ok(waiting.route()),
            Some(SlotState::Ending(Some(again))) => Ok(again.waiting.route()),
            None if self.left.iter().any(|left| **left == *namespace) => Ok(Routed::Left),
            None => Err(Malformed),
        }
    }

    /// Has a packet wait until the client is let in.
    pub(super) fn keep(
        &mut self,
        namespace: &str,
        packet: Kept,
        policy: &Policy,
    ) -> Result<(), Malformed> {
        let slot = self.slot(namespace).ok_or(Malformed)?;
        let waiting = slot.waiting().ok_or(Malformed)?;
        waiting.bytes += packet.size();
        waiting.packets.push_back(packet);
        let fits =
            waiting.packets.len() <= policy.queue.packets && waiting.bytes <= policy.queue.bytes;
        fits.then_some(()).ok_or(Malformed)
    }

    /// A packet has come whose attachments follow.
    pub(super) fn expect_attachments(
        &mut self,
        head: &PacketHead<'_>,
        policy: &Policy,
    ) -> Result<(), Malformed> {
        if head.attachments > MAX_COUNTED {
            return Err(Malformed);
        }
        let mut packet = Received::of(head)?.into_owned();
        if head.attachments > policy.max_attachments {
            packet.what = match packet.what {
                What::Event(ack) | What::Oversized(ack) => What::Oversized(ack),
                // Nobody can be told that waits for it.
                What::Ack(_) => return Err(Malformed),
            };
        }
        self.partial = Some(Box::new(Partial {
            namespace: head.namespace.into(),
            packet,
            missing: head.attachments,
            bytes: 0,
        }));
        Ok(())
    }

    /// An attachment has come; returns the packet that is complete with it.
    pub(super) fn attach(
        &mut self,
        attachment: Bytes,
        policy: &Policy,
    ) -> Result<Option<Completed>, Malformed> {
        let partial = self.partial.as_mut().ok_or(Malformed)?;
        partial.missing -= 1;
        if !matches!(partial.packet.what, What::Oversized(_)) {
            partial.bytes += attachment.len();
            if partial.bytes > policy.queue.bytes {
                return Err(Malformed);
            }
            partial.packet.attachments.push(attachment);
        }
        if partial.missing > 0 {
            return Ok(None);
        }
        let complete = self.partial.take().map(|partial| Completed {
            namespace: partial.namespace,
            packet: partial.packet,
        });
        Ok(complete)
    }

    fn slot(&mut self, namespace: &str) -> Option<&mut Slot> {
        self.slots
            .iter_mut()
            .find(|slot| *slot.namespace == *namespace)
    }

    fn index(&self, namespace: &str) -> Option<usize> {
        let mut slots = self.slots.iter();
        slots.position(|slot| *slot.namespace == *namespace)
    }

    /// Until the client asks for it again, what it sends there is dropped: it may not know yet.
    fn note_left(&mut self, namespace: &str) {
        if namespace.len() > MAX_LEFT_NAME {
            return;
        }
        if self.left.len() >= MAX_LEFT {
            self.left.remove(0);
        }
        self.left.push(namespace.into());
    }
}

impl Slot {
    /// What waits for the client to be let in, if it asks to be.
    fn waiting(&mut self) -> Option<&mut Waiting> {
        match &mut self.state {
            SlotState::Joining(waiting) => Some(waiting),
            SlotState::Ending(Some(again)) => Some(&mut again.waiting),
            SlotState::Joined(_) | SlotState::Ending(None) => None,
        }
    }
}

impl Waiting {
    /// Where a packet goes.
    fn route(&self) -> Routed {
        match self.leaves {
            true => Routed::Left,
            false => Routed::Joining,
        }
    }
}

impl<'a> Received<'a> {
    /// An event or an ack without attachments.
    pub(super) fn of(head: &PacketHead<'a>) -> Result<Self, Malformed> {
        let what = match head.kind {
            Kind::Event => What::Event(head.ack),
            Kind::Ack => What::Ack(head.ack),
            Kind::Connect | Kind::Disconnect => return Err(Malformed),
        };
        Ok(Self {
            what,
            array: head.data,
            attachments: Vec::new(),
        })
    }

    /// Hands it over.
    pub(super) fn give(self, receiver: &dyn Receiver) -> Result<(), Malformed> {
        match self.what {
            What::Event(ack) => receiver.event(self.array, self.attachments, ack),
            What::Oversized(ack) => receiver.oversized(self.array, ack),
            What::Ack(id) => receiver.acked(id, self.array, self.attachments),
        }
    }

    /// A copy that can wait.
    pub(super) fn into_owned(self) -> Kept {
        Kept {
            what: self.what,
            array: self.array.into(),
            attachments: self.attachments,
        }
    }
}

impl Kept {
    /// Hands it over.
    pub(super) fn give(self, receiver: &dyn Receiver) -> Result<(), Malformed> {
        let received = Received {
            what: self.what,
            array: &self.array,
            attachments: self.attachments,
        };
        received.give(receiver)
    }

    fn size(&self) -> usize {
        let attached: usize = self.attachments.iter().map(Bytes::len).sum();
        size_of::<Self>() + self.array.len() + attached
    }
}

impl Completed {
    /// Sends it on to its connection.
    pub(super) fn deliver(self, session: &Session) -> Result<(), Malformed> {
        session.deliver(&self.namespace, self.packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, transport::engine::EndReason};

    struct Nobody;

    impl Receiver for Nobody {
        fn id(&self) -> &str {
            ""
        }

        fn event(&self, _: &str, _: Vec<Bytes>, _: Option<i64>) -> Result<(), Malformed> {
            Ok(())
        }

        fn oversized(&self, _: &str, _: Option<i64>) -> Result<(), Malformed> {
            Ok(())
        }

        fn acked(&self, _: Option<i64>, _: &str, _: Vec<Bytes>) -> Result<(), Malformed> {
            Ok(())
        }

        fn ended(&self, _: EndReason) {}
    }

    #[test]
    fn nobody_is_let_in_who_asks_as_the_session_ends() {
        let policy = Policy::new(&config::Socket::default());
        let receiver: Arc<dyn Receiver> = Arc::new(Nobody);
        let mut inbox = Inbox::default();
        assert_eq!(inbox.begin("/", &policy), Ok(true));
        assert_eq!(inbox.clear().count(), 0);
        assert_eq!(inbox.begin("/", &policy), Ok(false));
        assert!(matches!(inbox.let_in("/", &receiver), LetIn::Gone));
    }

    #[test]
    fn who_leaves_before_it_is_let_in_has_left_unless_it_asks_again() {
        let policy = Policy::new(&config::Socket::default());
        let receiver: Arc<dyn Receiver> = Arc::new(Nobody);
        for asks_again in [false, true] {
            let mut inbox = Inbox::default();
            inbox.begin("/", &policy).unwrap();
            assert!(inbox.leave("/").unwrap().is_none());
            assert!(matches!(inbox.route("/"), Ok(Routed::Left)));
            if asks_again {
                assert_eq!(inbox.begin("/", &policy), Ok(false));
            }
            match inbox.let_in("/", &receiver) {
                LetIn::Joined => assert!(asks_again),
                LetIn::Left => assert!(!asks_again && inbox.is_empty()),
                LetIn::Gone | LetIn::Behind(_) => panic!("it has asked, and sent nothing"),
            }
        }
    }

    #[test]
    fn a_long_name_of_a_namespace_is_not_kept_behind_its_refusal() {
        let policy = Policy::new(&config::Socket::default());
        let mut inbox = Inbox::default();
        let longest = format!("/{}", "x".repeat(MAX_LEFT_NAME - 1));
        for (name, is_known) in [(longest.clone(), true), (longest + "x", false)] {
            assert_eq!(inbox.begin(&name, &policy), Ok(true));
            inbox.refuse(&name);
            assert!(inbox.is_empty());
            assert_eq!(inbox.route(&name).is_ok(), is_known);
        }
    }
}
