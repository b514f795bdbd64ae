//! The components for scripts: each is compiled once, when the first script needs it.

use std::{sync::Arc, time::Duration};

use tokio::{runtime, sync::OnceCell};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::{
    Program,
    files::Files,
    types::{self, Stripper},
};
use crate::{
    capability::State,
    guest,
    plugin::{
        compiler::{CompileError, Compiler},
        content::Content,
        link::link_everything,
        weight::Weight,
    },
};

/// The component that runs scripts, made by `host/scripts/build`.
const RUNTIME: &[u8] = include_bytes!("../../../scripts/runtime.wasm");

/// What all scripts share.
#[derive(Default)]
pub(in crate::plugin) struct Scripts {
    runtime: OnceCell<ScriptRuntime>,
    stripper: OnceCell<Arc<Stripper>>,
}

/// What runs a script, linked with everything: what a script is not granted, it is refused when it asks.
#[derive(Clone)]
pub(in crate::plugin) struct ScriptRuntime {
    pub pre: InstancePre<State>,
    pub weight: Weight,
}

impl Scripts {
    /// What runs scripts, with `base` and everything else linked.
    pub(in crate::plugin) async fn runtime(
        &self,
        compiler: &Arc<Compiler>,
        threads: &runtime::Handle,
        base: impl FnOnce() -> Linker<State>,
    ) -> Result<ScriptRuntime, CompileError> {
        let runtime = self.runtime.get_or_try_init(|| async {
            let component = compile(compiler, threads, RUNTIME).await?;
            let weight = Weight::of(RUNTIME).map_err(|error| CompileError::Failed(error.into()))?;
            let pre = linked(base(), &component).map_err(CompileError::Failed)?;
            Ok(ScriptRuntime { pre, weight })
        });
        runtime.await.cloned()
    }

    /// The script, without its types if it has some. `ticks` of the engine's epoch are enough for that.
    pub(in crate::plugin) async fn program(
        &self,
        compiler: &Arc<Compiler>,
        threads: &runtime::Handle,
        files: &Arc<Files>,
        ticks: u64,
    ) -> Result<Program, CompileError> {
        let is_typed = |name: &str| name.ends_with("ts");
        let stripper = match files.texts().keys().any(|name| is_typed(name)) {
            false => None,
            true => {
                let stripper = self.stripper.get_or_try_init(|| async {
                    let component = compile(compiler, threads, types::COMPONENT).await?;
                    let stripper = Stripper::new(component).map_err(CompileError::Failed)?;
                    Ok(Arc::new(stripper))
                });
                Some(stripper.await?.clone())
            }
        };
        let files = files.clone();
        let stripping = threads.spawn_blocking(move || {
            let script = |(name, text): (&String, &String)| {
                let script = match &stripper {
                    Some(stripper) if is_typed(name) => stripper.strip(name, text, ticks),
                    _ => Ok(text.clone()),
                };
                (name.clone(), script)
            };
            let scripts = files.texts().iter().map(script).collect();
            Program { files, scripts }
        });
        stripping.await.map_err(CompileError::Unended)
    }
}

/// It is the host's own, so no plugin's budget counts.
async fn compile(
    compiler: &Arc<Compiler>,
    threads: &runtime::Handle,
    component: &'static [u8],
) -> Result<Component, CompileError> {
    let hashing = threads.spawn_blocking(move || Content::new(component.to_vec()));
    let content = hashing.await.map_err(CompileError::Unended)?;
    let name = "scripts".into();
    compiler
        .compile(threads, &name, &content, Duration::MAX)
        .await
}

fn linked(
    mut linker: Linker<State>,
    component: &Component,
) -> wasmtime::Result<InstancePre<State>> {
    link_everything(&mut linker)?;
    guest::source::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    linker.instantiate_pre(component)
}
