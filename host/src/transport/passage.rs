//! Which packets of a client reach socketioxide: none for a namespace that the client is not in any
//! more.
//!
//! When a connection ends, packets of its client may be on their way: events, acks, its own end.
//! socketioxide would end the whole session for them, and the client might not even learn that its
//! connection was ended. So they are dropped. For one that socketioxide has begun to read as the
//! connection ends, the socket stays until it has been read ([`Reading::when_read`]).

use std::sync::{Mutex, MutexGuard};

use super::session::Session;

/// The way of a client's packets to socketioxide.
#[derive(Default)]
pub struct Passage {
    /// How many attachments of the packet under way are still to come.
    attachments: usize,
    /// The packet under way is dropped.
    is_dropping: bool,
    /// socketioxide may be reading.
    is_reading: bool,
}

impl Passage {
    /// Whether an engine.io packet that is no attachment passes.
    pub fn passes(&mut self, packet: &[u8], session: &Session) -> bool {
        // First: who ends a connection later than the look finds that something is read.
        self.is_reading = true;
        session.reading.begin();
        if let Some(connect) = packet.strip_prefix(b"40") {
            session.receivers.ask_again(namespace(connect));
        }
        let Some(message) = Message::parse(packet) else {
            return true;
        };
        self.attachments = message.attachments;
        self.is_dropping = session.receivers.has_left(message.namespace);
        !self.is_dropping
    }

    /// Whether an attachment passes.
    pub fn attachment_passes(&mut self) -> bool {
        let is_dropped = self.is_dropping && self.attachments > 0;
        self.attachments = self.attachments.saturating_sub(1);
        !is_dropped
    }

    /// Whether attachments of the packet under way are still to come.
    pub fn awaits_attachments(&self) -> bool {
        self.attachments > 0
    }

    /// socketioxide has dealt with all that has passed.
    pub fn settle(&mut self, session: &Session) {
        if self.is_reading && !self.awaits_attachments() {
            self.is_reading = false;
            session.reading.end();
        }
    }
}

/// Takes a socket out of socketioxide.
pub type Removal = Box<dyn FnOnce() + Send>;

/// What socketioxide is doing with what one client sends.
#[derive(Default)]
pub struct Reading(Mutex<State>);

#[derive(Default)]
struct State {
    is_under_way: bool,
    /// What is done when it has read it.
    removals: Vec<Removal>,
}

impl Reading {
    /// socketioxide is about to read a packet.
    pub fn begin(&self) {
        self.lock().is_under_way = true;
    }

    /// socketioxide has dealt with what it was reading.
    pub fn end(&self) {
        let reading = std::mem::take(&mut *self.lock());
        reading.removals.into_iter().for_each(|remove| remove());
    }

    /// Has `remove` take a socket that has ended out of socketioxide: now, or if a packet for it may
    /// be under way there, behind that packet.
    pub fn when_read(&self, remove: Removal) {
        let mut reading = self.lock();
        if reading.is_under_way {
            reading.removals.push(remove);
        } else {
            drop(reading);
            remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}

/// A packet for a connection.
struct Message<'a> {
    namespace: &'a [u8],
    attachments: usize,
}

impl<'a> Message<'a> {
    /// None for other packets, CONNECT among them.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let (attachments, rest) = match packet {
            [b'4', b'1' | b'2' | b'3', rest @ ..] => (0, rest),
            [b'4', b'5' | b'6', rest @ ..] => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
                let (digits, rest) = rest.split_at(digits.count());
                (number(digits), rest.strip_prefix(b"-")?)
            }
            _ => return None,
        };
        Some(Self {
            namespace: namespace(rest),
            attachments,
        })
    }
}

/// The namespace of a packet, given from behind what comes before it.
pub fn namespace(rest: &[u8]) -> &[u8] {
    match rest.first() {
        Some(b'/') => rest.split(|byte| *byte == b',').next().unwrap_or(rest),
        _ => b"/",
    }
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |number: usize, digit| {
        number
            .saturating_mul(10)
            .saturating_add((digit - b'0').into())
    })
}
