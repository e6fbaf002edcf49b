//! The plan: a pure function of an app, the types of its components and a shape.
//!
//! It decides which components are placed together, how every import is met and why, what each component may reach, and
//! refuses with a diagnostic what cannot work. Nothing here reads files, knows how components are encoded, or runs them.
#![forbid(unsafe_code)]

mod interface;
mod model;

pub use interface::{Class, ComponentType, FunctionType, InterfaceId, InterfaceType, NotAnInterface, TypeHash};
pub use model::{Access, Binding, Group, Handler, HostBinding, Http, Link, MissingGrant, Mode, Plan, Seam};
