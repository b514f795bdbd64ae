//! An event: its contract and its handler.
use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::exports::mixlab::plugin::lifecycle::{
    Access, EventContract, OnExcess, RateLimit, SerialKey,
};
use crate::message::invalid_arguments;
use crate::rate::Rate;
use crate::{Arguments, Context, Message, Outcome, Rejection, Reply, Scope, schema};

/// What a plugin is asked to do for one event.
pub(crate) type Handler = Box<dyn Fn(String, Message) -> Result<Outcome, Rejection>>;

/// The contract of an event, which the host checks before the plugin is called. One of the
/// `handle` methods completes it.
#[derive(Debug)]
#[must_use = "an event needs a handler"]
pub struct Event {
    contract: EventContract,
    /// The first thing that is wrong with the contract; `describe` reports it.
    error: Option<String>,
}

/// An event with its handler, ready for [`Plugin::event`](crate::Plugin::event).
#[must_use = "an event belongs to a plugin"]
pub struct HandledEvent {
    pub(crate) contract: Result<EventContract, String>,
    pub(crate) handler: Handler,
}

impl Event {
    /// An event by the name under which clients emit it; `*` takes every event that nobody else
    /// names. Authenticated users may send it, without a limit of its own.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            contract: EventContract {
                name: name.into(),
                access: Access::Authenticated,
                arguments: None,
                reply: None,
                limits: Vec::new(),
                on_excess: None,
                max_bytes: None,
                serial_by: None,
                repeatable: false,
            },
            error: None,
        }
    }

    /// Everybody may send it, anonymous connections too.
    pub fn anyone(mut self) -> Self {
        self.contract.access = Access::Anyone;
        self
    }

    /// Every authenticated user may send it. This is the default.
    pub fn authenticated(mut self) -> Self {
        self.contract.access = Access::Authenticated;
        self
    }

    /// Users with at least one of these roles may send it.
    pub fn roles<R: Into<String>>(mut self, roles: impl IntoIterator<Item = R>) -> Self {
        self.contract.access = Access::Roles(roles.into_iter().map(Into::into).collect());
        self
    }

    /// At most this many per time, e.g. `100/10s`, refilled evenly; that many may come at once.
    /// May be called several times, for several scopes.
    pub fn limit(self, scope: Scope, rate: &str) -> Self {
        self.rate_limit(scope, rate, None)
    }

    /// Like [`limit`](Self::limit), but only `burst` of them may come at once.
    pub fn limit_with_burst(self, scope: Scope, rate: &str, burst: u32) -> Self {
        self.rate_limit(scope, rate, Some(burst))
    }

    /// What becomes of one over a limit, unless `mixlab.toml` says otherwise for the plugin:
    /// [`OnExcess::Drop`] spares clients that send it at high rates without an ack the errors.
    pub fn on_excess(mut self, on_excess: OnExcess) -> Self {
        self.contract.on_excess = Some(on_excess);
        self
    }

    /// The largest payload, JSON and attachments together, in bytes.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.contract.max_bytes = Some(bytes);
        self
    }

    /// Has events with the same value at this JSON Pointer into the argument array (`/0/room`) handled
    /// one after the other, over all connections, in the order in which they arrive. The next one begins
    /// when what the former wrote is there for it, so that they never run again for each other.
    pub fn serial_by(mut self, pointer: impl Into<String>) -> Self {
        self.contract.serial_by = Some(SerialKey::Pointer(pointer.into()));
        self
    }

    /// As [`serial_by`](Self::serial_by), with the connection's namespace for the value.
    pub fn serial_by_namespace(mut self) -> Self {
        self.contract.serial_by = Some(SerialKey::Namespace);
        self
    }

    /// As [`serial_by`](Self::serial_by), with this text for the value: the events that name it are
    /// handled one after the other.
    pub fn serial_by_name(mut self, name: impl Into<String>) -> Self {
        self.contract.serial_by = Some(SerialKey::Constant(name.into()));
        self
    }

    /// Lets a handler that asks clients run again, where what it has read has changed meanwhile. It would
    /// ask them again, which is why it does not without this: the client gets `conflict` then.
    pub fn repeatable(mut self) -> Self {
        self.contract.repeatable = true;
        self
    }

    /// The JSON Schema of the argument array, in place of the one derived from the handler.
    pub fn arguments(mut self, schema: impl Into<String>) -> Self {
        self.contract.arguments = Some(schema.into());
        self
    }

    /// The JSON Schema of the ack's argument array, in place of the one derived from the handler.
    pub fn reply(mut self, schema: impl Into<String>) -> Self {
        self.contract.reply = Some(schema.into());
        self
    }

    /// Handles the event with its one argument. `Value` or `Box<RawValue>` takes any JSON, and an
    /// `Option` takes an event without arguments as well.
    pub fn handle<T, R>(
        self,
        handler: impl Fn(&Context, T) -> Result<R, Rejection> + 'static,
    ) -> HandledEvent
    where
        T: DeserializeOwned + JsonSchema,
        R: Reply,
    {
        self.handle_args(move |cx: &Context, (argument,): (T,)| handler(cx, argument))
    }

    /// Handles the event with all its arguments: a tuple with one type each, `()` for none, or
    /// `Vec<T>` for any number.
    pub fn handle_args<A: Arguments, R: Reply>(
        mut self,
        handler: impl Fn(&Context, A) -> Result<R, Rejection> + 'static,
    ) -> HandledEvent {
        self.contract
            .arguments
            .get_or_insert_with(schema::of_arguments::<A>);
        self.finish(
            Box::new(move |event, message| {
                let arguments =
                    A::decode(&message.arguments).map_err(|error| invalid_arguments(&error))?;
                let cx = Context::new(event, message.attachments);
                handler(&cx, arguments)?.into_outcome()
            }),
            R::schema,
        )
    }

    /// Handles the event with its message as it came, neither parsed nor copied: for passing it
    /// on, and for [parsing](Message::parse) into types that borrow from it. Any arguments are
    /// accepted unless [`arguments`](Self::arguments) says otherwise.
    pub fn handle_message<R: Reply>(
        self,
        handler: impl Fn(&Context, Message) -> Result<R, Rejection> + 'static,
    ) -> HandledEvent {
        self.finish(
            Box::new(move |event, message| {
                let cx = Context::new(event, Vec::new());
                handler(&cx, message)?.into_outcome()
            }),
            R::schema,
        )
    }

    fn rate_limit(mut self, scope: Scope, rate: &str, burst: Option<u32>) -> Self {
        match Rate::parse(rate) {
            Ok(Rate { count, interval_ms }) => {
                self.contract.limits.push(RateLimit {
                    scope,
                    count,
                    interval_ms,
                    burst,
                });
            }
            Err(error) => {
                self.error
                    .get_or_insert_with(|| format!("event {}: {error}", self.contract.name));
            }
        }
        self
    }

    fn finish(mut self, handler: Handler, reply: fn() -> Option<String>) -> HandledEvent {
        if self.contract.reply.is_none() {
            self.contract.reply = reply();
        }
        HandledEvent {
            contract: self.error.map_or(Ok(self.contract), Err),
            handler,
        }
    }
}

impl fmt::Debug for HandledEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandledEvent")
            .field("contract", &self.contract)
            .finish_non_exhaustive()
    }
}
