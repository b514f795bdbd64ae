//! Packets of Socket.IO v5 in Engine.IO v4, of the main namespace and without attachments.

use anyhow::{Context, Result, bail};

/// The answer to an Engine.IO ping.
pub const PONG: &[u8] = b"3";

/// Closes the Engine.IO session.
pub const CLOSE: &[u8] = b"1";

/// Leaves the namespace.
pub const DISCONNECT: &[u8] = b"41";

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The Engine.IO session, a JSON object.
    Open(&'a [u8]),
    /// To be answered with [`PONG`].
    Ping,
    /// The namespace lets the client in.
    Connected {
        /// Whether events carry their place in the server's log as one more argument, for a
        /// client that comes back after a break (connection state recovery).
        recovery: bool,
        /// The connection, a JSON object.
        session: &'a [u8],
    },
    /// It does not, for the reason in this JSON object.
    Refused(&'a [u8]),
    /// The server ends the connection.
    Disconnected,
    /// An event: the text of its JSON array without the brackets, so its name comes first.
    Event(&'a [u8]),
    /// The answer to an event.
    Ack {
        /// Which one.
        id: u64,
        /// What it says: the text of a JSON array.
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
            [b'4', b'0', session @ ..] => Self::Connected {
                recovery: contains(session, br#""pid":"#),
                session,
            },
            [b'4', b'2', b'[', arguments @ .., b']'] => Self::Event(arguments),
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

/// An event's arguments without its place in the server's log: a text at the end, of characters
/// that need no escape. One that has none, which servers do not keep, stays as it is.
pub fn without_offset(arguments: &[u8]) -> &[u8] {
    let Some(text) = arguments.strip_suffix(b"\"") else {
        return arguments;
    };
    let start = text.windows(2).rposition(|bytes| bytes == b",\"");
    start.map_or(arguments, |start| &arguments[..start])
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|bytes| bytes == part)
}

/// Whether an event has this name, which holds nothing to escape.
pub fn is_event(arguments: &[u8], name: &str) -> bool {
    arguments
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_prefix(name.as_bytes()))
        .is_some_and(|rest| rest.starts_with(b"\""))
}

/// An event's place in the server's log, which [`without_offset`] takes away.
pub fn offset(arguments: &[u8]) -> Option<&str> {
    let rest = arguments.strip_prefix(without_offset(arguments))?;
    let text = rest.strip_prefix(b",\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(text).ok()
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
            (
                "40{\"sid\":\"x\"}",
                Packet::Connected {
                    recovery: false,
                    session: br#"{"sid":"x"}"#,
                },
            ),
            (
                "40{\"sid\":\"x\",\"pid\":\"y\"}",
                Packet::Connected {
                    recovery: true,
                    session: br#"{"sid":"x","pid":"y"}"#,
                },
            ),
            ("41", Packet::Disconnected),
            ("42[\"a\",1]", Packet::Event(b"\"a\",1")),
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
        for text in ["", "43[1]", "42{}", "7", "45", "hello"] {
            assert!(Packet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_known_by_its_whole_name() {
        assert!(is_event(b"\"pay\",1", "pay"));
        assert!(!is_event(b"\"payment\",1", "pay"));
        assert!(!is_event(b"\"pa\",1", "pay"));
    }

    #[test]
    fn an_offset_is_the_text_at_the_end() {
        for (arguments, without) in [
            (
                br#""a",{"b":"c"},"x-1_9""#.as_slice(),
                br#""a",{"b":"c"}"#.as_slice(),
            ),
            (br#""a",{"b":"c"}"#, br#""a",{"b":"c"}"#),
            (br#""a","x""#, br#""a""#),
            (br#""a""#, br#""a""#),
        ] {
            assert_eq!(without_offset(arguments), without);
            let place = arguments.strip_prefix(without).unwrap();
            assert_eq!(offset(arguments).is_some(), !place.is_empty());
        }
    }
}
