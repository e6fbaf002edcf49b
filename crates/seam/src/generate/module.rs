//! Writes a core module: functions with names, and bodies that add locals as needed.

use std::collections::HashMap;

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    ImportSection, InstructionSink, MemArg, MemorySection, MemoryType, Module, NameMap, NameSection, TypeSection,
    ValType,
};

/// A core module that is being written. Its imports must be added first, because they have the lowest indices.
#[derive(Default)]
pub(crate) struct CoreModule {
    types: TypeSection,
    known_types: HashMap<(Vec<ValType>, Vec<ValType>), u32>,
    imports: ImportSection,
    imported_functions: u32,
    functions: Vec<(u32, Option<Body>)>,
    memories: MemorySection,
    globals: GlobalSection,
    global_count: u32,
    exports: ExportSection,
    names: NameMap,
}

/// The locals and the code of one function.
#[derive(Default)]
pub(crate) struct Body {
    parameters: u32,
    locals: Vec<ValType>,
    code: Vec<u8>,
}

impl Body {
    pub(crate) fn new(parameters: usize) -> Self {
        Body { parameters: u32::try_from(parameters).expect("functions have few parameters"), ..Body::default() }
    }

    /// Adds a local and returns its index. The local is 0 until it is set.
    pub(crate) fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        self.parameters + u32::try_from(self.locals.len()).expect("a function has few locals") - 1
    }

    /// Returns the sink to which the function's instructions are added.
    pub(crate) fn code(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    fn finish(mut self) -> Function {
        self.code().end();
        let mut function = Function::new_with_locals_types(self.locals);
        function.raw(self.code);
        function
    }
}

impl CoreModule {
    pub(crate) fn import_function(
        &mut self,
        (module, name): (&str, &str),
        parameters: &[ValType],
        results: &[ValType],
    ) -> u32 {
        assert!(self.functions.is_empty(), "imports come before definitions");
        let ty = self.function_type(parameters, results);
        self.imports.import(module, name, EntityType::Function(ty));
        self.names.append(self.imported_functions, name);
        self.imported_functions += 1;
        self.imported_functions - 1
    }

    pub(crate) fn import_memory(&mut self, (module, name): (&str, &str), ty: MemoryType) {
        self.imports.import(module, name, ty);
    }

    pub(crate) fn import_global(&mut self, (module, name): (&str, &str)) -> u32 {
        self.imports.import(module, name, GLOBAL);
        self.global_count += 1;
        self.global_count - 1
    }

    pub(crate) fn memory(&mut self, ty: MemoryType) {
        self.memories.memory(ty);
    }

    /// Defines a mutable global with the initial value `value`, and returns its index.
    pub(crate) fn global(&mut self, value: u32) -> u32 {
        self.globals.global(GLOBAL, &wasm_encoder::ConstExpr::i32_const(value.cast_signed()));
        self.global_count += 1;
        self.global_count - 1
    }

    /// Declares a function and returns its index. The function can be called before it is defined.
    pub(crate) fn declare(&mut self, name: &str, parameters: &[ValType], results: &[ValType]) -> u32 {
        let ty = self.function_type(parameters, results);
        let index = self.imported_functions + u32::try_from(self.functions.len()).expect("a module has few functions");
        self.functions.push((ty, None));
        self.names.append(index, name);
        index
    }

    /// Defines the body of a declared function.
    pub(crate) fn define(&mut self, index: u32, body: Body) {
        let place = (index - self.imported_functions) as usize;
        self.functions[place].1 = Some(body);
    }

    pub(crate) fn export(&mut self, name: &str, kind: ExportKind, index: u32) {
        self.exports.export(name, kind, index);
    }

    pub(crate) fn finish(self, name: &str) -> Module {
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        for (ty, body) in self.functions {
            functions.function(ty);
            code.function(&body.expect("every declared function is defined").finish());
        }
        let mut names = NameSection::new();
        names.module(name);
        names.functions(&self.names);
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&functions).section(&self.memories);
        module.section(&self.globals).section(&self.exports).section(&code).section(&names);
        module
    }

    fn function_type(&mut self, parameters: &[ValType], results: &[ValType]) -> u32 {
        let next = self.types.len();
        let types = &mut self.types;
        *self.known_types.entry((parameters.to_vec(), results.to_vec())).or_insert_with(|| {
            types.ty().function(parameters.iter().copied(), results.iter().copied());
            next
        })
    }
}

const GLOBAL: GlobalType = GlobalType { val_type: ValType::I32, mutable: true, shared: false };

/// Returns the memory argument of an access at `offset` bytes after the address on the stack. The access has a size of
/// `bytes` (a power of two), and is aligned to it.
pub(crate) fn at(offset: u32, bytes: u32) -> MemArg {
    MemArg { offset: offset.into(), align: bytes.trailing_zeros(), memory_index: 0 }
}
