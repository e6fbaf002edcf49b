//! Errors of reading and composing components.

use isomer_diagnostics::Hints;
use isomer_ids::ComponentName;

/// The reasons why bytes are not a valid component, or why components cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum SeamError {
    /// The bytes are not WebAssembly.
    #[error("this is not WebAssembly: {found}")]
    NotWasm {
        /// Why the bytes are not WebAssembly, for example because they are a native program.
        found: &'static str,
    },
    /// The bytes are a core module.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// The bytes have an unsupported version of the WebAssembly format.
    #[error("this is WebAssembly of version {version}, layer {layer}; components have version 13, layer 1")]
    WrongVersion {
        /// The version in the header of the bytes.
        version: u16,
        /// The layer in the header of the bytes.
        layer: u16,
    },
    /// The bytes are a WIT package in binary form.
    #[error("this is a WIT package (types without code), not a component")]
    WitPackage,
    /// The component is not valid.
    #[error("the component is not valid")]
    Invalid(#[source] wasmparser::BinaryReaderError),
    /// An import or export is of a kind that no WIT world can have.
    #[error("the component's {item} `{name}` is {what}, which WIT cannot describe")]
    NotWit {
        /// The word `import` or `export`.
        item: &'static str,
        /// The name of the import or export.
        name: String,
        /// What the import or export is, as part of the message, such as `a core module`.
        what: &'static str,
    },
    /// The bytes of a component are missing.
    #[error("the bytes of component `{0}` are missing")]
    MissingComponent(ComponentName),
    /// A component cannot be read.
    #[error("component `{component}` cannot be read")]
    Component {
        /// The name of the component.
        component: ComponentName,
        /// Why the component cannot be read.
        #[source]
        source: Box<SeamError>,
    },
    /// An import of a component is not in the plan of its group, so it is unknown what provides the import.
    #[error(
        "component `{component}` imports `{interface}`, but the plan of the group does not state what provides the interface"
    )]
    Unmet {
        /// The component that has the import.
        component: ComponentName,
        /// The imported interface.
        interface: String,
    },
    /// A function has a type that no stub or skeleton can encode.
    #[error("`{function}` of `{interface}` has a type that cannot cross a seam")]
    CannotCross {
        /// The id of the interface that contains the function.
        interface: String,
        /// The name of the function.
        function: String,
    },
    /// The composed component is not valid, because the components do not fit together.
    #[error("the components of group `{group}` do not fit together")]
    Misfit {
        /// The name of the group.
        group: String,
        /// The error of the validator.
        #[source]
        source: wasmparser::BinaryReaderError,
    },
    /// A component that this crate generates for one Wasm file is not valid.
    #[error("a generated component is not valid: {0}")]
    Generated(String),
    /// Several components share an interface, but define it in contradictory ways.
    #[error("the components have contradictory definitions of `{interface}`, which they share")]
    SharedConflict {
        /// The id of the shared interface.
        interface: String,
    },
    /// Several components share an interface that uses types of another interface. But that other interface has
    /// resources, and each component imports it for itself, under a label.
    #[error(
        "`{interface}` is shared by the group, but uses types of `{uses}`, which each component imports for itself"
    )]
    SharedUsesLabelled {
        /// The id of the shared interface.
        interface: String,
        /// The id of the other interface, which each component imports for itself.
        uses: String,
    },
}

impl SeamError {
    /// Returns a hint on how to solve the problem, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SeamError::NotWasm { .. } => Some("name the `.wasm` file that the build writes"),
            SeamError::CoreModule => Some(
                "build the component for `wasm32-wasip2`; `wasm-tools component new` converts a module for `wasm32-wasip1`",
            ),
            SeamError::WrongVersion { .. } => Some("rebuild the component with a current toolchain"),
            SeamError::WitPackage => Some("name the file of a component that implements the package"),
            SeamError::SharedConflict { .. } => {
                Some("build the components against the same version of the shared interface")
            }
            SeamError::Misfit { .. } => {
                Some("build the components against the same WIT of the interfaces that they share")
            }
            SeamError::Component { source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl Hints for SeamError {
    fn hints(&self) -> Vec<String> {
        self.hint().map(str::to_owned).into_iter().collect()
    }
}
