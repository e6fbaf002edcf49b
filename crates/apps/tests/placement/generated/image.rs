//! Encodes and decodes the arguments and results of calls by the rules of `isomer_wire::image`, without the code under
//! test.
//!
//! An *image* is the encoded form: the bytes of the values as they are in a guest's memory.

use isomer_wire::image::{BASE, BLOCKS};

use super::types::{FLAT_MAX, Type, discriminant_bytes, fields, flat_all, round_up};
use super::values::Value;

/// Encodes the arguments of a call.
pub(crate) fn arguments(types: &[Type], values: &[Value]) -> Vec<u8> {
    if types.is_empty() {
        return vec![];
    }
    let spilled = flat_all(types).len() > FLAT_MAX;
    let root = if spilled { BLOCKS } else { BASE };
    let bytes = vec![0; (root - BASE + fields(types).1) as usize];
    let mut image = Image { base: BASE, blocks_from: BLOCKS, bytes };
    image.store_all(root, types, values);
    image.bytes
}

/// Encodes the result of a call.
pub(crate) fn result(ty: &Type, value: &Value) -> Vec<u8> {
    at(BASE, ty, value)
}

/// Encodes a value for the address `base` in memory. The contents of its strings and lists follow the value.
pub(crate) fn at(base: u32, ty: &Type, value: &Value) -> Vec<u8> {
    let mut image = Image { base, blocks_from: base, bytes: vec![0; ty.size() as usize] };
    image.store(base, ty, value);
    image.bytes
}

/// The contents of memory, starting at the address `base`.
struct Image {
    base: u32,
    /// The lowest address for the contents of strings and lists.
    blocks_from: u32,
    bytes: Vec<u8>,
}

impl Image {
    fn block(&mut self, align: u32, size: u32) -> u32 {
        let end = self.base + self.bytes.len() as u32;
        let address = round_up(end.max(self.blocks_from), align);
        self.bytes.resize((address - self.base + size) as usize, 0);
        address
    }

    fn put(&mut self, address: u32, bytes: &[u8]) {
        let from = (address - self.base) as usize;
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn put_number(&mut self, address: u32, number: u64, bytes: u32) {
        self.put(address, &number.to_le_bytes()[..bytes as usize]);
    }

    fn put_list(&mut self, address: u32, block: u32, length: usize) {
        self.put_number(address, block.into(), 4);
        self.put_number(address + 4, length as u64, 4);
    }

    fn store_all(&mut self, address: u32, types: &[Type], values: &[Value]) {
        for ((ty, value), offset) in types.iter().zip(values).zip(fields(types).0) {
            self.store(address + offset, ty, value);
        }
    }

    fn store(&mut self, address: u32, ty: &Type, value: &Value) {
        match (ty, value) {
            (Type::String, Value::String(text)) => {
                let block = self.block(1, text.len() as u32);
                self.put_list(address, block, text.len());
                self.put(block, text.as_bytes());
            }
            (Type::List(element), Value::List(values)) => {
                let size = element.size();
                let block = self.block(element.align(), size * values.len() as u32);
                self.put_list(address, block, values.len());
                for (number, value) in (0..).zip(values) {
                    self.store(block + size * number, element, value);
                }
            }
            (Type::Record(_, types) | Type::Tuple(types), Value::Fields(values)) => {
                self.store_all(address, types, values);
            }
            (_, Value::Case(case, payload)) => {
                let cases = ty.cases().expect("the type is a variant");
                self.put_number(address, *case as u64, discriminant_bytes(cases.len()));
                if let (Some(payload_type), Some(payload)) = (cases[*case], payload) {
                    let offset = ty.payload_offset();
                    self.store(address + offset, payload_type, payload);
                }
            }
            (_, Value::Bits(bits)) => self.put_number(address, *bits, ty.size()),
            _ => unreachable!("the value is of the type"),
        }
    }
}

/// Decodes the result of a call.
///
/// # Errors
/// If the bytes are not an encoded value of the type. The error is the reason.
pub(crate) fn read(ty: &Type, image: &[u8]) -> Result<Value, String> {
    Reader { image }.load(BASE, ty)
}

struct Reader<'a> {
    image: &'a [u8],
}

impl Reader<'_> {
    fn bytes(&self, address: u32, length: usize) -> Result<&[u8], String> {
        let from = address.checked_sub(BASE).ok_or_else(|| format!("address {address} is before the image"))? as usize;
        let bytes = from.checked_add(length).and_then(|end| self.image.get(from..end));
        bytes.ok_or_else(|| format!("{length} bytes at {address} are not in an image of {}", self.image.len()))
    }

    fn number(&self, address: u32, bytes: u32) -> Result<u64, String> {
        let mut number = [0; 8];
        number[..bytes as usize].copy_from_slice(self.bytes(address, bytes as usize)?);
        Ok(u64::from_le_bytes(number))
    }

    fn list(&self, address: u32) -> Result<(u32, usize), String> {
        Ok((self.number(address, 4)? as u32, self.number(address + 4, 4)? as usize))
    }

    fn load(&self, address: u32, ty: &Type) -> Result<Value, String> {
        Ok(match ty {
            Type::String => {
                let (block, length) = self.list(address)?;
                let bytes = if length == 0 { &[] } else { self.bytes(block, length)? };
                Value::String(std::str::from_utf8(bytes).map_err(|error| format!("a string: {error}"))?.to_owned())
            }
            Type::List(element) => {
                let (block, length) = self.list(address)?;
                if block % element.align() != 0 {
                    return Err(format!("a list at {block} is not aligned to {}", element.align()));
                }
                let numbers = 0..u32::try_from(length).expect("the length has four bytes");
                let values = numbers.map(|number| self.load(block + number * element.size(), element));
                Value::List(values.collect::<Result<_, _>>()?)
            }
            Type::Record(_, types) | Type::Tuple(types) => {
                let parts = types.iter().zip(fields(types).0);
                Value::Fields(parts.map(|(ty, offset)| self.load(address + offset, ty)).collect::<Result<_, _>>()?)
            }
            Type::Variant(..) | Type::Enum(..) | Type::Option(_) | Type::Result(..) => {
                let cases = ty.cases().expect("the type is a variant");
                let case = self.number(address, discriminant_bytes(cases.len()))? as usize;
                let payload = cases.get(case).ok_or_else(|| format!("case {case} of {}", cases.len()))?;
                let payload = payload.map(|payload| self.load(address + ty.payload_offset(), payload));
                Value::Case(case, payload.transpose()?.map(Box::new))
            }
            _ => Value::Bits(self.number(address, ty.size())?),
        })
    }
}
