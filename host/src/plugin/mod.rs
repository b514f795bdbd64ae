//! Plugins: from a component's bytes to calls that cannot hurt anybody.
//!
//! `engine` owns the threads, `compiler` compiles within its `compile_time` and `cache` keeps what came of
//! it, `load` turns a `source` into one `generation` of a plugin, with what it can `prepare` and `link`; its instances have a `weight`, `pool` keeps those that live, `call` runs
//! a `job` on one of them within its budgets and says how it was
//! `completed`, `metered` and `ticker` count their time, `migration` brings what former versions have stored into the form of a
//! new one, `script` is for plugins that are no components, `breaker` pauses what keeps failing,
//! `health` remembers how it went, and `journal` the last lines. `recorded` says of calls what a record has of them. `encoder` makes components of modules, and `tool` is what the host's own components
//! run in that are no plugins.

mod breaker;
mod cache;
mod call;
mod call_error;
mod code;
mod compile_time;
mod compiler;
mod completed;
mod content;
mod doubt;
mod encoder;
mod engine;
mod generation;
mod health;
mod imports;
mod instance;
mod job;
mod journal;
mod link;
mod load;
mod load_error;
mod metered;
mod migration;
mod pool;
mod prepare;
mod recorded;
mod script;
mod source;
mod ticker;
mod tool;
mod weight;
mod witness;

pub(crate) use breaker::{Paused, Pauses};
pub(crate) use cache::{Distrust, check_file};
pub(crate) use call_error::{CallError, GAVE_UP};
pub(crate) use code::{Code, Reading, too_large};
pub(crate) use compiler::WAITS;
pub(crate) use completed::{Completed, Spent, Started};
pub(crate) use content::ContentHash;
pub(crate) use encoder::{encoded, is_core_module};
pub(crate) use engine::Engine;
pub(crate) use generation::Plugin;
pub(crate) use health::Health;
pub(crate) use instance::Instance;
pub(crate) use job::{CallKind, Firing, Job, Reply};
pub(crate) use journal::{CallNumber, Journal};
pub(crate) use load_error::LoadError;
pub(crate) use metered::is_out_of_time;
pub(crate) use migration::{Migrated, Migration};
pub(crate) use pool::Lease;
pub(crate) use prepare::why_no_component;
pub(crate) use script::{Program, ScriptFailed, is_script};
pub(crate) use source::{Services, Source};
pub(crate) use witness::{Witness, Witnessed};
