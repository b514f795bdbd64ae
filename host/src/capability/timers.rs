//! `mixlab:plugin/timers`: calls at times of the plugin's own.

use super::{State, denied};
use crate::{
    guest::{Error, timers},
    message::check_readable,
    store::Key,
    timers::{Kind, MAX_NAME_BYTES, MAX_PAYLOAD_BYTES, Timer, bucket},
};

impl timers::Host for State {
    fn set(&mut self, timer: timers::Timer) -> wasmtime::Result<Result<(), Error>> {
        let serial = timer.serial.as_ref().map_or(0, String::len);
        self.meter
            .host_call(timer.name.len() + timer.payload.len() + serial)?;
        Ok(self.set_timer(timer))
    }

    fn cancel(&mut self, name: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(name.len())?;
        Ok(self.cancel_timer(&name))
    }
}

impl State {
    fn set_timer(&mut self, timer: timers::Timer) -> Result<(), Error> {
        let timers::Timer {
            name,
            due,
            payload,
            every_ms,
            serial,
        } = timer;
        let key = self.timer_key(&name)?;
        let invalid = |what: &str| Err(Error::Invalid(what.to_owned()));
        if payload.len() > MAX_PAYLOAD_BYTES {
            return invalid("payload: at most 64 KiB");
        }
        if serde_json::from_str::<&serde_json::value::RawValue>(&payload).is_err()
            || check_readable(&payload).is_err()
        {
            return invalid("payload: it is no JSON");
        }
        if every_ms == Some(0) {
            return invalid("every-ms: at least 1");
        }
        if serial
            .as_ref()
            .is_some_and(|serial| serial.len() > MAX_NAME_BYTES)
        {
            return invalid("serial: at most 256 bytes");
        }
        let now = self.now();
        let (due, since) = match due {
            timers::When::After(milliseconds) => (now.saturating_add(milliseconds), Some(now)),
            timers::When::At(time) => (time, None),
        };
        let timer = Timer {
            every: every_ms,
            since,
            serial,
            ..Timer::new(due, payload)
        };
        self.transaction()?;
        self.meter.effect()?;
        self.transaction()?.set(key, timer.to_value());
        Ok(())
    }

    fn cancel_timer(&mut self, name: &str) -> Result<(), Error> {
        let key = self.timer_key(name)?;
        self.transaction()?;
        self.meter.effect()?;
        self.transaction()?.delete(key);
        Ok(())
    }

    fn timer_key(&self, name: &str) -> Result<Key, Error> {
        if !self.grants().timers() {
            return Err(denied("timers"));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::Invalid("name: at most 256 bytes".to_owned()));
        }
        let key = Key::new(&bucket(Kind::Set, &self.plugin), name);
        key.map_err(|error| Error::Invalid(format!("name: {error}")))
    }
}
