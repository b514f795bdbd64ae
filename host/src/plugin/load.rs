//! From a component's bytes to a plugin that is known to work: compile, link what is granted,
//! instantiate once and ask it to describe itself, all within budgets. Every failure is an
//! answer with a reason.

use std::{
    pin::pin,
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use super::{
    breaker::Breaker,
    call_error::CallError,
    code::Code,
    engine::Engine,
    generation::Plugin,
    health::Health,
    instance::Described,
    load_error::LoadError,
    metered::{CpuTime, Metered},
    pool::Pool,
    prepare::{prepare_component, prepare_script},
    source::{Services, Source},
};
use crate::{
    capability::{Allowance, HttpAccess, Permits, Places, State},
    config::Budget,
    guest::Description,
    metrics::CallMetrics,
    record::{self, Tape},
};

impl Plugin {
    /// Loads a plugin as generation `generation` and says what it handles.
    pub(crate) async fn load(
        engine: Arc<Engine>,
        services: Services,
        source: Source,
        generation: u64,
        health: Arc<Health>,
        metrics: CallMetrics,
    ) -> Result<(Arc<Self>, Description), LoadError> {
        let Services {
            broadcast,
            store,
            http: client,
            witness,
            recorder,
        } = services;
        let runtime = engine.runtime(false).clone();
        let prepared = match &source.code {
            Code::Component(content) => prepare_component(&engine, &source, content).await?,
            Code::Script(files) => prepare_script(&engine, &source, files).await?,
        };
        // What came of a delivery is kept there. Of a script nobody knows yet whether it takes some.
        let remembers = prepared.takes_webhooks() && source.webhook.verification.is_some();
        let store = match prepared.uses_store() || remembers {
            true => {
                let opening = runtime.spawn_blocking(move || store.open());
                let opened = opening.await.map_err(LoadError::unended)?;
                Some(opened.map_err(|error| LoadError::Store(error.to_string()))?)
            }
            false => None,
        };
        let instances = source.budget.instances;
        let permits = Arc::new(Permits::new(instances));
        let requests = source.budget.requests();
        let http = HttpAccess {
            client: client.of_plugin(),
            rules: source.http.clone(),
            places: match instances {
                // A plugin that wants one memory for all its calls has no other to lend.
                1 => Places::new(requests, instances, permits.clone()),
                _ => Places::lending(requests, instances, permits.clone()),
            },
            metrics: metrics.clone(),
        };
        let plugin = Arc::new(Self {
            generation,
            version: OnceLock::new(),
            data_version: OnceLock::new(),
            offer: OnceLock::new(),
            is_outdated: AtomicBool::new(false),
            successor: SetOnce::new(),
            prepared,
            pool: Pool::new(instances, permits.clone()),
            asks: Arc::new(Places::new(source.budget.asks(), instances, permits)),
            http: Arc::new(http),
            health,
            breaker: Breaker::new(&source.breaker, source.on_failure),
            metrics,
            engine,
            broadcast,
            store,
            contended: Arc::default(),
            witness,
            recorder,
            retired: CancellationToken::new(),
            source,
        });
        let describing = runtime.spawn({
            let plugin = plugin.clone();
            async move { plugin.describe().await }
        });
        let description = describing.await.map_err(LoadError::unended)??;
        plugin.version.get_or_init(|| description.version.clone());
        Ok((plugin, description))
    }

    /// The first instance is a trial: only with its description is the plugin worth anything.
    async fn describe(&self) -> Result<Description, LoadError> {
        let Budget { cpu, wall, .. } = self.source.budget;
        let mut lease = self.pool.take().await;
        let mut used = CpuTime::default();
        let creation = pin!(async {
            let described = self.instantiate(self.new_tape()).await?;
            let Ok((mut instance, description, offer)) = described else {
                return Ok(described);
            };
            let version = instance.data_version().await;
            let version = version.map_err(|error| self.trap(&error))?;
            self.data_version.get_or_init(|| version);
            self.offer.get_or_init(|| offer);
            Ok(Ok((instance, description, offer)))
        });
        let metered = Metered {
            future: creation,
            cpu: &mut used,
            limit: cpu,
            last_words: self.last_words(),
        };
        let out_of_time =
            |budget, allowed| LoadError::Describe(CallError::out_of_time(budget, allowed));
        let described = tokio::time::timeout(wall, metered)
            .await
            .map_err(|_| out_of_time("wall", wall))?
            .ok_or_else(|| out_of_time("cpu", cpu))?
            .map_err(|error| match error {
                CallError::Misfit(types) => LoadError::Types(types),
                CallError::Script(text) => LoadError::Script(text),
                error => LoadError::Describe(error),
            })?;
        let (instance, description, offer) =
            described.map_err(|reason| match self.is_script() {
                true => LoadError::Script(reason),
                false => LoadError::Refused(reason),
            })?;
        let Source {
            webhook, grants, ..
        } = &self.source;
        let is_verified = webhook.verification.is_some();
        if offer.webhooks && !is_verified && !grants.load().unverified_webhooks() {
            return Err(LoadError::Unverified);
        }
        lease.provide(instance);
        Ok(description)
    }

    /// A new instance, described. Takes as long as the guest likes: the caller bounds it.
    pub(super) async fn instantiate(
        &self,
        tape: Option<Arc<Tape>>,
    ) -> Result<Described, CallError> {
        let Source {
            name,
            grants,
            config,
            budget,
            ..
        } = &self.source;
        let allowance = Allowance {
            memory_bytes: budget.memory.as_usize(),
            boundary_bytes: budget.boundary.as_usize(),
            host_calls: budget.host_calls,
            effects: budget.effects,
            log_bytes: budget.log.as_usize(),
            data_bytes: budget.data.as_usize(),
        };
        let state = State::new(
            name.clone(),
            grants.clone(),
            self.broadcast.clone(),
            self.store.clone(),
            self.asks.clone(),
            self.http.clone(),
            self.health.journal().clone(),
            tape,
            allowance,
        );
        let output = state.output.clone();
        let tape = state.tape().cloned();
        let config = tape
            .as_ref()
            .and_then(|tape| tape.config())
            .unwrap_or(config);
        let _ticking = self.engine.ticker().hold();
        let described = self
            .prepared
            .instantiate(state, allowance.boundary_bytes, config)
            .await;
        described.map_err(|error| match (self.trap(&error), output.take()) {
            (CallError::Trap(text), Some(written)) => CallError::Trap(format!("{text}{written}")),
            (error, _) => error,
        })
    }

    /// What records the calls of a new instance, if they are recorded.
    pub(super) fn new_tape(&self) -> Option<Arc<Tape>> {
        let recorder = self.recorder.clone()?;
        let grants = self.source.grants.load();
        let instance = record::Instance {
            instance: 0,
            plugin: self.source.name.as_ref().to_owned(),
            config: serde_json::from_str(&self.source.config).unwrap_or_default(),
            grants: grants.iter().map(ToString::to_string).collect(),
            seed: String::new(),
            answers: Vec::new(),
        };
        Some(Tape::record(recorder, instance))
    }
}
