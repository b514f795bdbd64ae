//! Events that clients answer.
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::bindings::mixlab::plugin::types::Selection;
use crate::host::ask;
use crate::message::not_an_answer;
use crate::rejection::in_words;
use crate::{Context, Error, Message, Rejection};

impl Context {
    /// Emits an event with one argument to the sender and waits for its ack, whose first argument
    /// this returns, as `emitWithAck` does in JavaScript; `()` takes an ack without arguments.
    /// Grant: `ask` or `ask:EVENT`.
    ///
    /// It acts at once, before anything that the handler emits, and also if the handler fails
    /// later. The wait counts towards the wall-clock budget of the call.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use mixlab_plugin::{AskError, prelude::*};
    ///
    /// fn pay(cx: &Context, amount: u64) -> Result<bool, Rejection> {
    ///     match cx.ask::<bool>("confirm", &amount, Duration::from_secs(3)) {
    ///         Ok(confirmed) => Ok(confirmed),
    ///         Err(AskError::TimedOut) => Ok(false),
    ///         Err(other) => Err(other.into()),
    ///     }
    /// }
    /// ```
    pub fn ask<T: DeserializeOwned>(
        &self,
        event: &str,
        argument: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<T, AskError> {
        let answer = self.ask_message(event, &Message::of(argument)?, timeout)?;
        first(&answer).map_err(AskError::Invalid)
    }

    /// Emits an event with several arguments to the sender and waits for its ack, whose arguments
    /// this returns, as a tuple or anything else that deserialises from an array. Grant: `ask` or
    /// `ask:EVENT`.
    pub fn ask_args<T: DeserializeOwned>(
        &self,
        event: &str,
        arguments: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<T, AskError> {
        let answer = self.ask_message(event, &Message::of_args(arguments)?, timeout)?;
        serde_json::from_str(&answer.arguments)
            .map_err(|error| AskError::Invalid(not_an_answer(&error)))
    }

    /// Emits an event with a ready-made payload to the sender and waits for its ack, with its
    /// attachments. Grant: `ask` or `ask:EVENT`.
    pub fn ask_message(
        &self,
        event: &str,
        message: &Message,
        timeout: Duration,
    ) -> Result<Message, AskError> {
        Ok(ask::ask(event, message, milliseconds(timeout))?)
    }
}

/// Asks the sockets of a selection, and waits until all have answered or the time is over.
pub(crate) fn ask_sockets(
    selection: &Selection,
    event: &str,
    message: &Message,
    timeout: Duration,
) -> Result<Answers<Message>, Error> {
    let asked = ask::ask_sockets(selection, event, message, milliseconds(timeout))?;
    let given = asked.answers.into_iter();
    Ok(Answers {
        given: given.map(|one| (one.socket, one.message)).collect(),
        missing: asked.missing,
    })
}

/// What the sockets of a selection answered, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers<T> {
    /// In the order in which the answers came.
    pub given: Vec<(String, T)>,
    /// Those that gave no answer in time, or none that can be read as `T`.
    pub missing: Vec<String>,
}

impl Answers<Message> {
    pub(crate) fn typed<T: DeserializeOwned>(self) -> Answers<T> {
        let mut answers = Answers {
            given: Vec::with_capacity(self.given.len()),
            missing: self.missing,
        };
        for (socket, message) in self.given {
            match first(&message) {
                Ok(answer) => answers.given.push((socket, answer)),
                Err(_) => answers.missing.push(socket),
            }
        }
        answers
    }
}

/// Why there is no answer to an ask.
#[derive(Clone, Debug)]
pub enum AskError {
    /// The host did not ask.
    Refused(Error),
    /// The client did not answer in time.
    TimedOut,
    /// The connection ended before the client answered.
    Disconnected,
    /// The answer is not what was expected. The text says where.
    Invalid(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.write_str(&in_words(error.clone())),
            Self::TimedOut => f.write_str(&in_words(Error::TimedOut)),
            Self::Disconnected => f.write_str(&in_words(Error::Disconnected)),
            Self::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for AskError {}

impl From<Error> for AskError {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => Self::TimedOut,
            Error::Disconnected => Self::Disconnected,
            refused => Self::Refused(refused),
        }
    }
}

/// `no_answer` if the client is to blame, as it may be another time; what the host refused is as
/// for any [`Error`].
impl From<AskError> for Rejection {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(error) => error.into(),
            AskError::Invalid(text) => Self::invalid_payload(text),
            AskError::TimedOut => Error::TimedOut.into(),
            AskError::Disconnected => Error::Disconnected.into(),
        }
    }
}

/// The first argument of an ack.
fn first<T: DeserializeOwned>(answer: &Message) -> Result<T, String> {
    let parse = || -> serde_json::Result<T> {
        let arguments: Vec<&RawValue> = serde_json::from_str(&answer.arguments)?;
        serde_json::from_str(arguments.first().map_or("null", |first| first.get()))
    };
    parse().map_err(|error| not_an_answer(&error))
}

fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(arguments: &str) -> Message {
        Message {
            arguments: arguments.to_owned(),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn the_first_argument_of_an_ack_is_the_answer() {
        assert_eq!(first(&message("[7,8]")), Ok(7));
        assert_eq!(first(&message("[]")), Ok(()));
        assert_eq!(first::<Option<u8>>(&message("[]")), Ok(None));
        assert_eq!(
            first::<u8>(&message("[300]")).unwrap_err(),
            "ack: invalid value: integer `300`, expected u8 at line 1 column 3"
        );
    }

    #[test]
    fn answers_of_another_type_are_missing() {
        let answers = Answers {
            given: vec![
                ("a".to_owned(), message("[1]")),
                ("b".to_owned(), message("[\"x\"]")),
            ],
            missing: vec!["c".to_owned()],
        };
        let typed: Answers<u8> = answers.typed();
        assert_eq!(typed.given, [("a".to_owned(), 1)]);
        assert_eq!(typed.missing, ["c", "b"]);
    }

    #[test]
    fn a_timeout_is_at_most_what_the_contract_can_say() {
        assert_eq!(milliseconds(Duration::from_secs(3)), 3000);
        assert_eq!(milliseconds(Duration::MAX), u32::MAX);
    }

    #[test]
    fn a_client_that_does_not_answer_is_told_so() {
        let rejection = Rejection::from(AskError::TimedOut);
        assert_eq!(rejection.code, "no_answer");
        assert!(rejection.temporary);
        let refused = Rejection::from(AskError::Refused(Error::Denied("x".to_owned())));
        assert_eq!(
            (refused.code.as_str(), refused.message.as_str()),
            ("plugin_error", "x")
        );
    }
}
