//! The events, handled where their packets are read: in order, without a task for each.

use std::{fmt::Display, pin::Pin, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::{
    adapter::LocalAdapter,
    extract::AckSender,
    handler::{ConnectHandler, FromMessageParts, MessageHandler},
    socket::Socket,
};
use socketioxide_core::Value;

use crate::user::{Tokens, User};

type SocketRef = Arc<Socket<LocalAdapter>>;
type Refusal = Box<dyn Display + Send>;

/// Marks our implementations among socketioxide's for closures.
pub enum Ours {}

/// Lets sockets in.
#[derive(Clone)]
pub struct Welcome {
    tokens: Tokens,
}

/// The answer to an event that failed.
#[derive(Serialize)]
struct Refused {
    error: WireError,
}

#[derive(Serialize)]
struct WireError {
    code: &'static str,
    message: &'static str,
    temporary: bool,
}

#[derive(Serialize)]
struct Success {
    success: bool,
}

/// The arguments of `authenticated`.
#[derive(Serialize)]
struct Authenticated {
    success: bool,
    user: User,
}

impl Welcome {
    /// With tokens of this kind.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }
}

impl ConnectHandler<LocalAdapter, Ours> for Welcome {
    fn call(&self, socket: SocketRef, _auth: Option<Value>) {
        if let Some(user) = socket.extensions.get::<User>() {
            authenticate(&socket, user);
        }
    }

    fn call_middleware<'a>(
        &'a self,
        socket: SocketRef,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(token) = token(auth.as_ref()) {
                let user = self.tokens.verify(&token);
                let user = user.map_err(|code| Box::new(code) as Refusal)?;
                socket.extensions.insert(user);
            }
            // Before the client knows that it is connected: its first events may come at once.
            socket.on("authenticate", Event::Authenticate(self.tokens.clone()));
            socket.on("subscribe:payments", Event::Subscribe);
            socket.on("unsubscribe:payments", Event::Unsubscribe);
            socket.on("custom_event", Event::Custom);
            Ok(())
        })
    }
}

/// What a socket may send.
enum Event {
    Authenticate(Tokens),
    Subscribe,
    Unsubscribe,
    Custom,
}

impl MessageHandler<LocalAdapter, Ours> for Event {
    fn call(&self, socket: SocketRef, mut packet: Value, ack: Option<i64>) {
        let Ok(sender) = AckSender::from_message_parts(&socket, &mut packet, &ack);
        let Value::Str(text, _) = packet else { return };
        match self {
            Self::Authenticate(tokens) => {
                let user = argument(&text)
                    .and_then(|token| serde_json::from_str::<String>(token.get()).ok())
                    .ok_or("unauthorized")
                    .and_then(|token| tokens.verify(&token));
                match user {
                    Ok(user) => reply(sender, &authenticate(&socket, user)),
                    Err(code) => refuse(sender, code, "the token is not valid"),
                }
            }
            Self::Subscribe if socket.extensions.get::<User>().is_none() => {
                refuse(
                    sender,
                    "unauthorized",
                    "payments need an authenticated user",
                );
            }
            Self::Subscribe => {
                socket.join("payments");
                reply(sender, &Success { success: true });
            }
            Self::Unsubscribe => {
                socket.leave("payments");
                reply(sender, &Success { success: true });
            }
            Self::Custom => {
                let Some(data) = argument(&text) else {
                    return refuse(sender, "invalid_payload", "custom_event takes an argument");
                };
                // A socket that is gone is told nothing.
                let _ = socket.emit("custom_response", data);
                reply(sender, data);
            }
        }
    }
}

/// Makes the socket the user's and says so.
fn authenticate(socket: &SocketRef, user: User) -> Authenticated {
    socket.join(user.rooms());
    socket.extensions.insert(user.clone());
    let authenticated = Authenticated {
        success: true,
        user,
    };
    // A socket that is gone is told nothing.
    let _ = socket.emit("authenticated", &authenticated);
    authenticated
}

fn refuse(sender: AckSender<LocalAdapter>, code: &'static str, message: &'static str) {
    let error = WireError {
        code,
        message,
        temporary: false,
    };
    reply(sender, &Refused { error });
}

fn reply(sender: AckSender<LocalAdapter>, answer: &(impl Serialize + ?Sized)) {
    // A socket that is gone, or that asked for no ack, is told nothing.
    let _ = sender.send(answer);
}

/// The token in an auth object.
fn token(auth: Option<&Value>) -> Option<String> {
    let Some(Value::Str(text, _)) = auth else {
        return None;
    };
    let auth: serde_json::Value = serde_json::from_str(text).ok()?;
    auth["token"].as_str().map(str::to_owned)
}

/// The first argument in `["event",argument]`.
fn argument(text: &str) -> Option<&RawValue> {
    let (_event, argument): (&RawValue, &RawValue) = serde_json::from_str(text).ok()?;
    Some(argument)
}
