//! Adds stubs and skeletons to a composition: generates, nests and connects them.

use std::collections::HashMap;

use isomer_plan::PlannedGroup;

use crate::composition::{ComposedPart, Composer, HostImport, ImportOwner, SkeletonExport};
use crate::encoding;
use crate::error::SeamError;
use crate::generate::{self, DISPATCH_FUNCTIONS, REFUSAL, TYPES, WIRE, function_name};
use crate::output::Item;
use crate::world::Interface;

impl Composer {
    /// Adds the stub of a component, if the plan has one, and returns the stub's import from the host.
    pub(crate) fn add_stub(
        &mut self,
        group: &PlannedGroup,
        part: &ComposedPart<'_>,
    ) -> Result<Option<HostImport>, SeamError> {
        let Some(stub) = group.stubs.iter().find(|stub| stub.component == *part.name) else { return Ok(None) };
        let generated = generate::stub(stub, &part.world)?;
        let label = format!("{}-isomer-link-wire", part.name);
        let wire =
            encoding::instance_type(&generate::wire(), |_| unreachable!("`isomer:link/wire` uses no other interface"));
        let wire = self.output.instance_type(&wire);
        let wire = self.output.import(&label, wire);
        let mut arguments = vec![(WIRE, Item::Instance(wire))];
        arguments.extend(self.types_for(&generated));
        let name = format!("stub-of-{}", part.name);
        let component = self.output.nest(&name, &generated.bytes);
        let instance = self.output.instantiate(&name, component, &arguments);
        let mut functions = HashMap::new();
        for (number, function) in stub.functions.iter().enumerate() {
            let index = self.output.exported_function(instance, &function_name(number));
            functions.insert((function.interface.to_string(), function.function.clone()), index);
        }
        self.stubs.insert(part.name.clone(), functions);
        let owner = ImportOwner::Component(part.name.clone());
        Ok(Some(HostImport { name: label, interface: WIRE.to_owned(), owner }))
    }

    /// Returns the index of an instance that provides `interface` to the component `part` with functions of the
    /// component's stub. Returns `None` if the stub has no function of the interface, because the interface does not
    /// cross a seam. `arguments` are the instances that the component imports before `interface`.
    pub(crate) fn stub_instance(
        &mut self,
        part: &ComposedPart<'_>,
        interface: &Interface,
        arguments: &[(&str, u32)],
    ) -> Option<u32> {
        let stub = self.stubs.get(part.name)?;
        let functions: Vec<_> = interface
            .functions
            .keys()
            .filter_map(|name| {
                let index = stub.get(&(interface.name.clone(), name.clone()))?;
                Some((name.clone(), Item::Function(*index)))
            })
            .collect();
        if functions.is_empty() {
            return None;
        }
        let mut items = self.types_of(interface, arguments);
        items.extend(functions);
        Some(self.output.instance_of(&interface.name, &items))
    }

    /// Adds the skeletons of `group` to the composition, and exports them from the composition.
    pub(crate) fn add_skeletons(
        &mut self,
        group: &PlannedGroup,
        parts: &[ComposedPart<'_>],
    ) -> Result<Vec<SkeletonExport>, SeamError> {
        let mut exports = Vec::with_capacity(group.skeletons.len());
        for skeleton in &group.skeletons {
            let owner = &skeleton.component;
            let part = parts
                .iter()
                .find(|part| part.name == owner)
                .ok_or_else(|| SeamError::MissingComponent(owner.clone()))?;
            let generated = generate::skeleton(skeleton, &part.world)?;
            let mut arguments: Vec<(String, Item)> =
                self.types_for(&generated).map(|(name, item)| (name.to_owned(), item)).into_iter().collect();
            for (number, function) in skeleton.functions.iter().enumerate() {
                let instance = self.exported(owner, &function.interface).expect("every part is instantiated");
                let index = self.output.exported_function(instance, &function.function);
                arguments.push((function_name(number), Item::Function(index)));
            }
            let name = format!("skeleton-of-{owner}");
            let component = self.output.nest(&name, &generated.bytes);
            let instance = self.output.instantiate(&name, component, &arguments);
            let mut items = vec![(REFUSAL.to_owned(), Item::Type(self.output.exported_type(instance, REFUSAL)))];
            for (function, _) in DISPATCH_FUNCTIONS {
                let index = self.output.exported_function(instance, function);
                items.push((function.to_owned(), Item::Function(index)));
            }
            let dispatch = self.output.instance_of(&name, &items);
            let label = format!("{owner}-isomer-link-dispatch");
            self.output.export(&label, dispatch);
            exports.push(SkeletonExport { name: label, component: owner.clone() });
        }
        Ok(exports)
    }

    /// Adds an instance with the types that a generated stub or skeleton imports. Returns `None` if it imports no
    /// types.
    fn types_for(&mut self, part: &generate::GeneratedPart) -> Option<(&'static str, Item)> {
        let interface = part.types.as_ref()?;
        let types = self.types_of(interface, &[]);
        Some((TYPES, Item::Instance(self.output.instance_of(TYPES, &types))))
    }
}
