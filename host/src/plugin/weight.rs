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
pub struct Weight {
    core_instances: u64,
    components: u64,
    bytes: u64,
    /// Instances of modules that are passed around as values: any module of the file.
    of_any_module: u64,
}

/// What a component takes that is not to be counted, or too much.
#[derive(Debug, thiserror::Error)]
#[error("it has more than {allowed} {what} inside")]
pub struct TooMany {
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
    pub fn of(component: &[u8]) -> Result<Self, TooMany> {
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
    pub fn bytes(&self) -> usize {
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
