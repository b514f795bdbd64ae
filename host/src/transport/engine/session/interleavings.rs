//! A session under its client, who lets it in and who ends it, in orders by chance: each event reaches a
//! connection once and in order, none that the client has left, and each connection hears once of its end.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Weak,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    auth::RequestToken,
    config,
    error::ConnectError,
    interleave::{point, run},
    transport::engine::{Door, Part, Task},
};

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Connect,
    Event,
    Disconnect,
}

/// Who ends what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Nobody,
    /// The client's transport is gone.
    Transport,
    /// The client ends the session by a request.
    Client,
    /// The server ends the connection.
    Server,
}

/// The id of all connections.
const ID: &str = "id";

/// One connection, and what it was told.
#[derive(Default)]
struct Connection {
    events: Mutex<Vec<usize>>,
    ends: Mutex<usize>,
}

impl Receiver for Connection {
    fn id(&self) -> &str {
        ID
    }

    fn event(&self, array: &str, _: Vec<Bytes>, _: Option<i64>) -> Result<(), Malformed> {
        let number = array.trim_matches(['[', ']']).parse().unwrap();
        self.events.lock().push(number);
        Ok(())
    }

    fn oversized(&self, _: &str, _: Option<i64>) -> Result<(), Malformed> {
        unreachable!("nothing is attached")
    }

    fn acked(&self, _: Option<i64>, _: &str, _: Vec<Bytes>) -> Result<(), Malformed> {
        unreachable!("nothing is asked")
    }

    fn ended(&self, _: EndReason) {
        *self.ends.lock() += 1;
    }
}

/// Lets clients in, some time after they have asked.
#[derive(Default)]
struct Host {
    asked: Mutex<VecDeque<Arc<Session>>>,
    /// Those that were let in, and those that left or were gone before they were.
    connections: Mutex<Vec<(bool, Arc<Connection>)>>,
}

impl Door for Host {
    fn keeps(&self, _: Part<'_>) -> bool {
        false
    }

    fn token(&self, _: &HeaderMap) -> Option<RequestToken> {
        None
    }

    fn admit(&self, peer: IpAddr, _: &HeaderMap) -> Result<ClientAddress, Duration> {
        Ok(peer.into())
    }

    fn connect(
        self: Arc<Self>,
        session: Arc<Session>,
        _: &str,
        _: &str,
    ) -> Result<Task, Malformed> {
        self.asked.lock().push_back(session);
        Ok(Box::pin(async {}))
    }
}

impl Host {
    /// Decides about the next one; false if nobody asks.
    fn decide(&self, lets_in: bool) -> bool {
        let Some(session) = self.asked.lock().pop_front() else {
            return false;
        };
        if !lets_in {
            session.refuse("/", &ConnectError::new("no"));
            return true;
        }
        let connection = Arc::<Connection>::default();
        let receiver: Arc<dyn Receiver> = connection.clone();
        let is_in = session.let_in("/", &receiver);
        self.connections.lock().push((is_in, connection));
        true
    }
}

fn session(host: &Arc<Host>) -> Arc<Session> {
    let sessions = Arc::new(Sessions::new(Policy::new(&config::Socket::default())));
    let door: Weak<Host> = Arc::downgrade(host);
    sessions.open_door(door);
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    sessions.begin(address.into(), None).unwrap()
}

/// The client sends all of it, as long as its session is there.
fn send(session: &Arc<Session>, all: &[Sent]) {
    for (number, sent) in all.iter().enumerate() {
        let packet = match sent {
            Sent::Connect => "40".to_owned(),
            Sent::Event => format!("42[{number}]"),
            Sent::Disconnect => "41".to_owned(),
        };
        if let Err(reason) = session.receive(&packet) {
            session.end_here(reason);
            return;
        }
    }
}

/// The events that a client sent where it had not left: those that may be told.
fn wanted(all: &[Sent]) -> Vec<usize> {
    let is_in = |number: usize| {
        let before = all[..number].iter().rev();
        before.copied().find(|sent| *sent != Sent::Event) == Some(Sent::Connect)
    };
    let numbers = 0..all.len();
    numbers
        .filter(|number| all[*number] == Sent::Event && is_in(*number))
        .collect()
}

proptest! {
    #[test]
    fn each_event_reaches_one_connection_in_order_and_each_hears_once_of_its_end(
        choices in vec(any::<u8>(), 0..80),
        rest in vec(select(&[Sent::Connect, Sent::Event, Sent::Event, Sent::Disconnect][..]), 0..8),
        decisions in vec(proptest::bool::weighted(0.8), 0..4),
        end in select(&[End::Nobody, End::Transport, End::Client, End::Server][..]),
    ) {
        let host = Arc::<Host>::default();
        let session = session(&host);
        let all = [&[Sent::Connect], &*rest].concat();
        let decide = || for lets_in in &decisions {
            point();
            host.decide(*lets_in);
        };
        let end_it = || {
            point();
            match end {
                End::Nobody => {}
                End::Transport => session.end_here(EndReason::TransportClose),
                End::Client => session.close_by_client(),
                End::Server => _ = session.end_connection("/", ID),
            }
        };
        run(&choices, vec![
            Box::new(|| send(&session, &all)),
            Box::new(decide),
            Box::new(end_it),
        ]);
        while host.decide(true) {}
        let told = || {
            let connections = host.connections.lock();
            connections.iter().flat_map(|(_, connection)| connection.events.lock().clone()).collect::<Vec<_>>()
        };
        let before = told();
        if end == End::Nobody && decisions.iter().all(|lets_in| *lets_in) {
            prop_assert_eq!(&before, &wanted(&all), "nothing is lost");
        }
        session.end_here(EndReason::TransportClose);
        let told = told();
        prop_assert_eq!(&told, &before, "nothing is told at the end");
        let wanted = wanted(&all);
        prop_assert!(told.is_sorted_by(|one, next| one < next), "in order, and once: {:?}", told);
        prop_assert!(told.iter().all(|number| wanted.contains(number)), "{:?} of {:?}", told, wanted);
        for (is_in, connection) in &*host.connections.lock() {
            let ends = *connection.ends.lock();
            prop_assert!(ends <= 1 && (ends == 1 || !is_in), "let in: {}, {} ends", is_in, ends);
        }
        prop_assert!(session.has_ended());
    }
}
