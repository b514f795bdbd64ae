//! Makes components of core modules, with a component that the host brings along.

use std::{sync::Arc, time::Duration};

use super::{content::Content, engine::Engine, tool};
use crate::{config, guest};

/// The component, made by `host/scripts/build`.
const COMPONENT: &[u8] = include_bytes!("../../scripts/encoder.wasm");

/// The contract of what it makes.
const CONTRACT: &str = include_str!("../../../wit/mixlab.wit");

/// More memory than any module takes that is a plugin.
const MEMORY: usize = 1 << 30;

/// More time than it takes on any machine.
const TIME: Duration = Duration::from_secs(300);

/// What core modules begin with.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Whether it is a core module, as compilers leave it that know nothing of components.
pub(crate) fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(CORE_MODULE)
}

/// The component of a core module; or why there is none, in words.
pub(crate) fn encoded(module: &[u8], config: &config::Runtime) -> Result<Vec<u8>, String> {
    let failed = |error: wasmtime::Error| format!("{error:#}");
    let engine = Engine::start(config).map_err(failed)?;
    let threads = engine.runtime(false);
    let name: Arc<str> = "encoder".into();
    let content = Content::new(COMPONENT.to_vec());
    let compiler = engine.compiler();
    let compiling = compiler.compile(threads, &name, &content, Duration::MAX);
    let component = threads
        .block_on(compiling)
        .map_err(|error| format!("the encoder is not compiled: {error:?}"))?;
    let _ticking = engine.ticker().hold();
    let mut store = tool::store(engine.wasm(), MEMORY, engine.ticks(TIME));
    let linker = tool::linker(engine.wasm()).map_err(failed)?;
    let encoder = guest::Encoder::instantiate(&mut store, &component, &linker).map_err(failed)?;
    let encoded = encoder.call_encode(&mut store, module, CONTRACT);
    encoded.map_err(failed)?
}
