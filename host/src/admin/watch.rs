//! What happens on sockets, for pages that see single ones: collected between two looks, and only while somebody looks.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use parking_lot::Mutex;

use crate::{connection::Connection, message::Message};

/// What is kept until the next look; the rest is left out.
const MAX_EVENTS: usize = 500;
const MAX_BYTES: usize = 1 << 20;

/// Arguments that are longer are told by their size only.
const MAX_ARGUMENTS: usize = 16 << 10;

/// Takes notes while somebody looks. To others it costs an event a look at a flag.
#[derive(Default)]
pub(crate) struct Watch {
    is_on: AtomicBool,
    notes: Mutex<Notes>,
}

/// What has happened since the last look, in its order.
#[derive(Default)]
pub(super) struct Notes {
    pub events: Vec<Event>,
    /// Why connections have ended.
    pub ends: Vec<End>,
    /// What the texts of all of it take.
    bytes: usize,
    /// How much was left out.
    pub left_out: usize,
}

/// A client has sent an event.
pub(super) struct Event {
    pub namespace: String,
    pub socket: String,
    pub name: String,
    /// As the JSON of an array.
    pub arguments: String,
    pub at: SystemTime,
}

/// A connection has ended.
pub(super) struct End {
    pub namespace: String,
    pub socket: String,
    pub reason: &'static str,
}

impl Watch {
    /// Notes are taken from now on, or are not.
    pub(super) fn set(&self, is_on: bool) {
        if self.is_on.swap(is_on, Ordering::Relaxed) && !is_on {
            self.take();
        }
    }

    /// What has been noted since this was called last.
    pub(super) fn take(&self) -> Notes {
        mem::take(&mut *self.notes.lock())
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// A client has sent an event.
    pub(crate) fn received(&self, connection: &Connection, event: &str, message: &Message) {
        if self.is_on() {
            self.note(connection, event, message);
        }
    }

    #[cold]
    fn note(&self, connection: &Connection, event: &str, message: &Message) {
        let size = message.size();
        let arguments = match size <= MAX_ARGUMENTS {
            true => message.arguments.as_str().to_owned(),
            false => {
                serde_json::to_string(&[format!("[{size} bytes]")]).expect("texts always serialise")
            }
        };
        let note = Event {
            namespace: connection.namespace().to_owned(),
            socket: connection.id.clone(),
            name: event.to_owned(),
            arguments,
            at: SystemTime::now(),
        };
        let bytes = note.namespace.len() + note.socket.len() + event.len() + note.arguments.len();
        let mut notes = self.notes.lock();
        if notes.events.len() >= MAX_EVENTS || notes.bytes + bytes > MAX_BYTES {
            notes.left_out += 1;
            return;
        }
        notes.bytes += bytes;
        notes.events.push(note);
    }

    /// A connection has ended.
    pub(crate) fn ended(&self, connection: &Connection, reason: &'static str) {
        if !self.is_on() {
            return;
        }
        let mut notes = self.notes.lock();
        // Of more, the reason is not known.
        if notes.ends.len() < MAX_EVENTS {
            notes.ends.push(End {
                namespace: connection.namespace().to_owned(),
                socket: connection.id.clone(),
                reason,
            });
        }
    }
}
