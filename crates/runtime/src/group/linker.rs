//! The linker of a group: the host functions for each import of the group's component, and the owner that each of them
//! acts for.

use std::sync::Arc;

use wasmtime::component::Linker;

use super::stub::{self, SeamStub};
use crate::engine::Engine;
use crate::guest::{CallableGroups, Guest};
use crate::wasi::{self, Import, InterfaceOwner, Provider};

/// The reasons why a group's component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkerError {
    /// An import has no provider.
    #[error("nothing on this node implements `{interface}`, which {importers} imports")]
    Unknown {
        /// The id of the interface.
        interface: String,
        /// The names of the components that import the interface, in backticks.
        importers: String,
    },
    /// A provider or the linker returned an error while an interface was defined.
    #[error("cannot link `{interface}`")]
    Define {
        /// The id of the interface.
        interface: String,
        /// Why the interface cannot be linked.
        source: wasmtime::Error,
    },
}

/// Returns the linker of a group. `owners` are the group's components, in the order of the group's owner settings.
/// `stubs` has an element for each component that makes calls across seams.
pub(super) fn linker<G: CallableGroups>(
    engine: &Engine,
    imports: &[Import],
    owners: &[Arc<str>],
    providers: &[Arc<dyn Provider>],
    stubs: Vec<SeamStub>,
) -> Result<Linker<Guest>, LinkerError> {
    let mut stubs = stubs.into_iter().map(Some).collect::<Vec<_>>();
    let mut linker = engine.base_linker().map_err(define("wasi:*"))?;
    for import in imports {
        if let (InterfaceOwner::Component(component), stub::INTERFACE) = (&import.owner, import.interface.as_str())
            && let Some((number, SeamStub { targets, .. })) = take_stub(&mut stubs, component)
        {
            let mut instance = linker.instance(&import.name).map_err(define(&import.interface))?;
            stub::link::<G>(&mut instance, number, targets).map_err(define(&import.interface))?;
        } else if let Some(provider) = providers.iter().find(|provider| provider.provides(&import.interface)) {
            let mut instance = linker.instance(&import.name).map_err(define(&import.interface))?;
            provider.link(&mut instance, &import.interface, &import.owner).map_err(define(&import.interface))?;
        } else if let (InterfaceOwner::Component(component), true) = (&import.owner, wasi::is_owned(&import.interface))
        {
            let owner = owners.iter().position(|name| name == component).unwrap_or(owners.len());
            let mut instance = linker.instance(&import.name).map_err(define(&import.interface))?;
            wasi::link_owned(&mut instance, &import.interface, owner).map_err(define(&import.interface))?;
        } else if !wasi::is_shared(&import.interface) {
            let importers = match &import.owner {
                InterfaceOwner::Component(name) => format!("`{name}`"),
                InterfaceOwner::Shared(names) => {
                    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                }
            };
            return Err(LinkerError::Unknown { interface: import.interface.clone(), importers });
        }
    }
    Ok(linker)
}

/// Removes the stub of `component` from `stubs` and returns it with its number. It can be removed because a composition
/// has one import for each stub.
fn take_stub(stubs: &mut [Option<SeamStub>], component: &str) -> Option<(usize, SeamStub)> {
    let number = stubs.iter().position(|stub| stub.as_ref().is_some_and(|stub| *stub.component == *component))?;
    Some((number, stubs[number].take()?))
}

fn define(interface: &str) -> impl FnOnce(wasmtime::Error) -> LinkerError {
    let interface = interface.to_owned();
    move |source| LinkerError::Define { interface, source }
}
