//! A recorded call as a case of `mixlab test`.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Map, Value, json};

use crate::{
    clock,
    record::{Answered, Call, Client, Failed, Given, Instance, Row, message},
    user::User,
};

/// The name of the client in a case.
const CLIENT: &str = "sender";

/// A file with one case, in which the call does what it did. It expects nothing, so that it fails as long as the call
/// does, and shows how. An error says why the call cannot be one.
pub(crate) fn as_case(call: &Call, failed: &Failed, instance: &Instance) -> Result<String, String> {
    let step = step(call)?;
    let mut text = String::new();
    let line = |text: &mut String, line: std::fmt::Arguments<'_>| {
        // A text takes whatever is written.
        let _ = writeln!(text, "{line}");
    };
    let reason = failed.reason.lines().next().unwrap_or_default();
    line(&mut text, format_args!("# Recorded: {reason}"));
    line(
        &mut text,
        format_args!(
            "# What the instance remembered of the {} calls before is not in it.",
            call.nth - 1
        ),
    );
    let left_out = without_form(&call.reads);
    for key in &left_out {
        line(
            &mut text,
            format_args!("# Not JSON, and so not stored here: {key:?}."),
        );
    }
    if call.redacted {
        line(
            &mut text,
            format_args!("# Something was left out of the record: see \"[redacted]\"."),
        );
    }
    line(
        &mut text,
        format_args!("plugin = {}", inline(&json!(call.plugin))),
    );
    line(
        &mut text,
        format_args!("grants = {}", inline(&json!(instance.grants))),
    );
    line(
        &mut text,
        format_args!("config = {}", inline(&instance.config)),
    );
    line(&mut text, format_args!("\n[[case]]"));
    let name = format!("the call that failed with trace {}", failed.trace_id);
    line(&mut text, format_args!("name = {}", inline(&json!(name))));
    if let Some(at) = clock::text(call.at) {
        line(&mut text, format_args!("at = {}", inline(&json!(at))));
    }
    if let Some(client) = &call.connection {
        let client = client_of(client, call);
        line(
            &mut text,
            format_args!("clients.{CLIENT} = {}", inline(&client)),
        );
    }
    let (own, shared) = stored(call);
    if !own.is_empty() {
        line(&mut text, format_args!("stored = {}", inline(&json!(own))));
    }
    if !shared.is_empty() {
        line(
            &mut text,
            format_args!("shared = {}", inline(&json!(shared))),
        );
    }
    line(&mut text, format_args!("\n[[case.step]]"));
    for (key, value) in &step {
        line(&mut text, format_args!("{key} = {}", inline(value)));
    }
    Ok(text)
}

/// What happens in the step.
fn step(call: &Call) -> Result<Vec<(&'static str, Value)>, String> {
    let mut step = match &call.given {
        Given::Event(sent) => {
            let attachments: Vec<&[u8]> = sent.attachments.iter().map(|it| &*it.0).collect();
            let arguments = message(sent.arguments.get(), &attachments);
            let mut send = vec![json!(sent.event)];
            send.extend(arguments.as_array().cloned().unwrap_or_default());
            vec![("from", json!(CLIENT)), ("send", Value::Array(send))]
        }
        Given::Connect(_) => vec![("connect", json!(CLIENT))],
        Given::Disconnect(_) => vec![("disconnect", json!(CLIENT))],
        Given::Webhook {
            path,
            headers,
            body,
            delivery,
            ..
        } => {
            let text = String::from_utf8_lossy(&body.0);
            let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
            let headers: BTreeMap<_, _> = headers.iter().cloned().collect();
            let id = delivery.as_deref().unwrap_or("recorded");
            let webhook = json!({ "id": id, "path": path, "headers": headers, "body": body });
            vec![("webhook", webhook)]
        }
        Given::Filter(sent) => {
            return Err(format!(
                "the call filtered {:?}, which is another plugin's event: a case with that plugin has to send it",
                sent.event
            ));
        }
        Given::Migrate { .. } => {
            return Err("the call was a batch of a migration, which no step is".to_owned());
        }
        Given::Timer { name, .. } => {
            return Err(format!(
                "the call was for the timer {name:?}, which a case has to set by an event before"
            ));
        }
    };
    let requests: Vec<Value> = call.answers.iter().filter_map(exchange).collect();
    if !requests.is_empty() {
        step.push(("http", Value::Array(requests)));
    }
    Ok(step)
}

/// A request that was sent, and its answer.
fn exchange(answered: &Answered) -> Option<Value> {
    let answer = &answered.answer;
    let response = match answered.ask.as_str() {
        // It was refused before it was sent.
        "wasi:http" if !answer["came"]["refused"].is_null() => return None,
        "http.send" => &answer["Ok"],
        "wasi:http" => &answer["came"]["answered"],
        _ => return None,
    };
    let line = format!(
        "{} {}",
        answered.with[0].as_str()?,
        answered.with[1].as_str()?
    );
    let mut exchange = json!({ "request": line });
    if let Some(response) = response.as_object() {
        let headers = response["headers"].as_array().into_iter().flatten();
        let headers =
            headers.filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].clone())));
        let body = response["body"].as_str().unwrap_or_default();
        exchange["answer"] = json!({
            "status": response["status"],
            "headers": headers.collect::<Map<_, _>>(),
            "body": body,
        });
    }
    Some(exchange)
}

fn client_of(client: &Client, call: &Call) -> Value {
    let mut written = Map::new();
    let mut put = |key: &str, value: Value| _ = written.insert(key.to_owned(), value);
    if let Some(user) = &client.user {
        put("user", json!(user.id));
        if let Some(username) = &user.username {
            put("username", json!(username));
        }
        put("roles", json!(user.roles));
    }
    if client.namespace != "/" {
        put("namespace", json!(client.namespace));
    }
    let rooms = client.rooms.iter().filter(|room| !User::is_own_room(room));
    let rooms: Vec<_> = rooms.collect();
    if !rooms.is_empty() {
        put("rooms", json!(rooms));
    }
    if let Some(data) = &client.data {
        put("data", json!(data));
    }
    if let Given::Connect(auth) = &call.given {
        put("auth", json!(auth));
    }
    let answers: Map<String, Value> = call.answers.iter().filter_map(answer).collect();
    if !answers.is_empty() {
        put("answers", Value::Object(answers));
    }
    Value::Object(written)
}

/// What the client answered to an event.
fn answer(answered: &Answered) -> Option<(String, Value)> {
    if answered.ask != "ask.ask" {
        return None;
    }
    let event = answered.with[0].as_str()?.to_owned();
    let arguments = answered.answer["Ok"]["arguments"].as_str()?;
    Some((event, serde_json::from_str(arguments).ok()?))
}

type Rows = BTreeMap<String, Value>;

/// What stood in the plugin's own bucket, and in others.
fn stored(call: &Call) -> (Rows, BTreeMap<String, Rows>) {
    let own_bucket = format!("plugin/{}", call.plugin);
    let mut own = Rows::new();
    let mut shared: BTreeMap<String, Rows> = BTreeMap::new();
    for row in call.before.iter().chain(&call.reads) {
        let Some(value) = json_of(row) else { continue };
        if row.bucket == own_bucket {
            own.insert(row.key.clone(), value);
        } else if let Some(bucket) = row.bucket.strip_prefix("shared/") {
            let rows = shared.entry(bucket.to_owned()).or_default();
            rows.insert(row.key.clone(), value);
        }
    }
    (own, shared)
}

fn json_of(row: &Row) -> Option<Value> {
    serde_json::from_slice(&row.value.as_ref()?.0).ok()
}

/// The keys whose values a case cannot have.
fn without_form(rows: &[Row]) -> Vec<&str> {
    let rows = rows.iter();
    let some = rows.filter(|row| row.value.is_some() && json_of(row).is_none());
    some.map(|row| row.key.as_str()).collect()
}

/// JSON as TOML has it, in one line. TOML has no null: cases write it as a word.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"$null\"".to_owned(),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(inline).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| format!("{} = {}", json!(key), inline(value)))
                .collect();
            match fields.is_empty() {
                true => "{}".to_owned(),
                false => format!("{{ {} }}", fields.join(", ")),
            }
        }
        // JSON's escapes are TOML's, and so are its numbers.
        value => value.to_string().replace('\u{7f}', "\\u007f"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_there_with_their_answers_by_whichever_way_they_were_sent() {
        let response = json!({ "status": 201, "headers": [["x-a", "1"]], "body": "made" });
        let answered = |ask: &str, answer: Value| Answered {
            ask: ask.to_owned(),
            with: json!(["POST", "https://a.example/b", "sent"]),
            answer,
        };
        let request = "POST https://a.example/b";
        let whole = json!({
            "request": request,
            "answer": { "status": 201, "headers": { "x-a": "1" }, "body": "made" },
        });
        let none = json!({ "request": request });
        for (ask, answer, expected) in [
            ("http.send", json!({ "Ok": response }), Some(&whole)),
            (
                "wasi:http",
                json!({ "came": { "answered": response } }),
                Some(&whole),
            ),
            ("http.send", json!({ "Err": "TimedOut" }), Some(&none)),
            (
                "wasi:http",
                json!({ "came": { "failed": "http_response_timeout" } }),
                Some(&none),
            ),
            ("wasi:http", Value::Null, Some(&none)),
            ("clock", json!(1), None),
        ] {
            assert_eq!(exchange(&answered(ask, answer)).as_ref(), expected, "{ask}");
        }
        // It never left the server: a case that expected it would fail.
        let refused = json!({ "came": { "refused": "http_request_denied" } });
        assert_eq!(exchange(&answered("wasi:http", refused)), None);
    }

    #[test]
    fn values_are_read_back_as_they_were() {
        let value = json!({
            "a b": [1, -2.5, true, "x\n\"\\\u{0}\u{7f}ö", "$null"],
            "c": {},
            "d": { "e": [{}] },
        });
        let document = format!("x = {}\n", inline(&value));
        let parsed: toml_edit::Document<String> = document.parse().unwrap();
        let read = crate::trial::cases::of_toml(&parsed["x"]).unwrap();
        assert_eq!(read, value);
    }
}
