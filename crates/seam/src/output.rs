//! Writes a component, item by item, and counts the indices of its items.

use wasm_encoder::{
    Component, ComponentAliasSection, ComponentDefinedTypeEncoder, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentNameSection, ComponentSectionId, ComponentTypeRef,
    ComponentTypeSection, InstanceType, NameMap, RawSection,
};

/// A component that is being written.
#[derive(Default)]
pub(crate) struct Output {
    component: Component,
    /// The types that have not been written yet. They are collected so that many types are written as one section.
    types: ComponentTypeSection,
    type_count: u32,
    instance_count: u32,
    function_count: u32,
    component_count: u32,
    instance_names: NameMap,
    component_names: NameMap,
}

impl Output {
    /// Returns the index of a new type and the encoder that defines it.
    pub(crate) fn defined_type(&mut self) -> (u32, ComponentDefinedTypeEncoder<'_>) {
        (next(&mut self.type_count), self.types.defined_type())
    }

    /// Defines the type of an instance and returns its index.
    pub(crate) fn instance_type(&mut self, ty: &InstanceType) -> u32 {
        self.types.instance(ty);
        next(&mut self.type_count)
    }

    /// Imports an instance and returns its index.
    pub(crate) fn import(&mut self, name: &str, ty: u32) -> u32 {
        self.write_types();
        let mut section = ComponentImportSection::new();
        section.import(name, ComponentTypeRef::Instance(ty));
        self.component.section(&section);
        self.named_instance(name)
    }

    /// Aliases a type that an instance exports. Returns the index of the type.
    pub(crate) fn exported_type(&mut self, instance: u32, name: &str) -> u32 {
        self.alias(instance, name, ComponentExportKind::Type);
        next(&mut self.type_count)
    }

    /// Aliases an instance that another instance exports. Returns the index of the aliased instance.
    pub(crate) fn exported_instance(&mut self, instance: u32, name: &str) -> u32 {
        self.alias(instance, name, ComponentExportKind::Instance);
        self.named_instance(name)
    }

    /// Aliases a function that an instance exports. Returns the index of the function.
    pub(crate) fn exported_function(&mut self, instance: u32, name: &str) -> u32 {
        self.alias(instance, name, ComponentExportKind::Func);
        next(&mut self.function_count)
    }

    /// Nests a component and returns the index of the nested component.
    pub(crate) fn nest(&mut self, name: &str, bytes: &[u8]) -> u32 {
        self.write_types();
        self.component.section(&RawSection { id: ComponentSectionId::Component.into(), data: bytes });
        self.component_names.append(self.component_count, name);
        next(&mut self.component_count)
    }

    /// Instantiates a nested component and returns the index of the instance.
    pub(crate) fn instantiate<S: AsRef<str>>(&mut self, name: &str, component: u32, arguments: &[(S, Item)]) -> u32 {
        self.write_types();
        let mut section = ComponentInstanceSection::new();
        let arguments: Vec<_> =
            arguments.iter().map(|(name, item)| (name.as_ref(), item.kind(), item.index())).collect();
        section.instantiate(component, arguments);
        self.component.section(&section);
        self.named_instance(name)
    }

    /// Creates an instance that exports `items`, and returns its index.
    pub(crate) fn instance_of(&mut self, name: &str, items: &[(String, Item)]) -> u32 {
        self.write_types();
        let mut section = ComponentInstanceSection::new();
        let exports: Vec<_> = items.iter().map(|(name, item)| (name.as_str(), item.kind(), item.index())).collect();
        section.export_items(exports);
        self.component.section(&section);
        self.named_instance(name)
    }

    /// Exports an instance under `name`.
    pub(crate) fn export(&mut self, name: &str, instance: u32) {
        self.write_types();
        let mut section = ComponentExportSection::new();
        section.export(name, ComponentExportKind::Instance, instance, None);
        self.component.section(&section);
        self.named_instance(name);
    }

    /// Returns the bytes of the component.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.write_types();
        let mut names = ComponentNameSection::new();
        names.components(&self.component_names);
        names.instances(&self.instance_names);
        self.component.section(&names);
        self.component.finish()
    }

    fn alias(&mut self, instance: u32, name: &str, kind: ComponentExportKind) {
        self.write_types();
        let mut section = ComponentAliasSection::new();
        section.alias(wasm_encoder::Alias::InstanceExport { instance, kind, name });
        self.component.section(&section);
    }

    fn named_instance(&mut self, name: &str) -> u32 {
        self.instance_names.append(self.instance_count, name);
        next(&mut self.instance_count)
    }

    /// Writes the collected types. Must be called before an item is written that refers to one of them by its index.
    fn write_types(&mut self) {
        if !self.types.is_empty() {
            self.component.section(&std::mem::take(&mut self.types));
        }
    }
}

/// An item of a component: its kind and its index.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    Instance(u32),
    Function(u32),
    Type(u32),
}

impl Item {
    fn kind(self) -> ComponentExportKind {
        match self {
            Item::Instance(_) => ComponentExportKind::Instance,
            Item::Function(_) => ComponentExportKind::Func,
            Item::Type(_) => ComponentExportKind::Type,
        }
    }

    fn index(self) -> u32 {
        let (Item::Instance(index) | Item::Function(index) | Item::Type(index)) = self;
        index
    }
}

/// Increments a counter and returns its previous value.
fn next(count: &mut u32) -> u32 {
    let index = *count;
    *count += 1;
    index
}
