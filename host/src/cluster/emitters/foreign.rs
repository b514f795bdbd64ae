//! What programs say on channels in other forms than the cluster's: `@socket.io/redis-emitter` in msgpack and JSON,
//! python-socketio in JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::cluster::{
    Change, Entry,
    stream::entry::{Options, Packet, Room, Unreadable, not_understood},
};
use crate::{
    message::{Arguments, Message},
    msgpack::{self, Unpacked},
    namespace::MAIN_NAMESPACE,
    transport::Selection,
};

/// Requests of redis-emitter, by their numbers.
mod request {
    pub(crate) const JOIN: u8 = 2;
    pub(crate) const LEAVE: u8 = 3;
    pub(crate) const DISCONNECT: u8 = 4;
}

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    opts: Options,
    #[serde(default)]
    rooms: Vec<Room>,
    #[serde(default)]
    close: bool,
}

/// A message of python-socketio.
#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
enum Python {
    Emit {
        event: String,
        data: Value,
        /// Missing in 5.14.0, whose `data` is one argument, or a list of them.
        binary: Option<bool>,
        namespace: Option<String>,
        room: Option<OneOrMany>,
        skip_sid: Option<OneOrMany>,
    },
    Disconnect {
        sid: String,
        namespace: Option<String>,
    },
    EnterRoom {
        sid: String,
        room: Room,
        namespace: Option<String>,
    },
    LeaveRoom {
        sid: String,
        room: Room,
        namespace: Option<String>,
    },
    CloseRoom {
        room: Room,
        namespace: Option<String>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Room),
    Many(Vec<Room>),
}

impl OneOrMany {
    fn names(names: Option<Self>) -> Vec<String> {
        match names {
            None => Vec::new(),
            Some(Self::One(room)) => vec![room.into_name()],
            Some(Self::Many(rooms)) => rooms.into_iter().map(Room::into_name).collect(),
        }
    }
}

/// What an emitter says of its event, in msgpack: `[uid, packet, options]`. None if it is no event.
pub(crate) fn emitted(packed: &[u8]) -> Result<Option<Entry>, Unreadable> {
    let Unpacked { json, attachments } =
        msgpack::unpack(packed, usize::MAX).map_err(not_understood)?;
    let (_, packet, options): (String, Box<RawValue>, Options) =
        serde_json::from_str(&json).map_err(not_understood)?;
    #[derive(Deserialize)]
    struct InNamespace {
        nsp: Option<String>,
    }
    let InNamespace { nsp } = serde_json::from_str(packet.get()).map_err(not_understood)?;
    let packet: Packet<'_> = serde_json::from_str(packet.get()).map_err(not_understood)?;
    let volatile = options.flags.volatile;
    let event = packet.event(attachments)?;
    Ok(event.map(|(event, message)| Entry {
        namespace: nsp.unwrap_or_else(|| MAIN_NAMESPACE.to_owned()),
        to: options.into_selection(),
        change: Change::Emit {
            event,
            message,
            volatile,
            sender: None,
        },
    }))
}

/// What an emitter requests of the sockets of a namespace, in JSON. None if it is nothing that concerns them.
pub(crate) fn requested(namespace: &str, json: &[u8]) -> Result<Option<Entry>, Unreadable> {
    let Request {
        kind,
        opts,
        rooms,
        close,
    } = serde_json::from_slice(json).map_err(not_understood)?;
    let rooms = rooms.into_iter().map(Room::into_name).collect();
    let change = match kind {
        request::JOIN => Change::Join(rooms),
        request::LEAVE => Change::Leave(rooms),
        request::DISCONNECT => Change::Disconnect { close },
        _ => return Ok(None),
    };
    Ok(Some(Entry {
        namespace: namespace.to_owned(),
        to: opts.into_selection(),
        change,
    }))
}

/// What python-socketio says, in JSON. None if that concerns no sockets of others.
pub(crate) fn of_python(json: &[u8]) -> Result<Option<Entry>, Unreadable> {
    let message: Python = serde_json::from_slice(json).map_err(not_understood)?;
    let socket = |sid: String| Selection {
        sockets: vec![sid],
        ..Selection::default()
    };
    let (namespace, to, change) = match message {
        Python::Emit {
            event,
            data,
            binary,
            namespace,
            room,
            skip_sid,
        } => {
            let rooms = OneOrMany::names(room);
            let to = Selection {
                sockets: rooms.clone(),
                rooms,
                except: OneOrMany::names(skip_sid),
                except_socket: None,
            };
            let message = python_message(data, binary)?;
            let change = Change::Emit {
                event,
                message,
                volatile: false,
                sender: None,
            };
            (namespace, to, change)
        }
        Python::Disconnect { sid, namespace } => {
            let change = Change::Disconnect { close: false };
            (namespace, socket(sid), change)
        }
        Python::EnterRoom {
            sid,
            room,
            namespace,
        } => (namespace, socket(sid), Change::Join(vec![room.into_name()])),
        Python::LeaveRoom {
            sid,
            room,
            namespace,
        } => (
            namespace,
            socket(sid),
            Change::Leave(vec![room.into_name()]),
        ),
        Python::CloseRoom { room, namespace } => {
            let room = room.into_name();
            let to = Selection::room(room.clone());
            (namespace, to, Change::Leave(vec![room]))
        }
        Python::Other => return Ok(None),
    };
    Ok(Some(Entry {
        namespace: namespace.unwrap_or_else(|| MAIN_NAMESPACE.to_owned()),
        to,
        change,
    }))
}

/// The arguments that python-socketio sends, and with `binary` their attachments in base64 behind them.
fn python_message(data: Value, binary: Option<bool>) -> Result<Message, Unreadable> {
    let mut attachments = Vec::new();
    let arguments = match (data, binary) {
        (Value::Array(data), Some(true)) => {
            let mut data = data.into_iter();
            let arguments = data.next().unwrap_or_default();
            for attachment in data {
                let attachment = attachment.as_str().unwrap_or_default();
                let attachment = STANDARD.decode(attachment).map_err(not_understood)?;
                attachments.push(Bytes::from(attachment));
            }
            arguments
        }
        (data @ Value::Array(_), _) => data,
        (data, _) => Value::Array(vec![data]),
    };
    let arguments = Arguments::parse(arguments.to_string()).map_err(not_understood)?;
    Message::new(arguments, attachments).map_err(not_understood)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entry: Result<Option<Entry>, Unreadable>) -> (String, u8, String) {
        let entry = entry.unwrap().expect("it concerns sockets");
        let (kind, data) = entry.change.write(&entry.to);
        (entry.namespace, kind, data)
    }

    #[test]
    fn what_emitters_say_is_understood() {
        let packed = msgpack::pack(
            r#"["emitter",{"type":2,"data":["ev",1],"nsp":"/chat"},{"rooms":["r"],"flags":{},"except":["x"]}]"#,
            &[],
        );
        let (namespace, kind, data) = written(emitted(&packed));
        assert_eq!((&*namespace, kind), ("/chat", 3));
        assert!(data.contains(r#""data":["ev",1]"#) && data.contains(r#""except":["x"]"#));
        let join = br#"{"type":2,"opts":{"rooms":["r"],"except":[]},"rooms":["j"]}"#;
        assert_eq!(written(requested("/", join)).1, 4);
        let end = br#"{"type":4,"opts":{"rooms":["r"],"except":[]},"close":true}"#;
        assert!(written(requested("/", end)).2.ends_with(r#""close":true}"#));
        let event = br#"{"uid":"emitter","type":6,"data":["ev"]}"#;
        assert!(requested("/", event).unwrap().is_none());
    }

    #[test]
    fn what_python_says_is_understood() {
        for (json, kind, part) in [
            (
                r#"{"method":"emit","event":"ev","data":[{"a":1},2],"binary":false,"namespace":"/","room":"r","skip_sid":null,"callback":null,"host_id":"h"}"#,
                3,
                r#"["ev",{"a":1},2]"#,
            ),
            (
                r#"{"method":"emit","event":"ev","data":7,"namespace":"/","room":["r","s"],"skip_sid":"x"}"#,
                3,
                r#"["ev",7]"#,
            ),
            (
                r#"{"method":"enter_room","sid":"s","room":"r","namespace":"/"}"#,
                4,
                r#""rooms":["r"]"#,
            ),
            (
                r#"{"method":"close_room","room":"r","namespace":"/"}"#,
                5,
                r#""rooms":["r"]"#,
            ),
            (
                r#"{"method":"disconnect","sid":"s","namespace":"/"}"#,
                6,
                r#""close":false"#,
            ),
        ] {
            let (_, read, data) = written(of_python(json.as_bytes()));
            assert_eq!(read, kind, "{json}");
            assert!(data.contains(part), "{data}");
        }
        let binary = br#"{"method":"emit","event":"ev","data":[[{"_placeholder":true,"num":0}],"AQI="],"binary":true,"namespace":"/","room":null}"#;
        let entry = of_python(binary).unwrap().unwrap();
        let Change::Emit { message, .. } = entry.change else {
            panic!("it is an event");
        };
        assert_eq!(message.attachments, [&b"\x01\x02"[..]]);
        let callback = br#"{"method":"callback","host_id":"h","sid":"s","id":1,"args":[]}"#;
        assert!(of_python(callback).unwrap().is_none());
        assert!(of_python(b"\x80\x04").is_err());
    }
}
