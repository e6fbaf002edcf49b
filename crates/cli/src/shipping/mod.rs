//! Making the forms in which `isomer ship` writes an app.

mod base;
mod exe;
mod image;
mod output;
mod packed_app;
mod program;
mod release_folder;
mod unit;

pub(crate) use base::Cpu;
pub(crate) use exe::{ExeOptions, ShippedExe, ship_exe};
pub(crate) use image::{ImageOptions, ShippedImage, ship_image};
pub(crate) use output::{DATA, output_path, write_file};
pub(crate) use packed_app::print_notes;
pub(crate) use program::Program;
pub(crate) use release_folder::verify_folder;
pub(crate) use unit::{Unit, UnitOptions, unit};
