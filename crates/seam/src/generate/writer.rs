//! Writes the functions of a stub: storing arguments, calling the host, and returning results.

use isomer_wire::image::{BASE, BLOCKS};
use wasm_encoder::{BlockType, ExportKind, ValType};

use super::arena::RETURN_AREA;
use super::flat::{self, parameter_values};
use super::function::{Crossing, Lost};
use super::module::{Body, CoreModule, at};
use super::part::{Arena, function_name};
use super::types::{Kind, Scalar, Types};
use super::wire::CALL_ERROR_REFUSED;

/// Returns the name under which the core module exports the `post-return` function of the function with this number.
pub(crate) fn post_return_name(number: usize) -> String {
    format!("{}-post-return", function_name(number))
}

/// Writes the functions of a stub. All numbers are indices in the core module.
pub(crate) struct Writer<'a> {
    pub(crate) types: &'a Types,
    pub(crate) arena: Arena,
    pub(crate) refuse: u32,
    pub(crate) call: u32,
    /// The index of the global that contains the end of the image, for checks.
    pub(crate) image_end: u32,
}

impl Writer<'_> {
    pub(crate) fn write(&self, module: &mut CoreModule, number: usize, function: &Crossing, check: Option<u32>) {
        let parameters = function.core_parameters();
        let result: Vec<_> = match function.flat_result(self.types) {
            Some(flat) => vec![flat],
            None if function.result.is_some() => vec![ValType::I32],
            None => vec![],
        };
        let index = module.declare(&function.name, &parameters, &result);
        module.export(&function_name(number), ExportKind::Func, index);
        module.define(index, self.call(number, function, &parameters, check));
        if function.returns_pointer(self.types) {
            let index = module.declare(&format!("after {}", function.name), &[ValType::I32], &[]);
            module.export(&post_return_name(number), ExportKind::Func, index);
            let mut body = Body::new(1);
            self.reset(&mut body, stored_end(function));
            module.define(index, body);
        }
    }

    /// Returns the body of a synchronous function.
    fn call(&self, number: usize, function: &Crossing, parameters: &[ValType], check: Option<u32>) -> Body {
        let mut body = Body::new(parameters.len());
        self.store_arguments(&mut body, function, parameters);
        body.code().i32_const(core_number(number)).i32_const(BASE.cast_signed());
        self.push_image_length(&mut body, function);
        body.code().i32_const(RETURN_AREA.cast_signed());
        body.code().i32_const(BASE.cast_signed()).global_set(self.arena.top).call(self.call);
        self.evaluate_reply(&mut body, number, function, check, stored_end(function), |body| {
            self.push_result(body, function);
            body.code().return_();
        });
        body
    }

    /// Writes code that evaluates the host's reply to a call, which is in the return area ([`RETURN_AREA`]). `deliver`
    /// writes the code that returns the result at address [`BASE`] to the caller: the callee's result, or the error
    /// value that represents a lost call. The error value is written where the arguments were, which may have been
    /// stored up to the address `stored`, so the memory below `stored` is zeroed first.
    pub(crate) fn evaluate_reply(
        &self,
        body: &mut Body,
        number: usize,
        function: &Crossing,
        check: Option<u32>,
        stored: u32,
        deliver: impl Fn(&mut Body),
    ) {
        let (lost, bad) = (1, 0);
        body.code().block(BlockType::Empty).block(BlockType::Empty);
        body.code().i32_const(0).i32_load8_u(at(RETURN_AREA, 1)).br_if(lost);
        if let Some(result) = function.result {
            let size = self.types.layout(result).size;
            let mut code = body.code();
            code.i32_const(0).i32_load(at(RETURN_AREA + 8, 4)).i32_const(size.cast_signed()).i32_lt_u().br_if(bad);
            if let Some(check) = check {
                code.i32_const(BASE.cast_signed()).i32_const(0).i32_load(at(RETURN_AREA + 8, 4)).i32_add();
                code.global_set(self.image_end);
                code.i32_const(BASE.cast_signed()).i32_const((BASE + size).cast_signed()).call(check);
                code.i32_eqz().br_if(bad);
            }
        }
        deliver(body);
        body.code().end();
        if function.lost.is_some() {
            body.code().i32_const(0).i32_const(CALL_ERROR_REFUSED.cast_signed()).i32_store8(at(RETURN_AREA + 4, 1));
        } else {
            body.code().i32_const(core_number(number)).call(self.refuse).unreachable();
        }
        body.code().end();
        if self.write_lost(body, function, stored) {
            deliver(body);
        }
        body.code().unreachable();
    }

    pub(crate) fn store_arguments(&self, body: &mut Body, function: &Crossing, parameters: &[ValType]) {
        if !function.spills() {
            flat::store(body, self.types, &function.arguments, BASE, &parameter_values(parameters));
        }
    }

    /// Writes code that pushes the size of the arguments' image.
    pub(crate) fn push_image_length(&self, body: &mut Body, function: &Crossing) {
        let root_end = function.arguments_end().cast_signed();
        let mut code = body.code();
        if !function.arguments.points {
            code.i32_const(root_end - BASE.cast_signed());
            return;
        }
        if function.spills() {
            code.global_get(self.arena.top);
        } else {
            // If nothing was allocated (`top` is still at the start of the blocks), the image ends with its root.
            code.i32_const(root_end).global_get(self.arena.top);
            code.global_get(self.arena.top).i32_const(BLOCKS.cast_signed()).i32_eq().select();
        }
        code.i32_const(BASE.cast_signed()).i32_sub();
    }

    /// Writes code that pushes the function's return values. The code also clears the memory, unless the caller must
    /// still read a result from the memory.
    fn push_result(&self, body: &mut Body, function: &Crossing) {
        match function.result {
            Some(_) if function.returns_pointer(self.types) => {
                body.code().i32_const(BASE.cast_signed());
                return;
            }
            Some(result) => flat::load(body, self.types, self.types.layout(result), BASE),
            None => {}
        }
        self.reset(body, stored_end(function));
    }

    /// Writes code that stores the result for a lost call at address [`BASE`]: an error with the `call-error` that the
    /// return area contains. Returns false if the function's result cannot represent a lost call. For such a function,
    /// the host traps instead of reporting a lost call.
    fn write_lost(&self, body: &mut Body, function: &Crossing, stored: u32) -> bool {
        let Some((lost, result)) = function.lost.zip(function.result) else { return false };
        let Kind::Variant { cases, payload_offset, .. } = &self.types.layout(result).kind else {
            unreachable!("only a result has an error")
        };
        let error = cases[1].expect("an error type that contains `call-error` has a payload");
        let mut place = BASE + payload_offset;
        self.reset(body, stored);
        body.code().i32_const(0).i32_const(1).i32_store8(at(BASE, 1));
        if let Lost::Case(number) = lost {
            let Kind::Variant { tag, payload_offset, .. } = &self.types.layout(error).kind else {
                unreachable!("only a variant has cases")
            };
            let mut code = body.code();
            code.i32_const(0).i32_const(number.cast_signed());
            match tag {
                Scalar::U8 => code.i32_store8(at(place, 1)),
                Scalar::U16 => code.i32_store16(at(place, 2)),
                _ => code.i32_store(at(place, 4)),
            };
            place += payload_offset;
        }
        let mut code = body.code();
        code.i32_const(0).i32_const(0).i32_load8_u(at(RETURN_AREA + 4, 1)).i32_store8(at(place, 1));
        code.i32_const(function.result_end(self.types).cast_signed()).global_set(self.arena.high);
        true
    }

    /// Writes code that zeroes everything that was written since the last reset, so that the next call can start. The
    /// memory below `stored` (a multiple of 16) is always zeroed: flat arguments are stored there without an
    /// allocation, so `high` does not include them.
    pub(crate) fn reset(&self, body: &mut Body, stored: u32) {
        let mut code = body.code();
        if stored - BASE <= INLINE_ZEROES_MAX {
            for address in (BASE..stored).step_by(8) {
                code.i32_const(0).i64_const(0).i64_store(at(address, 8));
            }
            code.global_get(self.arena.high).i32_const(stored.cast_signed()).i32_gt_u().if_(BlockType::Empty);
            code.i32_const(stored.cast_signed()).call(self.arena.clear);
            code.else_();
            code.i32_const(BLOCKS.cast_signed()).global_set(self.arena.top);
            code.i32_const(BASE.cast_signed()).global_set(self.arena.high);
            code.end();
        } else {
            code.global_get(self.arena.high).i32_const(stored.cast_signed());
            code.global_get(self.arena.high).i32_const(stored.cast_signed()).i32_gt_u().select();
            code.global_set(self.arena.high);
            code.i32_const(BASE.cast_signed()).call(self.arena.clear);
        }
    }
}

/// Returns the address at which the stored flat arguments end, rounded up to a multiple of 16.
pub(crate) fn stored_end(function: &Crossing) -> u32 {
    if function.spills() { BASE } else { function.arguments_end().next_multiple_of(16) }
}

pub(crate) fn core_number(number: usize) -> i32 {
    i32::try_from(number).expect("a component has fewer functions")
}

/// The maximum number of bytes that are zeroed by individual stores.
const INLINE_ZEROES_MAX: u32 = 64;
