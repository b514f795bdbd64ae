//! Filters: plugins that see an event before its handler does. What they do belongs to the event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Dispatcher,
    call::{Call, Ended},
    failure::{self, During},
    outcome::{self, Verdict},
    progress::Progress,
};
use crate::{
    admission::{Contract, MAX_STEPS, MAX_STEPS_AT_ONCE},
    capability::{self, Recorded, Written},
    effect::Effect,
    guest,
    message::Message,
    namespace::MAIN_NAMESPACE,
    plugin::{CallError, CallKind, Completed, Job, Reply, Spent, Started},
    registry::Filter,
    store::{Bucket, CommitError, Key, Transaction, Write},
};

/// The filters of a call, and what came of them so far.
pub(super) struct Chain {
    filters: Vec<Arc<Filter>>,
    /// How many of them have let the event on.
    passed: usize,
    /// What each of them has used of its time, and the handler.
    used: Vec<Used>,
    /// The event's message as its client sent it.
    given: Arc<guest::Message>,
    effects: Vec<Effect>,
    transaction: Option<Box<Transaction>>,
    /// What was read and written before a filter that may fail by itself.
    spare: Option<Box<Transaction>>,
    /// What they have written to buckets that plugins share.
    shared: BTreeMap<Key, Write>,
    /// To which of these each of them has written, and the handler.
    wrote: Vec<BTreeSet<Bucket>>,
    /// Whether one of them did what cannot be taken back.
    acted: bool,
}

/// What a plugin's calls for one event have used of its time. What others use meanwhile does not count.
#[derive(Clone, Copy, Default)]
struct Used {
    wall: Duration,
    cpu: Duration,
}

impl Used {
    fn of(spent: Spent) -> Self {
        Self {
            wall: spent.since.map_or(Duration::ZERO, |since| since.elapsed()),
            cpu: spent.cpu,
        }
    }

    /// For a call that starts now.
    fn spent(self) -> Spent {
        Spent {
            since: Instant::now().checked_sub(self.wall),
            cpu: self.cpu,
        }
    }
}

impl Chain {
    /// Of an event with this message; none if nobody filters it.
    pub(super) fn new(filters: Vec<Arc<Filter>>, given: &Arc<guest::Message>) -> Option<Box<Self>> {
        if filters.is_empty() {
            return None;
        }
        Some(Box::new(Self {
            used: vec![Used::default(); filters.len() + 1],
            wrote: vec![BTreeSet::new(); filters.len() + 1],
            shared: BTreeMap::new(),
            filters,
            passed: 0,
            given: given.clone(),
            effects: Vec::new(),
            transaction: None,
            spare: None,
            acted: false,
        }))
    }

    /// All of them.
    pub(super) fn filters(&self) -> &[Arc<Filter>] {
        &self.filters
    }

    /// Whose turn it is; none if it is the handler's.
    pub(super) fn current(&self) -> Option<&Arc<Filter>> {
        self.filters.get(self.passed)
    }

    /// Whether one of them did what cannot be taken back.
    pub(super) fn has_acted(&self) -> bool {
        self.acted
    }

    /// What the filters have read and written, for whose turn it is.
    pub(super) fn take_transaction(&mut self) -> Option<Box<Transaction>> {
        self.transaction.take()
    }

    /// What the filters that let the event on want to happen.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What whose turn it is has used of its time.
    pub(super) fn spent(&self) -> Spent {
        self.used[self.passed].spent()
    }

    /// What whose turn it is has used of its time by now.
    pub(super) fn has_spent(&mut self, spent: Spent) {
        self.used[self.passed] = Used::of(spent);
    }

    /// The filter that has written what cannot be committed: one whose own bucket that is for; or the first that
    /// may fail by itself and has written to it, as the event may be possible without it; or whoever has written
    /// there first. It counts as the one that has just run. None if that is the handler, or nobody knows.
    pub(super) fn blame(&mut self, error: &CommitError) -> Option<Arc<Filter>> {
        let bucket = error.bucket();
        let is_it = |of: &Bucket| bucket.is_none_or(|bucket| of.to_string() == bucket);
        let is_own = |filter: &Arc<Filter>| {
            bucket.is_some() && is_it(&Bucket::of_plugin(filter.plugin.name()))
        };
        let has_written = |wrote: &BTreeSet<Bucket>| wrote.iter().any(is_it);
        let mut optional = self.filters.iter().zip(&self.wrote);
        let optional = optional.position(|(filter, wrote)| filter.lets_on() && has_written(wrote));
        let owner = self.filters.iter().position(is_own);
        let first = || self.wrote.iter().position(has_written);
        self.passed = owner.or(optional).or_else(first)?;
        self.current().cloned()
    }

    /// Notes where the one has written that has just run, beside what those before it have.
    pub(super) fn note_writes(&mut self, transaction: &Transaction) {
        let writes = transaction.writes().iter();
        for (key, write) in writes.filter(|(_, write)| **write != Write::Delete) {
            let bucket = key.bucket();
            if bucket.is_shared() && self.shared.get(key) != Some(write) {
                self.shared.insert(key.clone(), write.clone());
                self.wrote[self.passed].insert(bucket);
            }
        }
    }

    /// The one that has just run takes no part any more.
    fn leave_out(&mut self) {
        if self.passed < self.filters.len() {
            self.filters.remove(self.passed);
            self.used.remove(self.passed);
            self.wrote.remove(self.passed);
        }
    }

    /// Begins again, as nothing has happened. Returns the event's message as its client sent it.
    pub(super) fn restart(&mut self) -> Arc<guest::Message> {
        self.passed = 0;
        self.effects.clear();
        self.transaction = None;
        self.spare = None;
        self.shared.clear();
        self.wrote.iter_mut().for_each(BTreeSet::clear);
        self.given.clone()
    }
}

/// What a filter said, and what it recorded.
struct Filtered {
    reply: Result<Reply, CallError>,
    effects: Vec<Effect>,
    max_attachments: usize,
}

/// What becomes of the event.
enum Judged {
    /// It goes on, with another message if there is one.
    On(Option<guest::Message>, Vec<Effect>),
    /// It does not.
    Over(Verdict),
}

impl Filtered {
    /// How many steps it may take to judge it.
    fn steps(&self, filter: &Filter, contract: &Contract) -> usize {
        let checked = match &self.reply {
            Ok(Reply::Filter(Ok(guest::Verdict::Replace(message)))) => {
                contract.arguments.as_ref().map(|schema| (schema, message))
            }
            Ok(Reply::Filter(Ok(guest::Verdict::Reply(message)))) => {
                contract.reply.as_ref().map(|schema| (schema, message))
            }
            _ => None,
        };
        let steps = checked.map_or(0, |(schema, message)| schema.steps(message.arguments.len()));
        steps.saturating_add(outcome::steps_of_emits(&filter.emits, &self.effects))
    }

    /// Checks what a filter that was `given` an event said, and what it wants to emit.
    fn judge(self, filter: &Filter, contract: &Contract, given: &guest::Message) -> Judged {
        let failed = |reason: String| Judged::Over(Verdict::Failed(CallError::Invalid(reason)));
        if self.steps(filter, contract) > MAX_STEPS {
            return failed("what it says and emits is too much to be checked".to_owned());
        }
        let Self {
            reply,
            effects,
            max_attachments,
        } = self;
        let verdict = match reply {
            Ok(Reply::Filter(verdict)) => verdict,
            Ok(_) => unreachable!("a filter's call ends with a verdict"),
            Err(error) => return Judged::Over(Verdict::Failed(error)),
        };
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(rejection) => return Judged::Over(Verdict::of_rejection(rejection)),
        };
        if let Err(reason) = outcome::check_emits(&filter.emits, &effects) {
            return failed(reason);
        }
        let answered = match verdict {
            guest::Verdict::Pass => return Judged::On(None, effects),
            guest::Verdict::Replace(message) => {
                return match replaced(contract, message, given, max_attachments) {
                    Ok(message) => Judged::On(Some(message), effects),
                    Err(reason) => failed(reason),
                };
            }
            guest::Verdict::Done => Ok(Some(Message::none())),
            guest::Verdict::NoAck => Ok(None),
            guest::Verdict::Reply(message) => {
                let schema = contract.reply.as_ref();
                outcome::checked_reply(schema, message, given, max_attachments).map(Some)
            }
        };
        match answered {
            Ok(reply) => Judged::Over(Verdict::Done(reply, effects)),
            Err(reason) => failed(reason),
        }
    }
}

/// A message in place of another one, which has to keep the contract just as that did.
fn replaced(
    contract: &Contract,
    message: guest::Message,
    given: &guest::Message,
    max_attachments: usize,
) -> Result<guest::Message, String> {
    let message = capability::checked(message, Some(given), max_attachments)
        .map_err(|error| format!("its message in place of the event's is {error}"))?;
    contract.check(&message).map_err(|error| {
        let why = error.message;
        format!("its message in place of the event's breaks the contract: {why}")
    })?;
    let message = message.into();
    if let Some(serial_by) = &contract.serial_by {
        // The namespace stands for itself: what may be missing is in the message.
        serial_by.key(&message, MAIN_NAMESPACE).map_err(|error| {
            let why = error.message;
            format!("its message in place of the event's has no key: {why}")
        })?;
    }
    Ok(message)
}

impl Dispatcher {
    /// Asks the filter whose turn it is.
    pub(super) fn filter(self: &Arc<Self>, mut call: Call, filter: Arc<Filter>) -> Progress {
        let job = call.filter_job();
        let spent = call.chain.as_ref().map(|chain| chain.spent());
        let spent = spent.unwrap_or_default();
        match filter.plugin.start(job, spent, &call.answer.span) {
            Started::Done(completed) => self.filtered(call, filter, completed),
            Started::Later(completed) => {
                let this = self.clone();
                Progress::Moved(Box::pin(async move {
                    let completed = completed.await;
                    this.filtered(call, filter, completed).end().await;
                }))
            }
        }
    }

    /// Checks what a filter said, and goes on.
    fn filtered(
        self: &Arc<Self>,
        mut call: Call,
        filter: Arc<Filter>,
        completed: Completed,
    ) -> Progress {
        let Completed {
            reply,
            recorded,
            spent,
            written,
            lease,
        } = completed;
        if let Err(CallError::Outdated) = reply {
            return self.start_over(call);
        }
        // Its plugin may filter an event of this one's handler, whose instances this one may wait for: who
        // waits holds none.
        drop(lease);
        let Recorded {
            effects,
            transaction,
            acted,
        } = recorded;
        if let Some(chain) = &mut call.chain {
            chain.has_spent(spent);
            chain.transaction = transaction;
            chain.acted |= acted;
        }
        let filtered = Filtered {
            reply,
            effects,
            max_attachments: self.broadcast.max_attachments(),
        };
        let contract = call.route.contract.clone();
        if filtered.steps(&filter, &contract) <= MAX_STEPS_AT_ONCE {
            let judged = filtered.judge(&filter, &contract, &call.message);
            return self.go_on(call, &filter, judged, written);
        }
        let this = self.clone();
        Progress::Moved(Box::pin(async move {
            let client = call.answer.connection.address.network();
            let judge = {
                let (filter, given) = (filter.clone(), call.message.clone());
                move || filtered.judge(&filter, &contract, &given)
            };
            match this.checks.run(&filter.plugin, client, judge).await {
                Ok(judged) => this.go_on(call, &filter, judged, written).end().await,
                Err(error) => {
                    this.count(&call.route, &error.code);
                    call.answer.refuse(error);
                }
            }
        }))
    }

    /// Has the event go on to the next filter or its handler, or ends it here.
    fn go_on(
        self: &Arc<Self>,
        mut call: Call,
        filter: &Filter,
        judged: Judged,
        written: Option<Box<Written>>,
    ) -> Progress {
        let connection = &call.answer.connection;
        let message = match judged {
            Judged::On(message, effects) => {
                let address = connection.address;
                filter.plugin.succeeded(CallKind::Filter, Some(address));
                if let Some(chain) = &mut call.chain {
                    chain.effects.extend(effects);
                    let transaction = chain.transaction.take();
                    if let Some(transaction) = &transaction {
                        chain.note_writes(transaction);
                    }
                    chain.transaction = transaction;
                }
                message
            }
            Judged::Over(Verdict::Failed(error)) if filter.lets_on() => {
                call.report_filter(filter, &error, written.as_deref());
                if let Some(chain) = &mut call.chain {
                    chain.transaction = chain.spare.take();
                }
                None
            }
            Judged::Over(verdict) => {
                let transaction = call
                    .chain
                    .as_mut()
                    .and_then(|chain| chain.take_transaction());
                let ended = Ended {
                    call,
                    written,
                    acted: false,
                    lease: None,
                };
                return self.conclude(ended, verdict, transaction);
            }
        };
        if let Some(chain) = &mut call.chain {
            chain.passed += 1;
            chain.spare = None;
        }
        match message {
            None => self.run(call),
            Some(message) => {
                call.message = Arc::new(message);
                self.run_in_turn(call)
            }
        }
    }
}

impl Call {
    /// Tells of a filter that failed, and has no say in what becomes of the event.
    pub(super) fn report_filter(
        &self,
        filter: &Filter,
        error: &CallError,
        written: Option<&Written>,
    ) {
        let (connection, event) = (&self.answer.connection, &self.answer.event);
        let during = During::of(CallKind::Filter, event, connection).within(&self.answer.span);
        failure::report(&filter.plugin, &during, error, written);
    }

    /// The filter that has just run takes no part any more.
    pub(super) fn leave_filter_out(&mut self) {
        if let Some(chain) = &mut self.chain {
            chain.leave_out();
        }
    }

    /// What the filter whose turn it is, is called for.
    fn filter_job(&mut self) -> Job {
        let transaction = self.chain.as_mut().and_then(|chain| {
            let transaction = chain.take_transaction();
            if chain.current().is_some_and(|filter| filter.lets_on()) {
                let fork = |transaction: &Transaction| Box::new(transaction.fork());
                chain.spare = transaction.as_deref().map(fork);
            }
            transaction
        });
        Job::Filter {
            connection: self.answer.connection.clone(),
            identity: self.identity.clone(),
            event: self.answer.event.clone(),
            message: self.message.clone(),
            transaction,
        }
    }
}
