//! A function that crosses a seam: its types, and the addresses of its arguments and its result in an image.

use isomer_ids::ComponentName;
use isomer_plan::{InterfaceId, Parameter};
use isomer_wire::image::{BASE, BLOCKS};
use wasm_encoder::{ComponentBuilder, ComponentValType, ValType};

use super::part::{PartTypes, value_type};
use super::types::{FLAT_MAX, Kind, Layout, TypeId, Types};
use crate::error::SeamError;
use crate::world::{Interface, ValueType, World};

/// A function that crosses a seam, with all information that is needed to generate code for it.
#[derive(Debug)]
pub(crate) struct Crossing {
    pub(crate) name: String,
    pub(crate) is_async: bool,
    pub(crate) parameters: Vec<(String, TypeId)>,
    pub(crate) result: Option<TypeId>,
    /// The layout of all parameters together, as a tuple in memory.
    pub(crate) arguments: Layout,
    /// How the error type of the result contains `call-error`; `None` if the error type does not contain it.
    pub(crate) lost: Option<Lost>,
}

/// How the error type of a result contains `call-error`, the error that represents a lost call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lost {
    /// The error type is `call-error` itself.
    Whole,
    /// The error type is a variant. The payload of the case with this index is `call-error`.
    Case(u32),
}

impl Crossing {
    /// Returns the function `name` of an interface that a component imports or exports.
    pub(crate) fn new(types: &mut Types, world: &World, interface: &Interface, name: &str) -> Result<Self, SeamError> {
        let cannot = || SeamError::CannotCross { interface: interface.name.clone(), function: name.to_owned() };
        let function = interface.functions.get(name).ok_or_else(cannot)?;
        let mut add = |ty: &ValueType| types.add(world, interface, ty).ok_or_else(cannot);
        let parameters =
            function.parameters.iter().map(|(name, ty)| Ok((name.clone(), add(ty)?))).collect::<Result<Vec<_>, _>>()?;
        let result = function.result.as_ref().map(add).transpose()?;
        let ids: Vec<_> = parameters.iter().map(|(_, id)| *id).collect();
        let arguments = types.tuple(&ids);
        let lost = function.result.as_ref().and_then(|ty| lost(world, interface, ty));
        Ok(Crossing { name: name.to_owned(), is_async: function.is_async, parameters, result, arguments, lost })
    }

    /// Returns whether the parameters are passed in memory because they have too many flat values.
    pub(crate) fn spills(&self) -> bool {
        self.arguments.flat.is_none()
    }

    /// Returns the parameter types of the core function.
    pub(crate) fn core_parameters(&self) -> Vec<ValType> {
        self.arguments.flat.clone().unwrap_or_else(|| vec![ValType::I32])
    }

    /// Returns the address in an image at which the tuple of the arguments begins (the root, see
    /// [`isomer_wire::image`]).
    pub(crate) fn arguments_root(&self) -> u32 {
        if self.spills() { BLOCKS } else { BASE }
    }

    /// Returns, for each parameter, the offset from the start of an image at which the image contains the address and
    /// the length of a text. `None` for parameters that are not of type `string`.
    pub(crate) fn text_offsets(&self, types: &Types) -> Vec<Option<u32>> {
        let Kind::Record(fields) = &self.arguments.kind else { return vec![None; self.parameters.len()] };
        let root = self.arguments_root() - BASE;
        let is_text = |id: &TypeId| matches!(types.layout(*id).kind, Kind::String);
        fields.iter().map(|(offset, id)| is_text(id).then_some(root + offset)).collect()
    }

    /// Returns the address in an image at which the tuple of the arguments ends.
    pub(crate) fn arguments_end(&self) -> u32 {
        match &self.arguments.kind {
            Kind::Record(fields) if fields.is_empty() => BASE,
            _ => self.arguments_root() + self.arguments.size,
        }
    }

    /// Returns the address in an image at which the result itself ends, without the blocks that it points to.
    pub(crate) fn result_end(&self, types: &Types) -> u32 {
        BASE + self.result.map_or(0, |id| types.layout(id).size)
    }

    /// Returns the type of the result's single flat value. Returns `None` if there is no result, or if it is passed in
    /// memory.
    pub(crate) fn flat_result(&self, types: &Types) -> Option<ValType> {
        match types.layout(self.result?).flat.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    /// Returns whether the result is passed in memory.
    pub(crate) fn returns_pointer(&self, types: &Types) -> bool {
        self.result.is_some() && self.flat_result(types).is_none()
    }

    /// Returns the parameter types of `task.return`: the result's flat values, or a pointer to the result if there are
    /// too many flat values.
    pub(crate) fn task_return(&self, types: &Types) -> Vec<ValType> {
        match self.result.map(|id| types.layout(id).flat.clone()) {
            None => vec![],
            Some(Some(flat)) if flat.len() <= FLAT_MAX => flat,
            Some(_) => vec![ValType::I32],
        }
    }

    /// Defines the function's component type and returns its index.
    pub(crate) fn define_type(&self, builder: &mut ComponentBuilder, types: &Types, indices: &PartTypes) -> u32 {
        let value = |id: &TypeId| value_type(types, indices, *id);
        let parameters: Vec<(&str, ComponentValType)> =
            self.parameters.iter().map(|(name, id)| (name.as_str(), value(id))).collect();
        let result = self.result.as_ref().map(value);
        let (index, mut encoder) = builder.type_function(None);
        encoder.async_(self.is_async).params(parameters).result(result);
        index
    }
}

/// Returns the position of `call-error` in the error type of `result`; `None` if the error type does not contain it.
fn lost(world: &World, interface: &Interface, result: &ValueType) -> Option<Lost> {
    let (scope, ValueType::Result(_, Some(error))) = world.resolve(interface, result)? else { return None };
    if world.is_call_error(scope, error) {
        return Some(Lost::Whole);
    }
    let (scope, ValueType::Variant(cases)) = world.resolve(scope, error)? else { return None };
    (0..).zip(cases).find_map(|(number, (_, ty))| {
        ty.as_ref().filter(|ty| world.is_call_error(scope, ty)).map(|_| Lost::Case(number))
    })
}

/// Returns the parameters of the function `name` of an interface, as the plan describes them. `types` contains the
/// types of other functions of `world`.
pub(crate) fn parameters(types: &mut Types, world: &World, interface: &Interface, name: &str) -> Vec<Parameter> {
    let named = |name: String, text_offset| Parameter { name, text_offset };
    if let Ok(crossing) = Crossing::new(types, world, interface, name) {
        let offsets = crossing.text_offsets(types);
        return crossing.parameters.into_iter().zip(offsets).map(|((name, _), offset)| named(name, offset)).collect();
    }
    let function = interface.functions.get(name);
    function.into_iter().flat_map(|function| &function.parameters).map(|(name, _)| named(name.clone(), None)).collect()
}

/// Returns `found`, or an error if the component does not have the interface that the plan names.
pub(crate) fn interface_of<'w>(
    component: &ComponentName,
    id: &InterfaceId,
    found: Option<&'w Interface>,
) -> Result<&'w Interface, SeamError> {
    found.ok_or_else(|| SeamError::Unmet { component: component.clone(), interface: id.to_string() })
}
