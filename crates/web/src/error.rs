//! The reasons why a group cannot run in a browser.

use isomer_ids::ComponentName;

use crate::bundle::BundleError;
use crate::rewrite::RewriteError;
use crate::scheduler::GENERATOR_VERSION;
use crate::source_text::TokenError;
use crate::transpile::TranspileError;

/// The reason why a group cannot run in a browser.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Components import an interface that the service worker does not provide.
    #[error("{} `{interface}`, which is not available in a browser", importers(.components))]
    Import {
        /// The components that import the interface.
        components: Vec<ComponentName>,
        /// The interface with its version.
        interface: String,
    },
    /// A component exports a handler of an HTTP version that the service worker does not call.
    #[error("`{component}` exports `{interface}`, but a browser group needs a handler of `wasi:http` 0.3")]
    Handler {
        /// The component.
        component: ComponentName,
        /// The interface with its version.
        interface: String,
    },
    /// The composition cannot be transpiled.
    #[error(transparent)]
    Transpile(#[from] TranspileError),
    /// The transpiler's output differs from what the rules of this crate expect.
    #[error("js-component-bindgen {} generated unexpected code", GENERATOR_VERSION)]
    Generated(#[from] RewriteError),
    /// The transpiler's output is not JavaScript that this crate understands.
    #[error("js-component-bindgen {} generated unexpected code", GENERATOR_VERSION)]
    Source(#[from] TokenError),
    /// The modules of the worker cannot be joined.
    #[error("the modules of the service worker cannot be joined")]
    Bundle(#[from] BundleError),
    /// A generated core module is invalid.
    #[error("the generated core module `{name}` is invalid: {reason}")]
    CoreModule {
        /// The name of the module.
        name: String,
        /// The problem.
        reason: String,
    },
}

fn importers(components: &[ComponentName]) -> String {
    let names: Vec<_> = components.iter().map(|name| format!("`{name}`")).collect();
    let verb = if names.len() == 1 { "imports" } else { "import" };
    format!("{} {verb}", names.join(", "))
}
