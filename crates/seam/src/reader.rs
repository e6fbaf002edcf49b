//! Reads the bytes of a component into a [`World`].
//!
//! The validator provides the type information. Function bodies are not checked here, because the compiler validates
//! them. Type indices and the validator's ids are used only in this file: a [`World`] refers to types by name.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncTypeId,
    ComponentInstanceTypeId, ComponentValType, ResourceId,
};
use wasmparser::types::Types;
use wasmparser::{BinaryReaderError, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use crate::error::SeamError;
use crate::world::{Function, Interface, TypeDefinition, TypeOrigin, ValueType, World};

/// The version and layer in the header of a component.
const COMPONENT_VERSION: (u16, u16) = (13, 1);
/// The version and layer in the header of a core module.
const MODULE_VERSION: (u16, u16) = (1, 0);

/// Returns the interfaces that a component imports and exports.
pub(crate) fn world(bytes: &[u8]) -> Result<World, SeamError> {
    check_header(bytes)?;
    let Surface { imports, exports, types } = surface(bytes)?;
    let mut reader = Reader { types: &types, values: HashMap::new(), resources: HashMap::new() };
    let mut world = World::default();
    for name in imports {
        let item = types.component_item_for_import(&name).expect("the validator knows every import");
        match item.ty {
            ComponentEntityType::Instance(id) if is_interface_name(&name) => {
                world.imports.push(reader.interface(name, id, false)?);
            }
            ComponentEntityType::Module(_) => {
                return Err(SeamError::NotWit { item: "import", name, what: "a core module" });
            }
            ComponentEntityType::Component(_) => {
                return Err(SeamError::NotWit { item: "import", name, what: "a component" });
            }
            _ => world.loose_imports.push(name),
        }
    }
    let mut only_types = world.imports.is_empty() && !exports.is_empty();
    for name in exports {
        let item = types.component_item_for_export(&name).expect("the validator knows every export");
        only_types &= matches!(item.ty, ComponentEntityType::Type { .. });
        if let ComponentEntityType::Instance(id) = item.ty
            && is_interface_name(&name)
        {
            world.exports.push(reader.interface(name, id, true)?);
        }
    }
    if only_types { Err(SeamError::WitPackage) } else { Ok(world) }
}

/// Returns whether a name has the form `namespace:package/interface`. If not, it is a label.
fn is_interface_name(name: &str) -> bool {
    name.contains(':') && name.contains('/')
}

fn check_header(bytes: &[u8]) -> Result<(), SeamError> {
    let found = match bytes {
        [] => "the file is empty",
        [b'\0', b'a', b's', b'm', v0, v1, l0, l1, ..] => {
            let version = u16::from_le_bytes([*v0, *v1]);
            let layer = u16::from_le_bytes([*l0, *l1]);
            return match (version, layer) {
                COMPONENT_VERSION => Ok(()),
                MODULE_VERSION => Err(SeamError::CoreModule),
                _ => Err(SeamError::WrongVersion { version, layer }),
            };
        }
        [b'\0', b'a', b's', b'm', ..] => "the header is cut off",
        [b'\x7f', b'E', b'L', b'F', ..] => "it is a native program (ELF)",
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            "it is WebAssembly text, which must be turned into binary first"
        }
        _ => "it does not begin with `\\0asm`",
    };
    Err(SeamError::NotWasm { found })
}

/// The imports and exports of a component in the component's order, and the validator's types.
struct Surface {
    imports: Vec<String>,
    exports: Vec<String>,
    types: Types,
}

/// Validates a component without its function bodies.
pub(crate) fn validate(bytes: &[u8]) -> Result<(), BinaryReaderError> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    Parser::new(0).parse_all(bytes).try_for_each(|payload| validator.payload(&payload?).map(drop))
}

/// Validates a component without its function bodies, and returns the types of its items.
pub(crate) fn types(bytes: &[u8]) -> Result<Types, SeamError> {
    Ok(surface(bytes)?.types)
}

fn surface(bytes: &[u8]) -> Result<Surface, SeamError> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let (mut imports, mut exports, mut depth) = (vec![], vec![], 0_usize);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(SeamError::Invalid)?;
        match validator.payload(&payload).map_err(SeamError::Invalid)? {
            ValidPayload::Ok if depth == 0 => match payload {
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        imports.push(import.map_err(SeamError::Invalid)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section {
                        exports.push(export.map_err(SeamError::Invalid)?.name.name.to_owned());
                    }
                }
                _ => {}
            },
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::End(types) if depth == 0 => {
                return Ok(Surface { imports, exports, types });
            }
            ValidPayload::End(_) => depth -= 1,
            ValidPayload::Ok | ValidPayload::Func(..) => {}
        }
    }
    Err(SeamError::NotWasm { found: "the component is cut off" })
}

/// Reads interfaces. Contains the types of all interfaces that have been read so far, by their ids.
struct Reader<'a> {
    types: &'a Types,
    values: HashMap<ComponentAnyTypeId, TypeOrigin>,
    resources: HashMap<ResourceId, TypeOrigin>,
}

/// The types of the interface that is being read: their names in the interface, by their ids.
#[derive(Default)]
struct Scope {
    values: HashMap<ComponentAnyTypeId, String>,
    resources: HashMap<ResourceId, String>,
}

impl Reader<'_> {
    fn interface(&mut self, name: String, id: ComponentInstanceTypeId, exported: bool) -> Result<Interface, SeamError> {
        let refuse =
            |what| SeamError::NotWit { item: if exported { "export" } else { "import" }, name: name.clone(), what };
        let mut interface = Interface { name: name.clone(), types: vec![], functions: Default::default() };
        let mut scope = Scope::default();
        for (export, item) in &self.types[id].exports {
            match item.ty {
                ComponentEntityType::Func(id) => {
                    let function = self.function(id, &scope).map_err(refuse)?;
                    interface.functions.insert(export.clone(), function);
                }
                ComponentEntityType::Type { referenced, created } => {
                    let definition = self.definition(referenced, &scope).map_err(refuse)?;
                    self.register(export, created, &name, exported, &mut scope);
                    interface.types.push((export.clone(), definition));
                }
                _ => {
                    return Err(refuse("an instance with something other than types and functions"));
                }
            }
        }
        Ok(interface)
    }

    fn register(&mut self, export: &str, id: ComponentAnyTypeId, interface: &str, exported: bool, scope: &mut Scope) {
        let origin = || TypeOrigin { exported, interface: interface.to_owned(), name: export.to_owned() };
        scope.values.insert(id, export.to_owned());
        self.values.insert(id, origin());
        if let ComponentAnyTypeId::Resource(id) = id {
            scope.resources.entry(id.resource()).or_insert_with(|| export.to_owned());
            self.resources.entry(id.resource()).or_insert_with(origin);
        }
    }

    fn definition(&self, id: ComponentAnyTypeId, scope: &Scope) -> Result<TypeDefinition, &'static str> {
        if let Some(own) = self.find(id, &scope.values) {
            return Ok(TypeDefinition::Value(ValueType::Named(own.clone())));
        }
        match id {
            ComponentAnyTypeId::Resource(id) => Ok(match scope.resources.get(&id.resource()) {
                Some(own) => TypeDefinition::Value(ValueType::Named(own.clone())),
                None => match self.resources.get(&id.resource()) {
                    Some(origin) => TypeDefinition::Use(origin.clone()),
                    None => TypeDefinition::Resource,
                },
            }),
            ComponentAnyTypeId::Defined(defined) => match self.find(id, &self.values) {
                Some(origin) => Ok(TypeDefinition::Use(origin.clone())),
                None => Ok(TypeDefinition::Value(self.structure(defined, scope)?)),
            },
            _ => Err("an instance that exports the type of a function, instance or component"),
        }
    }

    /// Returns the name of `id` in `names`. If `id` has no name there, follows the chain of aliases from `id`, and
    /// returns the name of the first type that has one.
    fn find<'m, T>(&self, id: ComponentAnyTypeId, names: &'m HashMap<ComponentAnyTypeId, T>) -> Option<&'m T> {
        let mut current = Some(id);
        while let Some(id) = current {
            if let Some(found) = names.get(&id) {
                return Some(found);
            }
            current = self.types.peel_alias(id);
        }
        None
    }

    fn function(&self, id: ComponentFuncTypeId, scope: &Scope) -> Result<Function, &'static str> {
        let function = &self.types[id];
        Ok(Function {
            is_async: function.async_,
            parameters: function
                .params
                .iter()
                .map(|(name, ty)| Ok((name.to_string(), self.value(*ty, scope)?)))
                .collect::<Result<_, _>>()?,
            result: function.result.map(|ty| self.value(ty, scope)).transpose()?,
        })
    }

    fn value(&self, ty: ComponentValType, scope: &Scope) -> Result<ValueType, &'static str> {
        match ty {
            ComponentValType::Primitive(primitive) => Ok(ValueType::Primitive(primitive)),
            ComponentValType::Type(id) => match self.find(ComponentAnyTypeId::Defined(id), &scope.values) {
                Some(name) => Ok(ValueType::Named(name.clone())),
                None => self.structure(id, scope),
            },
        }
    }

    fn structure(&self, id: ComponentDefinedTypeId, scope: &Scope) -> Result<ValueType, &'static str> {
        use ComponentDefinedType as Defined;
        let value = |ty: &ComponentValType| self.value(*ty, scope);
        let boxed = |ty: &ComponentValType| value(ty).map(Box::new);
        let optional = |ty: &Option<ComponentValType>| ty.as_ref().map(boxed).transpose();
        let handle = |resource: &ResourceId| {
            scope
                .resources
                .get(resource)
                .cloned()
                .ok_or("an instance with a handle of a resource that it does not name")
        };
        Ok(match &self.types[id] {
            Defined::Primitive(primitive) => ValueType::Primitive(*primitive),
            Defined::Record(record) => ValueType::Record(
                record.fields.iter().map(|(name, ty)| Ok((name.to_string(), value(ty)?))).collect::<Result<_, _>>()?,
            ),
            Defined::Variant(variant) => ValueType::Variant(
                variant
                    .cases
                    .iter()
                    .map(|(name, case)| Ok((name.to_string(), case.ty.as_ref().map(value).transpose()?)))
                    .collect::<Result<_, _>>()?,
            ),
            Defined::Tuple(tuple) => ValueType::Tuple(tuple.types.iter().map(value).collect::<Result<_, _>>()?),
            Defined::Flags(names) => ValueType::Flags(names.iter().map(ToString::to_string).collect()),
            Defined::Enum(names) => ValueType::Enum(names.iter().map(ToString::to_string).collect()),
            Defined::List { element, .. } => ValueType::List(boxed(element)?),
            Defined::FixedLengthList { element, length, .. } => ValueType::FixedList(boxed(element)?, *length),
            Defined::Map { key, value, .. } => ValueType::Map(boxed(key)?, boxed(value)?),
            Defined::Option { ty, .. } => ValueType::Option(boxed(ty)?),
            Defined::Result { ok, err, .. } => ValueType::Result(optional(ok)?, optional(err)?),
            Defined::Stream { ty, .. } => ValueType::Stream(optional(ty)?),
            Defined::Future { ty, .. } => ValueType::Future(optional(ty)?),
            Defined::Own(resource) => ValueType::Own(handle(&resource.resource())?),
            Defined::Borrow(resource) => ValueType::Borrow(handle(&resource.resource())?),
        })
    }
}
