//! The imports and exports of a component, with names instead of type indices.
//!
//! The description of an interface refers to types of other interfaces by name. This is always possible, because an
//! interface exports every one of its named types. So interfaces of different components can be compared, merged and
//! encoded. This file defines the model, and `reader` fills it.

use std::collections::BTreeMap;

use wasmparser::PrimitiveValType;

/// The imports and exports of a component.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// The imports in the component's order. An interface comes after the interfaces whose types it uses.
    pub(crate) imports: Vec<Interface>,
    pub(crate) exports: Vec<Interface>,
    /// The names of the imports that are not interfaces with a `namespace:package/interface` name, such as functions.
    pub(crate) loose_imports: Vec<String>,
}

/// An interface as one component imports or exports it. Tools remove the parts that the component does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// The named types. Each type comes after the types that it refers to.
    pub(crate) types: Vec<(String, TypeDefinition)>,
    pub(crate) functions: BTreeMap<String, Function>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TypeDefinition {
    /// A resource that this interface defines.
    Resource,
    /// A type that another interface defines.
    Use(TypeOrigin),
    /// A definition of a type, or an alias of a type of this interface.
    Value(ValueType),
}

/// The interface that defines a type, and the type's name in that interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeOrigin {
    /// Whether the component exports the defining interface. If false, the component imports it.
    pub(crate) exported: bool,
    pub(crate) interface: String,
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) is_async: bool,
    pub(crate) parameters: Vec<(String, ValueType)>,
    pub(crate) result: Option<ValueType>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueType {
    Primitive(PrimitiveValType),
    /// The name of a type that is defined in the same interface.
    Named(String),
    /// An owned handle (`own`). The value is the name of a resource in the same interface.
    Own(String),
    Borrow(String),
    Record(Vec<(String, ValueType)>),
    Variant(Vec<(String, Option<ValueType>)>),
    Enum(Vec<String>),
    Flags(Vec<String>),
    Tuple(Vec<ValueType>),
    List(Box<ValueType>),
    FixedList(Box<ValueType>, u32),
    Map(Box<ValueType>, Box<ValueType>),
    Option(Box<ValueType>),
    Result(Option<Box<ValueType>>, Option<Box<ValueType>>),
    Stream(Option<Box<ValueType>>),
    Future(Option<Box<ValueType>>),
}

impl World {
    pub(crate) fn import(&self, name: &str) -> Option<&Interface> {
        self.imports.iter().find(|interface| interface.name == name)
    }

    pub(crate) fn export(&self, name: &str) -> Option<&Interface> {
        self.exports.iter().find(|interface| interface.name == name)
    }

    /// If `ty` is a name, looks up the type that the name stands for, until a type is not a name. Returns this type,
    /// and the interface in which names inside the type are defined. Returns `None` for a resource.
    pub(crate) fn resolve<'a>(
        &'a self,
        mut interface: &'a Interface,
        mut ty: &'a ValueType,
    ) -> Option<(&'a Interface, &'a ValueType)> {
        while let ValueType::Named(name) = ty {
            (interface, ty) = self.definition(interface, name)?;
        }
        Some((interface, ty))
    }

    /// Returns whether `ty` is the type `call-error` of `isomer:link/types`.
    pub(crate) fn is_call_error<'a>(&'a self, mut interface: &'a Interface, ty: &'a ValueType) -> bool {
        let ValueType::Named(mut name) = ty.clone() else { return false };
        loop {
            if name == "call-error" && interface.name.split('@').next() == Some("isomer:link/types") {
                return true;
            }
            match interface.definition(&name) {
                Some(TypeDefinition::Value(ValueType::Named(next))) => name.clone_from(next),
                Some(TypeDefinition::Use(origin)) => {
                    let Some(used) = self.origin(origin) else { return false };
                    interface = used;
                    name.clone_from(&origin.name);
                }
                _ => return false,
            }
        }
    }

    /// Returns the definition of `name` and the interface that contains it. The returned interface differs from
    /// `interface` if `interface` uses the type from another interface.
    fn definition<'a>(&'a self, mut interface: &'a Interface, name: &str) -> Option<(&'a Interface, &'a ValueType)> {
        let mut definition = interface.definition(name)?;
        loop {
            match definition {
                TypeDefinition::Value(ty) => return Some((interface, ty)),
                TypeDefinition::Resource => return None,
                TypeDefinition::Use(origin) => {
                    interface = self.origin(origin)?;
                    definition = interface.definition(&origin.name)?;
                }
            }
        }
    }

    /// Returns the interface that defines a used type.
    pub(crate) fn origin(&self, origin: &TypeOrigin) -> Option<&Interface> {
        if origin.exported { self.export(&origin.interface) } else { self.import(&origin.interface) }
    }
}

impl Interface {
    pub(crate) fn definition(&self, name: &str) -> Option<&TypeDefinition> {
        self.types.iter().find(|(own, _)| own == name).map(|(_, definition)| definition)
    }

    /// Returns whether the interface contains only value types: no functions and no resources.
    pub(crate) fn is_types_only(&self) -> bool {
        self.functions.is_empty() && !self.types.iter().any(|(_, definition)| *definition == TypeDefinition::Resource)
    }

    /// Returns the origins of all types that this interface uses from other interfaces.
    pub(crate) fn uses(&self) -> impl Iterator<Item = &TypeOrigin> {
        self.types.iter().filter_map(|(_, definition)| match definition {
            TypeDefinition::Use(origin) => Some(origin),
            _ => None,
        })
    }
}
