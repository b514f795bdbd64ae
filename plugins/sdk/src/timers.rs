//! Calls at times that the plugin says.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::exports::mixlab::plugin::lifecycle::Missed;
use crate::host::timers::{self, When};
use crate::rejection::not_json;
use crate::{Context, Error};

impl Context {
    /// The plugin's timers, which outlive reloads and restarts. Grant: `timers`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use mixlab_plugin::{Timer, prelude::*};
    ///
    /// mixlab_plugin::export!(plugin, timers);
    ///
    /// fn plugin(_: &Config) -> Result<Plugin, String> {
    ///     Ok(Plugin::new("reminders", "1.0.0")
    ///         .event(Event::new("remind").handle_args(remind))
    ///         .on_timer(|cx: &Context, timer: Timer| {
    ///             let user: String = timer.payload()?;
    ///             Ok(cx.send_user_notification(&user, &timer.name())?)
    ///         }))
    /// }
    ///
    /// fn remind(cx: &Context, (what, seconds): (String, u64)) -> Result<(), Rejection> {
    ///     let user = &cx.user()?.id;
    ///     Ok(cx.timers().after(Duration::from_secs(seconds)).set(&what, user)?)
    /// }
    /// # fn main() {}
    /// ```
    pub fn timers(&self) -> Timers {
        Timers {
            due: When::After(0),
            every: None,
            serial: None,
        }
    }
}

/// When a timer is due that is about to be [`set`](Timers::set): at once, unless it says otherwise.
#[derive(Clone, Debug)]
#[must_use = "no timer is set without `set`"]
pub struct Timers {
    due: When,
    every: Option<Duration>,
    serial: Option<String>,
}

impl Timers {
    /// So long after now.
    pub fn after(mut self, wait: Duration) -> Self {
        self.due = When::After(milliseconds(wait));
        self
    }

    /// At this time.
    pub fn at(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.due = When::At(milliseconds(since));
        self
    }

    /// And again, so long after it was due, until it is cancelled.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self
    }

    /// In its turn among calls with this key, as events are that say
    /// [`serial_by`](crate::Event::serial_by).
    pub fn serial(mut self, key: impl Into<String>) -> Self {
        self.serial = Some(key.into());
        self
    }

    /// Sets the timer of this name, which replaces one that is there: an effect. The payload is what
    /// [`on_timer`](crate::Plugin::on_timer) gets.
    ///
    /// One that is due at once is a job: it is done when the handler has returned, and tried again until it
    /// succeeds.
    pub fn set(self, name: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        timers::set(&timers::Timer {
            name: name.to_owned(),
            due: self.due,
            payload: serde_json::to_string(payload).map_err(not_json)?,
            every_ms: self.every.map(milliseconds),
            serial: self.serial,
        })
    }

    /// Cancels the timer of this name, if there is one: an effect.
    pub fn cancel(self, name: &str) -> Result<(), Error> {
        timers::cancel(name)
    }
}

/// A timer that is due.
#[derive(Clone, Debug)]
pub struct Timer {
    name: String,
    payload: String,
    due_ms: u64,
    attempt: u32,
}

impl Timer {
    pub(crate) fn new(name: String, payload: String, due_ms: u64, attempt: u32) -> Self {
        Self {
            name,
            payload,
            due_ms,
            attempt,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was set with; `null` for a schedule.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.payload)
            .map_err(|error| Error::Invalid(format!("payload of {}: {error}", self.name)))
    }

    /// When it was due. It is called a little later.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.due_ms)
    }

    /// Which attempt it is, from 1: what fails is tried again.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
