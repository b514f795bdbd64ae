//! The same table on all servers of a cluster.
//!
//! What becomes of a connection in a room is a step ([`steps`](super::steps)) that its server sends through the
//! stream and does when it reads it back, as all others do. So all have the same table, and what clients have been
//! told is a part of it: what one server tells, the others do not tell again.
//!
//! Who tells of a change is the server that said it and, if that says nothing, any other one a moment later. The same
//! holds for connections that do not come back.
//!
//! A server that has just started, or has missed entries, asks another one for its table as it is where the question
//! stands in the stream, and does what stands behind that once more on top of it. While Redis is away, what is said
//! here happens in a copy, which is forgotten when all of it is in the stream.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Place,
    before::Before,
    steps::{Done, Entered, Expired, News, Step},
    table::{Change, Piece, Table},
};

/// What a server does not say is said by another one after this, and up to as much later: not by all at once.
const OTHERS: Duration = Duration::from_secs(1);

/// What was told and has not come back from the stream is told again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// So many connections go into one entry.
const BATCH: usize = 100;

/// So much may come in, in entries, before another server's table has: then it is asked for again.
const MOST_BEHIND: usize = 100_000;

/// A table, and when its rooms are to be told what has changed.
#[derive(Clone)]
pub(super) struct Side {
    pub table: Table,
    due: HashMap<Place, Due>,
}

/// When a room is to be told.
#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    /// Whether this server has told it what there was, and only waits for that to be read.
    was_told: bool,
}

/// What a server of a cluster has beside the table.
pub(super) struct Shared {
    /// This server's name.
    own: Arc<str>,
    /// The number of its next step.
    next: u64,
    /// Its steps that are to be sent.
    outbox: Vec<News>,
    /// Its steps that were not read back.
    pending: VecDeque<News>,
    /// How it is here while Redis is away.
    ahead: Option<Side>,
    /// Whether it knows what others have told, as far as anybody has said.
    tells: bool,
    /// What it has heard of that, until it has known it once.
    before: Option<Before>,
    /// Whether it knows of everybody, so that others may have its table.
    is_whole: bool,
    catching: Option<Catching>,
}

/// Another server was asked for its table.
struct Catching {
    id: u64,
    pieces: Vec<Piece>,
    /// What stands behind the question.
    behind: Vec<Heard>,
}

/// What changes a table.
enum Heard {
    News(News),
    Told(Place, Change),
}

/// What another server has answered: the number of the question, and whether that server knows of everybody.
pub(super) type Answered = (u64, bool);

impl Side {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            due: HashMap::new(),
        }
    }

    /// What has changed is to be told at this time.
    fn note(&mut self, at: Instant) {
        for place in self.table.take_changed() {
            self.is_due(place, at);
        }
    }

    /// A room is to be told at this time, or before if that was so.
    fn is_due(&mut self, place: Place, at: Instant) {
        let new = Due {
            at,
            was_told: false,
        };
        let due = self.due.entry(place).or_insert(new);
        if at < due.at {
            *due = new;
        }
    }

    fn perform(&mut self, news: &News, at: Instant, now: Instant) -> Done {
        let done = self.table.perform(&news.step, &news.server, now);
        self.note(at);
        done
    }

    /// A room is told this; what is still to be told is at this time, or before if that was so. Returns what of it is
    /// new.
    fn is_told(&mut self, place: &Place, change: Change, at: Instant) -> Change {
        let new = self.table.is_told(place, change);
        if self.due.get(place).is_some_and(|due| due.was_told) {
            self.due.remove(place);
        }
        match self.table.is_to_be_told(place) {
            true => self.is_due(place.clone(), at),
            false => {
                self.due.remove(place);
            }
        }
        new
    }

    fn take_due(&mut self, now: Instant) -> Vec<(Place, Change)> {
        let mut changes = Vec::new();
        let table = &mut self.table;
        self.due.retain(|place, due| {
            if due.at > now {
                return true;
            }
            let change = table.change(place);
            if change == Change::default() {
                return false;
            }
            *due = Due {
                at: now + AGAIN,
                was_told: true,
            };
            changes.push((place.clone(), change));
            true
        });
        changes
    }

    fn next_due(&self) -> Option<Instant> {
        self.due.values().map(|due| due.at).min()
    }
}

impl Shared {
    /// Nothing yet, for the server with this name. Of what others have told it notes at most so many bytes until it
    /// has a table.
    pub(super) fn new(own: &str, most: usize) -> Self {
        Self {
            own: own.into(),
            next: 0,
            outbox: Vec::new(),
            pending: VecDeque::new(),
            ahead: None,
            tells: false,
            before: Some(Before::new(most)),
            is_whole: false,
            catching: None,
        }
    }

    /// Whether this is the name of this server.
    pub(super) fn is_own(&self, server: &str) -> bool {
        *self.own == *server
    }

    /// Nobody who was asked knows more.
    pub(super) fn tells(&mut self) {
        self.tells = true;
        self.before = None;
    }

    /// It knows of everybody.
    pub(super) fn is_whole(&mut self) {
        self.tells();
        self.is_whole = true;
    }

    /// Something was missed.
    pub(super) fn is_interrupted(&mut self, side: &Side) {
        self.tells = false;
        self.is_whole = false;
        self.say_all(side);
    }

    /// Whether a connection may be in rooms though the table does not say so.
    pub(super) fn may_know(&self, connection: &str) -> bool {
        let is_pending = || self.pending.iter().any(|it| it.step.is_of(connection));
        !self.is_whole || is_pending()
    }

    /// Says something to all servers.
    pub(super) fn say(&mut self, step: Step) {
        let news = News {
            server: self.own.to_string(),
            number: self.next,
            step,
        };
        self.next += 1;
        if !matches!(news.step, Step::Ask { .. } | Step::Table { .. }) {
            self.pending.push_back(news.clone());
        }
        self.outbox.push(news);
    }

    /// What is to be sent, in this order.
    pub(super) fn take_outbox(&mut self) -> Vec<News> {
        std::mem::take(&mut self.outbox)
    }

    /// The table as clients here see it, if that is not the one of all servers.
    pub(super) fn ahead(&self) -> Option<&Side> {
        self.ahead.as_ref()
    }

    /// Redis is away, or what has happened here meanwhile is in the stream.
    pub(super) fn set_ahead(&mut self, is_ahead: bool, side: &Side) {
        match is_ahead {
            true if self.ahead.is_some() => {}
            true => self.ahead = Some(side.clone()),
            false => self.ahead = None,
        }
    }

    /// When those are to be told of a change that this server or another one has said.
    fn due(&self, is_own: bool, batch: Duration, now: Instant) -> Instant {
        let others = || OTHERS.mul_f64(1.0 + rand::random::<f64>());
        now + batch + (!is_own).then(others).unwrap_or_default()
    }

    /// Does a step that was read, or answers it. The second thing is what was answered to this server.
    pub(super) fn hear(
        &mut self,
        side: &mut Side,
        news: News,
        batch: Duration,
    ) -> (Done, Option<Answered>) {
        let now = Instant::now();
        let is_own = *news.server == *self.own;
        if is_own {
            while self
                .pending
                .pop_front_if(|it| it.number <= news.number)
                .is_some()
            {}
        }
        match news.step {
            Step::Ask { id, .. } if is_own => {
                self.catching = Some(Catching {
                    id,
                    pieces: Vec::new(),
                    behind: Vec::new(),
                });
                (Done::default(), None)
            }
            Step::Ask { id, whom } if *whom == *self.own => {
                self.answer(side, id, now);
                (Done::default(), None)
            }
            Step::Table {
                id,
                pieces,
                is_last,
                is_whole,
            } => {
                let answered = self.take_pieces(side, id, pieces, is_last, is_whole, batch);
                (Done::default(), answered)
            }
            Step::Ask { .. } => (Done::default(), None),
            _ => {
                let at = self.due(is_own, batch, now);
                let mut done = side.perform(&news, at, now);
                let is_own =
                    matches!(&news.step, Step::Gone { server, .. } if **server == *self.own);
                done.lost.retain(|_| is_own);
                self.is_behind(Heard::News(news));
                (done, None)
            }
        }
    }

    /// Does a step of this server's that is not in the stream yet.
    pub(super) fn do_alone(&mut self, news: &News, batch: Duration) -> Done {
        let now = Instant::now();
        let Some(ahead) = &mut self.ahead else {
            return Done::default();
        };
        ahead.perform(news, now + batch, now)
    }

    /// A room is told this by a server; returns what of it is new.
    pub(super) fn is_told(
        &mut self,
        side: &mut Side,
        place: &Place,
        change: Change,
        batch: Duration,
    ) -> Change {
        let at = self.due(false, batch, Instant::now());
        self.is_behind(Heard::Told(place.clone(), change.clone()));
        match &mut self.before {
            Some(before) => {
                side.is_told(place, change.clone(), at);
                before.is_told(place, change)
            }
            None => side.is_told(place, change, at),
        }
    }

    /// The same of what was told before this server has started.
    pub(super) fn is_told_before(&mut self, place: &Place, change: Change) -> Change {
        match &mut self.before {
            Some(before) => before.is_told(place, change),
            None => change,
        }
    }

    /// The same before it is in the stream.
    pub(super) fn is_told_alone(
        &mut self,
        place: &Place,
        change: Change,
        batch: Duration,
    ) -> Change {
        let Some(ahead) = &mut self.ahead else {
            return Change::default();
        };
        ahead.is_told(place, change, Instant::now() + batch)
    }

    fn is_behind(&mut self, heard: Heard) {
        if let Some(catching) = &mut self.catching {
            catching.behind.push(heard);
            if catching.behind.len() > MOST_BEHIND {
                self.catching = None;
            }
        }
    }

    /// Another server asks for the table.
    fn answer(&mut self, side: &Side, id: u64, now: Instant) {
        let mut pieces = side.table.pieces(now).into_iter().peekable();
        loop {
            let some: Vec<_> = pieces.next().into_iter().collect();
            let is_last = pieces.peek().is_none();
            self.say(Step::Table {
                id,
                pieces: some,
                is_last,
                is_whole: self.is_whole,
            });
            if is_last {
                return;
            }
        }
    }

    fn take_pieces(
        &mut self,
        side: &mut Side,
        id: u64,
        pieces: Vec<Piece>,
        is_last: bool,
        is_whole: bool,
        batch: Duration,
    ) -> Option<Answered> {
        let catching = self.catching.as_mut().filter(|it| it.id == id)?;
        catching.pieces.extend(pieces);
        if !is_last {
            return None;
        }
        let Catching { pieces, behind, .. } = self.catching.take()?;
        let now = Instant::now();
        let mut new = Side::new(side.table.empty());
        for piece in pieces {
            new.table.restore(piece, now);
        }
        new.note(self.due(false, batch, now));
        for heard in behind {
            match heard {
                Heard::News(news) => {
                    let is_own = *news.server == *self.own;
                    new.perform(&news, self.due(is_own, batch, now), now);
                }
                Heard::Told(place, change) => {
                    new.is_told(&place, change, self.due(false, batch, now));
                }
            }
        }
        if is_whole {
            *side = new;
        } else {
            // Both know of some.
            for piece in new.table.pieces(now) {
                side.table.restore(piece, now);
            }
            side.note(self.due(false, batch, now));
        }
        Some((id, is_whole))
    }

    /// Says which connections are present by this server: others may have missed it.
    fn say_all(&mut self, side: &Side) {
        let mut table = side.table.clone();
        let now = Instant::now();
        for news in &self.pending {
            table.perform(&news.step, &news.server, now);
        }
        let entered = table.entered(&self.own);
        let connections = entered.iter().map(|it| it.connection.clone()).collect();
        for batch in entered.chunks(BATCH) {
            self.say(Step::Stay(batch.to_vec()));
        }
        self.say(Step::Only {
            connections,
            mark: rand::random(),
        });
    }

    /// The servers that have connections in rooms and are none of these are gone.
    pub(super) fn lose_others(&mut self, side: &Side, there: &[String]) {
        let is_there = |name: &str| *name == *self.own || there.iter().any(|it| it == name);
        let gone = side.table.servers().filter(|name| !is_there(name));
        let gone: Vec<_> = gone.map(ToString::to_string).collect();
        for server in gone {
            self.say(Step::Gone {
                server,
                mark: rand::random(),
            });
        }
    }

    /// Says which connections do not come back any more.
    pub(super) fn expire(&mut self, side: &mut Side) {
        let side = self.ahead.as_mut().unwrap_or(side);
        let expired = side
            .table
            .take_expired(Instant::now(), &self.own, 2 * OTHERS);
        let expired: Vec<_> = expired
            .into_iter()
            .map(|away| Expired {
                namespace: away.place.namespace().to_owned(),
                room: away.place.room().to_owned(),
                connection: away.connection.into(),
                mark: away.mark,
            })
            .collect();
        for batch in expired.chunks(BATCH) {
            self.say(Step::Expire(batch.to_vec()));
        }
    }

    /// What rooms are to be told now.
    pub(super) fn take_due(&mut self, side: &mut Side) -> Vec<(Place, Change)> {
        let now = Instant::now();
        match &mut self.ahead {
            Some(ahead) => ahead.take_due(now),
            // What others have told is not known yet.
            None if !self.tells => Vec::new(),
            None => side.take_due(now),
        }
    }

    /// When there is something to do again.
    pub(super) fn next_due(&self, side: &Side) -> Option<Instant> {
        let tells = self.ahead.is_some() || self.tells;
        let side = self.ahead.as_ref().unwrap_or(side);
        let due = side.next_due().filter(|_| tells);
        due.into_iter().chain(side.table.next_expiry()).min()
    }
}

/// A connection that enters a room.
pub(super) fn entered(place: &Place, connection: &str, who: super::Who, data: &str) -> Entered {
    Entered {
        namespace: place.namespace().to_owned(),
        room: place.room().to_owned(),
        connection: connection.to_owned(),
        who,
        data: data.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Who, steps::Its},
        *,
    };
    use crate::config;

    const BATCH: Duration = Duration::from_millis(1);

    struct Server {
        shared: Shared,
        side: Side,
    }

    impl Server {
        fn new(name: &str) -> Self {
            let table = Table::new(&config::Presence::default(), Duration::from_secs(60));
            Self {
                shared: Shared::new(name, 10_000),
                side: Side::new(table),
            }
        }

        fn hears(&mut self, said: &[News]) {
            for news in said {
                self.shared.hear(&mut self.side, news.clone(), BATCH);
            }
        }

        /// What it says, which it hears itself.
        fn says(&mut self, steps: impl IntoIterator<Item = Step>) -> Vec<News> {
            steps.into_iter().for_each(|step| self.shared.say(step));
            let said = self.shared.take_outbox();
            self.hears(&said);
            said
        }

        fn counts(&self) -> Vec<(String, u32)> {
            let members = self.side.table.members(&room()).into_iter();
            members
                .map(|it| (it.who.id().to_owned(), it.connections))
                .collect()
        }
    }

    fn room() -> Place {
        Place::new("/", "r")
    }

    fn enter(connection: &str, user: &str) -> Step {
        let who = Who::User(user.into());
        Step::Enter(vec![entered(&room(), connection, who, "1")])
    }

    #[test]
    fn what_stands_behind_the_question_for_a_table_happens_to_the_one_that_is_answered() {
        let [mut asked, mut late, mut third] = ["asked", "late", "third"].map(Server::new);
        asked.shared.is_whole();
        asked.says([enter("1", "ada")]);
        let whom = "asked".to_owned();
        asked.hears(&late.says([Step::Ask { whom, id: 7 }]));
        let answer = asked.says([]);
        let meanwhile = third.says([enter("2", "bob")]);
        late.hears(&meanwhile);
        late.hears(&answer);
        let both = [("ada".to_owned(), 1), ("bob".to_owned(), 1)];
        assert_eq!(late.counts(), both);
        asked.hears(&meanwhile);
        assert_eq!(asked.counts(), both);
    }

    #[test]
    fn what_another_server_tells_a_room_puts_off_nothing_that_this_one_is_to_tell() {
        let [mut one, mut other] = ["one", "other"].map(Server::new);
        for server in [&mut one, &mut other] {
            server.shared.is_whole();
        }
        other.hears(&one.says([enter("1", "ada")]));
        one.hears(&other.says([enter("2", "bob")]));
        let told = Change {
            joined: vec![other.side.table.members(&room()).remove(1)],
            ..Change::default()
        };
        one.shared.is_told(&mut one.side, &room(), told, BATCH);
        let due = one
            .shared
            .next_due(&one.side)
            .expect("ada is to be told of");
        assert!(due <= Instant::now() + BATCH);
    }

    #[test]
    fn who_may_not_have_been_heard_says_its_connections_again_and_that_there_are_no_others() {
        let [mut one, mut other] = ["one", "other"].map(Server::new);
        other.hears(&one.says([enter("1", "ada")]));
        let missed = [enter("2", "bob"), enter("1", "eve")];
        one.says(missed);
        other.hears(&one.says([enter("3", "joe")]));
        let left = Its {
            namespace: "/".to_owned(),
            rooms: vec!["r".to_owned()],
            connection: "3".to_owned(),
        };
        one.says([Step::Leave(left)]);
        one.shared.is_interrupted(&one.side);
        other.hears(&one.says([]));
        assert_eq!(one.counts(), [("bob".to_owned(), 1), ("eve".to_owned(), 1)]);
        let others = other.counts().into_iter().filter(|(_, count)| *count > 0);
        assert_eq!(
            others.collect::<Vec<_>>(),
            one.counts(),
            "but for the grace"
        );
    }
}
