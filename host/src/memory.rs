//! Memory that a crowd of clients has left behind, or needed to come in, given back to the system.
//!
//! glibc keeps what was freed: after some thousand clients the process would stay at three times
//! what it uses, for ever.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

/// A table keeps room for so many entries, whoever has left.
const KEPT: usize = 64;

/// So many clients at least must have gone for it to be worth a look at all of the heap.
const CROWD: usize = 500;

/// So many looks after a crowd has left its memory is given back again, and so many looks long: the clock
/// of the sessions and the list of streams know its clients for a while, and what is kept of one of them
/// keeps a page of the heap.
const AGAIN_EVERY: u32 = 10;
const AGAIN_FOR: u32 = 60;

/// So many looks after a crowd has come, what its handshakes took is free: its connections rest.
const SETTLED: u32 = 2;

/// Watches whether clients leave, once a second.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// The most that there were since the last crowd left.
    most: usize,
    /// How many looks ago that was.
    left: Option<u32>,
}

impl Crowd {
    /// There are so many clients now. True if there may be something to give back: a crowd, half of
    /// them or more, has left.
    pub(crate) fn has_left(&mut self, clients: usize) -> bool {
        self.most = self.most.max(clients);
        if self.most - clients >= CROWD.max(self.most / 2) {
            self.most = clients;
            self.left = Some(0);
        } else {
            self.left = self.left.map(|looks| looks.saturating_add(1));
        }
        self.left
            .is_some_and(|looks| looks <= AGAIN_FOR && looks.is_multiple_of(AGAIN_EVERY))
    }
}

/// Watches whether clients come, once a second.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// How many were there when memory was given back last, less those who have left.
    settled: usize,
    /// How many there were at the last look.
    before: usize,
    /// For how many looks few have come.
    calm: u32,
}

impl Arrivals {
    /// There are so many clients now. True if a crowd, half as many as there were or more, has come and
    /// settled.
    pub(crate) fn have_settled(&mut self, clients: usize) -> bool {
        let have_come = clients.saturating_sub(self.before) > CROWD / 10;
        self.calm = if have_come {
            0
        } else {
            self.calm.saturating_add(1)
        };
        self.before = clients;
        self.settled = self.settled.min(clients);
        let is_crowd = clients - self.settled >= CROWD.max(self.settled / 2);
        if !is_crowd || self.calm < SETTLED {
            return false;
        }
        self.settled = clients;
        true
    }
}

/// Makes a table smaller that has been much larger.
pub(crate) fn shrink<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    let entries = table.len();
    if table.capacity() > 4 * (entries + KEPT) {
        table.shrink_to(2 * entries);
    }
}

/// Gives back what is free. Takes some milliseconds, in which threads that allocate may wait for
/// their part of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "libc has no safe form of it")]
pub(crate) fn give_back() {
    // SAFETY: it takes the allocator's own locks, and touches only what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_leaves_once() {
        let mut crowd = Crowd::default();
        let steps = [
            (499, false),
            (0, false),
            (2000, false),
            (1001, false),
            (1000, true),
            (900, false),
            (1400, false),
            (700, true),
            (0, true),
            (0, false),
        ];
        for (clients, left) in steps {
            assert_eq!(crowd.has_left(clients), left, "{clients}");
        }
    }

    #[test]
    fn a_crowd_settles_once() {
        let mut arrivals = Arrivals::default();
        let steps = [
            (400, false),
            (900, false),
            (940, false),
            (940, true),
            (940, false),
            (1300, false),
            (1300, false),
            (1300, false),
            (1450, false),
            (1450, false),
            (1450, true),
            (0, false),
            (500, false),
            (500, false),
            (500, true),
        ];
        for (clients, settled) in steps {
            assert_eq!(arrivals.have_settled(clients), settled, "{clients}");
        }
    }

    #[test]
    fn memory_is_given_back_again_when_the_last_have_forgotten_a_crowd() {
        let mut crowd = Crowd::default();
        assert!(!crowd.has_left(1000));
        let given_back = (0..1000).filter(|_| crowd.has_left(0));
        assert_eq!(given_back.count(), 7);
    }
}
