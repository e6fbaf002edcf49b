//! Transpiles a component to a JavaScript module and its core modules.

use std::collections::{BTreeMap, HashMap};

use js_component_bindgen::{AsyncMode, InstantiationMode, TranspileOpts};

/// The name from which the names of the generated files are made.
const NAME: &str = "group";

/// A component as JavaScript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transpiled {
    /// The source of the JavaScript module. The module exports the function `instantiate`, which compiles and
    /// instantiates the core modules.
    pub(crate) source: String,
    /// The core modules, by the names with which `instantiate` requests them.
    pub(crate) core_modules: BTreeMap<String, Vec<u8>>,
}

/// The error of a component that cannot be transpiled.
#[derive(Debug, thiserror::Error)]
pub enum TranspileError {
    /// The component is invalid, or uses a feature that cannot be transpiled.
    #[error("the component cannot be transpiled to JavaScript: {reason}")]
    Component {
        /// The chain of causes.
        reason: String,
    },
    /// The transpiler returned other files than one JavaScript module and core modules.
    #[error("the transpiler returned the unexpected file `{name}`")]
    File {
        /// The name of the file.
        name: String,
    },
    /// The transpiler returned no JavaScript module.
    #[error("the transpiler returned no JavaScript module")]
    NoModule,
}

/// Transpiles `component`. `suspending` names the synchronous imports that return promises, as `IMPORT#FUNCTION`: when
/// such an import is called, the component's stack is suspended until the promise is fulfilled. `names` maps the names of
/// imports to the names by which the generated code finds them.
///
/// # Errors
/// If the component is invalid, or uses a feature that cannot be transpiled.
pub(crate) fn transpile(
    component: &[u8],
    suspending: Vec<String>,
    names: HashMap<String, String>,
) -> Result<Transpiled, TranspileError> {
    let options = TranspileOpts::builder()
        .name(NAME.to_owned())
        .maybe_instantiation_mode(Some(InstantiationMode::Async))
        .maybe_async_mode(Some(AsyncMode::JavaScriptPromiseIntegration { imports: suspending, exports: vec![] }))
        .maybe_map(Some(names))
        .no_typescript(true)
        .no_namespaced_exports(true)
        .nodejs_compat_disabled(true)
        .build();
    let output = js_component_bindgen::transpile(component, options)
        .map_err(|error| TranspileError::Component { reason: format!("{error:#}") })?;
    let (mut source, mut core_modules) = (None, BTreeMap::new());
    for (name, bytes) in output.files {
        if name.ends_with(".wasm") {
            core_modules.insert(name, bytes);
        } else if name == format!("{NAME}.js") {
            source = String::from_utf8(bytes).ok();
        } else {
            return Err(TranspileError::File { name });
        }
    }
    Ok(Transpiled { source: source.ok_or(TranspileError::NoModule)?, core_modules })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = r#"(component
        (import "test:it/far" (instance $far (export "ask" (func (result u32)))))
        (core func $ask (canon lower (func $far "ask")))
        (core module $m
            (import "far" "ask" (func $ask (result i32)))
            (func (export "run") (result i32) call $ask))
        (core instance $i (instantiate $m (with "far" (instance (export "ask" (func $ask))))))
        (func (export "run") async (result u32) (canon lift (core func $i "run")))
    )"#;

    #[test]
    fn a_component_becomes_a_module_and_core_modules() {
        let bytes = wat::parse_str(COMPONENT).expect("the text is right");
        let transpiled = transpile(
            &bytes,
            vec!["test:it/far#ask".to_owned()],
            HashMap::from([("test:it/far".to_owned(), "i0".to_owned())]),
        )
        .expect("the component is supported");
        assert!(transpiled.source.contains("export function instantiate("), "{}", transpiled.source);
        assert_eq!(transpiled.core_modules.keys().collect::<Vec<_>>(), ["group.core.wasm"]);
        for part in ["WebAssembly.Suspending", "imports.i0"] {
            assert!(transpiled.source.contains(part), "{}", transpiled.source);
        }
    }

    #[test]
    fn bytes_that_are_not_a_component_are_refused() {
        let error =
            transpile(b"\0asm\x01\0\0\0", vec![], HashMap::new()).expect_err("a core module is not a component");
        assert!(error.to_string().starts_with("the component cannot be transpiled to JavaScript: "), "{error}");
    }
}
