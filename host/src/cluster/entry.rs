//! What travels between servers, in the form of `@socket.io/redis-streams-adapter`: fields of an entry in
//! a stream, of which `data` is JSON or, if there is binary data in it, base64 of msgpack.

use base64::{Engine, engine::general_purpose::STANDARD};
use redis::streams::StreamId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::msgpack::{self, Unpacked};
use crate::{
    message::{Message, push_event, split_event},
    transport::Selection,
};

/// The kinds that are understood, by their numbers in the adapter's protocol.
mod kind {
    pub(super) const BROADCAST: u8 = 3;
    pub(super) const JOIN: u8 = 4;
    pub(super) const LEAVE: u8 = 5;
    pub(super) const DISCONNECT: u8 = 6;
    /// MixLab's own. Node's servers pass over it.
    pub(super) const RELEASE: u8 = 64;
}

/// The type of an EVENT in Socket.IO's protocol.
const EVENT: u8 = 2;

/// Something that concerns sockets of all servers.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The path of the namespace.
    pub namespace: String,
    /// The sockets.
    pub to: Selection,
    /// What becomes of them.
    pub change: Change,
}

/// What becomes of sockets.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// They are sent an event.
    Emit {
        /// Its name.
        event: String,
        /// Its arguments.
        message: Message,
        /// It may be dropped for clients that are not ready.
        volatile: bool,
    },
    /// They join rooms.
    Join(Vec<String>),
    /// They leave rooms.
    Leave(Vec<String>),
    /// Their clients are back on another server: their transports end, and they stay as they are for it.
    Release,
    /// Their connections end.
    Disconnect {
        /// The clients' transports end as well.
        close: bool,
    },
}

/// An entry as it was read.
#[derive(Debug)]
pub(crate) struct Received {
    /// Who has sent it.
    pub sender: String,
    /// The number that its sender has given it. Programs other than MixLab give none.
    pub sequence: Option<u64>,
    /// What it says; none if that concerns Node's servers only.
    pub entry: Option<Entry>,
}

/// Why an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A field that all have is missing.
    #[error("it has no field {0:?}")]
    Missing(&'static str),
    /// It is in no form that is known.
    #[error("its data is not understood: {0}")]
    Data(String),
}

/// `opts` of the adapter's messages.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Options {
    rooms: Vec<Room>,
    except: Vec<Room>,
    flags: Flags,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Flags {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    volatile: bool,
}

/// A room's name. Node's servers may use numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Room {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Serialize, Deserialize)]
struct Data<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    packet: Option<Packet<'a>>,
    #[serde(default)]
    opts: Options,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<Room>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    close: Option<bool>,
    /// Those that ask for acks, of version 0.2, are answered to nobody else.
    #[serde(rename = "requestId", skip_serializing)]
    request_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Packet<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Change {
    /// The fields `type` and `data` of an entry that says so of these sockets.
    pub(super) fn write(&self, to: &Selection) -> (u8, String) {
        let mut data = Data {
            packet: None,
            opts: Options::of(to),
            rooms: Vec::new(),
            close: None,
            request_id: None,
        };
        let names = |rooms: &[String]| rooms.iter().cloned().map(Room::Text).collect();
        let json = |data: &Data<'_>| serde_json::to_string(data).expect("it has no maps");
        match self {
            Self::Emit {
                event,
                message,
                volatile,
            } => {
                data.opts.flags.volatile = *volatile;
                let mut array = Vec::new();
                push_event(&mut array, event, &message.arguments, None);
                let array = String::from_utf8(array).expect("of texts");
                let array = RawValue::from_string(array).expect("of JSON");
                data.packet = Some(Packet {
                    kind: EVENT,
                    data: &array,
                });
                let json = json(&data);
                let written = match message.attachments.is_empty() {
                    true => json,
                    false => STANDARD.encode(msgpack::pack(&json, &message.attachments)),
                };
                (kind::BROADCAST, written)
            }
            Self::Join(rooms) => {
                data.rooms = names(rooms);
                (kind::JOIN, json(&data))
            }
            Self::Leave(rooms) => {
                data.rooms = names(rooms);
                (kind::LEAVE, json(&data))
            }
            Self::Release => (kind::RELEASE, json(&data)),
            Self::Disconnect { close } => {
                data.close = Some(*close);
                (kind::DISCONNECT, json(&data))
            }
        }
    }
}

impl Entry {
    fn read(namespace: String, kind: &str, data: &str) -> Result<Option<Self>, Unreadable> {
        let not_understood = |error: &dyn std::fmt::Display| Unreadable::Data(error.to_string());
        let unpacked = match data.starts_with('{') {
            true => None,
            false => {
                let packed = STANDARD.decode(data);
                let packed = packed.map_err(|error| not_understood(&error))?;
                Some(msgpack::unpack(&packed).map_err(|error| not_understood(&error))?)
            }
        };
        let (json, attachments) = match unpacked {
            None => (data.to_owned(), Vec::new()),
            Some(Unpacked { json, attachments }) => (json, attachments),
        };
        let Data {
            packet,
            opts,
            rooms,
            close,
            request_id,
        } = serde_json::from_str(&json).map_err(|error| not_understood(&error))?;
        let names = |rooms: Vec<Room>| rooms.into_iter().map(Room::into_name).collect();
        let change = match (kind.parse(), packet) {
            (Ok(kind::BROADCAST), Some(packet)) if packet.kind == EVENT && request_id.is_none() => {
                let (event, arguments) =
                    split_event(packet.data.get()).map_err(|error| not_understood(&error))?;
                Change::Emit {
                    event: event.into_owned(),
                    message: Message::new(arguments, attachments)
                        .map_err(|error| not_understood(&error))?,
                    volatile: opts.flags.volatile,
                }
            }
            (Ok(kind::JOIN), _) => Change::Join(names(rooms)),
            (Ok(kind::LEAVE), _) => Change::Leave(names(rooms)),
            (Ok(kind::RELEASE), _) => Change::Release,
            (Ok(kind::DISCONNECT), _) => Change::Disconnect {
                close: close.unwrap_or_default(),
            },
            _ => return Ok(None),
        };
        let to = opts.into_selection();
        Ok(Some(Self {
            namespace,
            to,
            change,
        }))
    }
}

impl Received {
    /// Reads an entry of the stream.
    pub(super) fn read(entry: &StreamId) -> Result<Self, Unreadable> {
        let field = |name: &'static str| entry.get::<String>(name);
        let needed = |name: &'static str| field(name).ok_or(Unreadable::Missing(name));
        let sender = needed("uid")?;
        let kind = needed("type")?;
        let entry = match field("data") {
            Some(data) => Entry::read(needed("nsp")?, &kind, &data)?,
            None => None,
        };
        Ok(Self {
            sender,
            sequence: field(SEQUENCE).and_then(|number| number.parse().ok()),
            entry,
        })
    }
}

/// The field with the number that an entry's sender has given it. Node's servers ignore it.
pub(super) const SEQUENCE: &str = "seq";

impl Options {
    /// Node's servers have each socket in a room of its id.
    fn of(selection: &Selection) -> Self {
        let names = selection.rooms.iter().chain(&selection.sockets);
        let text = |name: &String| Room::Text(name.clone());
        Self {
            rooms: names.map(text).collect(),
            except: selection.except.iter().map(text).collect(),
            flags: Flags::default(),
        }
    }

    /// What is a room's name there is a room's or a socket's here.
    fn into_selection(self) -> Selection {
        let rooms: Vec<_> = self.rooms.into_iter().map(Room::into_name).collect();
        Selection {
            sockets: rooms.clone(),
            rooms,
            except: self.except.into_iter().map(Room::into_name).collect(),
            except_socket: None,
        }
    }
}

impl Room {
    fn into_name(self) -> String {
        match self {
            Self::Text(name) => name,
            Self::Number(number) => number.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Arguments;

    fn message(json: &str, attachments: &[&'static [u8]]) -> Message {
        let attachments = attachments.iter().copied().map(Into::into).collect();
        Message::new(Arguments::parse(json.to_owned()).unwrap(), attachments).unwrap()
    }

    #[test]
    fn an_event_is_written_as_nodes_adapter_does() {
        let emit = |message, volatile| Change::Emit {
            event: "ev".to_owned(),
            message,
            volatile,
        };
        let entry = |to, change| Entry {
            namespace: "/".to_owned(),
            to,
            change,
        };
        let to = Selection {
            rooms: vec!["r".to_owned()],
            sockets: vec!["id".to_owned()],
            except: vec!["x".to_owned()],
            except_socket: None,
        };
        for (entry, kind, data) in [
            (
                entry(
                    Selection::default(),
                    emit(message(r#"[1.0,"é"]"#, &[]), true),
                ),
                3,
                r#"{"packet":{"type":2,"data":["ev",1.0,"é"]},"opts":{"rooms":[],"except":[],"flags":{"volatile":true}}}"#,
            ),
            (
                entry(to.clone(), Change::Join(vec!["j".to_owned()])),
                4,
                r#"{"opts":{"rooms":["r","id"],"except":["x"],"flags":{}},"rooms":["j"]}"#,
            ),
            (
                entry(to, Change::Disconnect { close: false }),
                6,
                r#"{"opts":{"rooms":["r","id"],"except":["x"],"flags":{}},"close":false}"#,
            ),
        ] {
            assert_eq!(entry.change.write(&entry.to), (kind, data.to_owned()));
            let read = Entry::read("/".to_owned(), &kind.to_string(), data).unwrap();
            let read = read.expect("it is understood");
            let again = read.change.write(&read.to);
            // Names stand for rooms and sockets alike when they are read.
            assert_eq!(again.0, kind);
        }
        let binary = entry(
            Selection::room("r"),
            emit(
                message(r#"[{"a":{"_placeholder":true,"num":0}}]"#, &[b"\x01\x02"]),
                false,
            ),
        );
        let (_, data) = binary.change.write(&binary.to);
        assert!(!data.starts_with('{'));
        let read = Entry::read("/".to_owned(), "3", &data).unwrap().unwrap();
        let Change::Emit { event, message, .. } = read.change else {
            panic!("it is an event");
        };
        assert_eq!(event, "ev");
        assert_eq!(
            message.arguments.as_str(),
            r#"[{"a":{"_placeholder":true,"num":0}}]"#
        );
        assert_eq!(message.attachments, [&b"\x01\x02"[..]]);
    }

    #[test]
    fn what_concerns_nodes_servers_only_is_passed_over() {
        for (kind, data) in [
            ("1", "{}"),
            ("9", r#"{"packet":["hello",1]}"#),
            (
                "3",
                r#"{"packet":{"type":2,"data":["ev"]},"requestId":"1","opts":{"rooms":[],"except":[],"flags":{}}}"#,
            ),
        ] {
            let read = Entry::read("/".to_owned(), kind, data);
            assert!(matches!(read, Ok(None) | Err(_)), "{kind}");
        }
        for data in ["", "{", "[]", "!", "{\"packet\":{\"type\":2,\"data\":{}}}"] {
            assert!(Entry::read("/".to_owned(), "3", data).is_err(), "{data}");
        }
    }
}
