//! The head of a Socket.IO packet: what stands in front of its JSON. There is one parser of it, for
//! everything that clients send.

/// A Socket.IO packet whose JSON has not been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHead<'a> {
    /// What it is.
    pub kind: Kind,
    /// How many attachments follow it, of those kinds that may have some.
    pub attachments: usize,
    /// The namespace's path.
    pub namespace: &'a str,
    /// The number that ties an ack to its event.
    pub ack: Option<i64>,
    /// The JSON behind the head; empty if there is none.
    pub data: &'a str,
}

/// The kinds of packets that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks for a namespace.
    Connect,
    /// Leaves a namespace.
    Disconnect,
    /// An event, with attachments or without.
    Event,
    /// The answer to an event of the server's.
    Ack,
}

impl<'a> PacketHead<'a> {
    /// Reads the head of a packet: a digit for its kind, `NUMBER-` for the attachments, the namespace
    /// with a comma unless it is `/`, and the number of the ack. None if it is no packet that a client
    /// may send.
    pub fn parse(packet: &'a str) -> Option<Self> {
        let (kind, has_attachments) = match packet.as_bytes().first()? {
            b'0' => (Kind::Connect, false),
            b'1' => (Kind::Disconnect, false),
            b'2' => (Kind::Event, false),
            b'3' => (Kind::Ack, false),
            b'5' => (Kind::Event, true),
            b'6' => (Kind::Ack, true),
            _ => return None,
        };
        let rest = &packet[1..];
        let (attachments, rest) = match has_attachments {
            true => {
                let (digits, rest) = digits(rest);
                let attachments = digits.parse().ok().filter(|attachments| *attachments > 0);
                (attachments?, rest.strip_prefix('-')?)
            }
            false => (0, rest),
        };
        let (namespace, rest) = match rest.starts_with('/') {
            // A packet may end behind the namespace.
            true => rest.split_once(',').unwrap_or((rest, "")),
            false => ("/", rest),
        };
        let (id, data) = digits(rest);
        let ack = match id {
            "" => None,
            id => Some(id.parse().ok()?),
        };
        Some(Self {
            kind,
            attachments,
            namespace,
            ack,
            data,
        })
    }
}

/// Splits the digits off that a text begins with.
fn digits(text: &str) -> (&str, &str) {
    let is_other = |byte: &u8| !byte.is_ascii_digit();
    let end = text.bytes().position(|byte| is_other(&byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_read_as_the_protocol_has_it() {
        let head = |kind, attachments, namespace, ack, data| PacketHead {
            kind,
            attachments,
            namespace,
            ack,
            data,
        };
        for (packet, expected) in [
            ("0", head(Kind::Connect, 0, "/", None, "")),
            ("0{\"a\":1}", head(Kind::Connect, 0, "/", None, "{\"a\":1}")),
            ("0/n", head(Kind::Connect, 0, "/n", None, "")),
            ("0/n,", head(Kind::Connect, 0, "/n", None, "")),
            ("0/n,{}", head(Kind::Connect, 0, "/n", None, "{}")),
            ("0custom", head(Kind::Connect, 0, "/", None, "custom")),
            ("1/n,", head(Kind::Disconnect, 0, "/n", None, "")),
            ("2[\"a\"]", head(Kind::Event, 0, "/", None, "[\"a\"]")),
            ("27[\"a\"]", head(Kind::Event, 0, "/", Some(7), "[\"a\"]")),
            ("2/n,7[]", head(Kind::Event, 0, "/n", Some(7), "[]")),
            ("30[]", head(Kind::Ack, 0, "/", Some(0), "[]")),
            ("52-/n,7[]", head(Kind::Event, 2, "/n", Some(7), "[]")),
            ("61-7[]", head(Kind::Ack, 1, "/", Some(7), "[]")),
        ] {
            assert_eq!(PacketHead::parse(packet), Some(expected), "{packet}");
        }
        for packet in [
            "",
            "4{}",
            "7",
            "x",
            "5-[]",
            "5[]",
            "51[]",
            "5x-[]",
            "50-[]",
            "299999999999999999999[]",
        ] {
            assert_eq!(PacketHead::parse(packet), None, "{packet}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(packet in "\\PC*") {
            if let Some(head) = PacketHead::parse(&packet) {
                prop_assert!(packet.ends_with(head.data));
                prop_assert!(head.namespace.starts_with('/'));
            }
        }

        #[test]
        fn a_head_that_is_written_is_read(
            attachments in 1..20_usize,
            namespace in "/[a-z0-9/-]{0,8}",
            ack in proptest::option::of(0..i64::MAX),
        ) {
            let id = ack.map(|id| id.to_string()).unwrap_or_default();
            let path = if namespace == "/" { String::new() } else { format!("{namespace},") };
            let packet = format!("5{attachments}-{path}{id}[]");
            let head = PacketHead::parse(&packet).unwrap();
            prop_assert_eq!((head.attachments, head.namespace), (attachments, &*namespace));
            prop_assert_eq!((head.ack, head.data), (ack, "[]"));
        }
    }
}
