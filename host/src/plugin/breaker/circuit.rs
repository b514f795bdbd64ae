//! Pauses one kind of a plugin's calls: for one client where the failures are that client's, for
//! everybody where they are not.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use parking_lot::{Mutex, MutexGuard};

use super::{Begun, Paused, pause::Pause, row::Row};
use crate::{
    address::ClientNetwork,
    config::{self, OnFailure},
};

/// Of so many clients pauses are remembered. Beyond, the one that ends first is forgotten.
pub(super) const MAX_CLIENTS: usize = 1024;

/// Bits of [`Circuit::signs`]; all lower ones are those of [`sign`].
const FAILURES: u64 = 1 << 63;
const EVERYBODY: u64 = 1 << 62;

/// Follows the calls of one kind.
pub(super) struct Circuit {
    config: config::Breaker,
    on_failure: OnFailure,
    /// What there is in `state`, so that nearly no call has to lock it: whether there are failures,
    /// whether everybody is paused, and which clients may be.
    signs: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    row: Row,
    everybody: Option<Pause>,
    disabled: bool,
    clients: HashMap<ClientNetwork, Pause>,
}

impl Circuit {
    /// No failures yet.
    pub(super) fn new(config: config::Breaker, on_failure: OnFailure) -> Self {
        Self {
            config,
            on_failure,
            signs: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Whether this client may make a call now.
    pub(super) fn admit(&self, client: ClientNetwork) -> Result<(), Paused> {
        match self.may_be_paused(client) {
            true => self.admit_at(client, Instant::now()),
            false => Ok(()),
        }
    }

    /// Whether the state has to be asked.
    pub(super) fn may_be_paused(&self, client: ClientNetwork) -> bool {
        let signs = self.signs.load(Ordering::Relaxed);
        signs & !FAILURES != 0 && signs & (EVERYBODY | sign(client)) != 0
    }

    /// A call of this client was answered.
    pub(super) fn succeeded(&self, client: ClientNetwork) {
        let signs = self.signs.load(Ordering::Relaxed);
        if signs & (FAILURES | EVERYBODY | sign(client)) == 0 {
            return;
        }
        let mut state = self.state();
        state.row = Row::default();
        state.clients.remove(&client);
        state.everybody = None;
        self.publish(&state);
    }

    /// A call of this client failed.
    pub(super) fn failed(&self, client: ClientNetwork) -> Option<Begun> {
        self.failed_at(client, Instant::now())
    }

    /// Whether it is paused for everybody. Besides, adds those clients that it is paused for.
    pub(super) fn paused(&self, paused: &mut HashSet<ClientNetwork>) -> bool {
        if self.signs.load(Ordering::Relaxed) & !FAILURES == 0 {
            return false;
        }
        let (state, now) = (self.state(), Instant::now());
        let clients = state.clients.iter();
        paused.extend(
            clients
                .filter(|(_, pause)| pause.left(now).is_some())
                .map(|(client, _)| *client),
        );
        state.disabled || state.everybody.is_some()
    }

    pub(super) fn admit_at(&self, client: ClientNetwork, now: Instant) -> Result<(), Paused> {
        let State {
            everybody,
            disabled,
            clients,
            ..
        } = &mut *self.state();
        if *disabled {
            return Err(Paused::Disabled);
        }
        let own = clients.get_mut(&client);
        if let Some(left) = everybody
            .iter()
            .chain(own.as_deref())
            .find_map(|p| p.left(now))
        {
            return Err(Paused::For(left));
        }
        for pause in everybody.iter_mut().chain(own) {
            pause.try_one(now);
        }
        Ok(())
    }

    pub(super) fn failed_at(&self, client: ClientNetwork, now: Instant) -> Option<Begun> {
        if self.config.failures == 0 {
            return None;
        }
        let mut state = self.state();
        let begun = state.failed(client, now, &self.config, self.on_failure);
        self.publish(&state);
        begun
    }

    /// Whether good calls have to look at what there is.
    #[cfg(test)]
    pub(super) fn has_signs(&self) -> bool {
        self.signs.load(Ordering::Relaxed) != 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn publish(&self, state: &State) {
        let mut signs = 0;
        if !state.row.is_empty() {
            signs |= FAILURES;
        }
        if state.disabled || state.everybody.is_some() {
            signs |= EVERYBODY;
        }
        for client in state.clients.keys() {
            signs |= sign(*client);
        }
        self.signs.store(signs, Ordering::Relaxed);
    }
}

/// One of the lowest 62 bits. Clients may share one.
fn sign(client: ClientNetwork) -> u64 {
    let bits = match client.ip() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ address.to_bits() as u64,
    };
    1 << (bits % 61)
}

impl State {
    fn failed(
        &mut self,
        client: ClientNetwork,
        now: Instant,
        config: &config::Breaker,
        on_failure: OnFailure,
    ) -> Option<Begun> {
        if self.disabled {
            return None;
        }
        if let Some(pause) = &mut self.everybody {
            return pause.failed(now, config).then_some(Begun::ForEverybody);
        }
        let own = self.row.add(client, config.failures);
        if self.row.is_everybodys(config.failures) {
            return Some(match on_failure {
                OnFailure::Reject => {
                    self.everybody = Some(Pause::begin(now, config));
                    Begun::ForEverybody
                }
                OnFailure::Disable => {
                    self.disabled = true;
                    Begun::Disabled
                }
            });
        }
        if let Some(pause) = self.clients.get_mut(&client) {
            return pause.failed(now, config).then_some(Begun::ForClient);
        }
        if own < config.failures {
            return None;
        }
        self.make_room(now, config);
        self.clients.insert(client, Pause::begin(now, config));
        Some(Begun::ForClient)
    }

    /// Forgets clients that have stayed away, or else the one whose pause ends first.
    fn make_room(&mut self, now: Instant, config: &config::Breaker) {
        self.clients
            .retain(|_, pause| !pause.is_long_over(now, config));
        if self.clients.len() < MAX_CLIENTS {
            return;
        }
        let first = self.clients.iter().min_by_key(|(_, pause)| pause.ends());
        if let Some((&first, _)) = first {
            self.clients.remove(&first);
        }
    }
}
