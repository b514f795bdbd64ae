//! The head of a Socket.IO packet: what stands in front of its JSON. There is one parser of it, for
//! everything that clients send.

/// A Socket.IO packet whose JSON has not been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketHead<'a> {
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
pub(super) enum Kind {
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
    pub(super) fn parse(packet: &'a str) -> Option<Self> {
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
    use proptest::{collection::vec, prelude::*, sample::select};
    use socketioxide_core::{
        Value,
        packet::{Packet, PacketData},
        parser::{Parse, ParseConfig, ParseError, ParserState},
    };
    use socketioxide_parser_common::CommonParser;

    use super::*;

    /// So many attachments are looked at, beside the other parser.
    const MOST_ATTACHMENTS: usize = 100;

    /// No number that ties an ack to its event.
    const TOO_LARGE: &str = "9223372036854775808";

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

    /// Texts that are packets, or nearly.
    fn packet() -> impl Strategy<Value = String> {
        const PIECES: [&str; 18] = [
            "0",
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "9223372036854775807",
            TOO_LARGE,
            "-",
            "/",
            "/n",
            ",",
            "[",
            "{",
            "\"é\"",
            "]",
        ];
        prop_oneof![
            4 => vec(select(&PIECES[..]), 0..8).prop_map(|pieces| pieces.concat()),
            1 => "\\PC*",
        ]
    }

    /// What socketioxide's parser makes of a packet.
    fn parsed(packet: &str) -> Option<(Packet, usize)> {
        let config = ParseConfig {
            max_incoming_binaries: MOST_ATTACHMENTS,
            ..Default::default()
        };
        let state = ParserState::default();
        let mut parsed = CommonParser.decode_str(&config, &state, packet.to_owned().into());
        let mut attachments = 0;
        while let Err(ParseError::NeedsMoreBinaryData) = parsed {
            attachments += 1;
            parsed = CommonParser.decode_bin(&config, &state, Default::default());
        }
        Some((parsed.ok()?, attachments))
    }

    /// Whether the head is what socketioxide's parser finds, too. They differ in this:
    ///
    /// - It refuses acks that name no event. To us they are of no use, and no fault, as to Node.
    /// - It forgets numbers behind which no JSON stands, and those that are too large.
    /// - It takes packets of the kinds with attachments that have none.
    /// - It drops what stands behind a Disconnect, which `Session` refuses.
    fn is_as_parsed(packet: &str, head: Option<PacketHead<'_>>) -> bool {
        let theirs = parsed(packet);
        let Some(head) = head else {
            let mut numbers = packet
                .get(1..)
                .unwrap_or_default()
                .split(|char: char| !char.is_ascii_digit());
            let is_too_large = |number: &str| !number.is_empty() && number.parse::<i64>().is_err();
            return match theirs {
                Some((_, 0)) if packet.starts_with(['5', '6']) => true,
                Some(_) => numbers.any(is_too_large),
                None => true,
            };
        };
        let has_json = head.data.starts_with(['[', '{']);
        let id = head.ack.filter(|_| has_json);
        let Some((Packet { inner, ns }, attachments)) = theirs else {
            return head.kind == Kind::Ack && id.is_none() || head.attachments > MOST_ATTACHMENTS;
        };
        let is_data = |value: &Value| value.as_str().is_some_and(|data| **data == *head.data);
        let is_same = match inner {
            PacketData::Connect(data) => {
                head.kind == Kind::Connect && data.as_ref().map_or(head.data.is_empty(), is_data)
            }
            PacketData::Disconnect => head.kind == Kind::Disconnect,
            PacketData::Event(data, ack) | PacketData::BinaryEvent(data, ack) => {
                head.kind == Kind::Event && ack == id && is_data(&data)
            }
            PacketData::EventAck(data, ack) | PacketData::BinaryAck(data, ack) => {
                head.kind == Kind::Ack && Some(ack) == id && is_data(&data)
            }
            PacketData::ConnectError(_) => false,
        };
        is_same && attachments == head.attachments && *ns == *head.namespace
    }

    proptest! {
        #[test]
        fn a_head_is_what_socketioxides_parser_finds(packet in packet()) {
            let head = PacketHead::parse(&packet);
            prop_assert!(is_as_parsed(&packet, head), "{:?} and {:?}", head, parsed(&packet));
            if let Some(head) = head {
                prop_assert!(packet.ends_with(head.data) && head.namespace.starts_with('/'));
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
