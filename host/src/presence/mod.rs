//! Who is present in rooms: each user once, with the number of its connections and some data.
//!
//! A connection that drops is away for as long as its client may come back: a page that is loaded again
//! leaves nobody. Who came and went is told to the room, some at once.
//!
//! On a server on its own what is said happens at once; in a cluster when it was read back ([`shared`]).

mod before;
mod place;
mod shared;
mod steps;
mod table;
mod who;

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    place::Place,
    shared::{Answered, Shared, Side, entered},
    steps::{Done, Its, Step},
    table::{Change, Entering, NOBODY, Table},
};
pub(crate) use self::{
    steps::News,
    table::{Full, Piece},
    who::Who,
};
use crate::{
    config,
    message::{AROUND_PRESENT, Arguments, Message, check_inside},
    ordered_lock::{OrderedMutex, rank},
    rarely::Rarely,
    reserved::is_reserved,
    transport::Selection,
};

/// The event that tells a room who came and went.
pub(crate) const EVENT: &str = "presence";

/// How long another server may take to tell what it knows.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Servers that have said nothing for so long when this one starts, or has missed something, are not waited for.
const THERE_WITHIN: Duration = Duration::from_secs(5);

/// A connection in a room, by the namespace and its public id.
pub(crate) struct Lost {
    pub namespace: String,
    pub connection: String,
}

/// Somebody who is present in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user, or the connection of somebody anonymous.
    pub who: Who,
    /// How many connections it has; 0 while it is away.
    pub connections: u32,
    /// What its plugin says of it, as JSON text.
    pub data: Arc<str>,
}

/// Who is present in the rooms of all namespaces.
pub struct Presence {
    bounds: config::Presence,
    state: OrderedMutex<{ rank::PRESENCE }, State>,
    /// Something is to be told, to be said or to be waited for.
    changed: Notify,
    /// What was last answered to the question for another server's table.
    answered: watch::Sender<Option<Answered>>,
    /// Entries were missed, or others have missed this server's.
    interrupted: Notify,
    /// Whether it has been known who is present by other servers, or it was given up to ask.
    is_known: AtomicBool,
    complaints: Rarely,
}

struct State {
    side: Side,
    /// None on a server on its own.
    shared: Option<Shared>,
}

impl State {
    /// Who is present, as clients here see it.
    fn table(&self) -> &Table {
        let ahead = self.shared.as_ref().and_then(Shared::ahead);
        &ahead.unwrap_or(&self.side).table
    }
}

impl Presence {
    /// Nobody yet, on a server on its own or on the one of a cluster with this name. A connection that dropped is away
    /// for as long as it may come back, if nothing else is configured.
    pub(crate) fn new(
        bounds: config::Presence,
        recovery: &config::Recovery,
        server: Option<&str>,
    ) -> Self {
        let shared = server.map(|name| Shared::new(name, bounds.bytes.as_usize()));
        let window = match recovery.enabled {
            true => recovery.max_age,
            false => Duration::ZERO,
        };
        let grace = bounds.grace.unwrap_or(window);
        Self {
            state: OrderedMutex::new(State {
                side: Side::new(Table::new(&bounds, grace)),
                shared,
            }),
            bounds,
            changed: Notify::new(),
            answered: watch::Sender::new(None),
            interrupted: Notify::new(),
            is_known: server.is_none().into(),
            complaints: Rarely::default(),
        }
    }

    /// Who is present, for the process that follows, where nobody comes or goes any more.
    pub(crate) fn save(&self) -> Vec<Piece> {
        self.state.lock().side.table.pieces(Instant::now())
    }

    /// Goes on with who was present by then in the process before. Nobody is here yet.
    pub(crate) fn restore(&self, pieces: Vec<Piece>, then: Instant) {
        let mut state = self.state.lock();
        for piece in pieces {
            state.side.table.restore(piece, then);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The connection with this id is present in a room, or is with other data.
    pub fn enter(
        &self,
        (namespace, room): (&str, &str),
        connection: &str,
        who: Who,
        data: Arc<str>,
    ) -> Result<(), Full> {
        let place = Place::new(namespace, room);
        let mut state = self.state.lock();
        state.table().has_place(&place, &who)?;
        let State { side, shared } = &mut *state;
        match shared {
            Some(shared) => {
                let entered = entered(&place, connection, who, &data);
                shared.say(Step::Enter(vec![entered]));
            }
            None => side.table.enter(Entering {
                place: &place,
                connection,
                who: &who,
                data: &data,
                server: NOBODY,
            }),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether one more could be present in a room, as far as is known now.
    pub fn has_place(&self, (namespace, room): (&str, &str), who: &Who) -> Result<(), Full> {
        let place = Place::new(namespace, room);
        self.state.lock().table().has_place(&place, who)
    }

    /// It is not present in these rooms any more.
    pub fn leave(&self, namespace: &str, rooms: &[String], connection: &str) {
        self.change(namespace, rooms, connection, Step::Leave, |table, place| {
            table.leave(place, connection);
        });
    }

    /// It has dropped, and may come back.
    pub fn drop_out(&self, namespace: &str, rooms: &[String], connection: &str) {
        let (now, mark) = (Instant::now(), rand::random());
        let say = |its| Step::Drop(its, mark);
        self.change(namespace, rooms, connection, say, |table, place| {
            table.drop_out(place, connection, now, mark);
        });
    }

    /// It is back; whether it was present in one of these rooms.
    pub fn come_back(&self, namespace: &str, rooms: &[String], connection: &str) -> bool {
        let is_present = {
            let state = self.state.lock();
            let knows = |room| {
                let place = Place::new(namespace, room);
                state.table().knows(&place, connection)
            };
            state
                .shared
                .as_ref()
                .is_some_and(|it| it.may_know(connection))
                || rooms.iter().any(|room| knows(room))
        };
        if is_present {
            self.change(namespace, rooms, connection, Step::Back, |table, place| {
                table.come_back(place, connection);
            });
        }
        is_present
    }

    /// It belongs to somebody else from now on.
    pub fn identify(&self, namespace: &str, rooms: &[String], connection: &str, who: &Who) {
        let say = |its| Step::Become(its, who.clone());
        self.change(namespace, rooms, connection, say, |table, place| {
            table.identify(place, connection, who, NOBODY);
        });
    }

    /// Something becomes of a connection: in a cluster what is to be said, else what happens in each of the rooms.
    fn change(
        &self,
        namespace: &str,
        rooms: &[String],
        connection: &str,
        say: impl FnOnce(Its) -> Step,
        perform: impl Fn(&mut Table, &Place),
    ) {
        // In those of the host nobody is present.
        let mut rooms = rooms.iter().filter(|room| !is_reserved(room)).peekable();
        if rooms.peek().is_none() {
            return;
        }
        let mut state = self.state.lock();
        let State { side, shared } = &mut *state;
        match shared {
            Some(shared) => shared.say(say(Its {
                namespace: namespace.to_owned(),
                rooms: rooms.cloned().collect(),
                connection: connection.to_owned(),
            })),
            None => rooms.for_each(|room| perform(&mut side.table, &Place::new(namespace, room))),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Who is present in a room, by their names.
    pub fn members(&self, namespace: &str, room: &str) -> Vec<Member> {
        let place = Place::new(namespace, room);
        self.state.lock().table().members(&place)
    }

    /// How many these are.
    pub fn count(&self, namespace: &str, room: &str) -> usize {
        self.state
            .lock()
            .table()
            .count(&Place::new(namespace, room))
    }

    /// Whether rooms are still to be told of somebody.
    pub(crate) fn has_news(&self) -> bool {
        self.state.lock().side.table.has_changes()
    }

    /// How much data there may be of one who is present.
    pub fn max_data(&self) -> usize {
        self.bounds.data.as_usize()
    }

    /// Has rooms told who came and went on a server on its own, until `stop`: `emit` gets the namespace, the room, and
    /// the arguments of an [`EVENT`].
    pub(crate) async fn tell(
        &self,
        emit: impl Fn(&str, Selection, Message),
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            let expiry = self.state.lock().side.table.next_expiry();
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(expiry) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = sleep(self.bounds.batch) => {}
                () = stop.cancelled() => return,
            }
            let changes = {
                let table = &mut self.state.lock().side.table;
                table.expire(Instant::now());
                table.take_changes()
            };
            for (place, change) in changes {
                let room = Selection::room(place.room());
                emit(place.namespace(), room, told(place.room(), &change));
            }
        }
    }

    /// The same in a cluster, where `send` sends what is said here. It is said where connections are locked, and sending
    /// may do what somebody else has sent.
    pub(crate) async fn tell_together(
        &self,
        emit: impl Fn(&str, Selection, Message),
        send: impl Fn(News),
    ) {
        loop {
            let due = {
                let state = self.state.lock();
                let shared = state.shared.as_ref();
                shared.and_then(|shared| shared.next_due(&state.side))
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(due) => {}
            }
            let changes = {
                let State { side, shared } = &mut *self.state.lock();
                let Some(shared) = shared else { return };
                shared.expire(side);
                shared.take_due(side)
            };
            self.take_said().into_iter().for_each(&send);
            for (place, change) in changes {
                let room = Selection::room(place.room());
                emit(place.namespace(), room, told(place.room(), &change));
            }
        }
    }

    /// What was said here and is to be sent, in this order.
    pub(crate) fn take_said(&self) -> Vec<News> {
        let mut state = self.state.lock();
        let said = state.shared.as_mut().map(Shared::take_outbox);
        said.unwrap_or_default()
    }

    /// Does what a server has said. Returns which of the connections here others have taken for gone.
    pub(crate) fn hear(&self, news: News) -> Vec<Lost> {
        let (done, answered) = {
            let State { side, shared } = &mut *self.state.lock();
            let Some(shared) = shared else {
                return Vec::new();
            };
            shared.hear(side, news, self.bounds.batch)
        };
        if answered.is_some() {
            self.answered.send_replace(answered);
        }
        self.changed.notify_one();
        self.complain(&done);
        let lost = done.lost.into_iter();
        lost.map(|(place, connection)| Lost {
            namespace: place.namespace().to_owned(),
            connection: connection.into(),
        })
        .collect()
    }

    /// Does what this server has said, before it is in the stream.
    pub(crate) fn do_alone(&self, news: &News) {
        let done = {
            let mut state = self.state.lock();
            let shared = state.shared.as_mut();
            shared.map(|shared| shared.do_alone(news, self.bounds.batch))
        };
        self.changed.notify_one();
        self.complain(&done.unwrap_or_default());
    }

    fn complain(&self, done: &Done) {
        if let Some(full) = &done.full {
            self.complaints.say(|| {
                tracing::warn!(
                    %full,
                    "somebody whom another server of the cluster has let in is not present here: all need the same [presence]"
                );
            });
        }
    }

    /// A room is told something by a server of the cluster: what of it its clients have not been told.
    pub(crate) fn hear_told(&self, namespace: &str, message: &Message) -> Option<Message> {
        self.is_told(namespace, message, |shared, side, place, change| {
            shared.is_told(side, place, change, self.bounds.batch)
        })
    }

    /// The same of what was told before this server has started.
    pub(crate) fn hear_told_before(&self, namespace: &str, message: &Message) -> Option<Message> {
        self.is_told(namespace, message, |shared, _, place, change| {
            shared.is_told_before(place, change)
        })
    }

    /// The same before it is in the stream.
    pub(crate) fn hear_told_alone(&self, namespace: &str, message: &Message) -> Option<Message> {
        self.is_told(namespace, message, |shared, _, place, change| {
            shared.is_told_alone(place, change, self.bounds.batch)
        })
    }

    fn is_told(
        &self,
        namespace: &str,
        message: &Message,
        note: impl FnOnce(&mut Shared, &mut Side, &Place, Change) -> Change,
    ) -> Option<Message> {
        let (room, change) = read_told(message)?;
        let new = {
            let State { side, shared } = &mut *self.state.lock();
            note(
                shared.as_mut()?,
                side,
                &Place::new(namespace, &room),
                change,
            )
        };
        self.changed.notify_one();
        (new != Change::default()).then(|| told(&room, &new))
    }

    /// Clients here get what is not in the stream yet, or all of it is.
    pub(crate) fn set_ahead(&self, is_ahead: bool) {
        let State { side, shared } = &mut *self.state.lock();
        if let Some(shared) = shared {
            shared.set_ahead(is_ahead, side);
        }
        self.changed.notify_one();
    }

    /// Entries of the stream were lost, here or for others.
    pub(crate) fn is_interrupted(&self) {
        let State { side, shared } = &mut *self.state.lock();
        if let Some(shared) = shared {
            shared.is_interrupted(side);
        }
        self.interrupted.notify_one();
        self.changed.notify_one();
    }

    /// These servers of the cluster are there, and no others.
    pub(crate) fn others_are(&self, there: &[String]) {
        let State { side, shared } = &mut *self.state.lock();
        if let Some(shared) = shared {
            shared.lose_others(side, there);
        }
        self.changed.notify_one();
    }

    /// Whether this server, since it has started, has learnt who is present by others, or has given up to.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    fn now_known(&self) {
        self.is_known.store(true, Ordering::Release);
    }

    /// Asks other servers who is present, at the start and whenever entries were lost.
    /// These are the servers that it `hears_of`.
    pub(crate) async fn catch_up(&self, hears_of: watch::Receiver<Vec<String>>) {
        loop {
            let asked = async {
                tokio::select! {
                    () = self.ask_others(hears_of.clone()) => {}
                    // If nobody has, nobody does.
                    () = sleep(THERE_WITHIN) => {}
                }
                self.with_shared(Shared::is_whole);
                self.now_known();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = asked => {}
                () = self.interrupted.notified() => {}
            }
        }
    }

    /// Asks one after the other, also those who say only later that they are there, until one knows of everybody.
    async fn ask_others(&self, mut hears_of: watch::Receiver<Vec<String>>) {
        hears_of.mark_changed();
        let mut answered = HashSet::new();
        while hears_of.changed().await.is_ok() {
            let servers = hears_of.borrow_and_update().clone();
            if servers.is_empty() {
                continue;
            }
            for server in servers {
                if self.is_own(&server) || answered.contains(&server) {
                    continue;
                }
                match self.ask(&server).await {
                    Some(true) => return,
                    Some(false) => answered.insert(server),
                    None => continue,
                };
            }
            self.with_shared(Shared::tells);
            self.now_known();
        }
    }

    fn is_own(&self, server: &str) -> bool {
        let state = self.state.lock();
        state.shared.as_ref().is_some_and(|it| it.is_own(server))
    }

    fn with_shared(&self, change: impl FnOnce(&mut Shared)) {
        if let Some(shared) = &mut self.state.lock().shared {
            change(shared);
        }
        self.changed.notify_one();
    }

    /// Asks a server; whether it knows of everybody, if it answers.
    async fn ask(&self, server: &str) -> Option<bool> {
        let id = rand::random();
        let mut answers = self.answered.subscribe();
        let whom = server.to_owned();
        self.with_shared(|shared| shared.say(Step::Ask { whom, id }));
        let its = answers.wait_for(|it| it.is_some_and(|(its, _)| its == id));
        match timeout(ANSWERED_WITHIN, its).await {
            Ok(Ok(answered)) => answered.map(|(_, is_whole)| is_whole),
            _ => {
                tracing::debug!(server, "it does not say who is present");
                None
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether data of a user is JSON that all can read.
fn is_sound(data: &str) -> bool {
    check_inside(data, AROUND_PRESENT).is_ok() && serde_json::from_str::<&RawValue>(data).is_ok()
}

/// One who is present, as clients are told.
#[derive(Serialize, Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anonymous: bool,
    connections: u32,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What rooms are told.
#[derive(Serialize, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow)]
    joined: Vec<Shown<'a>>,
    #[serde(borrow)]
    left: Vec<Shown<'a>>,
    #[serde(borrow)]
    updated: Vec<Shown<'a>>,
}

fn told(room: &str, change: &Change) -> Message {
    let told = Told {
        room: room.into(),
        joined: change.joined.iter().filter_map(shown).collect(),
        left: change.left.iter().filter_map(shown).collect(),
        updated: change.updated.iter().filter_map(shown).collect(),
    };
    Message::text(Arguments::from_serialized(&[&told]))
}

/// The inverse of [`told`].
fn read_told(message: &Message) -> Option<(String, Change)> {
    let (told,): (Told<'_>,) = serde_json::from_str(message.arguments.as_str()).ok()?;
    let members = |shown: Vec<Shown<'_>>| shown.into_iter().map(Shown::member).collect();
    let change = Change {
        joined: members(told.joined),
        left: members(told.left),
        updated: members(told.updated),
    };
    Some((told.room.into_owned(), change))
}

impl Shown<'_> {
    fn member(self) -> Member {
        let id = Arc::from(self.id);
        Member {
            who: match self.anonymous {
                true => Who::Anonymous(id),
                false => Who::User(id),
            },
            connections: self.connections,
            data: self.data.get().into(),
        }
    }
}

/// None for data that is no JSON, which nobody enters with.
fn shown(member: &Member) -> Option<Shown<'_>> {
    Some(Shown {
        id: member.who.id().into(),
        anonymous: member.who.is_anonymous(),
        connections: member.connections,
        data: serde_json::from_str(&member.data).ok()?,
    })
}
