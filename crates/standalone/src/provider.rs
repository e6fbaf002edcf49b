//! The providers: components that are fused with an app in one Wasm file.

use crate::sources;

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Stores,
    Platform,
}

impl Provider {
    pub(crate) const ALL: [Self; 2] = [Self::Stores, Self::Platform];

    /// Returns the name of the provider's package.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Stores => "stores-provider",
            Self::Platform => "platform-provider",
        }
    }

    /// Returns the name of the compiled provider's file.
    pub(crate) fn file(self) -> String {
        format!("{}-{}.wasm", self.package(), sources::version())
    }
}
