//! Encodes interfaces as type definitions of the component format.
//!
//! The same definitions are encoded in two ways: in the type of an imported instance, and, for interfaces that contain
//! only types, directly in the composition.

use std::collections::HashMap;

use wasm_encoder::{
    Alias, ComponentDefinedTypeEncoder, ComponentOuterAliasKind, ComponentTypeRef, ComponentValType, InstanceType,
    PrimitiveValType, TypeBounds,
};

use crate::output::Output;
use crate::world::{Function, Interface, TypeDefinition, TypeOrigin, ValueType};

/// The indices of an interface's types, by name.
type Names = HashMap<String, u32>;

/// An instance type or a component in which types are defined.
trait TypeSpace {
    /// Returns the index of the next type and the encoder that defines it.
    fn next(&mut self) -> (u32, ComponentDefinedTypeEncoder<'_>);
}

impl TypeSpace for InstanceType {
    fn next(&mut self) -> (u32, ComponentDefinedTypeEncoder<'_>) {
        (self.type_count(), self.ty().defined_type())
    }
}

impl TypeSpace for Output {
    fn next(&mut self) -> (u32, ComponentDefinedTypeEncoder<'_>) {
        self.defined_type()
    }
}

/// Returns the type of an instance that exports `interface`. The interface may use types of other interfaces: for such
/// a type, `used` returns the type's index in the enclosing component.
pub(crate) fn instance_type(interface: &Interface, mut used: impl FnMut(&TypeOrigin) -> u32) -> InstanceType {
    let mut instance = InstanceType::new();
    let mut names = Names::new();
    for (name, definition) in &interface.types {
        let bounds = match definition {
            TypeDefinition::Resource => TypeBounds::SubResource,
            TypeDefinition::Use(origin) => {
                let alias = instance.type_count();
                instance.alias(Alias::Outer { kind: ComponentOuterAliasKind::Type, count: 1, index: used(origin) });
                TypeBounds::Eq(alias)
            }
            TypeDefinition::Value(ty) => TypeBounds::Eq(defined(&mut instance, &names, ty)),
        };
        names.insert(name.clone(), instance.type_count());
        instance.export(name.as_str(), ComponentTypeRef::Type(bounds));
    }
    for (name, function) in &interface.functions {
        let index = function_type(&mut instance, &names, function);
        instance.export(name.as_str(), ComponentTypeRef::Func(index));
    }
    instance
}

/// Defines the types of an interface that contains only types, and returns their names and indices. The interface may
/// use types of other interfaces: for such a type, `used` returns the type's index.
pub(crate) fn bare_types(
    output: &mut Output,
    interface: &Interface,
    mut used: impl FnMut(&mut Output, &TypeOrigin) -> u32,
) -> Vec<(String, u32)> {
    let mut names = Names::new();
    let mut exports = Vec::new();
    for (name, definition) in &interface.types {
        let index = match definition {
            TypeDefinition::Use(origin) => used(output, origin),
            TypeDefinition::Value(ty) => defined(output, &names, ty),
            TypeDefinition::Resource => {
                unreachable!("an interface with a resource does not contain only value types")
            }
        };
        names.insert(name.clone(), index);
        exports.push((name.clone(), index));
    }
    exports
}

fn function_type(instance: &mut InstanceType, names: &Names, function: &Function) -> u32 {
    let parameters: Vec<_> =
        function.parameters.iter().map(|(name, ty)| (name.as_str(), value(instance, names, ty))).collect();
    let result = function.result.as_ref().map(|ty| value(instance, names, ty));
    let index = instance.type_count();
    instance.ty().function().async_(function.is_async).params(parameters).result(result);
    index
}

/// Returns the index of `ty`. Defines the type first if it has no index yet.
fn defined(space: &mut impl TypeSpace, names: &Names, ty: &ValueType) -> u32 {
    match value(space, names, ty) {
        ComponentValType::Type(index) => index,
        ComponentValType::Primitive(primitive) => {
            let (index, encoder) = space.next();
            encoder.primitive(primitive);
            index
        }
    }
}

fn value(space: &mut impl TypeSpace, names: &Names, ty: &ValueType) -> ComponentValType {
    // The types that a type consists of are defined before the type itself, so they have lower indices.
    let mut part = |ty: &ValueType| value(space, names, ty);
    let index = match ty {
        ValueType::Primitive(ty) => return ComponentValType::Primitive(primitive(*ty)),
        ValueType::Named(name) => return ComponentValType::Type(names[name]),
        ValueType::Own(name) => {
            let (index, encoder) = space.next();
            encoder.own(names[name]);
            index
        }
        ValueType::Borrow(name) => {
            let (index, encoder) = space.next();
            encoder.borrow(names[name]);
            index
        }
        ValueType::Record(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, ty)| (name.as_str(), part(ty))).collect();
            let (index, encoder) = space.next();
            encoder.record(fields);
            index
        }
        ValueType::Variant(cases) => {
            let cases: Vec<_> = cases.iter().map(|(name, ty)| (name.as_str(), ty.as_ref().map(&mut part))).collect();
            let (index, encoder) = space.next();
            encoder.variant(cases);
            index
        }
        ValueType::Enum(names) => {
            let (index, encoder) = space.next();
            encoder.enum_type(names.iter().map(String::as_str));
            index
        }
        ValueType::Flags(names) => {
            let (index, encoder) = space.next();
            encoder.flags(names.iter().map(String::as_str));
            index
        }
        ValueType::Tuple(types) => {
            let types: Vec<_> = types.iter().map(part).collect();
            let (index, encoder) = space.next();
            encoder.tuple(types);
            index
        }
        ValueType::List(ty) => {
            let ty = part(ty);
            let (index, encoder) = space.next();
            encoder.list(ty);
            index
        }
        ValueType::FixedList(ty, length) => {
            let ty = part(ty);
            let (index, encoder) = space.next();
            encoder.fixed_length_list(ty, *length);
            index
        }
        ValueType::Map(key, value) => {
            let (key, value) = (part(key), part(value));
            let (index, encoder) = space.next();
            encoder.map(key, value);
            index
        }
        ValueType::Option(ty) => {
            let ty = part(ty);
            let (index, encoder) = space.next();
            encoder.option(ty);
            index
        }
        ValueType::Result(ok, error) => {
            let (ok, error) = (ok.as_deref().map(&mut part), error.as_deref().map(&mut part));
            let (index, encoder) = space.next();
            encoder.result(ok, error);
            index
        }
        ValueType::Stream(payload) => {
            let payload = payload.as_deref().map(part);
            let (index, encoder) = space.next();
            encoder.stream(payload);
            index
        }
        ValueType::Future(payload) => {
            let payload = payload.as_deref().map(part);
            let (index, encoder) = space.next();
            encoder.future(payload);
            index
        }
    };
    ComponentValType::Type(index)
}

/// Converts a primitive type of `wasmparser` into the same type of `wasm_encoder`.
pub(crate) fn primitive(ty: wasmparser::PrimitiveValType) -> PrimitiveValType {
    use wasmparser::PrimitiveValType as Parsed;
    match ty {
        Parsed::Bool => PrimitiveValType::Bool,
        Parsed::S8 => PrimitiveValType::S8,
        Parsed::U8 => PrimitiveValType::U8,
        Parsed::S16 => PrimitiveValType::S16,
        Parsed::U16 => PrimitiveValType::U16,
        Parsed::S32 => PrimitiveValType::S32,
        Parsed::U32 => PrimitiveValType::U32,
        Parsed::S64 => PrimitiveValType::S64,
        Parsed::U64 => PrimitiveValType::U64,
        Parsed::F32 => PrimitiveValType::F32,
        Parsed::F64 => PrimitiveValType::F64,
        Parsed::Char => PrimitiveValType::Char,
        Parsed::String => PrimitiveValType::String,
        Parsed::ErrorContext => PrimitiveValType::ErrorContext,
    }
}
