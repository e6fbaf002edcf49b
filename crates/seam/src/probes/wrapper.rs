//! Writes the core module with the wrappers of a probed component: functions that report a call to the host, and have
//! the types of the core functions that they call.

use wasm_encoder::{BlockType, ExportKind, Module, ValType};

use crate::generate::module::{Body, CoreModule};
use crate::generate::probe::{ENTER, EXIT};

/// The module name of all function imports of the core module with the wrappers.
pub(super) const IMPORTS: &str = "probe";

/// The lowest bits of the code that a task returns: 0 if the task has ended, else what it waits for.
const WAIT_BITS: i32 = 0xf;

/// A core function that is wrapped.
#[derive(Debug, Clone)]
pub(super) struct Wrapper {
    pub(super) role: Role,
    /// The number of the probed function.
    pub(super) number: u32,
    /// The name of the wrapper in backtraces.
    pub(super) name: String,
    pub(super) parameters: Vec<ValType>,
    pub(super) results: Vec<ValType>,
}

/// The kind of a wrapped function, which decides when its wrapper reports the start and the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The core function runs the whole call.
    WholeCall,
    /// The core function starts a task. If the code that it returns is not 0, the task continues in the callback.
    Start,
    /// The core function continues a task. The call ends if the code that it returns is 0.
    Callback,
}

/// Returns the name under which the module imports the core function with this number, and exports its wrapper.
pub(super) fn wrapper_name(number: usize) -> String {
    format!("f{number}")
}

/// Returns the module. It imports `enter`, `exit` and the core functions, and exports the wrappers.
pub(super) fn module(name: &str, wrappers: &[Wrapper]) -> Module {
    let mut module = CoreModule::default();
    let enter = module.import_function((IMPORTS, ENTER), &[ValType::I32], &[]);
    let exit = module.import_function((IMPORTS, EXIT), &[ValType::I32], &[]);
    let wrapped: Vec<_> = wrappers
        .iter()
        .enumerate()
        .map(|(index, it)| module.import_function((IMPORTS, &wrapper_name(index)), &it.parameters, &it.results))
        .collect();
    for (index, (wrapper, wrapped)) in wrappers.iter().zip(wrapped).enumerate() {
        let function = module.declare(&wrapper.name, &wrapper.parameters, &wrapper.results);
        module.define(function, body(wrapper, [enter, wrapped, exit]));
        module.export(&wrapper_name(index), ExportKind::Func, function);
    }
    module.finish(name)
}

fn body(wrapper: &Wrapper, [enter, wrapped, exit]: [u32; 3]) -> Body {
    let mut body = Body::new(wrapper.parameters.len());
    let number = wrapper.number.cast_signed();
    if wrapper.role != Role::Callback {
        body.code().i32_const(number).call(enter);
    }
    for parameter in (0..).take(wrapper.parameters.len()) {
        body.code().local_get(parameter);
    }
    body.code().call(wrapped);
    // The results stay on the stack.
    if wrapper.role == Role::WholeCall {
        body.code().i32_const(number).call(exit);
        return body;
    }
    let code = body.local(ValType::I32);
    body.code().local_tee(code).local_get(code).i32_const(WAIT_BITS).i32_and().i32_eqz();
    body.code().if_(BlockType::Empty).i32_const(number).call(exit).end();
    body
}
