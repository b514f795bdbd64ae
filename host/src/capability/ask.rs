//! `mixlab:plugin/ask`: events that clients answer. They are sent at once, and the call waits.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::{Duration, Instant},
};

use super::{
    RESERVE, State, checked_event, denied, emit::selection_size, permits::Place, sockets::unheard,
    taped::Taped,
};
use crate::{
    cluster::Want,
    guest::{
        Error, Message as GuestMessage,
        ask::{self, Answer, Answers},
        types,
    },
    message::Message,
    record,
    transport::Unanswered,
    units::duration,
};
use futures_util::{StreamExt, stream};
use serde_json::json;

/// An ask that may be sent.
struct Question {
    event: String,
    message: Message,
    timeout: Duration,
    /// Held while the call waits.
    _place: Place,
}

impl ask::Host for State {
    async fn ask(
        &mut self,
        event: String,
        message: GuestMessage,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<GuestMessage, Error>> {
        self.count(&event, &message)?;
        let with = || {
            json!([
                event,
                record::message(&message.arguments, &message.attachments)
            ])
        };
        let note = match self.answer("ask.ask", with) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let answer = match self.question(event, message, timeout_ms).await {
            Ok(question) => self.ask_connection(question).await,
            Err(error) => Err(error),
        };
        note.keep(&answer);
        Ok(answer)
    }

    async fn ask_sockets(
        &mut self,
        selection: types::Selection,
        event: String,
        message: GuestMessage,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Answers, Error>> {
        self.count(&event, &message)?;
        self.meter.boundary(selection_size(&selection))?;
        let with = || {
            let shown = record::message(&message.arguments, &message.attachments);
            json!([selection, event, shown])
        };
        let note = match self.answer("ask.ask-sockets", with) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let answers = match self.question(event, message, timeout_ms).await {
            Ok(question) => self.ask_selection(selection, question).await,
            Err(error) => Err(error),
        };
        note.keep(&answers);
        Ok(answers)
    }
}

impl State {
    fn count(&mut self, event: &str, message: &GuestMessage) -> wasmtime::Result<()> {
        let attachments: usize = message.attachments.iter().map(Vec::len).sum();
        self.meter
            .host_call(event.len() + message.arguments.len() + attachments)?;
        Ok(())
    }

    async fn question(
        &mut self,
        event: String,
        message: GuestMessage,
        timeout_ms: u32,
    ) -> Result<Question, Error> {
        if !self.grants().ask(&event) {
            return Err(denied(format_args!("ask:{event}")));
        }
        checked_event(&event)?;
        let Some(until) = self.until.filter(|_| self.may_ask) else {
            let reason = "clients can be asked only while one of their events is handled";
            return Err(Error::Invalid(reason.into()));
        };
        let message = self.checked(message)?;
        let timeout = Duration::from_millis(timeout_ms.into());
        let now = Instant::now();
        let left = until.saturating_duration_since(now + RESERVE);
        if timeout > left {
            let left = duration::display(Duration::from_millis(left.as_millis() as u64));
            return Err(Error::OverBudget(format!(
                "wall: it leaves {left} to wait for clients"
            )));
        }
        self.meter.effect()?;
        let place = self.asks.take(now + (left - timeout)).await;
        let busy = || Error::Busy("asks: too many calls of the plugin wait for clients".into());
        Ok(Question {
            event,
            message,
            timeout,
            _place: place.ok_or_else(busy)?,
        })
    }

    async fn ask_connection(&mut self, question: Question) -> Result<GuestMessage, Error> {
        let connection = self.connection()?.clone();
        let Question {
            event,
            message,
            timeout,
            _place,
        } = question;
        self.acted = true;
        let answers = connection
            .adapter()
            .ask(&[connection.key.session], &event, message, timeout);
        match pin!(answers).next().await {
            Some((_, Ok(message))) => {
                self.meter.answer(message.size())?;
                Ok(message.into())
            }
            Some((_, Err(Unanswered::TimedOut))) => Err(Error::TimedOut),
            Some((_, Err(Unanswered::Disconnected))) | None => Err(Error::Disconnected),
        }
    }

    async fn ask_selection(
        &mut self,
        selection: types::Selection,
        question: Question,
    ) -> Result<Answers, Error> {
        let selected = self.granted_selection(selection, Some(&question.event))?;
        let connection = self.connection.clone();
        let connection = connection.as_deref();
        let asked = selected.connections(connection, &self.broadcast);
        let ids: HashMap<_, _> = asked
            .iter()
            .map(|asked| (asked.key.session, asked.id.clone()))
            .collect();
        let Question {
            event,
            message,
            timeout,
            _place,
        } = question;
        let until = tokio::time::Instant::now() + timeout;
        let elsewhere = self.elsewhere(&selected, Want::Ids, until).await?;
        let mut waiting: HashSet<String> = ids.values().cloned().collect();
        let elsewhere = elsewhere.into_iter().map(|(server, it)| (server, it.id));
        let elsewhere: Vec<_> = elsewhere
            .filter(|(_, id)| waiting.insert(id.clone()))
            .collect();
        self.acted |= !waiting.is_empty();
        let here = selected.at(connection, &self.broadcast, |adapter| {
            let sockets: Vec<_> = ids.keys().copied().collect();
            adapter.ask(&sockets, &event, message.clone(), timeout)
        });
        let here = stream::iter(here).flatten();
        let here = here
            .filter_map(async |(client, answer)| Some((ids.get(&client)?.clone(), answer.ok())));
        let there = match (self.broadcast.others(), selected.path(connection)) {
            (Some(others), Some(path)) if !elsewhere.is_empty() => {
                let asked = others.ask(path, elsewhere, &event, &message, until).await;
                Some(asked.map_err(|reason| unheard(&reason))?)
            }
            _ => None,
        };
        let there = stream::iter(there).flatten();
        let mut acks = pin!(stream::select(here, there));
        let mut answers = Vec::new();
        let mut missing = Vec::new();
        while let Some((socket, answer)) = acks.next().await {
            if !waiting.remove(&socket) {
                continue;
            }
            match answer {
                Some(message) if self.meter.answer(message.size()).is_ok() => {
                    answers.push(Answer {
                        socket,
                        message: message.into(),
                    });
                }
                _ => missing.push(socket),
            }
        }
        // They were gone before the event was sent, or their servers are.
        missing.extend(waiting);
        Ok(Answers { answers, missing })
    }
}
