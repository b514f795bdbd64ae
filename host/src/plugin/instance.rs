//! A live instance: a store, its exports, and one call at a time.

use std::{sync::Arc, time::Instant};

use wasmtime::{Store, component::InstancePre};

use super::{
    imports::Wanted,
    job::{Firing, Job, Reply},
    recorded::{before, given},
    script::Program,
    ticker::Ticker,
    weight::Weight,
};
use crate::{
    capability::{MAX_HANDLES, State},
    clock,
    guest::{
        Connections, ConnectionsIndices, Description, Events, EventsIndices, Filters,
        FiltersIndices, LifecycleIndices, Message, Migrations, MigrationsIndices, Offered,
        OffersIndices, TimerHandler, TimerHandlerIndices, Verdict, Webhooks, WebhooksIndices,
    },
    telemetry::Traced,
};

/// How many epoch ticks a call may take before it yields. One that merely straddles a tick is polled
/// again at once.
const YIELD_TICKS: u64 = 1;

/// A component that is linked and ready to be instantiated, with its exports looked up.
pub(super) struct Prepared {
    pre: InstancePre<State>,
    lifecycle: LifecycleIndices,
    events: EventsIndices,
    connections: Option<ConnectionsIndices>,
    timer_handler: Option<TimerHandlerIndices>,
    filters: Option<FiltersIndices>,
    webhooks: Option<WebhooksIndices>,
    migrations: Option<MigrationsIndices>,
    offers: Option<OffersIndices>,
    /// The script, where an instance runs one.
    program: Option<Arc<Program>>,
    requests: Vec<&'static str>,
    weight: Weight,
    may_request: Vec<&'static str>,
    uses_store: bool,
    uses_wasi_http: bool,
    ticker: Ticker,
}

/// What a plugin has of what is optional.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Whether it wants to know of connections.
    pub connections: bool,
    /// Whether it can be called by timers.
    pub timer_handler: bool,
    /// Whether it can filter events of others.
    pub filters: bool,
    /// Whether it takes webhooks.
    pub webhooks: bool,
}

/// An instance and its store. After a trap, or when a call's future was dropped, it answers
/// nothing any more and must be dropped.
pub struct Instance {
    store: Store<State>,
    events: Events,
    connections: Option<Connections>,
    timer_handler: Option<TimerHandler>,
    filters: Option<Filters>,
    webhooks: Option<Webhooks>,
    migrations: Option<Migrations>,
    ticker: Ticker,
}

/// The types of an export are not those of the contract.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misfit(pub String);

fn misfit(error: wasmtime::Error) -> Misfit {
    Misfit(format!("{error:#}"))
}

/// Loads an export, where the component has it.
fn optional<I, E>(
    indices: &Option<I>,
    load: impl FnOnce(&I) -> wasmtime::Result<E>,
) -> Result<Option<E>, Misfit> {
    indices.as_ref().map(load).transpose().map_err(misfit)
}

/// What comes of instantiating: the plugin's description, or the plugin's own "no".
pub(super) type Described = Result<(Box<Instance>, Description, Offer), String>;

impl From<Offered> for Offer {
    fn from(offered: Offered) -> Self {
        Self {
            connections: offered.connections,
            timer_handler: offered.timer_handler,
            filters: offered.filters,
            webhooks: offered.webhooks,
        }
    }
}

impl Prepared {
    /// Looks up the exports that are `wanted`.
    pub(super) fn new(
        pre: InstancePre<State>,
        wanted: Wanted,
        weight: Weight,
        ticker: Ticker,
        program: Option<Arc<Program>>,
    ) -> wasmtime::Result<Self> {
        // Where all that is optional is exported, that says nothing.
        let exports_need_store = wanted.timer_handler || wanted.migrations;
        let uses_store = wanted.store || wanted.timers || !wanted.offers && exports_need_store;
        Ok(Self {
            weight,
            program,
            offers: wanted
                .offers
                .then(|| OffersIndices::new(&pre))
                .transpose()?,
            requests: wanted.requests,
            may_request: wanted.may_request,
            uses_store,
            uses_wasi_http: wanted.wasi_http,
            lifecycle: LifecycleIndices::new(&pre)?,
            events: EventsIndices::new(&pre)?,
            connections: wanted
                .connections
                .then(|| ConnectionsIndices::new(&pre))
                .transpose()?,
            timer_handler: wanted
                .timer_handler
                .then(|| TimerHandlerIndices::new(&pre))
                .transpose()?,
            filters: wanted
                .filters
                .then(|| FiltersIndices::new(&pre))
                .transpose()?,
            webhooks: wanted
                .webhooks
                .then(|| WebhooksIndices::new(&pre))
                .transpose()?,
            migrations: wanted
                .migrations
                .then(|| MigrationsIndices::new(&pre))
                .transpose()?,
            pre,
            ticker,
        })
    }

    /// The grants that it cannot be loaded without.
    pub(super) fn requests(&self) -> &[&'static str] {
        &self.requests
    }

    /// The grants that it may need besides, as whom or what its calls are about.
    pub(super) fn may_request(&self) -> &[&'static str] {
        &self.may_request
    }

    /// Whether the plugin uses the store.
    pub(super) fn uses_store(&self) -> bool {
        self.uses_store
    }

    /// Whether it exports what takes webhooks.
    pub(super) fn takes_webhooks(&self) -> bool {
        self.webhooks.is_some()
    }

    /// Whether it is a script.
    pub(super) fn is_script(&self) -> bool {
        self.program.is_some()
    }

    /// Instantiates and calls `describe`. The caller bounds its time, and holds the ticker.
    pub(super) async fn instantiate(
        &self,
        state: State,
        boundary_bytes: usize,
        config: &String,
    ) -> wasmtime::Result<Described> {
        let mut store = Store::new(self.pre.engine(), state);
        if let Some(program) = &self.program {
            store.data_mut().run_script(program.clone());
        }
        if self.uses_wasi_http {
            store.data_mut().let_use_wasi_http();
        }
        store.limiter(|state| &mut state.meter);
        store.epoch_deadline_async_yield_and_update(YIELD_TICKS);
        store.set_epoch_deadline(YIELD_TICKS);
        // What they stand for is memory of the host that no budget counts.
        store.set_max_component_handles(MAX_HANDLES);
        // The default lets a guest hand over 128 MiB at once.
        store.set_hostcall_fuel(boundary_bytes);
        store.data_mut().meter.grow(self.weight.bytes())?;
        let instance = self.pre.instantiate_async(&mut store).await?;
        // Only now are the types of the exports held against the contract.
        let lifecycle = self.lifecycle.load(&mut store, &instance);
        let lifecycle = lifecycle.map_err(misfit)?;
        let events = self.events.load(&mut store, &instance).map_err(misfit)?;
        let connections = optional(&self.connections, |it| it.load(&mut store, &instance))?;
        let timer_handler = optional(&self.timer_handler, |it| it.load(&mut store, &instance))?;
        let webhooks = optional(&self.webhooks, |it| it.load(&mut store, &instance))?;
        let migrations = optional(&self.migrations, |it| it.load(&mut store, &instance))?;
        let filters = optional(&self.filters, |it| it.load(&mut store, &instance))?;
        let described = lifecycle.call_describe(&mut store, config).await?;
        let description = match described {
            Ok(description) => description,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut offer = Offer {
            connections: connections.is_some(),
            timer_handler: timer_handler.is_some(),
            filters: filters.is_some(),
            webhooks: webhooks.is_some(),
        };
        if let Some(offers) = &self.offers {
            let offers = offers.load(&mut store, &instance).map_err(misfit)?;
            offer = Offer::from(offers.call_offered(&mut store).await?);
        }
        store.data_mut().end();
        if let Some(tape) = store.data().tape() {
            tape.described();
        }
        store.data().output.take();
        let instance = Box::new(Instance {
            store,
            events,
            connections: connections.filter(|_| offer.connections),
            timer_handler: timer_handler.filter(|_| offer.timer_handler),
            filters: filters.filter(|_| offer.filters),
            webhooks: webhooks.filter(|_| offer.webhooks),
            migrations,
            ticker: self.ticker.clone(),
        });
        Ok(Ok((instance, description, offer)))
    }
}

impl Instance {
    /// What it holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().meter.memory_bytes()
    }

    /// The version of the form in which the plugin stores; 0 if it says none. The caller bounds its time.
    pub(super) async fn data_version(&mut self) -> wasmtime::Result<u32> {
        match &self.migrations {
            Some(migrations) => migrations.call_data_version(&mut self.store).await,
            None => Ok(0),
        }
    }

    /// The state that imports act on.
    pub fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// Runs one job, which the caller ends at the `deadline`. The instance goes in and comes back,
    /// so that the future owns all it needs and can move to another thread.
    pub async fn run(
        mut self: Box<Self>,
        job: Traced<Job>,
        deadline: Instant,
    ) -> (Box<Self>, wasmtime::Result<Reply>) {
        let Traced { it: job, context } = job;
        self.state().trace(context);
        let reply = self.reply(job, deadline).await;
        (self, reply)
    }

    async fn reply(&mut self, job: Job, deadline: Instant) -> wasmtime::Result<Reply> {
        let store = &mut self.store;
        store.set_epoch_deadline(YIELD_TICKS);
        store.data_mut().begin(deadline);
        if let Some(tape) = store.data().tape().cloned() {
            let state = store.data_mut();
            let plugin = state.plugin().clone();
            let reads = tape.begin(clock::now(), || given(&job, &plugin), || before(&job));
            state.note_reads(Some(reads));
        }
        self.ticker.begin();
        match job {
            Job::Event {
                connection,
                identity,
                event,
                message,
                transaction,
            } => {
                store.data_mut().concern(connection, identity);
                store.data_mut().let_ask();
                store.data_mut().give(message.clone(), transaction);
                store.data_mut().meter.boundary(size(&message))?;
                let call = self.events.call_handle(store, &event, &message);
                call.await.map(Reply::Event)
            }
            Job::Filter {
                connection,
                identity,
                event,
                message,
                transaction,
            } => {
                store.data_mut().concern(connection, identity);
                store.data_mut().give(message.clone(), transaction);
                let Some(filters) = &self.filters else {
                    return Ok(Reply::Filter(Ok(Verdict::Pass)));
                };
                store.data_mut().meter.boundary(size(&message))?;
                let call = filters.call_filter(store, &event, &message);
                call.await.map(Reply::Filter)
            }
            Job::Webhook { request, .. } => {
                let Some(webhooks) = &self.webhooks else {
                    return Err(Misfit("it does not export webhooks".to_owned()).into());
                };
                let pairs = request.query.iter().chain(&request.headers);
                let pairs: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
                let bytes = request.path.len() + pairs + request.body.len();
                store.data_mut().meter.boundary(bytes)?;
                let call = webhooks.call_handle(store, &request);
                call.await.map(Reply::Webhook)
            }
            Job::Connect { connection, auth } => {
                let Some(connections) = &self.connections else {
                    return Ok(Reply::Connect(Ok(())));
                };
                let identity = connection.identity();
                store.data_mut().concern(connection, identity);
                let call = connections.call_on_connect(store, &auth);
                call.await.map(Reply::Connect)
            }
            Job::Disconnect { connection, reason } => {
                let Some(connections) = &self.connections else {
                    return Ok(Reply::Disconnect);
                };
                let identity = connection.identity();
                store.data_mut().concern(connection, identity);
                let call = connections.call_on_disconnect(store, &reason);
                call.await.map(|()| Reply::Disconnect)
            }
            Job::Timer(firing) => {
                let Some(handler) = &self.timer_handler else {
                    return Ok(Reply::Timer(Ok(())));
                };
                let Firing {
                    name,
                    payload,
                    due,
                    attempt,
                } = &*firing;
                store
                    .data_mut()
                    .meter
                    .boundary(name.len() + payload.len())?;
                let call = handler.call_fire(store, name, payload, *due, *attempt);
                call.await.map(Reply::Timer)
            }
            Job::Migrate {
                from,
                cursor,
                transaction,
            } => {
                store.data_mut().go_on(Some(transaction));
                let Some(migrations) = &self.migrations else {
                    return Err(Misfit("it does not export migrations".to_owned()).into());
                };
                let bytes = cursor.as_ref().map_or(0, String::len);
                store.data_mut().meter.boundary(bytes)?;
                let call = migrations.call_migrate(store, from, cursor.as_deref());
                call.await.map(Reply::Migrate)
            }
        }
    }
}

/// What crosses the boundary with a message, in bytes.
fn size(message: &Message) -> usize {
    let attachments: usize = message.attachments.iter().map(Vec::len).sum();
    message.arguments.len() + attachments
}
