//! Seams: reads what components import and export, plans apps, and composes the components of a group into one
//! component.
//!
//! - [`component_type`] reads the bytes of a component and summarizes its interfaces for the plan;
//! - [`plan()`] reads the types of an app's components and plans the app, without an engine;
//! - [`compose`] composes the components of one of the plan's groups, and generates the stubs and skeletons that carry
//!   calls out of the group and into it. The module `generate` explains how a call crosses a seam;
//! - [`compose_probed`] composes them so that calls over fused seams are reported to the host. The module `probes`
//!   explains how;
//! - [`compose_standalone`] composes all components with the providers of what other hosts lack, into one component with
//!   standard imports.
//!
//! **Fusing never widens authority.** Inside a composition, the host cannot tell which component calls an import. So
//! every interface that gives authority is imported once for each component, under a label, as a copy of the
//! interface's type without its name. [`Composition::imports`] names the owner of each import, and the host provides
//! the import with the owner's grants. An interface gives no authority if its functions can reach only what the handles
//! in a component's own table refer to. Such interfaces are shared, so that handles of their resources may pass between
//! the components.
//!
//! The crate contains no engine, file access or grants. Its functions turn bytes into bytes, and the plan makes the
//! decisions.
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
mod probed_composition;
mod probes;
mod reader;
mod standalone;
mod world;

pub use composition::{Composition, HandlerExport, HostImport, ImportOwner, SkeletonExport, compose};
pub use error::SeamError;
pub use plan::{Components, PlanError, plan, plan_with};
pub use probed_composition::{ProbedComposition, compose_probed};
pub use probes::{ProbedFunction, UnprobedComponent};
pub use standalone::{Providers, Standalone, compose_standalone};

use isomer_plan::{ComponentType, PlannedSkeleton, PlannedStub};

/// Returns the stub of a component as a separate component, which [`compose`] nests next to it. The stub imports
/// `isomer:link/wire` and exports the functions that cross a seam, one by one, as `f0`, `f1`, … by their numbers.
///
/// # Errors
/// If the bytes are not a component, if the component does not import a function of the stub, or if a function cannot
/// cross a seam.
pub fn stub(stub: &PlannedStub, component: &[u8]) -> Result<Vec<u8>, SeamError> {
    Ok(generate::stub(stub, &reader::world(component)?)?.bytes)
}

/// Returns the skeleton of a component as a separate component, which [`compose`] nests next to it. The skeleton
/// imports the functions that cross a seam, one by one, as `f0`, `f1`, … by their numbers, and exports the functions of
/// `isomer:link/dispatch`.
///
/// # Errors
/// If the bytes are not a component, if the component does not export a function of the skeleton, or if a function
/// cannot cross a seam.
pub fn skeleton(skeleton: &PlannedSkeleton, component: &[u8]) -> Result<Vec<u8>, SeamError> {
    Ok(generate::skeleton(skeleton, &reader::world(component)?)?.bytes)
}

/// Returns the interfaces that a component imports and exports.
///
/// # Errors
/// If the bytes are not a component. The errors distinguish core modules, WIT packages, other versions of the format,
/// and bytes that are not WebAssembly.
pub fn component_type(bytes: &[u8]) -> Result<ComponentType, SeamError> {
    description::component_type(&reader::world(bytes)?)
}
