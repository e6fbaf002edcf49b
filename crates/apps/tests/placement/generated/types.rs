//! Random types of WIT, their WIT text, and their layout in the canonical ABI.
//!
//! Layout and flattening are written from the component model's specification (`CanonicalABI.md`, "Alignment", "Element
//! Size", "Flattening") and share no code with the code under test.

use std::fmt::Write as _;

use crate::random::Random;

/// The maximum number of flat values in which parameters are passed. If there are more, they are passed in memory.
pub(crate) const FLAT_MAX: usize = 16;

/// A WIT type. A type that needs a name in WIT has a number, from which its name is formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    /// An integer: its size in bytes, and whether it is signed.
    Integer(u32, bool),
    F32,
    F64,
    Char,
    String,
    List(Box<Type>),
    Tuple(Vec<Type>),
    Option(Box<Type>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Record(usize, Vec<Type>),
    Variant(usize, Vec<Option<Type>>),
    /// An enum: its number and the number of its cases.
    Enum(usize, usize),
    /// A set of flags: its number and the number of flags, at most 32.
    Flags(usize, usize),
}

/// The type of a flat value, which is a value of core WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flat {
    I32,
    I64,
    F32,
    F64,
}

impl Flat {
    /// Returns the name of the type in the text format of WebAssembly.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// Returns the smallest type that can hold the bits of both types.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::I32, Self::F32) | (Self::F32, Self::I32) => Self::I32,
            _ => Self::I64,
        }
    }
}

/// Returns `offset` rounded up to a multiple of `align`.
pub(crate) fn round_up(offset: u32, align: u32) -> u32 {
    offset.next_multiple_of(align)
}

/// Returns the layout of a record or tuple: the offsets of its fields, its size and its alignment.
pub(crate) fn fields(types: &[Type]) -> (Vec<u32>, u32, u32) {
    let (mut offsets, mut end, mut align) = (Vec::with_capacity(types.len()), 0, 1);
    for ty in types {
        let offset = round_up(end, ty.align());
        offsets.push(offset);
        end = offset + ty.size();
        align = align.max(ty.align());
    }
    (offsets, round_up(end, align), align)
}

/// Returns the flat types of all parameters or fields.
pub(crate) fn flat_all(types: &[Type]) -> Vec<Flat> {
    types.iter().flat_map(Type::flat).collect()
}

impl Type {
    /// Returns the payloads of the cases, if the canonical ABI treats the type as a variant.
    pub(crate) fn cases(&self) -> Option<Vec<Option<&Type>>> {
        match self {
            Self::Variant(_, cases) => Some(cases.iter().map(Option::as_ref).collect()),
            Self::Option(ty) => Some(vec![None, Some(&**ty)]),
            Self::Result(ok, error) => Some(vec![ok.as_deref(), error.as_deref()]),
            Self::Enum(_, names) => Some(vec![None; *names]),
            _ => None,
        }
    }

    /// Returns the types of the fields, if the canonical ABI treats the type as a record.
    pub(crate) fn parts(&self) -> Option<&[Type]> {
        match self {
            Self::Record(_, parts) | Self::Tuple(parts) => Some(parts),
            _ => None,
        }
    }

    pub(crate) fn align(&self) -> u32 {
        match self {
            Self::Bool => 1,
            Self::Integer(bytes, _) => *bytes,
            Self::F32 | Self::Char | Self::String | Self::List(_) => 4,
            Self::F64 => 8,
            Self::Flags(_, names) => flags_bytes(*names),
            Self::Record(_, parts) | Self::Tuple(parts) => fields(parts).2,
            Self::Variant(..) | Self::Enum(..) | Self::Option(_) | Self::Result(..) => {
                let cases = self.cases().expect("the type is a variant");
                let payloads = cases.iter().flatten().map(|ty| ty.align());
                payloads.fold(discriminant_bytes(cases.len()), u32::max)
            }
        }
    }

    pub(crate) fn size(&self) -> u32 {
        match self {
            Self::Bool => 1,
            Self::Integer(bytes, _) => *bytes,
            Self::F32 | Self::Char => 4,
            Self::F64 | Self::String | Self::List(_) => 8,
            Self::Flags(_, names) => flags_bytes(*names),
            Self::Record(_, parts) | Self::Tuple(parts) => fields(parts).1,
            Self::Variant(..) | Self::Enum(..) | Self::Option(_) | Self::Result(..) => {
                let cases = self.cases().expect("the type is a variant");
                let payload = cases.iter().flatten().map(|ty| ty.size()).max().unwrap_or(0);
                round_up(self.payload_offset() + payload, self.align())
            }
        }
    }

    /// Returns the offset of a variant's payload.
    pub(crate) fn payload_offset(&self) -> u32 {
        let cases = self.cases().expect("the type is a variant");
        let align = cases.iter().flatten().map(|ty| ty.align()).max().unwrap_or(1);
        round_up(discriminant_bytes(cases.len()), align)
    }

    /// Returns the flat types into which a value of this type is flattened.
    pub(crate) fn flat(&self) -> Vec<Flat> {
        match self {
            Self::Bool | Self::Char | Self::Flags(..) => vec![Flat::I32],
            Self::Integer(bytes, _) => vec![if *bytes == 8 { Flat::I64 } else { Flat::I32 }],
            Self::F32 => vec![Flat::F32],
            Self::F64 => vec![Flat::F64],
            Self::String | Self::List(_) => vec![Flat::I32, Flat::I32],
            Self::Record(_, parts) | Self::Tuple(parts) => flat_all(parts),
            Self::Variant(..) | Self::Enum(..) | Self::Option(_) | Self::Result(..) => {
                let mut joined = vec![];
                for payload in self.cases().expect("the type is a variant").into_iter().flatten() {
                    for (index, flat) in payload.flat().into_iter().enumerate() {
                        match joined.get_mut(index) {
                            None => joined.push(flat),
                            Some(place) => *place = flat.join(*place),
                        }
                    }
                }
                joined.insert(0, Flat::I32);
                joined
            }
        }
    }

    /// Adds the names of the kinds of types that this type contains.
    pub(crate) fn traits(&self, traits: &mut Vec<&'static str>) {
        traits.push(match self {
            Self::Bool => "bool",
            Self::Integer(..) => "integer",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Char => "char",
            Self::String => "string",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Option(_) => "option",
            Self::Result(..) => "result",
            Self::Record(..) => "record",
            Self::Variant(..) => "variant",
            Self::Enum(..) => "enum",
            Self::Flags(..) => "flags",
        });
        if let Self::List(element) = self {
            match **element {
                Self::List(_) => traits.push("list of lists"),
                Self::String => traits.push("list of strings"),
                _ => {}
            }
            element.traits(traits);
        }
        let payloads = self.cases().into_iter().flatten().flatten();
        let first: Vec<_> = payloads.clone().filter_map(|ty| ty.flat().first().copied()).collect();
        if first.windows(2).any(|pair| pair[0] != pair[1]) {
            traits.push("joined flat values");
        }
        self.parts().into_iter().flatten().chain(payloads).for_each(|ty| ty.traits(traits));
    }

    /// Returns the WIT text with which other declarations refer to the type.
    pub(crate) fn reference(&self) -> String {
        let joined = |types: &[Type]| types.iter().map(Type::reference).collect::<Vec<_>>().join(", ");
        let or_none = |ty: &Option<Box<Type>>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| ty.reference());
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Integer(bytes, signed) => format!("{}{}", if *signed { 's' } else { 'u' }, bytes * 8),
            Self::F32 => "f32".to_owned(),
            Self::F64 => "f64".to_owned(),
            Self::Char => "char".to_owned(),
            Self::String => "string".to_owned(),
            Self::List(ty) => format!("list<{}>", ty.reference()),
            Self::Tuple(types) => format!("tuple<{}>", joined(types)),
            Self::Option(ty) => format!("option<{}>", ty.reference()),
            Self::Result(None, None) => "result".to_owned(),
            Self::Result(ok, None) => format!("result<{}>", or_none(ok)),
            Self::Result(ok, error) => format!("result<{}, {}>", or_none(ok), or_none(error)),
            Self::Record(number, _) => format!("r{number}"),
            Self::Variant(number, _) => format!("v{number}"),
            Self::Enum(number, _) => format!("e{number}"),
            Self::Flags(number, _) => format!("flags{number}"),
        }
    }

    /// Writes the WIT definitions of all named types in this type. Each definition comes after those that it refers to.
    /// Types in `done` are already defined.
    pub(crate) fn define(&self, wit: &mut String, done: &mut Vec<String>) {
        let mut inner = |types: &mut dyn Iterator<Item = &Type>| types.for_each(|ty| ty.define(wit, done));
        match self {
            Self::List(ty) | Self::Option(ty) => return ty.define(wit, done),
            Self::Tuple(types) => return inner(&mut types.iter()),
            Self::Result(ok, error) => return inner(&mut ok.as_deref().into_iter().chain(error.as_deref())),
            Self::Record(_, types) => inner(&mut types.iter()),
            Self::Variant(_, cases) => inner(&mut cases.iter().flatten()),
            Self::Enum(..) | Self::Flags(..) => {}
            _ => return,
        }
        let name = self.reference();
        if done.contains(&name) {
            return;
        }
        let numbered = |count: usize| (0..count).map(|number| format!("n{number}")).collect::<Vec<_>>().join(", ");
        let _ = match self {
            Self::Record(_, types) => {
                let fields = types.iter().enumerate().map(|(number, ty)| format!("n{number}: {}", ty.reference()));
                writeln!(wit, "record {name} {{ {} }}", fields.collect::<Vec<_>>().join(", "))
            }
            Self::Variant(_, cases) => {
                let cases = cases.iter().enumerate().map(|(number, ty)| match ty {
                    Some(ty) => format!("n{number}({})", ty.reference()),
                    None => format!("n{number}"),
                });
                writeln!(wit, "variant {name} {{ {} }}", cases.collect::<Vec<_>>().join(", "))
            }
            Self::Enum(_, count) => writeln!(wit, "enum {name} {{ {} }}", numbered(*count)),
            Self::Flags(_, count) => writeln!(wit, "flags {name} {{ {} }}", numbered(*count)),
            _ => unreachable!("the type has no name"),
        };
        done.push(name);
    }
}

/// Returns the size in bytes of the discriminant of a variant.
pub(crate) fn discriminant_bytes(cases: usize) -> u32 {
    if cases <= 1 << 8 { 1 } else { 2 }
}

/// Returns the size in bytes of a set of flags.
pub(crate) fn flags_bytes(names: usize) -> u32 {
    match names {
        ..=8 => 1,
        9..=16 => 2,
        _ => 4,
    }
}

/// Generates random types. A named type is sometimes used again.
#[derive(Debug, Default)]
pub(crate) struct TypeMaker {
    named: Vec<Type>,
}

impl TypeMaker {
    /// Generates a type with at most `depth` levels of nested types.
    pub(crate) fn make(&mut self, random: &mut Random, depth: usize) -> Type {
        if depth == 0 || random.one_in(4) {
            return self.plain(random);
        }
        match random.below(9) {
            0 | 1 => Type::List(self.inner(random, depth)),
            2 => Type::Option(self.inner(random, depth)),
            3 => Type::Tuple(self.several(random, depth, 4)),
            4 => {
                let mut side = |maker: &mut Self| (!random.one_in(4)).then(|| maker.inner(random, depth));
                let ok = side(self);
                Type::Result(ok, side(self))
            }
            5 | 6 => {
                let parts = self.several(random, depth, 5);
                self.name(|number| Type::Record(number, parts))
            }
            7 => {
                let mut cases: Vec<_> = self.several(random, depth, 5).into_iter().map(Some).collect();
                cases.iter_mut().filter(|_| random.one_in(4)).for_each(|case| *case = None);
                self.name(|number| Type::Variant(number, cases))
            }
            _ => match self.named.len() {
                0 => self.plain(random),
                known => self.named[random.below(known)].clone(),
            },
        }
    }

    fn plain(&mut self, random: &mut Random) -> Type {
        match random.below(12) {
            0 => Type::Bool,
            1..=5 => Type::Integer(1 << random.below(4), random.one_in(2)),
            6 => Type::F32,
            7 => Type::F64,
            8 => Type::Char,
            9 | 10 => Type::String,
            _ => {
                let flags = random.one_in(2);
                let names =
                    *random.pick(&if flags { [1, 7, 8, 9, 16, 17, 31, 32] } else { [1, 2, 3, 5, 40, 255, 256, 257] });
                self.name(|number| if flags { Type::Flags(number, names) } else { Type::Enum(number, names) })
            }
        }
    }

    fn inner(&mut self, random: &mut Random, depth: usize) -> Box<Type> {
        Box::new(self.make(random, depth - 1))
    }

    fn several(&mut self, random: &mut Random, depth: usize, most: usize) -> Vec<Type> {
        let count = random.between(1, most);
        (0..count).map(|_| self.make(random, depth - 1)).collect()
    }

    fn name(&mut self, make: impl FnOnce(usize) -> Type) -> Type {
        let ty = make(self.named.len());
        self.named.push(ty.clone());
        ty
    }
}
