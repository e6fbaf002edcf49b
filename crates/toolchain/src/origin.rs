//! The origins of guest toolchains, and the target that they build for.

use serde::{Deserialize, Serialize};

/// The Rust target of guests. Guests of WASI 0.3 also use it, because their bindings import the interfaces of WASI 0.3.
pub const TARGET: &str = "wasm32-wasip2";

/// The environment variable that selects the toolchain, by [`ToolchainOrigin::name`]. If it is unset, the first
/// installed toolchain in the order of [`ToolchainOrigin::ALL`] is used.
pub const ORIGIN_VARIABLE: &str = "ISOMER_GUEST_TOOLCHAIN";

/// The origin of a guest toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolchainOrigin {
    /// rustup's default toolchain, to which rustup adds the guest target.
    Rustup,
    /// A toolchain that is assembled from Debian's packages.
    Debian,
}

impl ToolchainOrigin {
    /// Every origin, in order of preference.
    pub const ALL: [Self; 2] = [Self::Rustup, Self::Debian];

    /// Returns the value of `ISOMER_GUEST_TOOLCHAIN` that selects this origin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }
}
