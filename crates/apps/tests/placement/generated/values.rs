//! Random values of the generated types. Most are small; many are edge cases, and some are large.

use super::types::Type;
use crate::random::Random;

/// A value of a WIT type. A float is stored as its bits, so that values are compared bit by bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// The bits of a boolean, integer, float, character or set of flags.
    Bits(u64),
    String(String),
    List(Vec<Value>),
    /// The fields of a record or tuple.
    Fields(Vec<Value>),
    Case(usize, Option<Box<Value>>),
}

/// Generates the values of one call. Their total size is limited.
pub(crate) struct ValueMaker<'a> {
    random: &'a mut Random,
    /// The number of elements and characters that may still be generated.
    left: usize,
}

impl<'a> ValueMaker<'a> {
    pub(crate) fn new(random: &'a mut Random) -> Self {
        let left = match random.below(40) {
            0 => 40_000,
            1..=4 => 2_000,
            _ => 100,
        };
        Self { random, left }
    }

    pub(crate) fn make(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Bool => Value::Bits(self.random.next() & 1),
            Type::Integer(bytes, _) => Value::Bits(self.integer(*bytes)),
            Type::F32 => Value::Bits(self.f32()),
            Type::F64 => Value::Bits(self.f64()),
            Type::Char => Value::Bits(u64::from(u32::from(self.character()))),
            Type::Flags(_, names) => Value::Bits(self.random.next() & ((1 << names) - 1)),
            Type::String => {
                let length = self.length();
                Value::String((0..length).map(|_| self.character()).collect())
            }
            Type::List(element) => {
                let length = self.length();
                Value::List((0..length).map(|_| self.make(element)).collect())
            }
            Type::Record(_, parts) | Type::Tuple(parts) => {
                Value::Fields(parts.iter().map(|part| self.make(part)).collect())
            }
            Type::Variant(..) | Type::Enum(..) | Type::Option(_) | Type::Result(..) => {
                let cases = ty.cases().expect("the type is a variant");
                let case = self.random.below(cases.len());
                Value::Case(case, cases[case].map(|payload| Box::new(self.make(payload))))
            }
        }
    }

    /// Chooses the length of a string or list.
    fn length(&mut self) -> usize {
        let wanted = match self.random.below(10) {
            0 => 0,
            1 => 1,
            2..=7 => self.random.below(8),
            _ => self.random.below(self.left.max(1)),
        };
        let length = wanted.min(self.left);
        self.left -= length;
        length
    }

    fn integer(&mut self, bytes: u32) -> u64 {
        let any = self.random.next();
        let bits = match self.random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (bytes * 8 - 1),
            3 => (1 << (bytes * 8 - 1)) - 1,
            4 => any & 0xff,
            _ => any,
        };
        bits & (u64::MAX >> (64 - bytes * 8))
    }

    /// Generates the bits of a float. If it is a NaN, it is the canonical one, because the component model preserves no
    /// other.
    fn f32(&mut self) -> u64 {
        let edges = [0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1)];
        let any = f32::from_bits(self.random.next() as u32);
        let value = if self.random.one_in(3) { *self.random.pick(&edges) } else { any };
        u64::from(if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() })
    }

    fn f64(&mut self) -> u64 {
        let edges = [0.0, -0.0, 1.0, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(1)];
        let any = f64::from_bits(self.random.next());
        let value = if self.random.one_in(3) { *self.random.pick(&edges) } else { any };
        if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() }
    }

    /// Generates a character that has one, two, three or four bytes in UTF-8.
    fn character(&mut self) -> char {
        let edges = [
            '\0',
            '\u{7f}',
            '\u{80}',
            '\u{7ff}',
            '\u{800}',
            '\u{d7ff}',
            '\u{e000}',
            '\u{ffff}',
            '\u{10000}',
            '\u{10ffff}',
        ];
        match self.random.below(8) {
            0 => *self.random.pick(&edges),
            1 => char::from_u32(self.random.next() as u32 % 0x11_0000).unwrap_or('\u{fffd}'),
            2 => char::from(self.random.between(0xa0, 0xff) as u8),
            _ => char::from(self.random.between(0x20, 0x7e) as u8),
        }
    }
}
