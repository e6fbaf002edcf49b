//! The imports of a group, and the trait of the capabilities that implement them.

use std::sync::Arc;

use wasmtime::component::LinkerInstance;

use crate::guest::Guest;

/// The components that an import belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceOwner {
    /// One component: the import is labelled, or the component is the only one of its group.
    Component(Arc<str>),
    /// Several components, all with the same effective grants for this interface; or the interface carries no
    /// authority.
    Shared(Vec<Arc<str>>),
}

/// An imported interface of a group's (composed) component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The name of the import in the composition: a label or the interface's own id.
    pub name: String,
    /// The id of the interface, such as `wasi:cli/environment@0.2.6`.
    pub interface: String,
    /// The components that the import belongs to.
    pub owner: InterfaceOwner,
}

/// A capability: implements interfaces for guests.
///
/// Functions are defined in the given [`LinkerInstance`] by hand, because the composition may import the interface
/// under a label. The functions must not block the executor.
pub trait Provider: Send + Sync + 'static {
    /// Returns whether the capability implements this interface (full id, with version).
    fn provides(&self, interface: &str) -> bool;

    /// Defines the interface's functions and resources for `owner`. A component without grants gets functions that give
    /// access to nothing.
    ///
    /// # Errors
    /// The errors of the linker.
    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()>;
}
