//! Recorded calls, run again with another component.
//!
//! Each instance of the record has one here, which runs the same calls in the same order: so what it remembers
//! between them is what it remembered. What the host answered is told again, and what stood in the store is there.

mod as_case;
mod record;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::{as_case::as_case, record::Record};
use super::{
    Trial, TrialError,
    cases::{Difference, Expected, compare},
};
use crate::{
    clock,
    config::{self, Config},
    connection::Connection,
    guest::{Message, webhooks},
    plugin::{Engine, Firing, Instance, Job, Plugin},
    record::{Call, Came, Client, Given, REDACTED, Redaction, Row, Sent, Tape},
    recovery::Lost,
    store::{self, Key, Noted, NotedRange, Open, Recorded, Transaction, Write},
    transport::Session,
    user::{TokenClaims, User, UserId},
};

/// What came of a replay.
#[derive(Debug, Serialize)]
pub(crate) struct Replayed {
    /// How many calls were run.
    pub calls: usize,
    /// How many of them ran on an instance of which the record lacks calls: it may have remembered something else.
    pub after_gaps: usize,
    /// How many had something left out of what they were called for.
    pub redacted: usize,
    /// Those of which something else came.
    pub differing: Vec<Differing>,
}

/// A call of which something else came.
#[derive(Debug, Serialize)]
pub(crate) struct Differing {
    /// Its number in the record.
    pub call: u64,
    /// E.g. `event vote`.
    pub what: String,
    /// When it was, in RFC 3339.
    pub at: Option<String>,
    /// If it had failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What differs, place by place: what was recorded is what is expected.
    pub differences: Vec<Difference>,
    /// What it asked the host and the record does not have: it was told that this is unavailable, the time at which
    /// the call began, or zeros for what is random.
    pub unrecorded: Vec<String>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Runs the calls of the plugin `name` in a record again, with the plugin in `config`.
pub(crate) async fn run(
    record: &Record,
    name: &str,
    mut config: Config,
    engine: Arc<Engine>,
) -> Result<Replayed, TrialError> {
    let calls = record.calls.iter().filter(|call| call.plugin == name);
    let first = calls.clone().next().map_or(1, |call| call.at);
    let mut configured = Value::Null;
    for plugin in &mut config.plugins {
        configured = serde_json::from_str(&plugin.config).unwrap_or_default();
        if let Some(instance) = record.last_instance(name) {
            plugin.config = with_secrets(instance.config.clone(), &configured).to_string();
        }
    }
    let store = config.store.clone();
    let trial = Trial::start(config, engine, first).await?;
    let status = trial.server.status.plugins.first();
    let plugin = status.and_then(|status| status.plugin.as_ref()?.upgrade());
    let plugin = plugin.ok_or(TrialError::Gone)?;
    let session = trial.server.begin_session();
    let session = session.ok_or(TrialError::NoMoreClients)?;
    let mut replay = Replay {
        record,
        trial: &trial,
        plugin,
        session,
        configured,
        store,
        redaction: Redaction::new(record.head.redact.clone()),
        instances: HashMap::new(),
        migrating: None,
        replayed: Replayed {
            calls: 0,
            after_gaps: 0,
            redacted: 0,
            differing: Vec::new(),
        },
    };
    for call in calls {
        replay.run(call).await;
    }
    let replayed = replay.replayed;
    drop(replay.instances);
    trial.server.close().await;
    Ok(replayed)
}

/// A replay that is under way.
struct Replay<'a> {
    record: &'a Record,
    trial: &'a Trial,
    plugin: Arc<Plugin>,
    /// All connections are over it.
    session: Arc<Session>,
    /// What the plugin is configured with in `mixlab.toml`.
    configured: Value,
    store: config::Store,
    redaction: Redaction,
    /// By their numbers in the record.
    instances: HashMap<u64, Playing>,
    /// What the batches of a migration have read and written so far, on whichever instances they ran.
    migrating: Option<(Arc<Recorded>, Box<Transaction>)>,
    replayed: Replayed,
}

/// An instance, and what its calls are told.
struct Playing {
    tape: Arc<Tape>,
    /// None if it failed and the next call begins on another.
    instance: Option<Box<Instance>>,
    /// Which of its calls was the last.
    nth: u64,
}

impl Replay<'_> {
    async fn run(&mut self, call: &Call) {
        clock::hold(call.at);
        self.replayed.calls += 1;
        self.replayed.redacted += usize::from(call.redacted);
        let mut playing = match self.instances.remove(&call.instance) {
            Some(playing) if playing.instance.is_some() => playing,
            former => {
                self.begin(call, former.map_or(0, |former| former.nth))
                    .await
            }
        };
        self.replayed.after_gaps += usize::from(call.nth != playing.nth + 1);
        playing.nth = call.nth;
        let Some(mut instance) = playing.instance.take() else {
            // Why it does not describe itself is said with each of its calls.
            let failed = json!({ "failed": "unavailable" });
            let came = Came::new(failed, &[], &Default::default());
            self.compare(call, came, Some("no instance".to_owned()), Vec::new());
            return;
        };
        let (recorded, transaction) = self.stored(call);
        instance.state().read_from(Open::Recorded(recorded.clone()));
        playing.tape.rewind(call.at, call.answers.clone());
        let job = self.job(call, transaction);
        let rerun = self.plugin.rerun(instance, job).await;
        let mut unrecorded = recorded.take_missing();
        unrecorded.extend(playing.tape.take_unrecorded());
        self.compare(call, rerun.came, rerun.reason, unrecorded);
        if let Given::Migrate { .. } = call.given {
            self.migrating = rerun.transaction.map(|it| (recorded, it));
        }
        playing.instance = rerun.instance;
        // What failed for good took its instance along.
        if call.reason.is_none() {
            self.instances.insert(call.instance, playing);
        }
    }

    /// A new instance for the calls of one in the record.
    async fn begin(&self, call: &Call, nth: u64) -> Playing {
        let line = self.record.instance(call);
        let config = with_secrets(line.config.clone(), &self.configured).to_string();
        let tape = Tape::play(&line, config, call.at, self.redaction.clone());
        let instance = self.plugin.instance_for(tape.clone()).await.ok();
        Playing {
            tape,
            instance,
            nth,
        }
    }

    fn compare(
        &mut self,
        call: &Call,
        came: Came,
        reason: Option<String>,
        unrecorded: Vec<String>,
    ) {
        let mut found = json!(came);
        self.redaction.payload(&mut found);
        let mut differences = Vec::new();
        let recorded = json!(call.came);
        compare(Expected::Recorded, "", &recorded, &found, &mut differences);
        // What is made of what was left out of the record tells nothing.
        let is_made_of_it = |found: &Value| found.as_str().is_some_and(|it| it.contains(REDACTED));
        differences.retain(|it| !it.found.as_ref().is_some_and(is_made_of_it));
        if differences.is_empty() && unrecorded.is_empty() {
            return;
        }
        self.replayed.differing.push(Differing {
            call: call.call,
            what: what(&call.given),
            at: clock::text(call.at),
            trace_id: self.record.trace_id(call).map(str::to_owned),
            differences,
            unrecorded,
            reason,
        });
    }

    /// What stands in the store for a call, and what was read and written for it before.
    fn stored(&mut self, call: &Call) -> (Arc<Recorded>, Box<Transaction>) {
        let is_next = matches!(
            &call.given,
            Given::Migrate {
                cursor: Some(_),
                ..
            }
        );
        if is_next && let Some((recorded, transaction)) = self.migrating.take() {
            recorded.extend(noted(call));
            return (recorded, transaction);
        }
        let recorded = Recorded::new(self.store.clone(), noted(call));
        let mut transaction = Box::new(Transaction::new(Open::Recorded(recorded.clone())));
        for row in &call.before {
            let key = Key::stored(&row.bucket, &row.key);
            match write(row) {
                Write::Set(value) => transaction.set(key, value),
                Write::Delete => transaction.delete(key),
                // It was possible when it was recorded.
                Write::Add(by) => _ = transaction.add(key, by),
            }
        }
        (recorded, transaction)
    }

    fn job(&self, call: &Call, transaction: Box<Transaction>) -> Job {
        let before = |transaction| (!call.before.is_empty()).then_some(transaction);
        let connection = || {
            let client = call.connection.as_ref();
            let client = client.cloned().unwrap_or_else(nobody);
            Arc::new(self.connection(client))
        };
        match &call.given {
            Given::Event(sent) => {
                let connection = connection();
                Job::Event {
                    identity: connection.identity(),
                    connection,
                    event: sent.event.as_str().into(),
                    message: Arc::new(guest_message(sent)),
                    transaction: before(transaction),
                }
            }
            Given::Filter(sent) => {
                let connection = connection();
                Job::Filter {
                    identity: connection.identity(),
                    connection,
                    event: sent.event.as_str().into(),
                    message: Arc::new(guest_message(sent)),
                    transaction: before(transaction),
                }
            }
            Given::Connect(auth) => Job::Connect {
                connection: connection(),
                auth: auth.get().to_owned(),
            },
            Given::Disconnect(reason) => Job::Disconnect {
                connection: connection(),
                reason: reason.clone().into(),
            },
            Given::Timer {
                name,
                payload,
                due,
                attempt,
            } => Job::Timer(Arc::new(Firing {
                name: name.clone(),
                payload: payload.get().to_owned(),
                due: *due,
                attempt: *attempt,
            })),
            Given::Webhook {
                method,
                path,
                query,
                headers,
                body,
                delivery,
            } => Job::Webhook {
                request: Arc::new(webhooks::Request {
                    method: method.clone(),
                    path: path.clone(),
                    query: query.clone(),
                    headers: headers.clone(),
                    body: body.0.clone(),
                    delivery: delivery.clone(),
                }),
                client: IpAddr::from([127, 0, 0, 1]).into(),
            },
            Given::Migrate { from, cursor } => Job::Migrate {
                from: *from,
                cursor: cursor.clone(),
                transaction,
            },
        }
    }

    fn connection(&self, client: Client) -> Connection {
        let namespaces = &self.trial.server.namespaces;
        let path = &client.namespace;
        if namespaces.get(path).is_none() {
            namespaces.open(path);
        }
        let adapter = namespaces.get(path).expect("it is open");
        let address = client
            .address
            .parse()
            .unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let kept = client.data.map(|data| {
            let json: Arc<str> = data.get().into();
            (self.plugin.name().clone(), json)
        });
        let user = client.user.and_then(|user| {
            Some(User {
                id: UserId::from_text(&user.id)?,
                username: user.username,
                roles: user.roles,
                token: TokenClaims::default(),
            })
        });
        let lost = Lost {
            id: client.id,
            namespace: client.namespace,
            rooms: client.rooms,
            data: Vec::from_iter(kept).into(),
            user,
            address: address.into(),
        };
        let mut connection = Connection::lost(lost, self.session.clone(), adapter);
        connection.recovered = client.recovered;
        connection
    }
}

fn nobody() -> Client {
    Client {
        id: String::new(),
        namespace: "/".to_owned(),
        address: "127.0.0.1".to_owned(),
        user: None,
        recovered: false,
        rooms: Vec::new(),
        data: None,
    }
}

fn guest_message(sent: &Sent) -> Message {
    Message {
        arguments: sent.arguments.get().to_owned(),
        attachments: sent.attachments.iter().map(|it| it.0.clone()).collect(),
    }
}

/// E.g. `event vote`.
fn what(given: &Given) -> String {
    match given {
        Given::Event(sent) => format!("event {}", sent.event),
        Given::Filter(sent) => format!("filter {}", sent.event),
        Given::Connect(_) => "connect".to_owned(),
        Given::Disconnect(reason) => format!("disconnect ({reason})"),
        Given::Timer { name, .. } => format!("timer {name}"),
        Given::Webhook { method, path, .. } => format!("webhook {method} {path}"),
        Given::Migrate { from, cursor } => match cursor {
            None => format!("migrate {from}"),
            Some(cursor) => format!("migrate {from} {cursor:?}"),
        },
    }
}

/// What a row says of its key.
fn write(row: &Row) -> Write {
    match (&row.value, row.add) {
        (_, Some(by)) => Write::Add(by),
        (Some(value), None) => Write::Set(store::Value {
            bytes: value.0.as_slice().into(),
            expires: row.expires,
        }),
        (None, None) => Write::Delete,
    }
}

/// What stands in the store for a call.
fn noted(call: &Call) -> Noted {
    let keys = call.reads.iter().map(|row| {
        let value = match write(row) {
            Write::Set(value) => Some(value),
            Write::Delete | Write::Add(_) => None,
        };
        (Key::stored(&row.bucket, &row.key), value)
    });
    let ranges = call.ranges.iter().map(|range| {
        let key = |name: &String| Key::stored(&range.bucket, name);
        NotedRange {
            prefix: key(&range.prefix),
            after: range.after.as_ref().map(key),
            last: range.last.as_ref().map(key),
        }
    });
    Noted {
        keys: keys.collect(),
        ranges: ranges.collect(),
        written: BTreeSet::new(),
    }
}

/// A configuration with what was left out of it, as `mixlab.toml` has it.
fn with_secrets(recorded: Value, configured: &Value) -> Value {
    match recorded {
        Value::String(text) if text == REDACTED && !configured.is_null() => configured.clone(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| {
                let value = with_secrets(value, &configured[&name]);
                (name, value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(values) => {
            let values = values.into_iter().enumerate();
            let values = values.map(|(index, value)| with_secrets(value, &configured[index]));
            Value::Array(values.collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_configuration_are_those_of_mixlab_toml() {
        let recorded = json!({ "a": 1, "token": REDACTED, "of": [{ "secret": REDACTED }] });
        let configured = json!({ "a": 2, "token": "x", "of": [{ "secret": "y" }] });
        assert_eq!(
            with_secrets(recorded, &configured),
            json!({ "a": 1, "token": "x", "of": [{ "secret": "y" }] })
        );
        let none = json!({ "token": REDACTED });
        assert_eq!(with_secrets(none.clone(), &Value::Null), none);
    }
}
