//! Skeletons, which call a component for callers in other compositions.
//!
//! A skeleton imports the functions of its component and exports `isomer:link/dispatch`. The image of a call's
//! arguments is copied into the skeleton's memory, at the address that it had in the stub, so the image's pointers are
//! valid once they have been checked. The skeleton calls the component's function with these arguments, and the
//! canonical ABI lowers the result to the address at which the image of the arguments began, where the host reads it.

use isomer_ids::ComponentName;
use isomer_plan::PlannedSkeleton;
use isomer_wire::image::{BASE, BLOCKS};
use wasm_encoder::{
    BlockType, CanonicalOption, ComponentExportKind, ComponentTypeRef, ComponentValType, ExportKind, InstructionSink,
    PrimitiveValType, ValType,
};

use super::arena::RETURN_AREA;
use super::check::Checks;
use super::flat::{self, FlatValue};
use super::function::{Crossing, interface_of};
use super::module::{Body, CoreModule, at};
use super::part::{Arena, GeneratedPart, HOST, PartBuilder, function_name, import_arena};
use super::types::Types;
use super::wire::{BAD_IMAGE, UNKNOWN_FUNCTION};
use crate::error::SeamError;
use crate::world::World;

/// Generates the skeleton of a component. The skeleton imports each of the component's functions under a name that is
/// made from the function's number, and exports `call`, `call-async` and the type `refusal`.
pub(crate) fn generate(skeleton: &PlannedSkeleton, world: &World) -> Result<GeneratedPart, SeamError> {
    let mut types = Types::default();
    let mut functions = Vec::with_capacity(skeleton.functions.len());
    for function in &skeleton.functions {
        let interface = world.export(&function.interface.to_string());
        let interface = interface_of(&skeleton.component, &function.interface, interface)?;
        functions.push(Crossing::new(&mut types, world, interface, &function.function)?);
    }
    Ok(component(&skeleton.component, &types, &functions))
}

fn component(owner: &ComponentName, types: &Types, functions: &[Crossing]) -> GeneratedPart {
    let name = format!("isomer skeleton of {owner}");
    let mut part = PartBuilder::new(&name, types, BASE);
    let mut module = CoreModule::default();
    let arena = import_arena(&mut module);
    let mut callees = Vec::with_capacity(functions.len());
    for (number, function) in functions.iter().enumerate() {
        let own = function_name(number);
        let ty = function.define_type(&mut part.builder, types, &part.types);
        let imported = part.builder.import(own.as_str(), ComponentTypeRef::Func(ty));
        let options = part.options();
        let lowered = part.builder.lower_func(Some(&function.name), imported, options);
        part.host(&own, lowered);
        let (parameters, results) = lowered_signature(types, function);
        callees.push(module.import_function((HOST, &own), &parameters, &results));
    }
    let writer = Writer { types, arena, image_end: module.global(BASE) };
    let mut checks = Checks::new(types, writer.image_end);
    let mut handlers = Vec::with_capacity(functions.len());
    for (function, callee) in functions.iter().zip(callees) {
        let check_name = format!("check arguments of {}", function.name);
        let check = checks.of_layout(&mut module, &check_name, &function.arguments);
        let index = module.declare(&function.name, &[ValType::I32], &[ValType::I32]);
        module.define(index, writer.handle(function, callee, check));
        handlers.push(index);
    }
    for (export, is_async) in DISPATCH_FUNCTIONS {
        let index = module.declare(export, &[ValType::I32; 3], &[ValType::I32]);
        let known: Vec<_> = functions
            .iter()
            .zip(&handlers)
            .map(|(function, handler)| (function.is_async == is_async).then_some(*handler))
            .collect();
        module.define(index, dispatch(&known));
        module.export(export, ExportKind::Func, index);
    }
    let index = module.declare("after the call", &[ValType::I32], &[]);
    let mut body = Body::new(1);
    body.code().i32_const(BASE.cast_signed()).call(arena.clear);
    module.define(index, body);
    module.export(POST_RETURN, ExportKind::Func, index);
    let instance = part.instantiate(&name, &module.finish(&name));
    export_dispatch(&mut part, instance);
    part.finish()
}

/// The names of the functions of `isomer:link/dispatch`, and whether each is an `async func`.
pub(crate) const DISPATCH_FUNCTIONS: [(&str, bool); 2] = [("call", false), ("call-async", true)];
/// The name of the type that `isomer:link/dispatch` exports.
pub(crate) const REFUSAL: &str = "refusal";
const POST_RETURN: &str = "post-return";

/// Returns the core signature with which the skeleton imports the component's function.
fn lowered_signature(types: &Types, function: &Crossing) -> (Vec<ValType>, Vec<ValType>) {
    let mut parameters = function.core_parameters();
    if function.returns_pointer(types) {
        parameters.push(ValType::I32);
    }
    (parameters, function.flat_result(types).into_iter().collect())
}

/// Lifts the core functions of `isomer:link/dispatch` and exports them.
fn export_dispatch(part: &mut PartBuilder, instance: u32) {
    let (refusal, encoder) = part.builder.type_defined(Some(REFUSAL));
    encoder.enum_type(["unknown-function", "bad-image"]);
    let refusal = part.builder.export(REFUSAL, ComponentExportKind::Type, refusal, None);
    let (image, encoder) = part.builder.type_defined(Some("image"));
    encoder.list(PrimitiveValType::U8);
    let (answer, encoder) = part.builder.type_defined(Some("answer"));
    encoder.result(Some(ComponentValType::Type(image)), Some(ComponentValType::Type(refusal)));
    let post_return = part.core_function(instance, POST_RETURN);
    for (name, is_async) in DISPATCH_FUNCTIONS {
        let (ty, mut encoder) = part.builder.type_function(Some(name));
        let parameters = [("function", PrimitiveValType::U32.into()), ("image", ComponentValType::Type(image))];
        encoder.async_(is_async).params(parameters).result(Some(ComponentValType::Type(answer)));
        let core = part.core_function(instance, name);
        let mut options = part.options();
        options.push(CanonicalOption::PostReturn(post_return));
        let lifted = part.builder.lift_func(Some(name), core, ty, options);
        part.builder.export(name, ComponentExportKind::Func, lifted, None);
    }
}

/// Writes `call(function, address, length) -> return area`, which calls the handler of the function. `handlers`
/// contains the index of each handler, by function number.
fn dispatch(handlers: &[Option<u32>]) -> Body {
    let mut body = Body::new(3);
    let (function, length) = (0, 2);
    let result_length = body.local(ValType::I32);
    let known: Vec<_> = handlers.iter().flatten().collect();
    let depth = u32::try_from(known.len()).expect("a component has fewer functions");
    let mut code = body.code();
    // `br_table` jumps to the end of one of these nested blocks, where the code for the function number follows. The
    // innermost block is for the first handler; the outer two are for an unknown function, and for the end of this
    // function.
    code.block(BlockType::Empty).block(BlockType::Empty);
    for _ in &known {
        code.block(BlockType::Empty);
    }
    let mut next = 0;
    let targets: Vec<u32> = handlers
        .iter()
        .map(|handler| {
            if handler.is_none() {
                return depth;
            }
            next += 1;
            next - 1
        })
        .collect();
    code.local_get(function).br_table(targets, depth);
    for (place, handler) in (0..).zip(&known) {
        code.end();
        code.local_get(length).call(**handler).local_set(result_length).br(depth - place);
    }
    code.end();
    refuse(&mut code, UNKNOWN_FUNCTION);
    code.end();
    code.local_get(result_length).i32_const(0).i32_lt_s().if_(BlockType::Empty);
    refuse(&mut code, BAD_IMAGE);
    code.end();
    code.i32_const(0).i32_const(0).i32_store(at(RETURN_AREA, 4));
    code.i32_const(0).i32_const(BASE.cast_signed()).i32_store(at(RETURN_AREA + 4, 4));
    code.i32_const(0).local_get(result_length).i32_store(at(RETURN_AREA + 8, 4));
    code.i32_const(RETURN_AREA.cast_signed());
    body
}

/// Writes code that returns `refusal` as the error of the call.
fn refuse(code: &mut InstructionSink<'_>, refusal: i32) {
    code.i32_const(0).i32_const(1).i32_store(at(RETURN_AREA, 4));
    code.i32_const(0).i32_const(refusal).i32_store(at(RETURN_AREA + 4, 4));
    code.i32_const(RETURN_AREA.cast_signed()).return_();
}

struct Writer<'a> {
    types: &'a Types,
    arena: Arena,
    /// The index of the global that contains the end of the image, for checks.
    image_end: u32,
}

impl Writer<'_> {
    /// Writes `handle(image_length) -> result_length`, which calls the component's function. It returns the length of
    /// the result's image, or -1 if the image of the arguments is invalid.
    fn handle(&self, function: &Crossing, callee: u32, check: Option<u32>) -> Body {
        let mut body = Body::new(1);
        let length = 0;
        let root_end = function.arguments_end();
        if root_end > BASE {
            let mut code = body.code();
            code.local_get(length).i32_const((root_end - BASE).cast_signed()).i32_lt_u();
            code.if_(BlockType::Empty).i32_const(-1).return_().end();
        }
        if let Some(check) = check {
            let blocks = if function.spills() { root_end } else { BLOCKS };
            let mut code = body.code();
            code.i32_const(BASE.cast_signed()).local_get(length).i32_add().global_set(self.image_end);
            code.i32_const(function.arguments_root().cast_signed()).i32_const(blocks.cast_signed()).call(check);
            code.i32_eqz().if_(BlockType::Empty).i32_const(-1).return_().end();
        }
        // The result may overwrite the image of the arguments, because the component has its own copy of the arguments
        // by then.
        let flat_result = function.flat_result(self.types);
        let result_end = function.result_end(self.types).cast_signed();
        if function.spills() {
            body.code().i32_const(BLOCKS.cast_signed());
        } else {
            flat::load(&mut body, self.types, &function.arguments, BASE);
        }
        if function.returns_pointer(self.types) {
            body.code().i32_const(BASE.cast_signed());
        }
        let mut code = body.code();
        code.i32_const(result_end).global_set(self.arena.top);
        code.i32_const(result_end).global_get(self.arena.high).i32_gt_u().if_(BlockType::Empty);
        code.i32_const(result_end).global_set(self.arena.high).end();
        code.call(callee);
        if let (Some(result), Some(ty)) = (function.result, flat_result) {
            let local = body.local(ty);
            body.code().local_set(local);
            flat::store(&mut body, self.types, self.types.layout(result), BASE, &[FlatValue { local, ty }]);
        }
        let mut code = body.code();
        if function.result.is_some_and(|id| self.types.layout(id).points) {
            code.global_get(self.arena.top).i32_const(BASE.cast_signed()).i32_sub();
        } else {
            code.i32_const(result_end - BASE.cast_signed());
        }
        body
    }
}
