//! Calls that read from the store or write to it: committed, run again, or told that they cannot be.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Dispatcher,
    call::{Call, Ended, Turns},
    failure::outcome_unknown,
    outcome::Verdict,
    performed::{self, Performed, Performing},
    progress::Progress,
};
use crate::{
    effect::Effect,
    error::WireError,
    plugin::{CallError, Completed, Job, Lease, Plugin, Reply, Spent},
    store::{CommitError, Committing, Follow, Key, Open, Refused, Tell, Transaction, Unstored},
    telemetry::Span,
};

/// A call runs again so often where its event was read. Then it gives way to others, and from then on
/// the calls that conflict run one after the other.
const AT_ONCE: u32 = 4;

/// A call that runs so often gives up, however short it is.
const MAX_CONFLICTS: u32 = 64;

/// What follows the commit of an event's call.
struct Concluding {
    dispatcher: Arc<Dispatcher>,
    ended: Ended,
    verdict: Verdict,
    /// What traces the commit.
    span: Span,
    /// Whoever waits for it; none if that was told that it takes too long.
    performing: Option<Performing>,
}

impl Follow for Concluding {
    fn follow(self: Box<Self>, stored: Result<(), Unstored>) {
        let Self {
            dispatcher,
            ended,
            verdict,
            span,
            performing,
        } = *self;
        drop(span);
        match stored {
            Ok(()) => dispatcher.answer(ended, verdict),
            Err(unstored) => dispatcher.refuse_commit(&ended.call, &unstored.to_string()),
        }
        if let Some(performing) = performing {
            performing.done();
        }
    }

    /// Its client gets an error, and its connection, its instance and its turn go on.
    fn overdue(&mut self) -> Tell {
        let dispatcher = self.dispatcher.clone();
        let route = self.ended.call.route.clone();
        let answer = self.ended.call.answer.hand_over();
        let held = (self.ended.lease.take(), self.ended.call.take_turn());
        let performing = self.performing.take();
        Box::new(move || {
            let error = outcome_unknown();
            dispatcher.count(&route, &error.code);
            answer.refuse(error);
            drop(held);
            if let Some(performing) = performing {
                performing.done();
            }
        })
    }

    fn is_wanted(&self) -> bool {
        !self.ended.call.is_outdated()
    }
}

impl Dispatcher {
    /// Commits what an event's call read and wrote; its effects and its answer follow.
    pub(super) fn commit(
        self: &Arc<Self>,
        mut ended: Ended,
        verdict: Verdict,
        mut transaction: Transaction,
    ) -> Progress {
        let is_seen = match &verdict {
            Verdict::Done(_, effects) => effects.iter().any(Effect::is_seen),
            Verdict::Rejected(_) | Verdict::Failed(_) => {
                transaction.forget_writes();
                false
            }
        };
        // Where the next call could miss what follows, it waits for that. Else it can begin: it is held
        // against what this one has written.
        let (mut lease, mut turn) = (None, None);
        if !is_seen {
            lease = ended.lease.take();
            turn = Some(ended.call.take_turn());
        }
        for plugin in ended.call.who_stores() {
            plugin.expect_form(&mut transaction);
        }
        let store = transaction.store().clone();
        let (performing, performed) = performed::pending();
        let concluding = Box::new(Concluding {
            span: ended.call.answer.span.commits(),
            dispatcher: self.clone(),
            ended,
            verdict,
            performing: Some(performing),
        });
        let held = (lease, turn);
        match store.commit(transaction, concluding) {
            Committing::Over(result) => self.committed(result, held, performed),
            Committing::Later(result) => {
                let this = self.clone();
                Progress::Moved(Box::pin(async move {
                    let progress = this.committed(result.await, held, performed);
                    progress.end().await;
                }))
            }
        }
    }

    /// It is known whether a call is committed. Others may have what it held until then.
    fn committed(
        self: &Arc<Self>,
        result: Result<(), Refused<Concluding>>,
        (lease, turn): (Option<Lease>, Option<Turns>),
        performed: Performed,
    ) -> Progress {
        match result {
            Ok(()) => {
                drop((lease, turn));
                Progress::until(performed)
            }
            Err((error, concluding)) => {
                let span = concluding.span;
                span.is_refused(error.word());
                drop(span);
                let mut ended = concluding.ended;
                if let Some(turn) = turn {
                    ended.call.give_turn(turn);
                }
                drop(lease.or(ended.lease.take()));
                self.not_committed(ended, error)
            }
        }
    }

    fn not_committed(self: &Arc<Self>, ended: Ended, error: CommitError) -> Progress {
        let route = &ended.call.route;
        let chain = ended.call.chain.as_ref();
        let is_over = chain.is_some_and(|chain| chain.has_acted())
            || ended.acted && !route.contract.repeatable
            || !goes_on(&ended.call);
        match error {
            CommitError::Conflict if !is_over => return self.run_again(ended.call),
            CommitError::Conflict | CommitError::Outdated => {
                self.count(route, "conflict");
                let error = "others change what the event is about, try again";
                ended
                    .call
                    .answer
                    .refuse(WireError::temporary("conflict", error));
            }
            CommitError::Unavailable(reason) => self.refuse_commit(&ended.call, &reason),
            error => return self.not_possible(ended, error),
        }
        Progress::Done
    }

    /// One of the plugins has recorded what cannot be done.
    fn not_possible(self: &Arc<Self>, mut ended: Ended, error: CommitError) -> Progress {
        let call = &mut ended.call;
        let blamed = call.chain.as_mut().and_then(|chain| chain.blame(&error));
        let error = error.into();
        if let Some(filter) = blamed
            && filter.lets_on()
            && !call.chain.as_ref().is_some_and(|chain| chain.has_acted())
        {
            call.report_filter(&filter, &error, None);
            call.leave_filter_out();
            return self.run_again(ended.call);
        }
        self.answer(ended, Verdict::Failed(error));
        Progress::Done
    }

    /// Runs a call again on what is there now: it has had no effect.
    fn run_again(self: &Arc<Self>, mut call: Call) -> Progress {
        call.restart();
        self.metrics.call_repeated(call.route.plugin.name());
        if call.conflicts <= AT_ONCE {
            return self.run(call);
        }
        let this = self.clone();
        Progress::Moved(Box::pin(async move {
            if call.contended.is_empty() {
                for plugin in call.plugins() {
                    let contended = plugin.contended().clone().lock_owned().await;
                    call.contended.push(contended);
                }
            }
            this.run(call).end().await;
        }))
    }

    fn refuse_commit(&self, call: &Call, reason: &str) {
        self.count(&call.route, "store");
        let plugin = &**call.route.plugin.name();
        let (event, socket) = (&*call.answer.event, &call.answer.connection.id);
        tracing::debug!(plugin, event, socket, "nothing was stored: {reason}");
        let error = "the store is not available, and nothing has happened";
        call.answer
            .refuse(WireError::temporary("plugin_unavailable", error));
    }
}

/// What follows the commit of a call that is for no event.
struct Following<P> {
    plugin: Arc<Plugin>,
    completed: Completed,
    perform: P,
    /// What traces the commit.
    span: Span,
    /// Whoever waits for it; none if that was told that it takes too long.
    done: Option<oneshot::Sender<Result<Completed, Unstored>>>,
}

impl<P: FnOnce(&mut Completed, bool) + Send + 'static> Follow for Following<P> {
    fn follow(self: Box<Self>, stored: Result<(), Unstored>) {
        let Self {
            mut completed,
            perform,
            span,
            done,
            ..
        } = *self;
        drop(span);
        let stored = stored.map(|()| {
            perform(&mut completed, done.is_some());
            completed
        });
        if let Some(done) = done {
            // Whoever ran it may be gone.
            let _ = done.send(stored);
        }
    }

    fn overdue(&mut self) -> Tell {
        let (lease, done) = (self.completed.lease.take(), self.done.take());
        Box::new(move || {
            drop(lease);
            if let Some(done) = done {
                let _ = done.send(Err(Unstored::Overdue));
            }
        })
    }

    fn is_wanted(&self) -> bool {
        !self.plugin.is_outdated()
    }
}

impl Dispatcher {
    /// Runs a call that is for no event, again as long as what it read from the store changes meanwhile,
    /// and commits it, with what `amend` adds, who knows of the row that it is about. Then it has `perform` do what follows, in the order of
    /// commits, and know whether somebody waits for it still.
    pub(super) async fn transact<P>(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        job: impl Fn() -> Job,
        about: Option<About>,
        amend: impl Fn(&mut Completed) -> Result<(), CallError>,
        perform: P,
        span: &Span,
    ) -> Completed
    where
        P: FnOnce(&mut Completed, bool) + Send + 'static,
    {
        let mut conflicts = 0;
        let mut spent = Spent::default();
        let mut perform = perform;
        let mut contended = None;
        let mut plugin = plugin;
        loop {
            let mut completed = plugin.start(job(), spent, span).ended().await;
            if let (Err(CallError::Outdated), Some(successor)) =
                (&completed.reply, plugin.successor().get())
            {
                plugin = successor;
                (spent, contended) = (Spent::default(), None);
                continue;
            }
            spent = completed.spent;
            let is_yes = completed.reply.as_ref().is_ok_and(Reply::is_yes);
            if let Some(transaction) = &mut completed.recorded.transaction
                && !is_yes
            {
                transaction.forget_writes();
            }
            if let Some(about) = &about
                && let Err(error) = about.look_up(&mut completed).await
            {
                return Completed::failed(error.into());
            }
            if let Err(error) = amend(&mut completed) {
                return Completed::failed(error);
            }
            let Some(mut transaction) = completed.recorded.transaction.take() else {
                perform(&mut completed, true);
                return completed;
            };
            let acted = completed.recorded.acted;
            plugin.expect_form(&mut transaction);
            let store = transaction.store().clone();
            let effects = &completed.recorded.effects;
            let is_kept = matches!(completed.reply, Ok(Reply::Connect(_)))
                || effects.iter().any(Effect::is_seen);
            let lease = completed.lease.take_if(|_| !is_kept);
            let (done, is_done) = oneshot::channel();
            let following = Box::new(Following {
                plugin: plugin.clone(),
                completed,
                perform,
                span: span.commits(),
                done: Some(done),
            });
            let error = match store.commit(*transaction, following).known().await {
                Ok(()) => {
                    drop((contended, lease));
                    return stored(is_done).await;
                }
                Err((error, following)) => {
                    following.span.is_refused(error.word());
                    // Whoever comes before it may wait for its instance.
                    drop((lease, following.completed));
                    perform = following.perform;
                    error
                }
            };
            conflicts += 1;
            let is_late = spent
                .since
                .is_some_and(|since| since.elapsed() >= plugin.wall());
            match error {
                CommitError::Conflict if !acted && !is_late && conflicts <= MAX_CONFLICTS => {
                    self.metrics.call_repeated(plugin.name());
                }
                error => {
                    let mut failed = Completed::failed(error.into());
                    failed.recorded.acted = acted;
                    return failed;
                }
            }
            if conflicts > AT_ONCE && contended.is_none() {
                contended = Some(plugin.contended().clone().lock_owned().await);
            }
        }
    }
}

/// A row of the store that a call is about.
pub(super) struct About {
    store: Open,
    key: Key,
}

impl About {
    pub(super) fn new(store: Open, key: Key) -> Self {
        Self { store, key }
    }

    /// Has the call's transaction know what stands there.
    async fn look_up(&self, completed: &mut Completed) -> Result<(), CommitError> {
        let transaction = &mut completed.recorded.transaction;
        let begin = || Box::new(Transaction::new(self.store.clone()));
        let transaction = transaction.get_or_insert_with(begin);
        transaction.committed(&self.key).await.map(drop)
    }
}

async fn stored(done: oneshot::Receiver<Result<Completed, Unstored>>) -> Completed {
    match done.await {
        Ok(Ok(completed)) => completed,
        Ok(Err(Unstored::Undone(reason))) => {
            Completed::failed(CallError::Store(reason.to_string()))
        }
        Ok(Err(Unstored::Overdue)) => Completed::failed(CallError::Overdue),
        Err(_) => Completed::failed(CallError::Host("what follows a commit has panicked".into())),
    }
}

impl From<CommitError> for CallError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict | CommitError::Outdated => Self::Conflict,
            CommitError::Unavailable(reason) => Self::Store(reason.to_string()),
            error => Self::Invalid(error.to_string()),
        }
    }
}

impl CommitError {
    /// A fixed word for traces.
    fn word(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Outdated => "outdated",
            Self::Unavailable(_) => "store",
            _ => "invalid",
        }
    }
}

/// Whether a call that has met a conflict may run again.
fn goes_on(call: &Call) -> bool {
    let (since, wall) = (call.spent().since, call.speaker().0.wall());
    call.conflicts < MAX_CONFLICTS && since.is_none_or(|since| since.elapsed() < wall)
}
