//! Locks that are taken one under another, always in the same order, so that nobody waits in a circle.
//!
//! A debug build panics at a lock that is out of its order, whether somebody else waits or not: every
//! test looks for what would hang a server once in a year. A release build has nothing of it.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    sync::PoisonError,
};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(test)]
use crate::interleave;

/// The ranks of locks, by the order in which they are taken.
pub(crate) mod rank {
    /// Which namespaces are open.
    pub(crate) const DIRECTORY: usize = 0;
    /// How far a connection has come.
    pub(crate) const PHASE: usize = 1;
    /// Who may come back, of all namespaces.
    pub(crate) const FORMERS: usize = 2;
    /// The broadcasts of a namespace.
    pub(crate) const LOG: usize = 3;
    /// What one connection alone was sent.
    pub(crate) const STREAM: usize = 4;
    /// Who is in a namespace.
    pub(crate) const MEMBERS: usize = 5;
    /// What comes in from one client.
    pub(crate) const INBOX: usize = 6;
    /// What goes out to it.
    pub(crate) const OUTBOX: usize = 7;
    /// What has arrived from one connection.
    pub(crate) const LANE: usize = 8;
    /// Who is present in rooms.
    pub(crate) const PRESENCE: usize = 9;
    /// Who may run calls of a plugin.
    pub(crate) const PERMITS: usize = 10;
    /// What is encrypted for one client, and what of its is not decrypted yet.
    pub(crate) const TLS: usize = 11;

    pub(super) const NAMES: [&str; 12] = [
        "directory",
        "phase",
        "formers",
        "log",
        "stream",
        "members",
        "inbox",
        "outbox",
        "lane",
        "presence",
        "permits",
        "tls",
    ];
}

thread_local! {
    /// The ranks of the locks that this thread holds, a bit for each.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// A lock of some rank. Under it, none of the same or a lower rank may be taken.
#[derive(Debug, Default)]
pub(crate) struct Ordered<const RANK: usize, Lock>(Lock);

/// What a lock guards, while it is held.
pub(crate) struct Guard<const RANK: usize, Inner> {
    inner: Inner,
    _held: Held<RANK>,
}

/// A mutex of some rank.
pub(crate) type OrderedMutex<const RANK: usize, T> = Ordered<RANK, Mutex<T>>;

/// What a mutex guards, while it is held.
pub(crate) type OrderedMutexGuard<'a, const RANK: usize, T> = Guard<RANK, MutexGuard<'a, T>>;

impl<const RANK: usize, T> Ordered<RANK, Mutex<T>> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<RANK, MutexGuard<'_, T>> {
        Guard::of(|| self.0.try_lock(), || self.0.lock())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<const RANK: usize, T> Ordered<RANK, RwLock<T>> {
    pub(crate) fn read(&self) -> Guard<RANK, RwLockReadGuard<'_, T>> {
        Guard::of(|| self.0.try_read(), || self.0.read())
    }

    pub(crate) fn write(&self) -> Guard<RANK, RwLockWriteGuard<'_, T>> {
        Guard::of(|| self.0.try_write(), || self.0.write())
    }
}

/// As `parking_lot`'s locks, they know no poison: a panic under one lets everybody else in.
impl<const RANK: usize, T> Ordered<RANK, ShardedLock<T>> {
    pub(crate) fn new(value: T) -> Self {
        Self(ShardedLock::new(value))
    }

    pub(crate) fn read(&self) -> Guard<RANK, ShardedLockReadGuard<'_, T>> {
        Guard::of(
            || self.0.try_read().ok(),
            || self.0.read().unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn write(&self) -> Guard<RANK, ShardedLockWriteGuard<'_, T>> {
        Guard::of(
            || self.0.try_write().ok(),
            || self.0.write().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl<const RANK: usize, Inner> Guard<RANK, Inner> {
    fn of(try_to_take: impl Fn() -> Option<Inner>, take: impl FnOnce() -> Inner) -> Self {
        // Before it is waited for.
        let held = Held::note();
        #[cfg(test)]
        let try_to_take = || interleave::wait_for(&try_to_take);
        let inner = try_to_take().unwrap_or_else(take);
        Self { inner, _held: held }
    }
}

impl<const RANK: usize, Inner: Deref> Deref for Guard<RANK, Inner> {
    type Target = Inner::Target;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl<const RANK: usize, Inner: DerefMut> DerefMut for Guard<RANK, Inner> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

/// Noted as held by this thread. No guard leaves the thread that took it.
struct Held<const RANK: usize>;

impl<const RANK: usize> Held<RANK> {
    fn note() -> Self {
        if cfg!(debug_assertions) {
            let held = HELD.get();
            assert!(
                held >> RANK == 0,
                "the lock {:?} is taken under {:?}",
                rank::NAMES[RANK],
                rank::NAMES[held.ilog2() as usize]
            );
            HELD.set(held | 1 << RANK);
        }
        Self
    }
}

impl<const RANK: usize> Drop for Held<RANK> {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.set(HELD.get() & !(1 << RANK));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    type Outer = OrderedMutex<{ rank::PHASE }, u8>;
    type Inner = Ordered<{ rank::MEMBERS }, RwLock<u8>>;

    /// Whether a debug build refuses it.
    fn is_refused(act: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(act)).is_err()
    }

    #[test]
    fn locks_are_taken_in_their_order_only() {
        let (outer, inner) = (Outer::default(), Inner::default());
        for _ in 0..2 {
            let first = outer.lock();
            drop(inner.write());
            let second = inner.read();
            // Whichever goes first.
            drop(first);
            drop(second);
            let held = inner.read();
            assert!(is_refused(|| drop(outer.lock())), "in a circle");
            assert!(is_refused(|| drop(inner.read())), "twice");
            drop(held);
        }
    }

    #[test]
    fn a_panic_under_a_lock_lets_everybody_else_in() {
        let outer = Outer::default();
        let sharded = Ordered::<{ rank::LOG }, ShardedLock<u8>>::new(0);
        assert!(is_refused(|| {
            let _outer = outer.lock();
            let _sharded = sharded.write();
            panic!("on purpose");
        }));
        drop((outer.lock(), sharded.read()));
    }

    #[test]
    fn what_one_thread_holds_keeps_no_other_from_its_locks() {
        let (outer, inner) = (Outer::default(), Inner::default());
        let _held = inner.read();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(outer.lock()));
        });
    }
}
