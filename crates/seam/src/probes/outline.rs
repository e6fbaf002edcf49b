//! The outline of a component: for the functions of its outermost level, where they come from.
//!
//! The tools that make components lift a core function at the outermost level and pass it to a nested component. The
//! nested component exports the function with the named types of the interface, and the outermost level exports the
//! instance of the nested component. [`Outline::lift`] follows an exported function back to where it is lifted. It can
//! follow a function through a nested component only if that component exports the function as it imported it.

use std::collections::HashMap;

use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, ExternalKind, Parser, Payload,
};

/// How many items each index space of a component contains at one point of its binary.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ItemCounts {
    pub(super) types: u32,
    pub(super) instances: u32,
    pub(super) functions: u32,
    pub(super) modules: u32,
    pub(super) core_instances: u32,
    pub(super) core_functions: u32,
}

/// A function that is lifted at the outermost level of a component.
#[derive(Debug)]
pub(super) struct Lift {
    /// The index of the core function.
    pub(super) core_function: u32,
    pub(super) is_async: bool,
    /// The index of the core function that continues a task.
    pub(super) callback: Option<u32>,
    /// How many items precede the function.
    pub(super) before: ItemCounts,
}

#[derive(Debug, Clone, Copy)]
enum FunctionSource<'a> {
    /// The function is lifted from a core function. The value is the index of the [`Lift`] in `lifts`.
    Lift(usize),
    Import(&'a str),
    /// The function is an alias that an export has defined. The value is the index of the exported function.
    Export(u32),
    Member {
        instance: u32,
        name: &'a str,
    },
}

#[derive(Debug)]
enum InstanceSource<'a> {
    Instantiated {
        component: u32,
        /// The functions among the arguments: their indices, by the argument's name.
        arguments: HashMap<&'a str, u32>,
    },
    /// An instance that is made of functions and other items: the functions' indices, by name.
    Functions(HashMap<&'a str, u32>),
    /// The instance is an alias that an export has defined. The value is the index of the exported instance.
    Export(u32),
    Other,
}

/// The items of a component's outermost level.
#[derive(Debug, Default)]
pub(super) struct Outline<'a> {
    counts: ItemCounts,
    functions: Vec<FunctionSource<'a>>,
    instances: Vec<InstanceSource<'a>>,
    /// The nested components; `None` for components that are imported or aliased.
    components: Vec<Option<Outline<'a>>>,
    /// For each core function: the core instance that exports it, and the name of the export. `None` if the core
    /// function is not an alias.
    core_functions: Vec<Option<(u32, &'a str)>>,
    exports: HashMap<&'a str, (ComponentExternalKind, u32)>,
    lifts: Vec<Lift>,
}

/// A module or component whose sections are being read.
enum Level<'a> {
    Module,
    Component(Outline<'a>),
}

impl<'a> Outline<'a> {
    /// Returns the outline of a valid component.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let mut levels = vec![Level::Component(Outline::default())];
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            let above = levels.len();
            match (levels.last_mut(), &payload) {
                (Some(Level::Component(outline)), Payload::End(_)) => {
                    let nested = std::mem::take(outline);
                    levels.pop();
                    match levels.last_mut() {
                        None => return Ok(nested),
                        // The outline of a nested component is kept only if the component is nested directly in the
                        // outermost level.
                        Some(Level::Component(outer)) if above == 2 => {
                            if let Some(component) = outer.components.last_mut() {
                                *component = Some(nested);
                            }
                        }
                        Some(_) => {}
                    }
                }
                (Some(Level::Module), Payload::End(_)) => drop(levels.pop()),
                (Some(Level::Component(outline)), Payload::ModuleSection { .. }) => {
                    outline.counts.modules += 1;
                    levels.push(Level::Module);
                }
                (Some(Level::Component(outline)), Payload::ComponentSection { .. }) => {
                    outline.components.push(None);
                    levels.push(Level::Component(Outline::default()));
                }
                (Some(Level::Component(outline)), payload) => outline.add(payload)?,
                (_, _) => {}
            }
        }
        Ok(Outline::default())
    }

    /// Returns the lifted functions in the component's order.
    pub(super) fn lifts(&self) -> &[Lift] {
        &self.lifts
    }

    /// Returns the core instance and the name under which the instance exports the core function `index`. Returns
    /// `None` if the core function is not exported by an instance.
    pub(super) fn core_export(&self, index: u32) -> Option<(u32, &'a str)> {
        *self.core_functions.get(index as usize)?
    }

    /// Returns the position in [`lifts`](Self::lifts) of a function that the component exports. Returns `None` if the
    /// function is not lifted at the outermost level.
    pub(super) fn lift(&self, interface: &str, function: &str) -> Option<usize> {
        let (ComponentExternalKind::Instance, instance) = *self.exports.get(interface)? else { return None };
        let mut next = Source::Member(instance, function);
        // An item refers only to items before it, so the loop ends.
        loop {
            next = match next {
                Source::Function(index) => match *self.functions.get(index as usize)? {
                    FunctionSource::Lift(lift) => return Some(lift),
                    FunctionSource::Export(index) => Source::Function(index),
                    FunctionSource::Member { instance, name } => Source::Member(instance, name),
                    FunctionSource::Import(_) => return None,
                },
                Source::Member(instance, name) => match self.instances.get(instance as usize)? {
                    InstanceSource::Instantiated { component, arguments } => {
                        let component = self.components.get(*component as usize)?.as_ref()?;
                        Source::Function(*arguments.get(component.import_of(name)?)?)
                    }
                    InstanceSource::Functions(functions) => Source::Function(*functions.get(name)?),
                    InstanceSource::Export(index) => Source::Member(*index, name),
                    InstanceSource::Other => return None,
                },
            };
        }
    }

    /// Returns the name of the imported function that the component exports as `name`.
    fn import_of(&self, name: &str) -> Option<&'a str> {
        let (ComponentExternalKind::Func, mut index) = *self.exports.get(name)? else { return None };
        loop {
            match *self.functions.get(index as usize)? {
                FunctionSource::Import(name) => return Some(name),
                FunctionSource::Export(source) => index = source,
                FunctionSource::Lift(_) | FunctionSource::Member { .. } => return None,
            }
        }
    }

    fn add(&mut self, payload: &Payload<'a>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ComponentTypeSection(section) => self.counts.types += section.count(),
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    let kind = match import.ty {
                        ComponentTypeRef::Module(_) => ComponentExternalKind::Module,
                        ComponentTypeRef::Func(_) => ComponentExternalKind::Func,
                        ComponentTypeRef::Value(_) => ComponentExternalKind::Value,
                        ComponentTypeRef::Type(_) => ComponentExternalKind::Type,
                        ComponentTypeRef::Instance(_) => ComponentExternalKind::Instance,
                        ComponentTypeRef::Component(_) => ComponentExternalKind::Component,
                    };
                    self.item(kind, FunctionSource::Import(import.name.name), InstanceSource::Other);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    self.exports.insert(export.name.name, (export.kind, export.index));
                    let (function, instance) =
                        (FunctionSource::Export(export.index), InstanceSource::Export(export.index));
                    self.item(export.kind, function, instance);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(alias?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.canonical(function?);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    self.instance(instance?);
                }
            }
            Payload::InstanceSection(section) => self.counts.core_instances += section.count(),
            _ => {}
        }
        Ok(())
    }

    fn item(&mut self, kind: ComponentExternalKind, function: FunctionSource<'a>, instance: InstanceSource<'a>) {
        match kind {
            ComponentExternalKind::Module => self.counts.modules += 1,
            ComponentExternalKind::Func => self.function(function),
            ComponentExternalKind::Type => self.counts.types += 1,
            ComponentExternalKind::Instance => {
                self.counts.instances += 1;
                self.instances.push(instance);
            }
            ComponentExternalKind::Component => self.components.push(None),
            ComponentExternalKind::Value => {}
        }
    }

    fn function(&mut self, source: FunctionSource<'a>) {
        self.counts.functions += 1;
        self.functions.push(source);
    }

    fn core_function(&mut self, source: Option<(u32, &'a str)>) {
        self.counts.core_functions += 1;
        self.core_functions.push(source);
    }

    fn alias(&mut self, alias: ComponentAlias<'a>) {
        match alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                self.item(kind, FunctionSource::Member { instance: instance_index, name }, InstanceSource::Other);
            }
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                if matches!(kind, ExternalKind::Func | ExternalKind::FuncExact) {
                    self.core_function(Some((instance_index, name)));
                }
            }
            ComponentAlias::Outer { kind, .. } => match kind {
                ComponentOuterAliasKind::CoreModule => self.counts.modules += 1,
                ComponentOuterAliasKind::CoreType => {}
                ComponentOuterAliasKind::Type => self.counts.types += 1,
                ComponentOuterAliasKind::Component => self.components.push(None),
            },
        }
    }

    fn canonical(&mut self, function: CanonicalFunction) {
        let CanonicalFunction::Lift { core_func_index, options, .. } = function else {
            self.core_function(None);
            return;
        };
        let callback = |option: &CanonicalOption| match option {
            CanonicalOption::Callback(index) => Some(*index),
            _ => None,
        };
        let before = self.counts;
        self.function(FunctionSource::Lift(self.lifts.len()));
        self.lifts.push(Lift {
            core_function: core_func_index,
            is_async: options.contains(&CanonicalOption::Async),
            callback: options.iter().find_map(callback),
            before,
        });
    }

    fn instance(&mut self, instance: ComponentInstance<'a>) {
        let functions = |(kind, name, index)| (kind == ComponentExternalKind::Func).then_some((name, index));
        let source = match instance {
            ComponentInstance::Instantiate { component_index, args } => InstanceSource::Instantiated {
                component: component_index,
                arguments: args.iter().filter_map(|it| functions((it.kind, it.name, it.index))).collect(),
            },
            ComponentInstance::FromExports(exports) => InstanceSource::Functions(
                exports.iter().filter_map(|it| functions((it.kind, it.name.name, it.index))).collect(),
            ),
        };
        self.counts.instances += 1;
        self.instances.push(source);
    }
}

/// A function that [`Outline::lift`] follows: by its index, or as an export of an instance.
#[derive(Clone, Copy)]
enum Source<'s> {
    Function(u32),
    Member(u32, &'s str),
}
