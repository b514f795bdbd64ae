//! A call: inline where it is fast, moved away when it is slow, stopped when it is over budget.
//!
//! A call into a live instance costs about a microsecond and a hop to another thread ten times
//! that, so the call is polled once where the event was read. A guest that is not done within
//! two epoch ticks goes on, in the same future, on the plugin runtime with the rest of its
//! budget. A plugin that overran lately is not started inline at all.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    breaker::{Begun, Paused},
    instance::Misfit,
    load::Plugin,
    pool::{Ended, Lease},
};
use crate::{
    address::ClientAddress,
    capability::{Output, OverBudget, Written},
    connection::{Connection, Identity},
    effect::Effect,
    guest::{Message, Outcome, Refusal, Rejection},
};

/// CPU time on the plugin runtime, or time until a trap, that makes a call slow, and its plugin one
/// that is not started inline for a while.
const SLOW: Duration = Duration::from_micros(500);

/// What an instance is called for.
pub enum Job {
    /// `events.handle`.
    Event {
        /// Whose event it is.
        connection: Arc<Connection>,
        /// Who sent it.
        identity: Arc<Identity>,
        /// The event's name.
        event: Arc<str>,
        /// Its arguments.
        message: Arc<Message>,
    },
    /// `connections.on-connect`.
    Connect {
        /// The connection that asks to be let in.
        connection: Arc<Connection>,
        /// Its auth object as JSON, without the token.
        auth: String,
    },
    /// `connections.on-disconnect`.
    Disconnect {
        /// The connection that is gone.
        connection: Arc<Connection>,
        /// Socket.IO's word for the reason.
        reason: &'static str,
    },
}

/// What the plugin said.
#[derive(Debug)]
pub enum Reply {
    /// To an event.
    Event(Result<Outcome, Rejection>),
    /// To a new connection.
    Connect(Result<(), Refusal>),
    /// To the end of one.
    Disconnect,
}

/// A call that has ended.
pub struct Completed {
    /// What the plugin said, or why it could not.
    pub reply: Result<Reply, CallError>,
    /// What it recorded; to be performed if the reply says so.
    pub effects: Vec<Effect>,
    /// What the guest wrote, for the log line of a failure; none if nothing.
    pub written: Option<Box<Written>>,
}

/// A call that has been started.
pub enum Started {
    /// It ended at once.
    Done(Completed),
    /// It goes on elsewhere. The channel closes without an answer only when the host stops.
    Moved(oneshot::Receiver<Completed>),
}

/// Why a plugin gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It took too long.
    #[error("the budget {budget} = {allowed} is used up")]
    Timeout {
        /// `cpu` or `wall`.
        budget: &'static str,
        /// Its value.
        allowed: String,
    },
    /// It used too much of something else.
    #[error(transparent)]
    OverBudget(OverBudget),
    /// Its exports have other types than the contract says.
    #[error("its types do not fit: {0}")]
    Misfit(String),
    /// It trapped.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It answered with something that its contract does not allow.
    #[error("{0}")]
    Invalid(String),
    /// It keeps failing and is not called for a while.
    #[error("it is paused, because its calls kept failing")]
    Paused(Paused),
    /// Others held all instances for too long.
    #[error("all of its instances were busy")]
    Busy,
    /// No instance could be had.
    #[error("no instance: {0}")]
    Unavailable(String),
    /// The host's own fault.
    #[error("the host panicked: {0}")]
    Host(String),
}

impl CallError {
    /// A fixed word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { budget, .. } | Self::OverBudget(OverBudget { budget, .. }) => budget,
            Self::Misfit(_) => "types",
            Self::Trap(_) => "trap",
            Self::Invalid(_) => "invalid",
            Self::Paused(_) => "paused",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Host(_) => "host",
        }
    }
}

impl Job {
    /// The address of the client that it is for.
    fn address(&self) -> ClientAddress {
        let (Self::Event { connection, .. }
        | Self::Connect { connection, .. }
        | Self::Disconnect { connection, .. }) = self;
        connection.address
    }
}

impl Plugin {
    /// Starts a call on the current task. Whoever started it says how it ended, by
    /// [`Plugin::succeeded`] or [`Plugin::failed`].
    pub fn start(self: &Arc<Self>, job: Job) -> Started {
        if let Err(paused) = self.breaker().admit(job.address()) {
            return Started::Done(Completed::failed(CallError::Paused(paused)));
        }
        self.health().called();
        let began = Instant::now();
        let penalty = self.health().in_penalty();
        if penalty {
            return self.move_away(None, Some(job), began, penalty);
        }
        let Some(mut lease) = self.pool().take_idle() else {
            return self.move_away(None, Some(job), began, penalty);
        };
        let deadline = began + self.budget().wall;
        let call = lease.begin(|instance| instance.run(job, deadline));
        // The waker does nothing: a call that is moved is polled again where it goes on.
        let mut cx = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| call.poll(&mut cx))) {
            Ok(Poll::Ready(ended)) => {
                let took = began.elapsed();
                self.metrics().called(took);
                if ended.1.is_err() && took > SLOW {
                    // To find the lines of a trap takes its time where there is much debug info.
                    self.health().overran();
                }
                Started::Done(self.complete(lease, ended))
            }
            Ok(Poll::Pending) => self.move_away(Some(lease), None, began, penalty),
            Err(panic) => Started::Done(Completed::failed(host_panic(panic))),
        }
    }

    /// A call for a client at this address was answered, and the answer was good.
    pub fn succeeded(&self, address: ClientAddress) {
        self.breaker().succeeded(address);
    }

    /// A call for a client at this address was not answered, or with something that is not allowed.
    pub fn failed(&self, address: ClientAddress, during: &str, error: &CallError, reason: &str) {
        self.metrics().failed(error.reason());
        if let CallError::Paused(_) = error {
            return;
        }
        self.health().failed(during, reason);
        if let CallError::Busy = error {
            // It is not this client, nor this call, that something is wrong with.
            return;
        }
        let Some(begun) = self.breaker().failed(address) else {
            return;
        };
        let (plugin, generation) = (&**self.name(), self.generation());
        let version = self.version();
        match begun {
            Begun::ForClient => tracing::warn!(
                plugin, version, generation, %address,
                "the plugin is paused for a client: its calls keep failing"
            ),
            Begun::ForEverybody => tracing::warn!(
                plugin,
                version,
                generation,
                "the plugin is paused: its calls keep failing"
            ),
            Begun::Disabled => tracing::warn!(
                plugin,
                version,
                generation,
                "the plugin is switched off until it changes: its calls keep failing"
            ),
        }
    }

    fn move_away(
        self: &Arc<Self>,
        lease: Option<Lease>,
        job: Option<Job>,
        began: Instant,
        penalty: bool,
    ) -> Started {
        let (answer, answered) = oneshot::channel();
        let plugin = self.clone();
        self.engine().runtime(penalty).spawn(async move {
            let completed = plugin.go_on(lease, job, began).await;
            // Nobody listens any more when the host stops.
            let _ = answer.send(completed);
        });
        Started::Moved(answered)
    }

    /// Runs the rest of a call that has begun, or the whole of one that has not.
    async fn go_on(&self, lease: Option<Lease>, job: Option<Job>, began: Instant) -> Completed {
        let _ticking = self.engine().ticker().hold();
        let budget = self.budget();
        let deadline = began + budget.wall;
        let mut cpu = CpuTime::default();
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
        if cpu.used > SLOW {
            self.health().overran();
        }
        match ended {
            Ok((lease, ended)) => self.complete(lease, ended),
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

    /// The reason of a failed call: a budget by name, else the trap.
    pub(super) fn trap(&self, error: &wasmtime::Error) -> CallError {
        if let Some(OverBudget { budget, allowed }) = error.downcast_ref() {
            return CallError::OverBudget(OverBudget {
                budget,
                allowed: allowed.clone(),
            });
        }
        if let Some(Misfit(types)) = error.downcast_ref() {
            return CallError::Misfit(types.clone());
        }
        let text = format!("{error:?}");
        // wasmtime has no type for this one.
        if text.contains("fuel allocated for hostcalls has been exhausted") {
            let allowed = self.budget().boundary.as_usize();
            return CallError::OverBudget(OverBudget::bytes("boundary", allowed));
        }
        CallError::Trap(text)
    }

    fn out_of_time(&self, budget: &'static str, allowed: Duration) -> CallError {
        self.health().overran();
        CallError::Timeout {
            budget,
            allowed: humantime::format_duration(allowed).to_string(),
        }
    }

    /// Puts the instance back after an answer; after a trap it is of no use any more.
    fn complete(&self, lease: Lease, (mut instance, reply): Ended) -> Completed {
        let written = instance.state().output.take();
        match reply {
            Ok(reply) => {
                if let Some(text) = written.as_ref().and_then(|written| written.printed()) {
                    tracing::info!(target: "plugin", plugin = &**self.name(), "{}", text.trim_end());
                }
                let effects = instance.state().end();
                lease.keep(instance);
                Completed {
                    reply: Ok(reply),
                    effects,
                    written,
                }
            }
            Err(error) => Completed {
                written,
                ..Completed::failed(self.trap(&error))
            },
        }
    }
}

/// What a call that was moved ends with.
pub async fn ended(moved: oneshot::Receiver<Completed>) -> Completed {
    let stopped = |_| Completed::failed(CallError::Unavailable("the host is shutting down".into()));
    moved.await.unwrap_or_else(stopped)
}

impl Completed {
    fn failed(error: CallError) -> Self {
        Self {
            reply: Err(error),
            effects: Vec::new(),
            written: None,
        }
    }
}

fn host_panic(panic: Box<dyn Any + Send>) -> CallError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    CallError::Host(text.unwrap_or_else(|| "without a message".to_owned()))
}

/// CPU time that the polls of a call took, on whatever threads.
#[derive(Debug, Default)]
pub struct CpuTime {
    used: Duration,
}

/// Ends with none when its polls have used more CPU time than `limit`. Wall time would punish
/// honest guests for sharing a thread with looping ones.
pub struct Metered<'a, F: ?Sized> {
    /// What is being polled.
    pub future: Pin<&'a mut F>,
    /// Counts on.
    pub cpu: &'a mut CpuTime,
    /// How much is allowed.
    pub limit: Duration,
}

impl<F: Future + ?Sized> Future for Metered<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let before = thread_cpu_time();
        let poll = this.future.as_mut().poll(cx);
        this.cpu.used += thread_cpu_time().saturating_sub(before);
        match poll {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if this.cpu.used > this.limit => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
