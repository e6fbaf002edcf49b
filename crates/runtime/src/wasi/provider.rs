//! Imports of a group, and what implements them for its components.

use std::sync::Arc;

use wasmtime::component::LinkerInstance;

use crate::guest::Guest;

/// For whom an import was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceOwner {
    /// One component: the import is labelled, or it is alone in its group.
    Component(Arc<str>),
    /// Several, all with the same effective grants for this interface; or it carries no authority.
    Shared(Vec<Arc<str>>),
}

/// One imported interface of a group's (composed) component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name in the composition: a label or the interface's own id.
    pub name: String,
    /// The interface's id, such as `wasi:cli/environment@0.2.6`.
    pub interface: String,
    /// Who imports it.
    pub owner: InterfaceOwner,
}

/// A capability: implements interfaces for guests.
///
/// Functions are defined in the given [`LinkerInstance`] by hand, since the composition may import the interface under a label.
/// They must not block the executor.
pub trait Provider: Send + Sync + 'static {
    /// Does it implement this interface (full id, with version)?
    fn provides(&self, interface: &str) -> bool;

    /// Defines the interface's functions and resources for `owner`. A component that was granted nothing gets an empty provider.
    ///
    /// # Errors
    /// Those of the linker.
    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()>;
}
