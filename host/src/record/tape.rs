//! What the host answers the calls of one instance, noted or told again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    line::{Answered, Bytes, Call, Client, Given, Instance},
    recorder::{Recorder, Recording, Taken},
    redacted::Redaction,
};
use crate::store::{Key, Reads, Write};

/// The tape of an instance.
pub struct Tape {
    mode: Mode,
    /// Of what is random and need not be secret.
    seed: u128,
    reel: Mutex<Reel>,
}

enum Mode {
    /// It notes.
    Records {
        recorder: Arc<Recorder>,
        instance: Instance,
        /// How many calls there were.
        calls: AtomicU64,
    },
    /// It tells. What is asked is compared as it was recorded.
    Plays {
        redaction: Redaction,
        /// JSON text, what the instance is configured with.
        config: String,
    },
}

#[derive(Default)]
struct Reel {
    /// What was answered, or is still to be told.
    answers: VecDeque<Answered>,
    /// The call that is under way while it is recorded.
    begun: Option<Begun>,
    /// When the call began that is played, in milliseconds since 1970.
    at: u64,
    /// What the call asked and the record does not have.
    unrecorded: Vec<String>,
}

impl Reel {
    fn call(&self) -> Option<u64> {
        self.begun.as_ref().map(|begun| begun.call)
    }
}

/// A call that is under way.
struct Begun {
    call: u64,
    nth: u64,
    at: u64,
    given: Given,
    connection: Option<Client>,
    before: Vec<(Key, Write)>,
    reads: Arc<Reads>,
}

/// Where what comes later is noted.
pub(crate) struct Place {
    /// None: the instance describes itself.
    call: Option<u64>,
    index: usize,
}

/// What became of an import.
pub(crate) enum Played {
    /// It is told as it was.
    Told(Value),
    /// It is not in the record.
    Unrecorded,
    /// The host has to be asked, and its answer noted.
    Ask,
}

impl Tape {
    /// Records an instance.
    pub(crate) fn record(recorder: Arc<Recorder>, instance: Instance) -> Arc<Self> {
        let seed = rand::random();
        let instance = Instance {
            instance: recorder.next_instance(),
            seed: format!("{seed:032x}"),
            ..instance
        };
        Arc::new(Self {
            mode: Mode::Records {
                recorder,
                instance,
                calls: AtomicU64::new(0),
            },
            seed,
            reel: Mutex::default(),
        })
    }

    /// Plays what was recorded of an instance, from its description on.
    pub(crate) fn play(
        instance: &Instance,
        config: String,
        at: u64,
        redaction: Redaction,
    ) -> Arc<Self> {
        let reel = Reel {
            answers: instance.answers.iter().cloned().collect(),
            at,
            ..Reel::default()
        };
        Arc::new(Self {
            mode: Mode::Plays { redaction, config },
            seed: u128::from_str_radix(&instance.seed, 16).unwrap_or_default(),
            reel: Mutex::new(reel),
        })
    }

    /// Of what is random and need not be secret.
    pub(crate) fn seed(&self) -> u128 {
        self.seed
    }

    /// JSON text, what the instance is configured with that is played.
    pub(crate) fn config(&self) -> Option<&String> {
        match &self.mode {
            Mode::Plays { config, .. } => Some(config),
            Mode::Records { .. } => None,
        }
    }

    /// Whether it tells.
    pub(crate) fn plays(&self) -> bool {
        matches!(self.mode, Mode::Plays { .. })
    }

    /// The instance has described itself.
    pub(crate) fn described(&self) {
        let answers = std::mem::take(&mut self.reel.lock().answers);
        if let Mode::Records {
            recorder, instance, ..
        } = &self.mode
        {
            let answers = answers.into();
            let instance = instance.clone();
            recorder.instance(Instance {
                answers,
                ..instance
            });
        }
    }

    /// A call begins, at this time in milliseconds since 1970. What it has of the store is to be noted in what
    /// this returns.
    pub(crate) fn begin(
        &self,
        at: u64,
        given: impl FnOnce() -> (Given, Option<Client>),
        before: impl FnOnce() -> Vec<(Key, Write)>,
    ) -> Arc<Reads> {
        let reads: Arc<Reads> = Arc::default();
        let Mode::Records {
            recorder, calls, ..
        } = &self.mode
        else {
            return reads;
        };
        let (given, connection) = given();
        let begun = Begun {
            call: recorder.next_call(),
            nth: calls.fetch_add(1, Ordering::Relaxed) + 1,
            at,
            given,
            connection,
            before: before(),
            reads: reads.clone(),
        };
        *self.reel.lock() = Reel {
            begun: Some(begun),
            ..Reel::default()
        };
        reads
    }

    /// Where the failure of the call that is under way is recorded; none if it is not recorded.
    pub(crate) fn recording(&self) -> Option<Recording> {
        let Mode::Records { recorder, .. } = &self.mode else {
            return None;
        };
        let call = self.reel.lock().call()?;
        Some(Recording::new(recorder.clone(), call))
    }

    /// The call has ended, with what `end` says of it.
    pub(crate) fn end(&self, end: impl FnOnce(Taken) -> Taken) {
        let Mode::Records {
            recorder, instance, ..
        } = &self.mode
        else {
            return;
        };
        let Reel { answers, begun, .. } = std::mem::take(&mut *self.reel.lock());
        let Some(begun) = begun else { return };
        let call = Call {
            call: begun.call,
            instance: instance.instance,
            nth: begun.nth,
            plugin: instance.plugin.clone(),
            at: begun.at,
            given: begun.given,
            connection: begun.connection,
            before: Vec::new(),
            reads: Vec::new(),
            ranges: Vec::new(),
            answers: answers.into(),
            came: Default::default(),
            reason: None,
            redacted: false,
        };
        recorder.call(end(Taken::new(call, begun.before, begun.reads)));
    }

    /// The call is played that was answered this, and began at this time.
    pub(crate) fn rewind(&self, at: u64, answers: Vec<Answered>) {
        *self.reel.lock() = Reel {
            answers: answers.into(),
            at,
            ..Reel::default()
        };
    }

    /// What the call asked and the record does not have.
    pub(crate) fn take_unrecorded(&self) -> Vec<String> {
        std::mem::take(&mut self.reel.lock().unrecorded)
    }

    /// The call asks what cannot be told.
    pub(crate) fn unrecorded(&self, what: String) {
        self.reel.lock().unrecorded.push(what);
    }

    /// What an import returned, where it is told.
    pub(crate) fn played(&self, ask: &str, with: impl FnOnce() -> Value) -> Played {
        let Mode::Plays { redaction, .. } = &self.mode else {
            return Played::Ask;
        };
        let mut with = with();
        redaction.payload(&mut with);
        if let Some(answer) = self.told(ask, &with) {
            return Played::Told(answer);
        }
        let what = match with {
            Value::Null => ask.to_owned(),
            with => format!("{ask} {with}"),
        };
        self.unrecorded(what);
        Played::Unrecorded
    }

    /// What is told for this, if anything is.
    pub(crate) fn told(&self, ask: &str, with: &Value) -> Option<Value> {
        if !self.plays() {
            return None;
        }
        let mut reel = self.reel.lock();
        let is_it = |answered: &Answered| answered.ask == ask && answered.with == *with;
        let index = reel.answers.iter().position(is_it)?;
        Some(reel.answers.remove(index)?.answer)
    }

    /// Notes what an import returned.
    pub(crate) fn note(&self, ask: &str, with: Value, answer: &impl Serialize) {
        // A value that has no form in JSON is not noted, and is unrecorded in a replay.
        let Ok(answer) = serde_json::to_value(answer) else {
            return;
        };
        self.reel.lock().answers.push_back(Answered {
            ask: ask.to_owned(),
            with,
            answer,
        });
    }

    /// Keeps a place for what comes while the guest goes on. It is null until it comes.
    pub(crate) fn reserve(&self, ask: &str, with: Value) -> Place {
        let mut reel = self.reel.lock();
        let place = Place {
            call: reel.call(),
            index: reel.answers.len(),
        };
        reel.answers.push_back(Answered {
            ask: ask.to_owned(),
            with,
            answer: Value::Null,
        });
        place
    }

    /// Notes what came, unless the call has ended: then this is false.
    pub(crate) fn fill(&self, place: &Place, answer: &impl Serialize) -> bool {
        // A value that has no form in JSON is as one that never came.
        let answer = serde_json::to_value(answer).unwrap_or_default();
        let mut reel = self.reel.lock();
        let is_its_call = reel.call() == place.call;
        let answered = reel.answers.get_mut(place.index).filter(|_| is_its_call);
        answered.map(|answered| answered.answer = answer).is_some()
    }

    /// Whether something is what was recorded, without what was left out.
    pub(crate) fn is_recorded(&self, found: &impl Serialize, recorded: &impl Serialize) -> bool {
        let Mode::Plays { redaction, .. } = &self.mode else {
            return false;
        };
        let mut found = serde_json::to_value(found).unwrap_or_default();
        redaction.payload(&mut found);
        serde_json::to_value(recorded).is_ok_and(|recorded| recorded == found)
    }

    /// A number or the like that the host has for whoever asks; where none is recorded, what `instead` says of the
    /// time at which the call began.
    pub(crate) fn plain<T: Serialize + DeserializeOwned>(
        &self,
        ask: &str,
        host: impl FnOnce() -> T,
        instead: impl FnOnce(u64) -> T,
    ) -> T {
        match self.played(ask, || Value::Null) {
            Played::Told(value) => {
                serde_json::from_value(value).unwrap_or_else(|_| instead(self.reel.lock().at))
            }
            Played::Unrecorded => instead(self.reel.lock().at),
            Played::Ask => {
                let answer = host();
                self.note(ask, Value::Null, &answer);
                answer
            }
        }
    }

    /// What the host has at random, so many bytes.
    pub(crate) fn random<E>(
        &self,
        ask: &str,
        len: u64,
        host: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        Ok(match self.played(ask, || len.into()) {
            Played::Told(value) => {
                serde_json::from_value(value).map_or_else(|_| Vec::new(), |Bytes(bytes)| bytes)
            }
            // One byte is as good as another, and none makes a difference between two replays.
            Played::Unrecorded => vec![0; usize::try_from(len).unwrap_or_default()],
            Played::Ask => {
                let bytes = host()?;
                self.note(ask, len.into(), &Bytes(bytes.clone()));
                bytes
            }
        })
    }
}
