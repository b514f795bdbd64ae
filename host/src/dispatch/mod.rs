//! The way of an event: look up, admit, call, commit, answer.
//!
//! It runs on the task that read the event, mostly to its end. Where a plugin takes long, the
//! rest goes on elsewhere and the connection's later arrivals wait in its lane.

mod answer;
mod connections;
mod host_events;

pub use connections::Welcome;

use std::{pin::Pin, sync::Arc};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use crate::{
    admission::{Admitted, admit},
    broadcast::Broadcast,
    connection::{Connection, Connections},
    effect,
    error::WireError,
    guest,
    lane::{Arrival, Turn},
    message::Message,
    plugin::{CallError, Completed, Job, Reply, Started},
    registry::{Registry, Route},
    settings,
};

/// How many waiting arrivals of one connection are handled before others get their turn.
const ARRIVALS_IN_A_ROW: usize = 64;

/// Sends what arrives to who handles it.
pub struct Dispatcher {
    /// Who handles what. Loaded once for each event, so that an event sees one version of it.
    pub registry: ArcSwap<Registry>,
    /// Settings that may change while the server runs.
    pub settings: settings::Current,
    /// All live connections.
    pub connections: Arc<Connections>,
    /// Performs broadcasts.
    pub broadcast: Broadcast,
    /// What goes on after the task that read an event has turned to the next.
    pub tasks: TaskTracker,
}

/// Whether an arrival has been dealt with.
enum Progress {
    Done,
    /// The rest of it, to be run on the server's runtime.
    Moved(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Dispatcher {
    /// Something arrived from a connection. Called in the order of arrival.
    pub fn arrive(self: &Arc<Self>, connection: &Arc<Connection>, arrival: Arrival) {
        match connection.lane.enter(arrival, self.settings.load().queue) {
            Turn::Now(arrival) => self.proceed(connection, arrival),
            Turn::Later => {}
            Turn::Full(arrival) => answer::refuse_for_queue(connection, arrival),
        }
    }

    /// Handles what waited until now, and opens the way for what comes.
    pub fn open(self: &Arc<Self>, connection: &Arc<Connection>) {
        if let Some(arrival) = connection.lane.next() {
            self.proceed(connection, arrival);
        }
    }

    /// A packet came whose arguments cannot be read.
    pub fn refuse_packet(&self, connection: &Arc<Connection>, ack: Option<i64>, error: WireError) {
        Answer::new(connection.clone(), String::new(), ack).refuse(error);
    }

    /// Handles an arrival and those that waited behind it.
    fn proceed(self: &Arc<Self>, connection: &Arc<Connection>, first: Arrival) {
        let mut next = Some(first);
        for _ in 0..ARRIVALS_IN_A_ROW {
            let Some(arrival) = next else { return };
            if let Progress::Moved(rest) = self.handle(connection, arrival) {
                self.proceed_after(rest, connection);
                return;
            }
            next = connection.lane.next();
        }
        if let Some(arrival) = next {
            let (this, connection) = (self.clone(), connection.clone());
            self.tasks
                .spawn(async move { this.proceed(&connection, arrival) });
        }
    }

    fn proceed_after(
        self: &Arc<Self>,
        rest: impl Future<Output = ()> + Send + 'static,
        connection: &Arc<Connection>,
    ) {
        let (this, connection) = (self.clone(), connection.clone());
        self.tasks.spawn(async move {
            rest.await;
            this.open(&connection);
        });
    }

    fn handle(self: &Arc<Self>, connection: &Arc<Connection>, arrival: Arrival) -> Progress {
        match arrival {
            Arrival::Event {
                event,
                message,
                ack,
            } => self.event(Answer::new(connection.clone(), event, ack), message),
            Arrival::Disconnect { reason } => self.disconnected(connection, reason),
        }
    }

    fn event(self: &Arc<Self>, answer: Answer, message: Message) -> Progress {
        if let Some(result) = self.host_event(&answer, &message) {
            answer.give(result);
            return Progress::Done;
        }
        let (route, admitted) = match self.admitted(&answer, message) {
            Ok(admitted) => admitted,
            Err(error) => {
                answer.refuse(error);
                return Progress::Done;
            }
        };
        let job = Job::Event {
            connection: answer.connection.clone(),
            event: answer.event.clone(),
            message: admitted.into_message().into(),
        };
        match route.plugin.start(job) {
            Started::Done(completed) => {
                self.settle(answer, &route, completed);
                Progress::Done
            }
            Started::Moved(completed) => {
                let this = self.clone();
                Progress::Moved(Box::pin(async move {
                    match completed.await {
                        Ok(completed) => this.settle(answer, &route, completed),
                        Err(_) => answer.refuse(WireError::temporary(
                            "plugin_unavailable",
                            "the server is shutting down",
                        )),
                    }
                }))
            }
        }
    }

    fn admitted(
        &self,
        answer: &Answer,
        message: Message,
    ) -> Result<(Arc<Route>, Admitted), WireError> {
        let Answer {
            connection, event, ..
        } = answer;
        let registry = self.registry.load();
        let route = registry
            .route(connection.namespace(), event)
            .ok_or_else(|| {
                WireError::new(
                    "unknown_event",
                    format!("no plugin handles event {event:?}"),
                )
            })?;
        let admitted = admit(&route.contract, connection, &connection.identity(), message)?;
        Ok((route.clone(), admitted))
    }

    /// Performs what a successful call recorded, then answers: all of it, or nothing.
    fn settle(&self, answer: Answer, route: &Route, completed: Completed) {
        let Completed { reply, effects } = completed;
        let outcome = match reply {
            Ok(Reply::Event(outcome)) => outcome,
            Ok(_) => unreachable!("an event's call ends with an event's reply"),
            Err(error) => return answer.plugin_failed(route, &error),
        };
        let reply = match outcome {
            Ok(guest::Outcome::Done) => Ok(Some(Message::none())),
            Ok(guest::Outcome::NoAck) => Ok(None),
            Ok(guest::Outcome::Reply(message)) => answer::checked_reply(route, message).map(Some),
            Err(rejection) => {
                return match answer::rejection(rejection) {
                    Ok(error) => answer.refuse(error),
                    Err(reason) => answer.plugin_failed(route, &CallError::Invalid(reason)),
                };
            }
        };
        match reply {
            Ok(reply) => {
                effect::commit(effects, &answer.connection, &self.broadcast);
                if let Some(message) = reply {
                    answer.ack(message);
                }
            }
            Err(reason) => answer.plugin_failed(route, &CallError::Invalid(reason)),
        }
    }
}
