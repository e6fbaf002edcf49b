//! Two components on two sides of a seam, and a host between them.
//!
//! `caller` exports `test:app/front` and forwards its arguments to `test:app/api`. `callee` exports `test:app/api` and
//! calls `test:app/back`, which the host implements. All three interfaces have the same functions.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use isomer_plan::{PlannedGroup, PlannedSkeleton, PlannedStub, SeamMode, SkeletonFunction, StubFunction};
use isomer_seam::{component_type, compose};
use isomer_wire::FunctionKey;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Instance, Lift, Linker, Lower, TypedFunc, Val};
use wasmtime::{Engine, Result, Store};
use wit_component::StringEncoding;
use wit_parser::Resolve;
use wit_parser::abi::{AbiVariant, WasmType};

use super::{components, encoded, group, name, shared};

/// The `call-error` of `isomer:link/wire` as a component model value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum CallError {
    #[component(name = "unreachable")]
    Unreachable,
    #[component(name = "deadline")]
    Deadline,
    #[component(name = "overloaded")]
    Overloaded,
    #[component(name = "refused")]
    Refused,
}

/// The `refusal` of `isomer:link/dispatch` as a component model value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Refusal {
    #[component(name = "unknown-function")]
    UnknownFunction,
    #[component(name = "bad-image")]
    BadImage,
}

/// The result of a call through a skeleton: the result's image, or the reason for a refusal.
pub(crate) type Answer = std::result::Result<Vec<u8>, Refusal>;

/// The instance of the callee's group.
pub(crate) struct Callee {
    pub(crate) store: Store<Seen>,
    pub(crate) call: TypedFunc<(u32, Vec<u8>), (Answer,)>,
    pub(crate) call_async: TypedFunc<(u32, Vec<u8>), (Answer,)>,
}

/// The calls of `test:app/back` that the host has received.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: Vec<Vec<Val>>,
    /// The results that the calls return. If the list is empty, a call returns its first argument.
    pub(crate) answers: Vec<Val>,
}

/// The instance of the caller's group, which is connected to the callee.
pub(crate) struct Caller {
    pub(crate) store: Store<Wire>,
    pub(crate) instance: Instance,
}

/// The state of the host, which passes calls from the caller to the callee.
pub(crate) struct Wire {
    /// The callee; `None` while it serves an `async func`.
    pub(crate) callee: Option<Callee>,
    /// Copies of all images, of arguments as well as of results.
    pub(crate) images: Vec<Vec<u8>>,
    /// A function that is applied to each result of the callee before it is returned to the caller.
    pub(crate) answer: Box<dyn Fn(Answer) -> std::result::Result<Vec<u8>, CallError> + Send>,
    /// The numbers of functions whose results the stub refused.
    pub(crate) refused: Vec<u32>,
    /// The results that the caller has not taken yet, by ticket.
    pub(crate) waiting: HashMap<u32, Answer>,
}

/// An allocator for guests, which only grows the memory and never frees a block.
const GUEST_ALLOCATOR: &str = r#"
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 8192))
    (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
            (i32.sub (i32.const 0) (local.get $align))))
        (global.set $top (i32.add (local.get $at) (local.get $size)))
        (block $fits (loop $grow
            (br_if $fits (i32.le_u (global.get $top) (i32.shl (memory.size) (i32.const 16))))
            (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then unreachable))
            (br $grow)))
        (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
        (local.get $at))
"#;

/// Returns a component that exports the functions of `exported` and forwards each call to `imported`. `definitions` are
/// the types and functions of both interfaces in WIT.
pub(crate) fn pass_on(definitions: &str, imported: &str, exported: &str, encoding: StringEncoding) -> Arc<[u8]> {
    let mut resolve = Resolve::default();
    let interface = |name: &str| format!("interface {name} {{ {definitions} }}\n");
    let text = format!(
        "package test:app;\n{}{}world pass-on {{ import {imported}; export {exported}; }}\n{LINK}",
        interface(imported),
        interface(exported)
    );
    let package = resolve.push_str("test.wit", &text).expect("the WIT is right");
    let world = resolve.select_world(&[package], Some("pass-on")).expect("there is one world");
    let (_, interface) = resolve
        .interfaces
        .iter()
        .find(|(_, interface)| interface.name.as_deref() == Some(imported))
        .expect("the package is in the text");
    let (mut imports, mut functions) = (String::new(), String::new());
    for (name, function) in &interface.functions {
        let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
        let parameters: String = signature.params.iter().map(|ty| format!(" {}", core_type(*ty))).collect();
        let results: String = signature.results.iter().map(|ty| format!(" {}", core_type(*ty))).collect();
        imports += &format!(
            "(import \"test:app/{imported}\" \"{name}\" (func ${name} (param{parameters}) (result{results})))\n"
        );
        let export = resolve.wasm_signature(AbiVariant::GuestExport, function);
        let parameters: String = export.params.iter().map(|ty| format!(" {}", core_type(*ty))).collect();
        let results: String = export.results.iter().map(|ty| format!(" {}", core_type(*ty))).collect();
        let arguments: String = (0..export.params.len()).map(|local| format!(" (local.get {local})")).collect();
        // If a result is passed in memory, it is written to an address that has no other use.
        let (area, answer) = if signature.retptr { ("(i32.const 16)", "(i32.const 16)") } else { ("", "") };
        functions += &format!(
            "(func (export \"test:app/{exported}#{name}\") (param{parameters}) (result{results}) (call ${name}{arguments} {area}) {answer})\n"
        );
    }
    let module =
        wat::parse_str(format!("(module {imports} {GUEST_ALLOCATOR} {functions})")).expect("the text is right");
    encoded(module, &resolve, world, encoding).into()
}

/// The WIT of `isomer:link/types`, for functions whose error type contains `call-error`.
const LINK: &str =
    "package isomer:link@0.1.0 { interface types { enum call-error { unreachable, deadline, overloaded, refused } } }";

fn core_type(ty: WasmType) -> &'static str {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// Returns a planned group that consists of one component. If the component imports `test:app/api`, the group has a
/// stub for the functions of this interface; if the component exports it, the group has a skeleton for them.
pub(crate) fn crossing_group(component: &str, bytes: &[u8]) -> PlannedGroup {
    let ty = component_type(bytes).expect("the component can be read");
    let api = "test:app/api".parse().expect("the name of an interface");
    let key = FunctionKey([0; 16]);
    let mut group = group(&[component], &[], &[]);
    if let Some(interface) = ty.imports.get(&api) {
        let function = |(function, ty): (&String, &isomer_plan::FunctionType)| StubFunction {
            interface: api.clone(),
            function: function.clone(),
            is_async: ty.is_async,
            catches: ty.catches,
            idempotent: false,
            callee: name("callee"),
            key,
            mode: SeamMode::Isolated,
        };
        group.stubs = vec![PlannedStub {
            component: name(component),
            functions: interface.functions.iter().map(function).collect(),
        }];
    }
    if let Some(interface) = ty.exports.get(&api) {
        let function = |(function, ty): (&String, &isomer_plan::FunctionType)| SkeletonFunction {
            interface: api.clone(),
            function: function.clone(),
            is_async: ty.is_async,
            key,
        };
        let functions = interface.functions.iter().map(function).collect();
        group.skeletons = vec![PlannedSkeleton { component: name(component), functions }];
    }
    group
}

/// Instantiates the callee's group.
pub(crate) fn callee(engine: &Engine, definitions: &str, encoding: StringEncoding) -> Callee {
    let bytes = pass_on(definitions, "back", "api", encoding);
    let mut group = crossing_group("callee", &bytes);
    shared(&mut group, "callee", "test:app/back");
    if definitions.contains("call-error") {
        shared(&mut group, "callee", "isomer:link/types@0.1.0");
    }
    let composition = compose(&group, &components(&[("callee", bytes)])).expect("the group composes");
    assert_eq!(composition.skeletons.len(), 1);
    let compiled = Component::new(engine, &composition.bytes).expect("the component compiles");
    let mut linker = Linker::<Seen>::new(engine);
    link_back(&mut linker, engine, &compiled);
    let mut store = Store::new(engine, Seen::default());
    let instance =
        block_on(linker.instantiate_async(&mut store, &compiled)).expect("the component can be instantiated");
    let dispatch = instance
        .get_export_index(&mut store, None, &composition.skeletons[0].name)
        .expect("the composition has a skeleton");
    let mut function = |name| {
        let index = instance.get_export_index(&mut store, Some(&dispatch), name).expect("the export has the function");
        instance.get_typed_func(&mut store, index).expect("the function has the type of `dispatch`")
    };
    let (call, call_async) = (function("call"), function("call-async"));
    Callee { store, call, call_async }
}

/// Defines the functions of `test:app/back` in the linker.
pub(crate) fn link_back(linker: &mut Linker<Seen>, engine: &Engine, component: &Component) {
    let ty = component.component_type();
    let (_, back) =
        ty.imports(engine).find(|(name, _)| *name == "test:app/back").expect("the component has the import");
    let ComponentItem::ComponentInstance(back) = back.ty else { panic!("the import is not an instance") };
    let mut instance = linker.instance("test:app/back").expect("the name is not defined yet");
    for (name, item) in back.exports(engine) {
        let ComponentItem::ComponentFunc(function) = item.ty else { continue };
        if function.async_() {
            instance
                .func_new_concurrent(name, |accessor, _, arguments, results| {
                    accessor.with(|mut access| access.data_mut().answer(arguments, results));
                    Box::pin(async { Ok(()) })
                })
                .expect("the name is not defined yet");
        } else {
            instance
                .func_new(name, |mut store, _, arguments, results| {
                    store.data_mut().answer(arguments, results);
                    Ok(())
                })
                .expect("the name is not defined yet");
        }
    }
}

impl Seen {
    fn answer(&mut self, arguments: &[Val], results: &mut [Val]) {
        let answer = self.answers.pop();
        if let [result] = results {
            *result = answer.unwrap_or_else(|| arguments[0].clone());
        }
        self.calls.push(arguments.to_vec());
    }
}

/// Instantiates the caller's group and connects it to `callee`.
pub(crate) fn caller(engine: &Engine, definitions: &str, encoding: StringEncoding, callee: Callee) -> Caller {
    let bytes = pass_on(definitions, "api", "front", encoding);
    let mut group = crossing_group("caller", &bytes);
    group.handlers = super::group(&[], &[], &[("caller", "test:app/front")]).handlers;
    let composition = compose(&group, &components(&[("caller", bytes)])).expect("the group composes");
    let compiled = Component::new(engine, &composition.bytes).expect("the component compiles");
    let mut linker = Linker::<Wire>::new(engine);
    link_wire(&mut linker, &composition.imports[0].name);
    let wire = Wire {
        callee: Some(callee),
        images: vec![],
        answer: Box::new(plainly),
        refused: vec![],
        waiting: HashMap::new(),
    };
    let mut store = Store::new(engine, wire);
    let instance =
        block_on(linker.instantiate_async(&mut store, &compiled)).expect("the component can be instantiated");
    Caller { store, instance }
}

/// Converts the reason for a refusal into a lost call.
pub(crate) fn plainly(answer: Answer) -> std::result::Result<Vec<u8>, CallError> {
    answer.map_err(|_| CallError::Refused)
}

/// Polls a future until it is ready. Everything that the future waits for must happen inside it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("the future waits for ever");
}

/// Defines the functions of `isomer:link/wire` in the linker, under `name`.
pub(crate) fn link_wire(linker: &mut Linker<Wire>, name: &str) {
    let mut wire = linker.instance(name).expect("the name is not defined yet");
    wire.func_wrap("call", |mut store, (function, image): (u32, Vec<u8>)| {
        let wire = store.data_mut();
        wire.images.push(image.clone());
        let answer = wire.callee().call(function, image)?;
        wire.images.extend(answer.iter().cloned());
        Ok(((wire.answer)(answer),))
    })
    .expect("the name is not defined yet");
    wire.func_wrap_concurrent("begin", |accessor, (ticket, function, image): (u32, u32, Vec<u8>)| {
        Box::pin(async move {
            let mut callee: Callee = accessor.with(|mut access| {
                let wire = access.data_mut();
                wire.images.push(image.clone());
                wire.callee.take().expect("the callee serves one call at a time")
            });
            // The call runs in another thread, because an engine polls only one wasmtime store at a time on each
            // thread.
            let served = std::thread::spawn(move || (block_on(callee.call_async(function, image)), callee));
            let (answer, callee) = served.join().expect("the thread does not panic");
            accessor.with(|mut access| {
                let wire = access.data_mut();
                wire.callee = Some(callee);
                let answer = answer?;
                wire.images.extend(answer.iter().cloned());
                assert!(wire.waiting.insert(ticket, answer).is_none(), "a ticket is used twice");
                Ok(())
            })
        })
    })
    .expect("the name is not defined yet");
    wire.func_wrap("take", |mut store, (ticket,): (u32,)| {
        let wire = store.data_mut();
        let answer = wire.waiting.remove(&ticket).expect("only calls in flight are taken");
        Ok(((wire.answer)(answer),))
    })
    .expect("the name is not defined yet");
    wire.func_wrap("refuse", |mut store, (function,): (u32,)| -> Result<()> {
        store.data_mut().refused.push(function);
        Err(wasmtime::Error::msg("the answer was refused"))
    })
    .expect("the name is not defined yet");
}

impl Wire {
    pub(crate) fn callee(&mut self) -> &mut Callee {
        self.callee.as_mut().expect("no call is in flight")
    }
}

impl Callee {
    async fn call_async(&mut self, function: u32, image: Vec<u8>) -> Result<Answer> {
        Ok(self.call_async.call_async(&mut self.store, (function, image)).await?.0)
    }

    pub(crate) fn call(&mut self, function: u32, image: Vec<u8>) -> Result<Answer> {
        Ok(block_on(self.call.call_async(&mut self.store, (function, image)))?.0)
    }
}

impl Caller {
    /// Calls a function of `test:app/front`.
    pub(crate) fn call(&mut self, function: &str, arguments: &[Val]) -> Result<Option<Val>> {
        let Caller { store, instance } = self;
        let front =
            instance.get_export_index(&mut *store, None, "caller-http-handler").expect("the caller is exported");
        let index =
            instance.get_export_index(&mut *store, Some(&front), function).expect("the component exports the function");
        let called = instance.get_func(&mut *store, index).expect("the export is a function of this type");
        let mut results = vec![Val::Bool(false); called.ty(&*store).results().len()];
        block_on(called.call_async(&mut *store, arguments, &mut results))?;
        Ok(results.pop())
    }
}
