//! `isomer:secrets/store`: the secrets that a component was granted.

use std::sync::Arc;

use isomer_runtime::{Guest, InterfaceOwner, Provider};
use isomer_telemetry::semantics;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use super::spans::record_read;
use super::{GrantTable, split};
use crate::secrets::Secret;

/// Provides `isomer:secrets/store@0.1.0`. Each component sees only the secrets that it was granted.
#[derive(Debug, Clone, Default)]
pub struct SecretsProvider {
    grants: GrantTable<Secret>,
}

/// The WIT type `isomer:secrets/store.error`. All secrets are read when the app starts, so the host never returns
/// `unavailable`.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "access-denied")]
    AccessDenied(String),
    #[component(name = "unavailable")]
    Unavailable(String),
}

impl SecretsProvider {
    /// Creates the provider from each component's secrets.
    pub fn new(grants: GrantTable<Secret>) -> Self {
        Self { grants }
    }
}

impl Provider for SecretsProvider {
    fn provides(&self, interface: &str) -> bool {
        split(interface) == ("isomer:secrets/store", "0.1.0")
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        _interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        let grants = self.grants.of(owner)?;
        let span = Arc::new(grants.span(semantics::READ_SECRET));
        instance.func_wrap("get", move |store: StoreContextMut<'_, Guest>, (name,): (String,)| {
            let secret = grants.get(store.data(), "secrets", "secret", &name);
            record_read(store, &span, Some((semantics::SECRET_NAME, &name)), secret.is_err());
            Ok((secret.map(|secret| secret.reveal().to_owned()).map_err(Error::AccessDenied),))
        })
    }
}
