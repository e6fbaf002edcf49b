//! Random types in WIT, and values of them.

use wasmtime::component::Val;

/// A random number generator (SplitMix64). The same seed gives the same numbers on every platform.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).expect("the number fits")).expect("the number fits")
    }
}

/// Returns the seed from the environment variable `ISOMER_SEED`, or `default`.
pub(crate) fn seed(default: u64) -> u64 {
    std::env::var("ISOMER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default)
}

/// Returns whether the environment variable `ISOMER_LONG` enables the long run.
pub(crate) fn long() -> bool {
    std::env::var_os("ISOMER_LONG").is_some()
}

#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Scalar(&'static str),
    String,
    List(Box<Shape>),
    Option(Box<Shape>),
    Result(Option<Box<Shape>>, Option<Box<Shape>>),
    Tuple(Vec<Shape>),
    /// A record: the number in its name, and its fields. All named types have such a number.
    Record(usize, Vec<Shape>),
    Variant(usize, Vec<Option<Shape>>),
    Enum(usize, usize),
    Flags(usize, usize),
}

const SCALARS: [&str; 12] = ["bool", "u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "char"];

/// The types of one package. The definitions of named types are in `definitions`.
#[derive(Default)]
pub(crate) struct Shapes {
    pub(crate) definitions: String,
    names: usize,
}

impl Shapes {
    pub(crate) fn shape(&mut self, random: &mut Random, depth: usize) -> Shape {
        if depth == 0 || random.below(4) == 0 {
            return match random.below(16) {
                scalar @ 0..12 => Shape::Scalar(SCALARS[scalar]),
                12 => {
                    let cases = [1, 2, 3, 256, 257][random.below(5)];
                    let name = self.name();
                    let names: Vec<_> = (0..cases).map(|case| format!("c{case}")).collect();
                    self.definitions += &format!("enum n{name} {{ {} }}\n", names.join(", "));
                    Shape::Enum(name, cases)
                }
                13 => {
                    let flags = [1, 8, 9, 16, 17, 32][random.below(6)];
                    let name = self.name();
                    let names: Vec<_> = (0..flags).map(|flag| format!("b{flag}")).collect();
                    self.definitions += &format!("flags n{name} {{ {} }}\n", names.join(", "));
                    Shape::Flags(name, flags)
                }
                _ => Shape::String,
            };
        }
        let first = self.shape(random, depth - 1);
        self.composite(random, depth, first)
    }

    fn composite(&mut self, random: &mut Random, depth: usize, first: Shape) -> Shape {
        match random.below(6) {
            0 => Shape::List(Box::new(first)),
            1 => Shape::Option(Box::new(first)),
            2 => {
                let second = self.shape(random, depth - 1);
                let mut maybe = |shape| (random.below(4) > 0).then(|| Box::new(shape));
                Shape::Result(maybe(first), maybe(second))
            }
            3 => {
                let mut parts = vec![first];
                (0..random.below(5)).for_each(|_| parts.push(self.shape(random, depth - 1)));
                Shape::Tuple(parts)
            }
            4 => {
                let mut parts = vec![first];
                (0..random.below(8)).for_each(|_| parts.push(self.shape(random, depth - 1)));
                let name = self.name();
                let fields: Vec<_> =
                    parts.iter().enumerate().map(|(field, shape)| format!("f{field}: {}", shape.text())).collect();
                self.definitions += &format!("record n{name} {{ {} }}\n", fields.join(", "));
                Shape::Record(name, parts)
            }
            _ => {
                let mut parts = vec![Some(first)];
                for _ in 0..random.below(5) {
                    let shape = self.shape(random, depth - 1);
                    parts.push((random.below(3) > 0).then_some(shape));
                }
                let name = self.name();
                let case = |(case, shape): (usize, &Option<Shape>)| match shape {
                    Some(shape) => format!("c{case}({})", shape.text()),
                    None => format!("c{case}"),
                };
                let cases: Vec<_> = parts.iter().enumerate().map(case).collect();
                self.definitions += &format!("variant n{name} {{ {} }}\n", cases.join(", "));
                Shape::Variant(name, parts)
            }
        }
    }

    fn name(&mut self) -> usize {
        self.names += 1;
        self.names
    }
}

impl Shape {
    pub(crate) fn text(&self) -> String {
        let optional = |shape: &Option<Box<Shape>>| shape.as_ref().map_or("_".to_owned(), |shape| shape.text());
        match self {
            Shape::Scalar(name) => (*name).to_owned(),
            Shape::String => "string".to_owned(),
            Shape::List(element) => format!("list<{}>", element.text()),
            Shape::Option(payload) => format!("option<{}>", payload.text()),
            Shape::Result(None, None) => "result".to_owned(),
            Shape::Result(Some(ok), None) => format!("result<{}>", ok.text()),
            Shape::Result(ok, error) => format!("result<{}, {}>", optional(ok), optional(error)),
            Shape::Tuple(parts) => {
                let parts: Vec<_> = parts.iter().map(Shape::text).collect();
                format!("tuple<{}>", parts.join(", "))
            }
            Shape::Record(name, _) | Shape::Variant(name, _) | Shape::Enum(name, _) | Shape::Flags(name, _) => {
                format!("n{name}")
            }
        }
    }

    /// Returns a random value of this shape. Edge cases are more frequent than in a uniform choice.
    pub(crate) fn value(&self, random: &mut Random) -> Val {
        let boxed =
            |shape: &Option<Box<Shape>>, random: &mut Random| shape.as_ref().map(|shape| Box::new(shape.value(random)));
        match self {
            Shape::Scalar(name) => scalar(name, random),
            Shape::String => string(random),
            Shape::List(element) => {
                let count = [0, 0, 1, 2, 3, 17][random.below(6)];
                Val::List((0..count).map(|_| element.value(random)).collect())
            }
            Shape::Option(payload) => Val::Option((random.below(3) > 0).then(|| Box::new(payload.value(random)))),
            Shape::Result(ok, error) => {
                Val::Result(if random.below(2) == 0 { Ok(boxed(ok, random)) } else { Err(boxed(error, random)) })
            }
            Shape::Tuple(parts) => Val::Tuple(parts.iter().map(|part| part.value(random)).collect()),
            Shape::Record(_, parts) => Val::Record(
                parts.iter().enumerate().map(|(field, part)| (format!("f{field}"), part.value(random))).collect(),
            ),
            Shape::Variant(_, cases) => {
                let case = random.below(cases.len());
                let payload = cases[case].as_ref().map(|shape| Box::new(shape.value(random)));
                Val::Variant(format!("c{case}"), payload)
            }
            Shape::Enum(_, cases) => Val::Enum(format!("c{}", random.below(*cases))),
            Shape::Flags(_, flags) => {
                let bits = random.next();
                Val::Flags((0..*flags).filter(|flag| bits >> flag & 1 == 1).map(|flag| format!("b{flag}")).collect())
            }
        }
    }
}

fn scalar(name: &str, random: &mut Random) -> Val {
    let bits = match random.below(4) {
        0 => 0,
        1 => u64::MAX,
        _ => random.next(),
    };
    let [byte, second, ..] = bits.to_le_bytes();
    let short = u16::from_le_bytes([byte, second]);
    let word = u32::try_from(bits & 0xFFFF_FFFF).expect("the number has 32 bits");
    match name {
        "bool" => Val::Bool(bits & 1 == 1),
        "u8" => Val::U8(byte),
        "s8" => Val::S8(byte.cast_signed()),
        "u16" => Val::U16(short),
        "s16" => Val::S16(short.cast_signed()),
        "u32" => Val::U32(word),
        "s32" => Val::S32(word.cast_signed()),
        "u64" => Val::U64(bits),
        "s64" => Val::S64(bits.cast_signed()),
        // NaN is excluded, because it does not equal itself. Separate tests cover NaN.
        "f32" => Val::Float32(Some(f32::from_bits(word)).filter(|float| !float.is_nan()).unwrap_or(-0.0)),
        "f64" => Val::Float64(Some(f64::from_bits(bits)).filter(|float| !float.is_nan()).unwrap_or(f64::INFINITY)),
        _ => Val::Char(char::from_u32(word % 0x11_0000).unwrap_or('\u{10FFFF}')),
    }
}

fn string(random: &mut Random) -> Val {
    const PIECES: [&str; 7] = ["", "a", "plain ASCII of some length, ", "grün", "日本語", "🦀", "\u{0}"];
    Val::String((0..random.below(6)).map(|_| PIECES[random.below(PIECES.len())]).collect())
}
