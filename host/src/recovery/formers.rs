//! The connections of all namespaces that dropped and may come back, and who has to go first.
//!
//! There is room for so many. One whose rooms and data are large counts for several. Who comes back makes room, and so does who stays away for too long. If
//! one more drops, one goes: of the address, or the user, that has most of them, if that is more than a
//! few; else an anonymous one before one with a user; and who has missed nothing before who has.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::former::{Former, Waiting};
use crate::{
    address::ClientNetwork,
    config,
    ordered_lock::{OrderedMutex, OrderedMutexGuard, rank},
    user::UserId,
};

/// So many dropped connections of one user or at one address are nothing unusual.
const FEW: usize = 8;

/// So many bytes of rooms and data count for one connection. Most have a tenth of that.
pub(super) const UNIT: usize = 4 << 10;

/// The connections that dropped. Its lock comes before all logs'; it is held with one only where
/// somebody has to go.
pub(crate) struct Formers {
    max: usize,
    max_age: Duration,
    kept: OrderedMutex<{ rank::FORMERS }, Kept>,
}

/// A connection that its client takes.
pub(crate) struct Taken {
    /// The connection.
    pub waiting: Waiting,
    number: u64,
    at: Instant,
}

/// A connection that waits for its client.
struct Entry {
    at: Instant,
    waiting: Waiting,
    /// For how many it counts.
    weight: usize,
}

/// They are numbered as they drop, so that the lowest number is the oldest.
#[derive(Default)]
struct Kept {
    waiting: BTreeMap<u64, Entry>,
    /// For how many all of them count.
    weight: usize,
    by_pid: HashMap<String, u64>,
    next: u64,
    anonymous: Class,
    users: Class,
}

/// The numbers of those with a user, or of those without.
#[derive(Default)]
struct Class {
    all: Queue,
    owners: HashMap<Owner, Queue>,
    /// For how many those of each owner count.
    sizes: BTreeSet<(usize, Owner)>,
}

/// Who a connection counts for: its user or, if it is anonymous, its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    User(String),
    Address(ClientNetwork),
}

/// Numbers, oldest first.
#[derive(Default)]
struct Queue {
    /// Of those who had missed nothing when that was last looked at.
    idle: BTreeSet<u64>,
    /// Of those who have missed something.
    missing: BTreeSet<u64>,
    /// For how many all of them count.
    weight: usize,
}

impl Formers {
    /// Room for as many as `limits` say, each for as long as they say.
    pub(crate) fn new(limits: &config::Recovery) -> Self {
        Self {
            max: limits.max_clients,
            max_age: limits.max_age,
            kept: OrderedMutex::default(),
        }
    }

    /// Keeps a connection that dropped. The caller holds no log.
    pub(crate) fn keep(&self, waiting: Waiting) {
        self.keep_since(Instant::now(), waiting);
    }

    /// Keeps one that dropped then, after all others that are kept. The caller holds no log.
    pub(crate) fn keep_since(&self, at: Instant, waiting: Waiting) {
        let mut kept = self.lock();
        kept.forget(Instant::now(), self.max_age);
        let number = kept.next;
        kept.next += 1;
        kept.insert(number, at, waiting);
        kept.fit(self.max);
    }

    /// Hands over each of them, the oldest first, with when it dropped.
    pub(crate) fn each(&self, mut take: impl FnMut(&Waiting, Instant)) {
        let kept = self.lock();
        for entry in kept.waiting.values() {
            take(&entry.waiting, entry.at);
        }
    }

    /// Takes the connection of a client that is back, if it `is_its`.
    pub(crate) fn take(&self, pid: &str, is_its: impl FnOnce(&Waiting) -> bool) -> Option<Taken> {
        let mut kept = self.lock();
        kept.forget(Instant::now(), self.max_age);
        let number = *kept.by_pid.get(pid)?;
        if !is_its(&kept.waiting.get(&number)?.waiting) {
            return None;
        }
        let Entry { at, waiting, .. } = kept.remove(number)?;
        Some(Taken {
            waiting,
            number,
            at,
        })
    }

    /// Keeps a connection on that its client cannot have back as it wanted. The caller holds no log.
    pub(crate) fn put_back(&self, taken: Taken) {
        let mut kept = self.lock();
        kept.insert(taken.number, taken.at, taken.waiting);
        kept.fit(self.max);
    }

    /// Forgets the connections of a user: nobody has them back.
    pub(crate) fn forget_user(&self, user: &UserId) {
        let mut kept = self.lock();
        let owner = Owner::User(user.as_str().to_owned());
        let its = kept.users.owners.get(&owner);
        let numbers: Vec<_> = its.into_iter().flat_map(Queue::numbers).collect();
        for number in numbers {
            kept.remove(number);
        }
    }

    /// Forgets who has been away for too long.
    pub(crate) fn forget(&self) {
        self.lock().forget(Instant::now(), self.max_age);
    }

    fn lock(&self) -> OrderedMutexGuard<'_, { rank::FORMERS }, Kept> {
        self.kept.lock()
    }
}

impl Kept {
    fn insert(&mut self, number: u64, at: Instant, waiting: Waiting) {
        let weight = 1 + waiting.former.size() / UNIT;
        let owner = Owner::of(&waiting.former);
        self.class(&owner).insert(number, owner, weight);
        self.weight += weight;
        let pid = waiting.former.pid.clone();
        let entry = Entry {
            at,
            waiting,
            weight,
        };
        self.waiting.insert(number, entry);
        if let Some(former) = self.by_pid.insert(pid, number) {
            self.remove(former);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.waiting.remove(&number)?;
        let former = &entry.waiting.former;
        let pid = &former.pid;
        if self.by_pid.get(pid) == Some(&number) {
            self.by_pid.remove(pid);
        }
        let owner = Owner::of(former);
        self.class(&owner).remove(number, owner, entry.weight);
        self.weight -= entry.weight;
        Some(entry)
    }

    fn forget(&mut self, now: Instant, max_age: Duration) {
        while let Some((&number, entry)) = self.waiting.first_key_value()
            && now.duration_since(entry.at) > max_age
        {
            self.remove(number);
        }
    }

    fn fit(&mut self, max: usize) {
        while self.weight > max {
            self.evict();
        }
    }

    /// Removes the one that has to go first.
    fn evict(&mut self) {
        let most = self.anonymous.most().max(self.users.most());
        let is_anonymous = match most > FEW {
            true => self.anonymous.most() == most,
            false => !self.anonymous.all.is_empty(),
        };
        let class = match is_anonymous {
            true => &mut self.anonymous,
            false => &mut self.users,
        };
        let greedy = class.greedy();
        let number = loop {
            let queue = class.queue(greedy.as_ref());
            let Some(&number) = queue.idle.first() else {
                break queue.missing.first().copied();
            };
            match self.waiting.get(&number) {
                // Whoever has missed something has so until it is back: each is moved once.
                Some(entry) if entry.waiting.has_missed() => {
                    class.note_missing(number, &Owner::of(&entry.waiting.former));
                }
                _ => break Some(number),
            }
        };
        if let Some(number) = number {
            self.remove(number);
        }
    }

    fn class(&mut self, owner: &Owner) -> &mut Class {
        match owner {
            Owner::User(_) => &mut self.users,
            Owner::Address(_) => &mut self.anonymous,
        }
    }
}

impl Class {
    fn insert(&mut self, number: u64, owner: Owner, weight: usize) {
        self.all.insert(number, weight);
        let queue = self.owners.entry(owner.clone()).or_default();
        let before = queue.weight;
        queue.insert(number, weight);
        self.sizes.remove(&(before, owner.clone()));
        self.sizes.insert((queue.weight, owner));
    }

    fn remove(&mut self, number: u64, owner: Owner, weight: usize) {
        self.all.remove(number, weight);
        let Some(queue) = self.owners.get_mut(&owner) else {
            return;
        };
        let before = queue.weight;
        queue.remove(number, weight);
        let after = queue.weight;
        self.sizes.remove(&(before, owner.clone()));
        match after {
            0 => _ = self.owners.remove(&owner),
            _ => _ = self.sizes.insert((after, owner)),
        }
    }

    fn note_missing(&mut self, number: u64, owner: &Owner) {
        self.all.note_missing(number);
        if let Some(queue) = self.owners.get_mut(owner) {
            queue.note_missing(number);
        }
    }

    /// For how many those of the owner count that has most.
    fn most(&self) -> usize {
        self.sizes.last().map_or(0, |(size, _)| *size)
    }

    /// The owner that has most, if that is more than a few.
    fn greedy(&self) -> Option<Owner> {
        let (size, owner) = self.sizes.last()?;
        (*size > FEW).then(|| owner.clone())
    }

    /// Those of one owner, or all.
    fn queue(&self, owner: Option<&Owner>) -> &Queue {
        owner
            .and_then(|owner| self.owners.get(owner))
            .unwrap_or(&self.all)
    }
}

impl Owner {
    fn of(former: &Former) -> Self {
        match former.user() {
            Some(user) => Self::User(user.as_str().to_owned()),
            None => Self::Address(former.address.network()),
        }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.missing.is_empty()
    }

    fn insert(&mut self, number: u64, weight: usize) {
        self.idle.insert(number);
        self.weight += weight;
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.idle.iter().chain(&self.missing).copied()
    }

    fn remove(&mut self, number: u64, weight: usize) {
        if self.idle.remove(&number) || self.missing.remove(&number) {
            self.weight -= weight;
        }
    }

    fn note_missing(&mut self, number: u64) {
        self.idle.remove(&number);
        self.missing.insert(number);
    }
}
