//! The way of an event: look up, admit, call, commit, answer.
//!
//! It runs on the task that read the event, mostly to its end. Where a plugin takes long, the
//! rest goes on elsewhere and the connection's later arrivals wait in its lane.

mod answer;
mod call;
mod checks;
mod commit;
mod connections;
mod expiry;
mod failure;
mod filtering;
pub(crate) mod host_events;
mod outcome;
mod performed;
mod revocations;
mod serial;
mod timers;
mod webhooks;

pub(crate) use answer::blames_plugin;
pub(crate) use connections::{Welcome, unguarded};
pub(crate) use timers::Timers;

use std::{
    cell::LazyCell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use self::{
    answer::Answer,
    call::{Call, Ended},
    checks::Checks,
    outcome::{Outcome, Verdict},
    performed::{Lost, Performed},
    serial::{Entered, Serial},
};
use crate::{
    admin::Watch,
    admission::{
        Admission, Admitted, Heavy, Limit, MAX_STEPS_AT_ONCE, Now, RATE_LIMITED, Sender, admit,
        check_sender, check_shared, rate_limited, too_often,
    },
    audit::Audit,
    broadcast::Broadcast,
    capability::{self, Recorded},
    clock,
    config::OnExcess,
    connection::{
        Connection, Connections, Identity,
        lane::{Arrival, Turn},
    },
    deadlines::TokenDeadlines,
    effect,
    error::WireError,
    message::Message,
    metrics::{self, Metrics},
    panics::caught,
    plugin::{CallError, Completed, Started},
    registry::{self, Route},
    settings::{self, Settings},
    shorten::shortened,
    store::{Store, Transaction},
    telemetry::Span,
};

/// How many waiting arrivals of one connection are handled before others get their turn.
const ARRIVALS_IN_A_ROW: usize = 64;

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

/// Whether an arrival has been dealt with.
enum Progress {
    Done,
    /// The rest of it, to be run on the server's runtime.
    Moved(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It is committed. What follows is performed by others when it is durable.
    Committed(Performed),
}

impl Progress {
    /// Of what is committed.
    fn until(performed: Performed) -> Self {
        match performed.over() {
            Some(ended) => {
                not_lost(ended);
                Self::Done
            }
            None => Self::Committed(performed),
        }
    }

    /// Runs the rest, if there is one, or waits for it.
    async fn end(self) {
        match self {
            Self::Done => {}
            Self::Moved(rest) => rest.await,
            Self::Committed(performed) => not_lost(performed.wait().await),
        }
    }
}

/// Nobody knows what became of an event when what followed has panicked: so does whoever waits.
fn not_lost(ended: Result<(), Lost>) {
    if let Err(Lost) = ended {
        panic!("what follows a commit has panicked");
    }
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

    /// Something arrived from a connection. Called in the order of arrival.
    pub(crate) fn arrive(self: &Arc<Self>, connection: &Arc<Connection>, arrival: Arrival) {
        let capacity = || self.settings.load().queue;
        match connection.lane.enter(arrival, capacity) {
            Turn::Now(arrival) => self.proceed(connection, arrival),
            Turn::Later | Turn::Over => {}
            Turn::Full(arrival) => self.refuse_for_queue(connection, arrival),
        }
    }

    /// Handles what waited until now, and opens the way for what comes.
    pub(crate) fn open(self: &Arc<Self>, connection: &Arc<Connection>) {
        if let Some(arrival) = connection.lane.next() {
            self.proceed(connection, arrival);
        }
    }

    /// A packet came whose arguments cannot be read.
    pub(crate) fn refuse_packet(
        &self,
        connection: &Arc<Connection>,
        ack: Option<i64>,
        error: WireError,
    ) {
        Answer::new(connection.clone(), "".into(), ack, Span::NONE).refuse(error);
    }

    /// Handles an arrival and those that waited behind it.
    fn proceed(self: &Arc<Self>, connection: &Arc<Connection>, first: Arrival) {
        let handling = AssertUnwindSafe(|| self.handle_in_order(connection, first));
        if catch_unwind(handling).is_err() {
            self.give_up(connection);
        }
    }

    fn handle_in_order(self: &Arc<Self>, connection: &Arc<Connection>, first: Arrival) {
        let mut next = Some(first);
        for _ in 0..ARRIVALS_IN_A_ROW {
            let Some(arrival) = next else { return };
            match self.handle(connection, arrival) {
                Progress::Done => {}
                Progress::Moved(rest) => return self.proceed_after(rest, connection),
                Progress::Committed(performed) => {
                    return self.proceed_when(performed, connection);
                }
            }
            next = connection.lane.next();
        }
        if let Some(arrival) = next {
            let (this, connection) = (self.clone(), connection.clone());
            self.tasks
                .spawn(async move { this.proceed(&connection, arrival) });
        }
    }

    fn proceed_after(
        self: &Arc<Self>,
        rest: impl Future<Output = ()> + Send + 'static,
        connection: &Arc<Connection>,
    ) {
        let (this, connection) = (self.clone(), connection.clone());
        self.tasks.spawn(async move {
            match caught(rest).await {
                Ok(()) => this.open(&connection),
                Err(_panic) => this.give_up(&connection),
            }
        });
    }

    /// Whoever performs what follows a commit lets the connection's next arrival in, which is handled in a
    /// task: they may have more to perform.
    fn proceed_when(self: &Arc<Self>, performed: Performed, connection: &Arc<Connection>) {
        let (this, connection) = (self.clone(), connection.clone());
        // They may not be on the server's runtime, which waits for the end of this.
        let (runtime, under_way) = (Handle::current(), self.tasks.token());
        performed.then(move |ended| {
            if let Err(Lost) = ended {
                end_for_panic(&connection);
            }
            if let Some(arrival) = connection.lane.next() {
                let tasks = this.tasks.clone();
                tasks.spawn_on(async move { this.proceed(&connection, arrival) }, &runtime);
            }
            drop(under_way);
        });
    }

    /// After a panic, the lane goes on with the end of the connection.
    fn give_up(self: &Arc<Self>, connection: &Arc<Connection>) {
        end_for_panic(connection);
        self.open(connection);
    }

    fn handle(self: &Arc<Self>, connection: &Arc<Connection>, arrival: Arrival) -> Progress {
        match arrival {
            Arrival::Event {
                event,
                message,
                ack,
                span,
            } => self.event(Answer::new(connection.clone(), event, ack, span), message),
            Arrival::Disconnect { reason } => self.disconnected(connection, reason),
        }
    }

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

    /// Refuses an event for a limit of the host's: of all events, whoever handles them.
    fn refuse_for_limits(&self, answer: Answer, wait: Duration) {
        let registry = self.registry.load();
        let route = registry.route(answer.connection.namespace(), &answer.event);
        self.refuse(answer, route, rate_limited("events", wait));
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

    /// Tells the client that its event is not handled, but for one over a limit that is to be dropped.
    fn refuse(&self, answer: Answer, route: Option<&Arc<Route>>, error: WireError) {
        let plugin = route.map_or(metrics::NO_PLUGIN, |route| route.plugin.name());
        let event = route.map_or(metrics::OTHER, |route| &route.contract.event);
        let drops = || {
            let declared = route.and_then(|route| route.contract.on_excess);
            self.settings.load().excess.of(plugin, declared) == OnExcess::Drop
        };
        if error.code == RATE_LIMITED && !answer.is_asked_for() && drops() {
            self.metrics.event_failed(plugin, event, "dropped");
            return;
        }
        self.metrics.event_failed(plugin, event, &error.code);
        answer.refuse(error);
    }

    /// Refuses an event because too many of its connection wait already.
    fn refuse_for_queue(&self, connection: &Arc<Connection>, arrival: Arrival) {
        // The end of a connection is never refused.
        let Arrival::Event {
            event, ack, span, ..
        } = arrival
        else {
            return;
        };
        let registry = self.registry.load();
        let route = registry.route(connection.namespace(), &event);
        let error = WireError::temporary(RATE_LIMITED, "too many events wait for their turn")
            .with_retry_after(FULL_QUEUE_RETRY);
        let answer = Answer::new(connection.clone(), event, ack, span);
        self.refuse(answer, route, error);
    }

    /// Counts an event that was not answered as hoped.
    fn count(&self, route: &Route, outcome: &str) {
        self.metrics
            .event_failed(route.plugin.name(), &route.contract.event, outcome);
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

    /// Hands a call to the version that has taken the place of one of its plugins, and stores otherwise. As
    /// nothing of it has happened, it is as if it came now; it has been let in.
    fn start_over(self: &Arc<Self>, mut call: Call) -> Progress {
        call.restart();
        let registry = self.registry.load();
        let (namespace, event) = (call.answer.connection.namespace(), &call.answer.event);
        let Some(route) = registry.route(namespace, event).cloned() else {
            let error = WireError::temporary("plugin_unavailable", "the plugin is not available");
            self.refuse(call.answer, None, error);
            return Progress::Done;
        };
        let this = self.clone();
        let most = self.broadcast.max_attachments();
        Progress::Moved(Box::pin(async move {
            let client = call.answer.connection.address.network();
            let check = {
                let (route, given) = (route.clone(), call.message.clone());
                move || {
                    // What the client sent can be read: it was.
                    let message = capability::checked((*given).clone(), Some(&given), most);
                    let message =
                        message.map_err(|_| WireError::new("internal", "the server failed"))?;
                    // The new version may have another contract.
                    route.contract.check(&message).map(|()| message)
                }
            };
            let checked = this.checks.run(&route.plugin, client, check).await;
            match checked.flatten() {
                Ok(message) => this.run_in_turn(call.by_route(route, message)).end().await,
                Err(error) => this.refuse(call.answer, Some(&route), error),
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
}

/// Ends the transport after a panic: nobody knows what became of the event, and the client has to start
/// afresh.
fn end_for_panic(connection: &Connection) {
    connection.lane.end_events();
    connection.end_transport();
}
