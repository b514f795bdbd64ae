//! Webhooks: requests of other services, each a transaction that happens once.

use std::{sync::Arc, time::Duration};

use super::{
    Dispatcher, answer,
    commit::About,
    failure::{self, During},
    outcome::{check_emits, steps_of_emits},
    serial::{Entered, Turn},
};
use crate::{
    admission::MAX_STEPS,
    clock::now,
    effect,
    error::WireError,
    plugin::{CallError, CallKind, Completed, Job, Reply},
    registry::Hooked,
    store::{Bucket, CommitError, Key, Transaction, Value},
    telemetry::Span,
    webhooks::{self, Answer, Delivery},
};

/// What a failed call is said to have been for.
const WEBHOOK: &str = "webhook";

/// How long a sender should wait where too many deliveries with its id are under way.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// Where it is kept what came of a delivery.
#[derive(Clone)]
struct Memory {
    store: crate::store::Open,
    key: Key,
    remember: Duration,
}

impl Memory {
    fn of(hooked: &Hooked, id: &str, remember: Duration) -> Result<Self, CallError> {
        let unavailable = || CallError::Store("the store is not open".to_owned());
        let store = hooked.plugin.store().ok_or_else(unavailable)?.clone();
        let bucket = Bucket::of_host(WEBHOOK, hooked.plugin.name());
        let key = Key::new(&bucket, id).map_err(|error| CallError::Host(error.to_string()))?;
        Ok(Self {
            store,
            key,
            remember,
        })
    }

    /// What was answered to the delivery, as soon as that is durable.
    async fn answered(&self) -> Result<Option<Answer>, CommitError> {
        let mut transaction = Transaction::new(self.store.clone());
        let Some(value) = transaction.get(&self.key).await? else {
            return Ok(None);
        };
        self.store.commit_alone(transaction).await?;
        Ok(serde_json::from_slice(&value.bytes).ok())
    }

    /// The call holds only as long as nothing was answered.
    fn about(&self) -> About {
        About::new(self.store.clone(), self.key.clone())
    }

    /// Has the answer kept together with what the call wrote.
    fn keep(&self, transaction: &mut Transaction, answer: &Answer) -> Result<(), CallError> {
        if transaction.known(&self.key).is_some() {
            return Err(CallError::Conflict);
        }
        let bytes =
            serde_json::to_vec(answer).map_err(|error| CallError::Host(error.to_string()))?;
        let remember = u64::try_from(self.remember.as_millis()).unwrap_or(u64::MAX);
        let value = Value {
            bytes: bytes.into(),
            expires: Some(now().saturating_add(remember)),
        };
        transaction.set(self.key.clone(), value);
        Ok(())
    }
}

impl Dispatcher {
    /// Hands a webhook to its plugin, and has what it wants happen. A delivery that has been answered
    /// before gets the same answer, and does nothing.
    pub(crate) async fn deliver(
        self: &Arc<Self>,
        hooked: &Hooked,
        delivery: Delivery,
    ) -> Result<Answer, WireError> {
        let (tracer, is_known) = (self.broadcast.tracer(), delivery.known.is_some());
        let name = hooked.plugin.name();
        let span = Span::of_webhook(tracer, name, delivery.span, is_known);
        let answered = self.deliver_within(hooked, delivery, &span).await;
        span.answers(match &answered {
            Ok(answer) => answer.status(),
            Err(error) => webhooks::status(error).as_u16(),
        });
        answered
    }

    async fn deliver_within(
        self: &Arc<Self>,
        hooked: &Hooked,
        delivery: Delivery,
        span: &Span,
    ) -> Result<Answer, WireError> {
        let Delivery {
            request,
            client,
            known,
            span: _,
        } = delivery;
        let failed = |error: &CallError, completed: Option<&Completed>| {
            let during = During::without_connection(CallKind::Webhook, WEBHOOK, Some(client));
            let during = during.within(span);
            let written = completed.and_then(|completed| completed.written.as_deref());
            failure::report(&hooked.plugin, &during, error, written)
        };
        let mut memory = None;
        let mut _turn = None;
        if let Some((id, remember)) = &known {
            // Deliveries that come twice at once do not run at once.
            _turn = Some(self.turn_of_delivery(hooked, id).await?);
            let kept = Memory::of(hooked, id, *remember);
            let kept = kept.map_err(|error| failed(&error, None))?;
            match kept.answered().await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => memory = Some(kept),
                Err(error) => return Err(failed(&error.into(), None)),
            }
        }
        let request = Arc::new(request);
        let job = || Job::Webhook {
            request: request.clone(),
            client,
        };
        let amend = |completed: &mut Completed| {
            let Ok(Reply::Webhook(Ok(response))) = &completed.reply else {
                return Ok(());
            };
            let answer = Answer::new(response.clone()).map_err(CallError::Invalid)?;
            if !answer.is_yes() {
                return Ok(());
            }
            let recorded = &mut completed.recorded;
            if steps_of_emits(&hooked.emits, &recorded.effects) > MAX_STEPS {
                let reason = "what it emits is too much to be checked against its contract";
                return Err(CallError::Invalid(reason.to_owned()));
            }
            check_emits(&hooked.emits, &recorded.effects).map_err(CallError::Invalid)?;
            match (&memory, &mut recorded.transaction) {
                (Some(memory), Some(transaction)) => memory.keep(transaction, &answer),
                _ => Ok(()),
            }
        };
        let broadcast = self.broadcast.within(span).into_owned();
        let perform = move |completed: &mut Completed, _: bool| {
            if completed.reply.as_ref().is_ok_and(Reply::is_yes) {
                let effects = std::mem::take(&mut completed.recorded.effects);
                effect::commit(effects, None, &broadcast, || {});
            }
        };
        let about = memory.as_ref().map(Memory::about);
        let mut completed = self
            .transact(&hooked.plugin, job, about, amend, perform, span)
            .await;
        let reply = std::mem::replace(&mut completed.reply, Err(CallError::Busy));
        let response = match reply {
            Ok(Reply::Webhook(Ok(response))) => response,
            Ok(Reply::Webhook(Err(rejection))) => {
                return Err(match answer::rejection(rejection) {
                    Ok(error) => {
                        hooked.plugin.succeeded(CallKind::Webhook, Some(client));
                        error
                    }
                    Err(error) => failed(&error, Some(&completed)),
                });
            }
            Ok(_) => unreachable!("a webhook's call ends with its answer"),
            Err(error) => return Err(failed(&error, Some(&completed))),
        };
        let answer = Answer::new(response).map_err(|reason| {
            let error = CallError::Invalid(reason);
            failed(&error, Some(&completed))
        })?;
        hooked.plugin.succeeded(CallKind::Webhook, Some(client));
        Ok(answer)
    }

    async fn turn_of_delivery(&self, hooked: &Hooked, id: &str) -> Result<Turn, WireError> {
        let full = || {
            let error = "too many deliveries with this id are under way";
            WireError::temporary("plugin_unavailable", error).with_retry_after(FULL_RETRY)
        };
        // No key of an event has a NUL in front.
        let key = format!("\0{WEBHOOK}\0{id}");
        let plugin = &hooked.plugin;
        match self.serial.enter(plugin.name(), key.into(), None) {
            Entered::Now(turn) => Ok(turn),
            Entered::Later(coming) => coming.within(plugin.wall()).await.ok_or_else(full),
            Entered::Full => Err(full()),
        }
    }
}
