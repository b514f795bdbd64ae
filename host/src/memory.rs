//! Memory that a crowd of clients has left behind, given back to the system.
//!
//! glibc keeps what was freed: after some thousand clients the process would stay at three times
//! what it uses, for ever.

/// So many clients at least must have gone for it to be worth a look at all of the heap.
const CROWD: usize = 500;

/// Watches how many clients there are.
#[derive(Debug, Default)]
pub struct Crowd {
    /// The most that there were since the last crowd left.
    most: usize,
}

impl Crowd {
    /// There are so many clients now. True if a crowd has left: half of them, or more.
    pub fn has_left(&mut self, clients: usize) -> bool {
        self.most = self.most.max(clients);
        let has_left = self.most - clients >= CROWD.max(self.most / 2);
        if has_left {
            self.most = clients;
        }
        has_left
    }
}

/// Gives back what is free. Takes some milliseconds, in which threads that allocate may wait for
/// their part of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "libc has no safe form of it")]
pub fn give_back() {
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
}
