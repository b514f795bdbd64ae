//! What single calls have used and recorded, for whoever looks at them one by one: `mixlab call` and
//! `mixlab test`.

use std::{collections::BTreeMap, mem, time::Duration};

use parking_lot::Mutex;

use crate::{
    capability::{Recorded, Used},
    effect::Effect,
    store::{Key, Write},
};

/// Calls that have ended, until somebody takes them.
#[derive(Default)]
pub(crate) struct Witness(Mutex<Vec<Witnessed>>);

/// A call that has ended.
pub(crate) struct Witnessed {
    /// Whether what it recorded is to happen.
    pub is_yes: bool,
    /// In order.
    pub effects: Vec<Effect>,
    /// What it wrote to the store, its timers as well.
    pub writes: BTreeMap<Key, Write>,
    /// CPU time.
    pub cpu: Duration,
    /// What it has used of its other budgets.
    pub used: Used,
}

impl Witness {
    /// A call has ended with what it recorded.
    pub(super) fn saw(&self, is_yes: bool, recorded: &Recorded, cpu: Duration, used: Used) {
        let transaction = recorded.transaction.as_ref();
        self.0.lock().push(Witnessed {
            is_yes,
            effects: recorded.effects.clone(),
            writes: transaction.map_or_else(BTreeMap::new, |it| it.writes().clone()),
            cpu,
            used,
        });
    }

    /// Those that have ended since this was called last.
    pub(crate) fn take(&self) -> Vec<Witnessed> {
        mem::take(&mut self.0.lock())
    }
}
