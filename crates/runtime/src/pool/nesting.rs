//! A lower bound on the slots that an instance of a component takes, counted from the component's sections without
//! resolving the component.
//!
//! Components can be nested so that a few hundred bytes contain millions of instances, and resolving them (see
//! `footprint`) takes time and memory for each instance. This module reads the bytes once, so components above
//! [`Slots::MAX`] can be refused before they are resolved. The bound does not include a module or component that is
//! instantiated by way of an import, an argument, or an export of an instance.

use wasmtime_environ::wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Parser, Payload,
};

use super::slots::Slots;

/// Returns the minimum numbers of memories, tables and stacks that an instance of `component` takes.
///
/// # Errors
/// If the bytes are not a component.
pub(crate) fn at_least(component: &[u8]) -> Result<Slots, BinaryReaderError> {
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
    slots.add(Slots { memories: 0, tables: 0, stacks: 2 });
    Ok(slots)
}

/// What has been counted so far in a module or component that is being parsed. Each nested module or component has its
/// own scope.
#[derive(Default)]
struct Scope {
    /// The slots that an instance of this module or component takes.
    slots: Slots,
    /// The slots that an instance of each inner module takes, by the module's index. `components` holds the slots of
    /// inner components.
    modules: Vec<Slots>,
    components: Vec<Slots>,
    is_component: bool,
}

fn read(payload: Payload<'_>, scopes: &mut [Scope]) -> Result<(), BinaryReaderError> {
    let depth = scopes.len() - 1;
    let (outer, scope) = scopes.split_at_mut(depth);
    let Some(scope) = scope.first_mut() else { return Ok(()) };
    match payload {
        Payload::MemorySection(section) => {
            scope.slots.add(Slots { memories: section.count(), ..Slots::default() });
        }
        Payload::TableSection(section) => {
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
            // An export also defines an alias of the exported item: the alias gets the next index of its kind, which
            // later sections can refer to.
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
    fn nested_components_count_as_often_as_they_are_instantiated() {
        let mut text = "(component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))".to_owned();
        for depth in 1..40 {
            let inner = depth - 1;
            let twice = format!("(instance (instantiate $c{inner}))").repeat(2);
            text = format!("(component $c{depth} {text} {twice})");
        }
        let slots = at_least(&wat::parse_str(text).unwrap()).unwrap();
        assert_eq!(slots, Slots { memories: u32::MAX, tables: 0, stacks: u32::MAX });
    }
}
