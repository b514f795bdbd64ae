//! Connections that come and go, and the plugins that want to know.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    Dispatcher, answer,
    failure::{self, During},
    host_events::tell_authenticated,
    progress::Progress,
};
use crate::{
    connection::{Connection, lane::Arrival},
    effect::{self, Effect},
    error::{ConnectError, WireError},
    plugin::{CallError, CallKind, Completed, Job, Lease, Plugin, Reply},
    telemetry::Span,
    transport::EndReason,
};

/// The calls' names in logs.
const ON_CONNECT: &str = "on-connect";
const ON_DISCONNECT: &str = "on-disconnect";

/// What `on-disconnect` is told of a connection that its client never had.
const REFUSED: &str = "refused";

/// A connection that plugins let in, for [`Dispatcher::welcome`].
#[derive(Clone)]
pub(crate) struct Welcome {
    /// The connection.
    pub connection: Arc<Connection>,
    consents: Arc<Consents>,
}

/// The plugins that let a connection in so far. Where it is not welcomed in the end, because a later
/// plugin refuses it or its client is gone, they hear that it has ended.
struct Consents {
    dispatcher: Arc<Dispatcher>,
    connection: Arc<Connection>,
    given: Mutex<Vec<Consent>>,
}

/// A plugin that let a connection in, with what it wants done once the client knows.
struct Consent {
    plugin: Arc<Plugin>,
    effects: Vec<Effect>,
    /// Kept until the effects are performed.
    lease: Option<Lease>,
}

impl Dispatcher {
    /// Asks the plugins that watch the namespace whether a client may come in.
    /// `auth` is its auth object as JSON, without the token if that has been checked.
    pub(crate) async fn admit_connection(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        auth: String,
    ) -> Result<Welcome, ConnectError> {
        let registry = self.registry.load();
        if registry.lacks_guard(connection.namespace()) {
            return Err(unguarded());
        }
        let watchers = registry.watchers(connection.namespace());
        let consents = Consents {
            dispatcher: self.clone(),
            connection: connection.clone(),
            given: Mutex::new(Vec::with_capacity(watchers.len())),
        };
        if !watchers.is_empty() {
            // A task of its own: if whoever asks is gone, the answers of plugins are heard still.
            let asked = self.tasks.spawn(consents.ask(watchers.to_vec(), auth));
            let stopped = |_| WireError::new("internal", "the server failed");
            return asked.await.map_err(stopped)?;
        }
        Ok(consents.into_welcome())
    }

    /// The client knows that it is connected: tells it who it is, does what the plugins wanted,
    /// and lets its events through. Nothing is left of a connection whose socket ended meanwhile.
    pub(crate) fn welcome(self: &Arc<Self>, welcome: &Welcome) {
        let Welcome {
            connection,
            consents,
        } = welcome;
        if connection.identity().user.is_some() {
            tell_authenticated(connection);
            self.follow_expiry(connection);
        }
        let given = consents.take();
        let (effects, leases): (Vec<_>, Vec<_>) = given
            .into_iter()
            .map(|consent| (consent.effects, consent.lease))
            .unzip();
        let effects = effects.into_iter().flatten().collect();
        effect::commit(effects, Some(connection), &self.broadcast, || {});
        drop(leases);
        self.open(connection);
    }

    /// A connection has ended.
    pub(crate) fn farewell(self: &Arc<Self>, connection: &Arc<Connection>, reason: &'static str) {
        // One that was never welcomed, or that a shutdown has ended already, has no end to tell.
        if self.connections.remove(connection) {
            self.arrive(connection, Arrival::Disconnect { reason });
        }
    }

    /// Ends all connections for the plugins, and waits for what is under way.
    pub(crate) async fn shut_down(self: &Arc<Self>) {
        for connection in self.connections.all() {
            self.farewell(&connection, "server shutting down");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(super) fn disconnected(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        reason: &'static str,
    ) -> Progress {
        let watchers = self.watchers(connection);
        if watchers.is_empty() {
            connection.end_is_told();
            return Progress::Done;
        }
        let (this, connection) = (self.clone(), connection.clone());
        Progress::Moved(Box::pin(async move {
            if connection.may_tell_end().await {
                this.tell_ends(&watchers, &connection, reason).await;
                connection.end_is_told();
            }
        }))
    }

    /// Tells plugins of the end of a connection whose server is gone.
    pub(crate) async fn tell_lost(self: &Arc<Self>, connection: Connection) -> Arc<Connection> {
        let (this, connection) = (self.clone(), Arc::new(connection));
        let lost = connection.clone();
        // A task of its own: it goes on if whoever asks for it is gone.
        let told = self.tasks.spawn(async move {
            let watchers = this.watchers(&lost);
            let reason = EndReason::TransportClose.text();
            this.tell_ends(&watchers, &lost, reason).await;
        });
        if told.await.is_err() {
            tracing::error!(socket = connection.id, "plugins have not heard of an end");
        }
        connection
    }

    /// Whether plugins want to hear of connections to this namespace.
    pub(crate) fn is_watched(&self, namespace: &str) -> bool {
        !self.registry.load().watchers(namespace).is_empty()
    }

    fn watchers(&self, connection: &Connection) -> Vec<Arc<Plugin>> {
        let registry = self.registry.load();
        registry.watchers(connection.namespace()).to_vec()
    }

    async fn tell_ends(
        self: &Arc<Self>,
        watchers: &[Arc<Plugin>],
        connection: &Arc<Connection>,
        reason: &'static str,
    ) {
        for plugin in watchers {
            self.tell_end(plugin, connection, reason, |_| true).await;
        }
    }

    /// Tells plugins that let a connection in that it was not welcomed.
    fn tell_refused(self: &Arc<Self>, connection: &Arc<Connection>, plugins: Vec<Arc<Plugin>>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if plugins.is_empty() {
            return;
        }
        let (this, connection) = (self.clone(), connection.clone());
        let telling = async move {
            for plugin in plugins {
                // Its client has no part in it.
                let for_others = |effect: &Effect| !effect.is_for_connection();
                this.tell_end(&plugin, &connection, REFUSED, for_others)
                    .await;
            }
        };
        self.tasks.spawn_on(telling, &runtime);
    }

    /// Tells a plugin that a connection has ended, and performs those effects that `are_wanted`.
    async fn tell_end(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        connection: &Arc<Connection>,
        reason: &'static str,
        are_wanted: impl Fn(&Effect) -> bool + Send + 'static,
    ) {
        let job = || Job::Disconnect {
            connection: connection.clone(),
            reason: reason.into(),
        };
        let span = Span::of_connection(self.broadcast.tracer(), connection, "disconnect");
        let perform = {
            let broadcast = self.broadcast.within(&span).into_owned();
            let connection = connection.clone();
            move |completed: &mut Completed, _: bool| {
                let mut effects = mem::take(&mut completed.recorded.effects);
                effects.retain(are_wanted);
                if completed.reply.is_ok() {
                    effect::commit(effects, Some(&connection), &broadcast, || {});
                }
                completed.lease = None;
            }
        };
        let completed = self
            .transact(plugin, job, None, |_| Ok(()), perform, &span)
            .await;
        match completed.reply {
            Ok(_) => plugin.succeeded(CallKind::Disconnect, Some(connection.address)),
            Err(error) => {
                span.has_failed(error.reason());
                let written = completed.written.as_deref();
                let during = During::of(CallKind::Disconnect, ON_DISCONNECT, connection);
                let during = during.within(&span);
                failure::report(plugin, &during, &error, written);
            }
        }
    }
}

/// The refusal of a client about whom a plugin is to be asked that is not there.
pub(crate) fn unguarded() -> ConnectError {
    WireError::temporary(
        "plugin_unavailable",
        "the plugin that decides who may come in is not loaded",
    )
    .into()
}

impl Consents {
    /// Asks the `watchers`, one after the other.
    async fn ask(self, watchers: Vec<Arc<Plugin>>, auth: String) -> Result<Welcome, ConnectError> {
        for plugin in watchers {
            let consent = self.ask_one(plugin, auth.clone()).await?;
            self.given.lock().push(consent);
        }
        Ok(self.into_welcome())
    }

    async fn ask_one(&self, plugin: Arc<Plugin>, auth: String) -> Result<Consent, ConnectError> {
        let connection = &self.connection;
        let tracer = self.dispatcher.broadcast.tracer();
        let span = Span::of_connection(tracer, connection, "connect");
        let job = || Job::Connect {
            connection: connection.clone(),
            auth: auth.clone(),
        };
        // What it wants done comes when the client knows that it is let in. Where that took too long, the
        // client was refused, and the plugin hears of its end.
        let perform = {
            let (dispatcher, connection) = (self.dispatcher.clone(), connection.clone());
            let plugin = plugin.clone();
            move |completed: &mut Completed, is_waited_for: bool| {
                let is_in = completed.reply.as_ref().is_ok_and(Reply::is_yes);
                if is_in && !is_waited_for {
                    dispatcher.tell_refused(&connection, vec![plugin]);
                }
            }
        };
        let Completed {
            reply,
            recorded,
            written,
            lease,
            ..
        } = self
            .dispatcher
            .transact(&plugin, job, None, |_| Ok(()), perform, &span)
            .await;
        let failed = |error: &CallError| {
            span.has_failed(error.reason());
            let during = During::of(CallKind::Connect, ON_CONNECT, connection).within(&span);
            failure::report(&plugin, &during, error, written.as_deref())
        };
        match reply {
            Ok(Reply::Connect(Ok(()))) => {
                plugin.succeeded(CallKind::Connect, Some(connection.address));
                Ok(Consent {
                    plugin,
                    effects: recorded.effects,
                    lease,
                })
            }
            Ok(Reply::Connect(Err(refusal))) => Err(match answer::refusal(refusal) {
                Ok(error) => {
                    plugin.succeeded(CallKind::Connect, Some(connection.address));
                    error
                }
                Err(error) => failed(&error).into(),
            }),
            Ok(_) => unreachable!("a connection's call ends with a connection's reply"),
            Err(error) => Err(failed(&error).into()),
        }
    }

    fn into_welcome(self) -> Welcome {
        Welcome {
            connection: self.connection.clone(),
            consents: Arc::new(self),
        }
    }

    fn take(&self) -> Vec<Consent> {
        mem::take(&mut *self.given.lock())
    }
}

impl Drop for Consents {
    fn drop(&mut self) {
        // Nothing of it has been done: the instances are free for others, and for what follows.
        let plugins = self.take().into_iter().map(|consent| consent.plugin);
        self.dispatcher
            .tell_refused(&self.connection, plugins.collect());
    }
}
