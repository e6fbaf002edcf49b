//! The origins of guest toolchains, and the target that they build for.

use serde::{Deserialize, Serialize};

/// The Rust target that guests are built for. WASI 0.3 guests are built for it too: their bindings import 0.3 interfaces.
pub const TARGET: &str = "wasm32-wasip2";

/// The environment variable that chooses the toolchain, by [`ToolchainOrigin::name`]. If unset, the first of [`ToolchainOrigin::ALL`] that is installed
/// is used.
pub(crate) const ORIGIN_VARIABLE: &str = "ISOMER_GUEST_TOOLCHAIN";

/// The origin of a guest toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolchainOrigin {
    /// The default Rust toolchain, with the target that rustup adds to it.
    Rustup,
    /// Debian's packages, assembled in a folder.
    Debian,
}

impl ToolchainOrigin {
    /// Every origin, in order of preference.
    pub const ALL: [Self; 2] = [Self::Rustup, Self::Debian];

    /// Returns the name that `ISOMER_GUEST_TOOLCHAIN` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }
}
