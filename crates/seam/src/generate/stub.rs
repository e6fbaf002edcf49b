//! Stubs, which a component calls instead of a callee in another composition.
//!
//! A stub exports the functions that its component imports across seams. When such a function is called, the canonical
//! ABI has already written the contents of strings and lists into the stub's memory, and the stub stores the flat
//! arguments before them. The stub then passes this image to the host. The image of the result is copied to the address
//! at which the image of the arguments began, and the canonical ABI lifts it from there for the caller.

use isomer_ids::ComponentName;
use isomer_plan::PlannedStub;
use isomer_wire::image::{BASE, BLOCKS};
use wasm_encoder::{CanonicalOption, ComponentExportKind, ComponentTypeRef, ValType};

use super::check::Checks;
use super::function::{Crossing, interface_of};
use super::module::CoreModule;
use super::part::{GeneratedPart, HOST, PartBuilder, function_name, import_arena};
use super::task::{self, Tasks};
use super::types::Types;
use super::wire::{self, WIRE};
use super::writer::{Writer, post_return_name};
use crate::encoding;
use crate::error::SeamError;
use crate::world::World;

/// Generates the stub through which a component calls functions over seams. The stub exports each function under a name
/// that is made from the function's number.
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
    let wire_type =
        encoding::instance_type(&wire::wire(), |_| unreachable!("`isomer:link/wire` uses no other interface"));
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
