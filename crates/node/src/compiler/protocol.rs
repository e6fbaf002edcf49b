//! What a node and its compiling children say to each other: one JSON object a line, over the child's standard input, which is one end
//! of a socket pair. Bytes follow the lines that announce them. A child is given nothing else, no name and no file: what it reads comes over the
//! socket, and what it makes goes over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use isomer_api::ApiProblem;
use isomer_apps::Package;
use isomer_ids::TenantName;
use isomer_runtime::code::{CodeCache, Key};
use serde::{Deserialize, Serialize};

use super::sandbox::Confinement;

/// What a child may use. It sets these limits for itself before it reads anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Seconds of processor time.
    pub cpu_s: u64,
    /// Bytes of the code that it makes of a group.
    pub file_bytes: u64,
    /// Files that it has open.
    pub files: u64,
}

impl Default for ChildLimits {
    /// Enough for the largest components that people deploy, a fraction of what hurts a machine.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_s: 300, file_bytes: 1 << 30, files: 256 }
    }
}

/// What is to be made.
#[derive(Debug, Clone)]
pub struct CompileRequest {
    /// Whose release it is: those that wait for a compiler take turns by their tenants.
    pub tenant: TenantName,
    /// The manifest's text.
    pub manifest: String,
    /// The shape that the app takes.
    pub shape: String,
    /// The files of the components, by name.
    pub components: BTreeMap<String, PathBuf>,
    /// Where compiled code lies. Children do not see it.
    pub cache: CodeCache,
    /// Names the program and its engine: another one's code cannot be run.
    pub maker: Key,
}

/// What one child is to do: the first line that it reads. Then follow bytes, as many as it says here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChildTask {
    /// Nothing: what it says of itself is all that is wanted.
    Nothing,
    /// Plan an app, and compose its groups.
    Compose {
        /// The manifest's text.
        manifest: String,
        /// The shape that the app takes.
        shape: String,
        /// The components' bytes, which follow in the order of their names.
        components: BTreeMap<String, u64>,
    },
    /// Compile one composition.
    Compile {
        /// What to call it.
        group: String,
        /// Its bytes, which follow.
        bytes: u64,
    },
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChildMessage {
    /// How it confined itself, which it does first.
    Confined(Confinement),
    /// What it begins to do: whatever happens next, happens there.
    Doing(CompilePhase),
    /// A group is composed. So many bytes follow.
    Composed(u64),
    /// All groups are.
    Drafted(PackageDraft),
    /// Code. So many bytes follow, and it is done.
    Compiled(u64),
    /// The revision cannot be.
    Refused(ApiProblem),
}

/// An app that was planned and composed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackageDraft {
    /// The package, without the names of its code.
    pub(crate) package: String,
    /// What the manifest and the plan warn of, as people read it.
    pub(crate) warnings: Vec<String>,
}

/// What a child is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompilePhase {
    /// Not even reading yet.
    GroupStarter,
    /// Reading a component.
    Reading(String),
    /// Working out who runs where.
    Planning,
    /// Putting a group's components together.
    Composing(String),
    /// Compiling a group.
    Compiling(String),
}

impl fmt::Display for CompilePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GroupStarter => f.write_str("starting"),
            Self::Reading(component) => write!(f, "reading component `{component}`"),
            Self::Planning => f.write_str("planning"),
            Self::Composing(group) => write!(f, "composing {group}"),
            Self::Compiling(group) => write!(f, "compiling {group}"),
        }
    }
}

/// A revision that can be started.
#[derive(Debug, Clone)]
pub struct CompileOutput {
    /// The package.
    pub package: Package,
    /// The names of its compiled code.
    pub code: BTreeSet<String>,
    /// Was anything compiled for it?
    pub compiled: bool,
    /// What the manifest and the plan warn of, as people read it.
    pub warnings: Vec<String>,
}
