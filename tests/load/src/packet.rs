//! Packets of Socket.IO v5 in Engine.IO v4, of the main namespace and without attachments.

use anyhow::{Context, Result, bail};

/// The answer to an Engine.IO ping.
pub const PONG: &[u8] = b"3";

/// Closes the Engine.IO session.
pub const CLOSE: &[u8] = b"1";

/// Leaves the namespace.
pub const DISCONNECT: &[u8] = b"41";

/// What a server says. Arguments are the text of a JSON array; an event's begins with its name.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The Engine.IO session, a JSON object.
    Open(&'a [u8]),
    /// To be answered with [`PONG`].
    Ping,
    /// The namespace lets the client in.
    Connected,
    /// It does not, for the reason in this JSON object.
    Refused(&'a [u8]),
    /// The server ends the connection.
    Disconnected,
    /// An event.
    Event(&'a [u8]),
    /// The answer to an event.
    Ack {
        /// Which one.
        id: u64,
        /// What it says.
        arguments: &'a [u8],
    },
}

impl<'a> Packet<'a> {
    /// Reads the text of one packet.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        Ok(match text {
            [b'0', session @ ..] => Self::Open(session),
            [b'1'] | [b'4', b'1', ..] => Self::Disconnected,
            [b'2'] => Self::Ping,
            [b'4', b'0', ..] => Self::Connected,
            [b'4', b'2', arguments @ ..] => Self::Event(arguments),
            [b'4', b'3', rest @ ..] => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (id, arguments) = rest.split_at(digits);
                let id = std::str::from_utf8(id)?;
                let id = id.parse().context("an ack without an id")?;
                Self::Ack { id, arguments }
            }
            [b'4', b'4', reason @ ..] => Self::Refused(reason),
            other => bail!("not a packet: {}", String::from_utf8_lossy(other)),
        })
    }
}

/// Whether the arguments of an event begin with its name, which holds nothing to escape.
pub fn is_event(arguments: &[u8], name: &str) -> bool {
    arguments
        .strip_prefix(b"[\"")
        .and_then(|rest| rest.strip_prefix(name.as_bytes()))
        .is_some_and(|rest| rest.starts_with(b"\""))
}

/// The request to join the main namespace.
pub fn connect(token: Option<&str>) -> String {
    match token {
        Some(token) => format!("40{}", serde_json::json!({ "token": token })),
        None => "40".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        for (text, packet) in [
            ("2", Packet::Ping),
            ("40{\"sid\":\"x\"}", Packet::Connected),
            ("41", Packet::Disconnected),
            ("42[\"a\",1]", Packet::Event(b"[\"a\",1]")),
            (
                "4317[1]",
                Packet::Ack {
                    id: 17,
                    arguments: b"[1]",
                },
            ),
            ("44{}", Packet::Refused(b"{}")),
        ] {
            assert_eq!(Packet::parse(text.as_bytes()).unwrap(), packet);
        }
        for text in ["", "43[1]", "7", "45", "hello"] {
            assert!(Packet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_known_by_its_whole_name() {
        assert!(is_event(b"[\"pay\",1]", "pay"));
        assert!(!is_event(b"[\"payment\",1]", "pay"));
        assert!(!is_event(b"[\"pa\",1]", "pay"));
    }
}
