//! The types of the values that cross seams. Each has a layout in memory and a layout as flat core values.
//!
//! Names of types are resolved here. Two interfaces with the same record share one entry, so code for a type is
//! generated once. The rules of layout and flattening are the canonical ABI's rules (`CanonicalABI.md` of the component
//! model, "Alignment", "Element Size" and "Flattening"), for 32-bit memories.

use std::collections::HashMap;

use wasm_encoder::ValType;
use wasmparser::PrimitiveValType as Primitive;

use crate::world::{Interface, TypeDefinition, ValueType, World};

/// The maximum number of flat core values in which parameters (including the parameters of `task.return`) are passed.
/// If there are more, the parameters are passed in memory.
pub(crate) const FLAT_MAX: usize = 16;

/// The index of a type in [`Types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TypeId(u32);

/// The types that one stub or skeleton uses.
#[derive(Debug, Default)]
pub(crate) struct Types {
    entries: Vec<TypeEntry>,
    /// The ids of the types, by their structure as text.
    known: HashMap<String, TypeId>,
    /// The results of [`Types::add`] for names, by the interface (identified by its address) and the name. Without
    /// them, a type that contains another type twice, on several levels, would be visited exponentially often.
    named: HashMap<(usize, String), Option<TypeId>>,
}

#[derive(Debug)]
struct TypeEntry {
    /// How other types refer to this type: a primitive type, or a name in [`Types::interface`].
    reference: ValueType,
    /// The definition of the type; `None` for a primitive type.
    definition: Option<ValueType>,
    layout: Layout,
}

/// The layout of a type's values in memory and as flat core values.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The size in bytes. It is a multiple of `align`, and never 0.
    pub(crate) size: u32,
    pub(crate) align: u32,
    /// The types of the flat core values; `None` if there are more than [`FLAT_MAX`].
    pub(crate) flat: Option<Vec<ValType>>,
    pub(crate) kind: Kind,
    /// Whether values must be checked, because some bit patterns are not values of the type.
    pub(crate) checked: bool,
    /// Whether values contain pointers.
    pub(crate) points: bool,
}

/// The structure of a type's values in memory.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A scalar. Needs no check, because the canonical ABI accepts every bit pattern.
    Scalar(Scalar),
    /// A Unicode scalar value.
    Char,
    /// A WIT `string`: the address of UTF-8 text, followed by the text's length in bytes.
    String,
    /// A WIT `list` with elements of this type: the address of the elements, followed by their number.
    List(TypeId),
    /// Fields, each with its offset and its type.
    Record(Vec<(u32, TypeId)>),
    /// A discriminant, followed by a payload in some cases.
    Variant {
        /// The type of the discriminant.
        tag: Scalar,
        cases: Vec<Option<TypeId>>,
        payload_offset: u32,
    },
}

/// The type of a scalar, which determines how it is loaded and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    U8,
    S8,
    U16,
    S16,
    I32,
    I64,
    F32,
    F64,
}

impl Scalar {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Scalar::U8 | Scalar::S8 => 1,
            Scalar::U16 | Scalar::S16 => 2,
            Scalar::I32 | Scalar::F32 => 4,
            Scalar::I64 | Scalar::F64 => 8,
        }
    }

    pub(crate) fn flat(self) -> ValType {
        match self {
            Scalar::I64 => ValType::I64,
            Scalar::F32 => ValType::F32,
            Scalar::F64 => ValType::F64,
            _ => ValType::I32,
        }
    }

    fn tag(cases: usize) -> Self {
        match cases {
            0..=0x100 => Scalar::U8,
            0x101..=0x1_0000 => Scalar::U16,
            _ => Scalar::I32,
        }
    }
}

impl Types {
    /// Adds a type of an interface and returns its id. Returns `None` if no stub or skeleton can encode the type. All
    /// interfaces must belong to `world`, which must be the same in each call.
    pub(crate) fn add(&mut self, world: &World, interface: &Interface, ty: &ValueType) -> Option<TypeId> {
        let ValueType::Named(name) = ty else { return self.add_resolved(world, interface, ty) };
        let key = (std::ptr::from_ref(interface).addr(), name.clone());
        if let Some(known) = self.named.get(&key) {
            return *known;
        }
        let id = self.add_resolved(world, interface, ty);
        self.named.insert(key, id);
        id
    }

    fn add_resolved(&mut self, world: &World, interface: &Interface, ty: &ValueType) -> Option<TypeId> {
        let (scope, ty) = world.resolve(interface, ty)?;
        let mut add = |ty: &ValueType| self.add(world, scope, ty);
        match ty {
            ValueType::Primitive(primitive) => self.primitive(*primitive),
            ValueType::Record(fields) => {
                let ids = fields.iter().map(|(_, ty)| add(ty)).collect::<Option<Vec<_>>>()?;
                let named = fields.iter().zip(&ids).map(|((name, _), id)| (name.clone(), self.reference(*id).clone()));
                let definition = ValueType::Record(named.collect());
                let layout = self.record(&ids);
                Some(self.define(definition, layout))
            }
            ValueType::Tuple(types) => {
                let ids = types.iter().map(add).collect::<Option<Vec<_>>>()?;
                let definition = ValueType::Tuple(ids.iter().map(|id| self.reference(*id).clone()).collect());
                let layout = self.record(&ids);
                Some(self.define(definition, layout))
            }
            ValueType::Variant(cases) => {
                let mut ids = Vec::with_capacity(cases.len());
                for (_, ty) in cases {
                    ids.push(match ty {
                        Some(ty) => Some(add(ty)?),
                        None => None,
                    });
                }
                let named = cases
                    .iter()
                    .zip(&ids)
                    .map(|((name, _), id)| (name.clone(), id.map(|id| self.reference(id).clone())));
                let definition = ValueType::Variant(named.collect());
                let layout = self.variant(ids);
                Some(self.define(definition, layout))
            }
            ValueType::Enum(names) => {
                let layout = self.variant(vec![None; names.len()]);
                Some(self.define(ty.clone(), layout))
            }
            ValueType::Flags(names) => {
                let scalar = match names.len() {
                    1..=8 => Scalar::U8,
                    9..=16 => Scalar::U16,
                    17..=32 => Scalar::I32,
                    _ => return None,
                };
                Some(self.define(ty.clone(), Layout::scalar(scalar)))
            }
            ValueType::List(element) => {
                let element = add(element)?;
                let definition = ValueType::List(Box::new(self.reference(element).clone()));
                Some(self.define(definition, Layout::pointer(Kind::List(element))))
            }
            ValueType::Option(payload) => {
                let payload = add(payload)?;
                let definition = ValueType::Option(Box::new(self.reference(payload).clone()));
                let layout = self.variant(vec![None, Some(payload)]);
                Some(self.define(definition, layout))
            }
            ValueType::Result(ok, error) => {
                let mut ids = [None, None];
                for (id, ty) in ids.iter_mut().zip([ok, error]) {
                    if let Some(ty) = ty {
                        *id = Some(add(ty)?);
                    }
                }
                let boxed = |id: Option<TypeId>| id.map(|id| Box::new(self.reference(id).clone()));
                let definition = ValueType::Result(boxed(ids[0]), boxed(ids[1]));
                let layout = self.variant(ids.to_vec());
                Some(self.define(definition, layout))
            }
            ValueType::Named(_)
            | ValueType::Own(_)
            | ValueType::Borrow(_)
            | ValueType::FixedList(..)
            | ValueType::Map(..)
            | ValueType::Stream(_)
            | ValueType::Future(_) => None,
        }
    }

    pub(crate) fn layout(&self, id: TypeId) -> &Layout {
        &self.entries[id.0 as usize].layout
    }

    /// Returns how other types refer to the type `id`: a primitive type, or a name in [`Types::interface`].
    pub(crate) fn reference(&self, id: TypeId) -> &ValueType {
        &self.entries[id.0 as usize].reference
    }

    /// Returns the layout of a tuple of these types, such as parameters in memory.
    pub(crate) fn tuple(&self, ids: &[TypeId]) -> Layout {
        self.record(ids)
    }

    /// Returns an interface that contains all named types and nothing else.
    pub(crate) fn interface(&self, name: &str) -> Interface {
        let types = self.entries.iter().filter_map(|entry| match (&entry.reference, &entry.definition) {
            (ValueType::Named(name), Some(definition)) => {
                Some((name.clone(), TypeDefinition::Value(definition.clone())))
            }
            _ => None,
        });
        Interface { name: name.to_owned(), types: types.collect(), functions: Default::default() }
    }

    fn primitive(&mut self, primitive: Primitive) -> Option<TypeId> {
        let layout = match primitive {
            Primitive::Bool | Primitive::U8 => Layout::scalar(Scalar::U8),
            Primitive::S8 => Layout::scalar(Scalar::S8),
            Primitive::U16 => Layout::scalar(Scalar::U16),
            Primitive::S16 => Layout::scalar(Scalar::S16),
            Primitive::U32 | Primitive::S32 => Layout::scalar(Scalar::I32),
            Primitive::U64 | Primitive::S64 => Layout::scalar(Scalar::I64),
            Primitive::F32 => Layout::scalar(Scalar::F32),
            Primitive::F64 => Layout::scalar(Scalar::F64),
            Primitive::Char => Layout { kind: Kind::Char, checked: true, ..Layout::scalar(Scalar::I32) },
            Primitive::String => Layout::pointer(Kind::String),
            Primitive::ErrorContext => return None,
        };
        let reference = ValueType::Primitive(primitive);
        let key = format!("{reference:?}");
        Some(self.insert(key, |_| TypeEntry { reference, definition: None, layout }))
    }

    fn define(&mut self, definition: ValueType, layout: Layout) -> TypeId {
        let key = format!("{definition:?}");
        self.insert(key, |id| TypeEntry {
            reference: ValueType::Named(format!("t{id}")),
            definition: Some(definition),
            layout,
        })
    }

    fn insert(&mut self, key: String, entry: impl FnOnce(u32) -> TypeEntry) -> TypeId {
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let number = u32::try_from(self.entries.len()).expect("a component has fewer types");
        self.entries.push(entry(number));
        self.known.insert(key, TypeId(number));
        TypeId(number)
    }

    fn record(&self, ids: &[TypeId]) -> Layout {
        let (mut offset, mut align, mut checked, mut points) = (0_u32, 1, false, false);
        let mut flat = Some(Vec::new());
        let mut fields = Vec::with_capacity(ids.len());
        for id in ids {
            let field = self.layout(*id);
            offset = offset.next_multiple_of(field.align);
            fields.push((offset, *id));
            offset += field.size;
            align = align.max(field.align);
            checked |= field.checked;
            points |= field.points;
            flat = joined_to(flat, field.flat.as_deref());
        }
        Layout { size: offset.next_multiple_of(align), align, flat, kind: Kind::Record(fields), checked, points }
    }

    fn variant(&self, cases: Vec<Option<TypeId>>) -> Layout {
        let tag = Scalar::tag(cases.len());
        let payloads = || cases.iter().flatten().map(|id| self.layout(*id));
        let payload_align = payloads().map(|payload| payload.align).max().unwrap_or(1);
        let payload_size = payloads().map(|payload| payload.size).max().unwrap_or(0);
        let align = tag.bytes().max(payload_align);
        let payload_offset = tag.bytes().next_multiple_of(payload_align);
        let mut joined: Option<Vec<ValType>> = Some(Vec::new());
        for payload in payloads() {
            joined = joined.zip(payload.flat.as_deref()).map(|(mut joined, flat)| {
                for (slot, ty) in joined.iter_mut().zip(flat) {
                    *slot = join(*slot, *ty);
                }
                joined.extend(flat.iter().skip(joined.len()).copied().collect::<Vec<_>>());
                joined
            });
        }
        let points = payloads().any(|payload| payload.points);
        Layout {
            size: (payload_offset + payload_size).next_multiple_of(align),
            align,
            flat: joined_to(Some(vec![ValType::I32]), joined.as_deref()),
            kind: Kind::Variant { tag, cases, payload_offset },
            checked: true,
            points,
        }
    }
}

impl Layout {
    fn scalar(scalar: Scalar) -> Self {
        let flat = Some(vec![scalar.flat()]);
        let (size, align) = (scalar.bytes(), scalar.bytes());
        Layout { size, align, flat, kind: Kind::Scalar(scalar), checked: false, points: false }
    }

    fn pointer(kind: Kind) -> Self {
        Layout { size: 8, align: 4, flat: Some(vec![ValType::I32, ValType::I32]), kind, checked: true, points: true }
    }
}

/// Concatenates two lists of flat values. Returns `None` if there are more than [`FLAT_MAX`].
fn joined_to(left: Option<Vec<ValType>>, right: Option<&[ValType]>) -> Option<Vec<ValType>> {
    let (mut left, right) = left.zip(right)?;
    left.extend_from_slice(right);
    (left.len() <= FLAT_MAX).then_some(left)
}

/// Returns the core type that can hold the bits of both types.
fn join(left: ValType, right: ValType) -> ValType {
    match (left, right) {
        _ if left == right => left,
        (ValType::I32, ValType::F32) | (ValType::F32, ValType::I32) => ValType::I32,
        _ => ValType::I64,
    }
}
