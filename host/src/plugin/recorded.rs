//! What a record has of calls, and calls that are run again.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Instant};

use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout_at;

use super::{
    call_error::CallError,
    generation::Plugin,
    instance::Instance,
    job::{Firing, Job, Reply},
    metered::{CpuTime, Metered},
};
use crate::{
    capability::Recorded,
    connection::{Connection, Identity},
    guest::{Message, Outcome, Rejection, Verdict},
    record::{Bytes, Came, Client, Given, Sent, Taken, Tape, User, message},
    store::{Key, Transaction, Write},
    telemetry::Traced,
};

/// What a job is for, and for which connection.
pub(super) fn given(job: &Job, plugin: &str) -> (Given, Option<Client>) {
    match job {
        Job::Event {
            connection,
            identity,
            event,
            message,
            ..
        } => {
            let client = client(connection, identity, plugin);
            (Given::Event(sent(event, message)), Some(client))
        }
        Job::Filter {
            connection,
            identity,
            event,
            message,
            ..
        } => {
            let client = client(connection, identity, plugin);
            (Given::Filter(sent(event, message)), Some(client))
        }
        Job::Connect { connection, auth } => {
            let client = client(connection, &connection.identity(), plugin);
            (Given::Connect(raw(auth)), Some(client))
        }
        Job::Disconnect { connection, reason } => {
            let client = client(connection, &connection.identity(), plugin);
            (Given::Disconnect(reason.clone().into_owned()), Some(client))
        }
        Job::Timer(firing) => {
            let Firing {
                name,
                payload,
                due,
                attempt,
            } = &**firing;
            let given = Given::Timer {
                name: name.clone(),
                payload: raw(payload),
                due: *due,
                attempt: *attempt,
            };
            (given, None)
        }
        Job::Webhook { request, .. } => {
            let given = Given::Webhook {
                method: request.method.clone(),
                path: request.path.clone(),
                query: request.query.clone(),
                headers: request.headers.clone(),
                body: Bytes(request.body.clone()),
                delivery: request.delivery.clone(),
            };
            (given, None)
        }
        Job::Migrate { from, cursor, .. } => {
            let given = Given::Migrate {
                from: *from,
                cursor: cursor.clone(),
            };
            (given, None)
        }
    }
}

/// What was written for the same event before.
pub(super) fn before(job: &Job) -> Vec<(Key, Write)> {
    let (Job::Event { transaction, .. } | Job::Filter { transaction, .. }) = job else {
        return Vec::new();
    };
    let writes = transaction.iter().flat_map(|it| it.writes());
    writes
        .map(|(key, write)| (key.clone(), write.clone()))
        .collect()
}

fn sent(event: &str, message: &Message) -> Sent {
    Sent {
        event: event.to_owned(),
        arguments: raw(&message.arguments),
        attachments: message.attachments.iter().cloned().map(Bytes).collect(),
    }
}

/// JSON that was checked when it came.
fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap_or_default()
}

fn client(connection: &Connection, identity: &Identity, plugin: &str) -> Client {
    Client {
        id: connection.id.clone(),
        namespace: connection.namespace().to_owned(),
        address: connection.address.to_string(),
        user: identity.user.as_ref().map(|user| User {
            id: user.id.as_str().to_owned(),
            username: user.username.clone(),
            roles: user.roles.clone(),
        }),
        recovered: connection.recovered,
        rooms: connection.rooms(),
        data: connection.data.get(plugin).map(|json| raw(&json)),
    }
}

/// Notes what the plugin said, and what it wants to happen if that is so.
pub(super) fn said(taken: Taken, reply: &Reply, recorded: &Recorded) -> Taken {
    let (effects, writes) = match reply.is_yes() {
        true => (recorded.effects.clone(), writes(reply, recorded)),
        false => Default::default(),
    };
    taken.said(outcome(reply), effects, writes)
}

/// What is to be written to the store; by a batch of a migration, what those before it have not written.
fn writes(reply: &Reply, recorded: &Recorded) -> BTreeMap<Key, Write> {
    let Some(transaction) = &recorded.transaction else {
        return BTreeMap::new();
    };
    match reply {
        Reply::Migrate(_) => transaction.noted_writes(),
        _ => transaction.writes().clone(),
    }
}

/// Notes that it gave no answer.
pub(super) fn failed(taken: Taken, error: &CallError) -> Taken {
    taken.failed(failure(error), error.to_string())
}

fn failure(error: &CallError) -> Value {
    json!({ "failed": error.reason() })
}

/// What the plugin said.
fn outcome(reply: &Reply) -> Value {
    let done = || json!("done");
    let of = |what: &str, sent: &Message| {
        let shown = message(&sent.arguments, &sent.attachments);
        json!({ what: shown })
    };
    match reply {
        Reply::Event(Ok(Outcome::Done)) | Reply::Filter(Ok(Verdict::Done)) => done(),
        Reply::Event(Ok(Outcome::Reply(sent))) | Reply::Filter(Ok(Verdict::Reply(sent))) => {
            of("ack", sent)
        }
        Reply::Event(Ok(Outcome::NoAck)) | Reply::Filter(Ok(Verdict::NoAck)) => json!("no ack"),
        Reply::Filter(Ok(Verdict::Pass)) => json!("pass"),
        Reply::Filter(Ok(Verdict::Replace(sent))) => of("replace", sent),
        Reply::Webhook(Ok(response)) => json!({ "response": {
            "status": response.status,
            "headers": response.headers,
            "body": Bytes(response.body.clone()),
        } }),
        Reply::Connect(Ok(())) | Reply::Disconnect | Reply::Timer(Ok(())) => done(),
        Reply::Migrate(Ok(next)) => json!({ "next": next }),
        Reply::Connect(Err(refusal)) => json!({ "refused": {
            "message": refusal.message,
            "data": refusal.data.as_deref().map(parsed),
        } }),
        Reply::Event(Err(rejection))
        | Reply::Filter(Err(rejection))
        | Reply::Webhook(Err(rejection))
        | Reply::Timer(Err(rejection))
        | Reply::Migrate(Err(rejection)) => {
            let Rejection {
                code,
                message,
                temporary,
                retry_after_ms,
                details,
            } = rejection;
            json!({ "rejected": {
                "code": code,
                "message": message,
                "temporary": temporary,
                "retry_after_ms": retry_after_ms,
                "details": details.as_deref().map(parsed),
            } })
        }
    }
}

/// A plugin's words, which need not be JSON.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

/// A call that was run again.
pub(crate) struct Rerun {
    /// The instance; none if it is of no use any more.
    pub instance: Option<Box<Instance>>,
    /// What came of it.
    pub came: Came,
    /// Why it failed, if it did.
    pub reason: Option<String>,
    /// What it has read and written.
    pub transaction: Option<Box<Transaction>>,
}

impl Plugin {
    /// An instance of its own for calls that are run again.
    pub(crate) async fn instance_for(&self, tape: Arc<Tape>) -> Result<Box<Instance>, CallError> {
        let described = self.within_budget(self.instantiate(Some(tape))).await??;
        let (instance, ..) = described.map_err(CallError::Unavailable)?;
        Ok(instance)
    }

    /// Runs a call on an instance of its own, of which nothing happens.
    pub(crate) async fn rerun(&self, instance: Box<Instance>, job: Job) -> Rerun {
        let deadline = Instant::now() + self.budget().wall;
        let ended = self
            .within_budget(instance.run(Traced::not(job), deadline))
            .await;
        let none = |error: CallError| Rerun {
            instance: None,
            came: Came::new(failure(&error), &[], &Default::default()),
            reason: Some(error.to_string()),
            transaction: None,
        };
        let (mut instance, reply) = match ended {
            Ok(ended) => ended,
            Err(error) => return none(error),
        };
        let recorded = instance.state().end();
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return none(self.trap(&error)),
        };
        let outcome = outcome(&reply);
        let came = match reply.is_yes() {
            true => Came::new(outcome, &recorded.effects, &writes(&reply, &recorded)),
            false => Came::new(outcome, &[], &Default::default()),
        };
        Rerun {
            instance: Some(instance),
            came,
            reason: None,
            transaction: recorded.transaction,
        }
    }

    async fn within_budget<T>(&self, future: impl Future<Output = T>) -> Result<T, CallError> {
        let _ticking = self.engine().ticker().hold();
        let (cpu, wall) = (self.budget().cpu, self.budget().wall);
        let mut used = CpuTime::default();
        let metered = Metered {
            future: pin!(future),
            cpu: &mut used,
            limit: cpu,
            last_words: self.last_words(),
        };
        let until = Instant::now() + wall;
        let ended = timeout_at(until.into(), metered).await;
        ended
            .map_err(|_| CallError::out_of_time("wall", wall))?
            .ok_or_else(|| CallError::out_of_time("cpu", cpu))
    }
}
