//! Stubs: what a component calls instead of another that is elsewhere.
//!
//! A stub exports the functions that its component imports across seams. When one is called, its arguments lie in the stub's memory
//! already, because that is where the canonical ABI puts them: only the flat ones are stored in front. Then the image goes to the host, and
//! the image of the result is lowered to the same place, from where the canonical ABI lifts it for the caller.

use isomer_ids::ComponentName;
use isomer_plan::PlannedStub;
use isomer_wire::image::{BASE, BLOCKS};
use wasm_encoder::{BlockType, CanonicalOption, ComponentExportKind, ComponentTypeRef, ExportKind, ValType};

use super::arena::RETURN_AREA;
use super::check::Checks;
use super::flat::{self, slots};
use super::function::{Crossing, Lost, interface_of};
use super::module::{Body, CoreModule, at};
use super::part::{Arena, GeneratedPart, HOST, PartBuilder, function_name, import_arena};
use super::task::{self, Tasks};
use super::types::{Kind, Scalar, Types};
use super::wire::{self, CALL_ERROR_REFUSED, WIRE};
use crate::encode;
use crate::error::SeamError;
use crate::world::World;

/// Generates the stub of a component. Its functions are exported by their numbers.
pub(crate) fn generate(stub: &PlannedStub, world: &World) -> Result<GeneratedPart, SeamError> {
    let mut types = Types::default();
    let mut functions = Vec::with_capacity(stub.functions.len());
    for function in &stub.functions {
        let interface = world.import(&function.interface.to_string());
        let interface = interface_of(&stub.component, &function.interface, interface)?;
        functions.push(Crossing::new(&mut types, world, interface, &function.function)?);
    }
    Ok(component(&stub.component, &types, &functions))
}

fn component(owner: &ComponentName, types: &Types, functions: &[Crossing]) -> GeneratedPart {
    let name = format!("isomer stub of {owner}");
    let mut part = PartBuilder::new(&name, types, BLOCKS);
    let wire_type = encode::instance_type(&wire::wire(), |_| unreachable!("it uses no other interface"));
    let wire_type = part.builder.type_instance(Some(WIRE), &wire_type);
    let wire = part.builder.import(WIRE, ComponentTypeRef::Instance(wire_type));
    let mut module = CoreModule::default();
    let arena = import_arena(&mut module);
    let kinds =
        [functions.iter().any(|function| !function.is_async), functions.iter().any(|function| function.is_async)];
    let [calls, begins] = kinds;
    let mut host = |module: &mut CoreModule, name: &str, parameters: &[ValType]| {
        let function = part.builder.alias_export(wire, name, ComponentExportKind::Func);
        let options = part.options();
        let lowered = part.builder.lower_func(Some(name), function, options);
        part.host(name, lowered);
        module.import_function((HOST, name), parameters, &[])
    };
    let refuse = host(&mut module, "refuse", &[ValType::I32]);
    let call = if calls { host(&mut module, "call", &[ValType::I32; 4]) } else { refuse };
    let take = if begins { host(&mut module, "take", &[ValType::I32; 2]) } else { refuse };
    let tasks = begins.then(|| Tasks::import(&mut part, &mut module, wire, take));
    let returns = functions.iter().enumerate().map(|(number, function)| {
        function.is_async.then(|| task::import_return(&mut part, &mut module, types, number, function))
    });
    let returns: Vec<_> = returns.collect();
    let writer = Writer { types, arena, refuse, call, image_end: module.global(BASE) };
    let tasks = tasks.map(|tasks| tasks.define(&mut module));
    let mut checks = Checks::new(types, writer.image_end);
    for (number, (function, task_return)) in functions.iter().zip(&returns).enumerate() {
        let check = function.result.and_then(|id| checks.of(&mut module, id));
        match (&tasks, task_return) {
            (Some(tasks), Some(task_return)) => {
                tasks.write(&mut module, &writer, number, function, (check, *task_return));
            }
            _ => writer.write(&mut module, number, function, check),
        }
    }
    let instance = part.instantiate(&name, &module.finish(&name));
    for (number, function) in functions.iter().enumerate() {
        let own = function_name(number);
        let core = part.core_function(instance, &own);
        let mut options = part.options();
        if function.is_async {
            options.push(CanonicalOption::Async);
            options.push(CanonicalOption::Callback(part.core_function(instance, &task::callback_name(number))));
        } else if function.returns_pointer(types) {
            options.push(CanonicalOption::PostReturn(part.core_function(instance, &post_return_name(number))));
        }
        let ty = function.define_type(&mut part.builder, types, &part.types);
        let lifted = part.builder.lift_func(Some(&function.name), core, ty, options);
        part.builder.export(own.as_str(), ComponentExportKind::Func, lifted, None);
    }
    part.finish()
}

fn post_return_name(number: usize) -> String {
    format!("{}-post-return", function_name(number))
}

/// Writes functions; numbers are indices in the core module.
pub(crate) struct Writer<'a> {
    pub(crate) types: &'a Types,
    pub(crate) arena: Arena,
    refuse: u32,
    call: u32,
    /// A global: where the image ends, for checks.
    image_end: u32,
}

impl Writer<'_> {
    fn write(&self, module: &mut CoreModule, number: usize, function: &Crossing, check: Option<u32>) {
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

    /// The body of a synchronous function.
    fn call(&self, number: usize, function: &Crossing, parameters: &[ValType], check: Option<u32>) -> Body {
        let mut body = Body::new(parameters.len());
        self.store_arguments(&mut body, function, parameters);
        body.code().i32_const(core_number(number)).i32_const(BASE.cast_signed());
        self.push_image_length(&mut body, function);
        body.code().i32_const(RETURN_AREA.cast_signed());
        body.code().i32_const(BASE.cast_signed()).global_set(self.arena.top).call(self.call);
        self.answer(&mut body, number, function, check, stored_end(function), |body| {
            self.push_result(body, function);
            body.code().return_();
        });
        body
    }

    /// Looks at the answer in the return area and delivers the result that lies at the base, or the value that tells of a lost
    /// call. Up to `stored`, the memory may hold what the high-water mark does not know of.
    pub(crate) fn answer(
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
            flat::store(body, self.types, &function.arguments, BASE, &slots(parameters));
        }
    }

    /// The bytes of the image of the arguments.
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
            // An image without blocks ends with its root.
            code.i32_const(root_end).global_get(self.arena.top);
            code.global_get(self.arena.top).i32_const(BLOCKS.cast_signed()).i32_eq().select();
        }
        code.i32_const(BASE.cast_signed()).i32_sub();
    }

    /// Leaves what the function returns on the stack, and the memory clean unless a result in it is still to be read.
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

    /// Writes the value that tells of a lost call to the base; the reason lies in the return area. False where the function has no
    /// place for it: the host traps before it answers such a function with an error.
    fn write_lost(&self, body: &mut Body, function: &Crossing, stored: u32) -> bool {
        let Some((lost, result)) = function.lost.zip(function.result) else { return false };
        let Kind::Variant { cases, payload_offset, .. } = &self.types.layout(result).kind else {
            unreachable!("only a result has an error")
        };
        let error = cases[1].expect("an error with a place is a value");
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

    /// Zeroes all that was written since the last reset, and lets the next call begin. What lies below `stored` (a multiple of 16)
    /// is zeroed in any case: flat arguments were stored without moving the high-water mark.
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

/// Where what was stored flat ends, rounded up to 16.
pub(crate) fn stored_end(function: &Crossing) -> u32 {
    if function.spills() { BASE } else { function.arguments_end().next_multiple_of(16) }
}

/// A function's number as generated code says it.
pub(crate) fn core_number(number: usize) -> i32 {
    i32::try_from(number).expect("a component has fewer functions")
}

/// Up to so many bytes are zeroed by stores in place.
const INLINE_ZEROES_MAX: u32 = 64;
