//! The component around a generated core module. Stubs and skeletons share this code.
//!
//! A stub or skeleton imports `types`, an instance that contains only the types of its functions (`t0`, `t1`, …),
//! because the component format requires a name for every type that an export mentions. It exports and imports
//! functions one by one (`f0`, `f1`, …, by their numbers in the plan). The composition combines these functions into
//! instances of the interfaces.

use std::collections::HashMap;

use isomer_wire::image::{BASE, IMAGE_BYTES_MAX};
use wasm_encoder::{
    Alias, CanonicalOption, ComponentBuilder, ComponentExportKind, ComponentTypeRef, ComponentValType, ExportKind,
    Module, ModuleArg, ValType,
};

use super::arena;
use super::module::CoreModule;
use super::types::{TypeId, Types};
use crate::encoding;
use crate::world::{Interface, ValueType};

/// The name under which a stub or skeleton imports its types.
pub(crate) const TYPES: &str = "types";

/// All addresses in the memory are positive as signed integers.
const _: () = assert!(BASE as u64 + (IMAGE_BYTES_MAX as u64) < 1 << 31, "addresses are positive");

/// A generated stub or skeleton.
#[derive(Debug, Clone)]
pub(crate) struct GeneratedPart {
    pub(crate) bytes: Vec<u8>,
    /// The types that the composition must provide as [`TYPES`]; `None` if no function uses a named type.
    pub(crate) types: Option<Interface>,
}

/// The indices of types in the component, by their names in [`TYPES`].
pub(crate) type PartTypes = HashMap<String, u32>;

/// A stub or skeleton that is being written.
pub(crate) struct PartBuilder {
    pub(crate) builder: ComponentBuilder,
    pub(crate) types: PartTypes,
    interface: Option<Interface>,
    arena: u32,
    memory: u32,
    realloc: u32,
    /// The names and indices of the core functions that the core module imports.
    hosts: Vec<(String, u32)>,
}

/// The indices, in the core module, of the items that it imports from the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arena {
    pub(crate) top: u32,
    pub(crate) high: u32,
    /// The function `clear` (see [`arena`]).
    pub(crate) clear: u32,
}

/// The module name under which the core module imports from the arena.
pub(crate) const ARENA: &str = "arena";
/// The module name under which the core module imports functions from outside of the component.
pub(crate) const HOST: &str = "host";

/// Makes a core module import the memory in which images are encoded (the arena), and the globals and the function of
/// the memory's allocator.
pub(crate) fn import_arena(module: &mut CoreModule) -> Arena {
    module.import_memory((ARENA, "memory"), arena::memory());
    Arena {
        top: module.import_global((ARENA, "top")),
        high: module.import_global((ARENA, "high")),
        clear: module.import_function((ARENA, "clear"), &[ValType::I32], &[]),
    }
}

impl PartBuilder {
    /// Returns a component with the types and the arena. After each `clear`, allocation starts at the address `start`.
    pub(crate) fn new(name: &str, types: &Types, start: u32) -> Self {
        let mut builder = ComponentBuilder::default();
        let interface = types.interface(TYPES);
        let interface = (!interface.types.is_empty()).then_some(interface);
        let mut indices = PartTypes::new();
        if let Some(interface) = &interface {
            let ty = encoding::instance_type(interface, |_| unreachable!("the types are defined in place"));
            let ty = builder.type_instance(None, &ty);
            let instance = builder.import(TYPES, ComponentTypeRef::Instance(ty));
            for (name, _) in &interface.types {
                indices.insert(name.clone(), builder.alias_export(instance, name, ComponentExportKind::Type));
            }
        }
        let arena_name = format!("{name}: memory");
        let arena = builder.core_module(Some(&arena_name), &arena::module(&arena_name, start));
        let arena = builder.core_instantiate(Some(ARENA), arena, []);
        let memory = builder.core_alias_export(Some("memory"), arena, "memory", ExportKind::Memory);
        let realloc = builder.core_alias_export(Some("realloc"), arena, "realloc", ExportKind::Func);
        PartBuilder { builder, types: indices, interface, arena, memory, realloc, hosts: vec![] }
    }

    /// Returns the canonical options to lower or lift a function for which the engine both reads values from the memory
    /// and writes values to it.
    pub(crate) fn options(&self) -> Vec<CanonicalOption> {
        vec![CanonicalOption::UTF8, CanonicalOption::Memory(self.memory), CanonicalOption::Realloc(self.realloc)]
    }

    /// Returns the canonical options to lower or lift a function for which the engine only reads values from the
    /// memory.
    pub(crate) fn reading_options(&self) -> Vec<CanonicalOption> {
        vec![CanonicalOption::UTF8, CanonicalOption::Memory(self.memory)]
    }

    /// Makes the core function `index` available to the core module as an import with this name.
    pub(crate) fn host(&mut self, name: &str, index: u32) {
        self.hosts.push((name.to_owned(), index));
    }

    /// Instantiates the core module with all its imports, and returns the index of the core instance.
    pub(crate) fn instantiate(&mut self, name: &str, module: &Module) -> u32 {
        let module = self.builder.core_module(Some(name), module);
        let hosts: Vec<_> = self.hosts.iter().map(|(name, index)| (name.as_str(), ExportKind::Func, *index)).collect();
        let hosts = self.builder.core_instantiate_exports(Some(HOST), hosts);
        let arguments = [(ARENA, ModuleArg::Instance(self.arena)), (HOST, ModuleArg::Instance(hosts))];
        self.builder.core_instantiate(Some(name), module, arguments)
    }

    /// Returns the index of a core function that the core instance exports.
    pub(crate) fn core_function(&mut self, instance: u32, name: &str) -> u32 {
        self.builder.alias(Some(name), Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name })
    }

    pub(crate) fn finish(mut self) -> GeneratedPart {
        self.builder.append_names();
        GeneratedPart { bytes: self.builder.finish(), types: self.interface }
    }
}

/// Returns the component's reference to the type `id`.
pub(crate) fn value_type(types: &Types, indices: &PartTypes, id: TypeId) -> ComponentValType {
    match types.reference(id) {
        ValueType::Primitive(primitive) => ComponentValType::Primitive(encoding::primitive(*primitive)),
        ValueType::Named(name) => ComponentValType::Type(indices[name]),
        other => unreachable!("types are referred to by name, not as {other:?}"),
    }
}

/// Returns the name under which the function with this number is imported or exported.
pub(crate) fn function_name(number: usize) -> String {
    format!("f{number}")
}
