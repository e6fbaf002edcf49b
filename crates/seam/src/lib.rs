//! Seams: what components import and export, and how a group of them becomes one component.
//!
//! - [`component_type`] reads the bytes of a component and summarises its interfaces for the plan;
//! - [`plan`] reads the types of an app's components and plans the app, without an engine;
//! - [`composition`] puts the components of a group of a plan together, and generates what carries calls out of the group and into it:
//!   stubs and skeletons, in the module `generate`, whose doc explains how a call crosses.
//!
//! **Fusing never widens authority.** Inside one composition the host cannot tell which component calls an import. So
//! whatever gives authority is imported once for each component, under a label, as the clone of the interface's type
//! without its name; [`Composition::imports`] says whose each import is, and the host puts behind it what its owner is
//! granted. Interfaces that give no authority (a handle in a component's own table is the only way to reach anything
//! through them) are shared, so that handles of their resources may pass between the components.
//!
//! This crate knows nothing of engines, files or grants: bytes in, bytes out, and the plan decides.
#![forbid(unsafe_code)]

mod composition;
mod crossings;
mod description;
mod encoding;
mod error;
mod generate;
mod host_imports;
mod output;
mod plan;
mod reader;
mod world;

pub use composition::{Composition, HandlerExport, HostImport, ImportOwner, SkeletonExport, compose};
pub use error::SeamError;
pub use plan::{Components, PlanError, plan, plan_with};

use isomer_plan::{ComponentType, PlannedSkeleton, PlannedStub};

/// The stub of a component, alone: what [`composition`] fuses to it. It imports `isomer:link/wire` and exports the functions that
/// cross one by one, as `f0`, `f1`, … by their numbers.
///
/// # Errors
/// Bytes that are no component, and functions that the component does not import or that cannot cross.
pub fn stub(stub: &PlannedStub, component: &[u8]) -> Result<Vec<u8>, SeamError> {
    Ok(generate::stub(stub, &reader::world(component)?)?.bytes)
}

/// The skeleton of a component, alone: what [`composition`] fuses to it. It imports the functions that cross one by one, as `f0`, `f1`,
/// … by their numbers, and exports the functions of `isomer:link/dispatch`.
///
/// # Errors
/// As for [`stub`].
pub fn skeleton(skeleton: &PlannedSkeleton, component: &[u8]) -> Result<Vec<u8>, SeamError> {
    Ok(generate::skeleton(skeleton, &reader::world(component)?)?.bytes)
}

/// Reads what a component imports and exports.
///
/// # Errors
/// A core module, a WIT package, another version of the format and what is no WebAssembly at all are told apart.
pub fn component_type(bytes: &[u8]) -> Result<ComponentType, SeamError> {
    description::component_type(&reader::world(bytes)?)
}
