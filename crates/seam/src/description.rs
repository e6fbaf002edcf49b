//! Summarizes a [`World`] for planning.
//!
//! A function's hash covers its structure after all names have been resolved. So the hash does not change when a type
//! moves to another interface, but it changes when the type of any parameter or of the result changes. Resources are
//! identified by the name of their interface and the part of its version that decides compatibility.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use isomer_plan::{ComponentType, FunctionType, InterfaceId, InterfaceType, TypeHash, ValueClass};
use sha2::{Digest, Sha256};
use wasmparser::PrimitiveValType;

use crate::error::SeamError;
use crate::generate::{self, Types};
use crate::world::{Function, Interface, TypeDefinition, ValueType, World};

/// Returns the summary of a component's imports and exports for the plan.
pub(crate) fn component_type(world: &World) -> Result<ComponentType, SeamError> {
    let mut described = ComponentType { world_imports: world.loose_imports.clone(), ..ComponentType::default() };
    let mut types = Types::default();
    for interface in &world.imports {
        let ty = Describer { world, interface, item: "import", resolved: HashMap::new() }.describe(&mut types)?;
        described.imports.insert(ty.id.clone(), ty);
    }
    for interface in &world.exports {
        let ty = Describer { world, interface, item: "export", resolved: HashMap::new() }.describe(&mut types)?;
        described.exports.insert(ty.id.clone(), ty);
    }
    Ok(described)
}

/// The result of resolving a named type.
struct Resolved {
    hash: [u8; 32],
    contents: Contents,
}

/// The types inside a type that not every seam can carry: streams and futures, experimental types, and resources.
#[derive(Debug, Default, Clone)]
struct Contents {
    stream: Option<String>,
    /// The name of a type inside the type that is experimental: the engine disables it by default.
    experimental: Option<String>,
    resource: Option<String>,
    carried: BTreeSet<(InterfaceId, String)>,
}

struct Describer<'a> {
    world: &'a World,
    interface: &'a Interface,
    /// The word `import` or `export`, for error messages.
    item: &'static str,
    /// The types that were already resolved, by their interface (identified by its address) and their name.
    resolved: HashMap<(*const Interface, &'a str), Resolved>,
}

fn id_of(name: &str, item: &'static str) -> Result<InterfaceId, SeamError> {
    name.parse().map_err(|_| SeamError::NotWit {
        item,
        name: name.to_owned(),
        what: "an instance with an unusual name",
    })
}

impl<'a> Describer<'a> {
    fn describe(mut self, types: &mut Types) -> Result<InterfaceType, SeamError> {
        let interface = self.interface;
        let id = id_of(&interface.name, self.item)?;
        let mut functions = BTreeMap::new();
        let mut contents = Contents::default();
        for (name, function) in &interface.functions {
            let mut hasher = Sha256::new();
            hasher.update([u8::from(function.is_async)]);
            hasher.update((function.parameters.len() as u64).to_le_bytes());
            for (name, ty) in &function.parameters {
                text(&mut hasher, name);
                self.value(interface, ty, &mut hasher, &mut contents)?;
            }
            self.optional(interface, function.result.as_ref(), &mut hasher, &mut contents)?;
            let hash: [u8; 32] = hasher.finalize().into();
            let mut short = [0; 16];
            short.copy_from_slice(&hash[..16]);
            functions.insert(
                name.clone(),
                FunctionType {
                    is_async: function.is_async,
                    hash: TypeHash(short),
                    catches: catches(self.world, interface, function),
                    signature: signature(function),
                    parameters: generate::parameters(types, self.world, interface, name),
                },
            );
        }
        let resources: BTreeSet<_> = interface
            .types
            .iter()
            .filter(|(_, definition)| *definition == TypeDefinition::Resource)
            .map(|(name, _)| name.clone())
            .collect();
        let resource = contents.resource.or_else(|| resources.first().cloned());
        let class = match (resource, contents.stream, contents.experimental) {
            (Some(type_name), ..) => ValueClass::Pinned { type_name },
            (None, Some(type_name), _) => ValueClass::Streaming { type_name },
            (None, None, Some(type_name)) => ValueClass::Experimental { type_name },
            (None, None, None) => ValueClass::Plain,
        };
        let mut carries = contents.carried;
        carries.retain(|(owner, _)| *owner != id);
        Ok(InterfaceType {
            functions,
            types: interface.types.iter().map(|(name, ty)| (name.clone(), definition_text(ty))).collect(),
            class,
            resources,
            carries,
            uses: interface.uses().map(|origin| id_of(&origin.interface, self.item)).collect::<Result<_, _>>()?,
            id,
        })
    }

    /// Resolves the type `name` of `interface`.
    fn named(&mut self, interface: &'a Interface, name: &'a str) -> Result<&Resolved, SeamError> {
        let key = (std::ptr::from_ref(interface), name);
        if !self.resolved.contains_key(&key) {
            let resolved = match interface.definition(name).expect("every name of an interface is defined in it") {
                TypeDefinition::Use(origin) => {
                    let owner =
                        self.world.origin(origin).expect("a used type is defined by an interface that was read before");
                    let used = self.named(owner, &origin.name)?;
                    Resolved { hash: used.hash, contents: used.contents.clone() }
                }
                TypeDefinition::Resource => {
                    let owner = id_of(&interface.name, self.item)?;
                    let mut hasher = Sha256::new();
                    text(&mut hasher, "resource");
                    text(&mut hasher, &owner.track());
                    text(&mut hasher, name);
                    let contents = Contents {
                        stream: None,
                        experimental: None,
                        resource: Some(name.to_owned()),
                        carried: BTreeSet::from([(owner, name.to_owned())]),
                    };
                    Resolved { hash: hasher.finalize().into(), contents }
                }
                TypeDefinition::Value(ty) => {
                    let mut contents = Contents::default();
                    let hash = self.hash(interface, ty, &mut contents)?;
                    Resolved { hash, contents }
                }
            };
            self.resolved.insert(key, resolved);
        }
        Ok(&self.resolved[&key])
    }

    fn hash(
        &mut self,
        interface: &'a Interface,
        ty: &'a ValueType,
        contents: &mut Contents,
    ) -> Result<[u8; 32], SeamError> {
        // A name has the same hash as the type that it refers to.
        if let ValueType::Named(name) = ty {
            let resolved = self.named(interface, name)?;
            contents.add(&resolved.contents);
            return Ok(resolved.hash);
        }
        let mut hasher = Sha256::new();
        let mut each =
            |this: &mut Self, ty: &'a ValueType, hasher: &mut Sha256| this.value(interface, ty, hasher, contents);
        match ty {
            ValueType::Named(_) => {}
            ValueType::Primitive(primitive) => {
                text(&mut hasher, &primitive.to_string());
                if *primitive == PrimitiveValType::ErrorContext {
                    contents.experimental.get_or_insert_with(|| primitive.to_string());
                }
            }
            ValueType::Own(name) | ValueType::Borrow(name) => {
                text(&mut hasher, if matches!(ty, ValueType::Own(_)) { "own" } else { "borrow" });
                let resolved = self.named(interface, name)?;
                hasher.update(resolved.hash);
                contents.add(&resolved.contents);
            }
            ValueType::Record(fields) => {
                text(&mut hasher, "record");
                for (name, ty) in fields {
                    text(&mut hasher, name);
                    each(self, ty, &mut hasher)?;
                }
            }
            ValueType::Variant(cases) => {
                text(&mut hasher, "variant");
                for (name, ty) in cases {
                    text(&mut hasher, name);
                    self.optional(interface, ty.as_ref(), &mut hasher, contents)?;
                }
            }
            ValueType::Enum(names) | ValueType::Flags(names) => {
                text(&mut hasher, if matches!(ty, ValueType::Enum(_)) { "enum" } else { "flags" });
                names.iter().for_each(|name| text(&mut hasher, name));
            }
            ValueType::Tuple(types) => {
                text(&mut hasher, "tuple");
                types.iter().try_for_each(|ty| each(self, ty, &mut hasher))?;
            }
            ValueType::List(ty) => {
                text(&mut hasher, "list");
                each(self, ty, &mut hasher)?;
            }
            ValueType::FixedList(item, length) => {
                text(&mut hasher, "fixed-list");
                hasher.update(length.to_le_bytes());
                each(self, item, &mut hasher)?;
                contents.experimental.get_or_insert_with(|| value_text(ty));
            }
            ValueType::Map(key, value) => {
                text(&mut hasher, "map");
                each(self, key, &mut hasher)?;
                each(self, value, &mut hasher)?;
                contents.experimental.get_or_insert_with(|| value_text(ty));
            }
            ValueType::Option(ty) => {
                text(&mut hasher, "option");
                each(self, ty, &mut hasher)?;
            }
            ValueType::Result(ok, error) => {
                text(&mut hasher, "result");
                self.optional(interface, ok.as_deref(), &mut hasher, contents)?;
                self.optional(interface, error.as_deref(), &mut hasher, contents)?;
            }
            ValueType::Stream(payload) | ValueType::Future(payload) => {
                text(&mut hasher, if matches!(ty, ValueType::Stream(_)) { "stream" } else { "future" });
                self.optional(interface, payload.as_deref(), &mut hasher, contents)?;
                contents.stream.get_or_insert_with(|| value_text(ty));
            }
        }
        Ok(hasher.finalize().into())
    }

    fn value(
        &mut self,
        interface: &'a Interface,
        ty: &'a ValueType,
        hasher: &mut Sha256,
        contents: &mut Contents,
    ) -> Result<(), SeamError> {
        hasher.update(self.hash(interface, ty, contents)?);
        Ok(())
    }

    fn optional(
        &mut self,
        interface: &'a Interface,
        ty: Option<&'a ValueType>,
        hasher: &mut Sha256,
        contents: &mut Contents,
    ) -> Result<(), SeamError> {
        hasher.update([u8::from(ty.is_some())]);
        ty.map_or(Ok(()), |ty| self.value(interface, ty, hasher, contents))
    }
}

/// Returns whether the error type of the function's result can represent a lost call: it is `call-error`, or has a case
/// with a `call-error`.
fn catches(world: &World, interface: &Interface, function: &Function) -> bool {
    let Some(result) = &function.result else { return false };
    let Some((scope, ValueType::Result(_, Some(error)))) = world.resolve(interface, result) else { return false };
    if world.is_call_error(scope, error) {
        return true;
    }
    match world.resolve(scope, error) {
        Some((scope, ValueType::Variant(cases))) => {
            cases.iter().filter_map(|(_, ty)| ty.as_ref()).any(|ty| world.is_call_error(scope, ty))
        }
        _ => false,
    }
}

impl Contents {
    fn add(&mut self, other: &Contents) {
        self.stream = self.stream.take().or_else(|| other.stream.clone());
        self.experimental = self.experimental.take().or_else(|| other.experimental.clone());
        self.resource = self.resource.take().or_else(|| other.resource.clone());
        self.carried.extend(other.carried.iter().cloned());
    }
}

/// Hashes the length and the bytes of a text, so that different sequences of texts never have the same hash input.
fn text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text);
}

fn signature(function: &Function) -> String {
    let parameters: Vec<_> =
        function.parameters.iter().map(|(name, ty)| format!("{name}: {}", value_text(ty))).collect();
    let result = function.result.as_ref().map(|ty| format!(" -> {}", value_text(ty))).unwrap_or_default();
    format!("{}func({}){result}", if function.is_async { "async " } else { "" }, parameters.join(", "))
}

fn definition_text(definition: &TypeDefinition) -> String {
    match definition {
        TypeDefinition::Resource => "resource".to_owned(),
        TypeDefinition::Use(origin) => format!("{}.{{{}}}", origin.interface, origin.name),
        TypeDefinition::Value(ty) => value_text(ty),
    }
}

/// Returns `ty` in WIT notation. In WIT, records, variants, enums and flags can only be defined under a name. Here,
/// they are shown like such a definition, but without the name.
fn value_text(ty: &ValueType) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    let payload = |ty: &Option<Box<ValueType>>| ty.as_ref().map_or("_".to_owned(), |ty| value_text(ty));
    match ty {
        ValueType::Primitive(primitive) => primitive.to_string(),
        ValueType::Named(name) | ValueType::Own(name) => name.clone(),
        ValueType::Borrow(name) => format!("borrow<{name}>"),
        ValueType::Record(fields) => {
            format!(
                "record {{ {} }}",
                joined(fields.iter().map(|(n, ty)| format!("{n}: {}", value_text(ty))).collect())
            )
        }
        ValueType::Variant(cases) => {
            let case = |(name, ty): &(String, Option<ValueType>)| match ty {
                Some(ty) => format!("{name}({})", value_text(ty)),
                None => name.clone(),
            };
            format!("variant {{ {} }}", joined(cases.iter().map(case).collect()))
        }
        ValueType::Enum(names) => format!("enum {{ {} }}", names.join(", ")),
        ValueType::Flags(names) => format!("flags {{ {} }}", names.join(", ")),
        ValueType::Tuple(types) => {
            format!("tuple<{}>", joined(types.iter().map(value_text).collect()))
        }
        ValueType::List(ty) => format!("list<{}>", value_text(ty)),
        ValueType::FixedList(ty, length) => format!("list<{}, {length}>", value_text(ty)),
        ValueType::Map(key, value) => format!("map<{}, {}>", value_text(key), value_text(value)),
        ValueType::Option(ty) => format!("option<{}>", value_text(ty)),
        ValueType::Result(None, None) => "result".to_owned(),
        ValueType::Result(ok, None) => format!("result<{}>", payload(ok)),
        ValueType::Result(ok, error) => format!("result<{}, {}>", payload(ok), payload(error)),
        ValueType::Stream(None) => "stream".to_owned(),
        ValueType::Future(None) => "future".to_owned(),
        ValueType::Stream(ty) => format!("stream<{}>", payload(ty)),
        ValueType::Future(ty) => format!("future<{}>", payload(ty)),
    }
}
