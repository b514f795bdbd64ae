//! Answers that were written down before: with them, no request leaves the process.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;

use super::{Answer, NoAnswer};

/// Answers, and what was asked.
#[derive(Default)]
pub(crate) struct Canned(Mutex<State>);

#[derive(Default)]
struct State {
    answers: VecDeque<Option<Answer>>,
    sent: Vec<Sent>,
}

/// A request that would have been sent.
#[derive(Debug)]
pub(crate) struct Sent {
    /// In capital letters.
    pub method: String,
    /// As it would have been sent.
    pub url: String,
    /// With those that `mixlab.toml` puts in.
    pub headers: HeaderMap,
    /// As it would have been sent.
    pub body: Bytes,
}

impl Canned {
    /// The request behind those that have their answers already gets this one.
    pub(crate) fn push(&self, status: StatusCode, headers: HeaderMap, body: Vec<u8>) {
        let answer = Answer {
            status,
            headers,
            body,
        };
        self.0.lock().answers.push_back(Some(answer));
    }

    /// The server of the request behind those that have their answers already cannot be reached.
    pub(crate) fn push_silence(&self) {
        self.0.lock().answers.push_back(None);
    }

    /// What was sent since this was called last. Answers that nobody asked for are forgotten.
    pub(crate) fn take(&self) -> Vec<Sent> {
        let mut state = self.0.lock();
        state.answers.clear();
        mem::take(&mut state.sent)
    }

    pub(super) async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<Answer, NoAnswer> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let sent = Sent {
            method: head.method.to_string(),
            url: head.uri.to_string(),
            headers: head.headers,
            body: body.to_bytes(),
        };
        let answer = {
            let mut state = self.0.lock();
            state.sent.push(sent);
            state.answers.pop_front()
        };
        let unreachable = |reason: &str| NoAnswer::Broken(reason.to_owned());
        let answer = answer.ok_or_else(|| unreachable("nobody has written an answer down"))?;
        let answer = answer.ok_or_else(|| unreachable("it cannot be reached"))?;
        match answer.bytes() > max_bytes {
            true => Err(NoAnswer::TooLarge),
            false => Ok(answer),
        }
    }
}
