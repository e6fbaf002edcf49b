//! The footprint of an instance of a component: the resources that it takes from the engine's pool and from the host's
//! heap.
//!
//! The numbers come from wasmtime's compiler, which resolves a component statically: it follows every module and nested
//! component through imports, arguments, aliases and exports until it has a flat list of core modules to instantiate.
//! This module reads that list, so the count includes everything that will be allocated from the pool. Counting from
//! the component's sections was rejected, because that count misses core modules that a component receives as an
//! argument or takes from an export of an instance.
//!
//! Imported core modules and components cannot be resolved statically, because the host would have to provide them. A
//! component that imports one is refused.
//!
//! # Stacks
//! wasmtime runs guest code on stacks ("fibers") and keeps one for each call that is suspended in the middle of a
//! function. A call that enters a component instance from outside, on its own stack, locks that instance until the
//! instance's code returns (`do_not_enter` in wasmtime's `concurrent.rs`); other calls wait without a stack. This holds
//! for synchronous exports and for asynchronous exports with a callback. Asynchronous exports without a callback
//! (`cm_async_stackful`) and threads (`cm_threading`) are not enabled. So at most one stack is suspended for each
//! component instance. In addition, wasmtime holds one stack that is not suspended: it lowers results on this stack, or
//! keeps the stack for the next call.

use isomer_display::size;
use wasmtime_environ::component::{
    ComponentTypesBuilder, GlobalInitializer, InstantiateModule, Translator, TypeDef, VMComponentOffsets,
};
use wasmtime_environ::wasmparser::{Validator, WasmFeatures};
use wasmtime_environ::{HostPtr, Module, ScopeVec, Tunables, VMOffsets};

use super::bounds::{
    COMPONENT_HANDLES_MAX, CORE_INSTANCE_BYTES_MAX, CORE_INSTANCES_MAX, INSTANCE_BYTES_MAX, MEMORY_BYTES_MAX,
    TABLE_ELEMENTS_MAX,
};
use super::nesting;
use super::slots::Slots;

/// The reasons why no instance of a component can be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotsError {
    /// The bytes are not a component that the engine can compile.
    #[error("the bytes are not a component")]
    Invalid(#[source] wasmtime::Error),
    /// The component imports a core module.
    #[error("the component imports a core module{}: build the module into the component", in_import(import))]
    ImportsModule {
        /// The name of the import if the module itself is imported; `None` if an imported instance contains the module.
        import: Option<String>,
    },
    /// One instance would take too many of the pool's slots.
    #[error(
        "an instance takes {} memories, {} tables and stacks for {} components; at most {}, {} and {} are allowed",
        slots.memories, slots.tables, slots.stacks, Slots::MAX.memories, Slots::MAX.tables, Slots::MAX.stacks
    )]
    TooMany {
        /// The slots that the instance would take.
        slots: Slots,
    },
    /// An instance of the component has too many core instances.
    #[error("an instance of the component has {core_instances} core modules; at most {CORE_INSTANCES_MAX} are allowed")]
    TooManyModules {
        /// The number of core instances.
        core_instances: u32,
    },
    /// The engine's own data about an instance, or about one of its core instances, is too large.
    #[error(
        "functions, globals and imports of {} take {}; at most {} are allowed",
        if *bytes_max == INSTANCE_BYTES_MAX { "an instance" } else { "a core module" },
        size(.bytes),
        size(.bytes_max)
    )]
    State {
        /// The size of the data, in bytes.
        bytes: usize,
        /// The maximum size of the data, in bytes.
        bytes_max: usize,
    },
    /// A table has more elements than a slot of the pool has room for.
    #[error("a table of the component has {elements} elements at the start; at most {TABLE_ELEMENTS_MAX} are allowed")]
    Table {
        /// The initial number of elements in the table.
        elements: u64,
    },
    /// A memory is larger than a slot of the pool.
    #[error(
        "a memory of the component has {} at the start; at most {} are allowed",
        size(.bytes),
        size(MEMORY_BYTES_MAX)
    )]
    Memory {
        /// The initial size of the memory, in bytes.
        bytes: u64,
    },
}

fn in_import(import: &Option<String>) -> String {
    import.as_ref().map(|name| format!(" as `{name}`")).unwrap_or_default()
}

/// The maximum size in bytes of the handle tables in an instance whose components define resources. A table doubles in
/// size when it is full, so it can be twice as large as its handles. No host function creates these handles, so the
/// tables are charged in advance. (Handles of the host's resources, tasks and streams are charged as they are created.)
const RESOURCE_TABLES_BYTES: usize = 2 * COMPONENT_HANDLES_MAX * HANDLE_SLOT_BYTES;

/// The size in bytes of one handle in wasmtime's table, as measured by `tests/handles.rs`.
const HANDLE_SLOT_BYTES: usize = 24;

/// The resources that an instance of a component takes from the engine's pool and from the host's heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The slots of the pool that the instance takes.
    pub slots: Slots,
    /// The number of core instances, including adapters between components.
    pub core_instances: u32,
    /// The number of bytes that the engine allocates on the host's heap for each instance: function references,
    /// globals, imports, bookkeeping, and handles of the components' own resources. Memories, tables and stacks are not
    /// included.
    pub state_bytes: usize,
}

impl Slots {
    /// Returns the slots that an instance of `component` takes: the slots in the result of [`Footprint::measure`].
    ///
    /// # Errors
    /// The errors of [`Footprint::measure`].
    pub fn count(component: &[u8]) -> Result<Self, SlotsError> {
        Footprint::measure(component).map(|footprint| footprint.slots)
    }
}

impl Footprint {
    /// Returns the footprint of an instance of `component`. Function bodies are ignored, so a component with a
    /// footprint can still fail to compile.
    ///
    /// The time and memory that this function takes grow with the number of instances inside the component, as they do
    /// for compiling the component. Most components with far too many instances are refused before they are measured
    /// (see `nesting`), but not all of them. So the caller must limit the time and memory, as for compiling.
    ///
    /// # Errors
    /// If the bytes are not a component, or if the engine cannot instantiate the component.
    pub fn measure(component: &[u8]) -> Result<Self, SlotsError> {
        // If the bytes cannot be parsed, the translator below also fails and reports the reason.
        if let Ok(slots) = nesting::at_least(component)
            && !slots.fits()
        {
            return Err(SlotsError::TooMany { slots });
        }
        let tunables = Tunables::default_host();
        let mut validator = Validator::new_with_features(features());
        let mut types = ComponentTypesBuilder::new(&validator);
        let scope = ScopeVec::new();
        let translator = Translator::new(&tunables, &mut validator, &mut types, &scope);
        let (translation, modules) = translator.translate(component).map_err(SlotsError::Invalid)?;
        let component = translation.component;
        for (_, (name, import)) in &component.import_types {
            if matches!(import.ty, TypeDef::Module(_)) {
                return Err(SlotsError::ImportsModule { import: Some(name.clone()) });
            }
        }
        let mut measured = Self {
            slots: Slots { stacks: component.num_runtime_component_instances.saturating_add(1), ..Slots::default() },
            core_instances: 0,
            state_bytes: VMComponentOffsets::new(HostPtr, &component).size_of_vmctx() as usize,
        };
        for initializer in &component.initializers {
            match initializer {
                GlobalInitializer::InstantiateModule(InstantiateModule::Static(module, _), _) => {
                    measured.add(&modules[*module].module)?;
                }
                GlobalInitializer::InstantiateModule(InstantiateModule::Import(..), _) => {
                    return Err(SlotsError::ImportsModule { import: None });
                }
                _ => {}
            }
        }
        let mut measured = measured.check()?;
        if !component.defined_resource_instances.is_empty() {
            measured.state_bytes += RESOURCE_TABLES_BYTES;
        }
        Ok(measured)
    }

    fn add(&mut self, module: &Module) -> Result<(), SlotsError> {
        for memory in module.memories.values().skip(module.num_imported_memories) {
            let bytes = memory.minimum_byte_size().unwrap_or(u64::MAX);
            if bytes > MEMORY_BYTES_MAX {
                return Err(SlotsError::Memory { bytes });
            }
        }
        for table in module.tables.values().skip(module.num_imported_tables) {
            let elements = table.limits.min;
            if elements > TABLE_ELEMENTS_MAX as u64 {
                return Err(SlotsError::Table { elements });
            }
        }
        let bytes = (VMOffsets::new(HostPtr, module).size_of_vmctx() as usize).saturating_add(CORE_INSTANCE_BYTES);
        if bytes > CORE_INSTANCE_BYTES_MAX {
            return Err(SlotsError::State { bytes, bytes_max: CORE_INSTANCE_BYTES_MAX });
        }
        let count = |defined: usize| u32::try_from(defined).unwrap_or(u32::MAX);
        self.slots.memories = self.slots.memories.saturating_add(count(module.num_defined_memories()));
        self.slots.tables = self.slots.tables.saturating_add(count(module.num_defined_tables()));
        self.core_instances = self.core_instances.saturating_add(1);
        self.state_bytes = self.state_bytes.saturating_add(bytes);
        Ok(())
    }

    fn check(self) -> Result<Self, SlotsError> {
        let Self { slots, core_instances, state_bytes } = self;
        if !slots.fits() {
            return Err(SlotsError::TooMany { slots });
        }
        if core_instances > CORE_INSTANCES_MAX {
            return Err(SlotsError::TooManyModules { core_instances });
        }
        if state_bytes > INSTANCE_BYTES_MAX {
            return Err(SlotsError::State { bytes: state_bytes, bytes_max: INSTANCE_BYTES_MAX });
        }
        Ok(self)
    }
}

/// The minimum number of bytes that wasmtime allocates for a core instance before its `vmctx` (`size_of::<Instance>()`,
/// which is private).
const CORE_INSTANCE_BYTES: usize = 512;

/// Returns the WebAssembly proposals that the engine's settings enable, for parsing a component. When the component is
/// compiled, it is checked against the settings themselves.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3;
    // These proposals need parts of wasmtime that are not built in.
    features.remove(WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS);
    features | WasmFeatures::COMPONENT_MODEL | WasmFeatures::CM_ASYNC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Result<Slots, SlotsError> {
        Slots::count(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn modules_count_as_often_as_they_are_instantiated() {
        let slots = count(
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
        );
        assert_eq!(slots.unwrap(), Slots { memories: 8, tables: 6, stacks: 7 });
    }

    #[test]
    fn modules_and_components_passed_as_arguments_count_where_they_are_instantiated() {
        // `$uses` instantiates a module, and `$twice` a component, that it gets as an argument. The outer component
        // also instantiates a module that one of its instances exports.
        let slots = count(
            r#"
            (component
                (core module $m (memory 1) (memory 1) (table 1 funcref))
                (component $uses
                    (import "m" (core module $m))
                    (core instance (instantiate $m))
                    (core instance (instantiate $m)))
                (component $provides
                    (alias outer 1 $m (core module $m))
                    (export "m" (core module $m)))
                (component $twice
                    (import "c" (component $c))
                    (instance (instantiate $c))
                    (instance (instantiate $c)))
                (component $one
                    (core module $n (memory 1))
                    (core instance (instantiate $n)))
                (instance (instantiate $uses (with "m" (core module $m))))
                (instance $provided (instantiate $provides))
                (alias export $provided "m" (core module $exported))
                (core instance (instantiate $exported))
                (instance (instantiate $twice (with "c" (component $one)))))
            "#,
        );
        // Memories and tables: `$m` has two memories and one table, and is instantiated twice by `$uses` and once as
        // `$exported`. `$n` has one memory, and is instantiated twice, once in each instance of `$one`. Stacks: one for
        // each component instance (`$uses`, `$provided`, `$twice`, `$one` twice, and the outer component), and one that
        // is not suspended.
        assert_eq!(slots.unwrap(), Slots { memories: 8, tables: 3, stacks: 7 });
    }

    #[test]
    fn imported_modules_and_components_are_refused() {
        let module = count(r#"(component (import "m" (core module $m)) (core instance (instantiate $m)))"#);
        assert_eq!(
            module.expect_err("a component that imports a module is refused").to_string(),
            "the component imports a core module as `m`: build the module into the component"
        );
        let in_instance = count(
            r#"
            (component
                (import "i" (instance $i (export "m" (core module))))
                (alias export $i "m" (core module $m))
                (core instance (instantiate $m)))
            "#,
        );
        assert!(matches!(in_instance, Err(SlotsError::ImportsModule { import: None })), "{in_instance:?}");
        let component = count(r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#);
        let Err(SlotsError::Invalid(refused)) = component else { panic!("{component:?}") };
        assert!(refused.to_string().contains("component imports are not supported"), "{refused}");
    }

    #[test]
    fn components_that_no_slot_can_hold_are_refused() {
        let module =
            |fields: &str| count(&format!("(component (core module $m {fields}) (core instance (instantiate $m)))"));
        assert!(matches!(module("(table 100001 funcref)"), Err(SlotsError::Table { elements: 100_001 })));
        assert!(matches!(module("(memory i64 65537)"), Err(SlotsError::Memory { bytes: 0x1_0001_0000 })));
        assert!(module("(table 100000 funcref) (memory 65536)").is_ok());
        let many = "(core instance (instantiate $m))".repeat(300);
        let refused = count(&format!("(component (core module $m (memory 1)) {many})"));
        let refused = refused.expect_err("too many memories").to_string();
        assert!(refused.starts_with("an instance takes 300 memories"), "{refused}");
        let many = "(core instance (instantiate $m))".repeat(999);
        let nested = format!("(component $c (core module $m) {many})");
        let refused = count(&format!("(component {nested} {})", "(instance (instantiate $c))".repeat(11)));
        assert!(matches!(refused, Err(SlotsError::TooManyModules { core_instances: 10_989 })), "{refused:?}");
        let globals = "(global (mut v128) (v128.const i64x2 0 0))".repeat(200_000);
        let refused = module(&globals);
        let five = "(core instance (instantiate $m))".repeat(5);
        assert!(refused.is_ok(), "{refused:?}");
        let refused = count(&format!("(component (core module $m {globals}) {five}{five})"));
        let Err(SlotsError::State { bytes_max: INSTANCE_BYTES_MAX, .. }) = refused else { panic!("{refused:?}") };
        let globals = "(global (mut v128) (v128.const i64x2 0 0))".repeat(300_000);
        let Err(SlotsError::State { bytes_max: CORE_INSTANCE_BYTES_MAX, .. }) = module(&globals) else {
            panic!("a core module with {} globals", 300_000)
        };
        assert!(matches!(Slots::count(b"no component"), Err(SlotsError::Invalid(_))));
    }
}
