//! A case, run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    checks::ID,
    differences::{Difference, Expected, compare},
    file::{AnswerWritten, Case, ClientWritten, Exchange, Step, WebhookWritten, body},
};
use crate::{
    clock,
    config::Config,
    guest::webhooks,
    http_client::Sent,
    plugin::Engine,
    record::stored,
    store::{self, Bucket, Follow, Key, Tell, Transaction, Unstored},
    timers::{Listed, owner},
    trial::{Client, Joined, Line, Lines, Received, Sender, Trial, TrialError},
    units::duration,
    user::{TokenClaims, User, UserId},
    webhooks::Delivery,
};

/// Why a case fails.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The line of the step.
    pub line: usize,
    /// What differs there.
    pub differences: Vec<Difference>,
    /// What was logged there.
    pub log: Vec<Line>,
}

/// Runs a case with the plugins of `config`, of which `plugin` is the one that it is about. Later steps are
/// not run when one has failed.
pub(crate) async fn run(
    config: Config,
    engine: Arc<Engine>,
    plugin: &str,
    case: &Case,
    lines: &Lines,
) -> Result<Option<Failure>, TrialError> {
    lines.take();
    let trial = Trial::start(config, engine, case.at).await?;
    let mut running = Running {
        trial: &trial,
        plugin,
        case,
        lines,
        clients: BTreeMap::new(),
        ids: BTreeMap::new(),
        stored: BTreeMap::new(),
    };
    let result = running.run().await;
    trial.server.close().await;
    result
}

/// A case that is being run.
struct Running<'a> {
    trial: &'a Trial,
    plugin: &'a str,
    case: &'a Case,
    lines: &'a Lines,
    /// Those that are connected, or were.
    clients: BTreeMap<&'a str, Client>,
    /// Their public ids, as they stand in what is expected.
    ids: BTreeMap<String, String>,
    /// What was stored before the step.
    stored: BTreeMap<Key, Value>,
}

/// What can be seen of a case between two steps.
struct Seen {
    rooms: BTreeMap<String, BTreeSet<String>>,
    /// What the plugin keeps with clients that are connected.
    data: BTreeMap<String, Value>,
    timers: BTreeMap<String, Timing>,
}

/// A timer.
#[derive(PartialEq)]
struct Timing {
    due: u64,
    comes_again: bool,
}

impl<'a> Running<'a> {
    async fn run(&mut self) -> Result<Option<Failure>, TrialError> {
        let comes_later = |name: &str| {
            let mut steps = self.case.step.iter();
            steps.any(|step| step.connect.as_deref() == Some(name))
        };
        self.put_into_store();
        let first: Vec<_> = self.case.clients.iter().collect();
        let first = first.into_iter().filter(|(name, _)| !comes_later(name));
        for (name, written) in first.collect::<Vec<_>>() {
            if let Some(error) = self.connect(name, written).await? {
                return Ok(Some(Failure {
                    line: self.case.line,
                    differences: vec![difference(&format!("{name} is let in"), None, Some(error))],
                    log: self.lines.take(),
                }));
            }
        }
        self.look_at_store();
        for client in self.clients.values_mut() {
            client.take();
        }
        self.lines.take();
        for step in &self.case.step {
            let differences = self.step(step).await?;
            let log = self.lines.take();
            if !differences.is_empty() {
                return Ok(Some(Failure {
                    line: step.line,
                    differences,
                    log,
                }));
            }
        }
        Ok(None)
    }

    /// Why the client is not let in; none if it is.
    async fn connect(
        &mut self,
        name: &'a str,
        written: &ClientWritten,
    ) -> Result<Option<Value>, TrialError> {
        let sender = match sender(written) {
            Ok(sender) => sender,
            Err(reason) => return Ok(Some(json!(reason))),
        };
        let mut client = self.trial.connect(&sender).await?;
        let mut received = client.take();
        let joined = Client::joined(&mut received);
        client.put_back(received);
        match joined {
            Joined::As(id) => {
                client.begin_with(
                    &self.trial.server.dispatcher.connections,
                    self.plugin,
                    written.rooms.clone(),
                    written.data.as_ref(),
                );
                self.ids.insert(id, format!("{ID}{name}"));
                self.clients.insert(name, client);
                Ok(None)
            }
            Joined::Not(error) => Ok(Some(error)),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<Vec<Difference>, TrialError> {
        if let Some(difference) = self.who_is_not_there(step) {
            return Ok(vec![difference]);
        }
        for exchange in &step.http {
            self.answer_with(exchange);
        }
        let before = self.see();
        let mut found = Map::new();
        let mut expected = Map::new();
        let mut refused = None;
        let mut ack = None;
        let mut status = None;
        if let Some(name) = &step.connect {
            let (name, written) = self.client_written(name);
            refused = self.connect(name, written).await?;
        } else if let Some(name) = &step.disconnect {
            if let Some(client) = self.clients.get(name.as_str()) {
                client.disconnect();
            }
            self.trial.rest().await?;
        } else if let Some(by) = step.advance {
            self.trial.server.advance(by).await?;
        } else if let Some(webhook) = &step.webhook {
            match self.deliver(webhook).await? {
                Ok(answered) => status = Some(json!(answered)),
                Err(error) => refused = Some(error),
            }
        } else if let (Some(from), Some(send)) = (&step.from, &step.send) {
            for _ in 0..step.times.unwrap_or(1) {
                ack = self.send(from, send).await?;
            }
        }
        let mut gets = self.received();
        let mut disconnects = Vec::new();
        let mut answer = None;
        for (name, received) in &mut gets {
            received.retain(|received| match received {
                Received::Disconnected => {
                    disconnects.push(json!(name));
                    false
                }
                Received::Ack { id, arguments } => {
                    if Some(*id) == ack {
                        answer = Some(arguments.clone());
                    }
                    false
                }
                _ => true,
            });
        }
        if let Some([Value::Object(fields)]) = answer.as_deref()
            && fields.len() == 1
            && fields
                .get("error")
                .is_some_and(|error| error["code"].is_string())
        {
            refused = fields.get("error").cloned();
            answer = None;
        }
        let mut put = |name: &str, wanted: Option<Value>, seen: Option<Value>| {
            let name = name.to_owned();
            expected.extend(wanted.map(|value| (name.clone(), value)));
            found.extend(seen.map(|value| (name, value)));
        };
        if step.ack.is_some() || refused.is_some() {
            put(
                "ack",
                step.ack.clone().map(Value::Array),
                answer.map(Value::Array),
            );
        }
        if step.status.is_some() || status.is_some() {
            put("status", step.status.map(|status| json!(status)), status);
        }
        let wanted = step.refused.as_ref();
        let is_code = wanted.is_some_and(Value::is_string);
        let wanted = wanted.map(|wanted| match wanted {
            Value::Object(fields) => {
                let mut fields = fields.clone();
                fields.insert("$more".to_owned(), true.into());
                Value::Object(fields)
            }
            wanted => wanted.clone(),
        });
        let code = |error: &Value| match &error["code"] {
            Value::String(code) => json!(code),
            _ => error["message"].clone(),
        };
        let shown = refused.as_ref().map(|error| match is_code {
            true => code(error),
            false => error.clone(),
        });
        put("refused", wanted, shown);
        put("gets", Some(lists(&step.gets)), Some(events(&gets)));
        put(
            "disconnects",
            some_list(&step.disconnects),
            sorted(disconnects),
        );
        let after = self.see();
        let (joins, leaves) = moved(&before, &after);
        put("joins", Some(rooms(&step.joins)), Some(joins));
        put("leaves", Some(rooms(&step.leaves)), Some(leaves));
        let data = after.data.iter();
        let data: BTreeMap<_, _> = data
            .filter(|(name, kept)| before.data.get(*name) != Some(*kept))
            .collect();
        put("data", Some(json!(step.data)), Some(json!(data)));
        let stored = self.look_at_store();
        put("stores", Some(json!(step.stores)), Some(json!(stored.own)));
        put(
            "shared",
            Some(json!(step.shared)),
            Some(json!(stored.shared)),
        );
        put("deletes", some_list(&step.deletes), sorted(stored.deleted));
        let (set, cancelled) = timed(&before, &after);
        put(
            "timers",
            Some(json!(wanted_timers(&step.timers))),
            Some(json!(set)),
        );
        put("cancels", some_list(&step.cancels), sorted(cancelled));
        let sent = self.trial.http.take();
        put(
            "http",
            Some(wanted_requests(&step.http)),
            Some(requests(&step.http, &sent)),
        );
        if refused.is_none() {
            let failures = self.lines.failures();
            put("failures", None, list(failures));
        }
        let mut found = Value::Object(found);
        self.put_names(&mut found);
        let mut differences = Vec::new();
        let expected = Value::Object(expected);
        compare(Expected::Written, "", &expected, &found, &mut differences);
        Ok(differences)
    }

    /// That a client sends, leaves or is named in what is sent and has gone or is yet to come, or that it comes and is there
    /// already: nothing would happen.
    fn who_is_not_there(&self, step: &Step) -> Option<Difference> {
        let connections = &self.trial.server.dispatcher.connections;
        let is_there = |name: &str| {
            let client = self.clients.get(name);
            client.is_some_and(|client| client.is_connected(connections))
        };
        let mut named = Vec::new();
        let sent = step.send.iter().flatten();
        sent.for_each(|value| names_in(value, &mut named));
        // The id of one that has gone is known.
        named.retain(|name| !self.clients.contains_key(name));
        let here = step.from.iter().chain(&step.disconnect);
        let here = here.map(String::as_str).filter(|name| !is_there(name));
        let away = here.chain(named).map(|name| (name, true)).next();
        let come = step.connect.as_deref().filter(|name| is_there(name));
        let (name, wanted) = away.or(come.map(|name| (name, false)))?;
        let place = format!("{name} is connected");
        Some(difference(
            &place,
            Some(json!(wanted)),
            Some(json!(!wanted)),
        ))
    }

    fn client_written(&self, name: &str) -> (&'a str, &'a ClientWritten) {
        let (name, written) = self
            .case
            .clients
            .get_key_value(name)
            .expect("steps name clients that there are");
        (name, written)
    }

    /// Sends an event, and returns the number of the ack that is asked for; none if its client has gone.
    async fn send(&mut self, from: &str, send: &[Value]) -> Result<Option<i64>, TrialError> {
        let names = self.ids.iter().map(|(id, name)| (name.clone(), id.clone()));
        let names: BTreeMap<_, _> = names.collect();
        let Some(client) = self.clients.get_mut(from) else {
            return Ok(None);
        };
        let mut arguments = send.to_vec();
        for argument in &mut arguments {
            replace(argument, &|text| match text {
                "$null" => Some(Value::Null),
                text => names.get(text).map(|id| json!(id)),
            });
        }
        let event = arguments.remove(0);
        let ack = client.emit(event.as_str().unwrap_or_default(), &arguments);
        let (case, clients) = (self.case, &mut self.clients);
        let answer = || {
            for (name, client) in clients.iter_mut() {
                client.answer_asked(&case.clients[*name].answers);
            }
        };
        self.trial.server.rest_after(answer).await?;
        Ok(Some(ack))
    }

    /// Hands a webhook over, and returns the status of the answer, or why it is refused.
    async fn deliver(&self, written: &WebhookWritten) -> Result<Result<u16, Value>, TrialError> {
        let dispatcher = &self.trial.server.dispatcher;
        let registry = dispatcher.registry.load();
        let Some(hooked) = registry.hooked(self.plugin) else {
            return Ok(Err(json!({ "code": "not_found" })));
        };
        let verification = hooked.plugin.webhook().verification.as_ref();
        let delivery = Delivery {
            request: webhooks::Request {
                method: "POST".to_owned(),
                path: written.path.clone(),
                query: Vec::new(),
                headers: written.headers.clone().into_iter().collect(),
                body: body(written.body.as_ref()),
                delivery: verification.map(|_| written.id.clone()),
            },
            client: IpAddr::from(Ipv4Addr::LOCALHOST).into(),
            span: None,
            known: verification.map(|verified| (written.id.clone(), verified.remember)),
        };
        let answered = dispatcher.deliver(hooked, delivery).await;
        self.trial.rest().await?;
        Ok(answered
            .map(|answer| answer.status())
            .map_err(|error| json!(error)))
    }

    /// What the clients have got.
    fn received(&mut self) -> BTreeMap<String, Vec<Received>> {
        let clients = self.clients.iter_mut();
        clients
            .map(|(name, client)| ((*name).to_owned(), client.take()))
            .collect()
    }

    fn answer_with(&self, exchange: &Exchange) {
        let Some(AnswerWritten {
            status,
            headers,
            body: body_written,
        }) = &exchange.answer
        else {
            return self.trial.http.push_silence();
        };
        let status = StatusCode::from_u16(*status).expect("the file was read");
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("the file was read");
                let value: HeaderValue = value.parse().expect("the file was read");
                (name, value)
            })
            .collect();
        self.trial
            .http
            .push(status, headers, body(body_written.as_ref()));
    }

    fn see(&self) -> Seen {
        let connections = &self.trial.server.dispatcher.connections;
        let rooms = self.clients.iter().map(|(name, client)| {
            let rooms = client.rooms(connections).into_iter();
            let rooms = rooms.filter(|room| !User::is_own_room(room));
            ((*name).to_owned(), rooms.collect())
        });
        let timers = self.trial.server.timers();
        let timers = timers.into_iter().map(|timer| {
            let name = match timer.plugin == self.plugin {
                true => timer.name.clone(),
                false => format!("{} {}", timer.plugin, timer.name),
            };
            let timing = Timing {
                due: timer.due,
                comes_again: comes_again(&timer),
            };
            (name, timing)
        });
        let data = self.clients.iter().filter_map(|(name, client)| {
            Some(((*name).to_owned(), client.kept(connections, self.plugin)?))
        });
        Seen {
            rooms: rooms.collect(),
            data: data.collect(),
            timers: timers.collect(),
        }
    }

    /// Stores what is there when the case begins.
    fn put_into_store(&mut self) {
        let Some(store) = self.trial.server.dispatcher.store.opened() else {
            return;
        };
        let own = Bucket::of_plugin(self.plugin);
        let own = self.case.stored.iter().map(|it| (own.clone(), it));
        let shared = self.case.shared.iter().flat_map(|(bucket, rows)| {
            let bucket = Bucket::shared(bucket);
            rows.iter().map(move |it| (bucket.clone(), it))
        });
        let mut transaction = Transaction::new(store.clone());
        for (bucket, (key, value)) in own.chain(shared) {
            let key = Key::new(&bucket, key).expect("the file was read");
            let value = store::Value {
                bytes: value.to_string().into_bytes().into(),
                expires: None,
            };
            self.stored.insert(key.clone(), stored(&value));
            transaction.set(key, value);
        }
        // In memory, and nobody else has begun.
        drop(store.commit(transaction, Box::new(Nothing)));
    }

    /// What has changed in the store since this was called last.
    fn look_at_store(&mut self) -> Stored {
        let mut changed = Stored::default();
        let calls = self.trial.witness.take();
        let written = calls.iter().filter(|call| call.is_yes);
        let keys: BTreeSet<&Key> = written
            .flat_map(|call| call.writes.keys())
            .filter(|key| owner(key).is_none() && !key.is_of_host())
            .collect();
        let Some(store) = self.trial.server.dispatcher.store.opened() else {
            return changed;
        };
        let mut transaction = Transaction::new(store);
        let own = format!("plugin/{}", self.plugin);
        for key in keys {
            // In memory, it is read at once.
            let value = transaction.get(key).now_or_never();
            let value = value.and_then(Result::ok).flatten();
            let value = value.map(|value| stored(&value));
            let former = match value.clone() {
                Some(value) => self.stored.insert(key.clone(), value),
                None => self.stored.remove(key),
            };
            if former == value {
                continue;
            }
            let (bucket, name) = (key.bucket().to_string(), key.name().to_owned());
            match value {
                Some(value) if bucket == own => _ = changed.own.insert(name, value),
                Some(value) => {
                    let bucket = changed.shared.entry(bucket).or_default();
                    bucket.insert(name, value);
                }
                None if bucket == own => changed.deleted.push(json!(name)),
                None => changed.deleted.push(json!(format!("{bucket} {name}"))),
            }
        }
        changed
    }

    /// Puts the names of clients where their ids are.
    fn put_names(&self, value: &mut Value) {
        replace(value, &|text| self.ids.get(text).map(|name| json!(name)));
    }
}

/// Follows what a case begins with.
struct Nothing;

impl Follow for Nothing {
    fn follow(self: Box<Self>, _: Result<(), Unstored>) {}

    fn overdue(&mut self) -> Tell {
        Box::new(|| {})
    }
}

/// What has changed in the store.
#[derive(Default)]
struct Stored {
    own: BTreeMap<String, Value>,
    shared: BTreeMap<String, BTreeMap<String, Value>>,
    deleted: Vec<Value>,
}

fn sender(written: &ClientWritten) -> Result<Sender, String> {
    let user = match &written.user {
        Some(id) => Some(User {
            id: UserId::from_text(id).ok_or_else(|| format!("{id:?} is no user id"))?,
            username: written.username.clone(),
            roles: written.roles.clone(),
            token: TokenClaims::default(),
        }),
        None if written.roles.is_empty() => None,
        None => return Err("roles are those of a user: say which".to_owned()),
    };
    Ok(Sender {
        user,
        namespace: written.namespace.clone().unwrap_or_else(|| "/".to_owned()),
        auth: written.auth.clone(),
    })
}

fn difference(place: &str, expected: Option<Value>, found: Option<Value>) -> Difference {
    Difference {
        place: place.to_owned(),
        expected,
        found,
    }
}

/// The clients whose ids are to be sent.
fn names_in<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => names.extend(text.strip_prefix(ID)),
        Value::Array(values) => values.iter().for_each(|value| names_in(value, names)),
        Value::Object(fields) => fields.values().for_each(|value| names_in(value, names)),
        _ => {}
    }
}

/// Replaces texts.
fn replace(value: &mut Value, by: &impl Fn(&str) -> Option<Value>) {
    match value {
        Value::String(text) => {
            if let Some(other) = by(text) {
                *value = other;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, by)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, by)),
        _ => {}
    }
}

/// Only what there is something of: what is not mentioned is not to happen.
fn lists(gets: &BTreeMap<String, Vec<Vec<Value>>>) -> Value {
    let some = gets.iter().filter(|(_, events)| !events.is_empty());
    json!(some.collect::<BTreeMap<_, _>>())
}

fn rooms(rooms: &BTreeMap<String, Vec<String>>) -> Value {
    let sorted = rooms.iter().filter(|(_, rooms)| !rooms.is_empty());
    let sorted = sorted.map(|(name, rooms)| (name, rooms.iter().collect::<BTreeSet<_>>()));
    json!(sorted.collect::<BTreeMap<_, _>>())
}

/// Names whose order says nothing.
fn some_list(names: &[String]) -> Option<Value> {
    sorted(names.iter().map(|name| json!(name)).collect())
}

fn sorted(mut names: Vec<Value>) -> Option<Value> {
    names.sort_by_key(Value::to_string);
    list(names)
}

fn list(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then_some(Value::Array(values))
}

/// The events that clients have got, as cases have them.
fn events(gets: &BTreeMap<String, Vec<Received>>) -> Value {
    let events = gets.iter().map(|(name, received)| {
        let events = received.iter().filter_map(|received| match received {
            Received::Event {
                name, arguments, ..
            } => {
                let mut event = vec![json!(name)];
                event.extend(arguments.iter().cloned());
                Some(Value::Array(event))
            }
            _ => None,
        });
        (name.clone(), events.collect::<Vec<_>>())
    });
    let some: BTreeMap<_, _> = events.filter(|(_, events)| !events.is_empty()).collect();
    json!(some)
}

/// The rooms that clients have joined, and those that they have left.
fn moved(before: &Seen, after: &Seen) -> (Value, Value) {
    let nothing = BTreeSet::new();
    let more = |one: &Seen, other: &Seen| {
        let names = one.rooms.iter().map(|(name, rooms)| {
            let former = other.rooms.get(name).unwrap_or(&nothing);
            let more: Vec<_> = rooms.difference(former).cloned().collect();
            (name.clone(), more)
        });
        let some: BTreeMap<_, _> = names.filter(|(_, rooms)| !rooms.is_empty()).collect();
        json!(some)
    };
    (more(after, before), more(before, after))
}

fn comes_again(timer: &Listed) -> bool {
    timer.every.is_some() || timer.rule.is_some()
}

/// The timers that were set, with the time until they are due, and those that were cancelled. What a timer
/// does when it is due shows by its effects.
fn timed(before: &Seen, after: &Seen) -> (BTreeMap<String, String>, Vec<Value>) {
    let now = clock::now();
    let was_due = |timing: &Timing| timing.due <= now;
    let is_set = |(name, timing): &(&String, &Timing)| match before.timers.get(*name) {
        Some(former) if former == *timing => false,
        Some(former) => !(timing.comes_again && was_due(former)),
        None => true,
    };
    let set = after.timers.iter().filter(is_set).map(|(name, timing)| {
        let after = Duration::from_millis(timing.due.saturating_sub(now));
        (name.clone(), duration::display(after).to_string())
    });
    let cancelled = before
        .timers
        .iter()
        .filter(|(name, timing)| !after.timers.contains_key(*name) && !was_due(timing));
    let cancelled = cancelled.map(|(name, _)| json!(name));
    (set.collect(), cancelled.collect())
}

/// The times as they are shown.
fn wanted_timers(timers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let as_shown = |text: &String| match duration::parse(text) {
        Ok(time) => duration::display(time).to_string(),
        Err(_) => text.clone(),
    };
    let timers = timers.iter();
    timers
        .map(|(name, text)| (name.clone(), as_shown(text)))
        .collect()
}

fn wanted_requests(exchanges: &[Exchange]) -> Value {
    let requests = exchanges.iter().map(|exchange| {
        let mut request = Map::new();
        request.insert("request".to_owned(), json!(exchange.request));
        if let Some(body) = &exchange.body {
            request.insert("body".to_owned(), body.clone());
        }
        if !exchange.headers.is_empty() {
            request.insert("headers".to_owned(), json!(exchange.headers));
        }
        Value::Object(request)
    });
    requests.collect()
}

/// The requests that were sent, with what the case says something of.
fn requests(exchanges: &[Exchange], sent: &[Sent]) -> Value {
    let requests = sent.iter().enumerate().map(|(index, sent)| {
        let exchange = exchanges.get(index);
        let mut request = Map::new();
        let line = format!("{} {}", sent.method, sent.url);
        request.insert("request".to_owned(), json!(line));
        if exchange.is_some_and(|exchange| exchange.body.is_some()) {
            let body = String::from_utf8_lossy(&sent.body);
            let body = serde_json::from_str(&body).unwrap_or_else(|_| json!(body));
            request.insert("body".to_owned(), body);
        }
        if let Some(exchange) = exchange.filter(|exchange| !exchange.headers.is_empty()) {
            let headers = exchange.headers.keys().filter_map(|name| {
                let value = sent.headers.get(name)?.to_str().ok()?;
                Some((name.clone(), json!(value)))
            });
            request.insert("headers".to_owned(), Value::Object(headers.collect()));
        }
        Value::Object(request)
    });
    requests.collect()
}
