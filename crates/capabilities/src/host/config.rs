//! `wasi:config`: the configuration values of components.

use std::sync::Arc;

use isomer_runtime::{Guest, InterfaceOwner, Provider, config};
use isomer_telemetry::semantics;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::GrantTable;
use super::spans::record_read;

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
        let grants = self.grants.of(owner)?;
        let span = Arc::new(grants.span(semantics::READ_CONFIG));
        config::define(instance, &grants.granted, move |store: StoreContextMut<'_, Guest>, key| {
            record_read(store, &span, key.map(|key| (semantics::CONFIG_KEY, key)), false);
        })
    }
}
