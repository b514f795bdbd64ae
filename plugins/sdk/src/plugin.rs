//! What a plugin says about itself.
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::exports::mixlab::plugin::lifecycle::{Description, EmitContract};
use crate::handlers::Handlers;
use crate::message::invalid_auth;
use crate::{Context, HandledEvent, Refusal, schema};

/// What a plugin is and does. [`export!`](crate::export) makes the component out of it.
#[must_use = "the function given to `export!` returns it"]
pub struct Plugin {
    name: String,
    version: String,
    namespaces: Vec<String>,
    events: Vec<HandledEvent>,
    emits: Vec<EmitContract>,
    handlers: Handlers,
}

impl Plugin {
    /// A plugin without events. Name and version are for people and logs, usually
    /// `env!("CARGO_PKG_NAME")` and `env!("CARGO_PKG_VERSION")`. A version that is no semantic version,
    /// like `1.2.3`, is refused at load.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            namespaces: Vec::new(),
            events: Vec::new(),
            emits: Vec::new(),
            handlers: Handlers::default(),
        }
    }

    /// Handles the events of this namespace; `/` if none is named. May be called several times. A
    /// `*` in it, one at most, stands for 1 to 128 bytes without `/` and control characters.
    /// Grant: `namespace:/PATH` for each but `/`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespaces.push(namespace.into());
        self
    }

    /// Handles this event.
    pub fn event(mut self, event: HandledEvent) -> Self {
        self.events.push(event);
        self
    }

    /// Says that the plugin emits this event with one argument of type `T`. The host holds it to
    /// that: an emit of this event that does not fit the type's schema fails the call.
    pub fn emits<T: JsonSchema + 'static>(mut self, event: impl Into<String>) -> Self {
        self.emits.push(EmitContract {
            name: event.into(),
            arguments: schema::of_reply::<T>(),
        });
        self
    }

    /// Runs before a client is told that it is connected. The second argument is the client's
    /// auth object, without its token if the host checks tokens. A [`Refusal`] or a
    /// [`Rejection`](crate::Rejection) keeps the client out; of a rejection, its `connect_error` has
    /// the code as message. Needs `export!(plugin, connections)`.
    pub fn on_connect<T: DeserializeOwned, R: Into<Refusal>>(
        mut self,
        hook: impl Fn(&Context, T) -> Result<(), R> + 'static,
    ) -> Self {
        self.handlers.on_connect = Some(Box::new(move |cx, auth| {
            let auth = serde_json::from_str(auth).map_err(|error| invalid_auth(&error))?;
            hook(cx, auth).map_err(Into::into)
        }));
        self
    }

    /// Runs after the last event of a connection, with Socket.IO's word for the reason, e.g.
    /// `transport close`. [`Context::joined`] still has the rooms of the connection. Needs
    /// `export!(plugin, connections)`.
    pub fn on_disconnect(mut self, hook: impl Fn(&Context, &str) + 'static) -> Self {
        self.handlers.on_disconnect = Some(Box::new(hook));
        self
    }

    /// What the host is told, and what stays here to answer it.
    pub(crate) fn into_parts(self) -> Result<(Description, Handlers), String> {
        let mut handlers = self.handlers;
        let mut events = Vec::with_capacity(self.events.len());
        for event in self.events {
            let contract = event.contract?;
            handlers.insert(contract.name.clone(), event.handler)?;
            events.push(contract);
        }
        let Self {
            name,
            version,
            namespaces,
            emits,
            ..
        } = self;
        Ok((
            Description {
                name,
                version,
                namespaces,
                events,
                emits,
            },
            handlers,
        ))
    }
}
