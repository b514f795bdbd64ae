//! One client's Engine.IO session: its transport, its life, and the connections to namespaces that it
//! carries.

mod clock;
mod connections;
mod end;
pub(crate) mod in_process;
mod incoming;
#[cfg(test)]
mod interleavings;
mod outgoing;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    time::SystemTime,
};

use crossbeam_utils::atomic::AtomicCell;
use futures_util::task::AtomicWaker;

pub(crate) use self::{
    connections::Ended,
    end::EndReason,
    incoming::{Malformed, Receiver},
};
use super::{
    handshake::Handshake,
    inbox::Inbox,
    outbox::Outbox,
    sessions::{Policy, Sessions},
    turn::Turn,
};
use crate::{
    address::ClientAddress,
    ordered_lock::{OrderedMutex, rank},
    transport::{key::SessionKey, net::Wire},
};

/// One client's session. The table of [`Sessions`] holds it while it lives, and so does who works
/// for it.
pub struct Session {
    /// The secret that its requests carry.
    pub id: SessionKey,
    /// The client's address.
    pub address: ClientAddress,
    /// When it began.
    pub began: SystemTime,
    /// What the client said when it came; none if nobody may read it.
    pub handshake: Option<Box<Handshake>>,
    sessions: Arc<Sessions>,
    transport: AtomicCell<Transport>,
    life: AtomicCell<Life>,
    /// The connection of the websocket, once there is one.
    wire: OnceLock<Wire>,
    /// Whether the client takes messages deflated, once it has a websocket.
    deflates: AtomicBool,
    /// The task of the websocket.
    task: AtomicWaker,
    /// What goes out.
    pub outbox: Outbox,
    /// What comes in.
    inbox: OrderedMutex<{ rank::INBOX }, Inbox>,
    /// The request that waits for packets.
    pub(super) polls: Turn,
    /// The request that brings some.
    pub(super) posts: Turn,
    /// Whether the sweep comes to see that the client takes something.
    is_watched: AtomicBool,
    /// At which tick the ping was sent that has no answer yet; 0 if there is none.
    pinged: AtomicU32,
}

/// What packets travel over.
///
/// ```text
/// Polling   => Upgrading (a websocket asks for the session)
/// Upgrading => Polling (it did not come to it) | Websocket
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Requests.
    Polling,
    /// Requests still; a websocket is being probed.
    Upgrading,
    /// A websocket, for good.
    Websocket,
}

/// How far a session has come.
///
/// ```text
/// Open    => Closing (the last packet is under way) | Ended
/// Closing => Ended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// What the client sends is not taken any more.
    Closing,
    Ended,
}

impl Session {
    /// A session that polls.
    pub(super) fn new(
        id: SessionKey,
        address: ClientAddress,
        handshake: Option<Box<Handshake>>,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self {
            id,
            address,
            began: SystemTime::now(),
            handshake,
            outbox: Outbox::new(sessions.policy.capacity),
            sessions,
            transport: AtomicCell::new(Transport::Polling),
            life: AtomicCell::new(Life::Open),
            wire: OnceLock::new(),
            deflates: AtomicBool::new(false),
            task: AtomicWaker::new(),
            inbox: OrderedMutex::default(),
            polls: Turn::default(),
            posts: Turn::default(),
            is_watched: AtomicBool::new(false),
            pinged: AtomicU32::new(0),
        }
    }

    /// It is over before it has begun here: nobody is told, and nobody gets anything.
    pub(super) fn is_past(&self) {
        self.life.store(Life::Ended);
        self.outbox.close();
    }

    /// What holds for all sessions.
    pub fn policy(&self) -> &Policy {
        &self.sessions.policy
    }

    /// What its packets travel over.
    pub fn transport(&self) -> Transport {
        self.transport.load()
    }

    /// Whether its packets travel over a websocket.
    pub(crate) fn is_over_websocket(&self) -> bool {
        self.transport() == Transport::Websocket
    }

    /// Claims the upgrade; false if another websocket has it, or had it.
    pub fn begin_upgrade(&self) -> bool {
        self.transport
            .compare_exchange(Transport::Polling, Transport::Upgrading)
            .is_ok()
    }

    /// Gives up the claim: the session stays with polling.
    pub fn abandon_upgrade(&self) {
        let upgrading = Transport::Upgrading;
        self.transport
            .compare_exchange(upgrading, Transport::Polling)
            .ok();
    }

    /// From now on packets travel over this websocket, those first that wait; deflated, if the client `deflates`.
    pub(crate) fn open_websocket(&self, wire: Wire, deflates: bool) -> &Wire {
        let wire = self.wire.get_or_init(|| wire);
        self.transport.store(Transport::Websocket);
        self.outbox.open_websocket();
        // Not before: no poll could read what is deflated.
        self.deflates.store(deflates, Ordering::Release);
        wire
    }

    /// From how many bytes on the client takes messages deflated; none if it does not.
    pub(crate) fn takes_deflated(&self) -> Option<usize> {
        let threshold = self.policy().per_message_deflate?;
        self.deflates.load(Ordering::Acquire).then_some(threshold)
    }

    /// Its websocket, once it has one.
    pub(crate) fn websocket(&self) -> Option<&Wire> {
        self.wire.get()
    }

    /// Whether it is over once the last packet has gone out, which it has.
    pub fn is_parting(&self) -> bool {
        self.life.load() == Life::Closing && self.outbox.is_done()
    }

    /// Notes the task of the websocket, to be woken when there is something for it to do.
    pub fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Whether nothing waits for the client.
    pub fn has_sent_all(&self) -> bool {
        !self.outbox.is_waiting()
    }

    /// Whether the client can be sent something.
    pub fn is_open(&self) -> bool {
        self.life.load() == Life::Open
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.life.load() == Life::Ended
    }
}
