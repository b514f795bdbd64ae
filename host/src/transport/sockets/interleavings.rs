//! A namespace under those who send and a client that comes, goes and comes back, in orders by chance: the
//! client gets each event once and in order, and nothing is left of it when it is gone.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};
use tokio::{runtime::Builder, task::yield_now};

use super::*;
use crate::{
    address::ClientAddress,
    auth::RequestToken,
    config,
    connection::Connection,
    interleave::{point, run},
    message::{Arguments, Message},
    transport::{
        Door, EndReason, Malformed, Part, Receiver, Session, SocketKey, Task, engine::frame,
    },
};

/// So many events everybody is sent, and as many the client alone.
const EVENTS: usize = 3;

/// The room of all clients.
const ALL: &str = "all";

/// Who is let in, the test decides.
struct Open;

impl Door for Open {
    fn keeps(&self, _: Part<'_>) -> bool {
        false
    }

    fn token(&self, _: &HeaderMap) -> Option<RequestToken> {
        None
    }

    fn admit(&self, peer: IpAddr, _: &HeaderMap) -> Result<ClientAddress, Duration> {
        Ok(peer.into())
    }

    fn connect(self: Arc<Self>, _: Arc<Session>, _: &str, _: &str) -> Result<Task, Malformed> {
        Ok(Box::pin(async {}))
    }
}

/// Lets a client in as soon as it asks.
struct LetsIn {
    adapter: Arc<Adapter>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl Door for LetsIn {
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
        Ok(Box::pin(async move {
            let connection = connection(&self.adapter, &session);
            self.connections.lock().push(connection.clone());
            enter(&connection);
        }))
    }
}

/// Hears of the end of a connection.
struct End(Arc<Connection>);

impl Receiver for End {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn event(&self, _: &str, _: Vec<Bytes>, _: Option<i64>) -> Result<(), Malformed> {
        unreachable!("the client sends nothing")
    }

    fn oversized(&self, _: &str, _: Option<i64>) -> Result<(), Malformed> {
        unreachable!("the client sends nothing")
    }

    fn acked(&self, _: Option<i64>, _: &str, _: Vec<Bytes>) -> Result<(), Malformed> {
        unreachable!("the client is asked nothing")
    }

    fn ended(&self, reason: EndReason) {
        self.0.end(reason.may_come_back());
    }
}

struct Namespace {
    namespaces: Namespaces,
    adapter: Arc<Adapter>,
    _door: Arc<dyn Door>,
}

impl Namespace {
    fn new(recovery: bool) -> Self {
        Self::with_door(recovery, |_| Arc::new(Open))
    }

    fn with_door(recovery: bool, door: impl FnOnce(Arc<Adapter>) -> Arc<dyn Door>) -> Self {
        let recovery = config::Recovery {
            enabled: recovery,
            ..Default::default()
        };
        let namespaces = Namespaces::new(
            recovery,
            config::Presence::default(),
            &config::Socket::default(),
            None,
        );
        namespaces.open("/");
        let adapter = namespaces.get("/").unwrap();
        let door = door(adapter.clone());
        namespaces.sessions().open_door(Arc::downgrade(&door));
        Self {
            adapter,
            namespaces,
            _door: door,
        }
    }

    /// A client that polls, and has asked for the namespace.
    fn session(&self) -> Arc<Session> {
        let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
        let session = self.namespaces.sessions().begin(address, None).unwrap();
        session.receive("40").unwrap();
        session
    }

    fn connection(&self, session: &Arc<Session>) -> Arc<Connection> {
        connection(&self.adapter, session)
    }

    /// Everybody is sent events. By a room: without one, socketioxide's adapter asks for the members
    /// under a lock of its own, at which no other thread could go on.
    fn broadcast(&self) {
        for number in 0..EVENTS {
            let everybody = Selection::room(ALL);
            self.adapter
                .broadcast(None, everybody, "all", message(number), false);
        }
    }

    /// The client of `former` is back, and has seen everything up to `offset`.
    fn back(&self, former: &Connection, offset: Option<&str>) -> Arc<Session> {
        let session = self.session();
        let pid = former.pid().expect("it may come back");
        let returning = self.adapter.take_former(pid, offset, None);
        let returning = returning.expect("it is back at once");
        let key = returning.former.key.back_in(session.id);
        let missed = self
            .adapter
            .resume(key, returning)
            .expect("nothing is lost");
        let (former, adapter) = (missed.former(), self.adapter.clone());
        let connection = Connection::back(former, key, session.clone(), session.address, adapter);
        let connection = Arc::new(connection);
        assert!(enter(&connection));
        assert!(connection.catch_up(missed), "nothing is lost");
        session
    }
}

fn connection(adapter: &Arc<Adapter>, session: &Arc<Session>) -> Arc<Connection> {
    let key = SocketKey::new(session.id);
    let connection = Connection::new(key, session.clone(), session.address, adapter.clone());
    connection.join(vec![ALL.to_owned()]);
    connection.into()
}

fn enter(connection: &Arc<Connection>) -> bool {
    let receiver: Arc<dyn Receiver> = Arc::new(End(connection.clone()));
    let is_in = connection.enter(&receiver);
    if !is_in {
        receiver.ended(EndReason::TransportClose);
    }
    is_in
}

fn message(number: usize) -> Message {
    Message::text(Arguments::parse(format!("[{number}]")).unwrap())
}

/// What a client reads, but no more than so many packets.
fn read(session: &Session, most: usize) -> Vec<String> {
    let mut packets = Vec::new();
    while packets.len() < most {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = session.outbox.poll_packets(&mut cx, |mut waiting| {
            packets.extend(waiting.next().cloned());
            1
        });
        if polled.is_pending() || session.has_ended() {
            break;
        }
    }
    let frames = packets.iter().flat_map(frame::split);
    frames
        .map(|(_, text)| String::from_utf8(text.into()).unwrap())
        .collect()
}

/// The events among packets: name, number and place.
fn events(packets: &[String]) -> Vec<(String, usize, Option<String>)> {
    let arrays = packets
        .iter()
        .filter_map(|packet| packet.strip_prefix("42"));
    arrays
        .map(|array| match serde_json::from_str(array) {
            Ok((name, number, place)) => (name, number, Some(place)),
            Err(_) => {
                let (name, number) = serde_json::from_str(array).unwrap();
                (name, number, None)
            }
        })
        .collect()
}

/// The numbers of the events of this name.
fn numbers(events: &[(String, usize, Option<String>)], of: &str) -> Vec<usize> {
    let events = events.iter().filter(|(name, ..)| name == of);
    events.map(|(_, number, _)| *number).collect()
}

proptest! {
    #[test]
    fn a_client_that_comes_back_gets_each_event_once_and_in_order(
        choices in vec(any::<u8>(), 0..120),
        seen in 1..6_usize,
        returns in 1..3_usize,
    ) {
        let namespace = Namespace::new(true);
        let mut session = namespace.session();
        let connection = namespace.connection(&session);
        prop_assert!(enter(&connection));
        let mut got = Vec::new();
        let client = || for _ in 0..returns {
            point();
            got.extend(events(&read(&session, seen)));
            session.end_here(EndReason::TransportClose);
            let offset = got.last().and_then(|(.., place)| place.as_deref());
            session = namespace.back(&connection, offset);
        };
        run(&choices, vec![
            Box::new(client),
            Box::new(|| namespace.broadcast()),
            Box::new(|| for number in 0..EVENTS {
                connection.emit("own", message(number), false);
            }),
        ]);
        got.extend(events(&read(&session, usize::MAX)));
        for name in ["all", "own"] {
            prop_assert_eq!(numbers(&got, name), Vec::from_iter(0..EVENTS), "{}: {:?}", name, got);
        }
    }

    #[test]
    fn a_client_that_comes_anew_as_its_connection_ends_is_there(
        choices in vec(any::<u8>(), 0..120),
        recovery in any::<bool>(),
        leaves in any::<bool>(),
        others in 0..2,
    ) {
        let mut door = None;
        let namespace = Namespace::with_door(recovery, |adapter| {
            let lets_in = Arc::new(LetsIn { adapter, connections: Mutex::default() });
            door.insert(lets_in).clone()
        });
        let runtime = Builder::new_current_thread().build().unwrap();
        namespace.namespaces.sessions().run_on(runtime.handle().clone());
        let session = namespace.session();
        let connections = &door.as_ref().unwrap().connections;
        let first = connections.lock()[0].clone();
        let mut sent = Vec::new();
        // The client leaves by itself, or waits for the server's word.
        let client = || {
            if leaves {
                session.receive("41").unwrap();
                session.receive("40").unwrap();
                return;
            }
            loop {
                sent.extend(read(&session, 1));
                if sent.iter().any(|packet| packet == "41") {
                    break;
                }
                point();
            }
            session.receive("40").unwrap();
        };
        run(&choices, vec![
            Box::new(client),
            Box::new(|| first.disconnect()),
            // Whoever sends something to the client writes what waits for it.
            Box::new(|| for _ in 0..others {
                first.disconnect();
            }),
        ]);
        runtime.block_on(yield_now());
        sent.extend(read(&session, usize::MAX));
        let connections = connections.lock();
        let last = connections.last().unwrap();
        prop_assert!(first.has_ended() && connections.len() == 2, "{}", connections.len());
        prop_assert!(!last.has_ended(), "nobody ended it");
        prop_assert_eq!(namespace.adapter.selected(&Selection::default()), vec![session.id]);
        prop_assert_eq!(namespace.adapter.rooms(last.key), vec![ALL.to_owned()]);
        prop_assert_eq!(sent.iter().filter(|packet| packet.starts_with("40")).count(), 2);
        prop_assert!(sent.last().unwrap().starts_with("40"), "{:?}", sent);
    }

    #[test]
    fn nothing_is_left_of_a_client_that_is_gone_and_nothing_is_kept_from_one_that_is_there(
        choices in vec(any::<u8>(), 0..80),
        recovery in any::<bool>(),
        end in 0..3,
    ) {
        let namespace = Namespace::new(recovery);
        let session = namespace.session();
        let connection = namespace.connection(&session);
        run(&choices, vec![
            Box::new(|| _ = enter(&connection)),
            Box::new(|| namespace.broadcast()),
            Box::new(|| connection.join(vec!["room".to_owned()])),
            Box::new(|| {
                point();
                match end {
                    0 => {}
                    1 => session.end_here(EndReason::TransportClose),
                    _ => connection.disconnect(),
                }
            }),
        ]);
        let selected = namespace.adapter.selected(&Selection::default());
        let rooms = namespace.adapter.rooms(connection.key);
        if connection.has_ended() {
            prop_assert!(selected.is_empty() && rooms.is_empty(), "{:?} {:?}", selected, rooms);
            return Ok(());
        }
        prop_assert_eq!((selected, rooms), (vec![session.id], vec![ALL.to_owned(), "room".to_owned()]));
        let packets = read(&session, usize::MAX);
        prop_assert!(packets[0].starts_with("40{"), "{:?}", packets);
        let numbers = numbers(&events(&packets), "all");
        let missed = EVENTS - numbers.len();
        prop_assert_eq!(numbers, Vec::from_iter(missed..EVENTS), "but for those before it came");
    }

    #[test]
    fn who_is_present_in_a_room_is_in_it(choices in vec(any::<u8>(), 0..60), ends in any::<bool>()) {
        let namespace = Namespace::new(false);
        let session = namespace.session();
        let connection = namespace.connection(&session);
        prop_assert!(enter(&connection));
        let room = || "room".to_owned();
        run(&choices, vec![
            Box::new(|| connection.enter_room("room", "1".into()).unwrap()),
            Box::new(|| connection.leave(vec![room()])),
            Box::new(|| if ends {
                connection.disconnect();
            }),
        ]);
        let is_in_it = namespace.adapter.rooms(connection.key).contains(&room());
        let present = namespace.adapter.presence().count("/", "room");
        prop_assert_eq!(present, usize::from(is_in_it));
    }
}
