//! The interface `wasi:config`, in the versions that guests are built for. It returns configuration values by name.
//!
//! All versions have the same two functions and the same error. The first draft called the interface `runtime`;
//! `0.2.0-draft-2024-09-27` is the draft that Spin uses. Which values an import returns is decided by the caller of
//! [`define`].

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower};

/// The names of the interface, without a version.
const INTERFACES: [&str; 2] = ["wasi:config/store", "wasi:config/runtime"];

/// The versions of the interface that guests may import.
const VERSIONS: [&str; 3] = ["0.2.0-rc.1", "0.2.0-draft", "0.2.0-draft-2024-09-27"];

/// The configuration values of a component by name.
pub type Values = Arc<BTreeMap<String, String>>;

/// The `error` of `wasi:config/store`. Looking up a value cannot fail, so no error is ever created.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

/// Returns whether [`define`] implements `interface` (an id with a version).
#[must_use]
pub fn implements(interface: &str) -> bool {
    interface.split_once('@').is_some_and(|(path, version)| INTERFACES.contains(&path) && VERSIONS.contains(&version))
}

/// Defines the functions of the interface, which look up names in `values`. Calls `on_read` for each read with the name,
/// or without a name if all values are read.
///
/// # Errors
/// If the linker refuses a definition.
pub fn define<T: 'static>(
    instance: &mut LinkerInstance<'_, T>,
    values: &Values,
    on_read: impl Fn(StoreContextMut<'_, T>, Option<&str>) + Clone + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let (one, all, on_read_all) = (values.clone(), values.clone(), on_read.clone());
    instance.func_wrap("get", move |store: StoreContextMut<'_, T>, (key,): (String,)| {
        on_read(store, Some(&key));
        Ok((Ok::<_, Error>(one.get(&key).cloned()),))
    })?;
    instance.func_wrap("get-all", move |store: StoreContextMut<'_, T>, ()| {
        on_read_all(store, None);
        let pairs: Vec<_> = all.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok((Ok::<_, Error>(pairs),))
    })
}

/// Defines the interface under all its names and versions.
pub(crate) fn define_all<T: 'static>(linker: &mut Linker<T>, values: &Values) -> wasmtime::Result<()> {
    for interface in INTERFACES {
        for version in VERSIONS {
            define(&mut linker.instance(&format!("{interface}@{version}"))?, values, |_, _| {})?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drafts_and_the_candidate_are_implemented() {
        for interface in [
            "wasi:config/store@0.2.0-rc.1",
            "wasi:config/store@0.2.0-draft",
            "wasi:config/runtime@0.2.0-draft",
            "wasi:config/store@0.2.0-draft-2024-09-27",
        ] {
            assert!(implements(interface), "{interface}");
        }
        for other in
            ["wasi:config/store", "wasi:config/store@0.2.0", "wasi:config/other@0.2.0-draft", "wasi:cli/run@0.2.0"]
        {
            assert!(!implements(other), "{other}");
        }
    }
}
