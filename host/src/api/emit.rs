//! `POST /api/v1/emit`: events of any name to rooms, users, roles, sockets or everybody; one, or a list
//! of which all are emitted or none.

use std::borrow::Cow;

use axum::response::Response;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::Backend,
    body::{JsonBody, object},
    check_room,
    push::{Push, Pushed},
    whom::{Whom, invalid},
};
use crate::{
    broadcast::Broadcast,
    capability::is_reserved_event,
    error::WireError,
    history::is_topic,
    message::{Arguments, InvalidMessage, Message},
    selected::{Named, Selected},
};

/// How many events a list may have.
const MAX_EMITS: usize = 1000;

/// An event as a backend writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    namespace: Option<String>,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    sockets: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    /// Has to be said, so that a list that is empty by mistake reaches nobody.
    #[serde(default)]
    everyone: bool,
    event: String,
    arguments: Option<Box<RawValue>>,
    /// In base64, by the `num` of their placeholders.
    #[serde(default)]
    attachments: Vec<String>,
    #[serde(default)]
    volatile: bool,
    /// The topic of the history that it is kept in.
    keep: Option<String>,
}

/// An event that its backend may emit.
struct Emit {
    sockets: Selected,
    event: String,
    message: Message,
    volatile: bool,
    keep: Option<String>,
}

/// The answer to an event, or to a list of events.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    One(Pushed),
    List(Vec<Pushed>),
}

/// Emits what the body says.
pub(super) async fn emit(push: Push, JsonBody(body): JsonBody) -> Result<Response, WireError> {
    push.perform(body, emit_all).await
}

/// Emits an event or a list of events, if all of them may be; the answer is as the body is.
fn emit_all(
    backend: &Backend,
    broadcast: &Broadcast,
    body: &RawValue,
) -> Result<Answer, WireError> {
    check_room(broadcast)?;
    if !body.get().starts_with('[') {
        let emit = Emit::read(body, backend, broadcast)?;
        return Ok(Answer::One(emit.perform(broadcast)));
    }
    let written: Vec<&RawValue> = serde_json::from_str(body.get()).map_err(not_understood)?;
    if written.len() > MAX_EMITS {
        let found = written.len();
        let message = format!("the list has {found} events, and there may be {MAX_EMITS}");
        return Err(WireError::new("payload_too_large", message));
    }
    let read = |written: &&RawValue| Emit::read(written, backend, broadcast);
    let emits = all(written.iter().map(read).collect())?;
    let emits = emits.into_iter();
    let answers = emits.map(|emit| emit.perform(broadcast)).collect();
    Ok(Answer::List(answers))
}

/// All events of a list, or what is wrong with each, with the code of the first that is refused.
fn all(read: Vec<Result<Emit, WireError>>) -> Result<Vec<Emit>, WireError> {
    let refused = read.iter().filter(|emit| emit.is_err()).count();
    let Some(first) = read.iter().find_map(|emit| emit.as_ref().err()) else {
        return Ok(read.into_iter().flatten().collect());
    };
    let details: Vec<_> = read.iter().map(|emit| emit.as_ref().err()).collect();
    let all = read.len();
    let message = format!("none is emitted: of {all} events, {refused} are refused");
    Err(WireError {
        code: first.code.clone(),
        message: Cow::Owned(message),
        ..WireError::new("", "").with_details(&details)
    })
}

impl Emit {
    /// Reads an event, and checks that the backend may emit it.
    fn read(
        written: &RawValue,
        backend: &Backend,
        broadcast: &Broadcast,
    ) -> Result<Self, WireError> {
        let Written {
            namespace,
            rooms,
            users,
            roles,
            sockets,
            except,
            everyone,
            event,
            arguments,
            attachments,
            volatile,
            keep,
        } = object(written)?;
        let named = Named {
            rooms,
            users,
            roles,
            sockets,
            except,
        };
        let whom = Whom {
            namespace,
            named,
            everyone,
        };
        whom.check()?;
        let rights = &backend.rights;
        backend.may(rights.emit(&event), format_args!("emit:{event}"))?;
        if is_reserved_event(&event) {
            return Err(invalid(format!("the event name {event:?} is reserved")));
        }
        if let Some(topic) = &keep {
            backend.may(rights.history(topic), format_args!("history:{topic}"))?;
            if !is_topic(topic) {
                return Err(invalid(
                    "keep: a topic has 1 to 256 bytes and no control characters",
                ));
            }
        }
        let sockets = whom.granted(backend, Some(&event))?;
        Ok(Self {
            sockets,
            event,
            message: message(arguments, attachments, broadcast.max_attachments())?,
            volatile,
            keep,
        })
    }

    fn perform(self, broadcast: &Broadcast) -> Pushed {
        let Self {
            sockets,
            event,
            message,
            volatile,
            keep,
        } = self;
        if let Some(topic) = keep {
            broadcast.keep(&topic, &event, &message);
        }
        let delivery = sockets.emit(None, broadcast, &event, message, volatile);
        Pushed::new(broadcast, delivery)
    }
}

fn message(
    arguments: Option<Box<RawValue>>,
    attachments: Vec<String>,
    max_attachments: usize,
) -> Result<Message, WireError> {
    let found = attachments.len();
    if found > max_attachments {
        let most = max_attachments;
        return Err(unsendable(InvalidMessage::TooManyAttachments {
            found,
            most,
        }));
    }
    let mut decoded = Vec::with_capacity(found);
    for (num, attachment) in attachments.into_iter().enumerate() {
        let bytes = STANDARD
            .decode(attachment)
            .map_err(|error| invalid(format!("attachments: {num} is not base64: {error}")))?;
        decoded.push(bytes.into());
    }
    let arguments = match arguments {
        Some(json) => Arguments::parse(String::from(Box::<str>::from(json)))
            .map_err(|error| unsendable(error.into()))?,
        None => Arguments::none(),
    };
    Message::new(arguments, decoded).map_err(unsendable)
}

fn unsendable(error: InvalidMessage) -> WireError {
    invalid(format!("arguments: {error}"))
}

fn not_understood(error: serde_json::Error) -> WireError {
    invalid(format!("the body is not understood: {error}"))
}
