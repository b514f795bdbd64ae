//! What travels between servers, in the form of `@socket.io/redis-streams-adapter`: fields of an entry in
//! a stream, of which `data` is JSON or, if there is binary data in it, base64 of msgpack.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use redis::streams::StreamId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cluster::{
    asking::elders::{Beat, Elder},
    asking::talk::{Talk, Way},
    emitters::inbound::parse_tag,
};
use crate::{
    history::Kept,
    message::{Message, push_event, split_event},
    msgpack::{self, Unpacked},
    presence::{self, News},
    telemetry::SpanContext,
    transport::Selection,
};

/// The kinds that are understood, by their numbers in the adapter's protocol.
pub(crate) mod kind {
    pub(crate) const FIRST_BEAT: u8 = 1;
    pub(crate) const BEAT: u8 = 2;
    pub(crate) const BROADCAST: u8 = 3;
    pub(crate) const JOIN: u8 = 4;
    pub(crate) const LEAVE: u8 = 5;
    pub(crate) const DISCONNECT: u8 = 6;
    pub(crate) const FETCH: u8 = 7;
    pub(crate) const FETCHED: u8 = 8;
    pub(crate) const SERVER_SIDE_EMIT: u8 = 9;
    pub(crate) const SERVER_SIDE_ACK: u8 = 10;
    pub(crate) const CLIENT_COUNT: u8 = 11;
    pub(crate) const ACK: u8 = 12;
    pub(crate) const CLOSED: u8 = 13;
    /// MixLab's own. Node's servers pass over it.
    pub(crate) const RELEASE: u8 = 64;
    pub(crate) const KEEP: u8 = 65;
    pub(crate) const PRESENCE: u8 = 66;
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
        /// The span that sent it, if that is traced.
        sender: Option<SpanContext>,
    },
    /// They are sent what has changed about who is present in their room.
    Tell(Message),
    /// All servers keep an event in their history, whosever it is.
    Keep(Kept),
    /// A server says something of who is present in rooms.
    Presence(News),
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
    /// The tag of what an emitter said, if it is that.
    pub of: Option<u64>,
    /// What version 0.2 of the adapter asks or answers here.
    pub talk: Option<Talk>,
    /// Why it is not known what it says, if it says something.
    pub unreadable: Option<Unreadable>,
    /// What a server with that version says of itself.
    pub beat: Option<(Elder, Beat)>,
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
pub(crate) struct Options {
    rooms: Vec<Room>,
    except: Vec<Room>,
    pub(crate) flags: Flags,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Flags {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) volatile: bool,
    /// How long acks are waited for, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<u64>,
}

/// A room's name. Node's servers may use numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Room {
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<Keep>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    presence: Option<News>,
    /// The span that sent the packet, as the value of a header `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The packet tells of who is present.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tells: bool,
    /// Those that ask for acks, of version 0.2, are answered to nobody else.
    #[serde(rename = "requestId", skip_serializing)]
    request_id: Option<String>,
}

/// Where an event is kept, as MixLab's servers say it.
#[derive(Serialize, Deserialize)]
struct Keep {
    id: u64,
    topic: String,
    /// In milliseconds since 1970.
    at: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Packet<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<'a> Packet<'a> {
    /// Of the array of an event.
    pub(crate) fn of(array: &'a RawValue) -> Self {
        Self {
            kind: EVENT,
            data: array,
        }
    }

    /// The event's name and its message, if it is one.
    pub(crate) fn event(
        &self,
        attachments: Vec<Bytes>,
    ) -> Result<Option<(String, Message)>, Unreadable> {
        if self.kind != EVENT {
            return Ok(None);
        }
        let (event, arguments) = split_event(self.data.get()).map_err(not_understood)?;
        let message = Message::new(arguments, attachments).map_err(not_understood)?;
        Ok(Some((event.into_owned(), message)))
    }
}

/// The array of an event.
pub(crate) fn event_array(event: &str, message: &Message) -> Box<RawValue> {
    let mut array = Vec::new();
    push_event(&mut array, event, &message.arguments, None);
    let array = String::from_utf8(array).expect("of texts");
    RawValue::from_string(array).expect("of JSON")
}

/// What the field `data` says with these attachments.
pub(crate) fn encode(json: String, attachments: &[Bytes]) -> String {
    match attachments.is_empty() {
        true => json,
        false => STANDARD.encode(msgpack::pack(&json, attachments)),
    }
}

pub(crate) fn decode(data: &str) -> Result<Unpacked, Unreadable> {
    if data.starts_with('{') {
        return Ok(Unpacked {
            json: data.to_owned(),
            attachments: Vec::new(),
        });
    }
    let packed = STANDARD.decode(data).map_err(not_understood)?;
    msgpack::unpack(&packed, usize::MAX).map_err(not_understood)
}

pub(crate) fn not_understood(error: impl std::fmt::Display) -> Unreadable {
    Unreadable::Data(error.to_string())
}

impl Change {
    /// The fields `type` and `data` of an entry that says so of these sockets.
    pub(crate) fn write(&self, to: &Selection) -> (u8, String) {
        let mut data = Data {
            packet: None,
            opts: Options::of(to),
            rooms: Vec::new(),
            close: None,
            keep: None,
            presence: None,
            traceparent: None,
            tells: false,
            request_id: None,
        };
        let names = |rooms: &[String]| rooms.iter().cloned().map(Room::Text).collect();
        let json = |data: &Data<'_>| serde_json::to_string(data).expect("it has no maps");
        match self {
            Self::Emit {
                event,
                message,
                volatile,
                sender,
            } => {
                data.opts.flags.volatile = *volatile;
                data.traceparent = sender.map(|sender| sender.to_string());
                let array = event_array(event, message);
                data.packet = Some(Packet::of(&array));
                (kind::BROADCAST, encode(json(&data), &message.attachments))
            }
            Self::Keep(Kept {
                id,
                topic,
                at,
                event,
                message,
            }) => {
                let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                data.keep = Some(Keep {
                    id: *id,
                    topic: topic.clone(),
                    at: at.as_millis() as u64,
                });
                let array = event_array(event, message);
                data.packet = Some(Packet::of(&array));
                (kind::KEEP, encode(json(&data), &message.attachments))
            }
            Self::Tell(message) => {
                data.tells = true;
                let array = event_array(presence::EVENT, message);
                data.packet = Some(Packet::of(&array));
                (kind::BROADCAST, json(&data))
            }
            Self::Presence(news) => {
                data.presence = Some(news.clone());
                (kind::PRESENCE, json(&data))
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
    pub(crate) fn read(
        namespace: String,
        kind: u8,
        data: &Unpacked,
    ) -> Result<Option<Self>, Unreadable> {
        let Data {
            packet,
            opts,
            rooms,
            close,
            keep,
            presence,
            traceparent,
            tells,
            request_id,
        } = serde_json::from_str(&data.json).map_err(not_understood)?;
        let names = |rooms: Vec<Room>| rooms.into_iter().map(Room::into_name).collect();
        let change = match (kind, packet) {
            (kind::BROADCAST, Some(packet)) if request_id.is_none() => {
                let Some((event, message)) = packet.event(data.attachments.clone())? else {
                    return Ok(None);
                };
                match tells {
                    true => Change::Tell(message),
                    false => Change::Emit {
                        event,
                        message,
                        volatile: opts.flags.volatile,
                        sender: traceparent.as_deref().and_then(SpanContext::parse),
                    },
                }
            }
            (kind::KEEP, Some(packet)) => {
                let event = packet.event(data.attachments.clone())?;
                let (Some((event, message)), Some(Keep { id, topic, at })) = (event, keep) else {
                    return Ok(None);
                };
                Change::Keep(Kept {
                    id,
                    topic,
                    at: UNIX_EPOCH + Duration::from_millis(at),
                    event,
                    message,
                })
            }
            (kind::PRESENCE, _) => {
                let Some(news) = presence else {
                    return Ok(None);
                };
                Change::Presence(news)
            }
            (kind::JOIN, _) => Change::Join(names(rooms)),
            (kind::LEAVE, _) => Change::Leave(names(rooms)),
            (kind::RELEASE, _) => Change::Release,
            (kind::DISCONNECT, _) => Change::Disconnect {
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
    /// Reads an entry of the stream. What it says may be unreadable: it has been there all the same.
    pub(crate) fn read(entry: &StreamId) -> Result<Self, Unreadable> {
        let field = |name: &'static str| entry.get::<String>(name);
        let needed = |name: &'static str| field(name).ok_or(Unreadable::Missing(name));
        let sender = needed("uid")?;
        let kind = needed("type")?.parse().unwrap_or_default();
        let (said, unreadable) = match said(entry, kind, &sender) {
            Ok(said) => (said, None),
            Err(reason) => (Said::default(), Some(reason)),
        };
        let sequence = field(SEQUENCE).and_then(|number| number.parse().ok());
        // MixLab's servers say it to them, and are none of them.
        let beat = field("nsp").filter(|_| sequence.is_none());
        let beat = beat.map(|namespace| {
            let server = sender.clone();
            (Elder { server, namespace }, Beat::of(kind))
        });
        Ok(Self {
            sender,
            beat,
            sequence,
            of: field(OF).and_then(|tag| parse_tag(&tag)),
            entry: said.entry,
            talk: said.talk,
            unreadable,
        })
    }
}

/// What the data of an entry says.
#[derive(Default)]
struct Said {
    entry: Option<Entry>,
    talk: Option<Talk>,
}

fn said(entry: &StreamId, kind: u8, sender: &str) -> Result<Said, Unreadable> {
    let Some(data) = entry.get::<String>("data") else {
        return Ok(Said::default());
    };
    let namespace = entry.get::<String>("nsp");
    let namespace = namespace.ok_or(Unreadable::Missing("nsp"))?;
    let data = decode(&data)?;
    let entry = match kind {
        kind::FETCH..=kind::ACK => None,
        kind => Entry::read(namespace.clone(), kind, &data)?,
    };
    let talk = match entry {
        Some(_) => None,
        None => Talk::read(kind, sender, namespace, Way::Stream, data)?,
    };
    Ok(Said { entry, talk })
}

/// The field with the number that an entry's sender has given it. Node's servers ignore it.
pub(crate) const SEQUENCE: &str = "seq";

/// The field with the tag of what an emitter said.
const OF: &str = "of";

impl Options {
    /// Node's servers have each socket in a room of its id.
    pub(crate) fn of(selection: &Selection) -> Self {
        let names = selection.rooms.iter().chain(&selection.sockets);
        let text = |name: &String| Room::Text(name.clone());
        Self {
            rooms: names.map(text).collect(),
            except: selection.except.iter().map(text).collect(),
            flags: Flags::default(),
        }
    }

    /// What is a room's name there is a room's or a socket's here.
    pub(crate) fn into_selection(self) -> Selection {
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
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Text(name) => name.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    pub(crate) fn into_name(self) -> String {
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

    fn read(kind: u8, data: &str) -> Result<Option<Entry>, Unreadable> {
        Entry::read("/".to_owned(), kind, &decode(data)?)
    }

    #[test]
    fn an_event_is_written_as_nodes_adapter_does() {
        let emit = |message, volatile| Change::Emit {
            event: "ev".to_owned(),
            message,
            volatile,
            sender: None,
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
            let read = read(kind, data).unwrap();
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
        let read = read(3, &data).unwrap().unwrap();
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
            (1, "{}"),
            (9, r#"{"packet":["hello",1]}"#),
            (
                3,
                r#"{"packet":{"type":2,"data":["ev"]},"requestId":"1","opts":{"rooms":[],"except":[],"flags":{}}}"#,
            ),
        ] {
            let read = read(kind, data);
            assert!(matches!(read, Ok(None) | Err(_)), "{kind}");
        }
        for data in ["", "{", "[]", "!", "{\"packet\":{\"type\":2,\"data\":{}}}"] {
            assert!(read(3, data).is_err(), "{data}");
        }
    }
}
