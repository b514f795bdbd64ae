//! The WebAssembly engine and the threads that plugins run on.

use std::path::Path;

use rustix::process::{Pid, setpriority_process};
use tokio::runtime;
use wasmtime::{
    Cache, CacheConfig, Config, WasmBacktraceDetails,
    component::{Component, HasSelf, Linker},
};
use wasmtime_wasi::p2::bindings::random::{insecure, random};

use super::ticker::Ticker;
use crate::{capability::State, config, guest};

/// Nice values: plugin code that did not finish at once yields to the server's own threads, and
/// plugins that overran lately yield to the others.
const PLUGIN_NICE: i32 = 10;
const PENALTY_NICE: i32 = 19;

/// One engine serves all plugins of a host.
pub struct Engine {
    wasm: wasmtime::Engine,
    /// WASI and the log: what every plugin gets. WASI has no files, network or environment.
    base: Linker<State>,
    plugins: Option<runtime::Runtime>,
    penalty: Option<runtime::Runtime>,
    ticker: Ticker,
}

impl Engine {
    /// Starts the engine's threads.
    pub fn start(config: &config::Runtime) -> wasmtime::Result<Self> {
        let wasm = wasmtime::Engine::new(&engine_config(config.cache.as_deref())?)?;
        let ticker = {
            let wasm = wasm.weak();
            Ticker::start(config.tick, move || {
                if let Some(wasm) = wasm.upgrade() {
                    wasm.increment_epoch();
                }
            })
        };
        let mut base = Linker::new(&wasm);
        wasmtime_wasi::p2::add_to_linker_async(&mut base)?;
        // In place of WASI's own, which would fill tens of megabytes at a guest's word.
        base.allow_shadowing(true);
        random::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        insecure::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        base.allow_shadowing(false);
        guest::log::add_to_linker::<_, HasSelf<_>>(&mut base, |state| state)?;
        Ok(Self {
            plugins: Some(low_priority_runtime("plugin", config.threads, PLUGIN_NICE)?),
            penalty: Some(low_priority_runtime("plugin-penalty", 1, PENALTY_NICE)?),
            ticker,
            wasm,
            base,
        })
    }

    /// Compiles a component, or takes it from the cache. Slow and not to be cancelled: never
    /// call it on the server's runtime.
    pub fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::from_binary(&self.wasm, bytes)
    }

    /// The engine itself.
    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    /// What makes guests yield.
    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// A linker with what every plugin gets.
    pub(super) fn base_linker(&self) -> Linker<State> {
        self.base.clone()
    }

    /// The runtime for calls that did not finish at once, or the one for plugins that overran
    /// lately.
    pub(super) fn runtime(&self, penalty: bool) -> &runtime::Handle {
        let runtime = if penalty {
            &self.penalty
        } else {
            &self.plugins
        };
        runtime.as_ref().expect("taken only on drop").handle()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for runtime in [self.plugins.take(), self.penalty.take()]
            .into_iter()
            .flatten()
        {
            // The last owner may be a task of the server's runtime, where blocking is forbidden.
            runtime.shutdown_background();
        }
        self.ticker.stop();
    }
}

/// Where in the cache folder compiled components are. wasmtime deletes whatever it does not know in the
/// folder that it is given, so that is one where nobody else puts anything.
const COMPILED: &str = "components";

fn engine_config(cache: Option<&Path>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Component-model async is not part of the contract and doubles the cost of a call.
    config.concurrency_support(false);
    // A trap tells file and line of each frame, where the component has them.
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    if let Some(folder) = cache {
        let mut cache_config = CacheConfig::new();
        cache_config.with_directory(folder.join(COMPILED));
        match Cache::new(cache_config) {
            Ok(cache) => {
                config.cache(Some(cache));
            }
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled plugins are not cached");
            }
        }
    }
    Ok(config)
}

fn low_priority_runtime(
    name: &'static str,
    threads: usize,
    nice: i32,
) -> std::io::Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread()
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
        .build()
}
