//! What components of the host's own run in that are tools and no plugins: WASI without any rights, and bounds.

use wasmtime::{
    Engine, Store, StoreLimits, StoreLimitsBuilder,
    component::{Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The state of one.
pub(super) struct Tool {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Tool {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// A linker with WASI.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Tool>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    Ok(linker)
}

/// A store for one call, with so many bytes of memory, and so many ticks of the engine's epoch.
pub(super) fn store(engine: &Engine, memory: usize, ticks: u64) -> Store<Tool> {
    let limits = StoreLimitsBuilder::new().memory_size(memory).build();
    let tool = Tool {
        wasi: WasiCtx::builder().build(),
        table: ResourceTable::new(),
        limits,
    };
    let mut store = Store::new(engine, tool);
    store.limiter(|tool| &mut tool.limits);
    store.set_epoch_deadline(ticks);
    store
}
