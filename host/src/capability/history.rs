//! `mixlab:plugin/history`: events that were kept.

use std::time::UNIX_EPOCH;

use super::{State, denied, taped::Taped};
use crate::{
    guest::{Error, history},
    history::{Entry, Position, is_topic},
};

/// What an entry takes as it crosses the boundary beside its texts, in bytes.
const ENTRY_BYTES: usize = 100;

impl history::Host for State {
    fn since(
        &mut self,
        topic: String,
        position: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<history::Page, Error>> {
        let bytes = topic.len() + position.as_ref().map_or(0, String::len);
        self.meter.host_call(bytes)?;
        let with = || serde_json::json!([topic, position, limit]);
        let note = match self.answer("history.since", with) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let page = self.kept_since(&topic, position.as_deref(), limit);
        note.keep(&page);
        Ok(page)
    }
}

impl State {
    /// Whether events of a topic may be kept and read.
    pub(super) fn granted_topic(&self, topic: &str) -> Result<(), Error> {
        if !self.grants().history(topic) {
            return Err(denied(format_args!("history:{topic}")));
        }
        if !is_topic(topic) {
            let reason = "topic: a name has 1 to 256 bytes and no control characters";
            return Err(Error::Invalid(reason.to_owned()));
        }
        Ok(())
    }

    fn kept_since(
        &mut self,
        topic: &str,
        position: Option<&str>,
        limit: u32,
    ) -> Result<history::Page, Error> {
        self.granted_topic(topic)?;
        let no_position = |()| Error::Invalid("position: it is none".to_owned());
        let position = position
            .map(str::parse::<Position>)
            .transpose()
            .map_err(no_position)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let meter = &mut self.meter;
        let mut over = None;
        let take = |entry: &Entry| {
            let bytes = ENTRY_BYTES + entry.event.len() + entry.message.size();
            let taken = meter.answer(bytes);
            over = taken.err();
            over.is_none()
        };
        let page = self.broadcast.history().since(topic, position, limit, take);
        // Where not even one fits, nobody would ever come further.
        if let Some(error) = over
            && page.entries.is_empty()
        {
            return Err(error);
        }
        let told = |(position, entry): (Position, Entry)| history::Entry {
            position: position.to_string(),
            at_ms: entry
                .at
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            event: entry.event.as_ref().to_owned(),
            message: entry.message.into(),
        };
        Ok(history::Page {
            position: page.position.to_string(),
            gap: page.gap,
            more: page.more,
            entries: page.entries.into_iter().map(told).collect(),
        })
    }
}
