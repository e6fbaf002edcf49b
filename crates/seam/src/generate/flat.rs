//! Generates conversions between values in memory and the flat core values that the canonical ABI passes.
//!
//! All addresses are known when the code is generated, so each access uses a constant offset as its address. Several
//! cases of a variant may be passed in the same flat value: its type is then one that can hold the bits of each case
//! (`join`).

use wasm_encoder::{BlockType, InstructionSink, ValType};

use super::module::{Body, at};
use super::types::{Kind, Layout, Scalar, TypeId, Types};

/// A flat core value: a local and its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlatValue {
    pub(crate) local: u32,
    pub(crate) ty: ValType,
}

/// Returns the locals of a function's parameters as flat values.
pub(crate) fn parameter_values(types: &[ValType]) -> Vec<FlatValue> {
    (0..).zip(types).map(|(local, ty)| FlatValue { local, ty: *ty }).collect()
}

/// Writes code that stores the flat `values` in memory, as one value at `address`.
pub(crate) fn store(body: &mut Body, types: &Types, layout: &Layout, address: u32, values: &[FlatValue]) {
    match &layout.kind {
        Kind::Scalar(scalar) => store_scalar(body, *scalar, address, values[0]),
        Kind::Char => store_scalar(body, Scalar::I32, address, values[0]),
        Kind::String | Kind::List(_) => {
            store_scalar(body, Scalar::I32, address, values[0]);
            store_scalar(body, Scalar::I32, address + 4, values[1]);
        }
        Kind::Record(fields) => {
            let mut rest = values;
            for (offset, id) in fields {
                let field = types.layout(*id);
                let (own, after) = rest.split_at(flat_count(field));
                store(body, types, field, address + offset, own);
                rest = after;
            }
        }
        Kind::Variant { tag, cases, payload_offset } => {
            store_scalar(body, *tag, address, values[0]);
            for (number, id) in payloads(cases) {
                let mut code = body.code();
                code.local_get(values[0].local);
                narrow(&mut code, values[0].ty, ValType::I32);
                code.i32_const(number).i32_eq().if_(BlockType::Empty);
                let payload = types.layout(id);
                store(body, types, payload, address + payload_offset, &values[1..=flat_count(payload)]);
                body.code().end();
            }
        }
    }
}

/// Writes code that pushes the flat values of the value at `address` onto the stack.
pub(crate) fn load(body: &mut Body, types: &Types, layout: &Layout, address: u32) {
    match &layout.kind {
        Kind::Scalar(scalar) => load_scalar(body, *scalar, address),
        Kind::Char => load_scalar(body, Scalar::I32, address),
        Kind::String | Kind::List(_) => {
            load_scalar(body, Scalar::I32, address);
            load_scalar(body, Scalar::I32, address + 4);
        }
        Kind::Record(fields) => {
            for (offset, id) in fields {
                load(body, types, types.layout(*id), address + offset);
            }
        }
        Kind::Variant { tag, cases, payload_offset } => {
            let flat = layout.flat.as_deref().expect("a value that is not flat stays in memory");
            let locals: Vec<_> = flat.iter().map(|ty| body.local(*ty)).collect();
            load_scalar(body, *tag, address);
            body.code().local_set(locals[0]);
            for (number, id) in payloads(cases) {
                body.code().local_get(locals[0]).i32_const(number).i32_eq().if_(BlockType::Empty);
                let payload = types.layout(id);
                load(body, types, payload, address + payload_offset);
                let own = payload.flat.as_deref().expect("a part of a flat type is flat");
                for ((own, joined), local) in own.iter().zip(&flat[1..]).zip(&locals[1..]).rev() {
                    widen(&mut body.code(), *own, *joined);
                    body.code().local_set(*local);
                }
                body.code().end();
            }
            for local in locals {
                body.code().local_get(local);
            }
        }
    }
}

/// Returns the cases that have a payload: the number of each case, and the type of its payload.
pub(crate) fn payloads(cases: &[Option<TypeId>]) -> impl Iterator<Item = (i32, TypeId)> {
    (0..).zip(cases).filter_map(|(number, id)| id.map(|id| (number, id)))
}

/// Writes code that loads a scalar from a fixed address.
pub(crate) fn load_scalar(body: &mut Body, scalar: Scalar, address: u32) {
    body.code().i32_const(0);
    load_scalar_at(&mut body.code(), scalar, address);
}

/// Writes code that loads a scalar from `offset` bytes after the address on the stack.
pub(crate) fn load_scalar_at(code: &mut InstructionSink<'_>, scalar: Scalar, offset: u32) {
    let at = at(offset, scalar.bytes());
    match scalar {
        Scalar::U8 => code.i32_load8_u(at),
        Scalar::S8 => code.i32_load8_s(at),
        Scalar::U16 => code.i32_load16_u(at),
        Scalar::S16 => code.i32_load16_s(at),
        Scalar::I32 => code.i32_load(at),
        Scalar::I64 => code.i64_load(at),
        Scalar::F32 => code.f32_load(at),
        Scalar::F64 => code.f64_load(at),
    };
}

fn flat_count(layout: &Layout) -> usize {
    layout.flat.as_ref().expect("a part of a flat type is flat").len()
}

fn store_scalar(body: &mut Body, scalar: Scalar, address: u32, value: FlatValue) {
    let at = at(address, scalar.bytes());
    let mut code = body.code();
    code.i32_const(0).local_get(value.local);
    narrow(&mut code, value.ty, scalar.flat());
    match scalar {
        Scalar::U8 | Scalar::S8 => code.i32_store8(at),
        Scalar::U16 | Scalar::S16 => code.i32_store16(at),
        Scalar::I32 => code.i32_store(at),
        Scalar::I64 => code.i64_store(at),
        Scalar::F32 => code.f32_store(at),
        Scalar::F64 => code.f64_store(at),
    };
}

/// Writes code that converts the value on the stack from the type `own` to `joined`, which can hold its bits.
fn widen(code: &mut InstructionSink<'_>, own: ValType, joined: ValType) {
    match (own, joined) {
        (ValType::F32, ValType::I32) => code.i32_reinterpret_f32(),
        (ValType::I32, ValType::I64) => code.i64_extend_i32_u(),
        (ValType::F32, ValType::I64) => code.i32_reinterpret_f32().i64_extend_i32_u(),
        (ValType::F64, ValType::I64) => code.i64_reinterpret_f64(),
        _ => code,
    };
}

/// Writes code that reverses the conversion of [`widen`].
fn narrow(code: &mut InstructionSink<'_>, joined: ValType, own: ValType) {
    match (joined, own) {
        (ValType::I32, ValType::F32) => code.f32_reinterpret_i32(),
        (ValType::I64, ValType::I32) => code.i32_wrap_i64(),
        (ValType::I64, ValType::F32) => code.i32_wrap_i64().f32_reinterpret_i32(),
        (ValType::I64, ValType::F64) => code.f64_reinterpret_i64(),
        _ => code,
    };
}
