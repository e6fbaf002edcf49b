//! `wasi:config/store`: the values that the manifest gives to a component.

use std::sync::Arc;

use isomer_runtime::{Guest, Owner, Provider};
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use super::{GrantTable, split};

/// Provides `wasi:config/store@0.2.0-rc.1`.
#[derive(Debug, Clone, Default)]
pub struct ConfigProvider {
    grants: GrantTable<String>,
}

/// `wasi:config/store.error`. Values of the manifest are there or not, so none is ever made.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

impl ConfigProvider {
    /// With each component's values.
    pub fn new(grants: GrantTable<String>) -> Self {
        Self { grants }
    }
}

impl Provider for ConfigProvider {
    fn provides(&self, interface: &str) -> bool {
        split(interface) == ("wasi:config/store", "0.2.0-rc.1")
    }

    fn link(&self, instance: &mut LinkerInstance<'_, Guest>, _interface: &str, owner: &Owner) -> wasmtime::Result<()> {
        let values = self.grants.of(owner)?.granted;
        let all = Arc::clone(&values);
        instance.func_wrap("get", move |_, (key,): (String,)| Ok((Ok::<_, Error>(values.get(&key).cloned()),)))?;
        instance.func_wrap("get-all", move |_, ()| {
            let pairs: Vec<_> = all.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            Ok((Ok::<_, Error>(pairs),))
        })
    }
}
