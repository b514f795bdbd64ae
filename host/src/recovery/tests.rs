use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    panic::{self, AssertUnwindSafe},
    slice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::{Common, Former, Journal, Stream, Visit, formers::UNIT};
use crate::{
    address::ClientAddress,
    cluster::EntryId,
    config,
    message::{Arguments, Message},
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

/// What happens, to one of the clients or to all of them.
#[derive(Debug, Clone)]
enum Step {
    Emit(usize),
    EmitVolatile(usize),
    Broadcast(Names),
    BroadcastVolatile(Names),
    Join(usize, usize),
    Leave(usize, usize),
    /// The client reads so many of what waits.
    Read(usize, usize),
    Cut(usize),
    Back(usize),
}

/// The rooms and clients of a selection.
#[derive(Debug, Clone)]
struct Names {
    rooms: Vec<usize>,
    clients: Vec<usize>,
    except_rooms: Vec<usize>,
    except_clients: Vec<usize>,
}

const CLIENTS: usize = 3;

impl Names {
    fn selection(&self, clients: &[Client]) -> Selection {
        let rooms = |rooms: &[usize]| -> Vec<_> {
            rooms.iter().map(|room| ROOMS[*room].to_owned()).collect()
        };
        let ids = |ids: &[usize]| -> Vec<_> {
            ids.iter()
                .map(|client| clients[*client].id.clone())
                .collect()
        };
        Selection {
            rooms: rooms(&self.rooms),
            sockets: ids(&self.clients),
            except: [rooms(&self.except_rooms), ids(&self.except_clients)].concat(),
            except_socket: None,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let room = || 0..ROOMS.len();
    let client = || 0..CLIENTS;
    let selection = || {
        let parts = (
            vec(room(), 0..3),
            vec(client(), 0..2),
            vec(room(), 0..2),
            vec(client(), 0..2),
        );
        parts.prop_map(|(rooms, clients, except_rooms, except_clients)| Names {
            rooms,
            clients,
            except_rooms,
            except_clients,
        })
    };
    prop_oneof![
        4 => client().prop_map(Step::Emit),
        1 => client().prop_map(Step::EmitVolatile),
        4 => selection().prop_map(Step::Broadcast),
        1 => selection().prop_map(Step::BroadcastVolatile),
        1 => (client(), room()).prop_map(|(client, room)| Step::Join(client, room)),
        1 => (client(), room()).prop_map(|(client, room)| Step::Leave(client, room)),
        3 => (client(), 0..6usize).prop_map(|(client, count)| Step::Read(client, count)),
        2 => client().prop_map(Step::Cut),
        2 => client().prop_map(Step::Back),
    ]
}

/// What a client was replayed without seeing any of it.
#[derive(Default)]
struct Replayed {
    offset: Option<String>,
    first: Option<String>,
    times: usize,
}

impl Replayed {
    /// Whether the client may have what it missed, and has not dropped over it twice.
    fn allows(&self, client: &Client) -> bool {
        let first = client.first_missed();
        first.is_none() || self.times < 2 || !self.is(client)
    }

    fn note(&mut self, client: &Client) {
        if !self.is(client) {
            self.offset = client.offset.clone();
            self.first = client.first_missed().cloned();
            self.times = 0;
        }
        self.times += 1;
    }

    fn is(&self, client: &Client) -> bool {
        (&self.offset, self.first.as_ref()) == (&client.offset, client.first_missed())
    }
}

/// Runs the steps. A client that recovers has to have every event once and in order; returns whether
/// each has recovered whenever it came back, but where it drops over the same event again and again.
fn run(limits: config::Recovery, steps: &[Step]) -> bool {
    let journal = namespace(limits);
    // Others have been here before.
    for number in 0..3 {
        broadcast(&journal, &mut [], everyone(), &format!("old{number}"));
    }
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&journal)).collect();
    let mut replayed: Vec<Replayed> = (0..CLIENTS).map(|_| Replayed::default()).collect();
    let mut always = true;
    for (number, step) in steps.iter().enumerate() {
        let name = number.to_string();
        let volatile = format!("{VOLATILE}{number}");
        match step {
            Step::Emit(client) => clients[*client].emit(&journal, &name),
            Step::EmitVolatile(client) => clients[*client].emit_volatile(&journal, &volatile),
            Step::Broadcast(to) => {
                let to = to.selection(&clients);
                broadcast(&journal, &mut clients, to, &name);
            }
            Step::BroadcastVolatile(to) => {
                let to = to.selection(&clients);
                broadcast_volatile(&journal, &mut clients, &to, &volatile);
            }
            Step::Join(client, room) if clients[*client].is_here => {
                clients[*client].change_rooms(&journal, ROOMS[*room], true);
            }
            Step::Leave(client, room) if clients[*client].is_here => {
                clients[*client].change_rooms(&journal, ROOMS[*room], false);
            }
            Step::Read(client, count) if clients[*client].is_here => clients[*client].read(*count),
            Step::Cut(client) if clients[*client].is_here => clients[*client].cut(&journal),
            Step::Back(client) if !clients[*client].is_here => {
                let (client, replayed) = (&mut clients[*client], &mut replayed[*client]);
                let is_allowed = replayed.allows(client);
                let recovered = client.come_back(&journal, |client| {
                    client.emit(&journal, &format!("{name}own"));
                    let to = only(&client.id);
                    let clients = slice::from_mut(client);
                    broadcast(&journal, clients, to, &format!("{name}all"));
                });
                if recovered {
                    assert!(is_allowed);
                    assert_eq!(client.meant, client.lasting());
                    replayed.note(client);
                } else {
                    always &= !is_allowed;
                    client.start_afresh(&journal);
                    *replayed = Replayed::default();
                }
            }
            _ => {}
        }
    }
    for client in clients.iter().filter(|client| client.is_here) {
        assert_eq!(client.meant, client.lasting());
    }
    always
}

proptest! {
    #[test]
    fn who_comes_back_has_every_event_once_and_in_order(steps in vec(step(), 0..200)) {
        prop_assert!(run(roomy(), &steps));
    }

    #[test]
    fn with_little_memory_it_is_all_or_nothing(steps in vec(step(), 0..300)) {
        run(limits(6, 4096), &steps);
    }

    #[test]
    fn with_room_for_few_clients_it_is_all_or_nothing(steps in vec(step(), 0..200)) {
        run(config::Recovery { max_clients: 1, ..roomy() }, &steps);
    }
}

#[test]
fn a_panic_under_the_locks_costs_its_own_event_only() {
    let journal = namespace(roomy());
    let stream = journal.begin(session(0));
    let panics = |_: &str| -> Packet { panic!("encoding fails") };
    let alone = || journal.emit(&stream, false, panics, |_, _| ());
    panic::catch_unwind(AssertUnwindSafe(alone)).unwrap_err();
    let to_all = || drop(journal.broadcasts().push(None, everyone(), panics));
    panic::catch_unwind(AssertUnwindSafe(to_all)).unwrap_err();

    let sent = journal.emit(&stream, false, event("alone"), |_, packet| packet.clone());
    assert!(sent.unwrap().array().starts_with("[\"alone\","));
    let sent = journal.broadcasts().push(None, everyone(), event("to all"));
    assert!(sent.array().starts_with("[\"to all\","));
}

#[test]
fn events_enter_each_channel_in_the_order_of_their_places() {
    const EACH: usize = 2_000;
    let journal = namespace(roomy());
    let mut streams = Vec::new();
    for number in 0..3 {
        let stream = journal.begin(session(number));
        streams.push((stream, Mutex::new(Vec::<String>::new())));
    }
    thread::scope(|scope| {
        for thread in 0..2 {
            let (journal, streams) = (&journal, &streams);
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut log = journal.broadcasts();
                    let name = format!("broadcast {thread} {number}");
                    let packet = log.push(None, everyone(), event(&name));
                    for (_, channel) in streams {
                        channel.lock().unwrap().push(packet.array().to_owned());
                    }
                }
            });
            for (stream, channel) in streams {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let name = format!("own {thread} {number}");
                        journal.emit(stream, false, event(&name), |_, packet| {
                            thread::yield_now();
                            channel.lock().unwrap().push(packet.array().to_owned());
                        });
                    }
                });
            }
        }
    });
    for (number, (stream, channel)) in streams.iter().enumerate() {
        let got = channel.lock().unwrap();
        assert_eq!(got.len(), 4 * EACH);
        let mut client = Client {
            stream: stream.clone(),
            key: SocketKey::new(session(number)),
            ..Client::connect(&journal)
        };
        for seen in (4 * EACH - 600..4 * EACH).step_by(7) {
            client.got = got[..=seen].to_vec();
            client.read_all();
            client.cut(&journal);
            assert!(client.come_back(&journal, |_| {}));
            assert_eq!(client.got, *got);
        }
    }
}

#[test]
fn clients_that_come_back_while_others_send_have_every_event_once_and_in_order() {
    // No more than a stream keeps.
    const SENT: usize = 800;
    const CLIENTS: usize = 3;
    /// A client's present outbox; whether broadcasts reach it.
    type Channel = Mutex<(Vec<String>, bool)>;
    let journal = namespace(limits(2 * SENT, 16 << 20));
    let channels: Vec<Channel> = (0..CLIENTS)
        .map(|_| Mutex::new((Vec::new(), true)))
        .collect();
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&journal)).collect();
    let streams: Vec<_> = clients.iter().map(|client| client.stream.clone()).collect();
    let sending = AtomicUsize::new(1 + CLIENTS);
    let come_and_go = |mut client: Client, channel: &Channel| {
        let mut seen = Vec::new();
        loop {
            let is_over = sending.load(Ordering::Acquire) == 0;
            seen.append(&mut channel.lock().unwrap().0);
            if is_over {
                return seen;
            }
            client.offset = seen.last().map(|event| place(event).to_owned());
            let former = client.former();
            let end = || {
                channel.lock().unwrap().1 = false;
                Some(former)
            };
            journal.end(&client.stream, client.key.session, end);
            // What has not been read is lost on the way.
            channel.lock().unwrap().0.clear();
            let returning = journal
                .take(&client.pid, client.offset.as_deref(), None)
                .unwrap();
            client.key = client.key.back_in(Client::connect(&journal).key.session);
            let session = client.key.session;
            let replay = journal.resume(session, returning, || {}).unwrap();
            let send = |packets: &[Packet]| {
                thread::yield_now();
                let missed = packets.iter().map(|packet| packet.array().to_owned());
                channel.lock().unwrap().0.extend(missed);
                thread::yield_now();
                true
            };
            let leave = || channel.lock().unwrap().1 = true;
            assert!(journal.catch_up(session, replay, Vec::new, send, leave));
            // Whoever never reads has an event that it cannot read.
            while channel.lock().unwrap().0.is_empty() && sending.load(Ordering::Acquire) > 0 {
                thread::yield_now();
            }
        }
    };
    let seen: Vec<_> = thread::scope(|scope| {
        let (journal, sending, channels, come_and_go) =
            (&journal, &sending, &channels, &come_and_go);
        scope.spawn(move || {
            for number in 0..SENT {
                let mut log = journal.broadcasts();
                let packet = log.push(None, everyone(), event(&format!("all {number}")));
                for channel in channels {
                    let mut channel = channel.lock().unwrap();
                    if channel.1 {
                        channel.0.push(packet.array().to_owned());
                    }
                }
                drop(log);
                thread::yield_now();
            }
            sending.fetch_sub(1, Ordering::Release);
        });
        for (stream, channel) in streams.iter().zip(channels) {
            scope.spawn(move || {
                for number in 0..SENT {
                    let send = |_, packet: &Packet| {
                        channel.lock().unwrap().0.push(packet.array().to_owned());
                    };
                    journal.emit(stream, false, event(&format!("own {number}")), send);
                    thread::yield_now();
                }
                sending.fetch_sub(1, Ordering::Release);
            });
        }
        let clients = clients.into_iter().zip(channels);
        let threads: Vec<_> = clients
            .map(|(client, channel)| scope.spawn(move || come_and_go(client, channel)))
            .collect();
        let seen = threads.into_iter().map(|thread| thread.join().unwrap());
        seen.collect()
    });
    for seen in seen {
        for kind in ["all", "own"] {
            let names = names(&seen)
                .into_iter()
                .filter(|name| name.starts_with(kind));
            let expected = (0..SENT).map(|number| format!("{kind} {number}"));
            assert!(names.eq(expected), "{kind}");
        }
    }
}

#[test]
fn what_a_client_missed_before_it_joined_a_room_is_not_for_it() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "hello");
    client.read_all();
    broadcast(&journal, slice::from_mut(&mut client), to("a"), "too early");
    client.change_rooms(&journal, "a", true);
    broadcast(&journal, slice::from_mut(&mut client), to("a"), "in time");
    client.change_rooms(&journal, "a", false);
    broadcast(&journal, slice::from_mut(&mut client), to("a"), "too late");
    client.cut(&journal);
    broadcast(
        &journal,
        slice::from_mut(&mut client),
        to("a"),
        "much too late",
    );
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(names(&client.got), ["hello", "in time"]);
}

#[test]
fn nothing_is_replayed_with_a_gap() {
    // An entry, its packet, and the name of its room here and in the index.
    const EVENT: u64 = 256 + 30 + 25 + 25 + 96;
    for limits in [limits(3, 1 << 20), limits(100, 3 * EVENT)] {
        let journal = namespace(limits);
        let mut client = Client::connect(&journal);
        broadcast(&journal, slice::from_mut(&mut client), everyone(), "seen");
        client.read_all();
        client.cut(&journal);
        for _ in 0..3 {
            broadcast(&journal, &mut [], to("a"), "another");
        }
        // The event that it has seen is gone, but none behind it.
        assert!(client.come_back(&journal, |_| {}));
        client.cut(&journal);
        broadcast(&journal, &mut [], to("a"), "another");
        assert!(!client.come_back(&journal, |_| {}));
    }
}

#[test]
fn events_that_come_while_a_connection_comes_back_are_not_lost() {
    let journal = namespace(limits(3, 1 << 20));
    let mut client = Client::connect(&journal);
    broadcast(&journal, slice::from_mut(&mut client), everyone(), "0");
    client.read_all();
    client.cut(&journal);
    broadcast(&journal, &mut [], everyone(), "1");
    let recovered = client.come_back(&journal, |_| {
        assert!(journal.broadcasts().is_waited_for());
        for name in ["2", "3", "4"] {
            broadcast(&journal, &mut [], everyone(), name);
        }
    });
    assert!(recovered);
    assert_eq!(names(&client.got), ["0", "1", "2", "3", "4"]);

    client.read_all();
    client.cut(&journal);
    let recovered = client.come_back(&journal, |_| {
        for name in ["5", "6", "7", "8"] {
            broadcast(&journal, &mut [], everyone(), name);
        }
    });
    assert!(!recovered, "a gap that opens meanwhile");
}

#[test]
fn the_own_events_of_a_connection_are_bounded() {
    let journal = namespace(limits(100, 4 << 10));
    let mut client = Client::connect(&journal);
    let large = "x".repeat(1500);
    for number in 0..4 {
        client.emit(&journal, &format!("{number}{large}"));
    }
    client.read(1);
    client.cut(&journal);
    assert!(!client.come_back(&journal, |_| {}));
    client.is_here = true;
    client.read(1);
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(client.got.len(), 4);

    client.read_all();
    client.emit(&journal, &"x".repeat(5000));
    client.cut(&journal);
    assert!(
        !client.come_back(&journal, |_| {}),
        "larger than all it may take"
    );
    client.read_all();
    assert!(client.come_back(&journal, |_| {}));
}

#[test]
fn a_connection_that_leaves_its_socket_behind_is_reached_where_it_is_now() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.read_all();
    client.cut(&journal);
    client.emit(&journal, "while it is away");
    assert!(client.come_back(&journal, |_| {}));
    let session = journal.emit(&client.stream, false, event("x"), |session, _| session);
    assert_eq!(session, Some(client.key.session));
    assert_eq!(names(&client.got), ["seen", "while it is away"]);

    // The end of a former socket is not its end.
    let former = || panic!("nothing is kept");
    journal.end(&client.stream, self::session(0), former);
    client.emit(&journal, "here");
}

#[test]
fn places_that_this_journal_never_gave_open_nothing() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "own");
    broadcast(
        &journal,
        slice::from_mut(&mut client),
        everyone(),
        "broadcast",
    );
    client.cut(&journal);
    let own = place(&client.got[0]).to_owned();
    let tag = &own[..4];
    assert_eq!(own, format!("{tag}1.1"));
    let take = |pid: &str, offset: &str| journal.take(pid, Some(offset), None).is_some();
    for bad in [
        "",
        "0",
        tag,
        "hello",
        &format!("{tag}5"),
        &format!("{tag}1.2"),
        &format!("{tag}9.0"),
    ] {
        assert!(!take(&client.pid, bad), "{bad}");
    }
    assert!(!take("other", &own));
    assert!(take(&client.pid, &own));
    assert!(!take(&client.pid, &own), "only once");
}

#[test]
fn a_client_that_was_sent_nothing_comes_back_to_its_connect() {
    let journal = namespace(roomy());
    let mut former = Client::connect(&journal);
    former.emit(&journal, "former");
    broadcast(
        &journal,
        slice::from_mut(&mut former),
        everyone(),
        "too early",
    );
    former.read_all();
    // Of no connection, of an earlier one, and of another run of the server.
    let offsets = [
        None,
        Some(place(&former.got[0]).to_owned()),
        former.offset.clone(),
        Some("~other2".to_owned()),
    ];
    for offset in offsets {
        let mut client = Client::connect(&journal);
        client.offset = offset.clone();
        client.cut(&journal);
        client.emit(&journal, "own");
        client.emit(&journal, "second");
        broadcast(&journal, slice::from_mut(&mut client), everyone(), "all");
        assert!(client.come_back(&journal, |_| {}), "{offset:?}");
        assert_eq!(names(&client.got), ["own", "second", "all"], "{offset:?}");
    }

    // What it was sent may not have arrived. Nobody can tell from something else.
    for (offset, recovers) in [("~other2", true), ("hello", false)] {
        let mut client = Client::connect(&journal);
        client.emit(&journal, "own");
        client.offset = Some(offset.to_owned());
        client.cut(&journal);
        assert_eq!(client.come_back(&journal, |_| {}), recovers);
        assert_eq!(names(&client.got), ["own"]);
    }
}

#[test]
fn a_volatile_event_has_a_place_and_is_not_kept() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit_volatile(&journal, "v0");
    client.emit(&journal, "1");
    client.emit_volatile(&journal, "v2");
    broadcast_volatile(&journal, slice::from_mut(&mut client), &everyone(), "v3");
    client.read_all();
    client.cut(&journal);
    client.emit_volatile(&journal, "v4");
    broadcast_volatile(&journal, slice::from_mut(&mut client), &everyone(), "v5");
    client.emit(&journal, "6");
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(names(&client.got), ["v0", "1", "v2", "v3", "6"]);
}

#[test]
fn an_event_over_which_a_client_drops_is_replayed_twice() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.read_all();
    client.emit(&journal, "unreadable");
    let drop_over_it = |client: &mut Client| {
        client.cut(&journal);
        client.come_back(&journal, |_| {})
    };
    assert!(drop_over_it(&mut client));
    assert!(drop_over_it(&mut client));
    assert!(!drop_over_it(&mut client));

    // Whoever sees something in between is only slow.
    let mut client = Client::connect(&journal);
    for number in 0..5 {
        client.emit(&journal, &number.to_string());
    }
    for _ in 0..4 {
        client.read(1);
        assert!(drop_over_it(&mut client));
    }
    assert!(drop_over_it(&mut client));
    // And whoever missed nothing may drop as often as it likes.
    client.read_all();
    for _ in 0..5 {
        assert!(drop_over_it(&mut client));
    }
}

#[test]
fn a_private_id_alone_opens_nothing_that_had_a_user() {
    let journal = namespace(roomy());
    let user = |id: &str| UserId::from_text(id).unwrap();
    let number = UserId::from_json(&7.into()).unwrap();
    for (had, shows, may) in [
        (None, None, true),
        (Some(user("7")), Some(user("7")), true),
        (Some(user("7")), Some(number), true),
        (Some(user("7")), None, false),
        (Some(user("7")), Some(user("8")), false),
        (None, Some(user("7")), false),
    ] {
        let mut client = Client::connect(&journal);
        client.user = had.clone();
        client.cut(&journal);
        let taken = journal.take(&client.pid, None, shows.as_ref());
        assert_eq!(taken.is_some(), may, "{had:?} {shows:?}");
        // Who may not have it takes it from nobody.
        let taken = journal.take(&client.pid, None, had.as_ref());
        assert_eq!(taken.is_some(), !may, "{had:?} {shows:?}");
    }
}

#[test]
fn the_names_in_a_selection_count_for_the_size_of_the_log() {
    let journal = namespace(limits(1000, 64 << 10));
    let long = Selection {
        except: vec!["x".repeat(10 << 10)],
        ..Selection::default()
    };
    for _ in 0..20 {
        journal.broadcasts().push(None, long.clone(), event("e"));
    }
    let log = journal.broadcasts();
    assert!((1..=6).contains(&(log.next() - log.first())));
}

#[test]
fn nothing_is_kept_where_nobody_can_come_back() {
    let brief = config::Recovery {
        max_age: Duration::ZERO,
        ..roomy()
    };
    for (limits, is_empty, kept) in [
        (roomy(), true, 2),
        (brief.clone(), false, 0),
        (brief, true, 0),
    ] {
        let is_long = !limits.max_age.is_zero();
        let journal = namespace(limits);
        let mut client = Client::connect(&journal);
        broadcast(&journal, slice::from_mut(&mut client), everyone(), "seen");
        client.cut(&journal);
        let stream = Arc::downgrade(&client.stream);
        drop(client);
        assert!(stream.upgrade().is_some());
        journal.sweep(is_empty);
        assert_eq!(stream.upgrade().is_some(), is_long);
        let log = journal.broadcasts();
        assert_eq!((log.next(), log.next() - log.first()), (2, kept));
    }
}

#[test]
fn a_server_of_a_cluster_keeps_for_clients_of_others_also_while_it_has_none() {
    for (is_clustered, kept) in [(true, true), (false, false)] {
        let journal = Journal::new(Arc::new(Common::new(roomy(), is_clustered)));
        let first = EntryId::parse("1-0").unwrap();
        journal.start_at(first.number());
        journal
            .broadcasts()
            .push(Some(first), everyone(), event("e"));
        journal.sweep(true);
        assert_eq!(journal.broadcasts().reaches(first.number()), kept);
    }
}

#[test]
fn connections_that_dropped_are_forgotten_when_they_are_old() {
    let brief = config::Recovery {
        max_age: Duration::ZERO,
        ..roomy()
    };
    let journal = namespace(brief);
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.read_all();
    client.cut(&journal);
    assert!(!client.come_back(&journal, |_| {}));
    assert!(!journal.is_waited_for());
}

/// A client at an address of this number that has dropped. With a user, it is that one's.
fn dropped(journal: &Journal, address: u8, user: Option<&str>) -> Client {
    let mut client = Client::connect(journal);
    client.address = IpAddr::from([192, 0, 2, address]).into();
    client.user = user.map(|id| UserId::from_text(id).unwrap());
    client.cut(journal);
    client
}

#[test]
fn a_crowd_of_one_client_takes_no_place_from_others() {
    let limits = config::Recovery {
        max_clients: 30,
        ..roomy()
    };
    let journal = namespace(limits);
    let crowd = |address, user: Option<&str>| -> Vec<_> {
        let alike = |_| dropped(&journal, address, user);
        (0..100).map(alike).collect()
    };
    let mut kept: Vec<_> = (0..5)
        .flat_map(|number| {
            let user = format!("user {number}");
            // One with a user, one at an address of its own, and one at that of the crowd.
            let clients = [(1, Some(&*user)), (10 + number, None), (1, None)];
            clients.map(|(address, user)| dropped(&journal, address, user))
        })
        .collect();
    broadcast(&journal, &mut kept, everyone(), "missed");
    let mut crowd_of_one = crowd(1, None);
    crowd_of_one.extend(crowd(1, Some("one")));
    for client in &mut kept {
        assert!(client.come_back(&journal, |_| {}), "{}", client.pid);
        assert_eq!(names(&client.got), ["missed"]);
    }
    let back = |client: &mut Client| client.come_back(&journal, |_| {});
    assert_eq!(
        crowd_of_one
            .iter_mut()
            .filter_map(|client| back(client).then_some(()))
            .count(),
        15
    );
}

/// A client at an address of this number that drops with so many bytes of rooms, or of data.
fn dropped_with(journal: &Journal, address: u8, bytes: usize, in_rooms: bool) -> Client {
    let mut client = Client::connect(journal);
    client.address = IpAddr::from([192, 0, 2, address]).into();
    let text = "x".repeat(bytes - if in_rooms { size_of::<String>() } else { 0 });
    let mut former = client.former();
    match in_rooms {
        true => former.rooms = vec![text],
        false => former.data.set(&"plugin".into(), text.into()),
    }
    assert_eq!(former.size(), bytes);
    journal.end(&client.stream, client.key.session, || Some(former));
    client.is_here = false;
    client
}

#[test]
fn large_rooms_and_data_count_for_several_connections() {
    const MAX: usize = 16;
    let limits = || config::Recovery {
        max_clients: MAX,
        ..roomy()
    };
    for in_rooms in [true, false] {
        for (bytes, kept) in [(UNIT - 1, MAX), (UNIT, MAX / 2), (3 * UNIT, MAX / 4)] {
            let journal = namespace(limits());
            for number in 0..MAX as u8 {
                dropped_with(&journal, number, bytes, in_rooms);
            }
            assert_eq!(journal.sweep(false), kept, "{bytes}");
        }
        let journal = namespace(limits());
        dropped_with(&journal, 0, (MAX + 1) * UNIT, in_rooms);
        assert_eq!(journal.sweep(false), 0, "more than there is room for");
    }
}

#[test]
fn who_has_much_data_takes_no_place_from_others() {
    let limits = config::Recovery {
        max_clients: 40,
        ..roomy()
    };
    let journal = namespace(limits);
    let mut modest: Vec<_> = (0..10)
        .map(|number| dropped(&journal, 10 + number, None))
        .collect();
    let mut greedy: Vec<_> = (0..8)
        .map(|_| dropped_with(&journal, 1, 9 * UNIT, false))
        .collect();
    let mut back = |client: &mut Client| client.come_back(&journal, |_| {});
    assert!(modest.iter_mut().all(&mut back));
    assert_eq!(
        greedy
            .iter_mut()
            .filter_map(|client| back(client).then_some(()))
            .count(),
        3
    );
}

#[test]
fn those_who_return_make_room_and_are_not_counted_any_more() {
    const ALL: usize = 500;
    let limits = config::Recovery {
        max_clients: ALL,
        ..roomy()
    };
    let common = Arc::new(Common::new(limits, false));
    let namespaces = [(); 2].map(|()| Journal::new(common.clone()));
    let mut clients: Vec<_> = (0..ALL)
        .map(|number| Client::connect(&namespaces[number % 2]))
        .collect();
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.emit(&namespaces[number % 2], "event");
            client.read_all();
            client.cut(&namespaces[number % 2]);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert!(client.come_back(&namespaces[number % 2], |_| {}));
        }
        assert!(!namespaces.iter().any(Journal::is_waited_for));
    }
    // There is one bound for all namespaces together.
    for client in clients.iter_mut().step_by(2) {
        client.cut(&namespaces[0]);
    }
    for _ in 0..ALL {
        Client::connect(&namespaces[1]).cut(&namespaces[1]);
    }
    let awaited = namespaces.each_ref().map(|journal| journal.sweep(false));
    assert_eq!(awaited.iter().sum::<usize>(), ALL);
}

#[test]
fn the_memory_of_all_namespaces_has_one_bound() {
    const BYTES: usize = 64 << 10;
    const NAMESPACES: usize = 20;
    let common = Arc::new(Common::new(limits(10_000, BYTES as u64), false));
    let namespaces: Vec<_> = (0..NAMESPACES)
        .map(|_| Journal::new(common.clone()))
        .collect();
    let bytes = || -> usize {
        let sizes = namespaces
            .iter()
            .map(|journal| journal.broadcasts().bytes());
        sizes.sum()
    };
    let sweep = || {
        namespaces
            .iter()
            .for_each(|journal| _ = journal.sweep(false));
        common.share_out();
    };
    let mut clients: Vec<_> = namespaces.iter().map(Client::connect).collect();
    for (client, journal) in clients.iter_mut().zip(&namespaces) {
        client.cut(journal);
    }
    let large = "x".repeat(1000);
    let fill = |journal: &Journal| {
        for _ in 0..100 {
            broadcast(journal, &mut [], to("nobody"), &large);
            assert!(bytes() <= BYTES);
        }
    };
    // One takes all, until others want some.
    fill(&namespaces[0]);
    assert!(bytes() > BYTES / 2);
    sweep();
    for (client, journal) in clients.iter_mut().zip(&namespaces).skip(1) {
        broadcast(journal, slice::from_mut(client), everyone(), "small");
        fill(&namespaces[0]);
    }
    for (client, journal) in clients.iter_mut().zip(&namespaces).skip(1) {
        assert!(client.come_back(journal, |_| {}));
        assert_eq!(names(&client.got), ["small"]);
        client.read_all();
    }
    // All take much: each has its share.
    for _ in 0..3 {
        namespaces.iter().for_each(fill);
        sweep();
    }
    let share = BYTES / NAMESPACES / 2;
    for journal in &namespaces {
        assert!(journal.broadcasts().bytes() > share);
    }
    drop(clients);
    drop(namespaces);
    assert!(!common.broadcasts.is_scarce());
}

#[test]
fn the_memory_of_all_single_connections_has_one_bound() {
    const BYTES: usize = 256 << 10;
    let common = Arc::new(Common::new(limits(10_000, BYTES as u64), false));
    let journal = Journal::new(common.clone());
    let sweep = || {
        journal.sweep(false);
        common.share_out();
    };
    let large = "x".repeat(1000);
    let mut greedy: Vec<_> = (0..20).map(|_| Client::connect(&journal)).collect();
    let fill = |client: &mut Client| {
        for _ in 0..50 {
            client.emit(&journal, &large);
            assert!(!common.own.is_overdrawn());
        }
    };
    greedy.iter_mut().for_each(fill);
    sweep();
    sweep();
    // Those who come later have their part, though the others never say a word again.
    let mut modest: Vec<_> = (0..20).map(|_| Client::connect(&journal)).collect();
    for client in &mut modest {
        client.emit(&journal, "small");
        client.cut(&journal);
        assert!(client.come_back(&journal, |_| {}));
        assert_eq!(names(&client.got), ["small"]);
    }
    drop((greedy, modest));
    sweep();
    assert!(!common.own.is_scarce());
}
