//! A connection as it goes from one server of a cluster to another.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Former, Place, Stream,
    place::{Kind, Tag},
    pool::Pool,
    stream::{Change, Presence, State},
};
use crate::{
    address::ClientAddress,
    connection::data::Data,
    transport::{Packet, SessionKey, SocketKey},
    user::{TokenClaims, User, UserId},
};

/// What is known of a connection beside its events: all that another server needs to give it back.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    /// The private id.
    pub pid: String,
    /// The public id.
    pub id: String,
    /// The rooms that it is in.
    pub rooms: Vec<String>,
    /// What plugins keep with it, by their names, as JSON text.
    pub data: Vec<(Arc<str>, Arc<str>)>,
    /// What servers other than MixLab do not know; none if it was one of these.
    pub own: Option<Own>,
}

/// What only MixLab's servers know of a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Own {
    /// The name of its server in the cluster.
    pub server: String,
    /// The namespace's path.
    pub namespace: String,
    /// Whether that server has its client still.
    pub is_here: bool,
    /// Which one this is of the times that its client had it.
    pub visit: Visit,
    /// Whose it is.
    user: Option<Whose>,
    /// Its client's address.
    pub(super) address: ClientAddress,
    /// What the places of its own events begin with.
    tag: Tag,
    /// The first number that counts for it.
    start: u64,
    /// How many events it alone was sent.
    count: u64,
    /// Where the last of them stood, as a number and a count.
    last: Option<(u64, u64)>,
    /// Where the last one stood that is gone.
    lost: Option<(u64, u64)>,
    /// The first number since which all changes of rooms are known.
    unknown_before: u64,
    changes: Vec<Change>,
}

/// A user as other servers know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Whose {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    roles: Vec<String>,
}

/// One of the times that a client had a connection: each begins with `on-connect` and ends with
/// `on-disconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Visit(u32);

impl Visit {
    /// Another one than those before it.
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What plugins are told of a connection whose server is gone.
pub(crate) struct Lost {
    /// The public id.
    pub id: String,
    /// The namespace's path.
    pub namespace: String,
    /// The rooms that it was in.
    pub rooms: Vec<String>,
    /// What plugins kept with it.
    pub data: Data,
    /// Whose it was.
    pub user: Option<User>,
    /// Its client's address.
    pub address: ClientAddress,
}

/// An event to one connection alone, as it is kept for other servers.
#[derive(Debug, Clone)]
pub(crate) struct OwnEvent {
    number: u64,
    count: u64,
    packet: Packet,
}

impl OwnEvent {
    /// How many there were up to it.
    pub(super) fn new(place: Place, packet: Packet) -> Option<Self> {
        match place.kind {
            Kind::Own(count) => Some(Self {
                number: place.number,
                count,
                packet,
            }),
            Kind::Broadcast => None,
        }
    }

    /// As bytes.
    pub(crate) fn write(&self) -> Vec<u8> {
        let head = [self.number.to_be_bytes(), self.count.to_be_bytes()];
        [&head.concat()[..], self.packet.frames()].concat()
    }

    /// The inverse of [`OwnEvent::write`].
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (count, frames) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            count: u64::from_be_bytes(*count),
            packet: Packet::from_frames(Bytes::copy_from_slice(frames)),
        })
    }
}

impl Carried {
    /// What `former` is by now. `server` is this server's name.
    pub(super) fn of(former: &Former, state: &State, server: &str, namespace: &str) -> Self {
        Self {
            pid: former.pid.clone(),
            id: former.id.clone(),
            rooms: former.rooms.clone(),
            data: former.data.all(),
            own: Some(Own {
                server: server.to_owned(),
                namespace: namespace.to_owned(),
                is_here: state.presence() != Presence::Away,
                visit: former.visit,
                user: former.user.as_ref().map(Whose::from),
                address: former.address,
                tag: former.stream.tag,
                start: state.start().number,
                count: state.count(),
                last: state.last().and_then(numbers),
                lost: state.lost().and_then(numbers),
                unknown_before: state.unknown_before(),
                changes: state.changes().cloned().collect(),
            }),
        }
    }

    /// Whether it is that of `user`, or of nobody, as far as that is known.
    pub(crate) fn is_of(&self, user: Option<&UserId>) -> bool {
        let its = |own: &Own| own.user.as_ref().map(|its| &*its.id) == user.map(UserId::as_str);
        self.own.as_ref().is_none_or(its)
    }

    /// What plugins are told of its end; nothing of a connection of another server than MixLab's.
    pub(crate) fn lost(&self) -> Option<Lost> {
        let own = self.own.as_ref()?;
        Some(Lost {
            id: self.id.clone(),
            namespace: own.namespace.clone(),
            rooms: self.rooms.clone(),
            data: Data::from(self.data.clone()),
            user: own.user.as_ref().and_then(Whose::user),
            address: own.address,
        })
    }

    /// It has ended on its server, which is gone. Any other one may have it.
    pub(crate) fn has_ended(&mut self) {
        if let Some(own) = &mut self.own {
            own.server.clear();
            own.is_here = false;
        }
    }

    /// The connection, with these events; `number` is one that counts for it, where that is not known.
    /// None if events are missing that should be there.
    pub(super) fn into_former(
        self,
        events: Vec<OwnEvent>,
        number: u64,
        address: ClientAddress,
        pool: Arc<Pool>,
    ) -> Option<Former> {
        let Self {
            pid,
            id,
            mut rooms,
            data,
            own,
        } = self;
        // Node's servers have each socket in a room of its id.
        rooms.retain(|room| *room != id);
        let key = SocketKey::new(SessionKey::new());
        let (stream, user, address) = match own {
            None => {
                let stream = Stream::new(pool, Tag::random(), key.session, number);
                (stream, None, address)
            }
            Some(own) => {
                let user = match &own.user {
                    Some(whose) => Some(whose.user()?),
                    None => None,
                };
                let address = own.address;
                (own.into_stream(events, key.session, pool)?, user, address)
            }
        };
        stream.lock().set_presence(Presence::Away);
        Some(Former {
            pid,
            id,
            key,
            address,
            stream: Arc::new(stream),
            rooms,
            data: Arc::new(Data::from(data)),
            user,
            visit: Visit::new(),
        })
    }
}

impl From<&User> for Whose {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.as_str().to_owned(),
            username: user.username.clone(),
            roles: user.roles.clone(),
        }
    }
}

impl Whose {
    /// The user, whose token is not known. None if there can be no such user.
    fn user(&self) -> Option<User> {
        Some(User {
            id: UserId::from_text(&self.id)?,
            username: self.username.clone(),
            roles: self.roles.clone(),
            token: TokenClaims::default(),
        })
    }
}

/// The numbers of an own event's place.
fn numbers(place: Place) -> Option<(u64, u64)> {
    match place.kind {
        Kind::Own(count) => Some((place.number, count)),
        Kind::Broadcast => None,
    }
}

impl Own {
    fn into_stream(
        self,
        events: Vec<OwnEvent>,
        session: SessionKey,
        pool: Arc<Pool>,
    ) -> Option<Stream> {
        let stream = Stream::new(pool, self.tag, session, self.start);
        let mut state = stream.lock();
        let first = events.first().map_or(self.count + 1, |event| event.count);
        // Those before the first one are gone, whether that was noted or not.
        let gone = match events.first() {
            Some(event) if first > 1 => {
                let is_it = |lost: &(u64, u64)| lost.1 + 1 == first;
                let known = self.lost.filter(is_it);
                known.or(Some((event.number, event.count - 1)))
            }
            Some(_) => self.lost,
            None => self.last,
        };
        state.restore(
            first - 1,
            gone.map(|(number, count)| Place::own(number, count)),
            self.unknown_before,
            self.changes,
        );
        for OwnEvent {
            number,
            count,
            packet,
        } in events
        {
            if count <= state.count() {
                // It was written twice, over a lost connection.
                continue;
            }
            if count != state.count() + 1 {
                return None;
            }
            stream.push(&mut state, Place::own(number, count), packet);
        }
        let is_complete = state.count() >= self.count;
        drop(state);
        is_complete.then_some(stream)
    }
}
