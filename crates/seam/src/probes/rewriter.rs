//! Rewrites a component so that it reports the calls of some of its exported functions to the host.
//!
//! Everything that the probes need is inserted at one point, directly before the first probed function is lifted: the
//! import of the host's functions, the core module with the wrappers, and its instance. Items after this point have
//! higher indices than before, so every index that refers to them is increased, also in the outer aliases of nested
//! components and types. Core modules are copied as they are.

use std::collections::HashMap;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, Component, ComponentAliasSection, ComponentExportKind,
    ComponentImportSection, ComponentSectionId, ComponentTypeRef, ComponentTypeSection, ExportKind, InstanceSection,
    ModuleArg, ModuleSection, RawSection,
};
use wasmparser::{CanonicalFunction, CanonicalOption as ParsedOption, Parser, Payload};

use super::outline::ItemCounts;
use super::wrapper::{self, IMPORTS, Wrapper, wrapper_name};
use crate::encoding;
use crate::generate::probe::{self, ENTER, EXIT, PROBE};

/// The maximum depth of nested components in a component that is rewritten. Each level needs stack space.
const NESTING_MAX: usize = 16;

/// The index or the export by which the inserted module gets a core function that it wraps.
#[derive(Debug, Clone, Copy)]
pub(super) enum WrappedFunction<'a> {
    /// The index of a core function that exists already.
    Existing(u32),
    /// The index of a core instance, and the name under which it exports the core function.
    Export(u32, &'a str),
}

/// What is inserted into a component.
pub(super) struct Insertion<'a> {
    /// The name of the inserted core module, in backtraces.
    pub(super) module_name: String,
    /// The position of the first probed function among the functions that are lifted.
    pub(super) first: usize,
    /// How many items precede the first probed function.
    pub(super) before: ItemCounts,
    pub(super) wrappers: Vec<(WrappedFunction<'a>, Wrapper)>,
    /// The probed functions, by their position among the functions that are lifted. For each function: the number of
    /// the wrapper for its core function, and the number of the wrapper for its callback.
    pub(super) probed: HashMap<usize, (u32, Option<u32>)>,
}

/// Components are nested more than [`NESTING_MAX`] levels deep.
#[derive(Debug, thiserror::Error)]
#[error("it has more than {NESTING_MAX} components nested within each other")]
pub(super) struct TooDeep;

/// Returns a copy of a valid component with the insertion.
pub(super) fn rewrite(bytes: &[u8], insertion: Insertion<'_>) -> Result<Vec<u8>, Error<TooDeep>> {
    let mut component = Component::new();
    let (added, first_wrapper) = (insertion.added(), insertion.first_wrapper());
    let mut rewriter = Rewriter { insertion, added, first_wrapper, depth: 0, lifted: 0 };
    rewriter.parse_component(&mut component, Parser::new(0), bytes)?;
    Ok(component.finish())
}

impl Insertion<'_> {
    /// Returns the core function index of the first wrapper. Lower indices belong to the existing core functions, to
    /// the two imported probe functions, and to one alias for each wrapped function that has no core function index
    /// yet, because it is only an export of a core instance.
    fn first_wrapper(&self) -> u32 {
        let is_export = |(wrapped, _): &&(WrappedFunction<'_>, _)| matches!(wrapped, WrappedFunction::Export(..));
        self.before.core_functions + 2 + number(self.wrappers.iter().filter(is_export).count())
    }

    fn added(&self) -> ItemCounts {
        let core_functions = self.first_wrapper() - self.before.core_functions + number(self.wrappers.len());
        ItemCounts { types: 1, instances: 1, functions: 2, modules: 1, core_instances: 2, core_functions }
    }

    fn write(&self, component: &mut Component) {
        let ItemCounts { types, instances, functions, modules, core_instances, core_functions } = self.before;
        let mut section = ComponentTypeSection::new();
        section.instance(&encoding::instance_type(&probe::probe(), |_| {
            unreachable!("`isomer:probe/probe` uses no other interface")
        }));
        component.section(&section);
        let mut section = ComponentImportSection::new();
        section.import(PROBE, ComponentTypeRef::Instance(types));
        component.section(&section);
        let mut section = ComponentAliasSection::new();
        for name in [ENTER, EXIT] {
            section.alias(Alias::InstanceExport { instance: instances, kind: ComponentExportKind::Func, name });
        }
        component.section(&section);
        let mut section = CanonicalFunctionSection::new();
        section.lower(functions, []).lower(functions + 1, []);
        component.section(&section);

        let mut imports = vec![(ENTER.to_owned(), core_functions), (EXIT.to_owned(), core_functions + 1)];
        let mut aliases = ComponentAliasSection::new();
        let mut next = core_functions + 2;
        for (number, (wrapped, _)) in self.wrappers.iter().enumerate() {
            let index = match *wrapped {
                WrappedFunction::Existing(index) => index,
                WrappedFunction::Export(instance, name) => {
                    aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name });
                    next += 1;
                    next - 1
                }
            };
            imports.push((wrapper_name(number), index));
        }
        if !aliases.is_empty() {
            component.section(&aliases);
        }
        let wrappers: Vec<_> = self.wrappers.iter().map(|(_, wrapper)| wrapper.clone()).collect();
        component.section(&ModuleSection(&wrapper::module(&self.module_name, &wrappers)));
        let mut section = InstanceSection::new();
        section.export_items(imports.iter().map(|(name, index)| (name.as_str(), ExportKind::Func, *index)));
        section.instantiate(modules, [(IMPORTS, ModuleArg::Instance(core_instances))]);
        component.section(&section);
        let mut section = ComponentAliasSection::new();
        for number in 0..self.wrappers.len() {
            let name = wrapper_name(number);
            let instance = core_instances + 1;
            section.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: &name });
        }
        component.section(&section);
    }
}

struct Rewriter<'a> {
    insertion: Insertion<'a>,
    added: ItemCounts,
    /// The core function index of the first wrapper.
    first_wrapper: u32,
    /// The number of components and types that contain what is being copied.
    depth: u32,
    /// The number of functions of the outermost level that have been lifted.
    lifted: usize,
}

impl Rewriter<'_> {
    /// Returns the new index of an item. `depth` is the number of components and types between the reference and the
    /// component or type that contains the item.
    fn moved(&self, depth: u32, index: u32, count: fn(&ItemCounts) -> u32) -> u32 {
        let is_moved = depth == self.depth && index >= count(&self.insertion.before);
        index + if is_moved { count(&self.added) } else { 0 }
    }
}

impl Reencode for Rewriter<'_> {
    type Error = TooDeep;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<TooDeep>> {
        Ok(self.moved(0, index, |counts| counts.core_functions))
    }
}

impl ReencodeComponent for Rewriter<'_> {
    fn component_type_index(&mut self, index: u32) -> u32 {
        self.moved(0, index, |counts| counts.types)
    }

    fn component_instance_index(&mut self, index: u32) -> u32 {
        self.moved(0, index, |counts| counts.instances)
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        self.moved(0, index, |counts| counts.functions)
    }

    fn module_index(&mut self, index: u32) -> u32 {
        self.moved(0, index, |counts| counts.modules)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        self.moved(0, index, |counts| counts.core_instances)
    }

    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        self.moved(count, index, |counts| counts.types)
    }

    fn outer_module_index(&mut self, count: u32, index: u32) -> u32 {
        self.moved(count, index, |counts| counts.modules)
    }

    fn outer_component_index(&mut self, _count: u32, index: u32) -> u32 {
        // No component is inserted, so the indices of components do not change.
        index
    }

    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn parse_component_payload(
        &mut self,
        component: &mut Component,
        payload: Payload<'_>,
        whole_component: &[u8],
    ) -> Result<(), Error<TooDeep>> {
        let section = match payload {
            Payload::ComponentCanonicalSection(section) if self.depth == 0 => section,
            payload => return component_utils::parse_component_payload(self, component, payload, whole_component),
        };
        let mut functions = CanonicalFunctionSection::new();
        for function in section {
            let function = function?;
            if matches!(function, CanonicalFunction::Lift { .. }) && self.lifted == self.insertion.first {
                if !functions.is_empty() {
                    component.section(&std::mem::take(&mut functions));
                }
                self.insertion.write(component);
            }
            self.parse_component_canonical(&mut functions, function)?;
        }
        if !functions.is_empty() {
            component.section(&functions);
        }
        Ok(())
    }

    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        _parser: Parser,
        module: &[u8],
    ) -> Result<(), Error<TooDeep>> {
        component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
        Ok(())
    }

    fn parse_component_subcomponent(
        &mut self,
        component: &mut Component,
        parser: Parser,
        subcomponent: &[u8],
        whole_component: &[u8],
    ) -> Result<(), Error<TooDeep>> {
        if self.depth as usize >= NESTING_MAX {
            return Err(Error::UserError(TooDeep));
        }
        component_utils::parse_component_subcomponent(self, component, parser, subcomponent, whole_component)
    }

    fn parse_component_canonical(
        &mut self,
        section: &mut CanonicalFunctionSection,
        function: CanonicalFunction,
    ) -> Result<(), Error<TooDeep>> {
        match function {
            CanonicalFunction::Lift { core_func_index, type_index, options } if self.depth == 0 => {
                let probed = self.insertion.probed.get(&self.lifted).copied();
                self.lifted += 1;
                let core = match probed {
                    Some((number, _)) => self.first_wrapper + number,
                    None => self.function_index(core_func_index)?,
                };
                let mut rewritten = Vec::with_capacity(options.len());
                for option in options {
                    rewritten.push(match (option, probed) {
                        (ParsedOption::Callback(_), Some((_, Some(number)))) => {
                            CanonicalOption::Callback(self.first_wrapper + number)
                        }
                        (option, _) => self.canonical_option(option)?,
                    });
                }
                let ty = self.component_type_index(type_index);
                section.lift(core, ty, rewritten);
            }
            // The type indices of these four functions are updated here, because `component_utils` leaves them
            // unchanged.
            CanonicalFunction::StreamCancelRead { ty, async_ } => {
                section.stream_cancel_read(self.component_type_index(ty), async_);
            }
            CanonicalFunction::StreamCancelWrite { ty, async_ } => {
                section.stream_cancel_write(self.component_type_index(ty), async_);
            }
            CanonicalFunction::FutureCancelRead { ty, async_ } => {
                section.future_cancel_read(self.component_type_index(ty), async_);
            }
            CanonicalFunction::FutureCancelWrite { ty, async_ } => {
                section.future_cancel_write(self.component_type_index(ty), async_);
            }
            function => component_utils::parse_component_canonical(self, section, function)?,
        }
        Ok(())
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a component has fewer than 2³² functions")
}
