//! The WebAssembly engine and the threads that plugins run on.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustix::process::{Pid, setpriority_process};
use tokio::runtime;
use wasmtime::{
    Config, WasmBacktraceDetails,
    component::{HasSelf, Linker},
};
use wasmtime_wasi::p2::bindings::{
    io::poll,
    random::{insecure, random},
};

use super::{cache::Cache, compiler::Compiler, script::Scripts, ticker::Ticker};
use crate::{capability::State, config, guest};

/// Nice values: plugin code that did not finish at once yields to the server's own threads, and
/// plugins that overran lately yield to the others.
const PLUGIN_NICE: i32 = 10;
const PENALTY_NICE: i32 = 19;

/// How much of a call's stack WebAssembly may use. A call has 2 MiB, and the host's functions need the rest.
const WASM_STACK: usize = 1 << 20;

/// One engine serves all plugins of a host.
pub(crate) struct Engine {
    wasm: wasmtime::Engine,
    compiler: Arc<Compiler>,
    /// WASI, the connection and the log: what every plugin gets. WASI has no files, network or environment.
    base: Linker<State>,
    plugins: Threads,
    penalty: Threads,
    ticker: Ticker,
    /// How long a tick of it is.
    tick: Duration,
    scripts: Scripts,
}

impl Engine {
    /// Starts the engine's threads.
    pub(crate) fn start(config: &config::Runtime) -> wasmtime::Result<Self> {
        let wasm = wasmtime::Engine::new(&engine_config())?;
        let cache = config.cache.as_deref();
        let cache = cache.and_then(|folder| open_cache(folder, &wasm));
        let ticker = {
            let wasm = wasm.weak();
            Ticker::start(config.tick, move || {
                if let Some(wasm) = wasm.upgrade() {
                    wasm.increment_epoch();
                }
            })?
        };
        let mut base = Linker::new(&wasm);
        wasmtime_wasi::p2::add_to_linker_async(&mut base)?;
        // In place of WASI's own, which would fill tens of megabytes at a guest's word.
        base.allow_shadowing(true);
        random::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        insecure::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        // And of what is ready first, a record has to know.
        poll::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        base.allow_shadowing(false);
        guest::connection::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        guest::log::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        Ok(Self {
            plugins: Threads::start("plugin", config.threads, PLUGIN_NICE)?,
            penalty: Threads::start("plugin-penalty", 1, PENALTY_NICE)?,
            ticker,
            tick: config.tick,
            scripts: Scripts::default(),
            compiler: Compiler::new(wasm.clone(), cache),
            wasm,
            base,
        })
    }

    /// Compiles components.
    pub(super) fn compiler(&self) -> &Arc<Compiler> {
        &self.compiler
    }

    /// The engine itself.
    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    /// What makes guests yield.
    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// What scripts run on.
    pub(super) fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// How many of the ticks that make guests yield a time has, at most.
    pub(super) fn ticks(&self, time: Duration) -> u64 {
        let ticks = time.as_nanos() / self.tick.as_nanos().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// A linker with what every plugin gets.
    pub(super) fn base_linker(&self) -> Linker<State> {
        self.base.clone()
    }

    /// The runtime for calls that did not finish at once, or the one for plugins that overran
    /// lately.
    pub(super) fn runtime(&self, penalty: bool) -> &runtime::Handle {
        match penalty {
            true => self.penalty.handle(),
            false => self.plugins.handle(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.plugins.stop();
        self.penalty.stop();
        self.ticker.stop();
    }
}

fn engine_config() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Component-model async is not part of the contract and doubles the cost of a call.
    config.concurrency_support(false);
    // The engine of scripts stops a recursion by its own stack, which has to be full before this one is.
    config.max_wasm_stack(WASM_STACK);
    // A trap tells file and line of each frame, where the component has them.
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}

/// A folder that cannot be used costs time at the next start, and nothing else.
fn open_cache(folder: &Path, wasm: &wasmtime::Engine) -> Option<Cache> {
    let cache = Cache::open(folder, wasm);
    cache
        .inspect_err(|error| tracing::warn!("compiled plugins are not cached: {error}"))
        .ok()
}

/// Threads of low priority, which are not waited for when they are dropped: the last owner, also of an engine
/// that could not start, may be a task of the server's runtime, where blocking is forbidden.
struct Threads(Option<runtime::Runtime>);

impl Threads {
    fn start(name: &'static str, threads: usize, nice: i32) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .enable_all()
            // Look at timers after every task: with the default of 61, looping guests delay the
            // wall-clock limits of others by 15 ms and more.
            .event_interval(1)
            .on_thread_start(move || {
                let thread = Pid::from_raw(rustix::thread::gettid().as_raw_nonzero().get());
                if let Err(error) = setpriority_process(thread, nice) {
                    tracing::warn!(%error, "cannot lower the priority of plugin threads");
                }
            })
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> &runtime::Handle {
        self.0.as_ref().expect("taken only at the end").handle()
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}
