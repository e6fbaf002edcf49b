//! The imports of a group, and the trait [`Provider`], through which a capability implements imports.

use std::sync::Arc;

use wasmtime::component::LinkerInstance;

use crate::guest::Guest;

/// The owner of an interface that a group imports: one component of the group, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceOwner {
    /// The import belongs to this component: it is labelled with the component, or the group has no other component.
    Component(Arc<str>),
    /// The import belongs to these components: all of them have the same effective grants for the interface, or its
    /// functions reach only what their handles refer to.
    Shared(Vec<Arc<str>>),
}

/// An import of a group's component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The name of the import in the group's component: a label if the import belongs to one component of several,
    /// otherwise the id of the interface.
    pub name: String,
    /// The id of the interface, such as `wasi:cli/environment@0.2.6`.
    pub interface: String,
    /// The components that the import belongs to.
    pub owner: InterfaceOwner,
}

/// A capability, which implements interfaces for guests.
///
/// Functions are defined one by one in the given [`LinkerInstance`]. Generated bindings cannot be used, because they
/// define an interface under its own name, but the composition may import it under a label. The functions must not
/// block the thread, because it also runs other guests.
pub trait Provider: Send + Sync + 'static {
    /// Returns whether the capability implements `interface` (an id with a version).
    fn provides(&self, interface: &str) -> bool;

    /// Defines the interface's functions and resources for `owner`. A component without grants gets functions that give
    /// access to nothing.
    ///
    /// # Errors
    /// If the linker refuses a definition.
    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()>;
}
