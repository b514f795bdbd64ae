//! `POST /api/v1/emit`: events of any name to rooms, users, roles, sockets or everybody; one, or a list
//! of which all are emitted or none.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Pushed, Pushes,
    auth::Backend,
    body::{JsonBody, object},
    check_room,
    idempotency::{Idempotency, Key},
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

/// Emits what the body says. With an `Idempotency-Key`, what came of it is the answer to whoever asks for
/// the same again.
pub(super) async fn emit(
    backend: Backend,
    Pushes(broadcast): Pushes,
    State(idempotency): State<Idempotency>,
    key: Option<Key>,
    JsonBody(body): JsonBody,
) -> Result<Response, WireError> {
    // A list is emitted without a pause: a backend that hangs up would leave the rest of it behind.
    let answer = match key {
        Some(key) if broadcast.is_clustered() => {
            emit_once(idempotency, key, backend, broadcast, body).await?
        }
        Some(key) => {
            let emit_all = || push(&backend, &broadcast, &body);
            idempotency.once(&backend.key, key, body.get(), emit_all)?
        }
        None => push(&backend, &broadcast, &body)?.into(),
    };
    Ok(([(CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

/// Emits what no server has emitted by this key. In a task of its own: the others are to know what came of it, also
/// when the backend has hung up meanwhile.
async fn emit_once(
    idempotency: Idempotency,
    key: Key,
    backend: Backend,
    broadcast: Broadcast,
    body: Box<RawValue>,
) -> Result<Arc<str>, WireError> {
    let task = tokio::spawn(async move {
        let emit_all = || push(&backend, &broadcast, &body);
        let (backend, body) = (&backend.key, body.get());
        let once = idempotency.once_among_all(&broadcast, backend, key, body, emit_all);
        once.await
    });
    let failed = |_| Err(WireError::new("internal", "the server failed"));
    task.await.unwrap_or_else(failed)
}

/// Emits an event or a list of events, if all of them may be; the answer is as the body is, in JSON.
fn push(backend: &Backend, broadcast: &Broadcast, body: &RawValue) -> Result<String, WireError> {
    check_room(broadcast)?;
    let json = |answer: serde_json::Result<String>| answer.expect("numbers always serialise");
    if !body.get().starts_with('[') {
        let emit = Emit::read(body, backend, broadcast)?;
        return Ok(json(serde_json::to_string(&emit.perform(broadcast))));
    }
    let written: Vec<&RawValue> = serde_json::from_str(body.get()).map_err(not_understood)?;
    if written.len() > MAX_EMITS {
        let found = written.len();
        let message = format!("the list has {found} events, and there may be {MAX_EMITS}");
        return Err(WireError::new("payload_too_large", message));
    }
    let read = |written: &&RawValue| Emit::read(written, backend, broadcast);
    let emits = all(written.iter().map(read).collect())?;
    let answers: Vec<_> = emits
        .into_iter()
        .map(|emit| emit.perform(broadcast))
        .collect();
    Ok(json(serde_json::to_string(&answers)))
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
