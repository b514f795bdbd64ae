//! Compiles components: one of a plugin at a time, within a budget.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytesize::ByteSize;
use parking_lot::Mutex;
use tokio::{runtime, task::JoinError, time::timeout};
use wasmtime::{Engine, component::Component};

use super::{
    cache::Cache,
    compile_time::CompileTime,
    content::{Content, ContentHash},
};

/// So many contents that took too long are remembered. What is forgotten is compiled once more.
const MAX_SLOW: usize = 1000;

/// The target of lines that say what is waited for. Commands show them whose log nobody sees.
pub(crate) const WAITS: &str = "mixlab::waits";

/// Of a component of so many bytes, such as one in Python, somebody should know what is waited for.
const LARGE: usize = 4 << 20;

/// How often the compiler is asked what it has used.
const CHECK: Duration = Duration::from_millis(50);

/// Why nothing was compiled.
#[derive(Debug)]
pub(super) enum CompileError {
    /// The compiler took longer than the budget, now or when it met this content before.
    OverBudget,
    /// The compiler is still busy with a former content of the same plugin.
    Busy,
    /// The content is no component, or there was no memory for it.
    Failed(wasmtime::Error),
    /// The host panicked, or stopped meanwhile.
    Unended(JoinError),
}

/// The compiler, and what it has found out.
pub(super) struct Compiler {
    engine: Engine,
    cache: Option<Cache>,
    /// The plugins of which something is being compiled. A compile cannot be stopped: one that is
    /// over its budget goes on, and the next has to wait for its end.
    busy: Mutex<HashSet<Arc<str>>>,
    /// Contents that took too long once, and how long at least.
    slow: Mutex<HashMap<ContentHash, Duration>>,
}

impl Compiler {
    /// Nothing is compiled yet.
    pub(super) fn new(engine: Engine, cache: Option<Cache>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            cache,
            busy: Mutex::default(),
            slow: Mutex::default(),
        })
    }

    /// Compiles a content for a plugin on a thread of `runtime`, or takes it from the cache.
    /// Whether it is over a budget does not depend on which of the two it is: the cache knows how
    /// long the compiler took.
    pub(super) async fn compile(
        self: &Arc<Self>,
        runtime: &runtime::Handle,
        plugin: &Arc<str>,
        content: &Content,
        budget: Duration,
    ) -> Result<Component, CompileError> {
        if self.is_slow(content.hash(), budget) {
            return Err(CompileError::OverBudget);
        }
        let turn = Turn::take(self, plugin).ok_or(CompileError::Busy)?;
        let content_hash = content.hash();
        let content = content.clone();
        let time = CompileTime::begin();
        let spent = time.clone();
        let mut compiling = runtime.spawn_blocking(move || turn.compile(&content, &spent));
        let took_too_long = loop {
            match timeout(CHECK.min(budget), &mut compiling).await {
                Ok(joined) => {
                    let (component, took) = joined.map_err(CompileError::Unended)??;
                    if took <= budget {
                        return Ok(component);
                    }
                    break took;
                }
                Err(_) if time.used() > budget => break budget,
                Err(_) => {}
            }
        };
        self.note_slow(content_hash, took_too_long);
        Err(CompileError::OverBudget)
    }

    /// The component, and how long the compiler took for it, now or before.
    fn compile_now(
        &self,
        plugin: &str,
        content: &Content,
        time: &CompileTime,
    ) -> Result<(Component, Duration), CompileError> {
        let cached = self.cache.as_ref();
        let cached = cached.and_then(|cache| cache.load(&self.engine, content.hash()));
        if let Some(cached) = cached {
            return Ok((cached.component, cached.took));
        }
        let bytes = content.bytes().len();
        if bytes >= LARGE {
            let size = ByteSize(bytes as u64).display().iec();
            let then = match &self.cache {
                Some(_) => "it is kept for the next time",
                None => "there is no cache to keep it in",
            };
            tracing::info!(target: WAITS, "compiling {plugin}, which has {size}: this may take a minute, and {then}");
        }
        let threads = time.threads();
        let threads = threads.map_err(|error| CompileError::Failed(error.into()))?;
        let component = threads.install(|| Component::from_binary(&self.engine, content.bytes()));
        let took = time.end();
        let component = component.map_err(CompileError::Failed)?;
        if let Some(cache) = &self.cache {
            cache.store(content.hash(), &component, took);
        }
        Ok((component, took))
    }

    fn is_slow(&self, content: ContentHash, budget: Duration) -> bool {
        let took = self.slow.lock().get(&content).copied();
        took.is_some_and(|took| took >= budget)
    }

    fn note_slow(&self, content: ContentHash, took: Duration) {
        let mut slow = self.slow.lock();
        if slow.len() >= MAX_SLOW {
            slow.clear();
        }
        slow.insert(content, took);
    }
}

/// The right to compile something of a plugin; nobody else has it meanwhile.
struct Turn {
    compiler: Arc<Compiler>,
    plugin: Arc<str>,
}

impl Turn {
    fn take(compiler: &Arc<Compiler>, plugin: &Arc<str>) -> Option<Self> {
        let is_free = compiler.busy.lock().insert(plugin.clone());
        is_free.then(|| Self {
            compiler: compiler.clone(),
            plugin: plugin.clone(),
        })
    }

    /// Takes it: the next turn begins when this has ended, whoever waits for it.
    fn compile(
        self,
        content: &Content,
        time: &CompileTime,
    ) -> Result<(Component, Duration), CompileError> {
        self.compiler.compile_now(&self.plugin, content, time)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.compiler.busy.lock().remove(&self.plugin);
    }
}
