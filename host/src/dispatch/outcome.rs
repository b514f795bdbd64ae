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
    registry::{Emits, Route},
};

/// What a plugin said, and what it recorded.
pub(super) struct Outcome {
    reply: Result<Reply, CallError>,
    effects: Vec<Effect>,
    max_attachments: usize,
}

/// What becomes of it.
pub(super) enum Verdict {
    /// The effects happen, and the ack is sent if there is one.
    Done(Option<Message>, Vec<Effect>),
    /// The client is told the plugin's "no".
    Rejected(WireError),
    /// It is no answer.
    Failed(CallError),
}

impl Outcome {
    /// Of a call that ended so, for clients that take so many attachments.
    pub(super) fn new(
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
    pub(super) fn steps(&self, route: &Route) -> usize {
        let reply = match (&self.reply, &route.contract.reply) {
            (Ok(Reply::Event(Ok(guest::Outcome::Reply(message)))), Some(schema)) => {
                schema.steps(message.arguments.len())
            }
            _ => 0,
        };
        reply.saturating_add(steps_of_emits(&route.emits, &self.effects))
    }

    /// Checks what a plugin that was `given` an event answered, and what it wants to emit.
    pub(super) fn judge(self, route: &Route, given: &guest::Message) -> Verdict {
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
                let schema = route.contract.reply.as_ref();
                checked_reply(schema, message, given, max_attachments).map(Some)
            }
            Err(rejection) => return Verdict::of_rejection(rejection),
        };
        match reply.and_then(|reply| check_emits(&route.emits, &effects).map(|()| reply)) {
            Ok(reply) => Verdict::Done(reply, effects),
            Err(reason) => Verdict::Failed(CallError::Invalid(reason)),
        }
    }
}

impl Verdict {
    /// The plugin's "no".
    pub(super) fn of_rejection(rejection: guest::Rejection) -> Self {
        match answer::rejection(rejection) {
            Ok(error) => Self::Rejected(error),
            Err(error) => Self::Failed(error),
        }
    }

    /// What was to happen `before` happens first, if this does.
    pub(super) fn after(self, mut before: Vec<Effect>) -> Self {
        match self {
            Self::Done(reply, effects) => {
                before.extend(effects);
                Self::Done(reply, before)
            }
            no => no,
        }
    }
}

/// Checks an ack's message, which has to match the `schema` if there is one.
pub(super) fn checked_reply(
    schema: Option<&Schema>,
    message: guest::Message,
    given: &guest::Message,
    max_attachments: usize,
) -> Result<Message, String> {
    let message = capability::checked(message, Some(given), max_attachments)
        .map_err(|error| format!("its reply is {error}"))?;
    if let Some(schema) = schema {
        schema.check(&message.arguments).map_err(|violation| {
            let Violation { path, message, .. } = violation;
            format!("its reply breaks its contract: {path}: {message}")
        })?;
    }
    Ok(message)
}

/// How many steps it may take to check what is emitted.
pub(super) fn steps_of_emits(declared: &Emits, effects: &[Effect]) -> usize {
    let emits = emits(declared, effects);
    let steps = emits.map(|(_, schema, arguments)| schema.steps(arguments.as_str().len()));
    steps.fold(0, usize::saturating_add)
}

/// Checks what is emitted against what was declared.
pub(super) fn check_emits(declared: &Emits, effects: &[Effect]) -> Result<(), String> {
    for (event, schema, arguments) in emits(declared, effects) {
        schema.check(&arguments).map_err(|violation| {
            let Violation { path, message, .. } = violation;
            format!("its emit of {event:?} breaks its contract: {path}: {message}")
        })?;
    }
    Ok(())
}

/// What is emitted under names that the plugin has declared with a schema.
fn emits<'a>(
    declared: &'a Emits,
    effects: &'a [Effect],
) -> impl Iterator<Item = (&'a str, &'a Schema, Cow<'a, Arguments>)> {
    let with_schema = |(event, arguments)| Some((event, declared.get(event)?, arguments));
    let effects = if declared.is_empty() { &[] } else { effects };
    effects
        .iter()
        .filter_map(Effect::emitted)
        .filter_map(with_schema)
}
