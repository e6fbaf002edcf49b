//! The instances of a group: how they are created, what they export, and how a live instance is used.

mod exports;
mod linked_code;
mod live;
mod maker;

pub(crate) use exports::{
    DispatchExport, HandleFunctionP2, HandleFunctionP3, HandlerFunction, HandlerIndex, SkeletonFunction,
    skeleton_functions,
};
pub use exports::{ExportedFunction, Skeleton};
pub(crate) use linked_code::{LinkedCode, ProbedVariant};
pub(crate) use live::Instance;
pub(crate) use maker::InstanceMaker;
