//! Connections that come and go, and the plugins that want to know.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Dispatcher, Progress, answer, failure, host_events::tell_authenticated};
use crate::{
    connection::Connection,
    effect::{self, Effect},
    error::ConnectError,
    lane::Arrival,
    plugin::{self, CallError, Completed, Job, Reply, Started},
};

/// The calls' names in logs.
const ON_CONNECT: &str = "on-connect";
const ON_DISCONNECT: &str = "on-disconnect";

/// A connection that plugins let in, with what they want done once the client knows.
#[derive(Clone)]
pub struct Welcome {
    /// The connection.
    pub connection: Arc<Connection>,
    effects: Arc<Mutex<Vec<Effect>>>,
}

impl Dispatcher {
    /// Asks the plugins that watch the namespace whether a client may come in.
    /// `auth` is its auth object as JSON, without the token if that has been checked.
    pub async fn admit_connection(
        &self,
        connection: Arc<Connection>,
        auth: String,
    ) -> Result<Welcome, ConnectError> {
        let watchers = self
            .registry
            .load()
            .watchers(connection.namespace())
            .to_vec();
        let mut effects = Vec::new();
        for plugin in watchers {
            let job = Job::Connect {
                connection: connection.clone(),
                auth: auth.clone(),
            };
            let Completed {
                reply,
                effects: recorded,
                written,
            } = ended(plugin.start(job)).await;
            let failed = |error: &CallError| {
                failure::report(&plugin, &connection, ON_CONNECT, error, written.as_deref())
            };
            match reply {
                Ok(Reply::Connect(Ok(()))) => {
                    plugin.succeeded(connection.address);
                    effects.extend(recorded);
                }
                Ok(Reply::Connect(Err(refusal))) => {
                    return Err(match answer::refusal(refusal) {
                        Ok(error) => {
                            plugin.succeeded(connection.address);
                            error
                        }
                        Err(reason) => failed(&CallError::Invalid(reason)).into(),
                    });
                }
                Ok(_) => unreachable!("a connection's call ends with a connection's reply"),
                Err(error) => {
                    return Err(failed(&error).into());
                }
            }
        }
        Ok(Welcome {
            connection,
            effects: Arc::new(effects.into()),
        })
    }

    /// The client knows that it is connected: tells it who it is, does what the plugins wanted,
    /// and lets its events through. Nothing is left of a connection whose socket ended meanwhile.
    pub fn welcome(self: &Arc<Self>, welcome: &Welcome) {
        let Welcome {
            connection,
            effects,
        } = welcome;
        if connection.identity().user.is_some() {
            tell_authenticated(connection);
        }
        let effects = std::mem::take(&mut *effects.lock());
        effect::commit(effects, connection, &self.broadcast, || {});
        self.open(connection);
        if connection.has_ended() {
            connection.exit();
            self.farewell(connection, "transport close");
        }
    }

    /// A connection has ended.
    pub fn farewell(self: &Arc<Self>, connection: &Arc<Connection>, reason: &'static str) {
        // One that was never welcomed, or that a shutdown has ended already, has no end to tell.
        if self.connections.remove(connection) {
            self.arrive(connection, Arrival::Disconnect { reason });
        }
    }

    /// Ends all connections for the plugins, and waits for what is under way.
    pub async fn shut_down(self: &Arc<Self>) {
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
        let watchers = self
            .registry
            .load()
            .watchers(connection.namespace())
            .to_vec();
        if watchers.is_empty() {
            return Progress::Done;
        }
        let (this, connection) = (self.clone(), connection.clone());
        Progress::Moved(Box::pin(async move {
            for plugin in watchers {
                let job = Job::Disconnect {
                    connection: connection.clone(),
                    reason,
                };
                let Completed {
                    reply,
                    effects,
                    written,
                } = ended(plugin.start(job)).await;
                match reply {
                    Ok(_) => {
                        plugin.succeeded(connection.address);
                        effect::commit(effects, &connection, &this.broadcast, || {});
                    }
                    Err(error) => {
                        let written = written.as_deref();
                        failure::report(&plugin, &connection, ON_DISCONNECT, &error, written);
                    }
                }
            }
        }))
    }
}

async fn ended(started: Started) -> Completed {
    match started {
        Started::Done(completed) => completed,
        Started::Moved(completed) => plugin::ended(completed).await,
    }
}
