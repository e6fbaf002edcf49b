//! Compares shapes of an app, and gives advice about its shape, from measured traffic.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`cost`] | the published cost of a call in each mode |
//! | [`traffic`] | what the metrics of an app say about its requests and seams |
//! | [`comparison`] | the difference between two shapes, with its estimated cost |
//! | [`advice`] | which components to fuse, isolate or move |
//!
//! The crate is pure logic: its input is a plan, a manifest and a report of metrics.
//!
//! Invariant: there is no advice without evidence. A seam with too few measured calls gets no advice.

#![forbid(unsafe_code)]

pub mod advice;
pub mod comparison;
pub mod cost;
pub mod traffic;

pub use advice::advise;
pub use comparison::{GroupPlacement, InvalidShape, arrangement_of, compare, compare_arrangements, shapes};
pub use traffic::Traffic;
