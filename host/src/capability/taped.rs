//! What the host answers a guest and is no function of it, noted for a record or told again.

use std::{sync::Arc, time::Instant};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};

use super::{State, clock::GuestClock};
use crate::{
    clock,
    guest::Error,
    record::{Played, Tape},
    store::{Open, Reads},
};

/// An answer that is to be kept, if anything is.
pub(super) struct Note(Option<(Arc<Tape>, &'static str, Value)>);

impl Note {
    /// Keeps what the host has answered.
    pub(super) fn keep(self, answer: &impl Serialize) {
        if let Some((tape, ask, with)) = self.0 {
            tape.note(ask, with, answer);
        }
    }
}

/// What an import answers.
pub(super) enum Taped<T> {
    /// This, as it did before.
    Told(Result<T, Error>),
    /// What the host says, which is to be kept.
    Ask(Note),
}

impl State {
    /// What an import answers that is called `with` these arguments.
    pub(super) fn answer<T: DeserializeOwned>(
        &self,
        ask: &'static str,
        with: impl FnOnce() -> Value,
    ) -> Taped<T> {
        let Some(tape) = &self.tape else {
            return Taped::Ask(Note(None));
        };
        if !tape.plays() {
            return Taped::Ask(Note(Some((tape.clone(), ask, with()))));
        }
        let lacks = |what: &str| Error::Unavailable(format!("the record does not have {what}"));
        Taped::Told(match tape.played(ask, with) {
            Played::Told(value) => serde_json::from_value(value)
                .unwrap_or_else(|error| Err(lacks(&format!("what {ask} answers: {error}")))),
            Played::Unrecorded | Played::Ask => Err(lacks("this call")),
        })
    }

    /// The time by which timers are due and values are gone, in milliseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        match &self.tape {
            Some(tape) => tape.plain("now", clock::now, |at| at),
            None => clock::now(),
        }
    }

    /// What the call reads from the store is noted there.
    pub(crate) fn note_reads(&mut self, reads: Option<Arc<Reads>>) {
        self.reads = reads;
    }

    /// What notes or tells its answers, if anything does.
    pub(crate) fn tape(&self) -> Option<&Arc<Tape>> {
        self.tape.as_ref()
    }

    /// The next call reads from this store.
    pub(crate) fn read_from(&mut self, store: Open) {
        if self.store.is_some() {
            self.store = Some(store);
        }
    }
}

/// A clock whose times are noted or told.
pub(super) struct TapedWallClock(pub Arc<Tape>);

impl HostWallClock for TapedWallClock {
    fn resolution(&self) -> std::time::Duration {
        GuestClock.resolution()
    }

    fn now(&self) -> std::time::Duration {
        self.0.plain(
            "clock",
            || GuestClock.now(),
            std::time::Duration::from_millis,
        )
    }
}

/// The same, of the time that has passed.
pub(super) struct TapedMonotonicClock {
    tape: Arc<Tape>,
    began: Instant,
}

impl TapedMonotonicClock {
    pub(super) fn new(tape: Arc<Tape>) -> Self {
        let began = Instant::now();
        Self { tape, began }
    }
}

impl HostMonotonicClock for TapedMonotonicClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        let passed = || u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.tape.plain("clock.monotonic", passed, |_| passed())
    }
}
