use std::{
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{Former, Journal, Stream};
use crate::{
    config,
    message::{Arguments, Message},
    transport::{Packet, Selection, SessionKey, SocketKey},
    units::Size,
};

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// The public id of the client.
const ID: &str = "id";

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

/// A connection, and the client at its other end.
struct Client {
    stream: Arc<Stream>,
    key: SocketKey,
    /// How many sockets it has had.
    sockets: usize,
    rooms: BTreeSet<String>,
    /// What entered its channels, on all its sockets. The client has seen it up to `seen`.
    got: Vec<String>,
    seen: Option<usize>,
    is_here: bool,
}

impl Client {
    fn connect(journal: &Journal) -> Self {
        Self {
            stream: journal.begin(session(0)),
            key: SocketKey::new(session(0)),
            sockets: 1,
            rooms: BTreeSet::new(),
            got: Vec::new(),
            seen: None,
            is_here: true,
        }
    }

    fn emit(&mut self, journal: &Journal, name: &str) {
        let send = |_, packet: &Packet| packet.array().to_owned();
        let sent = journal.emit(&self.stream, event(name), send);
        assert_eq!(sent.is_some(), self.is_here);
        self.got.extend(sent);
    }

    fn change_rooms(&mut self, journal: &Journal, room: &str, joined: bool) {
        let rooms = &mut self.rooms;
        let was_in = rooms.contains(room);
        let change = |_, names: Vec<String>| match joined {
            true => rooms.extend(names),
            false => rooms.retain(|room| !names.contains(room)),
        };
        let names = vec![room.to_owned()];
        journal.change_rooms(&self.stream, names, joined, change, |_, _| was_in);
    }

    fn is_selected(&self, to: &Selection) -> bool {
        let is_in = |room: &String| self.rooms.contains(room);
        let is_it = |id: &String| id == ID;
        !to.except.iter().any(|other| is_in(other) || is_it(other))
            && (to.is_everyone() || to.sockets.iter().any(is_it) || to.rooms.iter().any(is_in))
    }

    fn cut(&mut self, journal: &Journal) {
        self.is_here = false;
        let former = Former {
            pid: "pid".to_owned(),
            id: ID.to_owned(),
            key: self.key,
            stream: self.stream.clone(),
            rooms: self.rooms.iter().cloned().collect(),
            data: Arc::default(),
            user: None,
        };
        journal.end(&self.stream, self.key.session, || Some(former));
    }

    /// Comes back with what it has seen; whether it got what it missed. `meanwhile` happens while
    /// it comes back.
    fn come_back(&mut self, journal: &Journal, meanwhile: impl FnOnce(&mut Self)) -> bool {
        let Some(seen) = self.seen else { return false };
        let Some((former, place)) = journal.take("pid", place(&self.got[seen])) else {
            return false;
        };
        self.key = self.key.back_in(session(self.sockets));
        self.sockets += 1;
        let Some(replay) = journal.resume(self.key.session, former, place, || {}) else {
            return false;
        };
        meanwhile(self);
        // What it has not seen is lost, and comes again.
        self.got.truncate(seen + 1);
        let got = &mut self.got;
        let send = |packets: &[Packet]| {
            got.extend(packets.iter().map(|packet| packet.array().to_owned()));
            true
        };
        self.is_here = true;
        journal.catch_up(self.key.session, replay, send, || {})
    }
}

fn broadcast(journal: &Journal, clients: &mut [&mut Client], to: Selection, name: &str) {
    let mut log = journal.broadcasts();
    let packet = log.push(to.clone(), event(name));
    for client in clients {
        if client.is_here && client.is_selected(&to) {
            client.got.push(packet.array().to_owned());
        }
    }
}

fn names(events: &[String]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.split('"').nth(1).unwrap())
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Emit,
    Broadcast(Selection),
    Join(usize),
    Leave(usize),
    /// The client reads so many of what waits.
    Read(usize),
    Cut,
    Back,
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..ROOMS.len();
    let name = |names: &'static [&str]| select(names).prop_map(str::to_owned);
    let rooms = vec(name(&ROOMS), 0..3);
    let sockets = vec(name(&[ID, "another"]), 0..2);
    let except = vec(
        prop_oneof![3 => name(&ROOMS), 1 => name(&[ID, "another"])],
        0..2,
    );
    let selection = (rooms, sockets, except).prop_map(|(rooms, sockets, except)| Selection {
        rooms,
        sockets,
        except,
        except_socket: None,
    });
    prop_oneof![
        4 => Just(Step::Emit),
        4 => selection.prop_map(Step::Broadcast),
        1 => room.clone().prop_map(Step::Join),
        1 => room.prop_map(Step::Leave),
        3 => (0..6usize).prop_map(Step::Read),
        1 => Just(Step::Cut),
        1 => Just(Step::Back),
    ]
}

/// Runs the steps; the events that were for the client, those that it got, and whether it has always
/// recovered.
fn run(limits: config::Recovery, steps: &[Step]) -> (Vec<String>, Vec<String>, bool) {
    let journal = Journal::new(limits);
    // Others have been here before.
    for number in 0..3 {
        broadcast(&journal, &mut [], everyone(), &format!("old{number}"));
    }
    let mut client = Client::connect(&journal);
    let mut meant = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let name = number.to_string();
        match step {
            Step::Emit => {
                client.emit(&journal, &name);
                meant.push(name);
            }
            Step::Broadcast(to) => {
                broadcast(&journal, &mut [&mut client], to.clone(), &name);
                if client.is_selected(to) {
                    meant.push(name);
                }
            }
            Step::Join(room) if client.is_here => client.change_rooms(&journal, ROOMS[*room], true),
            Step::Leave(room) if client.is_here => {
                client.change_rooms(&journal, ROOMS[*room], false)
            }
            Step::Read(count) if client.is_here && !client.got.is_empty() => {
                let seen = client.seen.map_or(0, |seen| seen + 1) + count;
                client.seen = Some(seen.min(client.got.len() - 1));
            }
            Step::Cut if client.is_here => client.cut(&journal),
            Step::Back if !client.is_here => {
                if client.seen.is_none() {
                    // Who has seen nothing has no place to come back to.
                    break;
                }
                let mut during = Vec::new();
                let recovered = client.come_back(&journal, |client| {
                    for name in [format!("{name}own"), format!("{name}all")] {
                        if name.ends_with("own") {
                            client.emit(&journal, &name);
                        } else {
                            broadcast(&journal, &mut [client], everyone(), &name);
                        }
                        during.push(name);
                    }
                });
                meant.append(&mut during);
                if !recovered {
                    return (meant, client.got, false);
                }
            }
            _ => {}
        }
    }
    if !client.is_here {
        client.got.truncate(client.seen.map_or(0, |seen| seen + 1));
        meant.truncate(client.got.len());
    }
    (meant, client.got, true)
}

proptest! {
    #[test]
    fn who_comes_back_has_every_event_once_and_in_order(steps in vec(step(), 0..120)) {
        let (meant, got, recovered) = run(roomy(), &steps);
        prop_assert!(recovered);
        prop_assert_eq!(meant, names(&got));
    }

    #[test]
    fn with_little_memory_it_is_all_or_nothing(steps in vec(step(), 0..300)) {
        let (meant, got, recovered) = run(limits(6, 4096), &steps);
        if recovered {
            prop_assert_eq!(meant, names(&got));
        }
    }
}

#[test]
fn a_panic_under_the_locks_costs_its_own_event_only() {
    let journal = Journal::new(roomy());
    let stream = journal.begin(session(0));
    let panics = |_: &str| -> Packet { panic!("encoding fails") };
    let alone = || journal.emit(&stream, panics, |_, _| ());
    panic::catch_unwind(AssertUnwindSafe(alone)).unwrap_err();
    let to_all = || drop(journal.broadcasts().push(everyone(), panics));
    panic::catch_unwind(AssertUnwindSafe(to_all)).unwrap_err();

    let sent = journal.emit(&stream, event("alone"), |_, packet| packet.clone());
    assert!(sent.unwrap().array().starts_with("[\"alone\","));
    let sent = journal.broadcasts().push(everyone(), event("to all"));
    assert!(sent.array().starts_with("[\"to all\","));
}

#[test]
fn events_enter_each_channel_in_the_order_of_their_places() {
    const EACH: usize = 2_000;
    let journal = Journal::new(roomy());
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
                    let packet = log.push(everyone(), event(&name));
                    for (_, channel) in streams {
                        channel.lock().unwrap().push(packet.array().to_owned());
                    }
                }
            });
            for (stream, channel) in streams {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let name = format!("own {thread} {number}");
                        journal.emit(stream, event(&name), |_, packet| {
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
            got: Vec::new(),
            ..Client::connect(&journal)
        };
        client.sockets = 100 * (number + 1);
        for seen in (4 * EACH - 600..4 * EACH).step_by(7) {
            client.got = got[..=seen].to_vec();
            client.seen = Some(seen);
            client.cut(&journal);
            assert!(client.come_back(&journal, |_| {}));
            assert_eq!(client.got, *got);
        }
    }
}

#[test]
fn what_a_client_missed_before_it_joined_a_room_is_not_for_it() {
    let journal = Journal::new(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "hello");
    client.seen = Some(0);
    broadcast(&journal, &mut [&mut client], to("a"), "too early");
    client.change_rooms(&journal, "a", true);
    broadcast(&journal, &mut [&mut client], to("a"), "in time");
    client.change_rooms(&journal, "a", false);
    broadcast(&journal, &mut [&mut client], to("a"), "too late");
    client.cut(&journal);
    broadcast(&journal, &mut [&mut client], to("a"), "much too late");
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(names(&client.got), ["hello", "in time"]);
}

#[test]
fn nothing_is_replayed_with_a_gap() {
    // An entry, its packet and the name of its room.
    const EVENT: u64 = 256 + 30 + 25;
    for limits in [limits(3, 1 << 20), limits(100, 3 * EVENT)] {
        let journal = Journal::new(limits);
        let mut client = Client::connect(&journal);
        broadcast(&journal, &mut [&mut client], everyone(), "seen");
        client.seen = Some(0);
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
    let journal = Journal::new(limits(3, 1 << 20));
    let mut client = Client::connect(&journal);
    broadcast(&journal, &mut [&mut client], everyone(), "0");
    client.seen = Some(0);
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

    client.seen = Some(4);
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
    let journal = Journal::new(limits(100, 1));
    let mut client = Client::connect(&journal);
    let large = "x".repeat(1500);
    for number in 0..4 {
        client.emit(&journal, &format!("{number}{large}"));
    }
    client.seen = Some(0);
    client.cut(&journal);
    assert!(!client.come_back(&journal, |_| {}));
    client.seen = Some(1);
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(client.got.len(), 4);

    client.emit(&journal, &"x".repeat(5000));
    client.cut(&journal);
    client.seen = Some(3);
    assert!(
        !client.come_back(&journal, |_| {}),
        "larger than all it may take"
    );
    client.seen = Some(4);
    assert!(client.come_back(&journal, |_| {}));
}

#[test]
fn a_connection_that_leaves_its_socket_behind_is_reached_where_it_is_now() {
    let journal = Journal::new(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.seen = Some(0);
    client.cut(&journal);
    client.emit(&journal, "while it is away");
    assert!(client.come_back(&journal, |_| {}));
    let session = journal.emit(&client.stream, event("x"), |session, _| session);
    assert_eq!(session, Some(client.key.session));
    assert_eq!(names(&client.got), ["seen", "while it is away"]);

    // The end of a former socket is not its end.
    let former = || panic!("nothing is kept");
    journal.end(&client.stream, self::session(0), former);
    client.emit(&journal, "here");
}

#[test]
fn places_that_this_journal_never_gave_open_nothing() {
    let journal = Journal::new(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "own");
    broadcast(&journal, &mut [&mut client], everyone(), "broadcast");
    client.cut(&journal);
    let own = place(&client.got[0]).to_owned();
    let tag = &own[..3];
    for bad in [
        "",
        "0",
        tag,
        "hello",
        &format!("{tag}5"),
        &format!("{tag}0.1"),
        &format!("{tag}9.0"),
    ] {
        assert!(journal.take("pid", bad).is_none(), "{bad}");
    }
    assert!(journal.take("other", &own).is_none());
    assert!(journal.take("pid", &own).is_some());
    assert!(journal.take("pid", &own).is_none(), "only once");
}

#[test]
fn the_names_in_a_selection_count_for_the_size_of_the_log() {
    let journal = Journal::new(limits(1000, 64 << 10));
    let long = Selection {
        except: vec!["x".repeat(10 << 10)],
        ..Selection::default()
    };
    for _ in 0..20 {
        journal.broadcasts().push(long.clone(), event("e"));
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
        (roomy(), true, 1),
        (brief.clone(), false, 1),
        (brief, true, 0),
    ] {
        let is_long = !limits.max_age.is_zero();
        let journal = Journal::new(limits);
        let mut client = Client::connect(&journal);
        broadcast(&journal, &mut [&mut client], everyone(), "seen");
        client.cut(&journal);
        let stream = Arc::downgrade(&client.stream);
        drop(client);
        assert!(stream.upgrade().is_some());
        let mut log = journal.broadcasts();
        log.sweep(is_empty);
        assert_eq!(stream.upgrade().is_some(), is_long);
        assert_eq!((log.next(), log.next() - log.first()), (1, kept));
    }
}

#[test]
fn connections_that_dropped_are_forgotten_when_they_are_old_or_too_many() {
    const MAX_FORMER: usize = 10_000;
    let journal = Journal::new(roomy());
    let mut clients = Vec::new();
    for number in 0..=MAX_FORMER {
        let mut client = Client::connect(&journal);
        client.emit(&journal, "seen");
        let former = Former {
            pid: number.to_string(),
            id: "id".to_owned(),
            key: client.key,
            stream: client.stream.clone(),
            rooms: Vec::new(),
            data: Arc::default(),
            user: None,
        };
        journal.end(&client.stream, client.key.session, || Some(former));
        clients.push(client);
    }
    assert!(journal.take("0", place(&clients[0].got[0])).is_none());
    assert!(journal.take("1", place(&clients[1].got[0])).is_some());

    let brief = config::Recovery {
        max_age: Duration::ZERO,
        ..roomy()
    };
    let journal = Journal::new(brief);
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.seen = Some(0);
    client.cut(&journal);
    assert!(!client.come_back(&journal, |_| {}));
    assert!(!journal.broadcasts().is_waited_for());
}
