//! What a namespace keeps for those who come back, as one process leaves it to the next.
//!
//! The next one goes on with it: the same tag and the same numbers, so that the places that clients hold stay
//! good. Times are in milliseconds since 1970.

use std::sync::Arc;

use ahash::HashMap;
use serde::{Deserialize, Serialize};

use super::{
    Carried, Former, Journal, Own, OwnEvent,
    former::Waiting,
    place::{Place, Tag},
    stream::State,
};
use crate::{
    clock::Moment,
    transport::{Packet, Selection, SocketKey},
};

/// All of a namespace.
pub(crate) struct Saved {
    /// How its broadcasts are numbered.
    pub log: SavedLog,
    /// Its broadcasts, the oldest first.
    pub broadcasts: Vec<SavedBroadcast>,
    /// The connections that dropped and may come back.
    pub clients: Vec<SavedClient>,
}

/// How the broadcasts of a namespace are numbered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedLog {
    /// The namespace's path.
    pub namespace: String,
    /// What its places begin with.
    pub(super) tag: Tag,
    /// The first number behind the last broadcast that is gone.
    pub first: u64,
    /// The next number.
    pub next: u64,
}

/// A broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedBroadcast {
    /// The namespace's path.
    pub namespace: String,
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub at: u64,
    rooms: Vec<String>,
    sockets: Vec<String>,
    except: Vec<String>,
    /// As it went out.
    #[serde(skip, default = "Packet::empty")]
    pub packet: Packet,
}

/// A connection that dropped and may come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedClient {
    /// When it dropped.
    pub at: u64,
    pid: String,
    id: String,
    rooms: Vec<String>,
    /// What plugins keep with it, by their names, as JSON text.
    data: Vec<(String, String)>,
    own: Own,
    /// Where it stood when it dropped, as a number and a count.
    pub(super) dropped: (u64, u64),
    /// What it alone was sent.
    #[serde(skip)]
    pub events: Vec<OwnEvent>,
}

impl Journal {
    /// All of it, for the process that follows. Nothing is sent any more, and nobody is here.
    pub(crate) fn save(&self, namespace: &str, now: Moment) -> Option<Saved> {
        let (mut clients, mut ids) = (Vec::new(), HashMap::default());
        self.common.formers.each(|waiting, at| {
            if !self.has(waiting) {
                return;
            }
            let (former, state) = (&waiting.former, waiting.former.stream.lock());
            let dropped = (now.told(at), waiting.dropped);
            if let Some(client) = SavedClient::new(former, dropped, &state, namespace) {
                ids.insert(former.key.origin(), former.id.clone());
                clients.push(client);
            }
        });
        let named = |key: SocketKey| ids.get(&key.origin()).map(String::as_str);
        let (log, broadcasts) = self.log.read().save(namespace, now, named)?;
        Some(Saved {
            log,
            broadcasts,
            clients,
        })
    }

    /// Goes on with what the process before has kept. Nobody is here yet.
    pub(crate) fn restore(&self, log: &SavedLog, broadcasts: Vec<SavedBroadcast>, now: Moment) {
        self.broadcasts().restore(log, broadcasts, now);
    }

    /// A connection of the process before may come back, to the log that was restored. Of several, the one
    /// that dropped first is to come first. False if events of it are missing.
    pub(crate) fn restore_client(&self, client: SavedClient, now: Moment) -> bool {
        let (at, (number, count)) = (now.meant(client.at), client.dropped);
        let (carried, events) = client.into_carried();
        let Some(address) = carried.own.as_ref().map(|own| own.address) else {
            return false;
        };
        let log = self.log.read();
        let pool = self.common.own.clone();
        let Some(former) = carried.into_former(events, log.first(), address, pool) else {
            return false;
        };
        self.streams.lock().add(&former.stream);
        let waiting = Waiting {
            former,
            dropped: Place::own(number, count),
            log: Arc::downgrade(&self.log),
            awaited: log.wait(),
        };
        drop(log);
        self.common.formers.keep_since(at, waiting);
        true
    }
}

impl SavedBroadcast {
    /// A broadcast of a namespace to these. Of who was left out as its sender, `except` is the public id.
    pub(super) fn new(
        (namespace, number, at): (&str, u64, u64),
        to: &Selection,
        except: Option<&str>,
        packet: Packet,
    ) -> Self {
        let mut all_except = to.except.clone();
        all_except.extend(except.map(str::to_owned));
        Self {
            namespace: namespace.to_owned(),
            number,
            at,
            rooms: to.rooms.clone(),
            sockets: to.sockets.clone(),
            except: all_except,
            packet,
        }
    }

    /// Whom it was for, and what went out.
    pub(super) fn into_parts(self) -> (Selection, Packet) {
        let to = Selection {
            rooms: self.rooms,
            sockets: self.sockets,
            except: self.except,
            except_socket: None,
        };
        (to, self.packet)
    }
}

impl SavedClient {
    /// A connection that dropped then and there, with the state of its stream.
    pub(super) fn new(
        former: &Former,
        (at, dropped): (u64, Place),
        state: &State,
        namespace: &str,
    ) -> Option<Self> {
        let Carried {
            pid,
            id,
            rooms,
            data,
            own,
        } = Carried::of(former, state, "", namespace);
        let text = |text: Arc<str>| text.to_string();
        Some(Self {
            at,
            pid,
            id,
            rooms,
            data: data
                .into_iter()
                .map(|(plugin, json)| (text(plugin), text(json)))
                .collect(),
            own: own?,
            dropped: (dropped.number, dropped.count()?),
            events: state.events().collect(),
        })
    }

    /// The namespace's path.
    pub(crate) fn namespace(&self) -> &str {
        &self.own.namespace
    }

    /// What it was, with the events that it alone was sent.
    pub(super) fn into_carried(self) -> (Carried, Vec<OwnEvent>) {
        let data = self.data.into_iter();
        let carried = Carried {
            pid: self.pid,
            id: self.id,
            rooms: self.rooms,
            data: data
                .map(|(plugin, json)| (plugin.into(), json.into()))
                .collect(),
            own: Some(self.own),
        };
        (carried, self.events)
    }
}
