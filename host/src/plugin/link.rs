//! Linking: which interfaces of the contract a component has.

use wasmtime::component::{HasSelf, Linker};

use super::imports::Wanted;
use crate::{capability::State, guest};

/// For each interface that needs a grant, its name in the contract.
macro_rules! interfaces {
    ($($interface:ident)*) => {
        /// Links what a plugin is granted when it is loaded.
        pub(super) fn link(linker: &mut Linker<State>, wanted: &Wanted) -> wasmtime::Result<()> {
            $(if wanted.$interface {
                guest::$interface::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
            })*
            Ok(())
        }

        /// Links all that plugins may be granted. Each function looks for the grant when it is called.
        pub(super) fn link_everything(linker: &mut Linker<State>) -> wasmtime::Result<()> {
            $(guest::$interface::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;)*
            Ok(())
        }
    };
}

interfaces!(broadcast rooms emit ask http sockets history presence store timers);
