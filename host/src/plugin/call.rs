//! A call: inline where it is fast, moved away when it is slow, stopped when it is over budget.
//!
//! A call into a live instance costs about a microsecond and a hop to another thread ten times
//! that, so the call is polled where the event was read. A guest that used the processor for longer than
//! an epoch tick or two goes on, in the same future, on the plugin runtime with the rest of its budget. A
//! plugin that overran lately is not started inline at all.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{sync::oneshot, time::timeout_at};
use tokio_util::sync::ReusableBoxFuture;

use super::{
    breaker::Begun,
    call_error::CallError,
    completed::{Completed, Spent, Started},
    generation::Plugin,
    job::{CallKind, Job, Reply},
    metered::{CpuTime, Metered, thread_cpu_time},
    pool::{Ended, Lease},
    recorded::{failed, said},
};
use crate::{
    address::ClientAddress,
    capability::Output,
    error::TraceId,
    telemetry::{Span, Traced},
};

/// CPU time on the plugin runtime, or time until a trap, that makes a call slow, and its plugin one
/// that is not started inline for a while.
const SLOW: Duration = Duration::from_micros(500);

impl Plugin {
    /// Starts a call on the current task, as a part of the `parent`, of which this has been `spent` by former runs.
    /// Whoever started it says how it ended, by [`Plugin::succeeded`] or [`Plugin::failed`].
    pub fn start(self: &Arc<Self>, job: Job, spent: Spent, parent: &Span) -> Started {
        let span = parent.calls(self, job.kind());
        let job = Traced {
            it: job,
            context: span.context(),
        };
        span.until_completed(self.start_within(job, spent), spent.cpu)
    }

    fn start_within(self: &Arc<Self>, job: Traced<Job>, spent: Spent) -> Started {
        let admitted = match job.it.client() {
            Some(client) => self.breaker().admit(job.it.kind(), client),
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
        if self.health().in_penalty() {
            return self.move_away(None, Some(job), spent, true);
        }
        match self.pool().take_idle() {
            Some(lease) => self.run_at_once(lease, job, spent),
            None => Started::Later(Box::pin(self.clone().run_when_free(job, spent))),
        }
    }

    /// Runs a call where it is, as long as it is fast.
    fn run_at_once(self: &Arc<Self>, mut lease: Lease, job: Traced<Job>, spent: Spent) -> Started {
        let now = Instant::now();
        let deadline = spent.since.unwrap_or(now) + self.budget().wall;
        let call = lease.begin(|instance| instance.run(job, deadline));
        match catch_unwind(AssertUnwindSafe(|| poll_while_fast(call, thread_cpu_time))) {
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
            Ok(Poll::Pending) => self.move_away(Some(lease), None, spent, false),
            Err(panic) => Started::Done(Completed::failed(CallError::of_panic(&*panic))),
        }
    }

    /// Waits for an instance where it is, and not among the slow: a call that is fast is to be as fast
    /// when it had to wait.
    async fn run_when_free(self: Arc<Self>, job: Traced<Job>, spent: Spent) -> Completed {
        let deadline = spent.since.unwrap_or_else(Instant::now) + self.budget().wall;
        let mut lease = tokio::select! {
            lease = timeout_at(deadline.into(), self.pool().take()) => match lease {
                Ok(lease) => lease,
                // Others hold the instances.
                Err(_) => return Completed::failed(CallError::Busy),
            },
            () = self.retired() => return Completed::failed(CallError::replaced()),
            _ = self.successor().wait() => return Completed::failed(CallError::Outdated),
        };
        let started = match lease.instance() {
            Some(_) => self.run_at_once(lease, job, spent),
            None => self.move_away(Some(lease), Some(job), spent, false),
        };
        started.ended().await
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
        self.health().failed(during, reason, Some(*trace_id));
        if let CallError::Busy
        | CallError::Exhausted(_)
        | CallError::Superseded
        | CallError::Outdated = error
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
        job: Option<Traced<Job>>,
        spent: Spent,
        penalty: bool,
    ) -> Started {
        let (answer, answered) = oneshot::channel();
        let stopped =
            |_| Completed::failed(CallError::Unavailable("the host is shutting down".into()));
        let answered = answered.map(move |answer| answer.unwrap_or_else(stopped));
        let plugin = self.clone();
        self.engine().runtime(penalty).spawn(async move {
            let call = AssertUnwindSafe(plugin.go_on(lease, job, spent));
            let completed = call.catch_unwind().await;
            let completed =
                completed.unwrap_or_else(|panic| Completed::failed(CallError::of_panic(&*panic)));
            // Nobody listens any more when the host stops.
            let _ = answer.send(completed);
        });
        Started::Later(Box::pin(answered))
    }

    /// Runs the rest of a call that has begun, or the whole of one that has not.
    async fn go_on(
        &self,
        lease: Option<Lease>,
        job: Option<Traced<Job>>,
        spent: Spent,
    ) -> Completed {
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
                None => self.pool().take().await,
            };
            waiting.store(false, Ordering::Relaxed);
            if let Some(job) = job {
                // What a new instance costs is not held against the plugin.
                self.equip(&mut lease, &mut CpuTime::default()).await?;
                lease.begin(|instance| instance.run(job, deadline));
            }
            // What it writes is wanted even if the instance goes with the call.
            output.get_or_init(|| lease.output().clone());
            let ended = Metered {
                future: Pin::new(lease.future()),
                cpu: &mut cpu,
                limit: budget.cpu,
                last_words: self.last_words(),
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
                Err(CallError::replaced())
            }
            _ = self.successor().wait() => {
                Err(match waiting.load(Ordering::Relaxed) {
                    true => CallError::Outdated,
                    // It waits for somebody, and could not commit what comes of it.
                    false => CallError::replaced(),
                })
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
            Err(error) => {
                let output = output.get();
                let written = output.and_then(Output::take);
                if let Some(tape) = output.and_then(Output::tape) {
                    tape.end(|taken| failed(taken, &error));
                }
                Completed {
                    written,
                    ..Completed::failed(error)
                }
            }
        }
    }

    /// Gives a lease a new instance where it came without.
    async fn equip(&self, lease: &mut Lease, cpu: &mut CpuTime) -> Result<(), CallError> {
        if lease.instance().is_some() {
            return Ok(());
        }
        let limit = self.budget().cpu;
        let creation = std::pin::pin!(self.instantiate(self.new_tape()));
        let created = Metered {
            future: creation,
            cpu,
            limit,
            last_words: self.last_words(),
        }
        .await;
        let described = created.ok_or_else(|| self.out_of_time("cpu", limit))?;
        let described = described.map_err(|error| CallError::Unavailable(error.to_string()))?;
        let (instance, ..) = described.map_err(CallError::Unavailable)?;
        lease.provide(instance);
        Ok(())
    }

    fn out_of_time(&self, budget: &'static str, allowed: Duration) -> CallError {
        self.health().overran();
        CallError::out_of_time(budget, allowed)
    }

    /// The lease has its instance back after an answer; after a trap it is of no use any more.
    fn complete(&self, mut lease: Lease, (mut instance, reply): Ended, spent: Spent) -> Completed {
        let written = instance.state().output.take();
        let recorded = instance.state().end();
        if let Some(tape) = instance.state().tape().cloned() {
            let used = instance.state().meter.used().boundary_bytes;
            tape.end(|taken| match &reply {
                Ok(reply) => said(taken, reply, &recorded).used(used),
                Err(error) => failed(taken, &self.trap(error)).used(used),
            });
        }
        if let Some(witness) = self.witness() {
            let is_yes = reply.as_ref().is_ok_and(Reply::is_yes);
            let used = instance.state().meter.used();
            witness.saw(is_yes, &recorded, spent.cpu, used);
        }
        match reply {
            Ok(reply) => {
                if let Some(text) = written.as_ref().and_then(|written| written.printed()) {
                    tracing::info!(target: "plugin", plugin = &**self.name(), "{}", text.trim_end());
                    self.health().journal().printed(text.trim_end());
                }
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
                recorded,
                spent,
                written,
                ..Completed::failed(self.trap(&error))
            },
        }
    }
}

/// Polls a call until it has ended, waits for something, or has used the processor for long. Who was not
/// running when its time was over has lost the processor to others, which says nothing about the guest.
fn poll_while_fast<T>(
    call: &mut ReusableBoxFuture<'static, T>,
    cpu_time: impl Fn() -> Duration,
) -> Poll<T> {
    // The waker does nothing: a call that is moved is polled again where it goes on.
    if let Poll::Ready(ended) = call.poll(&mut Context::from_waker(Waker::noop())) {
        return Poll::Ready(ended);
    }
    let began = cpu_time();
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    while woken.0.swap(false, Ordering::Relaxed) && cpu_time() - began < SLOW {
        if let Poll::Ready(ended) = call.poll(&mut cx) {
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

/// Whether a call that is not done wants to go on at once: what yields does, what waits does not.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicU32};

    use super::*;

    /// Polls a call that is over at its poll number `last`. Each poll before uses so much of the processor,
    /// and then yields or waits. Also returns how many polls there were.
    fn poll_until(last: u32, uses: Duration, yields: bool) -> (Poll<()>, u32) {
        let polls = Arc::new(AtomicU32::new(0));
        let counted = polls.clone();
        let call = poll_fn(move |cx| {
            if counted.fetch_add(1, Ordering::Relaxed) + 1 == last {
                return Poll::Ready(());
            }
            if yields {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        let cpu_time = || uses * polls.load(Ordering::Relaxed);
        let poll = poll_while_fast(&mut ReusableBoxFuture::new(call), cpu_time);
        (poll, polls.load(Ordering::Relaxed))
    }

    #[test]
    fn a_call_that_lost_the_processor_is_polled_again() {
        assert_eq!(poll_until(9, SLOW / 10, true), (Poll::Ready(()), 9));
    }

    #[test]
    fn a_call_that_uses_the_processor_is_not() {
        assert_eq!(poll_until(9, SLOW, true), (Poll::Pending, 2));
    }

    #[test]
    fn a_call_that_waits_is_not() {
        // The first poll does not tell.
        assert_eq!(poll_until(9, Duration::ZERO, false), (Poll::Pending, 2));
    }
}
