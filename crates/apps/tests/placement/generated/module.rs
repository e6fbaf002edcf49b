//! The core modules of the generated components, written as text.
//!
//! Memory is allocated upwards and freed at the end of a call. Freed memory is filled with bytes that are not zero, so
//! that reads of memory that was not initialised are detected.

use std::fmt::Write as _;

use super::image;
use super::package::{Function, Gives, Package, Style};
use super::types::{FLAT_MAX, Flat, Type, discriminant_bytes, fields, flat_all};

/// The maximum number of flat values with which a task is started. If there are more, they are passed in memory.
const FLAT_MAX_OF_TASK: usize = 4;

/// The address of the constants that functions return.
const CONSTANTS: u32 = 1024;

/// Returns the module of the component `driver`. It imports all functions of the package and calls none, because the
/// test itself makes the calls.
pub(crate) fn driver(package: &Package) -> String {
    let mut text = String::from("(module\n");
    for function in &package.functions {
        import(&mut text, package, "front", function);
    }
    allocator(&mut text, CONSTANTS);
    text + ")"
}

/// Returns the module of the relay, which forwards every call to the callee.
pub(crate) fn relay(package: &Package) -> String {
    let mut text = String::from("(module\n");
    for function in &package.functions {
        match style(function, function.relay) {
            Style::Blocking => import(&mut text, package, "echo", function),
            Style::Callback => import_task(&mut text, package, function),
        }
    }
    text.push_str(
        r#"(import "$root" "[waitable-set-new]" (func $set-new (result i32)))
        (import "$root" "[waitable-set-drop]" (func $set-drop (param i32)))
        (import "$root" "[waitable-join]" (func $join (param i32 i32)))
        (import "$root" "[subtask-drop]" (func $subtask-drop (param i32)))
        (global $set (mut i32) (i32.const 0))
        (global $result (mut i32) (i32.const 0))
        "#,
    );
    allocator(&mut text, CONSTANTS);
    let front = package.interface("front");
    for function in &package.functions {
        match style(function, function.relay) {
            Style::Blocking => pass_on(&mut text, &front, function),
            Style::Callback => pass_on_as_task(&mut text, &front, function),
        }
    }
    text + ")"
}

/// Returns the module of the callee, which returns its arguments.
pub(crate) fn callee(package: &Package) -> String {
    let mut text = String::from("(module\n");
    let echo = package.interface("echo");
    for function in &package.functions {
        if style(function, function.callee) == Style::Callback {
            import_task_return(&mut text, &echo, function);
        }
    }
    let mut end = CONSTANTS;
    for function in &package.functions {
        let name = &function.name;
        if let Gives::Constant(ty, value) = &function.gives {
            let bytes = image::at(end, ty, value);
            let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
            let _ = writeln!(text, "(data (i32.const {end}) \"{escaped}\")\n(global ${name} i32 (i32.const {end}))");
            end = (end + bytes.len() as u32).next_multiple_of(16);
        }
    }
    allocator(&mut text, end);
    for function in &package.functions {
        match style(function, function.callee) {
            Style::Blocking => give_back(&mut text, &echo, function),
            Style::Callback => give_back_as_task(&mut text, &echo, function),
        }
    }
    text + ")"
}

fn style(function: &Function, wanted: Style) -> Style {
    if function.is_async { wanted } else { Style::Blocking }
}

fn allocator(text: &mut String, from: u32) {
    let pages = from.div_ceil(1 << 16) + 1;
    let _ = writeln!(
        text,
        r#"(memory (export "memory") {pages})
        (global $top (mut i32) (i32.const {from}))
        (func $allocate (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
            (local $at i32) (local $end i32)
            (local.set $at (i32.and
                (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                (i32.sub (i32.const 0) (local.get $align))))
            (local.set $end (i32.add (local.get $at) (local.get $size)))
            (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
                (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16)))))
                    (then unreachable))))
            (memory.copy (local.get $at) (local.get $old)
                (select (local.get $had) (local.get $size) (i32.lt_u (local.get $had) (local.get $size))))
            (global.set $top (local.get $end))
            (local.get $at))
        (func $over
            (memory.fill (i32.const {from}) (i32.const 0xaa) (i32.sub (global.get $top) (i32.const {from})))
            (global.set $top (i32.const {from})))"#
    );
}

fn names(types: &[Flat]) -> String {
    types.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(" ")
}

/// Returns the flat parameters of a function. If there are more than `most`, the only parameter is a pointer to them.
fn core_parameters(function: &Function, most: usize) -> Vec<Flat> {
    let flat = flat_all(&function.parameters);
    if flat.len() > most { vec![Flat::I32] } else { flat }
}

/// Returns the result of a synchronous core function: nothing, one value, or a pointer.
fn core_result(function: &Function) -> Vec<Flat> {
    let Some(result) = function.result() else { return vec![] };
    match result.flat().as_slice() {
        [only] => vec![*only],
        _ => vec![Flat::I32],
    }
}

fn returns_pointer(function: &Function) -> bool {
    function.result().is_some_and(|ty| ty.flat().len() > 1)
}

/// Writes the import of another component's function for synchronous calls.
fn import(text: &mut String, package: &Package, interface: &str, function: &Function) {
    let mut parameters = core_parameters(function, FLAT_MAX);
    let mut result = core_result(function);
    if returns_pointer(function) {
        parameters.push(Flat::I32);
        result.clear();
    }
    let (interface, name) = (package.interface(interface), &function.name);
    let _ = writeln!(
        text,
        r#"(import "{interface}" "{name}" (func $import-{name} (param {}) (result {})))"#,
        names(&parameters),
        names(&result)
    );
}

/// Writes two imports: an `async func` of another component, which is called as a task, and the function with which the
/// caller's own task returns its result.
fn import_task(text: &mut String, package: &Package, function: &Function) {
    let mut parameters = core_parameters(function, FLAT_MAX_OF_TASK);
    if function.result().is_some() {
        parameters.push(Flat::I32);
    }
    let (interface, name) = (package.interface("echo"), &function.name);
    let _ = writeln!(
        text,
        r#"(import "{interface}" "[async-lower]{name}" (func $import-{name} (param {}) (result i32)))"#,
        names(&parameters)
    );
    import_task_return(text, &package.interface("front"), function);
}

fn import_task_return(text: &mut String, interface: &str, function: &Function) {
    let parameters = task_return_parameters(function);
    let name = &function.name;
    let _ = writeln!(
        text,
        r#"(import "[export]{interface}" "[task-return]{name}" (func $return-{name} (param {})))"#,
        names(&parameters)
    );
}

fn task_return_parameters(function: &Function) -> Vec<Flat> {
    let flat = function.result().map_or_else(Vec::new, |ty| ty.flat());
    if flat.len() > FLAT_MAX { vec![Flat::I32] } else { flat }
}

/// Writes the beginning of an exported function with the parameters `$a0`, `$a1`, …
fn head(text: &mut String, export: &str, parameters: &[Flat], result: &[Flat]) {
    let _ = write!(text, "(func (export \"{export}\")");
    for (number, ty) in parameters.iter().enumerate() {
        let _ = write!(text, " (param $a{number} {})", ty.name());
    }
    let _ = writeln!(text, " (result {}) (local $to i32) (local $state i32)", names(result));
}

fn post_return(text: &mut String, export: &str, function: &Function) {
    let result = names(&core_result(function));
    let _ = writeln!(text, r#"(func (export "cabi_post_{export}") (param {result}) (call $over))"#);
}

fn arguments(parameters: &[Flat]) -> String {
    (0..parameters.len()).map(|number| format!("(local.get $a{number}) ")).collect()
}

/// Returns the flat values of parameters as expressions in the text format.
fn flat_arguments(parameters: &[Flat]) -> Vec<(String, Flat)> {
    let numbered = parameters.iter().enumerate();
    numbered.map(|(number, ty)| (format!("(local.get $a{number})"), *ty)).collect()
}

fn allocate(ty: &Type) -> String {
    format!("(call $allocate (i32.const 0) (i32.const 0) (i32.const {}) (i32.const {}))", ty.align(), ty.size())
}

fn pass_on(text: &mut String, front: &str, function: &Function) {
    let (name, parameters) = (&function.name, core_parameters(function, FLAT_MAX));
    let export = format!("{front}#{name}");
    head(text, &export, &parameters, &core_result(function));
    let arguments = arguments(&parameters);
    match function.result().filter(|_| returns_pointer(function)) {
        Some(ty) => {
            let to = allocate(&ty);
            let _ = writeln!(
                text,
                "(local.set $to {to}) (call $import-{name} {arguments} (local.get $to)) (local.get $to))"
            );
        }
        None => {
            let _ = writeln!(text, "(call $import-{name} {arguments}))");
        }
    }
    post_return(text, &export, function);
}

fn pass_on_as_task(text: &mut String, front: &str, function: &Function) {
    let (name, parameters) = (&function.name, core_parameters(function, FLAT_MAX));
    head(text, &format!("[async-lift]{front}#{name}"), &parameters, &[Flat::I32]);
    let mut passed = arguments(&parameters);
    if flat_all(&function.parameters).len() <= FLAT_MAX && parameters.len() > FLAT_MAX_OF_TASK {
        let tuple = Type::Tuple(function.parameters.clone());
        let _ = writeln!(text, "(local.set $to {})", allocate(&tuple));
        store(text, &tuple, 0, &flat_arguments(&parameters));
        passed = "(local.get $to)".to_owned();
    }
    if let Some(ty) = function.result() {
        let _ = writeln!(text, "(global.set $result {})", allocate(&ty));
        passed.push_str("(global.get $result)");
    }
    let _ = writeln!(
        text,
        r#"(local.set $state (call $import-{name} {passed}))
        (if (i32.eq (i32.and (local.get $state) (i32.const 15)) (i32.const 2))
            (then (call $finish-{name}) (return (i32.const 0))))
        (global.set $set (call $set-new))
        (call $join (i32.shr_u (local.get $state) (i32.const 4)) (global.get $set))
        (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
        (func (export "[callback][async-lift]{front}#{name}") (param $event i32) (param $subtask i32) (param $state i32) (result i32)
            (if (i32.ne (local.get $event) (i32.const 1)) (then unreachable))
            (if (i32.ne (local.get $state) (i32.const 2))
                (then (return (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))))
            (call $join (local.get $subtask) (i32.const 0))
            (call $subtask-drop (local.get $subtask))
            (call $set-drop (global.get $set))
            (call $finish-{name})
            (i32.const 0))
        (func $finish-{name} (local $to i32)"#
    );
    if let Some(ty) = function.result() {
        let _ = writeln!(text, "(local.set $to (global.get $result))");
        push_task_result(text, &ty);
    }
    let _ = writeln!(text, "(call $return-{name}) (call $over))");
}

/// Writes the arguments of `task.return` for the result at the address `$to`: its flat values, or the address if there
/// are too many.
fn push_task_result(text: &mut String, ty: &Type) {
    let flat = ty.flat();
    if flat.len() > FLAT_MAX {
        text.push_str("(local.get $to)\n");
    } else {
        load(text, ty, 0, &flat);
    }
}

fn give_back(text: &mut String, echo: &str, function: &Function) {
    let (name, parameters) = (&function.name, core_parameters(function, FLAT_MAX));
    let export = format!("{echo}#{name}");
    head(text, &export, &parameters, &core_result(function));
    match (&function.gives, function.result()) {
        (Gives::Constant(ty, _), _) => {
            let _ = writeln!(text, "(local.set $to (global.get ${name}))");
            if returns_pointer(function) {
                text.push_str("(local.get $to)\n");
            } else {
                load(text, ty, 0, &ty.flat());
            }
        }
        (_, None) => {}
        // The only parameter is one flat value, or a pointer to all parameters. In both cases, it is also the result.
        (_, Some(_)) if parameters.len() == 1 => text.push_str("(local.get $a0)\n"),
        (_, Some(ty)) => {
            let _ = writeln!(text, "(local.set $to {})", allocate(&ty));
            store(text, &ty, 0, &flat_arguments(&parameters));
            text.push_str("(local.get $to)\n");
        }
    }
    text.push_str(")\n");
    post_return(text, &export, function);
}

fn give_back_as_task(text: &mut String, echo: &str, function: &Function) {
    let (name, parameters) = (&function.name, core_parameters(function, FLAT_MAX));
    head(text, &format!("[async-lift]{echo}#{name}"), &parameters, &[Flat::I32]);
    match &function.gives {
        Gives::Nothing => {}
        Gives::Constant(ty, _) => {
            let _ = writeln!(text, "(local.set $to (global.get ${name}))");
            push_task_result(text, ty);
        }
        Gives::Only | Gives::All => text.push_str(&arguments(&parameters)),
    }
    let _ = writeln!(
        text,
        r#"(call $return-{name}) (call $over) (i32.const 0))
        (func (export "[callback][async-lift]{echo}#{name}") (param i32 i32 i32) (result i32) unreachable)"#
    );
}

/// Writes code that stores flat values to memory, at `$to` plus `offset`.
fn store(text: &mut String, ty: &Type, offset: u32, values: &[(String, Flat)]) {
    let mut put = |instruction: &str, offset: u32, (value, have): &(String, Flat), want: Flat| {
        let value = narrowed(value, *have, want);
        let _ = writeln!(text, "({instruction} offset={offset} (local.get $to) {value})");
    };
    if let Some(parts) = ty.parts() {
        let mut rest = values;
        for (part, at) in parts.iter().zip(fields(parts).0) {
            let (own, behind) = rest.split_at(part.flat().len());
            store(text, part, offset + at, own);
            rest = behind;
        }
    } else if let Some(cases) = ty.cases() {
        let instruction = if discriminant_bytes(cases.len()) == 1 { "i32.store8" } else { "i32.store16" };
        put(instruction, offset, &values[0], Flat::I32);
        let case_of_call = narrowed(&values[0].0, values[0].1, Flat::I32);
        for (case, payload) in cases.iter().enumerate() {
            if let Some(payload) = payload {
                let _ = writeln!(text, "(if (i32.eq {case_of_call} (i32.const {case})) (then");
                // A flat value that several cases share has the joined type. Before the value is stored, it is narrowed
                // to its type in this case.
                let joined = ty.flat();
                let values = values.iter().zip(&joined).skip(1);
                let values: Vec<_> = values
                    .map(|((value, have), want)| (narrowed(value, *have, *want), *want))
                    .take(payload.flat().len())
                    .collect();
                store(text, payload, offset + ty.payload_offset(), &values);
                text.push_str("))\n");
            }
        }
    } else {
        match ty {
            Type::String | Type::List(_) => {
                put("i32.store", offset, &values[0], Flat::I32);
                put("i32.store", offset + 4, &values[1], Flat::I32);
            }
            _ => {
                let want = ty.flat()[0];
                let instruction = match (want, ty.size()) {
                    (Flat::I32, 1) => "i32.store8",
                    (Flat::I32, 2) => "i32.store16",
                    (Flat::I32, _) => "i32.store",
                    (Flat::I64, _) => "i64.store",
                    (Flat::F32, _) => "f32.store",
                    (Flat::F64, _) => "f64.store",
                };
                put(instruction, offset, &values[0], want);
            }
        }
    }
}

/// Writes code that loads the flat values at `$to` plus `offset` and converts them to the types in `want`.
fn load(text: &mut String, ty: &Type, offset: u32, want: &[Flat]) {
    let mut get = |instruction: &str, offset: u32, have: Flat, want: Flat| {
        let value = format!("({instruction} offset={offset} (local.get $to))");
        let _ = writeln!(text, "{}", widened(&value, have, want));
    };
    if let Some(parts) = ty.parts() {
        let mut rest = want;
        for (part, at) in parts.iter().zip(fields(parts).0) {
            let (own, behind) = rest.split_at(part.flat().len());
            load(text, part, offset + at, own);
            rest = behind;
        }
    } else if let Some(cases) = ty.cases() {
        let instruction = if discriminant_bytes(cases.len()) == 1 { "i32.load8_u" } else { "i32.load16_u" };
        get(instruction, offset, Flat::I32, want[0]);
        let want = &want[1..];
        let mut open = 0;
        for (case, payload) in cases.iter().enumerate() {
            if let Some(payload) = payload {
                let (own, beyond) = want.split_at(payload.flat().len());
                let _ = writeln!(
                    text,
                    "(if (result {}) (i32.eq ({instruction} offset={offset} (local.get $to)) (i32.const {case})) (then",
                    names(want)
                );
                load(text, payload, offset + ty.payload_offset(), own);
                text.push_str(&zeroes(beyond));
                text.push_str(") (else\n");
                open += 1;
            }
        }
        text.push_str(&zeroes(want));
        text.push_str(&"))".repeat(open));
    } else {
        match ty {
            Type::String | Type::List(_) => {
                get("i32.load", offset, Flat::I32, want[0]);
                get("i32.load", offset + 4, Flat::I32, want[1]);
            }
            _ => {
                let signed = matches!(ty, Type::Integer(_, true));
                let instruction = match (ty.flat()[0], ty.size()) {
                    (Flat::I32, 1) => {
                        if signed {
                            "i32.load8_s"
                        } else {
                            "i32.load8_u"
                        }
                    }
                    (Flat::I32, 2) => {
                        if signed {
                            "i32.load16_s"
                        } else {
                            "i32.load16_u"
                        }
                    }
                    (Flat::I32, _) => "i32.load",
                    (Flat::I64, _) => "i64.load",
                    (Flat::F32, _) => "f32.load",
                    (Flat::F64, _) => "f64.load",
                };
                get(instruction, offset, ty.flat()[0], want[0]);
            }
        }
    }
}

fn zeroes(types: &[Flat]) -> String {
    types.iter().map(|ty| format!("({}.const 0) ", ty.name())).collect()
}

/// Converts a value to a flat type that can hold its bits.
fn widened(value: &str, have: Flat, want: Flat) -> String {
    match (have, want) {
        (Flat::F32, Flat::I32) => format!("(i32.reinterpret_f32 {value})"),
        (Flat::I32, Flat::I64) => format!("(i64.extend_i32_u {value})"),
        (Flat::F32, Flat::I64) => format!("(i64.extend_i32_u (i32.reinterpret_f32 {value}))"),
        (Flat::F64, Flat::I64) => format!("(i64.reinterpret_f64 {value})"),
        _ => value.to_owned(),
    }
}

/// Converts a value back to its own type: the reverse of [`widened`].
fn narrowed(value: &str, have: Flat, want: Flat) -> String {
    match (have, want) {
        (Flat::I32, Flat::F32) => format!("(f32.reinterpret_i32 {value})"),
        (Flat::I64, Flat::I32) => format!("(i32.wrap_i64 {value})"),
        (Flat::I64, Flat::F32) => format!("(f32.reinterpret_i32 (i32.wrap_i64 {value}))"),
        (Flat::I64, Flat::F64) => format!("(f64.reinterpret_i64 {value})"),
        _ => value.to_owned(),
    }
}
