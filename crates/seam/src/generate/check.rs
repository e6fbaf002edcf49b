//! Generates the validation of images: it finds everything that would make lifting trap or read outside the image.
//!
//! The canonical ABI checks pointers against the bounds of the memory, which is larger than the image. The generated
//! checks compare pointers with the bounds of the image:
//!
//! - every block lies inside the image, is aligned, and comes after the previous block in the order in which values are
//!   lowered (depth first). So no two blocks overlap, and no more bytes are read than were sent;
//! - discriminants name a case, characters are valid, strings are UTF-8;
//! - a block without bytes may have any address up to the end of the image, or the address at which the next block
//!   would begin, because nothing is read through its address.
//!
//! Padding, and unused bits of booleans and flags, are not checked, because lifting ignores them.
//!
//! One function is generated for each type that needs a check, however often the type is used: `check(address, cursor)
//! → cursor`. The cursor is the end of the last checked block; 0 means that the image is invalid. A global contains the
//! end of the image.

use std::collections::HashMap;

use wasm_encoder::{BlockType, InstructionSink, ValType};

use super::flat::{load_scalar_at, payloads};
use super::module::{Body, CoreModule, at};
use super::types::{Kind, Layout, TypeId, Types};
use super::utf8;

/// The check functions of a core module. Each is generated when it is first needed.
pub(crate) struct Checks<'a> {
    types: &'a Types,
    /// The index of the global that contains the end of the image.
    end: u32,
    /// The indices of the generated check functions, by type.
    written: HashMap<TypeId, u32>,
    block: Option<u32>,
    string: Option<u32>,
}

const ADDRESS: u32 = 0;
const CURSOR: u32 = 1;

impl<'a> Checks<'a> {
    pub(crate) fn new(types: &'a Types, end: u32) -> Self {
        Checks { types, end, written: HashMap::new(), block: None, string: None }
    }

    /// Returns the check function of a layout that has no [`TypeId`], such as the layout of all parameters. Returns
    /// `None` if the layout needs no check.
    pub(crate) fn of_layout(&mut self, module: &mut CoreModule, name: &str, layout: &Layout) -> Option<u32> {
        if !layout.checked {
            return None;
        }
        let index = module.declare(name, &[ValType::I32; 2], &[ValType::I32]);
        let mut body = Body::new(2);
        self.write_parts(module, &mut body, layout, 0);
        body.code().local_get(CURSOR);
        module.define(index, body);
        Some(index)
    }

    /// Returns the check function of a type. Returns `None` if every bit pattern is a valid value of the type.
    pub(crate) fn of(&mut self, module: &mut CoreModule, id: TypeId) -> Option<u32> {
        if let Some(index) = self.written.get(&id) {
            return Some(*index);
        }
        let layout = self.types.layout(id);
        if !layout.checked {
            return None;
        }
        let number = self.written.len();
        let index = module.declare(&format!("check {number}"), &[ValType::I32; 2], &[ValType::I32]);
        self.written.insert(id, index);
        let mut body = Body::new(2);
        self.write_parts(module, &mut body, layout, 0);
        body.code().local_get(CURSOR);
        module.define(index, body);
        Some(index)
    }

    /// Writes code that checks a value. The value begins `offset` bytes after the address that the check function gets.
    fn write_parts(&mut self, module: &mut CoreModule, body: &mut Body, layout: &Layout, offset: u32) {
        match &layout.kind {
            Kind::Scalar(_) => {}
            Kind::Char => write_char(body, offset),
            Kind::String => {
                let string = self.string(module);
                let mut code = body.code();
                code.local_get(ADDRESS).i32_load(at(offset, 4)).local_get(ADDRESS).i32_load(at(offset + 4, 4));
                code.local_get(CURSOR).call(string);
                set_cursor(&mut code);
            }
            Kind::List(element) => self.write_list(module, body, *element, offset),
            Kind::Record(fields) => {
                for (place, id) in fields {
                    self.write_part(module, body, *id, offset + place);
                }
            }
            Kind::Variant { tag, cases, payload_offset } => {
                let number = body.local(ValType::I32);
                let mut code = body.code();
                code.local_get(ADDRESS);
                load_scalar_at(&mut code, *tag, offset);
                let count = i32::try_from(cases.len()).expect("a variant has fewer cases");
                code.local_tee(number).i32_const(count).i32_ge_u();
                fail_if(&mut code);
                for (case, id) in payloads(cases) {
                    if !self.types.layout(id).checked {
                        continue;
                    }
                    body.code().local_get(number).i32_const(case).i32_eq().if_(BlockType::Empty);
                    self.write_part(module, body, id, offset + payload_offset);
                    body.code().end();
                }
            }
        }
    }

    /// Writes code that checks a part of a larger value: inline for a simple part, or as a call of the check function
    /// of the part's type.
    fn write_part(&mut self, module: &mut CoreModule, body: &mut Body, id: TypeId, offset: u32) {
        let layout = self.types.layout(id);
        if matches!(layout.kind, Kind::Scalar(_) | Kind::Char | Kind::String) {
            self.write_parts(module, body, layout, offset);
        } else if let Some(check) = self.of(module, id) {
            let mut code = body.code();
            code.local_get(ADDRESS).i32_const(offset.cast_signed()).i32_add().local_get(CURSOR).call(check);
            set_cursor(&mut code);
        }
    }

    fn write_list(&mut self, module: &mut CoreModule, body: &mut Body, element: TypeId, offset: u32) {
        let block = self.block(module);
        let layout = self.types.layout(element);
        let (address, end) = (body.local(ValType::I32), body.local(ValType::I32));
        let mut code = body.code();
        code.local_get(ADDRESS).i32_load(at(offset, 4)).local_tee(address);
        code.local_get(ADDRESS).i32_load(at(offset + 4, 4)).local_tee(end);
        code.i32_const(layout.size.cast_signed()).i32_const((layout.align - 1).cast_signed());
        code.local_get(CURSOR).call(block);
        set_cursor(&mut code);
        let Some(check) = self.of(module, element) else { return };
        let mut code = body.code();
        // The multiplication cannot overflow, because the block was found to fit into the image.
        code.local_get(end).i32_const(layout.size.cast_signed()).i32_mul().local_get(address).i32_add().local_set(end);
        code.block(BlockType::Empty).loop_(BlockType::Empty);
        code.local_get(address).local_get(end).i32_eq().br_if(1);
        code.local_get(address).local_get(CURSOR).call(check);
        set_cursor(&mut code);
        code.local_get(address).i32_const(layout.size.cast_signed()).i32_add().local_set(address);
        code.br(0).end().end();
    }

    /// Returns the index of the function that checks a block. The function checks the block's position and returns the
    /// block's end, or 0 for an invalid block:
    /// `block(address, length, element size, alignment - 1, cursor) → cursor`.
    fn block(&mut self, module: &mut CoreModule) -> u32 {
        *self.block.get_or_insert_with(|| {
            let index = module.declare("check block", &[ValType::I32; 5], &[ValType::I32]);
            let mut body = Body::new(5);
            let (address, length, size, mask, cursor) = (0, 1, 2, 3, 4);
            let bytes = body.local(ValType::I64);
            let mut code = body.code();
            code.local_get(address).local_get(mask).i32_and();
            fail_if(&mut code);
            code.local_get(length).if_(BlockType::Empty);
            code.local_get(address).local_get(cursor).i32_lt_u();
            fail_if(&mut code);
            code.local_get(length).i64_extend_i32_u().local_get(size).i64_extend_i32_u().i64_mul();
            code.local_get(address).i64_extend_i32_u().i64_add().local_tee(bytes);
            code.global_get(self.end).i64_extend_i32_u().i64_gt_u();
            fail_if(&mut code);
            code.local_get(bytes).i32_wrap_i64().return_();
            code.end();
            code.local_get(address).global_get(self.end).i32_gt_u();
            code.local_get(address).local_get(cursor).i32_gt_u().i32_and();
            fail_if(&mut code);
            code.local_get(cursor);
            module.define(index, body);
            index
        })
    }

    /// Returns the index of the function that checks a string. The function checks the string's position and encoding
    /// and returns the string's end, or 0 for an invalid string: `string(address, length, cursor) → cursor`.
    fn string(&mut self, module: &mut CoreModule) -> u32 {
        if let Some(index) = self.string {
            return index;
        }
        let block = self.block(module);
        let valid = utf8::write(module);
        let index = module.declare("check string", &[ValType::I32; 3], &[ValType::I32]);
        let mut body = Body::new(3);
        let (address, length, cursor) = (0, 1, 2);
        let mut code = body.code();
        code.local_get(address).local_get(length).i32_const(1).i32_const(0).local_get(cursor).call(block);
        code.local_tee(cursor).i32_eqz();
        fail_if(&mut code);
        code.local_get(address).local_get(address).local_get(length).i32_add().call(valid).i32_eqz();
        fail_if(&mut code);
        code.local_get(cursor);
        module.define(index, body);
        self.string = Some(index);
        index
    }
}

/// Writes code that checks a Unicode scalar value: below 0x110000, and not a surrogate.
fn write_char(body: &mut Body, offset: u32) {
    let mut code = body.code();
    code.local_get(ADDRESS).i32_load(at(offset, 4)).i32_const(0x11_0000).i32_ge_u();
    code.local_get(ADDRESS).i32_load(at(offset, 4)).i32_const(-0x800).i32_and().i32_const(0xD800).i32_eq();
    code.i32_or();
    fail_if(&mut code);
}

/// Writes code that sets the cursor to the value on the stack, or returns 0 if that value is 0.
fn set_cursor(code: &mut InstructionSink<'_>) {
    code.local_tee(CURSOR).i32_eqz();
    fail_if(code);
}

/// Writes code that returns 0 if the value on the stack is not 0.
fn fail_if(code: &mut InstructionSink<'_>) {
    code.if_(BlockType::Empty).i32_const(0).return_().end();
}
