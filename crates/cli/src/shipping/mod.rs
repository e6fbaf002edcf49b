//! Making the forms in which `isomer ship` writes an app.

mod base;
mod exe;
mod image;
mod output;
mod program;
mod unit;

pub(crate) use base::Cpu;
pub(crate) use exe::{ExeOptions, ShippedExe, ship_exe};
pub(crate) use image::{ImageOptions, ShippedImage, ship_image};
pub(crate) use unit::{Unit, UnitOptions, unit};
