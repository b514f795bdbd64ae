//! Pauses a plugin that keeps failing, and tries it again after a while: for one client where the
//! failures are that client's, for everybody where they are not.
//!
//! Events, filters, webhooks, connects and disconnects are followed apart: who sends bad events does not shut others out,
//! and plugins hear of the ends of connections meanwhile.

mod circuit;
mod pause;
mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use self::circuit::Circuit;
use super::job::CallKind;
use crate::{
    address::ClientAddress,
    config::{self, OnFailure},
};

/// Follows the calls of one plugin generation.
pub struct Breaker {
    events: Circuit,
    filters: Circuit,
    webhooks: Circuit,
    connects: Circuit,
    disconnects: Circuit,
    disabled: AtomicBool,
}

/// Why a call is refused before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// It is worth trying again after so long.
    For(Duration),
    /// Not before the plugin changes.
    Disabled,
}

/// What a failed call began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// A pause for the client that made it.
    ForClient,
    /// A pause for everybody.
    ForEverybody,
    /// No more calls until the plugin changes.
    Disabled,
}

/// For whom calls of any kind are refused right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    /// For everybody.
    pub everybody: bool,
    /// For how many addresses besides.
    pub addresses: usize,
}

impl Breaker {
    /// No failures yet.
    pub fn new(config: &config::Breaker, on_failure: OnFailure) -> Self {
        let circuit = || Circuit::new(config.clone(), on_failure);
        Self {
            events: circuit(),
            filters: circuit(),
            webhooks: circuit(),
            connects: circuit(),
            disconnects: circuit(),
            disabled: AtomicBool::new(false),
        }
    }

    /// Whether a call may be made now that is for no client.
    pub fn admit_for_nobody(&self) -> Result<(), Paused> {
        match self.disabled.load(Ordering::Relaxed) {
            true => Err(Paused::Disabled),
            false => Ok(()),
        }
    }

    /// Whether a call of this kind may be made now for a client at this address.
    pub fn admit(&self, kind: CallKind, address: ClientAddress) -> Result<(), Paused> {
        self.admit_for_nobody()?;
        self.circuit(kind).admit(address.network())
    }

    /// A call was answered.
    pub fn succeeded(&self, kind: CallKind, address: ClientAddress) {
        self.circuit(kind).succeeded(address.network());
    }

    /// A call failed.
    pub fn failed(&self, kind: CallKind, address: ClientAddress) -> Option<Begun> {
        if self.disabled.load(Ordering::Relaxed) {
            return None;
        }
        let begun = self.circuit(kind).failed(address.network());
        if let Some(Begun::Disabled) = begun {
            self.disabled.store(true, Ordering::Relaxed);
        }
        begun
    }

    /// For `plugin list` and metrics.
    pub fn paused(&self) -> Pauses {
        let mut clients = HashSet::new();
        let circuits = [
            &self.events,
            &self.filters,
            &self.webhooks,
            &self.connects,
            &self.disconnects,
        ];
        let paused = circuits.map(|circuit| circuit.paused(&mut clients));
        Pauses {
            everybody: paused.contains(&true),
            addresses: clients.len(),
        }
    }

    fn circuit(&self, kind: CallKind) -> &Circuit {
        match kind {
            CallKind::Event | CallKind::Timer | CallKind::Migrate => &self.events,
            CallKind::Filter => &self.filters,
            CallKind::Webhook => &self.webhooks,
            CallKind::Connect => &self.connects,
            CallKind::Disconnect => &self.disconnects,
        }
    }
}
