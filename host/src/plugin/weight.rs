//! What an instance takes beside its memories and tables, counted before there is one.
//!
//! A component says how often each of its modules is instantiated, and every time the host keeps a
//! record of the module's globals, functions and imports. A few megabytes of file can ask for gigabytes
//! of that, which no limit of the runtime counts.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Instance, Parser, Payload,
};

use crate::capability::MAX_CORE_INSTANCES;

/// How many instances of components one component may have inside. Those that tools make have a few
/// dozen.
const MAX_COMPONENTS: u64 = 1024;

/// Bytes of the host for each of these, rounded up: the structs of the runtime.
const INSTANCE_BYTES: u64 = 1024;
const IMPORT_BYTES: u64 = 32;
const FUNCTION_BYTES: u64 = 32;
const GLOBAL_BYTES: u64 = 16;
const OTHER_BYTES: u64 = 64;

/// What comes of instantiating something once. Counts that overflow stay at their maximum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    core_instances: u64,
    components: u64,
    bytes: u64,
    /// Instances of modules that are passed around as values: any module of the file.
    of_any_module: u64,
}

/// What a component takes that is not to be counted, or too much.
#[derive(Debug, thiserror::Error)]
#[error("it has more than {allowed} {what} inside")]
pub(crate) struct TooMany {
    what: &'static str,
    allowed: u64,
}

/// A component that is being read.
#[derive(Default)]
struct Scope {
    /// Its modules by their indices; none for those that are only known when it is instantiated.
    modules: Vec<Option<u64>>,
    /// What its components weigh, by their indices; none as above.
    components: Vec<Option<Weight>>,
    weight: Weight,
}

/// What is being read.
enum Reading {
    Component(Scope),
    /// Bytes of one instance.
    Module(u64),
}

impl Weight {
    /// Counts what a component asks for. What is no component is left to the compiler to refuse.
    pub(super) fn of(component: &[u8]) -> Result<Self, TooMany> {
        let weight = read(component).unwrap_or_default();
        if weight.core_instances > MAX_CORE_INSTANCES as u64 {
            return Err(TooMany {
                what: "instances of modules",
                allowed: MAX_CORE_INSTANCES as u64,
            });
        }
        if weight.components > MAX_COMPONENTS {
            return Err(TooMany {
                what: "instances of components",
                allowed: MAX_COMPONENTS,
            });
        }
        Ok(weight)
    }

    /// What one instance takes in the host, in bytes.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// One that is too much.
    fn endless() -> Self {
        Self {
            core_instances: u64::MAX,
            ..Self::default()
        }
    }

    fn add(&mut self, other: Self) {
        let Self {
            core_instances,
            components,
            bytes,
            of_any_module,
        } = other;
        self.core_instances = self.core_instances.saturating_add(core_instances);
        self.components = self.components.saturating_add(components);
        self.bytes = self.bytes.saturating_add(bytes);
        self.of_any_module = self.of_any_module.saturating_add(of_any_module);
    }
}

/// None if it cannot be read to its end.
fn read(component: &[u8]) -> Option<Weight> {
    let mut open: Vec<Reading> = Vec::new();
    let mut largest_module = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::Version { encoding, .. } => open.push(match encoding {
                Encoding::Component => Reading::Component(Scope::default()),
                Encoding::Module => Reading::Module(INSTANCE_BYTES),
            }),
            Payload::End(_) => match (open.pop()?, open.last_mut()) {
                (Reading::Component(scope), None) => {
                    let mut weight = scope.weight;
                    let any = weight.of_any_module.saturating_mul(largest_module);
                    weight.bytes = weight.bytes.saturating_add(any);
                    return Some(weight);
                }
                (Reading::Component(scope), Some(Reading::Component(outer))) => {
                    outer.components.push(Some(scope.weight));
                }
                (Reading::Module(bytes), Some(Reading::Component(outer))) => {
                    largest_module = largest_module.max(bytes);
                    outer.modules.push(Some(bytes));
                }
                _ => return None,
            },
            payload => match open.split_last_mut()? {
                (Reading::Module(bytes), _) => {
                    *bytes = bytes.saturating_add(of_section(&payload));
                }
                (Reading::Component(scope), outer) => read_section(payload, scope, outer)?,
            },
        }
    }
    None
}

/// What a section of a module adds to each of its instances, in bytes.
fn of_section(payload: &Payload<'_>) -> u64 {
    let (count, each) = match payload {
        Payload::ImportSection(imports) => (imports.count(), IMPORT_BYTES),
        Payload::FunctionSection(functions) => (functions.count(), FUNCTION_BYTES),
        Payload::GlobalSection(globals) => (globals.count(), GLOBAL_BYTES),
        Payload::TableSection(tables) => (tables.count(), OTHER_BYTES),
        Payload::MemorySection(memories) => (memories.count(), OTHER_BYTES),
        Payload::TagSection(tags) => (tags.count(), OTHER_BYTES),
        Payload::ElementSection(elements) => (elements.count(), OTHER_BYTES),
        Payload::DataSection(data) => (data.count(), OTHER_BYTES),
        _ => return 0,
    };
    u64::from(count) * each
}

/// A section of a component, which `outer` ones enclose.
fn read_section(payload: Payload<'_>, scope: &mut Scope, outer: &[Reading]) -> Option<()> {
    match payload {
        Payload::InstanceSection(instances) => {
            for instance in instances {
                if let Instance::Instantiate { module_index, .. } = instance.ok()? {
                    let module = scope.modules.get(module_index as usize)?;
                    scope.weight.add(Weight {
                        core_instances: 1,
                        bytes: module.unwrap_or(0),
                        of_any_module: module.is_none().into(),
                        ..Weight::default()
                    });
                }
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances {
                if let ComponentInstance::Instantiate {
                    component_index, ..
                } = instance.ok()?
                {
                    let component = *scope.components.get(component_index as usize)?;
                    scope.weight.add(component.unwrap_or(Weight::endless()));
                    scope.weight.components = scope.weight.components.saturating_add(1);
                }
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            for alias in aliases {
                read_alias(alias.ok()?, scope, outer)?;
            }
        }
        Payload::ComponentImportSection(imports) => {
            for import in imports {
                match import.ok()?.ty {
                    ComponentTypeRef::Module(_) => scope.modules.push(None),
                    ComponentTypeRef::Component(_) => scope.components.push(None),
                    _ => {}
                }
            }
        }
        // What is exported has another index from then on.
        Payload::ComponentExportSection(exports) => {
            for export in exports {
                let export = export.ok()?;
                let index = export.index as usize;
                match export.kind {
                    ComponentExternalKind::Module => {
                        scope.modules.push(*scope.modules.get(index)?);
                    }
                    ComponentExternalKind::Component => {
                        scope.components.push(*scope.components.get(index)?);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Some(())
}

fn read_alias(alias: ComponentAlias<'_>, scope: &mut Scope, outer: &[Reading]) -> Option<()> {
    match alias {
        ComponentAlias::InstanceExport { kind, .. } => match kind {
            ComponentExternalKind::Module => scope.modules.push(None),
            ComponentExternalKind::Component => scope.components.push(None),
            _ => {}
        },
        ComponentAlias::Outer { kind, count, index } => {
            let enclosing = match outer.len().checked_sub(count as usize) {
                // It names itself.
                Some(depth) if depth == outer.len() => &*scope,
                Some(depth) => match &outer[depth] {
                    Reading::Component(enclosing) => enclosing,
                    Reading::Module(_) => return None,
                },
                None => return None,
            };
            match kind {
                ComponentOuterAliasKind::CoreModule => {
                    let module = *enclosing.modules.get(index as usize)?;
                    scope.modules.push(module);
                }
                ComponentOuterAliasKind::Component => {
                    let component = *enclosing.components.get(index as usize)?;
                    scope.components.push(component);
                }
                _ => {}
            }
        }
        ComponentAlias::CoreInstanceExport { .. } => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        let size = u8::try_from(body.len()).expect("a size of one byte, below 128");
        [&[id, size], body].concat()
    }

    /// A component with a module and two instances of it.
    fn twice(module: &[u8]) -> Vec<u8> {
        let instances = section(2, &[2, 0, 0, 0, 0, 0, 0]);
        [COMPONENT, &section(1, module), &instances].concat()
    }

    #[test]
    fn each_instance_counts_with_all_that_is_kept_of_it() {
        let globals = section(6, &[1, 0x7f, 0, 0x41, 0, 0x0b]);
        let module = [MODULE, &globals].concat();
        let weight = Weight::of(&twice(&module)).unwrap();
        assert_eq!(weight.core_instances, 2);
        assert_eq!(weight.bytes, 2 * (INSTANCE_BYTES + GLOBAL_BYTES));
    }

    #[test]
    fn components_inside_count_as_often_as_they_are_instantiated() {
        let mut component = twice(MODULE);
        for doublings in 1..=3 {
            let instances = section(5, &[2, 0, 0, 0, 0, 0, 0]);
            component = [COMPONENT, &section(4, &component), &instances].concat();
            let weight = Weight::of(&component).unwrap();
            assert_eq!(weight.core_instances, 2 << doublings);
            assert_eq!(weight.components, (2 << doublings) - 2);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_looks_like_a_component_is_trouble(
            sections in proptest::collection::vec(
                (0..12u8, proptest::collection::vec(0..8u8, 0..20)),
                0..8,
            ),
        ) {
            let sections = sections.iter().map(|(id, body)| section(*id, body));
            let component = [COMPONENT.to_vec(), sections.collect::<Vec<_>>().concat()].concat();
            let _ = Weight::of(&component);
        }
    }
}
