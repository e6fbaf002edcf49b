//! Generates a UTF-8 validator.
//!
//! Most strings are ASCII, so ASCII is skipped in steps of 16 bytes. Other bytes are checked with the table of the
//! Unicode standard ("Well-Formed UTF-8 Byte Sequences"): the first byte of a sequence determines how many bytes
//! follow, and the range of the second byte.

use wasm_encoder::{BlockType, InstructionSink, ValType};

use super::module::{Body, CoreModule, at};

/// The highest bit of each of 8 bytes. No ASCII byte has this bit.
const HIGH_BITS: i64 = 0x8080_8080_8080_8080_u64.cast_signed();

const ADDRESS: u32 = 0;
const END: u32 = 1;

/// Writes a function that returns whether the bytes from `ADDRESS` up to `END`, its two parameters, are valid UTF-8.
/// Returns the index of the function. Its callers must check that these bytes are inside the memory.
pub(crate) fn write(module: &mut CoreModule) -> u32 {
    let index = module.declare("check utf-8", &[ValType::I32; 2], &[ValType::I32]);
    let mut body = Body::new(2);
    let byte = body.local(ValType::I32);
    let mut code = body.code();
    code.loop_(BlockType::Empty);

    // Skips ASCII in steps of sixteen bytes.
    code.block(BlockType::Empty).loop_(BlockType::Empty);
    code.local_get(END).local_get(ADDRESS).i32_sub().i32_const(16).i32_lt_u().br_if(1);
    code.local_get(ADDRESS).i64_load(at(0, 1)).local_get(ADDRESS).i64_load(at(8, 1)).i64_or();
    code.i64_const(HIGH_BITS).i64_and().i64_const(0).i64_ne().br_if(1);
    code.local_get(ADDRESS).i32_const(16).i32_add().local_set(ADDRESS).br(0);
    code.end().end();

    // Skips ASCII bytes one by one, up to the first byte that is not ASCII or the end of the string. The loop above
    // stops if fewer than 16 bytes are left, or if one of the next 16 bytes is not ASCII.
    code.block(BlockType::Empty).loop_(BlockType::Empty);
    code.local_get(ADDRESS).local_get(END).i32_eq().if_(BlockType::Empty).i32_const(1).return_().end();
    code.local_get(ADDRESS).i32_load8_u(at(0, 1)).local_tee(byte).i32_const(0x80).i32_ge_u().br_if(1);
    code.local_get(ADDRESS).i32_const(1).i32_add().local_set(ADDRESS).br(0);
    code.end().end();

    // Checks a sequence of two bytes: C2..DF, then 80..BF.
    code.local_get(byte).i32_const(0xC2).i32_sub().i32_const(0xE0 - 0xC2).i32_lt_u().if_(BlockType::Empty);
    follow(&mut code, 1);
    advance(&mut code, 2);
    code.br(1).end();

    // Checks a sequence of three bytes. The second byte must be A0..BF after E0, 80..9F after ED, and 80..BF after any
    // other byte of E1..EF. The third byte must be 80..BF.
    code.local_get(byte).i32_const(0xF0).i32_lt_u().if_(BlockType::Empty);
    code.local_get(byte).i32_const(0xE0).i32_lt_u();
    refuse_if(&mut code);
    follow(&mut code, 2);
    second(&mut code, byte, (0xE0, 0xA0), (0xED, 0x9F));
    advance(&mut code, 3);
    code.br(1).end();

    // Checks a sequence of four bytes. The second byte must be 90..BF after F0, 80..8F after F4, and 80..BF after
    // F1..F3. The third and the fourth byte must be 80..BF.
    code.local_get(byte).i32_const(0xF4).i32_gt_u();
    refuse_if(&mut code);
    follow(&mut code, 3);
    second(&mut code, byte, (0xF0, 0x90), (0xF4, 0x8F));
    advance(&mut code, 4);
    code.br(0).end();
    code.unreachable();
    module.define(index, body);
    index
}

/// Writes code that refuses the string unless `count` more bytes follow, each in 80..BF.
fn follow(code: &mut InstructionSink<'_>, count: i32) {
    code.local_get(END).local_get(ADDRESS).i32_sub().i32_const(count).i32_le_u();
    refuse_if(code);
    for offset in 1..=count.cast_unsigned() {
        code.local_get(ADDRESS).i32_load8_u(at(offset, 1)).i32_const(0xC0).i32_and().i32_const(0x80).i32_ne();
        refuse_if(code);
    }
}

/// Writes code that checks the second byte of a sequence: if the first byte is `low.0`, the second must be at least
/// `low.1`, and if the first byte is `high.0`, the second must be at most `high.1`.
fn second(code: &mut InstructionSink<'_>, byte: u32, low: (i32, i32), high: (i32, i32)) {
    for (first, bound, above) in [(low.0, low.1, false), (high.0, high.1, true)] {
        code.local_get(byte).i32_const(first).i32_eq();
        code.local_get(ADDRESS).i32_load8_u(at(1, 1)).i32_const(bound);
        if above {
            code.i32_gt_u();
        } else {
            code.i32_lt_u();
        }
        code.i32_and();
        refuse_if(code);
    }
}

fn advance(code: &mut InstructionSink<'_>, bytes: i32) {
    code.local_get(ADDRESS).i32_const(bytes).i32_add().local_set(ADDRESS);
}

fn refuse_if(code: &mut InstructionSink<'_>) {
    code.if_(BlockType::Empty).i32_const(0).return_().end();
}
