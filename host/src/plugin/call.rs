//! A call: inline where it is fast, moved away when it is slow, stopped when it is over budget.
//!
//! A call into a live instance costs about a microsecond and a hop to another thread ten times
//! that, so the call is polled once where the event was read. A guest that is not done within
//! two epoch ticks goes on, in the same future, on the plugin runtime with the rest of its
//! budget. A plugin that overran lately is not started inline at all.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    breaker::Begun,
    call_error::CallError,
    completed::{Completed, Spent, Started},
    job::{CallKind, Job},
    load::Plugin,
    metered::{CpuTime, Metered},
    pool::{Ended, Lease},
};
use crate::{address::ClientAddress, capability::Output, error::TraceId};

/// CPU time on the plugin runtime, or time until a trap, that makes a call slow, and its plugin one
/// that is not started inline for a while.
const SLOW: Duration = Duration::from_micros(500);

impl Plugin {
    /// Starts a call on the current task, of which this has been `spent` by former runs.
    /// Whoever started it says how it ended, by [`Plugin::succeeded`] or [`Plugin::failed`].
    pub fn start(self: &Arc<Self>, job: Job, spent: Spent) -> Started {
        let admitted = match job.client() {
            Some(client) => self.breaker().admit(job.kind(), client),
            None => self.breaker().admit_for_nobody(),
        };
        if let Err(paused) = admitted {
            return Started::Done(Completed::failed(CallError::Paused(paused)));
        }
        self.health().called();
        let now = Instant::now();
        let began = spent.since.unwrap_or(now);
        let spent = Spent {
            since: Some(began),
            ..spent
        };
        let penalty = self.health().in_penalty();
        if penalty {
            return self.move_away(None, Some(job), spent, penalty);
        }
        let Some(mut lease) = self.pool().take_idle() else {
            return self.move_away(None, Some(job), spent, penalty);
        };
        let deadline = began + self.budget().wall;
        let call = lease.begin(|instance| instance.run(job, deadline));
        // The waker does nothing: a call that is moved is polled again where it goes on.
        let mut cx = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| call.poll(&mut cx))) {
            Ok(Poll::Ready(ended)) => {
                let took = now.elapsed();
                self.metrics().called(took);
                if ended.1.is_err() && took > SLOW {
                    // To find the lines of a trap takes its time where there is much debug info.
                    self.health().overran();
                }
                let spent = Spent {
                    cpu: spent.cpu + took,
                    ..spent
                };
                Started::Done(self.complete(lease, ended, spent))
            }
            Ok(Poll::Pending) => self.move_away(Some(lease), None, spent, penalty),
            Err(panic) => Started::Done(Completed::failed(CallError::of_panic(&*panic))),
        }
    }

    /// A call was answered, and the answer was good; it was for the `client` at this address, if for any.
    pub fn succeeded(&self, kind: CallKind, client: Option<ClientAddress>) {
        if let Some(client) = client {
            self.breaker().succeeded(kind, client);
        }
    }

    /// A call was not answered, or with something that is not allowed; it was for the `client` at this
    /// address, if for any: who pauses a plugin is a client. The log tells of what follows from it under the failure's `trace_id`.
    pub fn failed(
        &self,
        kind: CallKind,
        client: Option<ClientAddress>,
        during: &str,
        error: &CallError,
        reason: &str,
        trace_id: &TraceId,
    ) {
        self.metrics().failed(error.reason());
        if let CallError::Paused(_) = error {
            return;
        }
        self.health().failed(during, reason);
        if let CallError::Busy
        | CallError::Exhausted(_)
        | CallError::Conflict
        | CallError::Superseded
        | CallError::Store(_) = error
        {
            // It is not this client, nor this call, that something is wrong with.
            return;
        }
        let Some(address) = client else { return };
        let Some(begun) = self.breaker().failed(kind, address) else {
            return;
        };
        let (plugin, generation) = (&**self.name(), self.generation());
        let version = self.version();
        match begun {
            Begun::ForClient => tracing::warn!(
                plugin, version, generation, %address, %trace_id,
                "the plugin is paused for a client: its calls keep failing"
            ),
            Begun::ForEverybody => tracing::warn!(
                plugin,
                version,
                generation,
                %trace_id,
                "the plugin is paused: its calls keep failing"
            ),
            Begun::Disabled => tracing::warn!(
                plugin,
                version,
                generation,
                %trace_id,
                "the plugin is switched off until it changes: its calls keep failing"
            ),
        }
    }

    fn move_away(
        self: &Arc<Self>,
        lease: Option<Lease>,
        job: Option<Job>,
        spent: Spent,
        penalty: bool,
    ) -> Started {
        let (answer, answered) = oneshot::channel();
        let plugin = self.clone();
        self.engine().runtime(penalty).spawn(async move {
            let call = AssertUnwindSafe(plugin.go_on(lease, job, spent));
            let completed = call.catch_unwind().await;
            let completed =
                completed.unwrap_or_else(|panic| Completed::failed(CallError::of_panic(&*panic)));
            // Nobody listens any more when the host stops.
            let _ = answer.send(completed);
        });
        Started::Moved(answered)
    }

    /// Runs the rest of a call that has begun, or the whole of one that has not.
    async fn go_on(&self, lease: Option<Lease>, job: Option<Job>, spent: Spent) -> Completed {
        let _ticking = self.engine().ticker().hold();
        let budget = self.budget();
        let began = spent.since.unwrap_or_else(Instant::now);
        let deadline = began + budget.wall;
        let mut cpu = CpuTime::from(spent.cpu);
        let waiting = AtomicBool::new(true);
        let output: OnceLock<Output> = OnceLock::new();
        let call = async {
            let mut lease = match lease {
                Some(lease) => lease,
                // What a new instance costs is not held against the plugin.
                None => self.lease(&mut CpuTime::default(), &waiting).await?,
            };
            waiting.store(false, Ordering::Relaxed);
            if let Some(job) = job {
                lease.begin(|instance| instance.run(job, deadline));
            }
            // What it writes is wanted even if the instance goes with the call.
            output.get_or_init(|| lease.output().clone());
            let ended = Metered {
                future: Pin::new(lease.future()),
                cpu: &mut cpu,
                limit: budget.cpu,
            }
            .await;
            match ended {
                Some(ended) => Ok((lease, ended)),
                None => Err(self.out_of_time("cpu", budget.cpu)),
            }
        };
        let ended = tokio::select! {
            ended = timeout_at(deadline.into(), call) => ended.unwrap_or_else(|_| {
                if waiting.load(Ordering::Relaxed) {
                    // Others hold the instances; this call has done nothing that was slow.
                    return Err(CallError::Busy);
                }
                Err(self.out_of_time("wall", budget.wall))
            }),
            () = self.retired() => {
                Err(CallError::Unavailable("replaced, and the call did not end in time".into()))
            }
        };
        self.metrics().called(began.elapsed());
        if cpu.used() > SLOW {
            self.health().overran();
        }
        match ended {
            Ok((lease, ended)) => {
                let spent = Spent {
                    cpu: cpu.used(),
                    ..spent
                };
                self.complete(lease, ended, spent)
            }
            Err(error) => Completed {
                written: output.get().and_then(Output::take),
                ..Completed::failed(error)
            },
        }
    }

    /// An instance from the pool, or a new one where there is room.
    async fn lease(&self, cpu: &mut CpuTime, waiting: &AtomicBool) -> Result<Lease, CallError> {
        let mut lease = self.pool().take().await;
        waiting.store(false, Ordering::Relaxed);
        if lease.instance().is_none() {
            let limit = self.budget().cpu;
            let creation = std::pin::pin!(self.instantiate());
            let created = Metered {
                future: creation,
                cpu,
                limit,
            }
            .await;
            let described = created.ok_or_else(|| self.out_of_time("cpu", limit))?;
            let described = described.map_err(|error| CallError::Unavailable(error.to_string()))?;
            let (instance, _) = described.map_err(CallError::Unavailable)?;
            lease.provide(instance);
        }
        Ok(lease)
    }

    fn out_of_time(&self, budget: &'static str, allowed: Duration) -> CallError {
        self.health().overran();
        CallError::out_of_time(budget, allowed)
    }

    /// The lease has its instance back after an answer; after a trap it is of no use any more.
    fn complete(&self, mut lease: Lease, (mut instance, reply): Ended, spent: Spent) -> Completed {
        let written = instance.state().output.take();
        match reply {
            Ok(reply) => {
                if let Some(text) = written.as_ref().and_then(|written| written.printed()) {
                    tracing::info!(target: "plugin", plugin = &**self.name(), "{}", text.trim_end());
                }
                let recorded = instance.state().end();
                lease.provide(instance);
                Completed {
                    reply: Ok(reply),
                    recorded,
                    spent,
                    written,
                    lease: Some(lease),
                }
            }
            Err(error) => Completed {
                // What it read is held against what is there, as it may have failed for that.
                recorded: instance.state().end(),
                spent,
                written,
                ..Completed::failed(self.trap(&error))
            },
        }
    }
}
