//! What can be wrong with a component, or with putting several together.

use isomer_diagnostics::Hints;
use isomer_ids::ComponentName;

/// Why bytes are not a component that can be used, or components cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum SeamError {
    /// Nothing that looks like WebAssembly.
    #[error("this is not WebAssembly: {found}")]
    NotWasm {
        /// What it looks like instead.
        found: &'static str,
    },
    /// A core module.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// A binary of another version of the component format.
    #[error("this is WebAssembly of version {version}, layer {layer}; components have version 13, layer 1")]
    WrongVersion {
        /// The version in the header.
        version: u16,
        /// The layer in the header.
        layer: u16,
    },
    /// A WIT package in binary form.
    #[error("this is a WIT package (types without code), not a component")]
    WitPackage,
    /// Not valid.
    #[error("the component is not valid")]
    Invalid(#[source] wasmparser::BinaryReaderError),
    /// An item that no WIT world can have.
    #[error("the component's {item} `{name}` is {what}, which no WIT interface has")]
    NotWit {
        /// `import` or `export`.
        item: &'static str,
        /// Its name.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// Bytes of a component are missing.
    #[error("there are no bytes for component `{0}`")]
    MissingComponent(ComponentName),
    /// One component's error.
    #[error("component `{component}` cannot be read")]
    Component {
        /// Which.
        component: ComponentName,
        /// Why.
        #[source]
        source: Box<SeamError>,
    },
    /// An import that nothing meets.
    #[error("component `{component}` imports `{interface}`, and the group says nothing of who meets it")]
    Unmet {
        /// Who imports.
        component: ComponentName,
        /// What.
        interface: String,
    },
    /// A function with a type that no stub or skeleton carries.
    #[error("`{function}` of `{interface}` has a type that cannot cross a seam between stores")]
    CannotCross {
        /// The interface.
        interface: String,
        /// The function.
        function: String,
    },
    /// The parts do not fit; the validator says why.
    #[error("the components of group `{group}` do not fit together")]
    Misfit {
        /// The group.
        group: String,
        /// What the validator says.
        #[source]
        source: wasmparser::BinaryReaderError,
    },
    /// Views of a shared interface that cannot stand side by side.
    #[error("the components have different ideas of `{interface}`, which they share")]
    SharedConflict {
        /// The interface.
        interface: String,
    },
    /// A labelled interface whose types another, shared one uses.
    #[error(
        "`{interface}` is shared by the group, but uses types of `{uses}`, which each component imports for itself"
    )]
    SharedUsesLabelled {
        /// The shared interface.
        interface: String,
        /// The labelled one.
        uses: String,
    },
}

impl SeamError {
    /// What to do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SeamError::NotWasm { .. } => Some("name the `.wasm` file that the build writes"),
            SeamError::CoreModule => Some(
                "build it for `wasm32-wasip2`; a module for `wasm32-wasip1` is made a component by `wasm-tools component new`",
            ),
            SeamError::WrongVersion { .. } => Some("rebuild it with a current toolchain"),
            SeamError::WitPackage => Some("name the component that implements it"),
            SeamError::SharedConflict { .. } => Some("build the components against one version of it"),
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
