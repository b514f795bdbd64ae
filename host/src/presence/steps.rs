//! What a server of a cluster says of its connections in rooms. All servers have the same table, since they do the
//! same steps in the order of the stream: only who says a step looks at a clock, or at a bound.

use std::{collections::HashSet, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    Place, Who, is_sound,
    table::{Entering, Full, NOBODY, Piece, State, Table},
};

/// A step of a server's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct News {
    /// The server's name.
    pub(super) server: String,
    /// The server counts its steps.
    pub(super) number: u64,
    pub(super) step: Step,
}

/// What becomes of connections in rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Step {
    /// They are present from now on, or are with other data.
    Enter(Vec<Entered>),
    /// They are present, as they were.
    Stay(Vec<Entered>),
    Leave(Its),
    /// It has dropped, which gets this mark.
    Drop(Its, u32),
    /// Its client is back, with this server.
    Back(Its),
    /// It is somebody else's.
    Become(Its, Who),
    /// These do not come back any more.
    Expire(Vec<Expired>),
    /// The server has no other connections in rooms.
    Only {
        connections: Vec<String>,
        mark: u32,
    },
    /// Another server is gone.
    Gone {
        server: String,
        mark: u32,
    },
    /// Asks another server for its table, as it is by then.
    Ask {
        whom: String,
        id: u64,
    },
    /// Some of that.
    Table {
        id: u64,
        pieces: Vec<Piece>,
        is_last: bool,
        /// Whether the server that was asked knows of everybody.
        is_whole: bool,
    },
}

/// A connection in a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entered {
    pub namespace: String,
    pub room: String,
    pub connection: String,
    pub who: Who,
    /// JSON.
    pub data: String,
}

/// A connection in some rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Its {
    pub namespace: String,
    pub rooms: Vec<String>,
    pub connection: String,
}

/// One of the times that a connection has dropped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Expired {
    pub namespace: String,
    pub room: String,
    pub connection: String,
    pub mark: u32,
}

/// What came of a step.
#[derive(Default)]
pub(super) struct Done {
    /// The connections that were with a server which is gone with it, of which this one is told only where it is that.
    pub lost: Vec<(Place, Box<str>)>,
    /// Why somebody was not let in.
    pub full: Option<Full>,
}

impl Step {
    /// Whether it is of this connection.
    pub(super) fn is_of(&self, connection: &str) -> bool {
        match self {
            Self::Enter(entered) | Self::Stay(entered) => {
                entered.iter().any(|it| it.connection == connection)
            }
            Self::Leave(its) | Self::Drop(its, _) | Self::Back(its) | Self::Become(its, _) => {
                its.connection == connection
            }
            _ => false,
        }
    }
}

impl Its {
    fn places(&self) -> impl Iterator<Item = Place> {
        let rooms = self.rooms.iter();
        rooms.map(|room| Place::new(&self.namespace, room))
    }
}

impl Table {
    /// Does what a server says.
    pub(super) fn perform(&mut self, step: &Step, server: &str, now: Instant) -> Done {
        let mut done = Done::default();
        match step {
            Step::Enter(entered) => {
                for it in entered {
                    done.full = self.let_in(it, server).err().or(done.full);
                }
            }
            Step::Stay(entered) => {
                for it in entered {
                    let place = Place::new(&it.namespace, &it.room);
                    let known = self.known(&place, &it.connection);
                    if known.is_some_and(|known| known.who == it.who) {
                        self.come_back(&place, &it.connection);
                        self.set_server(&place, &it.connection, server);
                    } else {
                        done.full = self.let_in(it, server).err().or(done.full);
                    }
                }
            }
            Step::Leave(its) => {
                for place in its.places() {
                    if self.is_for(&place, &its.connection, server) {
                        self.leave(&place, &its.connection);
                    }
                }
            }
            Step::Drop(its, mark) => {
                for place in its.places() {
                    if self.is_for(&place, &its.connection, server) {
                        self.drop_out(&place, &its.connection, now, *mark);
                    }
                }
            }
            Step::Back(its) => {
                for place in its.places() {
                    if self.come_back(&place, &its.connection) {
                        self.set_server(&place, &its.connection, server);
                    }
                }
            }
            Step::Become(its, who) => {
                for place in its.places() {
                    if self.is_for(&place, &its.connection, server) {
                        self.identify(&place, &its.connection, who, server);
                    }
                }
            }
            Step::Expire(expired) => {
                for it in expired {
                    let place = Place::new(&it.namespace, &it.room);
                    let known = self.known(&place, &it.connection);
                    let absence = known.and_then(|known| known.state.absence());
                    if absence.is_some_and(|absence| absence.mark == it.mark) {
                        self.leave(&place, &it.connection);
                    }
                }
            }
            Step::Only { connections, mark } => {
                let connections: HashSet<_> = connections.iter().map(|it| &**it).collect();
                self.keep_only(server, &connections, now, *mark);
            }
            Step::Gone { server, mark } => done.lost = self.lose(server, now, *mark),
            Step::Ask { .. } | Step::Table { .. } => {}
        }
        done
    }

    fn let_in(&mut self, entered: &Entered, server: &str) -> Result<(), Full> {
        let Entered {
            namespace,
            room,
            connection,
            who,
            data,
        } = entered;
        if !is_sound(data) {
            return Ok(());
        }
        let place = Place::new(namespace, room);
        self.has_place_for_others(&place, who)?;
        self.enter(Entering {
            place: &place,
            connection,
            who,
            data: &data.as_str().into(),
            server,
        });
        Ok(())
    }

    /// Whether a server may say what becomes of a connection: nobody else has it.
    fn is_for(&self, place: &Place, connection: &str, server: &str) -> bool {
        let known = self.known(place, connection);
        known.is_some_and(|known| *known.server == *server || *known.server == *NOBODY)
    }

    /// The connections in rooms that are here with this server.
    pub(super) fn entered(&self, server: &str) -> Vec<Entered> {
        let mut entered = Vec::new();
        self.each(|place, connection, known, data| {
            if *known.server == *server && known.state == State::Here {
                entered.push(Entered {
                    namespace: place.namespace().to_owned(),
                    room: place.room().to_owned(),
                    connection: connection.to_owned(),
                    who: known.who.clone(),
                    data: data.to_owned(),
                });
            }
        });
        entered
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::config;

    const GRACE: Duration = Duration::from_secs(60);
    const SERVERS: [&str; 2] = ["a", "b"];

    fn place() -> Place {
        Place::new("/", "r")
    }

    fn its(connection: usize) -> Its {
        Its {
            namespace: "/".to_owned(),
            rooms: vec!["r".to_owned()],
            connection: connection.to_string(),
        }
    }

    fn entered(connection: usize, data: usize) -> Vec<Entered> {
        vec![Entered {
            namespace: "/".to_owned(),
            room: "r".to_owned(),
            connection: connection.to_string(),
            who: Who::User(["ada", "bob"][connection % 2].into()),
            data: data.to_string(),
        }]
    }

    fn step(kind: usize, connection: usize, number: usize) -> Step {
        let mark = number as u32;
        match kind {
            0 | 1 => Step::Enter(entered(connection, number)),
            2 => Step::Stay(entered(connection, number)),
            3 => Step::Leave(its(connection)),
            4 | 5 => Step::Drop(its(connection), mark),
            6 => Step::Back(its(connection)),
            7 => Step::Become(its(connection), Who::User("eve".into())),
            8 => Step::Gone {
                server: SERVERS[connection % 2].to_owned(),
                mark,
            },
            9 => Step::Only {
                connections: vec!["0".to_owned(), "1".to_owned()],
                mark,
            },
            _ => Step::Expire(
                (0..number)
                    .map(|mark| Expired {
                        namespace: "/".to_owned(),
                        room: "r".to_owned(),
                        connection: connection.to_string(),
                        mark: mark as u32,
                    })
                    .collect(),
            ),
        }
    }

    /// Who is present, and whose all connections are, with their states.
    fn shown(table: &Table) -> (Vec<crate::presence::Member>, BTreeMap<String, String>) {
        let mut connections = BTreeMap::new();
        table.each(|_, connection, known, data| {
            let state = (
                &known.who,
                known.state.absence().map(|absence| absence.mark),
                &known.server,
                data,
            );
            connections.insert(connection.to_owned(), format!("{state:?}"));
        });
        (table.members(&place()), connections)
    }

    proptest! {
        /// Whoever has done the same steps has the same table, and so has a server that got it in the midst of them;
        /// what it still has to tell is the same, and counts are those of the connections.
        #[test]
        fn a_table_that_was_copied_goes_on_as_the_one_that_it_is_of(
            steps in proptest::collection::vec((0..11_usize, 0..6_usize, 0..2_usize), 1..80),
            copied in 0..80_usize,
        ) {
            let now = Instant::now();
            let mut table = Table::new(&config::Presence::default(), GRACE);
            let mut copy = None;
            for (number, (kind, connection, server)) in steps.into_iter().enumerate() {
                if number == copied {
                    let mut new = table.empty();
                    for piece in table.pieces(now) {
                        let json = serde_json::to_string(&piece).unwrap();
                        new.restore(serde_json::from_str(&json).unwrap(), now);
                    }
                    copy = Some(new);
                }
                let step = step(kind, connection, number);
                for table in [Some(&mut table), copy.as_mut()].into_iter().flatten() {
                    table.perform(&step, SERVERS[server], now);
                    if number % 7 == 0 {
                        let change = table.change(&place());
                        table.is_told(&place(), change);
                    }
                }
                if let Some(copy) = &copy {
                    prop_assert_eq!(shown(copy), shown(&table));
                }
            }
            if let Some(copy) = &mut copy {
                prop_assert_eq!(copy.change(&place()), table.change(&place()));
            }
            for server in SERVERS {
                table.perform(&Step::Gone { server: server.to_owned(), mark: 1000 }, "c", now);
            }
            table.expire(now + 2 * GRACE);
            let change = table.change(&place());
            table.is_told(&place(), change);
            prop_assert!(table.is_empty());
        }
    }
}
