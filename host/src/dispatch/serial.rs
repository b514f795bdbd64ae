//! Calls that run one after the other, by a key that they have in common: those of this server and, where a cluster
//! is configured so, of all its servers. The first of this server waits for the turn among all.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    address::ClientNetwork,
    cluster::{Cluster, Place},
    shares::Shares,
};

/// So many calls may wait for one key, and for all keys of a plugin together. One client has half of
/// that at most.
const MAX_WAITING: usize = 1_000;
const MAX_WAITING_OF_PLUGIN: usize = 20_000;

/// The plugin's name and the key.
type Name = (Arc<str>, Box<str>);

/// Who is at work for which key, and who waits. It outlives reloads.
#[derive(Default)]
pub(super) struct Serial {
    lanes: Mutex<Lanes>,
    /// Where all servers take turns.
    cluster: Option<Arc<Cluster>>,
}

#[derive(Default)]
struct Lanes {
    waiting: HashMap<Name, VecDeque<Waiting>>,
    by_plugin: HashMap<Arc<str>, OfPlugin>,
}

/// A call that waits.
struct Waiting {
    turn: oneshot::Sender<Turn>,
    /// Who it is for; none if for no client.
    client: Option<ClientNetwork>,
}

/// How many calls of a plugin wait.
struct OfPlugin {
    waiting: usize,
    shares: Shares,
}

/// A call's turn. The next call gets its own when this is dropped.
pub(super) struct Turn {
    serial: Arc<Serial>,
    name: Name,
    /// The turn among all servers.
    among_all: Option<Place>,
}

/// What becomes of a call with a key.
pub(super) enum Entered {
    /// It is its turn.
    Now(Turn),
    /// Its turn comes after those of others.
    Later(Coming),
    /// Too many wait already.
    Full,
}

/// A turn that comes.
pub(super) struct Coming {
    turn: oneshot::Receiver<Turn>,
    /// The place among all servers.
    among_all: Option<Place>,
}

impl Coming {
    /// Waits for it, and no longer than this; then others have it.
    pub(super) async fn within(self, patience: Duration) -> Option<Turn> {
        let Self { turn, among_all } = self;
        let comes = async {
            let mut turn = turn.await.ok()?;
            if let Some(mut place) = among_all {
                place.turn().await;
                turn.among_all = Some(place);
            }
            Some(turn)
        };
        timeout(patience, comes).await.ok()?
    }
}

impl Serial {
    /// Nobody is at work yet.
    pub(super) fn new(cluster: Option<Arc<Cluster>>) -> Self {
        Self {
            lanes: Mutex::default(),
            cluster: cluster.filter(|cluster| cluster.shares_turns()),
        }
    }

    /// A call of a plugin comes, behind all that came before with this key; it is for the `client`, if for any.
    pub(super) fn enter(
        self: &Arc<Self>,
        plugin: &Arc<str>,
        key: Box<str>,
        client: Option<ClientNetwork>,
    ) -> Entered {
        let name = (plugin.clone(), key);
        // Held, so that the order of arrival is the same among all servers.
        let mut lanes = self.lanes.lock();
        if !lanes.waiting.contains_key(&name) {
            lanes.waiting.insert(name.clone(), VecDeque::new());
            let among_all = self.place(&name);
            let turn = Turn {
                serial: self.clone(),
                name,
                among_all: None,
            };
            return match among_all {
                Some(place) => Entered::Later(Coming::of(turn, place)),
                None => Entered::Now(turn),
            };
        }
        let mut coming = lanes.wait(&name, client);
        if coming.is_none() {
            lanes.forget_gone(&name);
            coming = lanes.wait(&name, client);
        }
        match coming {
            Some(turn) => Entered::Later(Coming {
                turn,
                among_all: self.place(&name),
            }),
            None => Entered::Full,
        }
    }

    /// A place in the line of all servers, where they take turns.
    fn place(&self, (plugin, key): &Name) -> Option<Place> {
        let cluster = self.cluster.as_ref()?;
        Some(cluster.enter_turn(&format!("{plugin}:{key}")))
    }
}

impl Coming {
    /// It is its turn on this server.
    fn of(turn: Turn, place: Place) -> Self {
        let (sent, comes) = oneshot::channel();
        // Both ends are here.
        let _ = sent.send(turn);
        Self {
            turn: comes,
            among_all: Some(place),
        }
    }
}

impl Lanes {
    /// One more waits, if there is room.
    fn wait(
        &mut self,
        name: &Name,
        client: Option<ClientNetwork>,
    ) -> Option<oneshot::Receiver<Turn>> {
        let lane = self.waiting.get_mut(name)?;
        let of_plugin = self.by_plugin.entry(name.0.clone()).or_default();
        let of_client = lane.iter().filter(|waiting| waiting.client == client);
        let is_full = lane.len() >= MAX_WAITING
            || of_plugin.waiting >= MAX_WAITING_OF_PLUGIN
            || client.is_some() && of_client.count() >= MAX_WAITING / 2;
        if is_full || !client.is_none_or(|client| of_plugin.shares.take(client)) {
            return None;
        }
        of_plugin.waiting += 1;
        let (turn, comes) = oneshot::channel();
        lane.push_back(Waiting { turn, client });
        Some(comes)
    }

    /// The next one that waits for a key, or nobody.
    fn next(&mut self, name: &Name) -> Option<Waiting> {
        let next = self.waiting.get_mut(name)?.pop_front();
        match &next {
            None => _ = self.waiting.remove(name),
            Some(next) => self.left(&name.0, next.client),
        }
        next
    }

    /// Those who have waited for too long make room.
    fn forget_gone(&mut self, name: &Name) {
        let Some(lane) = self.waiting.get_mut(name) else {
            return;
        };
        let is_gone = |waiting: &Waiting| waiting.turn.is_closed();
        let (gone, there): (VecDeque<_>, _) = lane.drain(..).partition(is_gone);
        *lane = there;
        for waiting in gone {
            self.left(&name.0, waiting.client);
        }
    }

    /// One less waits.
    fn left(&mut self, plugin: &Arc<str>, client: Option<ClientNetwork>) {
        let Some(of_plugin) = self.by_plugin.get_mut(plugin) else {
            return;
        };
        if let Some(client) = client {
            of_plugin.shares.give_back(client);
        }
        of_plugin.waiting -= 1;
        if of_plugin.waiting == 0 {
            self.by_plugin.remove(plugin);
        }
    }
}

impl Default for OfPlugin {
    fn default() -> Self {
        Self {
            waiting: 0,
            shares: Shares::new(MAX_WAITING_OF_PLUGIN / 2),
        }
    }
}

impl Turn {
    /// Whether it is the turn of calls with this key.
    pub(super) fn is_for(&self, key: &str) -> bool {
        *self.name.1 == *key
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.serial.lanes.lock().next(&self.name);
        if let Some(next) = next {
            let turn = Self {
                serial: self.serial.clone(),
                name: self.name.clone(),
                among_all: None,
            };
            // Who is gone drops its turn, and so passes it on.
            drop(next.turn.send(turn));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::address::ClientAddress;

    fn client(last: u8) -> Option<ClientNetwork> {
        Some(ClientAddress::from(IpAddr::from([10, 0, 0, last])).network())
    }

    fn enter(serial: &Arc<Serial>, key: &str) -> Entered {
        serial.enter(&"plugin".into(), key.into(), None)
    }

    fn enter_of(serial: &Arc<Serial>, client: Option<ClientNetwork>) -> Option<Coming> {
        match serial.enter(&"plugin".into(), "a".into(), client) {
            Entered::Later(coming) => Some(coming),
            Entered::Now(_) => panic!("another one has its turn"),
            Entered::Full => None,
        }
    }

    #[test]
    fn turns_come_in_the_order_of_arrival_and_nothing_is_left() {
        let serial: Arc<Serial> = Arc::default();
        let Entered::Now(first) = enter(&serial, "a") else {
            panic!("nobody else is there");
        };
        let mut waiting = (0..3).map(|_| enter_of(&serial, client(1)).unwrap().turn);
        let (mut second, third, mut fourth) = (
            waiting.next().unwrap(),
            waiting.next().unwrap(),
            waiting.next().unwrap(),
        );
        assert!(matches!(enter(&serial, "b"), Entered::Now(_)));
        drop(first);
        let turn = second.try_recv().unwrap();
        assert!(fourth.try_recv().is_err());
        // The third is gone, and is passed over.
        drop(third);
        drop(turn);
        drop(fourth.try_recv().unwrap());
        let lanes = serial.lanes.lock();
        assert!(lanes.waiting.is_empty() && lanes.by_plugin.is_empty());
    }

    #[test]
    fn only_so_many_wait_and_who_is_gone_makes_room() {
        let serial: Arc<Serial> = Arc::default();
        let _first = enter(&serial, "a");
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| enter_of(&serial, None).unwrap())
            .collect();
        assert!(enter_of(&serial, None).is_none());
        waiting.truncate(10);
        let more = (0..MAX_WAITING - 10).map(|_| enter_of(&serial, client(1)));
        let more: Vec<_> = more.flatten().collect();
        assert_eq!(more.len(), MAX_WAITING / 2);
        assert_eq!(
            serial.lanes.lock().by_plugin["plugin"].waiting,
            10 + MAX_WAITING / 2
        );
    }

    #[test]
    fn one_client_does_not_take_the_places_of_all_others() {
        let serial: Arc<Serial> = Arc::default();
        let _first = enter(&serial, "a");
        let waiting: Vec<_> = (0..MAX_WAITING)
            .filter_map(|_| enter_of(&serial, client(1)))
            .collect();
        assert_eq!(waiting.len(), MAX_WAITING / 2);
        assert!(enter_of(&serial, client(2)).is_some());
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_in_time_is_given_up() {
        let serial: Arc<Serial> = Arc::default();
        let first = enter(&serial, "a");
        let (second, third) = (enter_of(&serial, None), enter_of(&serial, None));
        let second = second.unwrap().within(Duration::from_millis(1)).await;
        assert!(second.is_none());
        drop(first);
        let third = third.unwrap().within(Duration::from_secs(60)).await;
        assert!(third.is_some());
    }
}
