//! Plugins: from a component's bytes to calls that cannot hurt anybody.
//!
//! `engine` compiles and owns the threads, `load` turns bytes into a [`Plugin`], `pool` keeps its
//! live instances, `call` runs them within their budgets, `ticker` counts their time, `breaker`
//! pauses what keeps failing, `health` remembers how it went.

mod breaker;
mod call;
mod engine;
mod health;
mod imports;
mod instance;
mod load;
mod pool;
mod ticker;

pub use breaker::{Paused, Pauses};
pub use call::{CallError, Completed, Job, Reply, Started, ended};
pub use engine::Engine;
pub use health::{Failure, Health};
pub use load::{LoadError, Plugin, Source};
