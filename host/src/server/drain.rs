//! A server that leaves: first it says so, so that a balancer sends it nobody else, then it takes no more
//! clients, and those that it has go, a few at a time. They come back by themselves, on other servers.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::LOOK;
use crate::{
    config,
    connection::Connection,
    dispatch::Dispatcher,
    native,
    tasks::Task,
    transport::{EndReason, Relay, Session, Sessions},
};

/// So many clients a second go at least: a few of them need no long time.
const SLOWEST: f64 = 20.0;

/// How long what a client has asked for may take until it is sent away.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// How long the answer may take to leave, where another process follows: who polls by a connection of its own each
/// time cannot fetch it any more.
const FETCHED_WITHIN: Duration = Duration::from_millis(200);

/// Has a server leave, and says how far it is.
#[derive(Clone)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    /// Cancelled when no more connections are to be accepted here.
    accepting: CancellationToken,
    sessions: Arc<Sessions>,
    relay: Option<Arc<Relay>>,
}

/// How far a server is.
///
/// ```text
/// Serving => Noticed => Draining => Drained
/// Serving => Draining (another process follows, and has the sockets)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// It is not to leave.
    Serving,
    /// It takes clients still, for those that have not seen yet that it leaves.
    Noticed,
    /// It takes no more, and sends away those that it has.
    Draining,
    /// It has none.
    Drained,
}

impl Drain {
    /// Of a server that is not to leave.
    pub(super) fn new(
        sessions: Arc<Sessions>,
        relay: Option<Arc<Relay>>,
        accepting: CancellationToken,
    ) -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Serving)),
            accepting,
            sessions,
            relay,
        }
    }

    /// The server is to leave. Nothing happens if it is leaving already.
    pub fn begin(&self) {
        self.phase.send_if_modified(|phase| {
            let is_news = *phase == Phase::Serving;
            if is_news {
                *phase = Phase::Noticed;
            }
            is_news
        });
    }

    /// Another process follows: it accepts no more connections, which wait for that one, and its clients go all
    /// at once. False if it is leaving already.
    pub(crate) fn begin_in_place(&self) -> bool {
        self.phase.send_if_modified(|phase| {
            let is_news = *phase == Phase::Serving;
            if is_news {
                self.accepting.cancel();
                *phase = Phase::Draining;
            }
            is_news
        })
    }

    /// Cancelled when no more connections are to be accepted here.
    pub(super) fn accepting(&self) -> CancellationToken {
        self.accepting.clone()
    }

    /// Waits until it has sent all clients away.
    pub async fn ended(&self) {
        self.reached(Phase::Drained).await;
    }

    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// How many clients are left, also of other servers whose websockets come by this one.
    pub(crate) fn clients(&self) -> usize {
        let passing = self.relay.as_ref().map_or(0, |relay| relay.websockets());
        self.sessions.count() + passing
    }

    async fn reached(&self, wanted: Phase) {
        let mut phases = self.phase.subscribe();
        // Never an error: the sender is here.
        let _ = phases.wait_for(|phase| *phase >= wanted).await;
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}

/// Sends the clients of a server away that is to leave.
pub(super) struct SendAway {
    pub drain: Drain,
    pub notice: Duration,
    /// Over which time they go.
    pub over: Duration,
    pub dispatcher: Arc<Dispatcher>,
    pub native: Vec<Arc<native::Front>>,
}

impl SendAway {
    pub(super) fn new(
        drain: Drain,
        config: &config::Shutdown,
        dispatcher: Arc<Dispatcher>,
        native: Vec<Arc<native::Front>>,
    ) -> Self {
        let is_in_cluster = dispatcher.broadcast.is_clustered();
        Self {
            drain,
            notice: config.notice,
            over: config.drain(is_in_cluster),
            dispatcher,
            native,
        }
    }

    async fn send_away(&self) {
        let drain = &self.drain;
        drain.reached(Phase::Noticed).await;
        let (over, fetched_within) = match drain.phase() {
            Phase::Noticed => {
                tracing::info!(
                    clients = drain.clients(),
                    "the server is to leave: it is not ready any more"
                );
                sleep(self.notice).await;
                drain.enter(Phase::Draining);
                (self.over, ANSWERED_WITHIN)
            }
            // Who comes back finds the process that follows.
            _ => (Duration::ZERO, FETCHED_WITHIN),
        };
        drain.sessions.refuse_new();
        if let Some(relay) = &drain.relay {
            relay.leave(over);
        }
        let clients = drain.sessions.all();
        tracing::info!(clients = clients.len(), "clients are sent away");
        let (began, pause) = (Instant::now(), pause(over, clients.len()));
        for (index, client) in (0u32..).zip(clients) {
            sleep_until(began + pause * index).await;
            let connections = self.dispatcher.connections.of_client(client.id);
            tokio::spawn(send_one_away(client, connections, fetched_within));
        }
        self.native.iter().for_each(|front| front.close());
        while drain.clients() > 0 {
            sleep(LOOK).await;
        }
        tracing::info!("all clients have been sent away");
        drain.enter(Phase::Drained);
    }
}

impl Task for SendAway {
    const NAME: &'static str = "drain";

    async fn run(&mut self, stop: &CancellationToken) {
        let sent_away = async {
            self.send_away().await;
            stop.cancelled().await;
        };
        tokio::select! {
            () = sent_away => {}
            () = stop.cancelled() => {}
        }
    }
}

/// How long after the one before it a client goes.
fn pause(over: Duration, clients: usize) -> Duration {
    let longest = Duration::from_secs_f64(1.0 / SLOWEST);
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    longest.min(over.checked_div(clients).unwrap_or_default())
}

/// Ends a client's session when what it has asked for is answered. What comes from it meanwhile is not
/// begun, so that a client which sends it again on another server has it handled once.
async fn send_one_away(
    client: Arc<Session>,
    connections: Vec<Arc<Connection>>,
    fetched_within: Duration,
) {
    let since = Instant::now();
    let mut answered = None;
    while since.elapsed() < ANSWERED_WITHIN {
        let ended = connections.iter().filter(|it| it.lane.end_if_idle());
        if ended.count() == connections.len() {
            let answered = answered.get_or_insert_with(Instant::now);
            if client.has_sent_all() || answered.elapsed() >= fetched_within {
                break;
            }
        }
        sleep(LOOK).await;
    }
    client.end_here(EndReason::ServerShutdown);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_over_the_time_that_is_configured_and_few_of_them_sooner() {
        let ten = Duration::from_secs(10);
        assert_eq!(pause(ten, 1_000), Duration::from_millis(10));
        assert_eq!(pause(ten, 3), Duration::from_millis(50));
        assert_eq!(pause(Duration::ZERO, 3), Duration::ZERO);
        assert_eq!(pause(ten, 0), Duration::ZERO);
    }
}
