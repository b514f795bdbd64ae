//! Makes components of core modules, as compilers leave them that know nothing of components.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as WASI, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "mixlab:script/encoder",
});

struct Encoder;

export!(Encoder);

impl Guest for Encoder {
    fn encode(module: Vec<u8>, contract: String) -> Result<Vec<u8>, String> {
        encode(module, &contract).map_err(|error| format!("{error:#}"))
    }
}

/// What names the world that a module was made for.
const WORLD_SECTION: &str = "component-type";

/// What each module has that Go's compiler makes.
const GO_SECTION: &str = "go:buildid";

/// What plugins export in any case. The world `plugin` has it already.
const REQUIRED: [&str; 2] = ["lifecycle", "events"];

fn encode(mut module: Vec<u8>, contract: &str) -> Result<Vec<u8>> {
    let Found {
        interfaces,
        has_world,
        is_of_go,
    } = look(&module)?;
    if !has_world {
        let mut resolve = Resolve::default();
        let world = world(&mut resolve, contract, &interfaces)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.module(&module)?.adapter(WASI, ADAPTER)?;
    // What brings WASI's second preview takes memory while the module is being initialized, when Go's own allocator is
    // not there yet. C's takes all memory that is there for its own when it begins, so that it has to be asked.
    let encoder = encoder.realloc_via_memory_grow(is_of_go);
    // Who loads it does that.
    encoder.validate(false).encode()
}

/// What a module shows of itself.
#[derive(Default)]
struct Found {
    /// The interfaces whose functions it exports, e.g. `mixlab:plugin/events@0.2.0`.
    interfaces: BTreeSet<String>,
    /// Whether it brings its world along.
    has_world: bool,
    /// Whether Go's own compiler has made it.
    is_of_go: bool,
}

fn look(module: &[u8]) -> Result<Found> {
    let mut found = Found::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ExportSection(exports) => {
                for export in exports {
                    let interface = export?.name.split_once('#').map(|(interface, _)| interface);
                    // Functions that the host calls after others have a name of their own.
                    let interface = interface.filter(|interface| !interface.starts_with("cabi_"));
                    found.interfaces.extend(interface.map(str::to_owned));
                }
            }
            Payload::CustomSection(section) => {
                found.has_world |= section.name().starts_with(WORLD_SECTION);
                found.is_of_go |= section.name() == GO_SECTION;
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The world of a module with these exports.
fn world(resolve: &mut Resolve, contract: &str, exports: &BTreeSet<String>) -> Result<WorldId> {
    let contract = resolve.push_str("contract.wit", contract)?;
    let name = resolve.packages[contract].name.clone();
    for interface in REQUIRED {
        let id = name.interface_id(interface);
        ensure!(exports.contains(&id), "it does not export {id}, so it is no plugin");
    }
    let plugin = name.interface_id("plugin");
    let mut text = format!("package mixlab:built;\nworld built {{\ninclude {plugin};\n");
    for interface in exports {
        if !REQUIRED.iter().any(|required| name.interface_id(required) == *interface) {
            text += &format!("export {interface};\n");
        }
    }
    text += "}\n";
    let built = resolve.push_str("built.wit", &text)?;
    resolve
        .select_world(&[built], Some("built"))
        .context("its world")
}
