//! The way of an event: look up, admit, call, commit, answer.
//!
//! It runs on the task that read the event, mostly to its end. Where a plugin takes long, the
//! rest goes on elsewhere and the connection's later arrivals wait in its lane.

mod answer;
mod arrivals;
mod call;
mod checks;
mod commit;
mod connections;
mod expiry;
mod failure;
mod filtering;
pub(crate) mod host_events;
mod outcome;
mod outdated;
mod performed;
mod progress;
mod refusals;
mod revocations;
mod serial;
mod timers;
mod webhooks;

pub(crate) use answer::blames_plugin;
pub(crate) use connections::{Welcome, unguarded};
pub(crate) use timers::Timers;

use std::{cell::LazyCell, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use self::{
    answer::Answer,
    call::{Call, Ended},
    checks::Checks,
    outcome::{Outcome, Verdict},
    progress::Progress,
    serial::{Entered, Serial},
};
use crate::{
    admin::Watch,
    admission::{
        Admission, Admitted, Heavy, Limit, MAX_STEPS_AT_ONCE, Now, RATE_LIMITED, Sender, admit,
        check_sender, check_shared, too_often,
    },
    audit::Audit,
    broadcast::Broadcast,
    capability::Recorded,
    clock,
    connection::{Connections, Identity},
    deadlines::TokenDeadlines,
    effect,
    error::WireError,
    message::Message,
    metrics::{self, Metrics},
    plugin::{CallError, Completed, Started},
    registry::{self, Route},
    settings::{self, Settings},
    shorten::shortened,
    store::{Store, Transaction},
};

/// How long a client that sent too much at once should wait.
const FULL_QUEUE_RETRY: Duration = Duration::from_secs(1);

/// How much of an unknown event's name an answer repeats.
const MAX_SHOWN_CHARS: usize = 100;

/// Sends what arrives to who handles it.
pub(crate) struct Dispatcher {
    /// Who handles what. Loaded once for each event, so that an event sees one version of it.
    pub registry: registry::Current,
    /// Settings that may change while the server runs.
    pub settings: settings::Current,
    /// All live connections.
    pub connections: Arc<Connections>,
    /// When the tokens of their users expire.
    pub(crate) deadlines: Arc<TokenDeadlines>,
    /// Performs broadcasts.
    pub broadcast: Broadcast,
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
    /// Who was refused.
    pub(crate) audit: Audit,
    /// What plugins remember.
    pub(crate) store: Arc<Store>,
    /// Calls that run one after the other.
    serial: Arc<Serial>,
    /// Checks that take long.
    checks: Checks,
    /// Tells pages of `[admin]` what happens, if they look.
    pub(crate) watch: Arc<Watch>,
    /// What goes on after the task that read an event has turned to the next.
    pub tasks: TaskTracker,
}

impl Dispatcher {
    /// A dispatcher without plugins and connections.
    pub(crate) fn new(
        settings: Settings,
        broadcast: Broadcast,
        metrics: Arc<Metrics>,
        audit: Audit,
        store: Arc<Store>,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::default(),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            serial: Arc::new(Serial::new(broadcast.others().cloned())),
            connections: broadcast.connections().clone(),
            broadcast,
            deadlines: Arc::default(),
            metrics,
            audit,
            store,
            checks: Checks::default(),
            watch: Arc::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// An event whose turn it is among those of its connection: comes it too often for the host?
    fn event(self: &Arc<Self>, answer: Answer, message: Message) -> Progress {
        answer.span.enter("admission");
        let identity = answer.connection.identity();
        let now: Now = LazyCell::new(clock::instant);
        let settings = self.settings.load();
        let mut limits = settings.limits.iter();
        let is_met = limits.try_for_each(|limit| limit.check(&answer.connection, &identity, &now));
        if let Err(wait) = is_met {
            self.refuse_for_limits(answer, wait);
            return Progress::Done;
        }
        if !settings.shares_limits || self.broadcast.others().is_none() {
            return self.admit(answer, identity, &now, message);
        }
        let (this, limits) = (self.clone(), settings.limits.clone());
        Progress::Moved(Box::pin(async move {
            match this.check_shared(&limits, &answer, &identity).await {
                Ok(()) => {
                    let admitted =
                        this.admit(answer, identity, &LazyCell::new(clock::instant), message);
                    admitted.end().await;
                }
                Err(wait) => this.refuse_for_limits(answer, wait),
            }
        }))
    }

    /// Takes from what all servers of the cluster count together.
    async fn check_shared(
        &self,
        limits: &[Arc<Limit>],
        answer: &Answer,
        identity: &Identity,
    ) -> Result<(), Duration> {
        match self.broadcast.others() {
            Some(cluster) => check_shared(cluster, limits, &answer.connection, identity).await,
            None => Ok(()),
        }
    }

    /// Checks an event that comes not too often for the host, and calls who handles it; when the key is
    /// here that its token names, if it brings one.
    fn admit(
        self: &Arc<Self>,
        answer: Answer,
        identity: Arc<Identity>,
        now: &Now,
        message: Message,
    ) -> Progress {
        let Some(key) = self.wait_for_key(&answer, &message) else {
            return self.admit_at_once(answer, identity, now, message);
        };
        let this = self.clone();
        Progress::Moved(Box::pin(async move {
            key.await;
            let now: &Now = &LazyCell::new(clock::instant);
            let admitted = this.admit_at_once(answer, identity, now, message);
            admitted.end().await;
        }))
    }

    fn admit_at_once(
        self: &Arc<Self>,
        answer: Answer,
        identity: Arc<Identity>,
        now: &Now,
        message: Message,
    ) -> Progress {
        let registry = self.registry.load();
        let route = registry.route(answer.connection.namespace(), &answer.event);
        if let Some(result) = self.host_event(&answer, &message) {
            let outcome = result.as_ref().err().map_or("ok", |error| &error.code);
            self.metrics
                .event_failed(metrics::NO_PLUGIN, &answer.event, outcome);
            answer.give(result);
            return Progress::Done;
        }
        let Some(route) = route else {
            let name = shortened(&answer.event, MAX_SHOWN_CHARS);
            let error = format!("no plugin handles event {name:?}");
            self.refuse(answer, None, WireError::new("unknown_event", error));
            return Progress::Done;
        };
        if registry.lacks_filter(route, &answer.event) {
            let error = "a plugin that sees this event first is not loaded";
            let error = WireError::temporary("plugin_unavailable", error);
            self.refuse(answer, Some(route), error);
            return Progress::Done;
        }
        let sender = match check_sender(&route.contract, &answer.connection, identity, now) {
            Ok(sender) => sender,
            Err(error) => {
                self.refuse(answer, Some(route), error);
                return Progress::Done;
            }
        };
        if !route.plugin.shares_limits()
            || route.contract.limits.is_empty()
            || self.broadcast.others().is_none()
        {
            return self.check_and_call(answer, route, sender, message);
        }
        let (this, route) = (self.clone(), route.clone());
        Progress::Moved(Box::pin(async move {
            let limits = &route.contract.limits;
            match this.check_shared(limits, &answer, sender.identity()).await {
                Ok(()) => {
                    this.check_and_call(answer, &route, sender, message)
                        .end()
                        .await
                }
                Err(wait) => this.refuse(answer, Some(&route), too_often(&route.contract, wait)),
            }
        }))
    }

    /// Checks what is in an event, and calls the plugin.
    fn check_and_call(
        self: &Arc<Self>,
        answer: Answer,
        route: &Arc<Route>,
        sender: Sender,
        message: Message,
    ) -> Progress {
        match admit(&route.contract, sender, message) {
            Ok(Admission::Admitted(admitted)) => self.call(answer, route, admitted),
            Ok(Admission::Heavy(heavy)) => {
                let (this, route) = (self.clone(), route.clone());
                Progress::Moved(Box::pin(this.check_aside(answer, route, heavy)))
            }
            Err(error) => {
                self.refuse(answer, Some(route), error);
                Progress::Done
            }
        }
    }

    async fn check_aside(self: Arc<Self>, answer: Answer, route: Arc<Route>, heavy: Heavy) {
        let client = answer.connection.address.network();
        let check = {
            let route = route.clone();
            move || heavy.check(&route.contract)
        };
        let checked = self.checks.run(&route.plugin, client, check).await;
        match checked.flatten() {
            Ok(admitted) => self.call(answer, &route, admitted).end().await,
            Err(error) => self.refuse(answer, Some(&route), error),
        }
    }

    /// Calls the plugin, and performs what it wants.
    fn call(self: &Arc<Self>, answer: Answer, route: &Arc<Route>, admitted: Admitted) -> Progress {
        answer.span.leave();
        answer.span.is_for(route);
        let (message, identity) = admitted.into_parts();
        self.run_in_turn(Call::new(answer, route.clone(), identity, message))
    }

    /// Runs a call when it is its turn among those with the same key.
    fn run_in_turn(self: &Arc<Self>, mut call: Call) -> Progress {
        let route = call.route.clone();
        let Some(serial_by) = &route.contract.serial_by else {
            return self.run(call);
        };
        let key = match serial_by.key(&call.message, call.answer.connection.namespace()) {
            Ok(key) => key,
            Err(error) => {
                self.refuse(call.answer, Some(&route), error);
                return Progress::Done;
            }
        };
        if call.has_turn(&key) {
            return self.run(call);
        }
        // A filter has put another message in the place of the event's. Who waits for a turn has no
        // other one.
        drop(call.take_turn());
        let no_turn =
            |error| WireError::temporary(RATE_LIMITED, error).with_retry_after(FULL_QUEUE_RETRY);
        let client = call.answer.connection.address.network();
        match self.serial.enter(route.plugin.name(), key, Some(client)) {
            Entered::Now(turn) => self.run(call.with_turn(turn)),
            Entered::Later(coming) => {
                let this = self.clone();
                Progress::Moved(Box::pin(async move {
                    match coming.within(route.plugin.wall()).await {
                        Some(turn) => this.run(call.with_turn(turn)).end().await,
                        None => {
                            let error = no_turn("calls with the same key take too long");
                            this.refuse(call.answer, Some(&route), error);
                        }
                    }
                }))
            }
            Entered::Full => {
                let error = no_turn("too many calls wait for the same key");
                self.refuse(call.answer, Some(&route), error);
                Progress::Done
            }
        }
    }

    /// Asks the next filter, if there is one, or else the handler.
    fn run(self: &Arc<Self>, mut call: Call) -> Progress {
        if let Some(filter) = call.filter() {
            return self.filter(call, filter);
        }
        let (job, spent) = (call.job(), call.spent());
        let started = call.route.plugin.start(job, spent, &call.answer.span);
        match started {
            Started::Done(completed) => self.settle(call, completed),
            Started::Later(completed) => {
                let this = self.clone();
                Progress::Moved(Box::pin(async move {
                    let completed = completed.await;
                    this.settle(call, completed).end().await;
                }))
            }
        }
    }

    /// Checks what came of a call, performs what it recorded, then answers: all of it, or nothing.
    /// Only then may the next call have its instance.
    fn settle(self: &Arc<Self>, call: Call, completed: Completed) -> Progress {
        if let Err(CallError::Outdated) = completed.reply {
            return self.start_over(call);
        }
        let Completed {
            reply,
            recorded,
            spent,
            written,
            lease,
        } = completed;
        let Recorded {
            effects,
            transaction,
            acted,
        } = recorded;
        let outcome = Outcome::new(reply, effects, self.broadcast.max_attachments());
        let ended = Ended {
            call: call.having(spent),
            written,
            acted,
            lease,
        };
        if outcome.steps(&ended.call.route) <= MAX_STEPS_AT_ONCE {
            let verdict = outcome.judge(&ended.call.route, &ended.call.message);
            return self.conclude(ended, verdict, transaction);
        }
        let this = self.clone();
        Progress::Moved(Box::pin(async move {
            let client = ended.call.answer.connection.address.network();
            let route = ended.call.route.clone();
            let judge = {
                let (route, given) = (route.clone(), ended.call.message.clone());
                move || outcome.judge(&route, &given)
            };
            match this.checks.run(&route.plugin, client, judge).await {
                Ok(verdict) => this.conclude(ended, verdict, transaction).end().await,
                Err(error) => {
                    this.count(&route, &error.code);
                    ended.call.answer.refuse(error);
                }
            }
        }))
    }

    /// Holds what the call read against what is there now, if it read something, and answers.
    fn conclude(
        self: &Arc<Self>,
        mut ended: Ended,
        verdict: Verdict,
        transaction: Option<Box<Transaction>>,
    ) -> Progress {
        let verdict = match &mut ended.call.chain {
            Some(chain) => verdict.after(chain.take_effects()),
            None => verdict,
        };
        match transaction {
            None => {
                self.answer(ended, verdict);
                Progress::Done
            }
            Some(transaction) => {
                if let Some(chain) = &mut ended.call.chain {
                    chain.note_writes(&transaction);
                }
                self.commit(ended, verdict, *transaction)
            }
        }
    }

    fn answer(&self, ended: Ended, verdict: Verdict) {
        let Ended { call, written, .. } = &ended;
        let (answer, route) = (&call.answer, &call.route);
        let address = Some(answer.connection.address);
        let (plugin, kind) = call.speaker();
        match verdict {
            Verdict::Done(reply, effects) => {
                plugin.succeeded(kind, address);
                route.answered.inc();
                let broadcast = self.broadcast.within(&answer.span);
                effect::commit(effects, Some(&answer.connection), &broadcast, || {
                    if let Some(message) = reply {
                        answer.ack(message);
                    }
                });
            }
            Verdict::Rejected(error) => {
                plugin.succeeded(kind, address);
                self.count(route, "rejected");
                answer.refuse(error);
            }
            Verdict::Failed(error) => {
                self.count(route, error.reason());
                answer.plugin_failed(plugin, kind, &error, written.as_deref());
            }
        }
    }

    /// Counts an event that was not answered as hoped.
    fn count(&self, route: &Route, outcome: &str) {
        self.metrics
            .event_failed(route.plugin.name(), &route.contract.event, outcome);
    }
}
