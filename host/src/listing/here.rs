//! The part of a page that is of this server.

use super::{Of, Page, Part, RoomFilter, Smallest, row};
use crate::{
    broadcast::Broadcast,
    cluster::Described,
    connection::Connection,
    transport::{Adapter, Selection},
};

impl Broadcast {
    /// What this server has of a page. Looks at all of the selection's sockets: some 100 ns for each.
    pub(crate) fn part(&self, namespace: &str, to: &Selection, page: &Page) -> Part {
        let Some(adapter) = self.namespace(namespace) else {
            return Part::default();
        };
        let mut smallest = Smallest::of(page);
        match &page.of {
            Of::Rooms(filter) => add_rooms(&adapter, filter, &mut smallest),
            Of::Sockets { data } => {
                for it in self.connections().of(&adapter.selected(to), namespace) {
                    let socket = || row::Row::Socket(row::Socket::here(&it, *data));
                    smallest.add(&it.id, socket);
                }
            }
            Of::Users => {
                for it in self.connections().of(&adapter.selected(to), namespace) {
                    add_user(&it, &mut smallest);
                }
            }
        }
        smallest.finish()
    }
}

fn add_rooms(adapter: &Adapter, filter: &RoomFilter, smallest: &mut Smallest) {
    for name in adapter.all_rooms() {
        if !filter.takes(&name) || !smallest.wants(&name) {
            continue;
        }
        let sockets = adapter.count(&Selection::room(&*name));
        // Those that are not let in yet have rooms, too.
        if sockets > 0 {
            let name = name.into_owned();
            smallest.add(&name.clone(), || {
                row::Row::Room(row::Room { name, sockets })
            });
        }
    }
}

fn add_user(connection: &Connection, smallest: &mut Smallest) {
    let identity = connection.identity();
    if let Some(user) = &identity.user {
        let since = row::milliseconds(connection.began());
        let row = || row::Row::User(row::User::of(user, since));
        smallest.add(user.id.as_str(), row);
    }
}

impl Part {
    /// What a server has that does not know of pages, as Node's, and tells all of the selection's sockets.
    pub(super) fn of_described(sockets: Vec<Described>, page: &Page) -> Self {
        let mut smallest = Smallest::of(page);
        for it in sockets {
            match &page.of {
                Of::Sockets { data } => {
                    let id = it.id.clone();
                    let socket = || row::Row::Socket(row::Socket::elsewhere(it, *data));
                    smallest.add(&id, socket);
                }
                Of::Users => {
                    if let Some(user) = it.user() {
                        let row = || row::Row::User(row::User::of(&user, it.handshake.issued));
                        smallest.add(user.id.as_str(), row);
                    }
                }
                Of::Rooms(filter) => {
                    let rooms = it.rooms().into_iter();
                    for name in rooms.filter(|room| filter.takes(room)) {
                        let sockets = 1;
                        smallest.add(&name.clone(), || {
                            row::Row::Room(row::Room { name, sockets })
                        });
                    }
                }
            }
        }
        smallest.finish()
    }
}
