//! The live instances of one plugin generation.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::ReusableBoxFuture;

use super::{instance::Instance, job::Reply};
use crate::capability::{Hold, Output, Permits};

/// What the future of a call ends with.
pub(super) type Ended = (Box<Instance>, wasmtime::Result<Reply>);

/// Idle instances, last in, first out, and the right to have so many at once.
pub(super) struct Pool {
    idle: Mutex<Vec<Slot>>,
    permits: Arc<Permits>,
    /// So many instances are kept while they are idle.
    instances: usize,
}

/// An instance and the box that its calls' futures reuse, once there was a call.
struct Slot {
    instance: Box<Instance>,
    future: Option<ReusableBoxFuture<'static, Ended>>,
    output: Option<Output>,
}

/// The right to run one call, with an instance to run it on. When it is dropped, others get both. If
/// that is in the middle of a call, the instance goes with the call's future and the next lease starts
/// a new one: a panic or a caller that is gone never shrinks the pool.
pub struct Lease {
    pool: Arc<Pool>,
    instance: Option<Box<Instance>>,
    future: Option<ReusableBoxFuture<'static, Ended>>,
    /// The instance's; it outlives a call that is dropped.
    output: Option<Output>,
}

impl Pool {
    /// For so many `instances`, of which as many run at once as there are `permits`.
    pub(super) fn new(instances: usize, permits: Arc<Permits>) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            permits,
            instances,
        })
    }

    /// Memory of the idle instances, in bytes: all of them when no call is under way.
    pub(super) fn memory_bytes(&self) -> usize {
        let idle = self.idle.lock();
        idle.iter().map(|slot| slot.instance.memory_bytes()).sum()
    }

    /// An idle instance, if there is one right now.
    pub(super) fn take_idle(self: &Arc<Self>) -> Option<Lease> {
        if !self.permits.try_take() {
            return None;
        }
        let mut lease = self.lease();
        lease.instance().is_some().then_some(lease)
    }

    /// A lease as soon as one is free; it may come without an instance.
    pub(super) async fn take(self: &Arc<Self>) -> Lease {
        self.permits.take().await;
        self.lease()
    }

    /// Waits until no call is under way, but for those that wait for clients or servers; none begins as
    /// long as the hold is kept.
    pub(super) async fn hold(&self) -> Hold {
        self.permits.take_all(self.instances).await
    }

    /// A lease for a permit that has been taken.
    fn lease(self: &Arc<Self>) -> Lease {
        let slot = self.idle.lock().pop();
        let (instance, future, output) = match slot {
            Some(slot) => (Some(slot.instance), slot.future, slot.output),
            None => (None, None, None),
        };
        Lease {
            pool: self.clone(),
            instance,
            future,
            output,
        }
    }
}

impl Lease {
    /// The instance, while no call is under way.
    pub fn instance(&mut self) -> Option<&mut Instance> {
        self.instance.as_deref_mut()
    }

    /// Gives it its instance: a new one if it came without, or that of a call that has ended.
    pub fn provide(&mut self, instance: Box<Instance>) {
        self.instance = Some(instance);
    }

    /// Begins a call: `run` makes its future from the instance.
    pub fn begin<F>(
        &mut self,
        run: impl FnOnce(Box<Instance>) -> F,
    ) -> &mut ReusableBoxFuture<'static, Ended>
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let mut instance = self.instance.take().expect("a call begins on an instance");
        if self.output.is_none() {
            self.output = Some(instance.state().output.clone());
        }
        let future = run(instance);
        match &mut self.future {
            Some(reused) => {
                reused.set(future);
                reused
            }
            none => none.insert(ReusableBoxFuture::new(future)),
        }
    }

    /// The future of the call that was begun.
    pub fn future(&mut self) -> &mut ReusableBoxFuture<'static, Ended> {
        self.future.as_mut().expect("a call has begun")
    }

    /// What the guest writes in the call that was begun.
    pub fn output(&self) -> &Output {
        self.output.as_ref().expect("a call has begun")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            let (future, output) = (self.future.take(), self.output.take());
            let mut idle = self.pool.idle.lock();
            if idle.len() < self.pool.instances {
                idle.push(Slot {
                    instance,
                    future,
                    output,
                });
            }
        }
        self.pool.permits.give_back();
    }
}
