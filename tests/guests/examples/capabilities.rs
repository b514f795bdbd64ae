//! Calls the functions of the host that the client names, and answers with what each of them said.
use mixlab_guests::prelude::*;
use mixlab_plugin::{AskError, Emit, Error, Handshake, serde_json};

mixlab_plugin::export!(plugin);

/// How long it waits for an ack.
const ASK: Duration = Duration::from_millis(20);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("capabilities", |event| event.handle(capabilities)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "call", rename_all = "snake_case")]
enum Call {
    BroadcastPaymentUpdate {
        data: Value,
    },
    SendUserNotification {
        user: String,
        notification: Value,
    },
    BroadcastToRole {
        role: String,
        event: String,
        data: Value,
    },
    ConnectedClientsCount,
    Join {
        room: String,
    },
    Leave {
        room: String,
    },
    Joined,
    JoinSockets {
        #[serde(flatten)]
        others: Others,
        room: String,
    },
    LeaveSockets {
        #[serde(flatten)]
        others: Others,
        room: String,
    },
    Emit {
        event: String,
        #[serde(flatten)]
        others: Others,
        data: Value,
    },
    Ask {
        event: String,
        #[serde(flatten)]
        others: Others,
        data: Value,
    },
    Handshake,
    Find {
        #[serde(flatten)]
        others: Others,
    },
    Data,
    SetData {
        data: Value,
    },
    Disconnect {
        #[serde(flatten)]
        others: Others,
        close: bool,
    },
    Log {
        message: String,
    },
}

/// Without `rooms`, those with the ids that `sockets` names; if there are none, either, the sender. With
/// empty `rooms`, everyone else.
#[derive(Deserialize, JsonSchema)]
struct Others {
    rooms: Option<Vec<String>>,
    #[serde(default)]
    sockets: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
}

impl Others {
    /// None if it is the sender.
    fn of(self, cx: &Context) -> Option<Emit> {
        if self.rooms.is_none() && self.sockets.is_empty() {
            return None;
        }
        let emit = self
            .rooms
            .into_iter()
            .flatten()
            .fold(cx.broadcast(), Emit::to);
        let emit = self.sockets.into_iter().fold(emit, Emit::to_socket);
        Some(self.except.into_iter().fold(emit, Emit::except))
    }

    fn required(self, cx: &Context) -> Result<Emit, Error> {
        self.of(cx)
            .ok_or_else(|| Error::Invalid("whom?".to_owned()))
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Granted(Value),
    Denied(String),
    Invalid(String),
    OverBudget(String),
}

fn capabilities(cx: &Context, calls: Vec<Call>) -> Result<Vec<Answer>, Rejection> {
    Ok(calls
        .into_iter()
        .map(|call| match perform(cx, call) {
            Ok(value) => Answer::Granted(value),
            Err(Error::Denied(text)) => Answer::Denied(text),
            Err(Error::Invalid(text)) => Answer::Invalid(text),
            Err(Error::OverBudget(text)) => Answer::OverBudget(text),
        })
        .collect())
}

fn perform(cx: &Context, call: Call) -> Result<Value, Error> {
    match call {
        Call::BroadcastPaymentUpdate { data } => cx.broadcast_payment_update(&data)?,
        Call::SendUserNotification { user, notification } => {
            cx.send_user_notification(user, &notification)?;
        }
        Call::BroadcastToRole { role, event, data } => {
            cx.broadcast_to_role(&role, &event, &data)?
        }
        Call::ConnectedClientsCount => return Ok(cx.connected_clients_count()?.into()),
        Call::Join { room } => cx.join(&room)?,
        Call::Leave { room } => cx.leave(&room)?,
        Call::Joined => return Ok(cx.joined()?.into()),
        Call::JoinSockets { others, room } => others.required(cx)?.join(&room)?,
        Call::LeaveSockets { others, room } => others.required(cx)?.leave(&room)?,
        Call::Emit {
            event,
            others,
            data,
        } => match others.of(cx) {
            None => cx.emit(&event, &data)?,
            Some(others) => others.emit(&event, &data)?,
        },
        Call::Ask {
            event,
            others,
            data,
        } => {
            let asked = match others.of(cx) {
                None => cx.ask::<Value>(&event, &data, ASK).map(|_| ()),
                Some(others) => {
                    let asked = others.ask::<Value>(&event, &data, ASK);
                    asked.map(|_| ()).map_err(AskError::Refused)
                }
            };
            match asked {
                // Nobody listens; what counts is that the event was sent.
                Ok(()) | Err(AskError::TimedOut | AskError::Disconnected) => {}
                Err(AskError::Refused(error)) => return Err(error),
                Err(AskError::Invalid(text)) => return Err(Error::Invalid(text)),
            }
        }
        Call::Handshake => {
            let Handshake { query, headers } = cx.handshake()?;
            return Ok(serde_json::json!({ "query": query, "headers": headers }));
        }
        Call::Find { others } => {
            let found = others.required(cx)?.include_sender().find()?;
            let found = found.iter().map(|socket| {
                let connection = &socket.connection;
                serde_json::json!({
                    "id": connection.id,
                    "user": connection.user.as_ref().map(|user| &user.id),
                    "rooms": socket.rooms,
                    "data": socket.data::<Value>().ok().flatten(),
                    "recovered": connection.recovered,
                })
            });
            return Ok(found.collect());
        }
        Call::Data => return Ok(cx.data::<Value>()?.unwrap_or_default()),
        Call::SetData { data } => cx.set_data(&data)?,
        Call::Disconnect { others, close } => match (others.of(cx), close) {
            (None, false) => cx.disconnect()?,
            (None, true) => cx.close()?,
            (Some(others), false) => others.disconnect()?,
            (Some(others), true) => others.close()?,
        },
        Call::Log { message } => mixlab_plugin::log::info!("{message}"),
    }
    Ok(Value::Null)
}
