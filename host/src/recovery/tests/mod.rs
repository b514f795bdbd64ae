//! A client of a namespace, as its journal knows it, for the tests of what it gets back.

mod bounds;
mod model;
mod races;
mod replay;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    address::ClientAddress,
    config,
    message::{Arguments, Message},
    recovery::{Common, Former, Journal, Stream, Visit},
    transport::{Packet, Selection, SessionKey, SocketKey},
    units::Size,
    user::{TokenClaims, User, UserId},
};

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// What the names of volatile events begin with.
const VOLATILE: char = 'v';

fn session(number: usize) -> SessionKey {
    format!("AAAAAAAAAA{number:06}").parse().unwrap()
}

fn limits(max_events: usize, max_bytes: u64) -> config::Recovery {
    config::Recovery {
        max_events,
        max_bytes: Size::new(max_bytes),
        ..Default::default()
    }
}

fn roomy() -> config::Recovery {
    limits(10_000, 16 << 20)
}

fn everyone() -> Selection {
    Selection::default()
}

fn only(id: &str) -> Selection {
    Selection {
        sockets: vec![id.to_owned()],
        ..Selection::default()
    }
}

fn to(room: &str) -> Selection {
    Selection::room(room)
}

/// An event of this name at a place, without arguments.
fn event(name: &str) -> impl FnOnce(&str) -> Packet {
    move |place| {
        let arguments = Arguments::parse("[]".to_owned()).unwrap();
        Packet::event("/", name, Message::text(arguments), Some(place))
    }
}

/// The place that an event carries.
fn place(json: &str) -> &str {
    json.rsplit('"').nth(1).unwrap()
}

/// A namespace with these limits, alone on its server.
fn namespace(limits: config::Recovery) -> Journal {
    Journal::new(Arc::new(Common::new(limits, false)))
}

/// A connection, and the client at its other end.
struct Client {
    pid: String,
    id: String,
    stream: Arc<Stream>,
    key: SocketKey,
    address: ClientAddress,
    user: Option<UserId>,
    rooms: BTreeSet<String>,
    /// The events of this connection that are not volatile.
    meant: Vec<String>,
    /// What entered its channels, on all its sockets.
    got: Vec<String>,
    /// So many of them it has seen.
    seen: usize,
    /// The last place that it has seen, in this connection or an earlier one.
    offset: Option<String>,
    is_here: bool,
}

impl Client {
    fn connect(journal: &Journal) -> Self {
        static SESSIONS: AtomicUsize = AtomicUsize::new(0);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let session = session(number);
        Self {
            pid: format!("pid{number}"),
            id: format!("id{number}"),
            stream: journal.begin(session),
            key: SocketKey::new(session),
            address: IpAddr::from(Ipv4Addr::LOCALHOST).into(),
            user: None,
            rooms: BTreeSet::new(),
            meant: Vec::new(),
            got: Vec::new(),
            seen: 0,
            offset: None,
            is_here: true,
        }
    }

    /// The same client with a new connection, which knows of no other than that it has been here.
    fn start_afresh(&mut self, journal: &Journal) {
        *self = Self {
            offset: self.offset.take(),
            ..Self::connect(journal)
        };
    }

    fn emit(&mut self, journal: &Journal, name: &str) {
        let send = |_, packet: &Packet| packet.array().to_owned();
        let sent = journal.emit(&self.stream, false, event(name), send);
        assert_eq!(sent.is_some(), self.is_here);
        self.meant.push(name.to_owned());
        self.got.extend(sent);
    }

    fn emit_volatile(&mut self, journal: &Journal, name: &str) {
        let send = |_, packet: &Packet| packet.array().to_owned();
        let sent = journal.emit(&self.stream, true, event(name), send);
        assert_eq!(sent.is_some(), self.is_here);
        self.got.extend(sent);
    }

    fn change_rooms(&mut self, journal: &Journal, room: &str, joined: bool) {
        let rooms = &mut self.rooms;
        let was_in = rooms.contains(room);
        let change = |_, names: Vec<String>| {
            match joined {
                true => rooms.extend(names),
                false => rooms.retain(|room| !names.contains(room)),
            }
            true
        };
        let names = vec![room.to_owned()];
        journal.change_rooms(&self.stream, names, joined, change, |_, _| was_in);
    }

    fn is_selected(&self, to: &Selection) -> bool {
        let is_in = |room: &String| self.rooms.contains(room);
        let is_it = |id: &String| *id == self.id;
        !to.except.iter().any(|other| is_in(other) || is_it(other))
            && (to.is_everyone() || to.sockets.iter().any(is_it) || to.rooms.iter().any(is_in))
    }

    /// Reads so many of the events that wait.
    fn read(&mut self, count: usize) {
        self.seen = self.got.len().min(self.seen + count);
        if let Some(last) = self.seen.checked_sub(1) {
            self.offset = Some(place(&self.got[last]).to_owned());
        }
    }

    fn read_all(&mut self) {
        self.read(usize::MAX - self.seen);
    }

    fn cut(&mut self, journal: &Journal) {
        self.is_here = false;
        let former = self.former();
        journal.end(&self.stream, self.key.session, || Some(former));
    }

    fn former(&self) -> Former {
        Former {
            pid: self.pid.clone(),
            id: self.id.clone(),
            key: self.key,
            address: self.address,
            stream: self.stream.clone(),
            rooms: self.rooms.iter().cloned().collect(),
            data: Arc::default(),
            user: self.user.clone().map(|id| User {
                id,
                username: None,
                roles: Vec::new(),
                token: TokenClaims::default(),
            }),
            visit: Visit::new(),
        }
    }

    /// Comes back with what it has seen; whether it got what it missed. `meanwhile` happens while
    /// it comes back.
    fn come_back(&mut self, journal: &Journal, meanwhile: impl FnOnce(&mut Self)) -> bool {
        let offset = self.offset.as_deref();
        let Some(returning) = journal.take(&self.pid, offset, self.user.as_ref()) else {
            return false;
        };
        let own = Client::connect(journal).key.session;
        self.key = self.key.back_in(own);
        let Some(replay) = journal.resume(self.key.session, returning, || {}) else {
            return false;
        };
        meanwhile(self);
        // What it has not seen is lost, and comes again.
        self.got.truncate(self.seen);
        let got = &mut self.got;
        let send = |packets: &[Packet]| {
            got.extend(packets.iter().map(|packet| packet.array().to_owned()));
            true
        };
        self.is_here = true;
        let rooms = || self.rooms.iter().cloned().collect();
        journal.catch_up(self.key.session, replay, rooms, send, || {})
    }

    /// What entered its channels, but for volatile events.
    fn lasting(&self) -> Vec<&str> {
        lasting(&self.got)
    }

    /// The first event behind what it has seen.
    fn first_missed(&self) -> Option<&String> {
        self.meant.get(lasting(&self.got[..self.seen]).len())
    }
}

fn broadcast(journal: &Journal, clients: &mut [Client], to: Selection, name: &str) {
    let mut log = journal.broadcasts();
    let packet = log.push(None, to.clone(), event(name));
    for client in clients.iter_mut().filter(|client| client.is_selected(&to)) {
        client.meant.push(name.to_owned());
        if client.is_here {
            client.got.push(packet.array().to_owned());
        }
    }
}

fn broadcast_volatile(journal: &Journal, clients: &mut [Client], to: &Selection, name: &str) {
    let packet = journal.broadcasts().pass(None, event(name));
    for client in clients.iter_mut() {
        if client.is_here && client.is_selected(to) {
            client.got.push(packet.array().to_owned());
        }
    }
}

fn lasting(events: &[String]) -> Vec<&str> {
    let is_lasting = |name: &&str| !name.starts_with(VOLATILE);
    names(events).into_iter().filter(is_lasting).collect()
}

fn names(events: &[String]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.split('"').nth(1).unwrap())
        .collect()
}
