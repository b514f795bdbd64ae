//! Handlers without a host, for `cargo test`: what they did is recorded, and what they read is what the
//! test puts there.
//!
//! ```
//! use mixlab_plugin::prelude::*;
//! use mixlab_plugin::test::Host;
//! use serde_json::json;
//!
//! fn plugin(_: &Config) -> Result<Plugin, String> {
//!     Ok(Plugin::new("counter", "1.0.0").event(Event::new("count").handle(count)))
//! }
//!
//! fn count(cx: &Context, by: u64) -> Result<u64, Rejection> {
//!     let sum = cx.store().update("sum", |sum: &mut u64| {
//!         *sum += by;
//!         *sum
//!     })?;
//!     cx.broadcast().emit("counted", &sum)?;
//!     Ok(sum)
//! }
//!
//! let mut host = Host::load(plugin, json!({})).unwrap();
//! host.put("sum", &40);
//! assert_eq!(host.send("count", json!([2])).unwrap(), Some(json!([42])));
//! assert_eq!(host.stored::<u64>("sum"), Some(42));
//! let emitted = host.take_emitted();
//! assert_eq!((&*emitted[0].event, &emitted[0].arguments), ("counted", &json!([42])));
//! ```
//!
//! It is there on every target but WebAssembly. As behind a server, a handler that refuses has done nothing,
//! but for what acts at once. Contracts, grants and budgets are not looked at: `mixlab test` has all of that, with the
//! component in the real host.
mod imports;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::imports::{
    ask, broadcast, connection, emit, history, http, log, presence, rooms, sockets, store, timers,
};
pub use crate::bindings::mixlab::plugin::http::{Request as HttpRequest, Response as HttpResponse};
pub use crate::bindings::mixlab::plugin::timers::{Timer as SetTimer, When};
pub use crate::bindings::mixlab::plugin::types::{Selection, Target};
use crate::handlers::Handlers;
use crate::log::Level;
use crate::webhook::{Request, Response};
use crate::{
    Config, Connection, Context, Error, Handshake, Kept, Message, Outcome, Plugin, Refusal,
    Rejection, Socket, Timer, User, Verdict,
};

/// A plugin, with a host around it that is none.
pub struct Host {
    handlers: Handlers,
    state: State,
}

/// An event that a handler has sent.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// To whom.
    pub target: Target,
    /// The event's name.
    pub event: String,
    /// The list of its arguments.
    pub arguments: Value,
    /// Its binary attachments.
    pub attachments: Vec<Vec<u8>>,
    /// Whether it may be dropped.
    pub volatile: bool,
    /// The topic of the history that it is kept in.
    pub keep: Option<String>,
}

/// A call of one of the four primitives.
#[derive(Clone, Debug, PartialEq)]
pub enum Broadcast {
    /// `broadcast_payment_update`, with its data.
    PaymentUpdate(Value),
    /// `send_user_notification`, with the user and the notification.
    Notification(String, Value),
    /// `broadcast_to_role`, with the role, the event and its data.
    ToRole(String, String, Value),
}

/// What is around the plugin.
#[derive(Clone, Default)]
struct State {
    connection: Option<Connection>,
    effects: Effects,
    acts: Acts,
    /// Who was present before the call.
    present: Present,
    handshake: Option<Handshake>,
    sockets: Vec<Socket>,
    history: BTreeMap<String, Vec<Kept>>,
    clients: u64,
}

/// Who is present, by room.
type Present = BTreeMap<String, Vec<crate::bindings::mixlab::plugin::presence::Member>>;

/// What happens if the handler succeeds.
#[derive(Clone, Default)]
struct Effects {
    rooms: Vec<String>,
    data: Option<String>,
    store: BTreeMap<(Option<String>, String), Vec<u8>>,
    timers: BTreeMap<String, SetTimer>,
    present: Present,
    emitted: Vec<Emitted>,
    broadcasts: Vec<Broadcast>,
    moved: Vec<Moved>,
    disconnected: Vec<(Target, bool)>,
}

/// What happens at once.
#[derive(Clone, Default)]
struct Acts {
    http: VecDeque<Result<HttpResponse, Error>>,
    requests: Vec<HttpRequest>,
    answers: VecDeque<Result<Message, Error>>,
    asked: Vec<(String, Value)>,
    log: Vec<(Level, String)>,
}

/// Sockets that were put into a room, or taken out of it.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Which.
    pub selection: Selection,
    /// The room.
    pub room: String,
    /// Whether they are in it now.
    pub joins: bool,
}

thread_local! {
    /// What is around the handler that runs in this thread.
    static AROUND: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Looks at what is around the handler that runs.
fn around<T>(look: impl FnOnce(&mut State) -> T) -> T {
    AROUND.with_borrow_mut(|state| {
        look(
            state
                .as_mut()
                .expect("handlers ask in a call of `mixlab_plugin::test::Host`"),
        )
    })
}

impl Host {
    /// The plugin with this configuration, and a connection of nobody in particular. An error is that of
    /// the plugin, which would be refused at load.
    pub fn load(
        plugin: fn(&Config) -> Result<Plugin, String>,
        config: Value,
    ) -> Result<Self, String> {
        let (_, handlers) = plugin(&Config::new(config.to_string()))?.into_parts()?;
        let connection = Connection {
            id: "socket-1".to_owned(),
            namespace: "/".to_owned(),
            address: "127.0.0.1".to_owned(),
            user: None,
            recovered: false,
        };
        Ok(Self {
            handlers,
            state: State {
                connection: Some(connection),
                ..State::default()
            },
        })
    }

    /// The connection that events come from is a user's from now on.
    pub fn log_in(&mut self, id: &str, roles: &[&str]) {
        let user = User {
            id: id.to_owned(),
            username: None,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        self.connection().user = Some(user);
    }

    /// The connection that events come from.
    pub fn connection(&mut self) -> &mut Connection {
        let connection = self.state.connection.as_mut();
        connection.expect("it is taken away during a call only")
    }

    /// Sends an event with a list of arguments. What comes back is the list of the ack's, none for
    /// [`NoAck`](crate::NoAck), or the handler's refusal.
    pub fn send(&mut self, event: &str, arguments: Value) -> Result<Option<Value>, Rejection> {
        let message = Message::of_args(&arguments)?;
        match self.send_message(event, message)? {
            Outcome::Done => Ok(Some(Value::Array(Vec::new()))),
            Outcome::NoAck => Ok(None),
            Outcome::Reply(message) => Ok(Some(message.parse()?)),
        }
    }

    /// Sends an event with attachments.
    pub fn send_message(&mut self, event: &str, message: Message) -> Result<Outcome, Rejection> {
        self.call(|handlers| handlers.handle(event.to_owned(), message))
    }

    /// A client asks to be let in, with this auth object.
    pub fn connect(&mut self, auth: Value) -> Result<(), Refusal> {
        self.call(|handlers| match &handlers.on_connect {
            Some(hook) => hook(&Context::of_hook("connect"), &auth.to_string()),
            None => Ok(()),
        })
    }

    /// The connection has ended, for this reason.
    pub fn disconnect(&mut self, reason: &str) {
        let told = self.call(|handlers| {
            if let Some(hook) = &handlers.on_disconnect {
                hook(&Context::of_hook("disconnect"), reason);
            }
            Ok::<(), Rejection>(())
        });
        told.expect("a hook refuses nothing");
    }

    /// A timer that a handler has set, or that the plugin declares, is due.
    pub fn fire(&mut self, name: &str) -> Result<(), Rejection> {
        let set = self.state.effects.timers.get(name).cloned();
        let payload = set
            .as_ref()
            .map_or("null", |timer| &timer.payload)
            .to_owned();
        let due = match set.as_ref().map(|timer| timer.due) {
            Some(When::At(at)) => at,
            _ => 0,
        };
        self.without_connection(|handlers| {
            let timer = Timer::new(name.to_owned(), payload, due, 1);
            match &handlers.on_timer {
                Some(handler) => handler(&Context::of_hook("timer"), timer),
                None => Err(Rejection::new("no_timers", "The plugin handles no timers")),
            }
        })?;
        // One that the handler has set again is another.
        let is_same = |now: &SetTimer| {
            let was = set.as_ref();
            was.is_some_and(|was| was.payload == now.payload && was.every_ms.is_none())
        };
        self.state
            .effects
            .timers
            .retain(|other, timer| other != name || !is_same(timer));
        Ok(())
    }

    /// Another service posts JSON.
    pub fn post(&mut self, body: Value) -> Result<Response, Rejection> {
        self.webhook(Request {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into_bytes(),
            delivery: None,
        })
    }

    /// Another service sends a request. With a status from 400 on, nothing of the call happens.
    pub fn webhook(&mut self, request: Request) -> Result<Response, Rejection> {
        let before = self.state.effects.clone();
        let answered = self.without_connection(|handlers| match &handlers.on_webhook {
            Some(handler) => handler(&Context::of_hook("webhook"), request),
            None => Err(Rejection::new("not_found", "The plugin takes no webhooks")),
        });
        if matches!(&answered, Ok(response) if response.status >= 400) {
            self.state.effects = before;
        }
        answered
    }

    /// An event of another plugin comes by.
    pub fn filter(&mut self, event: &str, arguments: Value) -> Result<Verdict, Rejection> {
        let message = Message::of_args(&arguments)?;
        self.call(|handlers| handlers.filter(event.to_owned(), message))
    }

    /// The rooms that the connection is in.
    pub fn rooms(&self) -> &[String] {
        &self.state.effects.rooms
    }

    /// What handlers have emitted since this was last asked.
    pub fn take_emitted(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.state.effects.emitted)
    }

    /// What handlers have broadcast by the four primitives since this was last asked.
    pub fn take_broadcasts(&mut self) -> Vec<Broadcast> {
        std::mem::take(&mut self.state.effects.broadcasts)
    }

    /// Which other sockets handlers have moved since this was last asked.
    pub fn take_moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.state.effects.moved)
    }

    /// Whose connections handlers have ended since this was last asked, and whether with their transports.
    pub fn take_disconnected(&mut self) -> Vec<(Target, bool)> {
        std::mem::take(&mut self.state.effects.disconnected)
    }

    /// Stores a value in the plugin's own bucket.
    pub fn put(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        let value = serde_json::to_vec(value).expect("a test stores what can be JSON");
        let key = (None, key.to_owned());
        self.state.effects.store.insert(key, value);
    }

    /// What is stored in the plugin's own bucket, if it is there and of this type.
    pub fn stored<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let bytes = self.state.effects.store.get(&(None, key.to_owned()))?;
        serde_json::from_slice(bytes).ok()
    }

    /// What the plugin keeps with the connection, if it is there and of this type.
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.state.effects.data.as_deref()?).ok()
    }

    /// The timers that are set, by their names.
    pub fn timers(&self) -> &BTreeMap<String, SetTimer> {
        &self.state.effects.timers
    }

    /// What the next request to another server is answered with. Without one it is
    /// [`Error::Unreachable`].
    pub fn answer_http(&mut self, answer: Result<HttpResponse, Error>) {
        self.state.acts.http.push_back(answer);
    }

    /// The requests that were sent since this was last asked.
    pub fn take_requests(&mut self) -> Vec<HttpRequest> {
        std::mem::take(&mut self.state.acts.requests)
    }

    /// What the next client that is asked answers. Without one it is [`Error::TimedOut`].
    pub fn answer_ask(&mut self, answer: Result<Message, Error>) {
        self.state.acts.answers.push_back(answer);
    }

    /// The events that clients were asked since this was last asked, with their arguments.
    pub fn take_asked(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state.acts.asked)
    }

    /// The lines that were logged since this was last asked.
    pub fn take_log(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.state.acts.log)
    }

    /// What the client said when it connected.
    pub fn set_handshake(&mut self, handshake: Handshake) {
        self.state.handshake = Some(handshake);
    }

    /// The sockets that every selection finds.
    pub fn set_sockets(&mut self, sockets: Vec<Socket>) {
        self.state.sockets = sockets;
    }

    /// The events that are kept in a topic, the oldest first. What handlers keep is in [`Emitted::keep`].
    pub fn set_history(&mut self, topic: &str, kept: Vec<Kept>) {
        self.state.history.insert(topic.to_owned(), kept);
    }

    /// How many clients are connected.
    pub fn set_clients(&mut self, count: u64) {
        self.state.clients = count;
    }

    fn without_connection<T, R>(
        &mut self,
        call: impl FnOnce(&Handlers) -> Result<T, R>,
    ) -> Result<T, R> {
        let connection = self.state.connection.take();
        let result = self.call(call);
        self.state.connection = connection;
        result
    }

    /// Calls a handler. One that refuses has done nothing, but for what acts at once.
    fn call<T, R>(&mut self, call: impl FnOnce(&Handlers) -> Result<T, R>) -> Result<T, R> {
        self.state.present = self.state.effects.present.clone();
        AROUND.set(Some(self.state.clone()));
        let result = call(&self.handlers);
        let after = AROUND.take().expect("it was put there above");
        self.state.acts = after.acts;
        if result.is_ok() {
            self.state.effects = after.effects;
        }
        result
    }
}

#[cfg(test)]
mod tests;
