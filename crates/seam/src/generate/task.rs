//! The code for `async func`s in a stub, which allows many calls in flight from one instance.
//!
//! Such a function is lifted with the callback ABI. It makes an image of its arguments and starts the call with
//! `wire.begin`, which is lowered asynchronously. The host has its own copy of the image when `wire.begin` returns, so
//! the memory can be cleared and used for the next call immediately. Either `wire.begin` or a later event reports that
//! the result is available. Then `wire.take` copies the result into the memory, the stub checks it, `task.return`
//! lifts it, and the memory is cleared again. The memory contains no data of a call while the call is in flight.
//!
//! A call in flight must remember two handles: its subtask and its waitable set. The number of the set also serves as
//! the ticket of the call, because no other call in flight has the same set. A task can store only 32 bits, so handles
//! have 16 bits. A larger handle occurs with some 30,000 calls in flight; the stub traps in that case. When a call
//! ends, its waitable set is kept for the next call, unless one is kept already.
//!
//! If a call is cancelled, its subtask is cancelled. If the result arrived before the cancellation, the result is
//! returned.

use isomer_wire::image::BASE;
use wasm_encoder::{BlockType, CanonicalOption, ComponentExportKind, ExportKind, ValType};

use super::arena::RETURN_AREA;
use super::flat;
use super::function::Crossing;
use super::module::{Body, CoreModule};
use super::part::{HOST, PartBuilder, function_name, value_type};
use super::types::Types;
use super::writer::{Writer, core_number, stored_end};

/// The indices, in the core module of a stub, of the functions and the global with which the stub makes asynchronous
/// calls and keeps track of them.
pub(crate) struct Tasks {
    begin: u32,
    take: u32,
    set_new: u32,
    set_drop: u32,
    join: u32,
    subtask_drop: u32,
    subtask_cancel: u32,
    task_cancel: u32,
    get: u32,
    set: u32,
    /// The function in which the stub traps if it has too many calls in flight.
    too_many: u32,
    /// The global that contains an unused waitable set, or 0.
    spare: u32,
}

// Constants of the canonical ABI: subtask states, events and callback codes.
const SUBTASK_RETURNED: i32 = 2;
const SUBTASK_STATE_BITS: i32 = 4;
const CALLBACK_EXIT: i32 = 0;
const CALLBACK_WAIT: i32 = 2;
const EVENT_CANCELLED: i32 = 6;

/// The number of bits of a handle in a task's context. The upper bits of the context contain the handle of the call's
/// waitable set, which is also the call's ticket, the number by which the host identifies the call. The lower bits
/// contain the handle of the subtask.
const HANDLE_BITS: i32 = 16;

/// The name of the function in which a stub traps if it has so many calls in flight that a handle exceeds 16 bits.
const TOO_MANY_CALLS: &str = "too_many_calls_in_flight";

impl Tasks {
    /// Imports the functions with which the stub makes asynchronous calls and keeps track of them. `wire` is the index
    /// of the imported instance.
    pub(crate) fn import(part: &mut PartBuilder, module: &mut CoreModule, wire: u32, take: u32) -> Self {
        const I: ValType = ValType::I32;
        let begin = part.builder.alias_export(wire, "begin", ComponentExportKind::Func);
        let mut options = part.reading_options();
        options.push(CanonicalOption::Async);
        let begin = part.builder.lower_func(Some("begin"), begin, options);
        let mut import =
            |part: &mut PartBuilder, name: &str, index: u32, parameters: &[ValType], results: &[ValType]| {
                part.host(name, index);
                module.import_function((HOST, name), parameters, results)
            };
        let set_new = part.builder.waitable_set_new();
        let set_drop = part.builder.waitable_set_drop();
        let join = part.builder.waitable_join();
        let subtask_drop = part.builder.subtask_drop();
        let subtask_cancel = part.builder.subtask_cancel(false);
        let task_cancel = part.builder.task_cancel();
        let get = part.builder.context_get(I, 0);
        let set = part.builder.context_set(I, 0);
        Tasks {
            begin: import(part, "begin", begin, &[I; 4], &[I]),
            take,
            set_new: import(part, "waitable-set.new", set_new, &[], &[I]),
            set_drop: import(part, "waitable-set.drop", set_drop, &[I], &[]),
            join: import(part, "waitable.join", join, &[I; 2], &[]),
            subtask_drop: import(part, "subtask.drop", subtask_drop, &[I], &[]),
            subtask_cancel: import(part, "subtask.cancel", subtask_cancel, &[I], &[I]),
            task_cancel: import(part, "task.cancel", task_cancel, &[], &[]),
            get: import(part, "context.get", get, &[], &[I]),
            set: import(part, "context.set", set, &[I], &[]),
            too_many: 0,
            spare: 0,
        }
    }

    /// Defines the global `spare` and the function `too_many`. Must be called after all imports.
    pub(crate) fn define(self, module: &mut CoreModule) -> Self {
        let too_many = module.declare(TOO_MANY_CALLS, &[], &[]);
        let mut body = Body::new(0);
        body.code().unreachable();
        module.define(too_many, body);
        Tasks { spare: module.global(0), too_many, ..self }
    }

    /// Writes an `async func` and its callback.
    pub(crate) fn write(
        &self,
        module: &mut CoreModule,
        writer: &Writer<'_>,
        number: usize,
        function: &Crossing,
        (check, task_return): (Option<u32>, u32),
    ) {
        let parameters = function.core_parameters();
        let finish = module.declare(&format!("answer of {}", function.name), &[ValType::I32], &[ValType::I32]);
        module.define(finish, self.finish(writer, number, function, check, task_return));
        let index = module.declare(&function.name, &parameters, &[ValType::I32]);
        module.define(index, self.begin(writer, number, function, &parameters, finish));
        module.export(&function_name(number), ExportKind::Func, index);
        let name = format!("{} goes on", function.name);
        let index = module.declare(&name, &[ValType::I32; 3], &[ValType::I32]);
        module.define(index, self.callback(finish));
        module.export(&callback_name(number), ExportKind::Func, index);
    }

    /// Returns the body of the `async func`, which starts the call.
    fn begin(
        &self,
        writer: &Writer<'_>,
        number: usize,
        function: &Crossing,
        parameters: &[ValType],
        finish: u32,
    ) -> Body {
        let mut body = Body::new(parameters.len());
        let (ticket, state) = (body.local(ValType::I32), body.local(ValType::I32));
        writer.store_arguments(&mut body, function, parameters);
        let mut code = body.code();
        code.global_get(self.spare).local_tee(ticket).if_(BlockType::Empty);
        code.i32_const(0).global_set(self.spare);
        code.else_().call(self.set_new).local_set(ticket).end();
        code.local_get(ticket).i32_const(core_number(number)).i32_const(BASE.cast_signed());
        writer.push_image_length(&mut body, function);
        body.code().call(self.begin).local_set(state);
        // Writes a trap for the case that the host has not started the call: it would read the image later, when this
        // code has reused the memory. The trap is never reached, because the host starts every call immediately.
        let mut code = body.code();
        code.local_get(state).i32_const((1 << SUBTASK_STATE_BITS) - 1).i32_and().i32_eqz();
        code.if_(BlockType::Empty).unreachable().end();
        writer.reset(&mut body, stored_end(function));
        let mut code = body.code();
        code.local_get(state).i32_const(SUBTASK_RETURNED).i32_eq().if_(BlockType::Empty);
        code.local_get(ticket).call(finish).return_().end();
        code.local_get(state).i32_const(SUBTASK_STATE_BITS).i32_shr_u().local_tee(state).local_get(ticket).i32_or();
        code.i32_const(HANDLE_BITS).i32_shr_u().if_(BlockType::Empty).call(self.too_many).end();
        code.local_get(ticket).i32_const(HANDLE_BITS).i32_shl().local_get(state).i32_or().call(self.set);
        code.local_get(state).local_get(ticket).call(self.join);
        code.local_get(ticket).i32_const(SUBTASK_STATE_BITS).i32_shl().i32_const(CALLBACK_WAIT).i32_or();
        body
    }

    /// Returns the body of `callback(event, waitable, state) → next action`.
    fn callback(&self, finish: u32) -> Body {
        let mut body = Body::new(3);
        let (event, subtask, state) = (0, 1, 2);
        let ticket = body.local(ValType::I32);
        let mut code = body.code();
        code.call(self.get).local_tee(ticket).i32_const((1 << HANDLE_BITS) - 1).i32_and().local_set(subtask);
        code.local_get(ticket).i32_const(HANDLE_BITS).i32_shr_u().local_set(ticket);
        code.local_get(event).i32_const(EVENT_CANCELLED).i32_eq().if_(BlockType::Empty);
        // The subtask is removed from its set before `subtask.cancel`, which waits for the subtask: the members of a
        // set can only be waited for through the set.
        code.local_get(subtask).i32_const(0).call(self.join);
        code.local_get(subtask).call(self.subtask_cancel).local_set(state).end();
        // If the call has started but not returned, keeps waiting.
        code.local_get(state).i32_const(SUBTASK_RETURNED).i32_lt_u().if_(BlockType::Empty);
        code.local_get(ticket).i32_const(SUBTASK_STATE_BITS).i32_shl().i32_const(CALLBACK_WAIT).i32_or();
        code.return_().end();
        code.local_get(subtask).call(self.subtask_drop);
        code.local_get(state).i32_const(SUBTASK_RETURNED).i32_eq().if_(BlockType::Empty);
        code.local_get(ticket).call(finish).return_().end();
        code.local_get(ticket);
        self.give_back(&mut body);
        body.code().call(self.task_cancel).i32_const(CALLBACK_EXIT);
        body
    }

    /// Returns the body of `finish(ticket) → exit`, which takes the result and returns it to the caller.
    fn finish(
        &self,
        writer: &Writer<'_>,
        number: usize,
        function: &Crossing,
        check: Option<u32>,
        task_return: u32,
    ) -> Body {
        let mut body = Body::new(1);
        let ticket = 0;
        body.code().i32_const(BASE.cast_signed()).global_set(writer.arena.top);
        body.code().local_get(ticket).i32_const(RETURN_AREA.cast_signed()).call(self.take);
        body.code().local_get(ticket);
        self.give_back(&mut body);
        writer.evaluate_reply(&mut body, number, function, check, BASE, |body| {
            if let Some(result) = function.result {
                let layout = writer.types.layout(result);
                if layout.flat.is_some() {
                    flat::load(body, writer.types, layout, BASE);
                } else {
                    body.code().i32_const(BASE.cast_signed());
                }
            }
            body.code().call(task_return);
            writer.reset(body, BASE);
            body.code().i32_const(CALLBACK_EXIT).return_();
        });
        body
    }

    /// Writes code that takes a waitable set from the stack and stores it in a global variable for the next call. If
    /// this variable already holds a set, the code drops the set from the stack instead.
    fn give_back(&self, body: &mut Body) {
        let set = body.local(ValType::I32);
        let mut code = body.code();
        code.local_set(set).global_get(self.spare).if_(BlockType::Empty);
        code.local_get(set).call(self.set_drop);
        code.else_().local_get(set).global_set(self.spare).end();
    }
}

/// Imports `task.return` with the type of the function's result. Returns the index of the imported function.
pub(crate) fn import_return(
    part: &mut PartBuilder,
    module: &mut CoreModule,
    types: &Types,
    number: usize,
    function: &Crossing,
) -> u32 {
    let result = function.result.map(|id| value_type(types, &part.types, id));
    let options = part.reading_options();
    let index = part.builder.task_return(result, options);
    let name = format!("task.return {number}");
    part.host(&name, index);
    module.import_function((HOST, &name), &function.task_return(types), &[])
}

/// Returns the name under which the core module exports the callback of the function with this number.
pub(crate) fn callback_name(number: usize) -> String {
    format!("{}-callback", function_name(number))
}
