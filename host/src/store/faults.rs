//! Disks that fail, for tests.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::Mutex;

/// What is wrong with a disk.
#[derive(Default)]
pub(super) struct Faults {
    /// Nothing is written.
    pub refuses: AtomicBool,
    /// What is written is there, but the disk says that it failed.
    pub denies: AtomicBool,
    /// A write waits as long as somebody has this.
    pub hangs: Mutex<()>,
    /// How many rows were read of ranges.
    pub rows_read: AtomicUsize,
}

impl Faults {
    pub(super) fn before_write(&self) -> Result<(), Arc<str>> {
        drop(self.hangs.lock());
        is_not(&self.refuses)
    }

    pub(super) fn after_write(&self) -> Result<(), Arc<str>> {
        is_not(&self.denies)
    }
}

fn is_not(fault: &AtomicBool) -> Result<(), Arc<str>> {
    match fault.load(Ordering::SeqCst) {
        true => Err("as a test wants it".into()),
        false => Ok(()),
    }
}
