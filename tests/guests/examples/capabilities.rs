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
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
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
    /// To the sender, if there are no `rooms`; to everyone else, if they are empty.
    Emit {
        event: String,
        rooms: Option<Vec<String>>,
        data: Value,
    },
    /// The sender, if there are no `rooms`; everyone else, if they are empty.
    Ask {
        event: String,
        rooms: Option<Vec<String>>,
        data: Value,
    },
    Handshake,
    /// The sender, if there are no `rooms`; everyone else, if they are empty.
    Disconnect {
        rooms: Option<Vec<String>>,
        close: bool,
    },
    Log {
        message: String,
    },
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
        Call::Emit { event, rooms, data } => match rooms {
            None => cx.emit(&event, &data)?,
            Some(rooms) => others(cx, rooms).emit(&event, &data)?,
        },
        Call::Ask { event, rooms, data } => {
            let asked = match rooms {
                None => cx.ask::<Value>(&event, &data, ASK).map(|_| ()),
                Some(rooms) => {
                    let asked = others(cx, rooms).ask::<Value>(&event, &data, ASK);
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
        Call::Disconnect { rooms, close } => match (rooms, close) {
            (None, false) => cx.disconnect()?,
            (None, true) => cx.close()?,
            (Some(rooms), false) => others(cx, rooms).disconnect()?,
            (Some(rooms), true) => others(cx, rooms).close()?,
        },
        Call::Log { message } => mixlab_plugin::log::info!("{message}"),
    }
    Ok(Value::Null)
}

/// Everyone else in these rooms, or at all.
fn others(cx: &Context, rooms: Vec<String>) -> Emit {
    rooms.into_iter().fold(cx.broadcast(), Emit::to)
}
