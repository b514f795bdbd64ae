//! What arrives from one connection is handled in order, one after the other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{
    Dispatcher,
    answer::Answer,
    performed::{Lost, Performed},
    progress::Progress,
};
use crate::{
    connection::{
        Connection,
        lane::{Arrival, Turn},
    },
    panics::caught,
};

/// How many waiting arrivals of one connection are handled before others get their turn.
const ARRIVALS_IN_A_ROW: usize = 64;

impl Dispatcher {
    /// Something arrived from a connection. Called in the order of arrival.
    pub(crate) fn arrive(self: &Arc<Self>, connection: &Arc<Connection>, arrival: Arrival) {
        let capacity = || self.settings.load().queue;
        match connection.lane.enter(arrival, capacity) {
            Turn::Now(arrival) => self.proceed(connection, arrival),
            Turn::Later | Turn::Over => {}
            Turn::Full(arrival) => self.refuse_for_queue(connection, arrival),
        }
    }

    /// Handles what waited until now, and opens the way for what comes.
    pub(crate) fn open(self: &Arc<Self>, connection: &Arc<Connection>) {
        if let Some(arrival) = connection.lane.next() {
            self.proceed(connection, arrival);
        }
    }

    /// Handles an arrival and those that waited behind it.
    fn proceed(self: &Arc<Self>, connection: &Arc<Connection>, first: Arrival) {
        let handling = AssertUnwindSafe(|| self.handle_in_order(connection, first));
        if catch_unwind(handling).is_err() {
            self.give_up(connection);
        }
    }

    fn handle_in_order(self: &Arc<Self>, connection: &Arc<Connection>, first: Arrival) {
        let mut next = Some(first);
        for _ in 0..ARRIVALS_IN_A_ROW {
            let Some(arrival) = next else { return };
            match self.handle(connection, arrival) {
                Progress::Done => {}
                Progress::Moved(rest) => return self.proceed_after(rest, connection),
                Progress::Committed(performed) => {
                    return self.proceed_when(performed, connection);
                }
            }
            next = connection.lane.next();
        }
        if let Some(arrival) = next {
            let (this, connection) = (self.clone(), connection.clone());
            self.tasks
                .spawn(async move { this.proceed(&connection, arrival) });
        }
    }

    fn handle(self: &Arc<Self>, connection: &Arc<Connection>, arrival: Arrival) -> Progress {
        match arrival {
            Arrival::Event {
                event,
                message,
                ack,
                span,
            } => self.event(Answer::new(connection.clone(), event, ack, span), message),
            Arrival::Disconnect { reason } => self.disconnected(connection, reason),
        }
    }

    fn proceed_after(
        self: &Arc<Self>,
        rest: impl Future<Output = ()> + Send + 'static,
        connection: &Arc<Connection>,
    ) {
        let (this, connection) = (self.clone(), connection.clone());
        self.tasks.spawn(async move {
            match caught(rest).await {
                Ok(()) => this.open(&connection),
                Err(_panic) => this.give_up(&connection),
            }
        });
    }

    /// Whoever performs what follows a commit lets the connection's next arrival in, which is handled in a
    /// task: they may have more to perform.
    fn proceed_when(self: &Arc<Self>, performed: Performed, connection: &Arc<Connection>) {
        let (this, connection) = (self.clone(), connection.clone());
        // They may not be on the server's runtime, which waits for the end of this.
        let (runtime, under_way) = (Handle::current(), self.tasks.token());
        performed.then(move |ended| {
            if let Err(Lost) = ended {
                end_for_panic(&connection);
            }
            if let Some(arrival) = connection.lane.next() {
                let tasks = this.tasks.clone();
                tasks.spawn_on(async move { this.proceed(&connection, arrival) }, &runtime);
            }
            drop(under_way);
        });
    }

    /// After a panic, the lane goes on with the end of the connection.
    fn give_up(self: &Arc<Self>, connection: &Arc<Connection>) {
        end_for_panic(connection);
        self.open(connection);
    }
}

/// Ends the transport after a panic: nobody knows what became of the event, and the client has to start
/// afresh.
fn end_for_panic(connection: &Connection) {
    connection.lane.end_events();
    connection.end_transport();
}
