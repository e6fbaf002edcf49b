//! `wasi:config`: the configuration values of components.

use isomer_runtime::{Guest, InterfaceOwner, Provider, config};
use wasmtime::component::LinkerInstance;

use super::GrantTable;

/// Provides `wasi:config/store`. Each component sees only its own values.
#[derive(Debug, Clone, Default)]
pub struct ConfigProvider {
    grants: GrantTable<String>,
}

impl ConfigProvider {
    /// Creates the provider from each component's values.
    pub fn new(grants: GrantTable<String>) -> Self {
        Self { grants }
    }
}

impl Provider for ConfigProvider {
    fn provides(&self, interface: &str) -> bool {
        config::implements(interface)
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        _interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        config::define(instance, &self.grants.of(owner)?.granted)
    }
}
