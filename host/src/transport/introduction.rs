//! How clients hear of their connections: the answers to their CONNECT packets, and the ends.
//!
//! socketioxide answers too, but it knows neither public ids nor reasons, and what it says takes a
//! way of its own. So what it says of connections is replaced, or left out.

use serde::Serialize;

use super::passage::namespace;
use crate::error::ConnectError;

/// So many CONNECT packets of a client may be refused at once for it to be told more than a code.
const MAX_REFUSED: usize = 64;

/// How a connection is introduced to its client, in the answer to its CONNECT packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Introduction {
    /// The namespace's path.
    #[serde(skip)]
    pub namespace: String,
    /// What the client sees as `socket.id`. Not the session's id: whoever knows that one can take
    /// a polling session over, and clients show `socket.id` to each other.
    pub sid: String,
    /// What the client shows when it comes back; none if it need not try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
}

impl Introduction {
    fn packet(&self) -> String {
        let json = serde_json::to_string(self).expect("texts always serialise");
        match self.namespace.as_str() {
            "/" => format!("40{json}"),
            namespace => format!("40{namespace},{json}"),
        }
    }
}

/// Connections whose CONNECT packets have not been answered by socketioxide.
#[derive(Default)]
pub struct Introductions {
    pending: Vec<Pending>,
    /// Namespaces that the client is not let into, with what it is to get.
    refused: Vec<(String, String)>,
    /// Ends of connections by their namespace: how many more of them the host has told the client of
    /// than socketioxide has.
    ends: Vec<(String, isize)>,
}

struct Pending {
    introduction: Introduction,
    /// The client may know of it.
    is_ready: bool,
    /// socketioxide has answered, the client has got nothing yet.
    is_answered: bool,
    /// The client has got the answer, socketioxide's is still on its way.
    is_given: bool,
}

/// What the client gets instead of socketioxide's answer to CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This packet.
    Instead(String),
    /// Nothing: it has got its answer.
    Given,
}

impl Introductions {
    /// Whether socketioxide has answered all CONNECT packets.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.refused.is_empty()
    }

    /// Announces a connection: its CONNECT packet is about to be answered.
    pub fn announce(&mut self, introduction: Introduction) {
        // A former answer that never went out is out of date.
        self.pending
            .retain(|other| other.introduction.namespace != introduction.namespace);
        self.pending.push(Pending {
            introduction,
            is_ready: false,
            is_answered: false,
            is_given: false,
        });
    }

    /// Says what the client gets instead of the refusal that socketioxide is about to send.
    pub fn refuse(&mut self, namespace: &str, error: &ConnectError) {
        if self.refused.len() >= MAX_REFUSED {
            return;
        }
        let json = serde_json::to_string(error).expect("texts and JSON always serialise");
        let packet = match namespace {
            "/" => format!("44{json}"),
            namespace => format!("44{namespace},{json}"),
        };
        self.refused.push((namespace.to_owned(), packet));
    }

    /// The connection is ready. Returns its introduction if that is to be sent `now`.
    pub fn give(&mut self, namespace: &str, now: bool) -> Option<String> {
        let is_its = |pending: &Pending| pending.introduction.namespace == namespace;
        let index = self.pending.iter().position(is_its)?;
        let pending = &mut self.pending[index];
        pending.is_ready = true;
        if !now || pending.is_given {
            return None;
        }
        pending.is_given = true;
        let packet = pending.introduction.packet();
        if pending.is_answered {
            self.pending.swap_remove(index);
        }
        Some(packet)
    }

    /// Whether `packet` answers CONNECT before the connection is ready. The client must not know of
    /// it sooner than those who send to it do, so it gets its answer then.
    pub fn put_off(&mut self, packet: &[u8]) -> bool {
        let Some(index) = self.answered_by(packet) else {
            return false;
        };
        let pending = &mut self.pending[index];
        pending.is_answered = !pending.is_ready;
        pending.is_answered
    }

    /// The host wants to tell the client of an end. False if socketioxide has been faster.
    pub fn tell_end(&mut self, namespace: &str) -> bool {
        self.count_end(namespace.as_bytes(), 1) >= 0
    }

    /// Whether an engine.io packet of socketioxide's tells of an end that the client knows of already.
    pub fn has_told(&mut self, packet: &[u8]) -> bool {
        let rest = packet.strip_prefix(b"41");
        rest.is_some_and(|rest| self.count_end(namespace(rest), -1) > 0)
    }

    /// Returns what the count was before.
    fn count_end(&mut self, namespace: &[u8], difference: isize) -> isize {
        let is_its = |(path, _): &(String, isize)| path.as_bytes() == namespace;
        let Some(index) = self.ends.iter().position(is_its) else {
            let path = String::from_utf8_lossy(namespace).into_owned();
            self.ends.push((path, difference));
            return 0;
        };
        let before = self.ends[index].1;
        self.ends[index].1 += difference;
        if self.ends[index].1 == 0 {
            self.ends.swap_remove(index);
        }
        if self.ends.is_empty() {
            self.ends = Vec::new();
        }
        before
    }

    /// Which of them an engine.io packet of socketioxide's answers.
    fn answered_by(&self, packet: &[u8]) -> Option<usize> {
        let namespace = namespace(packet.strip_prefix(b"40")?);
        let is_its = |pending: &Pending| pending.introduction.namespace.as_bytes() == namespace;
        self.pending.iter().position(is_its)
    }

    /// What the client gets if `packet` is an engine.io packet of socketioxide's that answers
    /// CONNECT.
    pub fn answer(&mut self, packet: &[u8]) -> Option<Answer> {
        if let Some(rest) = packet.strip_prefix(b"44") {
            return self.refusal(rest);
        }
        let index = self.answered_by(packet)?;
        let pending = self.pending.swap_remove(index);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Some(match pending.is_given {
            true => Answer::Given,
            false => Answer::Instead(pending.introduction.packet()),
        })
    }

    /// What the client gets instead of socketioxide's refusal.
    fn refusal(&mut self, rest: &[u8]) -> Option<Answer> {
        let namespace = namespace(rest);
        let is_its = |(path, _): &(String, String)| path.as_bytes() == namespace;
        let index = self.refused.iter().position(is_its)?;
        let (_, packet) = self.refused.swap_remove(index);
        if self.refused.is_empty() {
            self.refused = Vec::new();
        }
        Some(Answer::Instead(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WireError;

    fn introduction(namespace: &str, sid: &str) -> Introduction {
        Introduction {
            namespace: namespace.to_owned(),
            sid: sid.to_owned(),
            pid: None,
        }
    }

    #[test]
    fn a_refusal_is_told_once_with_its_reason() {
        let mut introductions = Introductions::default();
        let refusal = WireError::new("unauthorized", "a token is needed").into();
        introductions.refuse("/", &refusal);
        let answer = introductions.answer(b"44{\"message\":\"unauthorized\"}");
        let expected = concat!(
            r#"44{"message":"unauthorized","data":{"code":"unauthorized","#,
            r#""message":"a token is needed","temporary":false}}"#
        );
        assert_eq!(answer, Some(Answer::Instead(expected.to_owned())));
        for _ in 0..=MAX_REFUSED {
            introductions.refuse("/full", &refusal);
        }
        assert_eq!(introductions.refused.len(), MAX_REFUSED);
    }

    #[test]
    fn a_client_is_told_of_an_end_once_by_whoever_is_first() {
        let mut introductions = Introductions::default();
        assert!(!introductions.has_told(b"42[\"a\"]"));
        for (namespace, packet) in [("/", "41"), ("/other", "41/other,")] {
            let packet = packet.as_bytes();
            assert!(introductions.tell_end(namespace) && introductions.has_told(packet));
            assert!(!introductions.has_told(packet) && !introductions.tell_end(namespace));
            assert!(introductions.tell_end(namespace));
        }
        assert!(introductions.has_told(b"41") && introductions.has_told(b"41/other,"));
        assert!(introductions.ends.is_empty());
    }

    #[test]
    fn each_connection_is_introduced_once_in_its_own_namespace() {
        let mut introductions = Introductions::default();
        introductions.announce(introduction("/", "old"));
        introductions.announce(introduction("/", "main"));
        introductions.announce(introduction("/admin", "other"));
        assert_eq!(introductions.answer(b"42[\"a\"]"), None);
        assert_eq!(introductions.answer(b"40/foo,{\"sid\":\"x\"}"), None);
        assert_eq!(
            introductions.answer(b"40/admin,{\"sid\":\"x\"}"),
            Some(Answer::Instead("40/admin,{\"sid\":\"other\"}".to_owned()))
        );
        assert_eq!(introductions.give("/admin", true), None);
        assert_eq!(
            introductions.give("/", true).unwrap(),
            "40{\"sid\":\"main\"}"
        );
        assert_eq!(introductions.give("/", true), None);
        assert_eq!(
            introductions.answer(b"40{\"sid\":\"x\"}"),
            Some(Answer::Given)
        );
        assert!(introductions.is_empty());
        assert_eq!(introductions.answer(b"40{\"sid\":\"x\"}"), None);
    }
}
