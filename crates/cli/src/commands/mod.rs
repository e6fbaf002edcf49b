//! The subcommands, one file each.

pub(crate) mod build;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod new;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod test;
pub(crate) mod wit;
