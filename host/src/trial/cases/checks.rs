//! What cases may say: what would never happen, or be taken for something else, is refused where it is written.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::file::{AnswerWritten, Case, Step};
use crate::{
    record::BYTES,
    store::{Bucket, Key},
};

/// What stands for the id of a client's connection begins so.
pub(super) const ID: &str = "$id:";

/// Something happens in the case, and what it begins with can be.
pub(super) fn case(case: &Case, steps: usize) -> Result<(), String> {
    if steps == 0 {
        // It would pass whatever the plugin does.
        return Err("there is no [[case.step]] in it".to_owned());
    }
    let shared = case.shared.values().flat_map(|rows| rows.keys());
    // Which bucket it is in makes no difference.
    let bucket = Bucket::shared("");
    for key in case.stored.keys().chain(shared) {
        Key::new(&bucket, key).map_err(|error| format!("stored {key:?}: {error}"))?;
    }
    Ok(())
}

/// One thing happens in the step, to clients that there are.
pub(super) fn step(step: &Step, case: &Case) -> Result<(), String> {
    let happens = [
        step.send.is_some(),
        step.webhook.is_some(),
        step.connect.is_some(),
        step.disconnect.is_some(),
        step.advance.is_some(),
    ];
    if happens.into_iter().filter(|it| *it).count() != 1 {
        return Err("a step has one of send, webhook, connect, disconnect and advance".to_owned());
    }
    if step.send.is_some() != step.from.is_some() {
        return Err("send and from belong together".to_owned());
    }
    if step.times == Some(0) || (step.times.is_some() && step.send.is_none()) {
        return Err("times is how often an event is sent: 1 or more, with send".to_owned());
    }
    if let Some(send) = &step.send {
        match send.first() {
            Some(Value::String(name)) if name != "$null" => {}
            _ => return Err("send is a list of an event's name and its arguments".to_owned()),
        }
        send.iter().try_for_each(|value| sent(value, case))?;
    }
    let mut answers = step.http.iter().filter_map(|it| it.answer.as_ref());
    answers.try_for_each(answer)?;
    let clients = [&step.from, &step.connect, &step.disconnect];
    let clients = clients.into_iter().flatten();
    let unknown = clients
        .chain(step.gets.keys())
        .chain(step.joins.keys())
        .chain(step.leaves.keys())
        .chain(step.data.keys())
        .chain(&step.disconnects)
        .find(|name| !case.clients.contains_key(*name));
    unknown.map_or(Ok(()), |name| Err(no_client(name)))
}

/// What stands for something else in what is sent stands for something.
fn sent(value: &Value, case: &Case) -> Result<(), String> {
    match value {
        Value::String(text) => match text.strip_prefix(ID) {
            Some(name) if !case.clients.contains_key(name) => {
                Err(format!("{text:?}: {}", no_client(name)))
            }
            _ => Ok(()),
        },
        Value::Array(values) => values.iter().try_for_each(|value| sent(value, case)),
        Value::Object(fields) => {
            let bytes = fields.get(BYTES).filter(|_| fields.len() == 1);
            let is_base64 = |text: &str| BASE64_STANDARD.decode(text).is_ok();
            match bytes {
                Some(bytes) if !bytes.as_str().is_some_and(is_base64) => {
                    Err(format!("{value}: expected base64"))
                }
                _ => fields.values().try_for_each(|value| sent(value, case)),
            }
        }
        _ => Ok(()),
    }
}

fn answer(answer: &AnswerWritten) -> Result<(), String> {
    let AnswerWritten {
        status, headers, ..
    } = answer;
    if StatusCode::from_u16(*status).is_err() {
        return Err(format!("http: {status} is no status"));
    }
    let is_header = |(name, value): &(&String, &String)| {
        name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok()
    };
    match headers.iter().find(|header| !is_header(header)) {
        Some((name, value)) => Err(format!("http: {name:?}: {value:?} is no header")),
        None => Ok(()),
    }
}

fn no_client(name: &str) -> String {
    format!("there is no client {name:?} in the case")
}
