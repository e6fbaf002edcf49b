//! The memory of a generated stub or skeleton, and its allocator.
//!
//! ```text
//! 0        BASE                                   top              high                BASE + IMAGE_BYTES_MAX
//! │ scratch │ image: root, blocks in order          │ freed           │ zeroes … (grows)    │
//! ```
//!
//! - `realloc` is a bump allocator: `top` only moves up, except that the last block shrinks and grows in place.
//!   (Strings of other encodings are transcoded into blocks that are first enlarged, then shrunk.) So an image has no
//!   holes.
//! - `high` is the highest address that `top` has reached since the last `clear`. All bytes from there on are zero, so
//!   a call finds no data of an earlier call, not even in the padding between the fields of a record.
//! - If an image would exceed `IMAGE_BYTES_MAX`, the stub or skeleton traps, in a function whose name states the reason.
//!
//! The memory is in a separate core module, because it must be instantiated before the imports that are lowered with
//! it.

use isomer_wire::image::{BASE, IMAGE_BYTES_MAX};
use wasm_encoder::{BlockType, ExportKind, MemoryType, Module, ValType};

use super::module::{Body, CoreModule, at};

/// The name of the function in which a stub or skeleton traps if an image would be larger than the wire format allows.
pub(crate) const IMAGE_TOO_LARGE: &str = "image_too_large";

/// The address to which the canonical ABI writes results that are returned in memory: 12 bytes of scratch space.
pub(crate) const RETURN_AREA: u32 = 16;

const PAGE: u32 = 1 << 16;
const END: u32 = BASE + IMAGE_BYTES_MAX;

/// The maximum number of bytes that are zeroed by a loop. A larger number is zeroed by `memory.fill`, which is a call
/// into the engine.
const LOOP_BYTES_MAX: u32 = 256;

/// Returns the type of the memory of a stub or skeleton.
pub(crate) fn memory() -> MemoryType {
    let pages = u64::from(END.div_ceil(PAGE));
    MemoryType { minimum: 1, maximum: Some(pages), memory64: false, shared: false, page_size_log2: None }
}

/// Returns the core module that defines the memory and the allocator. After each `clear`, allocation starts at the
/// address `start`.
pub(crate) fn module(name: &str, start: u32) -> Module {
    let mut module = CoreModule::default();
    module.memory(memory());
    let (top, high) = (module.global(start), module.global(BASE));
    let too_large = module.declare(IMAGE_TOO_LARGE, &[], &[]);
    let realloc = module.declare("realloc", &[ValType::I32; 4], &[ValType::I32]);
    let clear = module.declare("clear", &[ValType::I32], &[]);
    module.export("memory", ExportKind::Memory, 0);
    module.export("top", ExportKind::Global, top);
    module.export("high", ExportKind::Global, high);
    module.export("realloc", ExportKind::Func, realloc);
    module.export("clear", ExportKind::Func, clear);

    let mut body = Body::new(0);
    body.code().unreachable();
    module.define(too_large, body);
    module.define(realloc, realloc_body(top, high, too_large));
    module.define(clear, clear_body(top, high, start));
    module.finish(name)
}

/// Writes `realloc(old, old_size, align, size) -> address`.
fn realloc_body(top: u32, high: u32, too_large: u32) -> Body {
    let mut body = Body::new(4);
    let (old, old_size, align, size) = (0, 1, 2, 3);
    let (address, end) = (body.local(ValType::I32), body.local(ValType::I32));
    let mut code = body.code();
    // The last block keeps its address. Any other block gets the address `top`, rounded up to the alignment.
    code.local_get(old).local_get(old_size).i32_add().global_get(top).i32_eq();
    code.i32_const(0).local_get(old_size).select().if_(BlockType::Empty);
    code.local_get(old).local_set(address);
    code.else_();
    code.global_get(top).local_get(align).i32_add().i32_const(1).i32_sub();
    code.i32_const(0).local_get(align).i32_sub().i32_and().local_set(address);
    code.end();
    // The address may exceed `END` by up to one alignment, so it is compared before it is subtracted from `END`.
    // Neither comparison can overflow.
    code.local_get(address).i32_const(END.cast_signed()).i32_gt_u().if_(BlockType::Empty).call(too_large).end();
    code.local_get(size).i32_const(END.cast_signed()).local_get(address).i32_sub().i32_gt_u();
    code.if_(BlockType::Empty).call(too_large).end();
    code.local_get(address).local_get(size).i32_add().local_set(end);
    // Grows the memory by the missing pages.
    code.local_get(end).memory_size(0).i32_const(16).i32_shl().i32_gt_u().if_(BlockType::Empty);
    code.local_get(end).memory_size(0).i32_const(16).i32_shl().i32_sub();
    code.i32_const(PAGE.cast_signed() - 1).i32_add().i32_const(16).i32_shr_u();
    code.memory_grow(0).i32_const(-1).i32_eq().if_(BlockType::Empty).call(too_large).end();
    code.end();
    // Copies the content of a block that has a new address.
    code.local_get(old_size).if_(BlockType::Empty);
    code.local_get(address).local_get(old).i32_ne().if_(BlockType::Empty);
    code.local_get(address).local_get(old);
    code.local_get(old_size).local_get(size).local_get(old_size).local_get(size).i32_lt_u().select();
    code.memory_copy(0, 0);
    code.end().end();
    code.local_get(end).global_set(top);
    code.local_get(end).global_get(high).i32_gt_u().if_(BlockType::Empty).local_get(end).global_set(high).end();
    code.local_get(address);
    body
}

/// Writes `clear(from)`, which zeroes the memory from an address (a multiple of 16) to the highest address that was
/// used, and resets the allocator.
fn clear_body(top: u32, high: u32, start: u32) -> Body {
    let mut body = Body::new(1);
    let from = 0;
    let mut code = body.code();
    code.i32_const(start.cast_signed()).global_set(top);
    code.global_get(high).local_get(from).i32_gt_u().if_(BlockType::Empty);
    code.global_get(high).local_get(from).i32_sub().i32_const(LOOP_BYTES_MAX.cast_signed()).i32_gt_u();
    code.if_(BlockType::Empty);
    code.local_get(from).i32_const(0).global_get(high).local_get(from).i32_sub().memory_fill(0);
    code.else_();
    code.loop_(BlockType::Empty);
    code.local_get(from).i64_const(0).i64_store(at(0, 8));
    code.local_get(from).i64_const(0).i64_store(at(8, 8));
    code.local_get(from).i32_const(16).i32_add().local_tee(from).global_get(high).i32_lt_u().br_if(0);
    code.end();
    code.end();
    code.end();
    code.i32_const(BASE.cast_signed()).global_set(high);
    body
}
