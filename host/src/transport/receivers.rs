//! Who takes what a client sends, by namespace.

use std::sync::{Arc, Mutex, MutexGuard};

/// So many namespaces of a client are known that it is not in any more: those that it left last.
const MAX_LEFT: usize = 64;

/// Takes the events of a connection, in the order in which they came.
pub trait Receiver: Send + Sync {
    /// An event without attachments: the array of its packet, and the id of the ack where one is
    /// asked for. False if it cannot be read, which socketioxide may judge.
    fn receive(&self, array: &str, ack: Option<i64>) -> bool;
}

/// The receivers of one client's connections, and the namespaces that it is not in any more.
#[derive(Default)]
pub struct Receivers(Mutex<State>);

#[derive(Default)]
struct State {
    /// They take the events that come over a websocket.
    present: Vec<(String, Arc<dyn Receiver>)>,
    /// Nobody does: the client is not in these namespaces any more.
    left: Vec<String>,
}

impl Receivers {
    /// Has the events of a namespace taken by `receiver`. Without one they are socketioxide's.
    pub fn add(&self, namespace: &str, receiver: Arc<dyn Receiver>) {
        let mut receivers = self.lock();
        let present = &mut receivers.present;
        present.retain(|(other, _)| other != namespace);
        // Most clients use one namespace.
        present.reserve_exact(1);
        present.push((namespace.to_owned(), receiver));
    }

    /// The client is not in a namespace any more. What it sends there is dropped until it asks for it
    /// again.
    pub fn leave(&self, namespace: &str) {
        let mut receivers = self.lock();
        receivers.present.retain(|(other, _)| other != namespace);
        receivers.left.retain(|other| other != namespace);
        if receivers.left.len() >= MAX_LEFT {
            receivers.left.remove(0);
        }
        receivers.left.push(namespace.to_owned());
    }

    /// The client asks for a namespace, perhaps one that it has left.
    pub fn ask_again(&self, namespace: &[u8]) {
        let mut receivers = self.lock();
        let left = &mut receivers.left;
        left.retain(|other| other.as_bytes() != namespace);
    }

    /// Whether the client has left a namespace.
    pub fn has_left(&self, namespace: &[u8]) -> bool {
        let receivers = self.lock();
        let mut left = receivers.left.iter();
        left.any(|other| other.as_bytes() == namespace)
    }

    /// No event is taken any more.
    pub fn forget(&self) {
        let mut receivers = self.lock();
        receivers.present.clear();
    }

    /// Hands an engine.io packet to who takes it; false if nobody does.
    pub fn deliver(&self, packet: &[u8]) -> bool {
        let Some(event) = Event::parse(packet) else {
            return false;
        };
        let receiver = {
            let receivers = self.lock();
            let mut present = receivers.present.iter();
            let receiver = present.find(|(namespace, _)| namespace == event.namespace);
            receiver.map(|(_, receiver)| receiver.clone())
        };
        receiver.is_some_and(|receiver| receiver.receive(event.array, event.ack))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}

/// An event without attachments.
struct Event<'a> {
    namespace: &'a str,
    ack: Option<i64>,
    array: &'a str,
}

impl<'a> Event<'a> {
    /// Reads `42`, the namespace unless it is `/`, the ack's id if there is one, and the array.
    /// None for everything else, and for what only socketioxide can refuse as it must be.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let packet = str::from_utf8(packet.strip_prefix(b"42")?).ok()?;
        let (namespace, rest) = match packet.starts_with('/') {
            true => packet.split_once(',')?,
            false => ("/", packet),
        };
        let (id, array) = rest.split_at(rest.find('[')?);
        let ack = match id {
            "" => None,
            id if id.bytes().all(|byte| byte.is_ascii_digit()) => Some(id.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            namespace,
            ack,
            array,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_left_until_it_is_asked_for_again_and_the_last_ones_are_known() {
        let receivers = Receivers::default();
        assert!(!receivers.has_left(b"/"));
        receivers.leave("/");
        receivers.leave("/");
        assert!(receivers.has_left(b"/") && !receivers.has_left(b"/other"));
        receivers.ask_again(b"/other");
        assert!(receivers.has_left(b"/"));
        receivers.ask_again(b"/");
        assert!(!receivers.has_left(b"/"));
        let path = |number: usize| format!("/{number}");
        (0..=MAX_LEFT).for_each(|number| receivers.leave(&path(number)));
        assert!(!receivers.has_left(b"/0"));
        assert!((1..=MAX_LEFT).all(|number| receivers.has_left(path(number).as_bytes())));
    }
}
