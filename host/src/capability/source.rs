//! `mixlab:script/source`: the files of a script, and what is left for it. For the component that runs
//! scripts only.

use std::sync::Arc;

use super::State;
use crate::{
    guest::source,
    plugin::{Program, ScriptFailed, is_out_of_time},
};

impl State {
    /// The instance runs this script.
    pub(crate) fn run_script(&mut self, program: Arc<Program>) {
        self.program = Some(program);
        self.meter.let_handle_shortage();
    }

    /// No plugin of others imports what needs it.
    fn program(&self) -> wasmtime::Result<&Arc<Program>> {
        let none = || ScriptFailed("there is no script".to_owned());
        Ok(self.program.as_ref().ok_or_else(none)?)
    }
}

fn file((name, text): (&str, &str)) -> source::File {
    source::File {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

impl source::Host for State {
    fn plugin_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin.to_string())
    }

    fn main(&mut self) -> wasmtime::Result<source::File> {
        let main = self.program()?.main();
        Ok(main
            .map(file)
            .map_err(|reason| ScriptFailed(reason.to_owned()))?)
    }

    fn resolve(
        &mut self,
        importer: String,
        specifier: String,
    ) -> wasmtime::Result<Result<source::File, String>> {
        Ok(self.program()?.resolve(&importer, &specifier).map(file))
    }

    fn memory(&mut self) -> wasmtime::Result<u64> {
        Ok(self.meter.memory_left() as u64)
    }

    fn is_out_of_time(&mut self) -> wasmtime::Result<bool> {
        Ok(is_out_of_time())
    }

    fn fail(&mut self, text: String) -> wasmtime::Result<()> {
        Err(ScriptFailed(text).into())
    }
}
