//! Events that are kept for those who missed them.
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::host::history;
use crate::{Context, Emit, Error, Kept, Page};

impl Context {
    /// At most `limit` events that were kept in a topic: those behind a position, or without one the last.
    /// Grant: `history:TOPIC`.
    ///
    /// ```no_run
    /// use mixlab_plugin::{PastEvents, prelude::*};
    ///
    /// fn say(cx: &Context, text: String) -> Result<(), Rejection> {
    ///     Ok(cx.to("chat:42").include_sender().keep("chat:42").emit("said", &text)?)
    /// }
    ///
    /// fn missed(cx: &Context, position: Option<String>) -> Result<PastEvents, Rejection> {
    ///     Ok(PastEvents::from(cx.history("chat:42", position.as_deref(), 50)?))
    /// }
    /// ```
    pub fn history(&self, topic: &str, position: Option<&str>, limit: u32) -> Result<Page, Error> {
        history::since(topic, position, limit)
    }
}

impl Emit {
    /// Keeps the event in a topic of the history as well. Grant: `history:TOPIC`.
    pub fn keep(mut self, topic: impl Into<String>) -> Self {
        self.keep = Some(topic.into());
        self
    }
}

/// A [`Page`] as JSON for a client. Attachments are left out.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PastEvents {
    /// The oldest first.
    pub events: Vec<PastEvent>,
    /// Where to go on.
    pub position: String,
    /// Whether events are gone that should stand before these.
    pub gap: bool,
    /// Whether there are more behind these.
    pub more: bool,
}

/// An event of [`PastEvents`].
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PastEvent {
    /// The place behind it.
    pub position: String,
    /// When it was emitted, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its name.
    pub event: String,
    /// Its arguments, as they were emitted.
    pub arguments: Box<RawValue>,
}

impl From<Page> for PastEvents {
    fn from(page: Page) -> Self {
        let event = |kept: Kept| PastEvent {
            position: kept.position,
            at_ms: kept.at_ms,
            event: kept.event,
            // The host has checked that it is JSON.
            arguments: RawValue::from_string(kept.message.arguments).unwrap_or_default(),
        };
        Self {
            events: page.entries.into_iter().map(event).collect(),
            position: page.position,
            gap: page.gap,
            more: page.more,
        }
    }
}
