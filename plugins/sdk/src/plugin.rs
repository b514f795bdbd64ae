//! What a plugin says about itself.
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::exports::mixlab::plugin::lifecycle::{
    Description, EmitContract, Rule, Schedule,
};
use crate::handlers::Handlers;
use crate::message::invalid_auth;
use crate::webhook::{Request, Response};
use crate::{Context, HandledEvent, Message, Missed, Refusal, Rejection, Timer, Verdict, schema};

/// What a plugin is and does. [`export!`](crate::export) makes the component out of it.
#[must_use = "the function given to `export!` returns it"]
pub struct Plugin {
    name: String,
    version: String,
    namespaces: Vec<String>,
    events: Vec<HandledEvent>,
    emits: Vec<EmitContract>,
    schedules: Vec<Schedule>,
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
            schedules: Vec::new(),
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

    /// Runs when a timer is due that a handler has [set](Context::timers), or that the plugin declares. What
    /// it returns is as of an event: a [`Rejection`] or a panic undoes what it did, and the timer is tried
    /// again, 10 times in all, after longer and longer pauses. There is no connection.
    ///
    /// Needs `export!(plugin, timers)` and the grant `timers`.
    pub fn on_timer(
        mut self,
        handler: impl Fn(&Context, Timer) -> Result<(), Rejection> + 'static,
    ) -> Self {
        self.handlers.on_timer = Some(Box::new(handler));
        self
    }

    /// Declares a timer that is due every so often, as long as the plugin declares it. `missed` says what
    /// becomes of the times at which the server did not run. Grant: `timers`.
    pub fn every(mut self, name: impl Into<String>, interval: Duration, missed: Missed) -> Self {
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.schedules.push(Schedule {
            name: name.into(),
            rule: Rule::Every(interval),
            missed,
        });
        self
    }

    /// Declares a timer by a cron expression of five fields and a time zone, e.g. `0 9 * * MON-FRI
    /// Europe/Berlin`; UTC if there is none. Grant: `timers`.
    pub fn cron(
        mut self,
        name: impl Into<String>,
        expression: impl Into<String>,
        missed: Missed,
    ) -> Self {
        self.schedules.push(Schedule {
            name: name.into(),
            rule: Rule::Cron(expression.into()),
            missed,
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

    /// Handles requests of other services to `/hooks/PLUGIN/…`, whose signatures the host has checked as
    /// `[plugins.webhook]` in `mixlab.toml` says. A transaction as a handler's, without a connection: what
    /// it sends goes to [`Context::of`] a namespace, to users or roles. A delivery that comes again gets
    /// the same answer, and is not handled again. Needs `export!(plugin, webhooks)`.
    pub fn webhook(
        mut self,
        handler: impl Fn(&Context, Request) -> Result<Response, Rejection> + 'static,
    ) -> Self {
        self.handlers.on_webhook = Some(Box::new(handler));
        self
    }

    /// Brings what former versions of the plugin have stored into the form of `data_version`, which counts
    /// from 1: `migrate` gets the version `from` which it is to be brought, and where to go on, none at
    /// first. It rewrites some of it, as much as the budgets of a call allow, and returns where to go
    /// on; none when all is done. All of it is one transaction: it happens before the new version serves, or
    /// not at all. `from` is 0 where the former version had no migration, and where nothing is stored yet.
    ///
    /// ```no_run
    /// use mixlab_plugin::prelude::*;
    ///
    /// mixlab_plugin::export!(plugin, migrations);
    ///
    /// fn plugin(_: &Config) -> Result<Plugin, String> {
    ///     Ok(Plugin::new("scores", "2.0.0")
    ///         .event(Event::new("score").handle(score))
    ///         .migration(1, migrate))
    /// }
    ///
    /// #[data]
    /// #[derive(Default)]
    /// struct Score {
    ///     points: u64,
    ///     games: u64,
    /// }
    ///
    /// /// Version 0 stored the points alone.
    /// fn migrate(cx: &Context, _from: u32, cursor: Option<String>) -> Result<Option<String>, Rejection> {
    ///     let after = cursor.unwrap_or_default();
    ///     let some = cx.store().scan_after::<u64>("score:", &after, 200)?;
    ///     for entry in &some {
    ///         cx.store().set(&entry.key, &Score { points: entry.value, games: 1 })?;
    ///     }
    ///     Ok(some.last().map(|last| last.key.clone()))
    /// }
    ///
    /// fn score(cx: &Context, points: u64) -> Result<(), Rejection> {
    ///     let key = format!("score:{}", cx.user()?.id);
    ///     Ok(cx.store().update(&key, |score: &mut Score| {
    ///         score.points += points;
    ///         score.games += 1;
    ///     })?)
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// Needs `export!(plugin, migrations)` and the grant `store`.
    pub fn migration(
        mut self,
        data_version: u32,
        migrate: impl Fn(&Context, u32, Option<String>) -> Result<Option<String>, Rejection> + 'static,
    ) -> Self {
        self.handlers.migration = Some((data_version, Box::new(migrate)));
        self
    }

    /// Sees events of other plugins before their handlers do, in the namespaces that this plugin serves:
    /// those with this name, in which `*` stands for any run of characters. Of several that match, the
    /// first counts. What the filter reads, writes and emits belongs to the event: it happens together
    /// with what the handler does, or not at all. Grant: `filter:EVENT`. Needs
    /// `export!(plugin, filters)`.
    pub fn filter(
        mut self,
        event: impl Into<String>,
        filter: impl Fn(&Context, Message) -> Result<Verdict, Rejection> + 'static,
    ) -> Self {
        self.handlers.filters.push((event.into(), Box::new(filter)));
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
        let filters = handlers.filters.iter();
        let filters = filters.map(|(event, _)| event.clone()).collect();
        let Self {
            name,
            version,
            namespaces,
            emits,
            schedules,
            ..
        } = self;
        Ok((
            Description {
                name,
                version,
                namespaces,
                events,
                emits,
                schedules,
                filters,
            },
            handlers,
        ))
    }
}
