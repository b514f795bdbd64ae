//! What servers ask each other and answer, in the form of the adapter: as msgpack on channels, or with its
//! version 0.2 as entries of the stream.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::described::Described;
use crate::cluster::stream::entry::{
    Options, Packet, Unreadable, event_array, kind, not_understood,
};
use crate::{
    listing::{Page, Part},
    message::{Arguments, Message},
    msgpack::{self, Unpacked},
    transport::Selection,
};

/// How long clients are waited for if it is not said.
const ACKS: Duration = Duration::from_secs(5);

/// How long they are waited for at most, whatever is said.
const MAX_ACKS: Duration = Duration::from_secs(60);

/// What one server says to others, beside what concerns sockets of all.
#[derive(Debug)]
pub(crate) enum Talk {
    Question(Question),
    Answer(Answer),
}

/// What a server wants to know.
#[derive(Debug)]
pub(crate) struct Question {
    /// Who asks.
    pub asker: String,
    /// The request's id.
    pub id: String,
    /// The path of the namespace.
    pub namespace: String,
    /// Where the answer belongs.
    pub way: Way,
    /// What it is.
    pub asks: Asks,
}

/// The way that something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// On a channel.
    Channel,
    /// In the stream: a server with version 0.2.
    Stream,
}

/// What is asked.
#[derive(Debug)]
pub(crate) enum Asks {
    /// Which sockets there are.
    Sockets { to: Selection, want: Want },
    /// What clients answer to an event.
    Acks {
        to: Selection,
        event: String,
        message: Message,
        timeout: Duration,
    },
    /// What a handler of servers' own events answers.
    Handler,
}

/// What there is to be known of sockets. Node's servers tell all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Want {
    /// Everything.
    #[default]
    All,
    /// Their ids.
    Ids,
    /// How many they are.
    Count,
    /// A page of them, or of their users or rooms.
    Page(Box<Page>),
}

/// An answer, which is read by whoever waits for it.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who answers.
    pub server: String,
    /// The request's id.
    pub id: String,
    kind: u8,
    data: Unpacked,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Said {
    /// These sockets.
    Sockets(Vec<Described>),
    /// So many sockets, to one who wants no more.
    Count(usize),
    /// A part of a page.
    Part(Part),
    /// So many clients were asked.
    Clients(usize),
    /// One of them has answered.
    Ack(Message),
    /// There is no handler.
    NoHandler,
}

/// Something to be said.
#[derive(Debug)]
pub(crate) struct Saying {
    pub kind: u8,
    pub json: String,
    pub attachments: Vec<Bytes>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: u8,
    uid: String,
    nsp: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    packet: Option<Packet<'a>>,
    #[serde(rename = "requestId")]
    request_id: String,
    #[serde(default)]
    opts: Options,
    /// Only MixLab's servers say it.
    #[serde(default, skip_serializing_if = "is_all")]
    want: Want,
}

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "requestId")]
    request_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answered {
    sockets: Vec<Described>,
    count: usize,
    part: Option<Part>,
    client_count: usize,
    /// The first argument of an ack.
    packet: Option<Box<RawValue>>,
    /// The others; only MixLab's servers say them.
    rest: Vec<Box<RawValue>>,
}

fn is_all(want: &Want) -> bool {
    *want == Want::All
}

impl Talk {
    /// Reads what came on a channel; none if it is something else.
    pub(crate) fn unpack(packed: &[u8]) -> Result<Option<Self>, Unreadable> {
        let Unpacked { json, attachments } =
            msgpack::unpack(packed, usize::MAX).map_err(not_understood)?;
        let Envelope {
            kind,
            uid,
            nsp,
            data,
        } = serde_json::from_str(&json).map_err(not_understood)?;
        let Some(data) = data else {
            return Ok(None);
        };
        let data = Unpacked {
            json: data.get().to_owned(),
            attachments,
        };
        Self::read(kind, &uid, nsp, Way::Channel, data)
    }

    /// Reads what a server has said; none if it is something else, or wants no answer.
    pub(crate) fn read(
        kind: u8,
        sender: &str,
        namespace: String,
        way: Way,
        data: Unpacked,
    ) -> Result<Option<Self>, Unreadable> {
        let Id { request_id } = serde_json::from_str(&data.json).map_err(not_understood)?;
        let Some(id) = request_id else {
            return Ok(None);
        };
        let asks = match kind {
            kind::BROADCAST | kind::FETCH => Asks::read(data)?,
            kind::SERVER_SIDE_EMIT => Some(Asks::Handler),
            kind::FETCHED | kind::CLIENT_COUNT | kind::ACK => {
                return Ok(Some(Self::Answer(Answer {
                    server: sender.to_owned(),
                    id,
                    kind,
                    data,
                })));
            }
            _ => None,
        };
        Ok(asks.map(|asks| {
            Self::Question(Question {
                asker: sender.to_owned(),
                id,
                namespace,
                way,
                asks,
            })
        }))
    }
}

impl Asks {
    fn read(data: Unpacked) -> Result<Option<Self>, Unreadable> {
        let Unpacked { json, attachments } = data;
        let Asked {
            packet,
            opts,
            want,
            request_id: _,
        } = serde_json::from_str(&json).map_err(not_understood)?;
        let timeout = opts.flags.timeout;
        let to = opts.into_selection();
        let Some(packet) = packet else {
            return Ok(Some(Self::Sockets { to, want }));
        };
        let event = packet.event(attachments)?;
        Ok(event.map(|(event, message)| Self::Acks {
            to,
            event,
            message,
            timeout: timeout.map_or(ACKS, Duration::from_millis).min(MAX_ACKS),
        }))
    }

    /// The same as it is said in a request.
    pub(crate) fn say(&self, request: &str) -> Saying {
        let (kind, attachments) = match self {
            Self::Sockets { .. } => (kind::FETCH, Vec::new()),
            Self::Acks { message, .. } => (kind::BROADCAST, message.attachments.clone()),
            Self::Handler => (kind::SERVER_SIDE_EMIT, Vec::new()),
        };
        let (mut opts, mut want, mut array) = (Options::default(), Want::All, None);
        match self {
            Self::Sockets { to, want: wanted } => {
                opts = Options::of(to);
                want = wanted.clone();
            }
            Self::Acks {
                to,
                event,
                message,
                timeout,
            } => {
                opts = Options::of(to);
                opts.flags.timeout = u64::try_from(timeout.as_millis()).ok();
                array = Some(event_array(event, message));
            }
            Self::Handler => {}
        }
        let asked = Asked {
            packet: array.as_deref().map(Packet::of),
            request_id: request.to_owned(),
            opts,
            want,
        };
        Saying {
            kind,
            json: serde_json::to_string(&asked).expect("it has no maps"),
            attachments,
        }
    }
}

impl Said {
    /// What is said in answer to a request.
    pub(crate) fn say(self, request: &str) -> Saying {
        let mut attachments = Vec::new();
        let (kind, json) = match self {
            Self::Sockets(sockets) => (
                kind::FETCHED,
                json!({ "requestId": request, "sockets": sockets }),
            ),
            // Node's servers read `sockets`.
            Self::Count(count) => (
                kind::FETCHED,
                json!({ "requestId": request, "sockets": [], "count": count }),
            ),
            Self::Part(part) => (
                kind::FETCHED,
                json!({ "requestId": request, "sockets": [], "part": part }),
            ),
            Self::Clients(count) => (
                kind::CLIENT_COUNT,
                json!({ "requestId": request, "clientCount": count }),
            ),
            Self::Ack(message) => {
                let arguments = serde_json::from_str(message.arguments.as_str());
                let mut arguments: Vec<Value> = arguments.expect("it is an array");
                let rest = arguments.split_off(arguments.len().min(1));
                attachments = message.attachments;
                let mut ack = json!({ "requestId": request, "packet": arguments.pop() });
                if !rest.is_empty() {
                    ack["rest"] = rest.into();
                }
                (kind::ACK, ack)
            }
            Self::NoHandler => (
                kind::SERVER_SIDE_ACK,
                json!({ "requestId": request, "packet": null }),
            ),
        };
        Saying {
            kind,
            json: json.to_string(),
            attachments,
        }
    }
}

impl Answer {
    /// What it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let attachments = self.data.attachments.iter().map(Bytes::len);
        self.data.json.len() + attachments.sum::<usize>()
    }

    /// What it says, if that can be read.
    pub(crate) fn read(self) -> Result<Said, Unreadable> {
        let Unpacked { json, attachments } = self.data;
        let Answered {
            sockets,
            count,
            part,
            client_count,
            packet,
            rest,
        } = serde_json::from_str(&json).map_err(not_understood)?;
        Ok(match self.kind {
            kind::FETCHED if count > 0 => Said::Count(count),
            kind::FETCHED => part.map_or(Said::Sockets(sockets), Said::Part),
            kind::ACK => {
                let arguments: Vec<_> = packet.into_iter().chain(rest).collect();
                let arguments = Arguments::from_serialized(&[&arguments]);
                // Of an array in an array.
                let arguments = arguments.as_str();
                let arguments = Arguments::parse(arguments[1..arguments.len() - 1].to_owned());
                let message = Message::new(arguments.map_err(not_understood)?, attachments);
                Said::Ack(message.map_err(not_understood)?)
            }
            _ => Said::Clients(client_count),
        })
    }
}

impl Saying {
    /// As a message of this server's on a channel.
    pub(crate) fn pack(&self, server: &str, namespace: &str) -> Vec<u8> {
        let Self {
            kind,
            json,
            attachments,
        } = self;
        let server = Value::from(server);
        let namespace = Value::from(namespace);
        let envelope =
            format!(r#"{{"type":{kind},"uid":{server},"nsp":{namespace},"data":{json}}}"#);
        msgpack::pack(&envelope, attachments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(saying: &Saying) -> Talk {
        let packed = saying.pack("a", "/chat");
        Talk::unpack(&packed).unwrap().expect("it is understood")
    }

    fn answer(said: Said) -> Said {
        match heard(&said.say("1")) {
            Talk::Answer(answer) => {
                assert_eq!((&*answer.server, &*answer.id), ("a", "1"));
                answer.read().unwrap()
            }
            Talk::Question(question) => panic!("{question:?}"),
        }
    }

    #[test]
    fn what_is_asked_is_understood() {
        let to = Selection::room("r");
        let asks = Asks::Sockets {
            to: to.clone(),
            want: Want::Ids,
        };
        let Talk::Question(question) = heard(&asks.say("1")) else {
            panic!("it is a question");
        };
        assert_eq!((&*question.asker, &*question.id), ("a", "1"));
        assert_eq!(
            (&*question.namespace, question.way),
            ("/chat", Way::Channel)
        );
        assert!(matches!(
            question.asks,
            Asks::Sockets { want: Want::Ids, to } if to.rooms == ["r"]
        ));
        let message = Message::new(
            Arguments::parse(r#"[1,{"_placeholder":true,"num":0}]"#.to_owned()).unwrap(),
            vec![Bytes::from_static(b"x")],
        );
        let asks = Asks::Acks {
            to,
            event: "ev".to_owned(),
            message: message.unwrap(),
            timeout: Duration::from_millis(20),
        };
        let Talk::Question(Question { asks, .. }) = heard(&asks.say("1")) else {
            panic!("it is a question");
        };
        let Asks::Acks {
            event,
            message,
            timeout,
            ..
        } = asks
        else {
            panic!("it asks clients");
        };
        assert_eq!((&*event, timeout), ("ev", Duration::from_millis(20)));
        assert_eq!(message.attachments, [&b"x"[..]]);
    }

    #[test]
    fn what_is_answered_is_understood() {
        for arguments in ["[]", "[1]", r#"["a",{"b":null},2]"#] {
            let message = Message::text(Arguments::parse(arguments.to_owned()).unwrap());
            let Said::Ack(message) = answer(Said::Ack(message)) else {
                panic!("it is an ack");
            };
            assert_eq!(message.arguments.as_str(), arguments);
        }
        assert!(matches!(answer(Said::Clients(3)), Said::Clients(3)));
        assert!(matches!(answer(Said::Count(3)), Said::Count(3)));
        assert!(matches!(answer(Said::Sockets(vec![])), Said::Sockets(it) if it.is_empty()));
    }

    #[test]
    fn what_is_no_message_of_a_server_is_said_so() {
        let pack = |json: &str| msgpack::pack(json, &[]);
        // What redis-emitter sends, on the same channel.
        assert!(Talk::unpack(&pack(r#"["emitter",{"type":2},{}]"#)).is_err());
        assert!(Talk::unpack(b"\xc1").is_err());
        for json in [
            r#"{"type":7,"uid":"a","nsp":"/"}"#,
            r#"{"type":7,"uid":"a","nsp":"/","data":{}}"#,
            r#"{"type":99,"uid":"a","nsp":"/","data":{"requestId":"1"}}"#,
        ] {
            assert!(Talk::unpack(&pack(json)).unwrap().is_none(), "{json}");
        }
    }
}
