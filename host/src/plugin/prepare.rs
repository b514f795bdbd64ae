//! From a plugin's code to what its instances are made of: compiled, and linked with what is granted.

use std::{sync::Arc, time::Duration};

use wasmtime::component::Component;

use super::{
    call_error::is_exhaustion,
    compiler::CompileError,
    content::Content,
    encoder::is_core_module,
    engine::Engine,
    imports::{self, Wanted},
    instance::Prepared,
    link::{link, link_everything},
    load_error::LoadError,
    script::Files,
    source::Source,
    weight::Weight,
};
use crate::{capability::add_wasi_http_to_linker, config::Budget, grant::Grants, units::duration};

/// Compiles a component, and holds its imports against what is granted.
pub(super) async fn prepare_component(
    engine: &Arc<Engine>,
    source: &Source,
    content: &Content,
) -> Result<Prepared, LoadError> {
    let runtime = engine.runtime(false);
    check_header(content.bytes())?;
    // Before it is compiled: what there is too much of would be compiled as often.
    let weighing = runtime.spawn_blocking({
        let content = content.clone();
        move || Weight::of(content.bytes())
    });
    let weight = weighing.await.map_err(LoadError::unended)?;
    let weight = weight.map_err(LoadError::TooMany)?;
    // Compiling blocks for long; describe may be slow or loop. Neither belongs on the
    // server's threads.
    let budget = source.budget.compile;
    let compiler = engine.compiler();
    let compiling = compiler.compile(runtime, &source.name, content, budget);
    let component = compiling
        .await
        .map_err(|error| not_compiled(error, budget))?;
    let preparing = runtime.spawn_blocking({
        let (engine, source) = (engine.clone(), source.clone());
        move || prepare(&engine, &source, &component, weight)
    });
    preparing.await.map_err(LoadError::unended)?
}

/// Says in plain words what the usual wrong files are, before the compiler sees them.
fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    let reason = why_no_component(bytes).map(|reason| LoadError::NotAComponent(reason.to_owned()));
    reason.map_or(Ok(()), Err)
}

/// Why these bytes are no component, as far as their beginning tells; none if they may be one.
pub(crate) fn why_no_component(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        Some("the file is empty")
    } else if !bytes.starts_with(MAGIC) {
        Some("it is not WebAssembly: the file does not begin with \\0asm")
    } else if is_core_module(bytes) {
        Some(
            "it is a core module and not a component: build it for wasm32-wasip2, or with `mixlab build`",
        )
    } else {
        None
    }
}

fn prepare(
    engine: &Engine,
    source: &Source,
    component: &Component,
    weight: Weight,
) -> Result<Prepared, LoadError> {
    let wanted = imports::check(engine.wasm(), component, &source.grants.load())
        .map_err(LoadError::Imports)?;
    check_waits(&wanted, &source.grants.load(), &source.budget)?;
    let mut linker = engine.base_linker();
    let types = |error: wasmtime::Error| LoadError::Types(format!("{error:#}"));
    if wanted.offers {
        link_everything(&mut linker).map_err(types)?;
    } else {
        link(&mut linker, &wanted).map_err(types)?;
    }
    if wanted.wasi_http {
        add_wasi_http_to_linker(&mut linker).map_err(types)?;
    }
    let pre = linker.instantiate_pre(component).map_err(types)?;
    Prepared::new(pre, wanted, weight, engine.ticker().clone(), None).map_err(types)
}

/// Puts a script and the component that runs all of them together.
pub(super) async fn prepare_script(
    engine: &Engine,
    source: &Source,
    files: &Arc<Files>,
) -> Result<Prepared, LoadError> {
    let (scripts, compiler) = (engine.scripts(), engine.compiler());
    let (threads, budget) = (engine.runtime(false), source.budget.compile);
    let failed = |error| not_compiled(error, budget);
    let runtime = scripts.runtime(compiler, threads, || engine.base_linker());
    let runtime = runtime.await.map_err(failed)?;
    let _ticking = engine.ticker().hold();
    let program = scripts.program(compiler, threads, files, engine.ticks(budget));
    let program = program.await.map_err(failed)?;
    program
        .main()
        .map_err(|reason| LoadError::Script(reason.to_owned()))?;
    let grants = source.grants.load();
    let wanted = Wanted::of_script(&grants, program.may_request());
    check_waits(&wanted, &grants, &source.budget)?;
    let ticker = engine.ticker().clone();
    Prepared::new(
        runtime.pre,
        wanted,
        runtime.weight,
        ticker,
        Some(Arc::new(program)),
    )
    .map_err(|error| LoadError::Types(format!("{error:#}")))
}

/// Whoever waits for clients or servers needs an instance that may.
fn check_waits(wanted: &Wanted, grants: &Grants, budget: &Budget) -> Result<(), LoadError> {
    if wanted.ask && budget.asks() == 0 {
        return Err(LoadError::NoAsks(budget.instances));
    }
    let sends_requests = wanted.http || wanted.wasi_http && grants.any_http();
    if sends_requests && budget.requests() == 0 {
        return Err(LoadError::NoRequests(budget.instances));
    }
    Ok(())
}

/// Why nothing was compiled, for whoever reads what became of a plugin.
fn not_compiled(error: CompileError, budget: Duration) -> LoadError {
    match error {
        CompileError::OverBudget => {
            LoadError::CompileTimeout(duration::display(budget).to_string())
        }
        CompileError::Busy => LoadError::Compiling,
        CompileError::Unended(error) => LoadError::unended(error),
        CompileError::Failed(error) if is_exhaustion(&error) => {
            LoadError::Exhausted(format!("{error:#}"))
        }
        CompileError::Failed(error) => {
            LoadError::NotAComponent(format!("it is not a valid component: {error:#}"))
        }
    }
}
