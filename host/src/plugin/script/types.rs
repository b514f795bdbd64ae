//! Takes the types off TypeScript, with a component that the host brings along. What is left stands in the
//! lines and columns where its author wrote it.

use wasmtime::component::{Component, Linker};

use crate::{
    guest::{Fault, Types},
    plugin::tool::{self, Tool},
};

/// The component, made by `host/scripts/build`.
pub(super) const COMPONENT: &[u8] = include_bytes!("../../../scripts/types.wasm");

/// More memory than any source takes that a plugin's file may hold.
const MEMORY: usize = 256 << 20;

/// What takes the types off, once it is compiled.
pub(super) struct Stripper {
    component: Component,
    linker: Linker<Tool>,
}

impl Stripper {
    pub(super) fn new(component: Component) -> wasmtime::Result<Self> {
        let linker = tool::linker(component.engine())?;
        Ok(Self { component, linker })
    }

    /// The same without types; or what is wrong with it, in words. It blocks, for so many ticks of the
    /// engine's epoch at most.
    pub(super) fn strip(&self, name: &str, text: &str, ticks: u64) -> Result<String, String> {
        let mut store = tool::store(self.component.engine(), MEMORY, ticks);
        let mut strip = || {
            let types = Types::instantiate(&mut store, &self.component, &self.linker)?;
            types.call_strip(&mut store, text)
        };
        match strip() {
            Ok(Ok(script)) => Ok(script),
            Ok(Err(faults)) => Err(in_words(name, &faults)),
            Err(error) => Err(format!(
                "{name}: its types cannot be taken off: {}",
                error.root_cause()
            )),
        }
    }
}

fn in_words(name: &str, faults: &[Fault]) -> String {
    let lines = faults.iter().map(|fault| {
        let Fault {
            line,
            column,
            message,
        } = fault;
        format!("{name}:{line}:{column}: {message}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
