//! How many slots of the pool one instance of a component takes, read from its bytes.
//!
//! What counts is what is instantiated, not what is defined: a composition nests equal components once and makes several instances of
//! them.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Parser, Payload,
};

use crate::engine::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX};

/// Why no instance of a component can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotsError {
    /// The bytes are not a component.
    #[error("it is not a component")]
    Invalid(#[from] BinaryReaderError),
    /// One instance would be a good part of a pool.
    #[error(
        "an instance takes {} memories, {} tables and stacks for {} components; at most {}, {} and {} are allowed",
        slots.memories, slots.tables, slots.stacks, Slots::MAX.memories, Slots::MAX.tables, Slots::MAX.stacks
    )]
    TooMany {
        /// What it takes.
        slots: Slots,
    },
    /// A table is larger than a slot.
    #[error("it begins with a table of {elements} elements; at most {TABLE_ELEMENTS_MAX} are allowed")]
    Table {
        /// The table's elements.
        elements: u64,
    },
    /// A memory is larger than a slot.
    #[error("it begins with a memory of {bytes} bytes; at most {MEMORY_BYTES_MAX} are allowed")]
    Memory {
        /// The memory's bytes.
        bytes: u64,
    },
}

/// The slots that one instance of a component takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// Stacks: one for each component in it, as each can wait for something, and one more.
    pub stacks: u32,
}

/// A module or component that is being read.
#[derive(Default)]
struct Scope {
    /// What an instance of it takes.
    slots: Slots,
    /// What instances take of the modules and components that it has, by index.
    modules: Vec<Slots>,
    components: Vec<Slots>,
    is_component: bool,
}

impl Slots {
    /// The most that an instance may take. What takes more is refused when it is linked: one such instance would be a good part of
    /// a pool.
    pub const MAX: Self = Self { memories: 256, tables: 512, stacks: 256 };

    /// Is it no more than that?
    #[must_use]
    pub fn fits(self) -> bool {
        self.memories <= Self::MAX.memories && self.tables <= Self::MAX.tables && self.stacks <= Self::MAX.stacks
    }

    /// Counts the memories and tables of the core modules that an instance of `component` instantiates. Modules that are imported are
    /// not known, and count as nothing.
    ///
    /// # Errors
    /// When the bytes are not a component, or one of which the engine can make no instance.
    pub fn count(component: &[u8]) -> Result<Self, SlotsError> {
        let mut scopes = vec![Scope { is_component: true, ..Scope::default() }];
        for payload in Parser::new(0).parse_all(component) {
            match payload? {
                Payload::ModuleSection { .. } => scopes.push(Scope::default()),
                Payload::ComponentSection { .. } => scopes.push(Scope { is_component: true, ..Scope::default() }),
                Payload::End(_) if scopes.len() > 1 => {
                    let ended = scopes.pop().unwrap_or_default();
                    if let Some(parent) = scopes.last_mut() {
                        let known = if ended.is_component { &mut parent.components } else { &mut parent.modules };
                        known.push(ended.slots);
                    }
                }
                payload => read(payload, &mut scopes)?,
            }
        }
        let mut slots = scopes.first().map(|scope| scope.slots).unwrap_or_default();
        slots.add(Self { memories: 0, tables: 0, stacks: 2 });
        if slots.fits() { Ok(slots) } else { Err(SlotsError::TooMany { slots }) }
    }

    fn add(&mut self, other: Self) {
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.stacks = self.stacks.saturating_add(other.stacks);
    }
}

fn read(payload: Payload<'_>, scopes: &mut [Scope]) -> Result<(), SlotsError> {
    let depth = scopes.len() - 1;
    let (outer, scope) = scopes.split_at_mut(depth);
    let Some(scope) = scope.first_mut() else { return Ok(()) };
    match payload {
        Payload::MemorySection(section) => {
            for memory in section.clone() {
                let memory = memory?;
                let bytes = memory.initial.saturating_mul(1 << memory.page_size_log2.unwrap_or(16).min(16));
                if bytes > MEMORY_BYTES_MAX {
                    return Err(SlotsError::Memory { bytes });
                }
            }
            scope.slots.add(Slots { memories: section.count(), ..Slots::default() });
        }
        Payload::TableSection(section) => {
            for table in section.clone() {
                let elements = table?.ty.initial;
                if elements > TABLE_ELEMENTS_MAX as u64 {
                    return Err(SlotsError::Table { elements });
                }
            }
            scope.slots.add(Slots { tables: section.count(), ..Slots::default() });
        }
        Payload::InstanceSection(section) => {
            for instance in section {
                if let Instance::Instantiate { module_index, .. } = instance? {
                    scope.slots.add(at(&scope.modules, module_index));
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section {
                if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                    scope.slots.add(at(&scope.components, component_index));
                    scope.slots.add(Slots { stacks: 1, ..Slots::default() });
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section {
                match import?.ty {
                    ComponentTypeRef::Module(_) => scope.modules.push(Slots::default()),
                    ComponentTypeRef::Component(_) => scope.components.push(Slots::default()),
                    _ => {}
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section {
                match alias? {
                    ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                        scope.modules.push(Slots::default());
                    }
                    ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                        scope.components.push(Slots::default());
                    }
                    ComponentAlias::Outer { kind, count, index } => {
                        let from = (depth as u32).checked_sub(count).and_then(|level| outer.get(level as usize));
                        match (kind, from) {
                            (ComponentOuterAliasKind::CoreModule, from) => {
                                let modules = from.map_or(&[][..], |from| &from.modules);
                                let slots = at(modules, index);
                                scope.modules.push(slots);
                            }
                            (ComponentOuterAliasKind::Component, from) => {
                                let components = from.map_or(&[][..], |from| &from.components);
                                let slots = at(components, index);
                                scope.components.push(slots);
                            }
                            _ => {}
                        }
                    }
                    _ => {}
                }
            }
        }
        Payload::ComponentExportSection(section) => {
            // An export is an item of its own, with the next index.
            for export in section {
                let export = export?;
                match export.kind {
                    ComponentExternalKind::Module => scope.modules.push(at(&scope.modules, export.index)),
                    ComponentExternalKind::Component => scope.components.push(at(&scope.components, export.index)),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn at(known: &[Slots], index: u32) -> Slots {
    usize::try_from(index).ok().and_then(|index| known.get(index)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_instantiated_counts_as_often_as_it_is() {
        let component = wat::parse_str(
            r#"
            (component
                (core module $unused (memory 1) (memory 1))
                (component $part
                    (core module $m (memory 1) (table 1 funcref))
                    (core instance (instantiate $m))
                    (core instance (instantiate $m)))
                (component $whole
                    (alias outer 1 $part (component $again))
                    (core module $n (memory 1))
                    (instance (instantiate $again))
                    (core instance (instantiate $n)))
                (instance (instantiate $part))
                (instance (instantiate $whole))
                (instance (instantiate $whole)))
            "#,
        )
        .unwrap();
        assert_eq!(Slots::count(&component).unwrap(), Slots { memories: 8, tables: 6, stacks: 7 });
    }

    #[test]
    fn what_no_slot_can_hold_is_refused() {
        let count =
            |module: &str| Slots::count(&wat::parse_str(format!("(component (core module {module}))")).unwrap());
        assert!(matches!(count("(table 100001 funcref)"), Err(SlotsError::Table { elements: 100_001 })));
        assert!(matches!(count("(memory i64 65537)"), Err(SlotsError::Memory { bytes: 0x1_0001_0000 })));
        assert!(count("(table 100000 funcref) (memory 65536)").is_ok());
        let many = "(core instance (instantiate $m))".repeat(300);
        let many = wat::parse_str(format!("(component (core module $m (memory 1)) {many})")).unwrap();
        let refused = Slots::count(&many).expect_err("too many memories").to_string();
        assert!(refused.starts_with("an instance takes 300 memories"), "{refused}");
        assert!(matches!(Slots::count(b"no component"), Err(SlotsError::Invalid(_))));
    }
}
