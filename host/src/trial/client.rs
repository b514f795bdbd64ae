//! A client in this process.

use std::{collections::BTreeMap, mem, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    connection::Connections,
    record::{BYTES, attach},
    transport::{Sent, Session},
    user::User,
};

/// Who connects, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sender {
    /// Whose token it shows; none: nobody's.
    pub user: Option<User>,
    /// The namespace.
    pub namespace: String,
    /// What else it says of itself.
    pub auth: serde_json::Map<String, Value>,
}

/// A client in this process, with one connection.
pub(crate) struct Client {
    session: Arc<Session>,
    namespace: String,
    last_ack: i64,
    /// A packet whose attachments have not all been seen yet.
    waiting: Option<(String, usize, Vec<Bytes>)>,
    /// What it got and did not take.
    left: Vec<Received>,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    /// It is let in, and known by this id.
    Connected(String),
    /// It is not let in.
    Refused(Value),
    /// An event.
    Event {
        name: String,
        arguments: Vec<Value>,
        /// The number of the ack that the server waits for.
        ack: Option<i64>,
    },
    /// The answer to an event with this number.
    Ack { id: i64, arguments: Vec<Value> },
    /// The server has ended the connection.
    Disconnected,
}

/// What a client knows of itself when it has asked to be let in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Joined {
    /// It is in, and known by this id.
    As(String),
    /// It is not, for this reason.
    Not(Value),
}

impl Client {
    pub(super) fn new(session: Arc<Session>, sender: &Sender) -> Self {
        session.keep_in_process();
        Self {
            session,
            namespace: sender.namespace.clone(),
            last_ack: 0,
            waiting: None,
            left: Vec::new(),
        }
    }

    /// Asks to be let in.
    pub(super) fn ask(&self, token: Option<String>, mut auth: serde_json::Map<String, Value>) {
        if let Some(token) = token {
            auth.insert("token".to_owned(), token.into());
        }
        self.send("0", &Value::Object(auth).to_string(), Vec::new());
    }

    /// Sends an event, and asks for an ack with the number that is returned.
    pub(crate) fn emit(&mut self, event: &str, arguments: &[Value]) -> i64 {
        self.last_ack += 1;
        let mut array = vec![Value::from(event)];
        array.extend(arguments.iter().cloned());
        self.send_array("2", "5", self.last_ack, Value::Array(array));
        self.last_ack
    }

    /// Answers events of the server's that ask for it, by their names. What it got is still to be taken.
    pub(crate) fn answer_asked(&mut self, answers: &BTreeMap<String, Vec<Value>>) {
        let mut received = self.take();
        for received in &mut received {
            if let Received::Event { name, ack, .. } = received
                && let Some(answer) = answers.get(name)
                && let Some(ack) = ack.take()
            {
                self.send_array("3", "6", ack, Value::Array(answer.clone()));
            }
        }
        self.put_back(received);
    }

    /// Leaves.
    pub(crate) fn disconnect(&self) {
        self.send("1", "", Vec::new());
    }

    fn send_array(&self, kind: &str, with_bytes: &str, ack: i64, mut array: Value) {
        let mut attachments = Vec::new();
        detach(&mut array, &mut attachments);
        let head = match attachments.len() {
            0 => kind.to_owned(),
            count => format!("{with_bytes}{count}-"),
        };
        self.send(&head, &format!("{ack}{array}"), attachments);
    }

    fn send(&self, head: &str, rest: &str, attachments: Vec<Bytes>) {
        let packet = match &*self.namespace {
            "/" => format!("{head}{rest}"),
            namespace => format!("{head}{namespace},{rest}"),
        };
        if let Err(reason) = self.session.send_in_process(&packet, attachments) {
            self.session.end_here(reason);
        }
    }

    /// What it got since this was called last.
    pub(crate) fn take(&mut self) -> Vec<Received> {
        let mut received = mem::take(&mut self.left);
        for sent in self.session.take_sent() {
            match sent {
                Sent::Packet(packet) => received.extend(self.packet(packet)),
                Sent::Attachment(bytes) => received.extend(self.attachment(bytes)),
                Sent::Close => received.push(Received::Disconnected),
            }
        }
        received
    }

    /// Leaves it to be taken again.
    pub(crate) fn put_back(&mut self, received: Vec<Received>) {
        self.left = received;
    }

    /// Has it be in rooms, and a plugin keep this with it, from the beginning on.
    pub(super) fn begin_with(
        &self,
        connections: &Connections,
        plugin: &str,
        rooms: Vec<String>,
        data: Option<&Value>,
    ) {
        let Some(connection) = connections.get(self.session.id, &self.namespace) else {
            return;
        };
        connection.join(rooms);
        if let Some(data) = data {
            connection.keep(&plugin.into(), data.to_string().into());
        }
    }

    /// The rooms that it is in.
    pub(crate) fn rooms(&self, connections: &Connections) -> Vec<String> {
        let connection = connections.get(self.session.id, &self.namespace);
        connection.map_or_else(Vec::new, |connection| connection.rooms())
    }

    /// Whether it is connected.
    pub(crate) fn is_connected(&self, connections: &Connections) -> bool {
        connections.get(self.session.id, &self.namespace).is_some()
    }

    /// What a plugin keeps with it; none if that is nothing.
    pub(crate) fn kept(&self, connections: &Connections, plugin: &str) -> Option<Value> {
        let connection = connections.get(self.session.id, &self.namespace)?;
        let kept = connection.data.get(plugin)?;
        serde_json::from_str(&kept).ok()
    }

    /// What the answer to [`Client::ask`] was; the rest of what it got stays in `received`.
    pub(crate) fn joined(received: &mut Vec<Received>) -> Joined {
        let answer = received.iter().position(|received| {
            matches!(
                received,
                Received::Connected(_) | Received::Refused(_) | Received::Disconnected
            )
        });
        match answer.map(|index| received.remove(index)) {
            Some(Received::Connected(id)) => Joined::As(id),
            Some(Received::Refused(error)) => Joined::Not(error),
            _ => Joined::Not(json!({ "message": "the server asks the client to come back later" })),
        }
    }

    fn packet(&mut self, packet: String) -> Option<Received> {
        let kind = packet.chars().next()?;
        if !matches!(kind, '5' | '6') {
            return parse(kind, &packet[1..], &self.namespace, &[]);
        }
        let (count, _) = packet[1..].split_once('-')?;
        let count = count.parse().ok()?;
        self.waiting = Some((packet, count, Vec::new()));
        None
    }

    fn attachment(&mut self, bytes: Bytes) -> Option<Received> {
        let (_, count, attachments) = self.waiting.as_mut()?;
        attachments.push(bytes);
        if attachments.len() < *count {
            return None;
        }
        let (packet, _, attachments) = self.waiting.take()?;
        let (head, rest) = packet.split_once('-')?;
        let kind = if head.starts_with('5') { '2' } else { '3' };
        parse(kind, rest, &self.namespace, &attachments)
    }
}

/// Reads a packet behind its kind.
fn parse(kind: char, rest: &str, namespace: &str, attachments: &[Bytes]) -> Option<Received> {
    let rest = match namespace {
        "/" => rest,
        path => rest.strip_prefix(path)?.trim_start_matches(','),
    };
    let start = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    let (id, data) = rest.split_at(start);
    let id = id.parse().ok();
    let mut value = serde_json::from_str(data).unwrap_or(Value::Null);
    attach(&mut value, attachments);
    match (kind, value) {
        ('0', value) => Some(Received::Connected(value["sid"].as_str()?.to_owned())),
        ('1', _) => Some(Received::Disconnected),
        ('2', Value::Array(mut arguments)) if !arguments.is_empty() => {
            let name = arguments.remove(0).as_str()?.to_owned();
            Some(Received::Event {
                name,
                arguments,
                ack: id,
            })
        }
        ('3', Value::Array(arguments)) => Some(Received::Ack { id: id?, arguments }),
        ('4', value) => Some(Received::Refused(value)),
        _ => None,
    }
}

/// Takes bytes out of a message, and leaves places for them.
fn detach(value: &mut Value, attachments: &mut Vec<Bytes>) {
    if let Some(bytes) = bytes_of(value) {
        *value = json!({ "_placeholder": true, "num": attachments.len() });
        attachments.push(bytes);
        return;
    }
    match value {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| detach(value, attachments)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| detach(value, attachments)),
        _ => {}
    }
}

fn bytes_of(value: &Value) -> Option<Bytes> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    let base64 = fields.get(BYTES)?.as_str()?;
    BASE64_STANDARD.decode(base64).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_clients_read_them() {
        let bytes = [Bytes::from_static(&[1, 2])];
        for (kind, rest, namespace, expected) in [
            ('0', r#"{"sid":"a"}"#, "/", Received::Connected("a".into())),
            (
                '0',
                r#"/x,{"sid":"a"}"#,
                "/x",
                Received::Connected("a".into()),
            ),
            ('1', "/x,", "/x", Received::Disconnected),
            (
                '4',
                r#"{"message":"no"}"#,
                "/",
                Received::Refused(json!({ "message": "no" })),
            ),
            (
                '3',
                r#"12[1,{"_placeholder":true,"num":0}]"#,
                "/",
                Received::Ack {
                    id: 12,
                    arguments: vec![json!(1), json!({ "$bytes": "AQI=" })],
                },
            ),
            (
                '2',
                r#"/x,7["ask",[]]"#,
                "/x",
                Received::Event {
                    name: "ask".into(),
                    arguments: vec![json!([])],
                    ack: Some(7),
                },
            ),
        ] {
            assert_eq!(
                parse(kind, rest, namespace, &bytes),
                Some(expected),
                "{rest}"
            );
        }
    }

    #[test]
    fn bytes_leave_a_place_behind() {
        let mut value = json!([{ "a": { "$bytes": "AQI=" } }, "$bytes"]);
        let mut attachments = Vec::new();
        detach(&mut value, &mut attachments);
        assert_eq!(
            value,
            json!([{ "a": { "_placeholder": true, "num": 0 } }, "$bytes"])
        );
        attach(&mut value, &attachments);
        assert_eq!(value, json!([{ "a": { "$bytes": "AQI=" } }, "$bytes"]));
    }
}
