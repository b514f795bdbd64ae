//! What came of an event's call, held against what its plugin has declared.

use std::borrow::Cow;

use super::answer;
use crate::{
    admission::{MAX_STEPS, Schema, Violation},
    capability,
    effect::Effect,
    error::WireError,
    guest,
    message::{Arguments, Message},
    plugin::{CallError, Reply},
    registry::Route,
};

/// What a plugin said, and what it recorded.
pub struct Outcome {
    reply: Result<Reply, CallError>,
    effects: Vec<Effect>,
    max_attachments: usize,
}

/// What becomes of it.
pub enum Verdict {
    /// The effects happen, and the ack is sent if there is one.
    Done(Option<Message>, Vec<Effect>),
    /// The client is told the plugin's "no".
    Rejected(WireError),
    /// It is no answer.
    Failed(CallError),
}

impl Outcome {
    /// Of a call that ended so, for clients that take so many attachments.
    pub fn new(
        reply: Result<Reply, CallError>,
        effects: Vec<Effect>,
        max_attachments: usize,
    ) -> Self {
        Self {
            reply,
            effects,
            max_attachments,
        }
    }

    /// How many steps it may take to judge it.
    pub fn steps(&self, route: &Route) -> usize {
        let reply = match (&self.reply, &route.contract.reply) {
            (Ok(Reply::Event(Ok(guest::Outcome::Reply(message)))), Some(schema)) => {
                schema.steps(message.arguments.len())
            }
            _ => 0,
        };
        let emits = emits(route, &self.effects);
        let emits = emits.map(|(_, schema, arguments)| schema.steps(arguments.as_str().len()));
        emits.fold(reply, usize::saturating_add)
    }

    /// Checks what a plugin that was `given` an event answered, and what it wants to emit.
    pub fn judge(self, route: &Route, given: &guest::Message) -> Verdict {
        if self.steps(route) > MAX_STEPS {
            let reason =
                "its reply and what it emits are too much to be checked against its contract";
            return Verdict::Failed(CallError::Invalid(reason.to_owned()));
        }
        let Self {
            reply,
            effects,
            max_attachments,
        } = self;
        let outcome = match reply {
            Ok(Reply::Event(outcome)) => outcome,
            Ok(_) => unreachable!("an event's call ends with an event's reply"),
            Err(error) => return Verdict::Failed(error),
        };
        let reply = match outcome {
            Ok(guest::Outcome::Done) => Ok(Some(Message::none())),
            Ok(guest::Outcome::NoAck) => Ok(None),
            Ok(guest::Outcome::Reply(message)) => {
                checked_reply(route, message, given, max_attachments).map(Some)
            }
            Err(rejection) => {
                return match answer::rejection(rejection) {
                    Ok(error) => Verdict::Rejected(error),
                    Err(error) => Verdict::Failed(error),
                };
            }
        };
        match reply.and_then(|reply| check_emits(route, &effects).map(|()| reply)) {
            Ok(reply) => Verdict::Done(reply, effects),
            Err(reason) => Verdict::Failed(CallError::Invalid(reason)),
        }
    }
}

fn checked_reply(
    route: &Route,
    message: guest::Message,
    given: &guest::Message,
    max_attachments: usize,
) -> Result<Message, String> {
    let message = capability::checked(message, Some(given), max_attachments)
        .map_err(|error| format!("its reply is {error}"))?;
    if let Some(schema) = &route.contract.reply {
        schema.check(&message.arguments).map_err(|violation| {
            let Violation { path, message, .. } = violation;
            format!("its reply breaks its contract: {path}: {message}")
        })?;
    }
    Ok(message)
}

fn check_emits(route: &Route, effects: &[Effect]) -> Result<(), String> {
    for (event, schema, arguments) in emits(route, effects) {
        schema.check(&arguments).map_err(|violation| {
            let Violation { path, message, .. } = violation;
            format!("its emit of {event:?} breaks its contract: {path}: {message}")
        })?;
    }
    Ok(())
}

/// What is emitted under names that the plugin has declared with a schema.
fn emits<'a>(
    route: &'a Route,
    effects: &'a [Effect],
) -> impl Iterator<Item = (&'a str, &'a Schema, Cow<'a, Arguments>)> {
    let declared = |(event, arguments)| Some((event, route.emits.get(event)?, arguments));
    let effects = if route.emits.is_empty() { &[] } else { effects };
    effects
        .iter()
        .filter_map(Effect::emitted)
        .filter_map(declared)
}
