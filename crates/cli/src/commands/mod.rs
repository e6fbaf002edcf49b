//! The subcommands, one file each.

pub(crate) mod apps;
pub(crate) mod build;
pub(crate) mod compile_child;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod remove;
pub(crate) mod revisions;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod swap;
pub(crate) mod tenant;
pub(crate) mod tenants;
pub(crate) mod test;
pub(crate) mod tokens;
pub(crate) mod wit;
